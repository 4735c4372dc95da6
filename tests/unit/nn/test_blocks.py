"""Blocks and the bridge to SLAYER's layout and names, without lava-dl."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from neurodeploy.errors import CheckpointError, GraphError
from neurodeploy.nn import (
    LIF,
    Affine,
    Average,
    Conv,
    CubaLIF,
    Delay,
    Dense,
    Flatten,
    GlobalAverageReadout,
    Input,
    MeanOnlyBatchNorm,
    Pool,
    SlayerLayout,
    Triangular,
    export_state_dict,
    from_time_first,
    import_state_dict,
    shift_in_time,
    to_time_first,
)

PARAMS = {"threshold": 1.0, "current_decay": 1.0, "voltage_decay": 1.0}
"""No memory: a neuron spikes when its weighted sum exceeds 1."""


def lif() -> LIF:
    return LIF(0.5, 0.25, Triangular())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_spikes(*shape: int, seed: int = 0) -> torch.Tensor:
    return (torch.rand(shape, generator=seeded(seed)) < 0.4).float()


# Defaults of the two families ------------------------------------------------------------------


def test_neuron_params_give_slayers_defaults() -> None:
    block = Dense(PARAMS, 2, 1)
    block.synapse.weight.data = torch.tensor([[1.01, 0.52]])
    assert isinstance(block.neuron, CubaLIF)
    assert (block.effective_weight * 64).tolist() == [[64.0, 34.0]]  # 64.64, 33.28 to even
    spikes = block(torch.tensor([[[1.0, 1.0]], [[1.0, 0.0]]]))
    assert spikes.flatten().tolist() == [0.0, 1.0]  # one step late


def test_ready_neuron_gives_a_float_block() -> None:
    block = Dense(lif(), 2, 1)
    block.synapse.weight.data = torch.tensor([[0.501, 0.2]])
    assert torch.equal(block.effective_weight, block.synapse.weight)
    assert block(torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])).flatten().tolist() == [1.0, 0.0]


def test_defaults_can_be_asked_for_the_other_way() -> None:
    block = Dense(PARAMS, 2, 1, pre_hook_fx=None, delay_shift=False)
    assert block.effective_weight is block.synapse.weight
    assert block.delay_shift is False
    assert Dense(lif(), 2, 1, delay_shift=True).delay_shift is True
    neuron = CubaLIF(**PARAMS)
    quantized = Dense(neuron, 2, 1, pre_hook_fx=neuron.quantize_8bit)
    assert ((quantized.effective_weight * 32) % 1 == 0).all()
    assert Dense(CubaLIF(**PARAMS), 2, 1).synapse.pre_hook_fx is None


def test_the_callers_dictionary_is_left_alone() -> None:
    params = {**PARAMS, "norm": MeanOnlyBatchNorm}
    before = dict(params)
    pool = Pool(params, 2)
    assert params == before
    assert pool.neuron.norm is None
    assert Dense(params, 2, 1).neuron.norm is not None


def test_wrong_neuron_params_are_named() -> None:
    with pytest.raises(GraphError, match=r"unknown keys \['treshold'\], missing keys \['thresh"):
        Dense({"treshold": 1.0, "current_decay": 1.0, "voltage_decay": 1.0}, 2, 1)


# Synapses --------------------------------------------------------------------------------------


def test_conv_equals_a_loop_over_steps() -> None:
    x = random_spikes(3, 2, 4, 6, 5)
    block = Conv(lif(), 4, 6, (3, 2), (2, 1), (1, 0), (1, 2), 2, generator=seeded())
    sums = block.synapse(x)
    weight = block.effective_weight
    assert weight.shape == (6, 2, 3, 2)
    for step in range(3):
        expected = nn.functional.conv2d(x[step], weight, None, (2, 1), (1, 0), (1, 2), 2)
        torch.testing.assert_close(sums[step], expected)
    assert block(x).shape == (3, 2, 6, 3, 3)
    assert block.shape == (6, 3, 3)
    made = block.synapse
    sizes = (made.kernel_size, made.stride, made.padding, made.dilation, made.groups)
    assert sizes == ((3, 2), (2, 1), (1, 0), (1, 2), 2)


def test_pool_sums_windows() -> None:
    """2x2 windows of one channel; the weight of 1 quantises to itself."""
    image = torch.tensor([[1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0]]).reshape(1, 1, 1, 2, 4)
    pool = Pool(PARAMS, 2, delay_shift=False)
    assert pool.synapse(image).flatten().tolist() == [2.0, 4.0]
    assert pool(image).flatten().tolist() == [1.0, 1.0]
    assert not pool.synapse.weight.requires_grad


def test_pool_keeps_channels_apart_and_pads_at_the_end() -> None:
    """Height 7, width 7, kernel 2: padded to 8 by zeros behind."""
    x = random_spikes(2, 3, 4, 7, 7)
    sums = Pool(PARAMS, 2).synapse(x)
    padded = nn.functional.pad(x, (0, 1, 0, 1))
    expected = padded.reshape(2, 3, 4, 4, 2, 4, 2).sum((4, 6))
    assert torch.equal(sums, expected)


@pytest.mark.parametrize(
    ("arguments", "height", "message"),
    [
        ((3,), 8, r"input height 8 with kernel height 3: SLAYER pads it to 10"),
        ((3,), 7, r"input height 7 with kernel height 3"),
        ((3, 2), 9, r"height of kernel 3, stride 2, padding 0, dilation 1 would mix channels"),
        ((2, 2, 1), 8, r"padding 1"),
        ((2, 2, 0, 2), 8, r"dilation 2"),
    ],
)
def test_pool_refuses_sizes_that_mix_channels(arguments, height, message) -> None:
    with pytest.raises(GraphError, match=message):
        Pool(PARAMS, *arguments)(torch.zeros(1, 1, 2, height, 8))


def test_weight_norm() -> None:
    """w = g · v / |v|, rows apart; at first w is what was drawn."""
    plain = Dense(lif(), 3, 2, generator=seeded(4))
    block = Dense(lif(), 3, 2, weight_norm=True, generator=seeded(4))
    torch.testing.assert_close(block.effective_weight, plain.effective_weight)
    block.synapse.weight_v.data = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]])
    block.synapse.weight_g.data = torch.tensor([[10.0], [0.5]])
    torch.testing.assert_close(
        block.effective_weight, torch.tensor([[6.0, 8.0, 0.0], [0.0, 0.0, 0.5]])
    )


@pytest.mark.parametrize("weight_norm", [False, True])
def test_mask_removes_connections(weight_norm) -> None:
    mask = torch.tensor([[1, 0, 1], [0, 1, 1]])
    block = Dense(lif(), 3, 2, weight_norm=weight_norm, mask=mask)
    block(torch.ones(1, 1, 3))
    assert torch.equal(block.effective_weight != 0, mask != 0)
    with pytest.raises(GraphError, match=r"mask of shape \(2, 2\), \(2, 3\) as the weight's"):
        Dense(lif(), 3, 2, mask=torch.ones(2, 2))


def test_initial_values_follow_the_generator() -> None:
    first, again = (Conv(lif(), 2, 3, 3, bias=True, generator=seeded(1)) for _ in range(2))
    other = Conv(lif(), 2, 3, 3, bias=True, generator=seeded(2))
    assert torch.equal(first.effective_weight, again.effective_weight)
    assert torch.equal(first.bias, again.bias)
    assert not torch.equal(first.effective_weight, other.effective_weight)


def test_drawing_from_a_generator_leaves_the_global_one_alone() -> None:
    state = torch.random.get_rng_state()
    params = {**PARAMS, "shared_param": False}
    for block in (Dense(params, 3, 2, delay=True, generator=seeded()), Pool(PARAMS, 2)):
        block(torch.zeros(2, 1, 3) if isinstance(block, Dense) else torch.zeros(2, 1, 3, 2, 2))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Conv(PARAMS, 3, 4, 3, groups=2), "groups = 2 must divide in_features = 3"),
        (lambda: Conv(PARAMS, 3, 4, 0), "kernel_size = 0, an integer of at least 1"),
        (lambda: Conv(PARAMS, 3, 4, (3, 3, 1)), r"kernel_size = \(3, 3, 1\)"),
        (lambda: Dense(PARAMS, 0, 4), r"weight of shape \(4, 0\), sizes of at least 1"),
        (lambda: Dense(PARAMS, (2, 2, 2, 2), 4), r"in_neurons = \(2, 2, 2, 2\)"),
    ],
)
def test_wrong_sizes_are_named(build, message) -> None:
    with pytest.raises(GraphError, match=message):
        build()


@pytest.mark.parametrize(
    ("block", "shape", "message"),
    [
        (Conv(PARAMS, 3, 4, 3), (1, 1, 2, 8, 8), r"\(T, N, 3, H, W\) is required"),
        (Conv(PARAMS, 3, 4, 3), (1, 1, 3, 8), r"\(T, N, 3, H, W\) is required"),
        (Conv(PARAMS, 3, 4, 5), (1, 1, 3, 8, 4), "4 pixels with padding 0 is smaller than a"),
        (Dense(PARAMS, 3, 4), (1, 1, 5), r"\(T, N, 3\) is required. Put a Flatten"),
        (Dense(PARAMS, (4, 5, 3), 4), (1, 1, 3, 4, 4), "does not fit a weight of shape"),
        (Dense(PARAMS, (4, 5, 3), 4), (1, 1, 60), r"\(T, N, 3, H, W\) is required"),
        (Pool(PARAMS, 2), (1, 1, 4), r"\(T, N, C, H, W\) is required"),
    ],
)
def test_wrong_input_is_named(block, shape, message) -> None:
    with pytest.raises(GraphError, match=message):
        block(torch.zeros(shape))


# Batch norm, bias, read-out ----------------------------------------------------------------------


def test_batch_norm_sees_steps_and_batch_as_one() -> None:
    block = Conv(lif(), 2, 3, 3, padding=1, batch_norm=True, generator=seeded())
    x = random_spikes(4, 2, 2, 5, 5)
    block.batch_norm.bias.data = torch.tensor([0.3, 0.4, 0.5])
    sums = block.synapse(x)
    mean, variance = sums.mean((0, 1, 3, 4)), sums.var((0, 1, 3, 4), correction=0)
    normalized = (sums - mean.view(3, 1, 1)) / (variance.view(3, 1, 1) + 1e-5).sqrt()
    expected = block.neuron(normalized + block.batch_norm.bias.view(3, 1, 1))
    actual = block(x)
    assert 0 < actual.mean() < 1
    assert (actual != expected).float().mean() < 0.01  # a float sum at threshold may differ
    torch.testing.assert_close(block.batch_norm.running_mean, 0.1 * mean)


def test_paper_style_blocks_train() -> None:
    """One step of gradient descent through conv, dense and read-out lowers the loss."""
    network = nn.Sequential(
        Conv(lif(), 1, 8, 3, padding=1, batch_norm=True, generator=seeded(0)),
        Conv(lif(), 8, 8, 3, stride=2, batch_norm=True, generator=seeded(1)),
        GlobalAverageReadout(8, 3, generator=seeded(2)),
    )
    x = torch.rand(4, 6, 1, 8, 8, generator=seeded(3))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])

    def loss() -> torch.Tensor:
        return nn.functional.cross_entropy(network(x).mean(0), labels)

    before = loss()
    before.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= 0.1 * parameter.grad
    assert loss() < before


def test_dense_with_batch_norm_and_bias() -> None:
    block = Dense(lif(), 6, 4, batch_norm=True, bias=True, generator=seeded())
    assert isinstance(block.batch_norm, nn.BatchNorm1d)
    assert block.bias.shape == (4,)
    assert block(random_spikes(3, 5, 6)).shape == (3, 5, 4)
    images = Dense(lif(), (4, 3, 2), 5, batch_norm=True)
    assert images(random_spikes(3, 2, 2, 3, 4)).shape == (3, 2, 5, 1, 1)


def test_bias_is_added_to_the_sum() -> None:
    block = Dense(lif(), 2, 2, bias=True)
    block.bias.data = torch.tensor([0.6, 0.4])
    assert block(torch.zeros(1, 1, 2)).flatten().tolist() == [1.0, 0.0]


def test_global_average_readout() -> None:
    readout = GlobalAverageReadout(2, 3)
    readout.synapse.weight.data = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    readout.synapse.bias.data = torch.tensor([0.0, 0.5, 0.0])
    x = torch.tensor([[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]).reshape(1, 1, 2, 2, 2)
    assert readout(x).flatten().tolist() == [0.5, 1.0, 0.75]
    assert readout(x.mean((3, 4))).flatten().tolist() == [0.5, 1.0, 0.75]
    assert GlobalAverageReadout(2, 3, bias=False).synapse.bias is None


# Other blocks ----------------------------------------------------------------------------------


def test_flatten_has_channels_slowest() -> None:
    x = torch.arange(12.0).reshape(1, 1, 2, 2, 3)
    flatten = Flatten()
    assert flatten(x).flatten().tolist() == list(range(12))
    assert flatten.shape == (12, 1, 1)
    channels_last = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    assert flatten(channels_last.unsqueeze(0)).flatten().tolist() == list(range(12))
    assert torch.equal(flatten(x[..., 0, 0]), x[..., 0, 0])


def test_average() -> None:
    x = torch.tensor([1.0, 0.0, 1.0, 1.0]).reshape(1, 1, 4)
    assert Average(2)(x).tolist() == [[[0.5, 1.0]]]
    with pytest.raises(GraphError, match="4 neurons cannot be split into 3 groups"):
        Average(3)(x)


def test_affine_gives_voltages() -> None:
    params = {"threshold": 0.5, "current_decay": 1.0, "voltage_decay": 0.0}
    block = Affine(params, 1, 1)
    block.synapse.weight.data = torch.ones(1, 1)
    x = torch.ones(3, 1, 1)
    assert block(x).flatten().tolist() == [1.0, 2.0, 3.0]
    block.dynamics = False
    assert block(x).flatten().tolist() == [1.0, 1.0, 1.0]


def test_input_without_neuron_only_shifts() -> None:
    x = torch.arange(3.0).reshape(3, 1, 1)
    assert Input()(x).flatten().tolist() == [0.0, 0.0, 1.0]
    assert Input(delay_shift=False)(x).flatten().tolist() == [0.0, 1.0, 2.0]


def test_input_encodes_quantised_values() -> None:
    """z = q8(x) q8(w) + q8(b): 1.99 -> 2, 0.49 -> 0.5, 0.016 -> 0.03125."""
    block = Input(PARAMS, weight=0.49, bias=0.016, delay_shift=False)
    x = torch.tensor([1.99, 1.9]).reshape(1, 1, 2)
    assert block(x).flatten().tolist() == [1.0, 0.0]
    assert block.shape == (2,)
    assert Input(lif(), weight=1.0)(torch.full((1, 1, 1), 0.501)).item() == 1.0


@pytest.mark.parametrize("block", [Input(PARAMS), Dense(PARAMS, 4, 4), Pool(PARAMS, 2)])
def test_count_log_gives_the_mean_count(block) -> None:
    block.count_log = True
    x = torch.full((4, 2, 4), 2.0) if not isinstance(block, Pool) else torch.ones(4, 2, 1, 4, 4)
    spikes, count = block(x)
    assert count.item() == spikes.mean().item()
    assert count.is_floating_point()


def test_count_log_without_neuron_gives_none() -> None:
    x = torch.ones(1, 1, 4)
    for block in (Flatten(count_log=True), Average(2, count_log=True)):
        assert block(x)[1] is None
    assert Affine(PARAMS, 4, 2, count_log=True)(x)[1] is None


def test_persistent_block_carries_the_shifted_spike() -> None:
    block = Dense({**PARAMS, "persistent_state": True}, 1, 1)
    block.synapse.weight.data = torch.full((1, 1), 2.0)
    assert block(torch.ones(1, 1, 1)).item() == 0.0
    assert block(torch.zeros(1, 1, 1)).item() == 1.0
    block(torch.ones(1, 1, 1))
    block.reset_state()
    assert block(torch.zeros(1, 1, 1)).item() == 0.0


# Delay -----------------------------------------------------------------------------------------


def test_shift_in_time() -> None:
    x = torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1)
    assert shift_in_time(x).flatten().tolist() == [0.0, 1.0, 2.0]
    assert shift_in_time(x, torch.tensor([9.0])).flatten().tolist() == [9.0, 1.0, 2.0]


def test_delay_by_hand() -> None:
    """Whole steps below 1.9 and 0.3; gradient -sum g[t] (y[t] - y[t-1])."""
    delay = Delay()
    x = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]).reshape(3, 1, 2).requires_grad_()
    delay(x)
    delay.delay.data = torch.tensor([1.9, 0.3])
    y = delay(x)
    assert y[:, 0].T.tolist() == [[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
    y.backward(torch.tensor([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]]).reshape(3, 1, 2))
    assert x.grad[:, 0].T.tolist() == [[2.0, 4.0, 0.0], [1.0, 2.0, 4.0]]
    assert delay.delay.grad.tolist() == [-(2.0 - 4.0), -(1.0 - 4.0)]


def test_delays_are_drawn_once_and_limited() -> None:
    delay = Delay(generator=seeded(1))
    x = torch.zeros(3, 1, 4)
    delay(x)
    drawn = delay.delay.detach().clone()
    assert drawn.shape == (4,)
    assert ((drawn >= 0) & (drawn < 1)).all()
    delay(x)
    assert torch.equal(delay.delay, drawn)
    delay.delay.data = torch.tensor([-1.0, 70.0, 0.0, 0.0])
    assert torch.equal(delay(torch.ones(3, 1, 4))[:, 0, 1], torch.zeros(3))
    assert delay.delay.tolist() == [0.0, 62.0, 0.0, 0.0]
    with pytest.raises(GraphError, match="5 channels, there are 4 delays"):
        delay(torch.zeros(3, 1, 5))


# SLAYER's layout and names ---------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 4, 5, 7)])
def test_layout_there_and_back(shape) -> None:
    x = torch.rand(shape)
    moved = to_time_first(x)
    assert moved.shape == (7, *shape[:-1])
    assert torch.equal(moved[4, 1], x[1, ..., 4])
    assert moved.is_contiguous()
    assert torch.equal(from_time_first(moved), x)
    with pytest.raises(GraphError, match="is required"):
        to_time_first(x[0])


def test_slayer_layout_wraps_a_network() -> None:
    network = nn.Sequential(Conv(PARAMS, 2, 3, 3), Flatten(), Dense(PARAMS, 12, 4, count_log=True))
    x = random_spikes(5, 2, 4, 4, 9)
    spikes, count = SlayerLayout(network)(x)
    assert spikes.shape == (5, 4, 9)
    assert count.item() == spikes.mean().item()
    assert torch.equal(spikes, from_time_first(network(to_time_first(x))[0]))


def sample_network(**options) -> nn.ModuleList:
    return nn.ModuleList(
        [
            Conv(PARAMS, 2, 3, (3, 2), weight_norm=True, **options),
            Pool(PARAMS, 2),
            Flatten(),
            Dense({**PARAMS, "shared_param": False}, 12, 4, delay=True, **options),
            Dense(PARAMS, (1, 2, 3), 4, mask=torch.ones(4, 3, 2, 1), **options),
        ]
    )


def test_exported_names_and_shapes_are_slayers() -> None:
    shapes = {key: tuple(value.shape) for key, value in export_state_dict(sample_network()).items()}
    assert shapes == {
        "0.neuron.current_decay": (1,),
        "0.neuron.voltage_decay": (1,),
        "0.synapse.weight_g": (3, 1, 1, 1, 1),
        "0.synapse.weight_v": (3, 2, 3, 2, 1),
        "1.neuron.current_decay": (1,),
        "1.neuron.voltage_decay": (1,),
        "1.synapse.weight": (1, 1, 2, 2, 1),
        "3.neuron.current_decay": (1,),
        "3.neuron.voltage_decay": (1,),
        "3.delay.delay": (1,),
        "3.synapse.weight": (4, 12, 1, 1, 1),
        "4.neuron.current_decay": (1,),
        "4.neuron.voltage_decay": (1,),
        "4.synapse.weight": (4, 3, 2, 1, 1),
        "4.mask": (4, 3, 2, 1, 1),
    }


def test_export_and_import_are_inverse() -> None:
    source, target = sample_network(generator=seeded(1)), sample_network(generator=seeded(2))
    source[3](torch.zeros(1, 1, 12))  # draws decays and delays
    state = export_state_dict(source)
    import_state_dict(target, state)
    assert target[3].delay.delay.shape == (4,)
    again = export_state_dict(target)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], state[key]) for key in state)
    assert torch.equal(source[3](torch.ones(9, 1, 12)), target[3](torch.ones(9, 1, 12)))


def test_export_copies() -> None:
    block = Dense(PARAMS, 2, 2)
    export_state_dict(block)["synapse.weight"].zero_()
    assert block.synapse.weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("0.synapse.weight_g"), r"missing keys \['0\.synapse\.weight_g'\]"),
        (lambda state: state.update(extra=torch.zeros(1)), r"unknown keys \['extra'\]"),
        (
            lambda state: state.update({"3.synapse.weight": torch.zeros(4, 11, 1, 1, 1)}),
            r"3\.synapse\.weight: found shape \(4, 11, 1, 1, 1\), expected \(4, 12, 1, 1, 1\)",
        ),
        (
            lambda state: state.update({"3.synapse.weight": torch.zeros(4, 12)}),
            r"3\.synapse\.weight: found shape \(4, 12\), expected \(4, 12, 1, 1, 1\)",
        ),
        (
            lambda state: state.update({"0.neuron.current_decay": torch.zeros(3)}),
            r"0\.neuron\.current_decay: found shape \(3,\), expected \(1,\).*shared_param",
        ),
        (
            lambda state: state.update({"3.delay.delay": torch.zeros(5)}),
            r"3\.delay\.delay: found shape \(5,\), expected \(1,\)",
        ),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, message) -> None:
    network = sample_network()
    before = copy.deepcopy(network.state_dict())
    state = {key: value + 1 for key, value in export_state_dict(network).items()}
    change(state)
    with pytest.raises(CheckpointError, match=message):
        import_state_dict(network, state)
    after = network.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Dense(lif(), 2, 2), "neuron: LIF has no counterpart in SLAYER"),
        (Dense(PARAMS, 2, 2, bias=True), r"synapse\.bias: SLAYER's blocks have no such entry"),
        (Conv(PARAMS, 2, 2, 1, batch_norm=True), r"batch_norm\.\w+: SLAYER's blocks have no such"),
        (nn.Sequential(GlobalAverageReadout(2, 2)), r"0\.synapse\.\w+: belongs to no SLAYER block"),
    ],
)
def test_what_slayer_lacks_is_refused(module, message) -> None:
    with pytest.raises(CheckpointError, match=message):
        export_state_dict(module)
