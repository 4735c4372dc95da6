"""Shortcut branches on modules that neurodeploy did not make."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import neurodeploy as nd
from neurodeploy.errors import TrainingError

SAMPLES, STEPS, CLASSES = 5, 3, 4


class Steps(nn.Module):
    """Two layers that see one step, (samples, 2, 6, 6), as `Sequential` of snnTorch does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 7, 3)
        self.act = nn.ReLU()
        self.fc = nn.Linear(7 * 16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.act(self.conv(x)).flatten(1))
        return out


class Loop(Steps):
    """A loop over the steps of (T, samples, ...); gives the outputs and a state."""

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:  # type: ignore[override]
        outputs = torch.stack([super(Loop, self).forward(step) for step in x])
        return outputs, [outputs[-1]]


class SamplesFirst(Steps):
    """The same of (samples, T, ...)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([super(SamplesFirst, self).forward(step) for step in x.unbind(1)], 1)


class Flat(Steps):
    """All steps at once: layers see (T · samples, ...), the output has both axes."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class AtOnce(nn.Module):
    """Layers that see (T, samples, features) at once."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Linear(2 * 36, 7)
        self.act = nn.Sigmoid()
        self.fc = nn.Linear(7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.act(self.conv(x.flatten(2))))
        return out


class Averaged(AtOnce):
    """Gives no value for each step."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean(0)


FORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "step": (Steps, (SAMPLES,)),
    "loop": (Loop, (STEPS, SAMPLES)),
    "samples first": (SamplesFirst, (SAMPLES, STEPS)),
    "flat": (Flat, (STEPS, SAMPLES)),
    "at once": (AtOnce, (STEPS, SAMPLES)),
}


def make(form: str, *, seed: int = 0) -> tuple[nn.Module, Tensor, tuple[int, ...]]:
    build, before = FORMS[form]
    torch.manual_seed(seed)
    return build(), torch.rand(*before, 2, 6, 6), before


def main_of(result: object) -> Tensor:
    value = result[0] if isinstance(result, tuple) else result
    assert isinstance(value, Tensor)
    return value


@pytest.mark.parametrize("form", FORMS)
def test_branches_are_linear_maps_of_means_over_the_map(form: str) -> None:
    module, x, before = make(form)
    branched = nd.add_shortcut_branches(module, x, starts=["act", "conv"])
    result, branches = branched(x)
    sent: list[Tensor] = []
    module.get_submodule("act").register_forward_hook(lambda _, __, out: sent.append(out))
    module(x)
    if form in ("loop", "samples first"):
        values = torch.stack(sent, before.index(STEPS))
    else:
        values = sent[0].reshape(*before, *sent[0].shape[-3 if form in ("step", "flat") else -1 :])
    pooled = values.flatten(len(before) + 1).mean(-1) if values.dim() > 3 else values
    synapse = branched.branches[0].synapse
    expected = pooled @ synapse.weight.T + synapse.bias
    assert main_of(result).shape == (*before, CLASSES)
    assert [branch.shape for branch in branches] == [(*before, CLASSES)] * 2
    torch.testing.assert_close(branches[0], expected)  # another order of summation
    assert not torch.equal(branches[0], branches[1])


@pytest.mark.parametrize("form", FORMS)
def test_the_module_is_the_same_to_the_bit_before_beside_and_after(form: str) -> None:
    module, x, _ = make(form)
    before = main_of(module(x))
    state = copy.deepcopy(module.state_dict())
    branched = nd.add_shortcut_branches(module, x, starts=["act"])
    assert torch.equal(main_of(branched(x)[0]), before)
    bare = nd.remove_branches(branched)
    assert bare is module
    assert torch.equal(main_of(bare(x)), before)
    assert state.keys() == module.state_dict().keys()
    assert not any(part._forward_hooks for part in module.modules())
    learned = [name for name, _ in branched.named_parameters()]
    assert learned[-2:] == ["branches.0.synapse.weight", "branches.0.synapse.bias"]
    assert learned[:-2] == [f"module.{name}" for name, _ in module.named_parameters()]


def test_gradients_reach_the_first_layer_past_a_layer_that_stops_them() -> None:
    module, x, _ = make("step")
    assert isinstance(module, Steps)
    nn.init.zeros_(module.fc.weight)  # nothing comes back through it
    branched = nd.add_shortcut_branches(module, x, starts=["act"])
    gradients = []
    for iteration in range(4):
        output, branches = branched(x)
        weight = nd.branch_weight_at(iteration, 4, method="evolutionary")
        module.zero_grad()
        nd.combine_outputs(output, branches, weight=weight).square().sum().backward()
        assert module.conv.weight.grad is not None
        gradients.append(float(module.conv.weight.grad.abs().max()))
    assert min(gradients[:3]) > 0
    assert gradients[3] == 0  # λ(I) = 0: the network without branches


def test_branches_take_device_and_type_and_draw_their_weights_from_the_seed() -> None:
    module, x, _ = make("at once")
    one, same, other = (
        nd.add_shortcut_branches(module.double(), x.double(), starts=["act"], seed=seed)
        for seed in (1, 1, 2)
    )
    weights = [branched.branches[0].synapse.weight for branched in (one, same, other)]
    assert weights[0].dtype == torch.float64
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert one(x.double())[1][0].dtype == torch.float64


@pytest.mark.parametrize(
    ("form", "starts", "message"),
    [
        ("step", ["conv2"], r"has no layer 'conv2'\. There is conv\."),
        ("step", [""], r"has no layer ''\. There is conv, act, fc\."),
        ("step", [], "at least one layer, and each once"),
        ("step", ["act", "act"], "at least one layer, and each once"),
    ],
)
def test_layers_that_are_not_there(form: str, starts: list[str], message: str) -> None:
    module, x, _ = make(form)
    with pytest.raises(TrainingError, match=message):
        nd.add_shortcut_branches(module, x, starts=starts)


def test_outputs_without_the_steps_that_a_layer_sees_are_refused() -> None:
    x = torch.rand(STEPS, SAMPLES, 2, 6, 6)
    with pytest.raises(TrainingError, match=r"act: sends 1 times .*\(3, 5, 7\).*of shape \(5, 4\)"):
        nd.add_shortcut_branches(Averaged(), x, starts=["act"])
    batch_first = nn.Sequential(nn.Linear(6, 8), nn.AdaptiveAvgPool2d((1, CLASSES)), nn.Flatten(1))
    with pytest.raises(TrainingError, match=r"0: .* the second axis may be one of steps"):
        nd.add_shortcut_branches(batch_first, torch.rand(SAMPLES, STEPS, 6), starts=["0"])


def test_a_module_that_does_not_run_and_a_layer_that_is_not_run() -> None:
    module, x, _ = make("step")
    with pytest.raises(TrainingError, match="Steps: does not run on the sample"):
        nd.add_shortcut_branches(module, x[:, :1], starts=["act"])
    module.spare = nn.ReLU()
    with pytest.raises(TrainingError, match="spare: sends nothing"):
        nd.add_shortcut_branches(module, x, starts=["spare"])
