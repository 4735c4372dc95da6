"""One neuron, step by step, by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from neurodeploy.errors import SimulationError
from neurodeploy.ir import (
    Connection,
    CubaNeuron,
    DeltaNeuron,
    FixedComplexDense,
    FixedDense,
    FixedLayer,
    ResonateFireNeuron,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.ir.graphs import INPUT, FixedInput, FixedPointGraph
from neurodeploy.ir.integer_layers import (
    IntegerNeuron,
    LimitedParameter,
    Neuron,
    NeuronModel,
    Synapse,
)
from neurodeploy.simulation import EventSimulator
from neurodeploy.simulation.counters import UpdateCounter
from neurodeploy.simulation.neurons import Dynamics, start_dynamics


def integers(*values: object) -> npt.NDArray[np.int32]:
    return np.array(*values, dtype=np.int32)


def start(neuron: Neuron, *, bias: int = 0) -> Dynamics:
    synapse: Synapse = FixedDense(weight=integers([[1]]))
    if isinstance(neuron, ResonateFireNeuron):
        synapse = FixedComplexDense(real=synapse, imaginary=synapse)
    layer = FixedLayer(
        name="one",
        shape=(1,),
        connections=(Connection(source=INPUT, synapse=synapse),),
        neuron=neuron,
        bias=integers(bias),
    )
    return start_dynamics(layer, 1)


def walk(neurons: Dynamics, *arriving: object) -> list[tuple[int, ...]]:
    """(event, states ...) after each step."""
    result = []
    for values in arriving:
        event = neurons.step(np.array([[values]], np.int64))
        assert event.dtype == np.int32
        result.append((int(event[0, 0]), *(int(s[0, 0]) for s in neurons.states().values())))
    return result


def cuba(current_decay: int, voltage_decay: int, threshold: int) -> CubaNeuron:
    return CubaNeuron(
        current_decay=integers(current_decay),
        voltage_decay=integers(voltage_decay),
        threshold=integers(threshold),
    )


def test_a_voltage_adds_up_and_is_reset_by_a_spike() -> None:
    """Threshold 10 = 640 in the state; a spike needs more than that, and keeps the current."""
    neurons = start(cuba(4096, 0, 10))
    assert list(neurons.states()) == ["current", "voltage"]
    assert walk(neurons, 4, 6, 1, 3) == [(0, 256, 256), (0, 384, 640), (1, 64, 0), (0, 192, 192)]


def test_current_and_voltage_decay_towards_zero() -> None:
    """Current: half a step, voltage: a quarter; 192 · 1/2 = 96, 192 · 3/4 + 96 = 240."""
    assert walk(start(cuba(2048, 1024, 1000)), 3, 0, 0) == [
        (0, 192, 192),
        (0, 96, 240),
        (0, 48, 228),
    ]
    assert walk(start(cuba(2048, 1024, 1000)), -1, 0, 0, 0, 0, 0, 0) == [
        (0, -64, -64),
        (0, -32, -80),
        (0, -16, -76),
        (0, -8, -65),
        (0, -4, -52),
        (0, -2, -41),
        (0, -1, -31),  # -41 · 3/4 = -30.75, towards zero
    ]


def test_a_bias_is_added_to_the_voltage_every_step() -> None:
    assert walk(start(cuba(4096, 0, 5), bias=2), 0, 0, 0) == [(0, 0, 128), (0, 0, 256), (1, 0, 0)]


@pytest.mark.parametrize(("stored", "acting"), [(40000, -25536), (-32769, 32767)])
def test_a_bias_is_held_in_16_bits(stored: int, acting: int) -> None:
    ((_, _, voltage),) = walk(start(cuba(4096, 0, 131071), bias=stored), 0)
    assert voltage == acting * 64


def test_a_current_wraps_once_at_24_bits() -> None:
    """131072 · 64 = 2**23 is the last value that stays; one more turns round."""
    neurons = start(cuba(4096, 4096, 131072))
    assert walk(neurons, 131072, 131073, -131072) == [
        (0, 2**23, 2**23 - 1),
        (0, 2**23 + 64 - 2**24, -(2**23) + 64),
        (0, 2**23, 2**23 - 1),
    ]
    assert neurons.health().current_wraps == 2
    assert neurons.health().voltage_clips == 2


def test_a_large_current_stays_large_after_one_turn_and_wraps_at_32_bits() -> None:
    """2**30 - 2**24 remains after one turn; doubling it leaves 32 bits."""
    neurons = start(cuba(0, 4096, 131072))
    first = 2**30 - 2**24
    assert walk(neurons, 2**24) == [(0, first, 2**23 - 1)]
    second = first + 2**30 - 2**24  # below 2**31
    assert walk(neurons, 2**24) == [(0, second, 2**23 - 1)]
    third = second + 2**30 - 2**32 + 2**24  # wrapped to 32 bits: negative, so the turn adds
    assert walk(neurons, 2**24) == [(0, third, -(2**23) + 1)]
    assert neurons.health().current_peak == second + 2**30


def test_a_voltage_sum_wraps_at_32_bits_before_it_is_clipped() -> None:
    """Only a decay outside the range gets there: 256 times 2**23 - 1, plus 1024, turns negative."""
    neurons = start(cuba(4096, 4096 - 256 * 4096, 131072))
    assert walk(neurons, 131072, 3, -4) == [
        (0, 2**23, 2**23 - 1),
        (0, 192, 2**23 - 1),
        (0, -256, 2**23 - 1),
    ]
    assert walk(neurons, 16) == [(0, 1024, -(2**23) + 1)]


def test_thresholds_at_the_end_of_the_range() -> None:
    """131071 spikes at the clip value only, 131072 never."""
    assert walk(start(cuba(4096, 0, 131071)), 131071, 1) == [
        (0, 131071 * 64, 131071 * 64),
        (1, 64, 0),
    ]
    assert walk(start(cuba(4096, 0, 131072)), 131071, 131071)[1] == (0, 131071 * 64, 2**23 - 1)


def test_parameters_of_every_neuron() -> None:
    neuron = CubaNeuron(
        current_decay=integers([4096, 0]),
        voltage_decay=integers([0, 4096]),
        threshold=integers([1, 2]),
    )
    layer = FixedLayer(
        name="two",
        shape=(2,),
        connections=(Connection(source=INPUT, synapse=FixedDense(weight=integers([[1], [2]]))),),
        neuron=neuron,
        bias=integers([0, 1]),
    )
    neurons = start_dynamics(layer, 1)
    spikes = [neurons.step(np.array([[1, 1]])).tolist() for _ in range(3)]
    assert spikes == [[[0, 0]], [[1, 1]], [[0, 1]]]


def test_a_reset_clears_states_and_keeps_the_peaks() -> None:
    neurons = start(cuba(0, 0, 100))
    walk(neurons, 5)
    neurons.reset()
    assert walk(neurons, 1) == [(0, 64, 64)]
    assert neurons.health().voltage_peak == 5 * 64


def test_a_delta_neuron_sends_changes_and_keeps_what_it_did_not_send() -> None:
    """Exponent 0, threshold 3: values times 64, a change of 2 stays, then 4 goes out."""
    neurons = start(DeltaNeuron(threshold=3, spike_exponent=0))
    assert list(neurons.states()) == ["sigma", "activation", "residue"]
    assert walk(neurons, 5, 7, 9, 6, 6) == [
        (5, 0, 320, 0),
        (0, 0, 448, 128),
        (4, 0, 576, 0),
        (-3, 0, 384, 0),  # reaching the threshold is enough
        (0, 0, 384, 0),
    ]


def test_a_sigma_delta_neuron_sums_rectifies_and_sends_changes() -> None:
    """Exponent 0: one unit of bias is 64 units of sigma; o >> 6 floors what is sent."""
    neurons = start(SigmaDeltaNeuron(threshold=1, spike_exponent=0), bias=2)
    assert walk(neurons, -200, 100, 30, -60) == [
        (0, -200, 0, 0),
        (0, -100, 28, 28),
        (0, -70, 58, 58),
        (0, -130, 0, 0),
    ]
    assert walk(start(SigmaDeltaNeuron(threshold=1, spike_exponent=0)), 65, -65) == [
        (1, 65, 65, 0),
        (-2, 0, 0, 0),
    ]


def test_threshold_zero_sends_every_step() -> None:
    assert walk(start(SigmaDeltaNeuron(threshold=0, spike_exponent=0)), 0, 64, 0) == [
        (0, 0, 0, 0),
        (1, 64, 64, 0),
        (0, 64, 64, 0),
    ]


def test_sigma_delta_states_wrap_at_32_bits() -> None:
    neurons = start(SigmaDeltaNeuron(threshold=0, spike_exponent=0))
    assert walk(neurons, 2**31 - 1, 1) == [
        ((2**31 - 1) >> 6, 2**31 - 1, 2**31 - 1, 0),
        (-(2**31 - 1) >> 6, -(2**31), 0, 0),
    ]
    assert neurons.health().current_wraps == 1


def test_the_smallest_integer_is_never_sent() -> None:
    """Its size is -2**31 in int32, below any threshold: it stays in the residue."""
    neurons = start(DeltaNeuron(threshold=0, spike_exponent=0))
    assert walk(neurons, -(2**25)) == [(0, 0, -(2**31), -(2**31))]


def test_a_sigma_neuron_sends_its_sum_every_step() -> None:
    neurons = start(SigmaNeuron())
    assert walk(neurons, 5, 0, -7) == [(5, 5), (5, 5), (-2, -2)]
    assert walk(neurons, 2**31 - 1, 3) == [(2**31 - 3, 2**31 - 3), (-(2**31), -(2**31))]
    assert neurons.health().current_wraps == 1


def test_a_resonator_turns_its_state() -> None:
    """A quarter turn a step without shrinking: real to imaginary to minus real."""
    quarter = ResonateFireNeuron(sine_decay=4096, cosine_decay=0, threshold=2, is_phase=True)
    assert quarter.rotation == (4096, 0)
    neurons = start(quarter)
    assert list(neurons.states()) == ["real", "imag"]
    assert walk(neurons, (3, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)) == [
        (0, 192, 0),
        (0, 0, 192),
        (0, -192, 0),
        (0, 0, -192),
        (1, 192, 0),  # passes phase zero with a real part of at least 128
        (0, 0, 192),
    ]


def test_a_resonator_that_fires_by_level_is_reset() -> None:
    level = ResonateFireNeuron(sine_decay=4096, cosine_decay=0, threshold=2, is_phase=False)
    assert walk(start(level), (3, 0), (0, 0), (0, 0)) == [
        (0, 192, 0),
        (1, 0, 127),  # imaginary part just below the threshold
        (0, -127, 0),
    ]


def test_a_resonator_clips_at_24_bits_and_wraps_its_input_at_32() -> None:
    still = ResonateFireNeuron(sine_decay=0, cosine_decay=4096, threshold=1, is_phase=True)
    neurons = start(still)
    assert walk(neurons, (2**20, -(2**20)))[0][1:] == (2**23 - 1, -(2**23) + 1)
    assert (neurons.health().current_wraps, neurons.health().voltage_clips) == (1, 1)
    assert walk(start(still), (2**25, 2**26 + 1))[0][1:] == (-(2**23) + 1, 64)


@pytest.mark.parametrize(
    "neuron",
    [
        DeltaNeuron(threshold=1, spike_exponent=0),
        SigmaDeltaNeuron(threshold=1, spike_exponent=0),
        SigmaNeuron(),
        ResonateFireNeuron(sine_decay=0, cosine_decay=4096, threshold=1, is_phase=True),
    ],
)
def test_other_neurons_have_no_reset(neuron: Neuron) -> None:
    """Lava resets leaky integrate-and-fire neurons only."""
    neurons, untouched = start(neuron), start(neuron)
    values = (100, 50) if isinstance(neuron, ResonateFireNeuron) else 100
    walk(neurons, values)
    walk(untouched, values)
    neurons.reset()
    assert walk(neurons, values) == walk(untouched, values)


class StrangeNeuron(IntegerNeuron):
    label = "strange"
    states = ("current", "voltage")
    is_graded = False
    model = NeuronModel.IF

    def limited(self) -> tuple[LimitedParameter, ...]:
        return ()


def test_a_neuron_of_an_unknown_kind_is_refused() -> None:
    """Neither run nor counted by the rule of another kind."""
    known = CubaNeuron(
        current_decay=integers(4096), voltage_decay=integers(0), threshold=integers(1)
    )
    synapse = Connection(source=INPUT, synapse=FixedDense(weight=integers([[1]])))
    layer = FixedLayer(
        name="one", shape=(1,), connections=(synapse,), neuron=StrangeNeuron(), bias=integers(0)
    )
    graph = FixedPointGraph(input=FixedInput(shape=(1,)), layers=(layer,))
    for is_compiled in (True, False):
        with pytest.raises(SimulationError, match=r"StrangeNeuron .*neurons\.start_dynamics has"):
            EventSimulator(graph, is_compiled=is_compiled).run(integers([[[1]]]))
    counter = UpdateCounter(layer, 1, None)
    with pytest.raises(SimulationError, match=r"StrangeNeuron .*counters\.UpdateCounter has no"):
        counter.count_active(start(known), np.zeros((1, 1), bool))
