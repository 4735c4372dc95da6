"""Our blocks against the real lava-dl 0.6.0: spikes, voltages, gradients, state dictionaries.

With q8 weights and binary inputs every weighted sum is a multiple of 2 / W far below 2**24 of
them, hence exact in float32 in any order of summation: spikes and voltages must be *equal*.
Gradients are float32 sums in another order: 1e-5 of the largest one.

Weights stay inside the quantiser's bounds here: torch 2.14 changed the gradient of `clamp` at
its bounds from 1 to 0, and with it the reference's; `test_quantizer...` covers the bounds.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from neurodeploy import nn as ours
from neurodeploy.errors import CheckpointError, GraphError
from neurodeploy.nn.blocks import RecurrentDense

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # lava-dl's own imports warn
    slayer = pytest.importorskip(
        "lava.lib.dl.slayer",
        reason="lava-dl is not installed beside torch (pip install --no-deps lava-dl==0.6.0)",
    )

pytestmark = [
    pytest.mark.slayer,
    # lava-dl builds on torch's old weight_norm, which torch deprecates.
    pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning"),
]


@pytest.fixture(autouse=True)
def seeded_weights() -> Iterator[None]:
    """Yield every test the same weights: lava-dl draws them from torch's global generator.

    With weights at random, one run in fifty meets a mean on a rounding boundary.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


GRADIENT_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Draw:
    """Random choices from one seeded generator."""

    generator: torch.Generator

    @classmethod
    def seeded(cls, seed: int) -> Draw:
        return cls(torch.Generator().manual_seed(seed))

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def integer(self, low: int, high: int) -> int:
        """A number in [low, high]."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def of(self, *choices):
        return choices[self.integer(0, len(choices) - 1)]

    def spikes(self, *shape: int, rate: float = 0.3) -> Tensor:
        return (torch.rand(shape, generator=self.generator) < rate).float()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)


def draw_neuron(draw: Draw, **fixed) -> dict:
    scale = draw.of(1, 32, 64, 128)
    return {
        "threshold": draw.uniform(8, 40) if scale == 1 else draw.uniform(0.3, 2.5),
        "current_decay": draw.of(0.0, 1.0, draw.uniform(0, 1), draw.uniform(0.05, 0.5)),
        "voltage_decay": draw.of(0.0, 1.0, draw.uniform(0, 1), draw.uniform(0.01, 0.2)),
        "tau_grad": draw.uniform(0.01, 1.0),
        "scale_grad": draw.uniform(0.5, 4.0),
        "scale": scale,
        **fixed,
    }


def draw_options(draw: Draw, neuron: dict, fan_in: int) -> dict:
    return {
        "weight_scale": min(6 * neuron["threshold"], 250 / neuron["scale"] * fan_in**0.5),
        "weight_norm": draw.of(False, True),
        "delay_shift": draw.of(False, True),
    }


def draw_dense(seed: int):
    draw = Draw.seeded(seed)
    neuron = draw_neuron(draw)
    inputs, outputs = draw.integer(3, 40), draw.integer(1, 12)
    x = draw.spikes(draw.integer(1, 4), inputs, draw.integer(1, 39))
    return "Dense", (neuron, inputs, outputs), draw_options(draw, neuron, inputs), x, draw


def draw_conv(seed: int):
    draw = Draw.seeded(seed)
    neuron = draw_neuron(draw)
    groups = draw.of(1, 1, 2)
    inputs, outputs = groups * draw.integer(1, 3), groups * draw.integer(1, 4)
    kernel = draw.of(1, 3, (3, 2), (2, 5))
    stride, padding = draw.of(1, 2, (2, 1)), draw.of(0, 1, (0, 2))
    dilation = draw.of(1, 1, 2, (1, 2))
    arguments = (neuron, inputs, outputs, kernel, stride, padding, dilation, groups)
    size = (draw.integer(9, 12), draw.integer(9, 12))
    x = draw.spikes(draw.integer(1, 3), inputs, *size, draw.integer(1, 39))
    area = kernel**2 if isinstance(kernel, int) else kernel[0] * kernel[1]
    return "Conv", arguments, draw_options(draw, neuron, inputs // groups * area), x, draw


def draw_pool(seed: int):
    draw = Draw.seeded(seed)
    neuron = draw_neuron(draw)
    kernel = draw.of(2, (1, 2), (2, 3), 4)
    height = draw.of(8, 10, 7) if kernel in (2, (1, 2), (2, 3)) else draw.of(8, 6, 12)
    x = draw.spikes(2, draw.integer(1, 4), height, draw.integer(6, 9), draw.integer(1, 39))
    options = {"weight_scale": neuron["threshold"], "delay_shift": draw.of(False, True)}
    return "Pool", (neuron, kernel), options, x, draw


def draw_input(seed: int):
    draw = Draw.seeded(seed)
    neuron = draw_neuron(draw)
    threshold = neuron["threshold"]
    arguments = (neuron, draw.of(None, 0.7 * threshold), draw.of(None, 0.1 * threshold))
    shape = draw.of((5,), (2, 4, 5))
    x = draw.normal(2, *shape, draw.integer(2, 39)) * threshold
    x = x.clamp(-250 / neuron["scale"], 250 / neuron["scale"])
    return "Input", arguments, {"delay_shift": draw.of(False, True)}, x, draw


CASES = [
    *[pytest.param(draw_dense, seed, id=f"dense-{seed}") for seed in range(100, 110)],
    *[pytest.param(draw_conv, seed, id=f"conv-{seed}") for seed in range(200, 214)],
    *[pytest.param(draw_pool, seed, id=f"pool-{seed}") for seed in range(300, 306)],
    *[pytest.param(draw_input, seed, id=f"input-{seed}") for seed in range(400, 406)],
]


def build(kind: str, arguments: tuple, options: dict) -> tuple[nn.Module, nn.Module]:
    """Return the reference's block and ours, ours loaded from the reference's state."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reference = getattr(slayer.block.cuba, kind)(*arguments, **options)
    block = getattr(ours, kind)(*arguments, **options)
    ours.import_state_dict(block, reference.state_dict())
    return reference, block


