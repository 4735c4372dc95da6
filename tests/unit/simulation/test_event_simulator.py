"""Time, feeds, batches and recordings of `EventSimulator`, on networks small enough for paper."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pytest

from neurodeploy.errors import (
    DataError,
    NeurodeployWarning,
    SimulationError,
)
from neurodeploy.ir import (
    Connection,
    CubaNeuron,
    DeltaNeuron,
    FixedConv,
    FixedDense,
    FixedInput,
    FixedLayer,
    FixedPointGraph,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.ir.graphs import INPUT
from neurodeploy.ir.integer_layers import (
    FixedInjection,
    Neuron,
    Shape,
    Synapse,
)
from neurodeploy.simulation import (
    EventSimulator,
    Feed,
    Record,
    Recording,
    Stream,
    Window,
)


def integers(*values: object) -> npt.NDArray[np.int32]:
    return np.array(*values, dtype=np.int32)


def cuba(threshold: int = 0, *, current_decay: int = 4096, voltage_decay: int = 4096) -> CubaNeuron:
    """By default a neuron that spikes in the very step in which its input is positive."""
    return CubaNeuron(
        current_decay=integers(current_decay),
        voltage_decay=integers(voltage_decay),
        threshold=integers(threshold),
    )


def dense(*rows: list[int], **options: npt.NDArray[np.int32]) -> FixedDense:
    return FixedDense(weight=integers(list(rows)), **options)


def layer(
    name: str,
    *connections: tuple[str, Synapse],
    neuron: Neuron | None = None,
    shape: Shape = (1,),
    bias: int = 0,
) -> FixedLayer:
    return FixedLayer(
        name=name,
        shape=shape,
        connections=tuple(Connection(source=s, synapse=synapse) for s, synapse in connections),
        neuron=neuron or cuba(),
        bias=integers(bias),
    )


def network(*layers: FixedLayer, shape: Shape = (1,), bits: int = 0) -> FixedPointGraph:
    return FixedPointGraph(input=FixedInput(shape=shape, message_bits=bits), layers=layers)


def chain(count: int) -> FixedPointGraph:
    """Layers that repeat their input."""
    sources = [INPUT, *(f"layer{index}" for index in range(count - 1))]
    return network(*(layer(f"layer{k}", (source, dense([1]))) for k, source in enumerate(sources)))


def run(
    graph: FixedPointGraph,
    *inputs: int,
    timing: Window | Stream = Window(),  # noqa: B008 - a frozen value, not shared state
) -> Recording:
    """One sample of one input neuron."""
    return EventSimulator(graph).run(integers(inputs)[None, :, None], timing=timing)


def spikes(recording: Recording) -> list[list[int]]:
    return [array[0].ravel().tolist() for array in recording.spikes]


def test_in_a_window_output_step_t_answers_input_step_t() -> None:
    assert spikes(run(chain(3), 1, 0, 1, 1)) == [[1, 0, 1, 1]] * 3


def test_in_a_stream_each_layer_is_one_step_later() -> None:
    """Layer k answers step t at step t + k + 1."""
    assert spikes(run(chain(3), 1, 0, 1, 1, 0, 0, timing=Stream())) == [
        [0, 1, 0, 1, 1, 0],
        [0, 0, 1, 0, 1, 1],
        [0, 0, 0, 1, 0, 1],
    ]


def test_a_stream_longer_than_the_input_repeats_it() -> None:
    assert spikes(run(chain(1), 1, 0, 0, timing=Stream(steps=8))) == [[0, 1, 0, 0, 1, 0, 0, 1]]
    assert spikes(run(chain(1), 1, 0, 0, timing=Stream(steps=2))) == [[0, 1]]


def test_biases_integrate_while_the_pipeline_fills_in_a_stream_only() -> None:
    integrator = cuba(1000, voltage_decay=0)
    graph = network(
        layer("a", (INPUT, dense([1]))),
        layer("b", ("a", dense([1])), bias=2, neuron=integrator),
    )
    assert run(graph, 1, 0, 0).voltage.ravel().tolist() == [64 * 3, 64 * 5, 64 * 7]
    assert run(graph, 1, 0, 0, timing=Stream()).voltage.ravel().tolist() == [128, 256, 384 + 64]


def test_resets_happen_where_lava_does_them() -> None:
    """Layer k restarts at steps t with t mod P == (offset + 1 + k) mod P, t from 1."""
    integrator = cuba(1000, voltage_decay=0)
    graph = network(
        layer("a", (INPUT, dense([1])), bias=1, neuron=integrator),
        layer("b", ("a", dense([1])), bias=1, neuron=integrator),
    )
    timing = Stream(steps=7, reset_interval=3, reset_offset=1)
    assert (run(graph, 0, timing=timing).voltage.ravel() // 64).tolist() == [1, 2, 1, 2, 3, 1, 2]
    timing = Stream(steps=7, reset_interval=3, reset_offset=0)
    assert (run(graph, 0, timing=timing).voltage.ravel() // 64).tolist() == [1, 1, 2, 3, 1, 2, 3]


def test_reset_interval_one_clears_before_every_step() -> None:
    integrator = cuba(1000, voltage_decay=0, current_decay=0)
    graph = network(layer("a", (INPUT, dense([1])), neuron=integrator))
    timing = Stream(steps=5, reset_interval=1)
    assert run(graph, 1, timing=timing).voltage.ravel().tolist() == [0, 64, 64, 64, 64]


def test_events_in_flight_survive_resets() -> None:
    """Reset at step 3 (column 2): the delayed event of step 1 arrives there and is kept."""
    delayed = dense([1], delay=integers([[1]]))
    graph = network(layer("a", (INPUT, delayed), neuron=cuba(1000, voltage_decay=0)))
    timing = Stream(reset_interval=4, reset_offset=2)
    assert run(graph, 1, 0, 0, 0, timing=timing).voltage.ravel().tolist() == [0, 0, 64, 64]


def test_delays_in_windows_end_with_the_window() -> None:
    delayed = dense([1], delay=integers([[2]]))
    graph = network(layer("a", (INPUT, delayed)))
    assert spikes(run(graph, 1, 0, 1, 0)) == [[0, 0, 1, 0]]


@pytest.mark.parametrize(("timing", "expected"), [(Window(), [1, 1, 1]), (Stream(), [0, 1, 1])])
def test_recurrence_is_one_step_late(timing: Window | Stream, expected: list[int]) -> None:
    """One event keeps the neuron firing; the second input makes the matrices mixed."""
    forward, backward = integers([[1, -1]]), integers([[1]])
    graph = network(
        layer(
            "a",
            (INPUT, FixedDense(weight=forward, partner=backward)),
            ("a", FixedDense(weight=backward, partner=forward)),
        ),
        shape=(2,),
    )
    recording = EventSimulator(graph).run(integers([[[1, 0], [0, 0], [0, 0]]]), timing=timing)
    assert spikes(recording) == [expected]


def test_skip_connections_add_up() -> None:
    """In a window both paths arrive together; in a stream the skip is one step ahead."""
    graph = network(
        layer("a", (INPUT, dense([1]))),
        layer("b", ("a", dense([1])), (INPUT, dense([3])), neuron=cuba(1000)),
    )
    assert (run(graph, 1, 0, 0, 0).voltage.ravel() // 64).tolist() == [4, 0, 0, 0]
    streamed = run(graph, 1, 0, 0, 0, timing=Stream())
    assert (streamed.voltage.ravel() // 64).tolist() == [0, 3, 1, 0]


def test_binary_and_graded_inputs() -> None:
    binary = network(layer("a", (INPUT, dense([1])), neuron=cuba(1000)))
    graded = network(layer("a", (INPUT, dense([1])), neuron=cuba(1000)), bits=4)
    with pytest.warns(NeurodeployWarning, match=r"values from -3 to 2.*--input-bits"):
        recording = run(binary, 2, -3, 0)
    assert (recording.voltage.ravel() // 64).tolist() == [1, 1, 0]
    assert (run(graded, 2, -3, 15).voltage.ravel() // 64).tolist() == [2, -3, 15]


def test_zeros_and_ones_on_a_binary_port_are_no_cause_to_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(chain(1), 0, 1)


def block(neuron: Neuron | None = None) -> FixedPointGraph:
    """An input block of two neurons."""
    first = layer("in", (INPUT, FixedInjection()), shape=(2,), neuron=neuron or cuba(2))
    return network(first, layer("out", ("in", dense([1, -1]))), shape=(2,))


@pytest.mark.parametrize("is_compiled", [True, False])
@pytest.mark.parametrize("bits", [0, 8])
def test_bytes_are_the_same_input_as_wider_integers(bits: int, is_compiled: bool) -> None:
    weight = np.random.default_rng(0).integers(-9, 10, (3, 1, 3, 3)).astype(np.int32)
    spatial = layer(
        "a", (INPUT, FixedConv(weight=weight)), neuron=cuba(500 if bits else 3), shape=(3, 2, 6)
    )
    simulator = EventSimulator(
        network(spatial, shape=(1, 4, 8), bits=bits), is_compiled=is_compiled
    )
    values = np.random.default_rng(1).choice(
        np.array([0, 1, 127, 128, 255] if bits else [0, 1]), (2, 3, 1, 4, 8)
    )
    first, *others = (
        simulator.run(values.astype(kind)) for kind in (np.int32, np.uint8, np.int64, np.uint16)
    )
    assert first.spike_totals() != (0,)
    for other in others:
        assert np.array_equal(other.spikes_of(0), first.spikes_of(0))
        assert np.array_equal(other.voltage, first.voltage)


def test_an_input_block_takes_values_without_delay() -> None:
    values = integers([[[3, 2], [2, -300], [0, 70000]]])
    for timing, late in ((Window(), [1, 0, 0]), (Stream(), [0, 1, 0])):
        recording = EventSimulator(block()).run(values, timing=timing, feed=Feed.NEURON)
        assert recording.spikes[0].tolist() == [[[1, 0], [0, 0], [0, 1]]]
        assert recording.spikes[1].ravel().tolist() == late


def test_an_input_block_takes_an_image_as_its_bias() -> None:
    """Voltage 2, then 4 above threshold 3; the other neuron stays below."""
    integrator = cuba(3, voltage_decay=0)
    recording = EventSimulator(block(integrator)).run(
        integers([[2, 1], [0, 5]]), timing=Stream(steps=4), feed=Feed.BIAS
    )
    assert recording.spikes[0][0].T.tolist() == [[0, 1, 0, 1], [0, 0, 0, 1]]
    assert recording.spikes[0][1].T.tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("values", "feed", "error", "message"),
    [
        (np.ones((1, 2, 3), int), Feed.PORT, DataError, r"\(samples, T, 1\) is required"),
        (np.ones((1, 2), int), Feed.PORT, DataError, "is required"),
        (np.ones((3, 1), int), Feed.PORT, DataError, r"no T axis: show each in T steps, .*repeat"),
        (np.ones((0, 2, 1), int), Feed.PORT, DataError, "at least one sample"),
        (np.ones((1, 0, 1), int), Feed.PORT, DataError, "at least one sample"),
        (np.ones((1, 2, 1)), Feed.PORT, DataError, "float64, integers are required"),
        (np.full((1, 2, 1), "1"), Feed.PORT, DataError, "integers are required"),
        (np.full((1, 2, 1), 16), Feed.PORT, DataError, "do not fit 4 message bits"),
        (np.full((1, 2, 1), -16), Feed.PORT, DataError, "do not fit 4 message bits"),
        (np.ones((1, 2, 1), int), Feed.NEURON, SimulationError, "needs an input block"),
        (np.ones((1, 1), int), Feed.BIAS, SimulationError, "needs an input block"),
    ],
)
def test_wrong_input_to_a_port(
    values: npt.NDArray[np.integer], feed: Feed, error: type[Exception], message: str
) -> None:
    graph = network(layer("a", (INPUT, dense([1]))), bits=4)
    with pytest.raises(error, match=message):
        EventSimulator(graph).run(values, feed=feed)


@pytest.mark.parametrize(
    ("values", "feed", "error", "message"),
    [
        (np.ones((1, 2, 2), int), Feed.PORT, SimulationError, "--feed neuron or --feed bias"),
        (np.full((1, 2, 2), 2**31), Feed.NEURON, DataError, "exceed 32 bits"),
        (np.full((1, 2), 2**15), Feed.BIAS, DataError, "do not fit the bias"),
        (np.ones((1, 2), int), Feed.BIAS, SimulationError, "how many steps"),
    ],
)
def test_wrong_input_to_an_input_block(
    values: npt.NDArray[np.integer], feed: Feed, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        EventSimulator(block()).run(values, feed=feed)


def test_a_delta_block_has_no_bias() -> None:
    neuron = DeltaNeuron(threshold=1, spike_exponent=6)
    delta = layer("in", (INPUT, FixedInjection()), neuron=neuron)
    with pytest.raises(SimulationError, match="--feed neuron"):
        EventSimulator(network(delta)).run(integers([[1]]), feed=Feed.BIAS, timing=Stream(steps=1))


@pytest.mark.parametrize(
    ("timing", "message"),
    [
        (Window(steps=3), "the input has 2 steps a sample, the window 3"),
        (Stream(steps=0), "0 steps"),
        (Stream(reset_interval=0), "reset interval 0"),
        (Stream(reset_offset=-1), "reset offset -1"),
    ],
)
def test_impossible_timing(timing: Window | Stream, message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        run(chain(1), 1, 1, timing=timing)


def test_a_flat_port_reads_images_channel_first() -> None:
    graph = network(layer("a", (INPUT, dense([1, 2, 4, -8])), neuron=cuba(1000)), shape=(4,))
    image = integers(np.zeros((1, 1, 2, 1, 2)))
    image[0, 0, 1, 0, 0] = 1
    assert EventSimulator(graph).run(image).voltage.ravel().tolist() == [4 * 64]


def test_spatial_layers_keep_their_axes() -> None:
    conv = FixedConv(weight=integers(np.arange(1, 7).reshape(3, 2, 1, 1)))
    graph = network(
        layer("conv", (INPUT, conv), shape=(3, 2, 4), neuron=cuba(1000)),
        shape=(2, 2, 4),
    )
    image = integers(np.zeros((1, 1, 2, 2, 4)))
    image[0, 0, 1, 1, 3] = 1
    voltage = EventSimulator(graph).run(image).voltage
    assert voltage.shape == (1, 1, 3, 2, 4)
    assert (voltage[0, 0, :, 1, 3] // 64).tolist() == [2, 4, 6]
    assert np.count_nonzero(voltage) == 3


def test_what_is_recorded() -> None:
    recording = run(chain(2), 1, 0)
    assert recording.layers == ("layer0", "layer1")
    assert (recording.samples, recording.steps) == (1, 2)
    assert recording.final_states is None
    assert set(recording.traces) == {"current", "voltage"}
    assert [spikes.dtype for spikes in recording.spikes] == [np.uint8, np.uint8]
    assert recording.voltage.dtype == np.int32
    everything = EventSimulator(chain(2)).run(
        integers([[[1], [0]]]), record=Record(final_states=True)
    )
    assert everything.final_states is not None
    assert [sorted(states) for states in everything.final_states] == [["current", "voltage"]] * 2
    assert everything.health is not None
    assert [health.current_peak for health in everything.health] == [64, 64]


def test_a_layer_without_voltage_says_so() -> None:
    recording = run(network(layer("a", (INPUT, dense([1])), neuron=SigmaNeuron())), 1, 1)
    assert recording.traces["sigma"].ravel().tolist() == [1, 2]
    with pytest.raises(SimulationError, match="has no voltage; it has sigma"):
        _ = recording.voltage


def test_results_do_not_depend_on_the_batch_size() -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(-9, 9, (4, 5), dtype=np.int32)
    graph = network(
        FixedLayer(
            name="a",
            shape=(4,),
            connections=(Connection(source=INPUT, synapse=FixedDense(weight=weight)),),
            neuron=cuba(3, voltage_decay=300),
            bias=integers(1),
        ),
        shape=(5,),
    )
    inputs = rng.integers(0, 2, (7, 6, 5), dtype=np.int32)
    whole = EventSimulator(graph).run(inputs, record=Record(final_states=True))
    seen: list[tuple[int, int]] = []
    parts = EventSimulator(graph, batch_bytes=1).run(
        inputs,
        record=Record(final_states=True),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 7) for done in range(1, 8)]
    np.testing.assert_array_equal(whole.spikes[0], parts.spikes[0])
    np.testing.assert_array_equal(whole.voltage, parts.voltage)
    assert whole.final_states is not None
    assert parts.final_states is not None
    np.testing.assert_array_equal(
        whole.final_states[0]["voltage"], parts.final_states[0]["voltage"]
    )
    assert whole.health == parts.health


def test_a_recurrent_synapse_reads_events_as_the_forward_one_does() -> None:
    """Behind a binary port, a sigma-delta layer's own messages count as one each; Lava's rule."""
    forward, backward = integers([[128, -128]]), integers([[32]])
    connections = (
        (INPUT, FixedDense(weight=forward, partner=backward)),
        ("a", FixedDense(weight=backward, partner=forward)),
    )
    neuron = SigmaDeltaNeuron(threshold=0, spike_exponent=0)
    one_spike = integers([[[1, 0], [0, 0], [0, 0]]])
    # sigma 128 sends 128 >> 6 = 2; that comes back as 32 · 2 or as 32 · 1.
    graded = network(layer("a", *connections, neuron=neuron), shape=(2,), bits=4)
    sigma = EventSimulator(graded).run(one_spike).traces["sigma"]
    assert sigma.ravel().tolist() == [128, 128 + 64, 128 + 64 + 32]
    binary = network(layer("a", *connections, neuron=neuron), shape=(2,))
    sigma = EventSimulator(binary).run(one_spike).traces["sigma"]
    assert sigma.ravel().tolist() == [128, 128 + 32, 128 + 32 + 0]


def test_resets_that_lava_does_not_do_are_announced() -> None:
    sigma = network(layer("a", (INPUT, dense([1])), neuron=SigmaNeuron()))
    with pytest.warns(NeurodeployWarning, match="a cannot be reset"):
        recording = run(sigma, 1, 1, 1, timing=Stream(reset_interval=2))
    assert recording.traces["sigma"].ravel().tolist() == [0, 1, 2]


def test_a_path_is_no_network() -> None:
    with pytest.raises(SimulationError, match=r"str in place of a FixedPointGraph.*netx\.read"):
        EventSimulator("network.net")


@pytest.mark.parametrize("threads", [0, -1])
def test_at_least_one_thread_is_needed(threads: int) -> None:
    with pytest.raises(SimulationError, match=f"{threads} threads, at least 1"):
        EventSimulator(chain(1), threads=threads)


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_of_large_values_of_either_sign_are_exact(sign: int) -> None:
    """Kernels choose their width by the largest size of a value, whatever its sign."""
    rng = np.random.default_rng(0)
    weight = 2 * rng.integers(-127, 128, (40, 1, 1, 1), dtype=np.int32)
    synapse = FixedConv(weight=weight)
    graph = network(
        layer("a", (INPUT, synapse), neuron=cuba(2000), shape=(40, 6, 6)), shape=(1, 6, 6), bits=24
    )
    inputs = sign * rng.integers(0, 40_000, (2, 3, 1, 6, 6), dtype=np.int32)
    compiled, plain = (
        EventSimulator(graph, is_compiled=is_compiled).run(inputs, record=Record(final_states=True))
        for is_compiled in (True, False)
    )
    assert compiled.final_states is not None
    assert plain.final_states is not None
    for name in ("current", "voltage"):
        np.testing.assert_array_equal(compiled.final_states[0][name], plain.final_states[0][name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"feed": "pin"},
            r"feed is 'pin', one of Feed\.PORT, Feed\.NEURON, Feed\.BIAS is required",
        ),
        ({"timing": 3}, "timing is 3, a Window or a Stream is required"),
    ],
)
def test_unknown_feeds_and_timings_are_refused(options: dict[str, object], message: str) -> None:
    graph = network(layer("a", (INPUT, dense([1]))))
    with pytest.raises(SimulationError, match=message):
        EventSimulator(graph).run(integers([[[1]]]), **options)


def test_the_text_of_a_feed_is_that_feed() -> None:
    """Compared as it is, "bias" would be none of them, and be run as an input of spikes."""
    block = layer("in", (INPUT, FixedInjection()), neuron=cuba(2, voltage_decay=0))
    graph, image = network(block), integers([[1], [3]])
    expected = EventSimulator(graph).run(image, timing=Window(steps=4), feed=Feed.BIAS)
    found = EventSimulator(graph).run(image, timing=Window(steps=4), feed="bias")
    np.testing.assert_array_equal(found.spikes_of(0), expected.spikes_of(0))
    assert expected.spike_totals() == (1 + 4,)


def test_the_name_of_one_layer_is_no_list_of_names() -> None:
    with pytest.raises(SimulationError, match=r"spikes is 'ab', a tuple .* spikes=\('ab',\)"):
        Record(spikes="ab")


@pytest.mark.parametrize("is_compiled", [True, False])
def test_graded_events_are_static_only_if_no_sample_changes_them(is_compiled: bool) -> None:
    """The second of three samples changes; each runs by itself."""
    graph = network(layer("a", (INPUT, dense([1])), neuron=SigmaNeuron()), bits=8)
    inputs = np.zeros((3, 4, 1), np.int32)
    simulator = EventSimulator(graph, batch_bytes=1, threads=1, is_compiled=is_compiled)

    def is_static() -> bool:
        recording = simulator.run(inputs, record=Record(spikes=(), counts=True))
        assert recording.events is not None
        return recording.events[0].is_static

    assert is_static()
    inputs[1, 2] = 5
    assert not is_static()


def test_errors_of_others_are_not_taken_for_those_of_a_cache() -> None:
    def fail(done: int, total: int) -> None:
        raise LookupError("the listener's own")

    with pytest.raises(LookupError, match="the listener's own"):
        EventSimulator(chain(1)).run(np.ones((1, 2, 1), np.int32), progress=fail)


@pytest.mark.parametrize("threads", [1, 2])
def test_samples_run_in_a_few_groups_a_thread(threads: int) -> None:
    """Groups are as large as memory allows: small ones would cost time."""
    seen: list[int] = []
    EventSimulator(chain(2), threads=threads).run(
        np.ones((800, 2, 1), np.int32), progress=lambda done, total: seen.append(done)
    )
    assert seen[-1] == 800
    assert len(seen) == 4 * threads


def test_negative_spikes_on_a_binary_port_are_a_cause_to_warn() -> None:
    binary = network(layer("a", (INPUT, dense([1])), neuron=cuba(1000)))
    with pytest.warns(NeurodeployWarning, match="values from -1 to 1 on a binary port"):
        recording = run(binary, 1, -1, 0)
    assert (recording.voltage.ravel() // 64).tolist() == [1, 1, 0]


def test_an_image_as_bias_reaches_the_input_block_only() -> None:
    block_and_more = network(
        layer("block", (INPUT, FixedInjection()), shape=(2,)),
        layer("a", ("block", dense([1, 1])), (INPUT, dense([1, 1]))),
        shape=(2,),
    )
    with pytest.raises(SimulationError, match="only the input block reads the input"):
        EventSimulator(block_and_more).run(
            np.ones((1, 2), np.int32), feed=Feed.BIAS, timing=Window(steps=2)
        )


def test_spikes_are_static_only_if_every_neuron_sends_always_or_never() -> None:
    graph = network(layer("a", (INPUT, dense([1, 0], [0, 1])), shape=(2,)), shape=(2,))
    inputs = np.zeros((1, 4, 2), np.int32)
    inputs[..., 0] = 1

    def is_static() -> bool:
        recording = EventSimulator(graph).run(inputs, record=Record(spikes=(), counts=True))
        assert recording.events is not None
        return recording.events[0].is_static

    assert is_static()
    inputs[0, 2, 1] = 1
    assert not is_static()
