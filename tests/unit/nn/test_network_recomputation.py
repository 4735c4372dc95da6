"""Networks that run their blocks twice, or through torch.compile, against ordinary ones."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._inductor import metrics

from neurodeploy.errors import TrainingError
from neurodeploy.nn.functional.dynamics import TILE
from neurodeploy.nn.functional.surrogate import Rectangular
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.nn.neuron import LIF, CubaLIF
from neurodeploy.recipes.recipe import Architecture

Gradients = dict[str, Tensor]


def network_of(model: str, norm: str, architecture: str, *, depth: int = 2) -> SpikingNetwork:
    sizes: dict[str, object] = (
        {"blocks": [1, 1], "channels": 4}
        if architecture == "residual"
        else {"layers": [{"type": "conv", "channels": 6}] * depth}
    )
    if architecture == "residual":
        sizes["architecture"] = architecture
    neuron: dict[str, object] = {"model": model, "threshold": 0.5}
    if model == "cuba":
        neuron.update(current_decay=0.5, voltage_decay=0.2)
    table: dict[str, object] = {
        "shape": [2, 8, 8],
        "classes": 3,
        "input_bits": 0,
        "network": {"steps": 3, "norm": norm, **sizes},
        "neuron": neuron,
        "branches": [],
    }
    return SpikingNetwork(Architecture.from_dict(table, where="test"))


def one_step(network: SpikingNetwork) -> tuple[Tensor, Gradients]:
    inputs = torch.rand((4, 2, 8, 8), generator=torch.Generator().manual_seed(1)) < 0.4
    output = network.train()(inputs)
    named = {name: value for name, value in network.named_parameters() if value.requires_grad}
    gradients = torch.autograd.grad(output.square().mean(), list(named.values()))
    return output.detach(), dict(zip(named, gradients, strict=True))


@pytest.mark.parametrize("architecture", ["layers", "residual"])
@pytest.mark.parametrize(("model", "norm"), [("lif", "bn"), ("lif", "tebn"), ("cuba", "tdbn")])
def test_recomputing_changes_nothing(model: str, norm: str, architecture: str) -> None:
    """Outputs, gradients and running statistics are equal to the bit."""
    plain = network_of(model, norm, architecture)
    twice = copy.deepcopy(plain)
    twice.is_recomputing = True
    for _ in range(2):
        expected, of_plain = one_step(plain)
        actual, of_twice = one_step(twice)
        assert torch.equal(expected, actual)
        for name, gradient in of_plain.items():
            assert torch.equal(gradient, of_twice[name]), name
    for name, values in plain.state_dict().items():
        assert torch.equal(values, twice.state_dict()[name]), name


def test_recomputing_keeps_less() -> None:
    """Only what enters a block stays until the backward pass."""
    kept: list[int] = []
    for is_recomputing in (False, True):
        network = network_of("lif", "bn", "residual").train()
        network.is_recomputing = is_recomputing
        inputs = torch.ones(4, 2, 8, 8)
        sizes: dict[int, int] = {}

        def keep(values: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[values.data_ptr()] = values.numel()
            return values

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values):
            network(inputs)
        kept.append(sum(sizes.values()))
    assert kept[1] < 0.7 * kept[0]


@pytest.mark.slow
# torch's tracer looks at .grad of what is no leaf and hides the warning only if it is not raised.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize(
    ("model", "backend"), [("lif", "eager"), ("cuba", "eager"), ("lif", "inductor")]
)
def test_compiled_blocks_agree(model: str, backend: str) -> None:
    """Captured by torch.compile, blocks give the same spikes, and gradients to rounding."""
    plain = network_of(model, "bn", "residual")
    compiled = copy.deepcopy(plain)
    compiled.compile_blocks(backend=backend)
    expected, of_plain = one_step(plain)
    actual, of_compiled = one_step(compiled)
    torch.testing.assert_close(actual, expected)
    for name, gradient in of_plain.items():
        torch.testing.assert_close(of_compiled[name], gradient, rtol=1e-4, atol=1e-5)


def test_compiling_can_be_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Afterwards blocks run as written, not through torch.compile."""

    def refuse(*inputs: Tensor) -> Tensor:
        raise AssertionError("compiled")

    monkeypatch.setattr(torch, "compile", lambda call, **options: refuse)
    network = network_of("lif", "bn", "residual")
    network.compile_blocks()
    with pytest.raises(AssertionError, match="compiled"):
        one_step(network)
    network.uncompile_blocks()
    one_step(network)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_blocks_of_many_shapes_stay_compiled() -> None:
    """Each block keeps its own graphs: torch's limit of eight is for one, not for all together."""
    graphs: list[tuple[int, ...]] = []

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(tuple(inputs[0].shape))
        return graph

    torch.compiler.reset()
    network = network_of("lif", "bn", "layers", depth=6)
    network.compile_blocks(backend=count)
    network.train()
    for samples in (4, 3, 4, 3):
        network(torch.ones(samples, 3, 2, 8, 8))
    assert len(graphs) == 6 * 2


def test_an_old_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would compile the first blocks and run the others as written, without an error."""
    monkeypatch.setattr("neurodeploy.nn.network.CAN_COMPILE_BLOCKS", False)
    with pytest.raises(TrainingError, match=r"Use torch 2\.14 or newer"):
        network_of("lif", "bn", "layers").compile_blocks()


@pytest.mark.slow  # the inductor runs a C++ compiler
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_the_inductor_makes_one_kernel_of_a_neuron_over_all_steps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """More columns than a tile of the CPU has: one kernel forward, at most two back."""
    neuron = LIF(0.5, 0.5, Rectangular())
    inputs = torch.randn(4, 2, 50_000, generator=torch.Generator().manual_seed(0))
    assert inputs[0].numel() > TILE
    inputs.requires_grad_()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # what is kept is not counted
    torch.compiler.reset()
    metrics.reset()
    spikes = torch.compile(neuron, dynamic=False, fullgraph=True)(inputs)
    assert metrics.generated_kernel_count == 1
    spikes.backward(torch.randn(inputs.shape, generator=torch.Generator().manual_seed(1)))
    assert metrics.generated_kernel_count <= 3
    assert torch.equal(spikes, neuron(inputs))


def test_cuba_neurons_are_captured_whole() -> None:
    """No number is read back on the way, which would cut the graph."""
    neuron = CubaLIF(0.5, 0.5, 0.2)
    inputs = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    torch.compiler.reset()
    found = torch.compile(neuron, backend="aot_eager", fullgraph=True)(inputs)
    (gradient,) = torch.autograd.grad(found.sum(), inputs)
    wanted = neuron(inputs)
    assert torch.equal(found, wanted)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted.sum(), inputs)[0])