def run_both(reference, block, x: Tensor, draw: Draw):
    """Run and differentiate both; give outputs and input gradients in SLAYER's layout."""
    x_reference, x_block = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = reference(x_reference)
    actual = ours.SlayerLayout(block)(x_block)
    upstream = draw.normal(*expected.shape)
    expected.backward(upstream)
    actual.backward(upstream)
    return expected, actual, x_reference.grad, x_block.grad


def assert_close(actual: Tensor, expected: Tensor) -> None:
    expected = expected.reshape(actual.shape)
    error = (actual - expected).abs().max()
    assert error <= GRADIENT_TOLERANCE * expected.abs().max(), error / expected.abs().max()


def assert_same_weight_gradients(reference: nn.Module, block: nn.Module) -> None:
    expected = dict(reference.named_parameters())
    for name, parameter in block.named_parameters():
        if "decay" in name or not parameter.requires_grad:
            continue
        assert_close(parameter.grad, expected[name].grad)


@pytest.mark.parametrize(("draw_case", "seed"), CASES)
def test_block_equals_reference(draw_case, seed) -> None:
    kind, arguments, options, x, draw = draw_case(seed)
    reference, block = build(kind, arguments, options)
    expected, actual, expected_grad, actual_grad = run_both(reference, block, x, draw)
    assert torch.equal(expected, actual)
    assert_close(actual_grad, expected_grad)
    assert_same_weight_gradients(reference, block)
    if kind != "Input":
        _, voltage = reference.neuron.dynamics(reference.synapse(x))
        _, our_voltage = block.neuron.dynamics(block.synapse(ours.to_time_first(x)))
        assert torch.equal(voltage, ours.from_time_first(our_voltage))


@pytest.mark.parametrize("seed", range(500, 506))
def test_recurrent_block_sends_the_spikes_of_the_reference(seed: int) -> None:
    draw = Draw.seeded(seed)
    neuron = draw_neuron(draw)
    inputs, outputs = draw.integer(3, 40), draw.integer(2, 12)
    options = draw_options(draw, neuron, inputs)
    del options["weight_norm"]
    reference = slayer.block.cuba.Recurrent(dict(neuron), inputs, outputs, **options)
    block = RecurrentDense(neuron, inputs, outputs, **options)
    for mine, theirs in (
        (block.synapse, reference.input_synapse),
        (block.recurrent_synapse, reference.recurrent_synapse),
    ):
        mine.weight.data = theirs.weight.detach().reshape(mine.weight.shape)
    x = draw.spikes(draw.integer(1, 4), inputs, draw.integer(9, 39))
    expected = reference(x)
    assert torch.equal(ours.SlayerLayout(block)(x), expected)
    assert expected.any()


