"""Neurons: hand-checkable sequences, gradients against plain autograd, state and parameters."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from neurodeploy.errors import GraphError
from neurodeploy.nn import (
    LIF,
    CubaLIF,
    Dropout,
    EightBitQuantizer,
    MeanOnlyBatchNorm,
    Rectangular,
    Tanh,
    Triangular,
    WgtScaleBatchNorm,
    neuron_params,
)
from neurodeploy.nn.functional import dynamics
from tests.unit.nn.reference import cuba_loop, lif_loop

# The worked example of SLAYER's arithmetic, recorded from lava-dl 0.6.0: threshold 1.25, decays
# 0.25 and 0.03, tau_grad 0.1, scale_grad 3, W = 64; upstream gradient g[t] = t + 1.
GOLDEN_INPUT = [2048, -384, 1280, 0, 3200, -5120, 896, 3968, 128, -128, 2304, 256]
GOLDEN_CURRENT = [2048, 1152, 2144, 1608, 4406, -1816, -466, 3619, 2842, 2003, 3806, 3110]
GOLDEN_VOLTAGE = [2048, 3138, 5187, 1608, 5965, -1816, -2227, 1459, 4257, 6132, 3806, 6801]
GOLDEN_SPIKES = [0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 1]
GOLDEN_GRADIENT = [
    *(2.60943, 2.52647, 2.40191, 2.23763, 2.03814, 1.80449),
    *(1.54583, 1.26074, 0.955875, 0.649798, 0.368332, 0.139349),
]


def golden_neuron(**options) -> CubaLIF:
    return CubaLIF(1.25, 0.25, 0.03, tau_grad=0.1, scale_grad=3, **options)


def golden_input() -> torch.Tensor:
    return (torch.tensor(GOLDEN_INPUT) / 4096).reshape(12, 1, 1)


def random_input(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# CUBA ------------------------------------------------------------------------------------------


def test_golden_vector() -> None:
    """U and V in state units, spikes and the gradient of the input, step by step."""
    neuron, x = golden_neuron(), golden_input().requires_grad_()
    spikes = neuron(x)
    spikes.backward(torch.arange(1.0, 13.0).reshape(12, 1, 1))
    current, voltage = neuron.dynamics(x.detach())
    assert (current * 4096).flatten().tolist() == GOLDEN_CURRENT
    assert (voltage * 4096).flatten().tolist() == GOLDEN_VOLTAGE
    assert spikes.flatten().tolist() == GOLDEN_SPIKES
    assert x.grad.flatten().tolist() == pytest.approx(GOLDEN_GRADIENT, rel=3e-6)  # 6 digits given


def test_golden_vector_in_plain_python() -> None:
    """The same numbers from the equations in unbounded integers."""
    current = voltage = 0
    for x, u, v, s in zip(GOLDEN_INPUT, GOLDEN_CURRENT, GOLDEN_VOLTAGE, GOLDEN_SPIKES, strict=True):
        current = int(current * 3072 / 4096) + x
        voltage = int(voltage * (4096 - 123) / 4096) + current
        assert (current, voltage, int(voltage > 5120)) == (u, v, s)
        voltage = 0 if s else voltage


def test_spikes_only_strictly_above_threshold() -> None:
    """V = 5120 does not spike, V = 5121 does."""
    x = torch.tensor([5120.0, 5121.0]).reshape(1, 1, 2) / 4096
    assert CubaLIF(1.25, 1.0, 1.0)(x).flatten().tolist() == [0.0, 1.0]


def test_threshold_is_truncated_to_weight_units() -> None:
    neuron = CubaLIF(0.3, 0.1, 0.1)
    assert (neuron.threshold, neuron.v_th_mant) == (19 / 64, 19)


def test_input_is_truncated_towards_zero() -> None:
    x = torch.tensor([1.9, -1.9]).reshape(1, 1, 2) / 4096
    current, _ = CubaLIF(1.0, 0.5, 0.5).dynamics(x)
    assert (current * 4096).flatten().tolist() == [1.0, -1.0]


def test_decays_round_half_to_even() -> None:
    """Stored unrounded, times 4096: 0.5 -> 0, 1.5 -> 2, 2.5 -> 2."""
    for fraction, integer in ((0.5, 0), (1.5, 2), (2.5, 2), (136.3968, 136)):
        neuron = CubaLIF(1.0, fraction / 4096, fraction / 4096)
        assert neuron.current_decay.item() == pytest.approx(fraction)
        assert (neuron.cx_current_decay, neuron.cx_voltage_decay) == (integer, integer)


def test_decays_are_limited() -> None:
    neuron = CubaLIF(1.0, -0.1, 1.5)
    assert (neuron.cx_current_decay, neuron.cx_voltage_decay) == (0, 4096)


def test_device_parameters_and_back() -> None:
    neuron = CubaLIF(1.25, 0.25, 0.03, graded_spike=True)
    device = neuron.device_params
    assert device == {
        "type": "CUBA",
        "iDecay": 1024,
        "vDecay": 123,
        "vThMant": 80,
        "refDelay": 1,
        "gradedSpike": True,
    }
    assert neuron_params(device) == {
        "threshold": 1.25,
        "current_decay": 0.25,
        "voltage_decay": 123 / 4096,
    }
    assert (neuron.w_scale, neuron.s_scale, neuron.p_scale) == (64, 4096, 4096)
    assert neuron.weight_exponent == 0


def test_graded_spike_emits_the_voltage_before_reset() -> None:
    expected = [v / 4096 * s for v, s in zip(GOLDEN_VOLTAGE, GOLDEN_SPIKES, strict=True)]
    assert golden_neuron(graded_spike=True)(golden_input()).flatten().tolist() == expected


def test_without_threshold_nothing_resets() -> None:
    x = torch.ones(3, 1, 1)
    _, voltage = CubaLIF(1.0, 1.0, 0.0).dynamics(x, has_threshold=False)
    assert voltage.flatten().tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("scale", [1, 64, 100])
@pytest.mark.parametrize("graded", [False, True])
def test_fast_loop_equals_plain_autograd(scale, graded) -> None:
    """Spikes exactly, gradients of inputs and decays to float32 rounding."""
    scaled = CubaLIF(
        max(1.1, 20 / scale), 0.3, 0.06, 0.05, 2, scale, requires_grad=True, graded_spike=graded
    )
    constants = scaled.constants
    x = random_input(15, 40) * scaled.threshold
    results = []
    for run in (cuba_loop, dynamics.cuba_spikes):
        decays = [torch.tensor([0.3 * 4096]), torch.tensor([0.06 * 4096])]
        inputs = [tensor.clone().requires_grad_() for tensor in (x, *decays)]
        spikes = run(*inputs, constants)[0]
        spikes.backward(random_input(15, 40, seed=1))
        results.append((spikes, [tensor.grad for tensor in inputs]))
    (expected, expected_grads), (actual, actual_grads) = results
    if scale != 100:  # the plain loop hands over exact integers, SLAYER float32 ones
        assert torch.equal(expected, actual)
        assert 0 < actual.count_nonzero() < actual.numel()
        for mine, plain in zip(actual_grads, expected_grads, strict=True):
            torch.testing.assert_close(mine, plain, rtol=1e-5, atol=1e-5 * plain.abs().max().item())
    else:
        assert (expected != actual).float().mean() < 0.01


def test_decay_gradient_is_the_derivative_of_the_smooth_neuron() -> None:
    """Below threshold all is linear: compare with a finite difference of V in float64.

    The stored decay is 4096 times the fraction and receives the derivative of the fraction.
    """

    def voltage_sum(current_decay: float, voltage_decay: float) -> float:
        u = v = total = 0.0
        for x in inputs.double().flatten().tolist():
            u = (1 - current_decay) * u + x
            v = (1 - voltage_decay) * v + u
            total += v
        return total

    inputs = torch.full((10, 1, 1), 0.5)
    neuron = CubaLIF(4000.0, 0.25, 0.125, requires_grad=True)
    _, voltage = neuron.dynamics(inputs)
    voltage.sum().backward()
    step = 1e-6
    by_current = voltage_sum(0.25 + step, 0.125) - voltage_sum(0.25 - step, 0.125)
    by_voltage = voltage_sum(0.25, 0.125 + step) - voltage_sum(0.25, 0.125 - step)
    # 1e-3: the neuron truncates its state to 1/4096 at each step
    assert neuron.current_decay.grad.item() == pytest.approx(by_current / (2 * step), rel=1e-3)
    assert neuron.voltage_decay.grad.item() == pytest.approx(by_voltage / (2 * step), rel=1e-3)


def test_decay_gradient_includes_the_state_carried_in() -> None:
    """One step from V = 2: dV/d(decay) = -2, which needs the voltage kept from before."""
    neuron = CubaLIF(50.0, 1.0, 0.5, persistent_state=True, requires_grad=True)
    neuron(torch.full((1, 1, 1), 2.0))
    _, voltage = neuron.dynamics(torch.zeros(1, 1, 1))
    voltage.backward()
    assert voltage.item() == 1.0
    assert neuron.voltage_decay.grad.item() == -2.0


def test_decays_are_clamped_while_they_learn() -> None:
    neuron = CubaLIF(1.0, 0.5, 0.5, requires_grad=True)
    neuron.current_decay.data.fill_(5000.0)
    neuron(torch.zeros(1, 1, 1))
    assert neuron.current_decay.item() == 4096.0


@pytest.mark.parametrize("shape", [(6, 2, 3), (6, 2, 3, 4, 5)])
def test_channels_with_their_own_decays(shape) -> None:
    """A group with decays by channel equals one group a channel, also channels-last."""
    group = CubaLIF(1.0, (0.1, 0.9), (0.0, 0.3), shared_param=False, requires_grad=True)
    x = random_input(*shape, seed=2).requires_grad_()
    spikes = group(x)
    spikes.sum().backward()
    decays = list(zip(group.cx_current_decay, group.cx_voltage_decay, strict=True))
    assert len(set(decays)) == 3
    for channel, (current, voltage) in enumerate(decays):
        alone = CubaLIF(1.0, current / 4096, voltage / 4096, requires_grad=True)
        part = x[:, :, channel : channel + 1].detach().requires_grad_()
        expected = alone(part)
        expected.sum().backward()
        assert torch.equal(spikes[:, :, channel : channel + 1], expected)
        torch.testing.assert_close(x.grad[:, :, channel : channel + 1], part.grad)
        for name in ("current_decay", "voltage_decay"):
            mine, theirs = getattr(group, name).grad[channel], getattr(alone, name).grad[0]
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_channels_last_gives_the_same_without_a_copy() -> None:
    x = random_input(3, 2, 4, 5, 6)
    folded = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    channels_last = folded.view(3, 2, 4, 5, 6)
    neuron = CubaLIF(0.5, (0.1, 0.9), 0.1, shared_param=False)
    spikes = neuron(channels_last)
    assert torch.equal(spikes, neuron(x))
    assert spikes.stride() == channels_last.stride()


def test_drawn_decays_follow_the_generator() -> None:
    def drawn(seed: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        neuron = CubaLIF(1.0, (0.2, 0.4), 0.5, shared_param=False, generator=generator)
        neuron(torch.zeros(1, 1, 50))
        return neuron.current_decay.detach().numpy() / 4096

    assert np.array_equal(drawn(3), drawn(3))
    assert not np.array_equal(drawn(3), drawn(4))
    assert (drawn(3) >= 0.2).all()
    assert (drawn(3) <= 0.4).all()


@pytest.mark.parametrize("with_norm", [False, True])
def test_persistent_state_makes_pieces_equal_the_whole(with_norm) -> None:
    options = {"norm": MeanOnlyBatchNorm} if with_norm else {}
    x = random_input(20, 2, 3, seed=5)
    whole = CubaLIF(0.8, 0.2, 0.05, **options)
    pieces = CubaLIF(0.8, 0.2, 0.05, persistent_state=True, **options)
    for neuron in (whole, pieces):
        if neuron.norm is not None:
            neuron.norm.running_mean.fill_(0.25)
        neuron.eval()
    joined = torch.cat([pieces(piece) for piece in x.split(7)])
    assert torch.equal(joined, whole(x))


def test_persistent_state_is_dropped_for_another_batch() -> None:
    neuron = CubaLIF(10.0, 1.0, 0.0, persistent_state=True)
    neuron(torch.ones(1, 2, 1))
    assert neuron.dynamics(torch.zeros(1, 2, 1))[1].flatten().tolist() == [1.0, 1.0]
    assert neuron.dynamics(torch.zeros(1, 3, 1))[1].flatten().tolist() == [0.0, 0.0, 0.0]
    neuron(torch.ones(1, 3, 1))
    neuron.reset_state()
    assert neuron.dynamics(torch.zeros(1, 3, 1))[1].sum() == 0


def test_state_is_not_saved() -> None:
    neuron = CubaLIF(10.0, 1.0, 0.0, persistent_state=True)
    neuron(torch.ones(1, 2, 1))
    assert set(neuron.state_dict()) == {"current_decay", "voltage_decay"}


def test_own_state_with_drawn_decays_loads_into_a_fresh_neuron() -> None:
    saved = CubaLIF(1.0, (0.1, 0.9), 0.5, shared_param=False)
    x = random_input(5, 2, 4)
    expected = saved(x)
    fresh = CubaLIF(1.0, (0.1, 0.9), 0.5, shared_param=False)
    fresh.load_state_dict(saved.state_dict(), strict=True)
    assert torch.equal(fresh(x), expected)
    assert torch.equal(fresh.current_decay, saved.current_decay)


def test_copies_are_independent() -> None:
    neuron = CubaLIF(1.0, (0.1, 0.9), 0.5, shared_param=False, norm=MeanOnlyBatchNorm)
    copied = copy.deepcopy(neuron)
    x = random_input(5, 2, 4)
    assert torch.equal(copied(x), neuron(x))
    copied.current_decay.data.fill_(0.0)
    assert neuron.current_decay.min() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.001, 0.1, 0.1), r"threshold = 0\.001 at scale 64, at least 0\.015625"),
        ((1.0, (0.1, 0.2), 0.1), r"current_decay = \(0\.1, 0\.2\) with shared_param=True"),
        ((1.0, 0.1, float("nan")), r"voltage_decay = nan"),
    ],
)
def test_wrong_parameters_are_named(arguments, message) -> None:
    with pytest.raises(GraphError, match=message):
        CubaLIF(*arguments)


def test_graded_spikes_need_the_exponential() -> None:
    with pytest.raises(GraphError, match="'exponential' is required"):
        CubaLIF(1.0, 0.1, 0.1, graded_spike=True, surrogate=Triangular())


def test_another_surrogate_replaces_slayers() -> None:
    neuron = CubaLIF(1.0, 1.0, 1.0, surrogate=Triangular(2.0))
    x = torch.tensor([0.5, 1.0, 3.0]).reshape(1, 1, 3).requires_grad_()
    neuron(x).sum().backward()
    # Centred on threshold + 0.01/4096: the reference's margin that makes >= a strict >
    assert x.grad.flatten().tolist() == pytest.approx([1.0, 2.0, 0.0], abs=1e-5)


def test_surrogate_is_centred_a_hundredth_of_a_state_unit_above_threshold() -> None:
    """At W = 1 a state unit is 1/64: h(1) = (1 - 0.01/64) / 2 for a triangle around 2."""
    x = torch.ones(1, 1, 1, requires_grad=True)
    CubaLIF(2.0, 1.0, 1.0, scale=1, surrogate=Triangular())(x).backward()
    assert x.grad.item() == pytest.approx((1 - 0.01 / 64) / 2, rel=1e-6)


@pytest.mark.parametrize("x", [torch.zeros(2, 3), torch.zeros(2, 3, 4, dtype=torch.int32)])
def test_wrong_input_is_named(x) -> None:
    for neuron in (CubaLIF(1.0, 0.1, 0.1), LIF(0.5, 0.5, Triangular())):
        with pytest.raises(GraphError, match=r"a float tensor \(T, N, C, \.\.\.\) is required"):
            neuron(x)


def test_another_shape_than_the_first_is_refused() -> None:
    neuron = CubaLIF(1.0, 0.1, 0.1)
    neuron(torch.zeros(1, 1, 3))
    assert neuron.shape == (3,)
    with pytest.raises(GraphError, match=r"input of shape \(T, N, 4\), the first one had"):
        neuron(torch.zeros(1, 1, 4))


# LIF -------------------------------------------------------------------------------------------


def test_lif_by_hand() -> None:
    """u_pre: 0.5, 0.25 + 0.5 = 0.75 > 0.7 spikes and resets, 0.5, 0.25, -0.375, 1.3125 spikes."""
    x = torch.tensor([0.5, 0.5, 0.5, 0.0, -0.5, 1.5]).reshape(6, 1, 1)
    spikes = LIF(0.7, 0.5, Triangular())(x)
    assert spikes.flatten().tolist() == [0, 1, 0, 0, 0, 1]


def test_lif_does_not_spike_at_threshold() -> None:
    assert LIF(0.5, 0.25, Triangular())(torch.full((1, 1, 1), 0.5)).item() == 0.0


def test_lif_gradient_by_hand() -> None:
    """Two steps, rectangular h = 1 near threshold, tau 0.5, V_th 1, g = (1, 10).

    u_pre = (0.8, 1.1): o = (0, 1). Last step: d = 10 · 1. First: 1 + 0.5 · 10 · (1 - 0 - r),
    where the reset contributes r = u_pre · h = 0.8.
    """
    for reset_gradient, first in ((True, 1 + 0.5 * 10 * 0.2), (False, 1 + 0.5 * 10)):
        neuron = LIF(1.0, 0.5, Rectangular(1.0), reset_gradient=reset_gradient)
        x = torch.tensor([0.8, 0.7]).reshape(2, 1, 1).requires_grad_()
        neuron(x).backward(torch.tensor([1.0, 10.0]).reshape(2, 1, 1))
        assert x.grad.flatten().tolist() == pytest.approx([first, 10.0])


@pytest.mark.parametrize("reset_gradient", [True, False])
@pytest.mark.parametrize("surrogate", [Triangular(), Rectangular(0.6), Tanh()])
def test_lif_equals_plain_autograd(surrogate, reset_gradient) -> None:
    options = {"tau": 0.4, "threshold": 0.5, "surrogate": surrogate}
    options["reset_gradient"] = reset_gradient
    x = random_input(9, 50).double()
    mine, plain = x.clone().requires_grad_(), x.clone().requires_grad_()
    upstream = random_input(9, 50, seed=1).double()
    actual, expected = dynamics.lif_spikes(mine, **options), lif_loop(plain, **options)
    actual.backward(upstream)
    expected.backward(upstream)
    assert torch.equal(actual, expected)
    assert 0 < actual.mean() < 1
    torch.testing.assert_close(mine.grad, plain.grad)


def test_lif_is_cuba_with_full_current_decay() -> None:
    """Dyadic inputs and tau keep every CUBA state an integer: then the spikes are equal."""
    generator = torch.Generator().manual_seed(7)
    x = (
        torch.randint(-40, 60, (6, 3, 50), generator=generator).float() / 64
    )  # 64 = 2**6 · 4096/2**18
    tau, threshold = 0.5, 0.75
    expected = LIF(threshold, tau, Triangular())(x)
    cuba = CubaLIF(threshold, 1.0, 1 - tau)
    assert torch.equal(cuba(x), expected)
    assert 0.05 < expected.mean() < 0.95
    lif = LIF(threshold, tau, Triangular())
    assert lif.cx_current_decay == cuba.cx_current_decay == 4096
    assert lif.cx_voltage_decay == cuba.cx_voltage_decay == 2048


def test_tiles_do_not_change_the_result(monkeypatch) -> None:
    x = random_input(7, 3, 11).requires_grad_()
    results = []
    for tile in (1 << 16, 4):
        monkeypatch.setattr(dynamics, "TILE", tile)
        for neuron in (
            LIF(0.5, 0.5, Tanh()),
            CubaLIF(0.7, 0.2, 0.1, requires_grad=True),
            CubaLIF(0.7, 0.2, 0.1, norm=MeanOnlyBatchNorm),
        ):
            x.grad = None
            spikes = neuron(x)
            spikes.sum().backward()
            results.append((spikes, x.grad))
    for (spikes, grad), (tiled_spikes, tiled_grad) in zip(results[:3], results[3:], strict=True):
        assert torch.equal(spikes, tiled_spikes)
        torch.testing.assert_close(grad, tiled_grad)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 0.5), "threshold = 0.0, a number above 0"),
        ((0.5, 1.5), r"tau = 1\.5, a number in \[0, 1\]"),
    ],
)
def test_wrong_lif_parameters_are_named(arguments, message) -> None:
    with pytest.raises(GraphError, match=message):
        LIF(*arguments, Triangular())


# Quantiser, norms, dropout ---------------------------------------------------------------------


def test_quantizer_at_the_edges() -> None:
    """Values and gradients around the bounds at W = 64, in units of 1/64."""
    units = torch.tensor([-257.1, -257, -256, -1.0, 1.0, 2.9, 3.0, 254.0, 254.9, 255.1, 300.0])
    weight = (units / 64).requires_grad_()
    quantized = EightBitQuantizer(64)(weight)
    quantized.sum().backward()
    # -257 / 2 and 1 / 2 are ties and go to even: -128, 0; 3 / 2 goes to 2
    assert (quantized * 64).tolist() == [-256, -256, -256, 0, 0, 2, 4, 254, 254, 254, 254]
    assert weight.grad.tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]
    assert EightBitQuantizer(64)(weight, descale=True).tolist() == (quantized * 64).tolist()


def test_mean_only_norm_by_hand() -> None:
    """Channel means 0.5 and -0.25 of (T=2, N=1, C=2); running mean moves by a tenth."""
    norm = MeanOnlyBatchNorm(pre_hook_fx=EightBitQuantizer(64))
    current = torch.tensor([[[0.0, -0.5]], [[1.0, 0.0]]], requires_grad=True)
    output = norm(current)
    assert output.flatten().tolist() == [-0.5, -0.25, 0.5, 0.25]
    assert norm.running_mean.tolist() == pytest.approx([0.05, -0.025])
    assert norm.bias.tolist() == [-4.0, 2.0]  # 0.05 · 64 = 3.2, even: 4
    output[0, 0, 0].backward()
    assert current.grad.flatten().tolist() == [0.5, 0.0, -0.5, 0.0]  # 1 - 1/2, and -1/2
    norm.eval()
    assert norm(current)[0, 0].tolist() == [-0.0625, -0.46875]


def test_weight_scale_norm_divides_by_a_power_of_two() -> None:
    norm = WgtScaleBatchNorm()
    current = torch.tensor([-3.0, 3.0]).reshape(2, 1, 1)
    assert norm(current).flatten().tolist() == [-0.75, 0.75]  # deviation 3: 2**2
    assert norm.running_var.item() == pytest.approx(0.1 * 9 * 2 / 3)


def test_norm_refuses_other_channels() -> None:
    with pytest.raises(GraphError, match="input has 3 channels, 2 are required"):
        MeanOnlyBatchNorm(2)(torch.zeros(1, 1, 3))


def test_dropout_silences_neurons_for_all_steps() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dropped = Dropout(0.25)(torch.ones(5, 10, 100))
    per_neuron = dropped.unique(dim=0)
    assert len(per_neuron) == 1
    assert dropped.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert 0.15 < (dropped == 0).float().mean() < 0.35
    ones = torch.ones(2, 1, 3)
    assert torch.equal(Dropout(0.25).eval()(ones), ones)
    with pytest.raises(GraphError, match=r"p = 1\.0"):
        Dropout(1.0)


def test_neuron_with_dropout_uses_it() -> None:
    neuron = CubaLIF(0.5, 1.0, 1.0, dropout=Dropout(0.5))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        spikes = neuron(torch.ones(3, 1, 200))
    assert set(spikes.unique().tolist()) == {0.0, 2.0}