def test_the_cases_spike() -> None:
    """Silent or saturated outputs would compare equal whatever the dynamics."""
    rates = []
    for case in CASES:
        draw_case, seed = case.values
        kind, arguments, options, x, _ = draw_case(seed)
        block = getattr(ours, kind)(*arguments, **options)
        rates.append(ours.SlayerLayout(block)(x).mean().item())
    assert sum(0.01 < rate < 0.9 for rate in rates) >= 0.9 * len(rates), rates


def draw_stack(seed: int, family):
    """Conv, pool, conv, flatten, dense: the same for both libraries."""
    draw = Draw.seeded(seed)
    neuron = draw_neuron(draw, scale=draw.of(32, 64, 128), threshold=draw.uniform(0.5, 1.5))
    norm = draw.of(False, True)
    blocks = [
        family.Conv(neuron, 2, 6, 3, padding=1, weight_scale=4, weight_norm=norm),
        family.Pool(neuron, 2, weight_scale=1.1),
        family.Conv(neuron, 6, 8, 3, stride=2, weight_scale=6, delay_shift=False),
        family.Flatten(),
        family.Dense(neuron, 8 * 2 * 2, 5, weight_scale=6, weight_norm=norm),
    ]
    return nn.Sequential(*blocks), draw.spikes(2, 2, 10, 10, 17), draw


@pytest.mark.parametrize("seed", range(500, 506))
def test_stack_equals_reference(seed) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        reference, x, draw = draw_stack(seed, slayer.block.cuba)
        stack, _, _ = draw_stack(seed, ours)
    ours.import_state_dict(stack, reference.state_dict())
    expected, actual, expected_grad, actual_grad = run_both(reference, stack, x, draw)
    assert 0 < expected.mean() < 1
    assert torch.equal(expected, actual)
    assert_close(actual_grad, expected_grad)
    assert_same_weight_gradients(reference, stack)


@pytest.mark.parametrize("graded_spike", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_unquantized_weights_and_analogue_input_agree_almost_everywhere(seed, graded_spike) -> None:
    """Sums then depend on their order; a spike may differ where the voltage is at threshold."""
    draw = Draw.seeded(seed)
    neuron = draw_neuron(draw, scale=64, threshold=1.0, graded_spike=graded_spike)
    options = {"weight_scale": 5, "pre_hook_fx": None}
    reference, block = build("Conv", (neuron, 4, 8, 3), options)
    x = draw.normal(4, 4, 8, 8, 20)
    expected, actual = reference(x), ours.SlayerLayout(block)(x)
    is_same = (expected > 0) == (actual > 0)
    assert is_same.float().mean() >= 0.999
    assert abs(expected.mean() - actual.mean()) <= 1e-3 * expected.abs().mean()


# Neuron ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(600, 604))
@pytest.mark.parametrize("shared_param", [True, False])
def test_compatible_decay_gradient_is_the_reference_one(seed, shared_param) -> None:
    draw = Draw.seeded(seed)
    neuron = draw_neuron(
        draw,
        current_decay=draw.uniform(0.1, 0.4),
        voltage_decay=draw.uniform(0.02, 0.2),
        requires_grad=True,
        shared_param=shared_param,
    )
    reference = slayer.block.cuba.Dense(neuron, 10, 6, weight_scale=5 * neuron["threshold"])
    block = ours.Dense(
        {**neuron, "compat_decay_grad": True}, 10, 6, weight_scale=5 * neuron["threshold"]
    )
    x = draw.spikes(3, 10, 20)
    reference(x)  # draws the decays of the channels
    ours.import_state_dict(block, reference.state_dict())
    assert block.neuron.current_decay.numel() == (1 if shared_param else 6)
    expected, actual, _, _ = run_both(reference, block, x, draw)
    assert torch.equal(expected, actual)
    for name in ("current_decay", "voltage_decay"):
        assert_close(getattr(block.neuron, name).grad, getattr(reference.neuron, name).grad)


@pytest.mark.parametrize("seed", range(700, 704))
def test_device_view_is_the_reference_one(seed) -> None:
    neuron = draw_neuron(Draw.seeded(seed))
    reference, block = slayer.neuron.cuba.Neuron(**neuron), ours.CubaLIF(**neuron)
    assert block.device_params == reference.device_params
    names = ("threshold", "v_th_mant", "cx_current_decay", "cx_voltage_decay", "w_scale")
    for name in (*names, "s_scale", "p_scale", "weight_exponent", "threshold_eps", "scale"):
        assert getattr(block, name) == getattr(reference, name), name
    back = ours.neuron_params(block.device_params, scale=neuron["scale"])
    assert back == slayer.neuron.cuba.neuron_params(reference.device_params, scale=neuron["scale"])


@pytest.mark.parametrize("scale", [1, 32, 64, 100, 128])
def test_quantizer_and_its_gradient_are_the_reference_ones(scale) -> None:
    reference = slayer.neuron.cuba.Neuron(300 / scale, 0.1, 0.1, scale=scale)
    steps = torch.arange(-300, 300, dtype=torch.float32) / scale
    values = torch.cat((steps, steps * 1.001, steps + 0.4 / scale, steps - 0.4 / scale))
    mine, theirs = values.clone().requires_grad_(), values.clone().requires_grad_()
    quantizer = ours.EightBitQuantizer(scale)
    actual, expected = quantizer(mine), reference.quantize_8bit(theirs)
    actual.sum().backward()
    expected.sum().backward()
    assert torch.equal(actual, expected)
    rounded = torch.round(values.detach() / (2 / scale)) * 2
    is_bound = (rounded == -256) | (rounded == 254)
    assert is_bound.any()
    assert torch.equal(mine.grad[~is_bound], theirs.grad[~is_bound])
    assert (mine.grad[is_bound] == 1).all()
    assert torch.equal(
        quantizer(values, descale=True), reference.quantize_8bit(values, descale=True)
    )


@pytest.mark.parametrize(("threshold", "spikes"), [(63, 0), (64, 1), (100, 1), (200, 1)])
def test_large_thresholds(threshold, spikes) -> None:
    """From θS = 2**18 on the reference spikes at V = θS; ours only with the flag."""
    parameters = {"threshold": threshold, "current_decay": 1.0, "voltage_decay": 0.0}
    x = torch.full((1, 1, 1), float(threshold))
    assert slayer.neuron.cuba.Neuron(**parameters)(x).item() == spikes
    assert ours.CubaLIF(**parameters, compat_threshold=True)(x).item() == spikes
    assert ours.CubaLIF(**parameters)(x).item() == 0


@pytest.mark.parametrize("has_shift", [True, False])
def test_persistent_state_in_chunks(has_shift) -> None:
    """The reference carries its state under no_grad; so do we, also with gradients on."""
    draw = Draw.seeded(5)
    neuron = draw_neuron(draw, scale=64, threshold=1.0, persistent_state=True)
    neuron.update(current_decay=0.3, voltage_decay=0.05)
    options = {"weight_scale": 6, "delay_shift": has_shift}
    reference, block = build("Dense", (neuron, 12, 7), options)
    x = draw.spikes(3, 12, 30)
    for chunk in x.split(10, dim=-1):
        with torch.no_grad():
            expected = reference(chunk)
        actual = ours.SlayerLayout(block)(chunk)
        assert torch.equal(expected, actual)
        actual.sum().backward()


def test_threshold_free_affine_equals_reference() -> None:
    draw = Draw.seeded(11)
    neuron = draw_neuron(draw, scale=64, threshold=1.0, current_decay=0.2, voltage_decay=0.03)
    for dynamics in (True, False):
        options = {"weight_scale": 3, "dynamics": dynamics}
        reference, block = build("Affine", (neuron, 9, 4), options)
        x = draw.spikes(3, 9, 25)
        expected, actual, expected_grad, actual_grad = run_both(reference, block, x, draw)
        assert torch.equal(expected, actual)
        assert_close(actual_grad, expected_grad)
        assert_same_weight_gradients(reference, block)


def test_average_equals_reference() -> None:
    draw = Draw.seeded(12)
    x = draw.spikes(2, 12, 9)
    expected = slayer.block.cuba.Average(num_outputs=3)(x)
    actual = ours.SlayerLayout(ours.Average(3))(x)
    torch.testing.assert_close(actual, expected)  # a float mean: rounding of the division


@pytest.mark.parametrize("shape", [(6,), (6, 4, 5)])
def test_learned_delay_and_its_gradient(shape) -> None:
    draw = Draw.seeded(13)
    neuron = draw_neuron(draw, scale=64, threshold=1.0)
    kind, arguments = ("Dense", (neuron, 6, 6)) if len(shape) == 1 else ("Conv", (neuron, 6, 6, 1))
    options = {"weight_scale": 6, "delay": True}
    x = draw.spikes(2, *shape, 20)
    reference = getattr(slayer.block.cuba, kind)(*arguments, **options)
    block = getattr(ours, kind)(*arguments, **options)
    reference(x)
    reference.delay.delay.data = torch.tensor([0.0, 0.99, 1.5, 7.2, 25.0, 99.0])
    ours.import_state_dict(block, reference.state_dict())
    expected, actual, expected_grad, actual_grad = run_both(reference, block, x, draw)
    assert torch.equal(expected, actual)
    assert_close(actual_grad, expected_grad)
    assert torch.equal(block.delay.delay, reference.delay.delay)
    assert_close(block.delay.delay.grad, reference.delay.delay.grad)


def test_mask_is_written_into_the_weight() -> None:
    draw = Draw.seeded(14)
    neuron = draw_neuron(draw, scale=64, threshold=1.0)
    mask = draw.spikes(5, 8, rate=0.5).bool()
    options = {"weight_scale": 6, "mask": mask}
    reference, block = build("Dense", (neuron, 8, 5), options)
    expected, actual, _, _ = run_both(reference, block, draw.spikes(2, 8, 15), draw)
    assert torch.equal(expected, actual)
    assert torch.equal(block.synapse.weight, reference.synapse.weight.reshape(5, 8))
    assert_same_weight_gradients(reference, block)


def test_dense_over_images_equals_reference() -> None:
    """in_neurons = (W, H, C) reads an image; an integer acts on every pixel."""
    draw = Draw.seeded(15)
    neuron = draw_neuron(draw, scale=64, threshold=1.0)
    x = draw.spikes(2, 3, 5, 4, 15)
    for inputs, shape in (((4, 5, 3), (2, 7, 1, 1, 15)), (3, (2, 7, 5, 4, 15))):
        reference, block = build("Dense", (neuron, inputs, 7), {"weight_scale": 6})
        expected, actual, expected_grad, actual_grad = run_both(reference, block, x, draw)
        assert actual.shape == shape
        assert torch.equal(expected, actual)
        assert_close(actual_grad, expected_grad)


@pytest.mark.parametrize("name", ["MeanOnlyBatchNorm", "WgtScaleBatchNorm"])
@pytest.mark.parametrize("kind", ["Dense", "Conv"])
def test_norm_equals_reference(name, kind) -> None:
    """Seeds without a mean on a rounding boundary: then training and evaluation are equal."""
    draw = Draw.seeded(16)
    neuron = draw_neuron(draw, scale=64, threshold=0.8, current_decay=0.3, voltage_decay=0.1)
    sizes = (4, 5) if kind == "Dense" else (4, 5, 3)
    arguments = {"weight_scale": 6}
    reference = getattr(slayer.block.cuba, kind)(
        {**neuron, "norm": getattr(slayer.neuron.norm, name)}, *sizes, **arguments
    )
    block = getattr(ours, kind)({**neuron, "norm": getattr(ours, name)}, *sizes, **arguments)
    ours.import_state_dict(block, reference.state_dict())
    x = draw.spikes(3, 4, 20) if kind == "Dense" else draw.spikes(3, 4, 7, 7, 20)
    for _ in range(3):
        expected, actual, expected_grad, actual_grad = run_both(reference, block, x, draw)
        assert torch.equal(expected, actual)
        assert_close(actual_grad, expected_grad)
    reference.eval()
    block.eval()
    assert torch.equal(reference(x), ours.SlayerLayout(block)(x))
    assert 0 < reference(x).mean() < 1
    assert torch.equal(block.neuron.norm.bias, reference.neuron.norm.bias)
    torch.testing.assert_close(  # float32 means, summed in another order
        block.neuron.norm.running_mean, reference.neuron.norm.running_mean
    )
    fresh = getattr(ours, kind)({**neuron, "norm": getattr(ours, name)}, *sizes, **arguments)
    ours.import_state_dict(fresh, reference.state_dict())
    assert torch.equal(reference(x), ours.SlayerLayout(fresh.eval())(x))


# State dictionaries ----------------------------------------------------------------------------


def build_network(family, neuron: dict, *, weight_norm: bool, delay: bool) -> nn.ModuleList:
    per_channel = {**neuron, "shared_param": False}
    options = {"weight_scale": 6, "weight_norm": weight_norm, "delay": delay}
    return nn.ModuleList(
        [
            family.Input(neuron, weight=1.0, bias=0.1),
            family.Conv(neuron, 2, 3, 3, **options),
            family.Flatten(),
            family.Dense(per_channel, 3 * 4 * 4, 6, **options),
        ]
    )


def run_list(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    for block in blocks:
        x = block(x)
    return x


@pytest.mark.parametrize("weight_norm", [False, True])
@pytest.mark.parametrize("delay", [False, True])
def test_state_dictionaries_travel_both_ways(weight_norm, delay) -> None:
    draw = Draw.seeded(21)
    neuron = draw_neuron(draw, scale=64, threshold=1.0, current_decay=0.4, voltage_decay=0.1)
    options = {"weight_norm": weight_norm, "delay": delay}
    x = draw.spikes(2, 2, 6, 6, 20)
    mine = build_network(ours, neuron, **options)
    expected = ours.from_time_first(run_list(mine, ours.to_time_first(x)))
    assert expected.sum() > 0

    reference = build_network(slayer.block.cuba, neuron, **options)
    run_list(reference, x)  # gives the late entries their shape
    assert not torch.equal(run_list(reference, x), expected)
    reference.load_state_dict(ours.export_state_dict(mine), strict=True)
    assert torch.equal(run_list(reference, x), expected)

    fresh = build_network(ours, neuron, **options)
    ours.import_state_dict(fresh, reference.state_dict())
    assert torch.equal(ours.from_time_first(run_list(fresh, ours.to_time_first(x))), expected)
    exported = ours.export_state_dict(fresh)
    assert exported.keys() == reference.state_dict().keys()
    for key, value in reference.state_dict().items():
        assert torch.equal(exported[key], value), key


def test_fresh_state_loads_into_a_fresh_reference() -> None:
    """Before any forward pass the late entries have one value in both libraries."""
    neuron = draw_neuron(Draw.seeded(22))
    options = {"weight_norm": True, "delay": True}
    mine = build_network(ours, neuron, **options)
    reference = build_network(slayer.block.cuba, neuron, **options)
    reference.load_state_dict(ours.export_state_dict(mine), strict=True)
    ours.import_state_dict(build_network(ours, neuron, **options), reference.state_dict())


def test_weight_norm_mismatch_is_named() -> None:
    neuron = draw_neuron(Draw.seeded(23))
    reference = slayer.block.cuba.Dense(neuron, 3, 2, weight_norm=True)
    with pytest.raises(CheckpointError, match=r"synapse\.weight_g.*same weight_norm"):
        ours.import_state_dict(ours.Dense(neuron, 3, 2), reference.state_dict())


def test_initial_weights_have_the_reference_range() -> None:
    """Uniform in ±weight_scale / sqrt(fan_in), for conv and dense alike."""
    for kind, sizes, fan_in in (("Dense", (400, 50), 400), ("Conv", (16, 40, 5), 400)):
        neuron = draw_neuron(Draw.seeded(24))
        limit = 3 / fan_in**0.5
        for family in (ours, slayer.block.cuba):
            weight = getattr(family, kind)(neuron, *sizes, weight_scale=3).synapse.weight
            assert 0.99 * limit < weight.max() <= limit
            assert -limit <= weight.min() < -0.99 * limit


def test_pool_refuses_what_the_reference_mixes_up() -> None:
    neuron = draw_neuron(Draw.seeded(25), scale=64, threshold=1.0)
    x = torch.zeros(1, 2, 8, 8, 3)
    x[0, 1, 2] = 1.0
    mixed = slayer.block.cuba.Pool(neuron, 3).synapse(x)
    assert mixed[0, 1, 0].sum() == 0  # row 2 belongs to the first window of its channel
    with pytest.raises(GraphError, match="mixes channels"):
        ours.Pool(neuron, 3)(ours.to_time_first(x))
