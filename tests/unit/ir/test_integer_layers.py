"""What an integer layer accepts and refuses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from neurodeploy.errors import GraphError
from neurodeploy.ir import (
    Connection,
    CubaNeuron,
    DeltaNeuron,
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedInput,
    FixedLayer,
    FixedPointGraph,
    ResonateFireNeuron,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.ir.graphs import INPUT
from neurodeploy.ir.integer_layers import FixedInjection, IntegerNeuron, Neuron, Synapse


def integers(*values: object) -> npt.NDArray[np.int32]:
    return np.array(*values, dtype=np.int32)


def cuba(threshold: object = 10) -> CubaNeuron:
    return CubaNeuron(
        current_decay=integers(4096), voltage_decay=integers(0), threshold=integers(threshold)
    )


RESONATOR = ResonateFireNeuron(sine_decay=100, cosine_decay=3000, threshold=5, is_phase=True)


def dense(*rows: list[int]) -> FixedDense:
    return FixedDense(weight=integers(list(rows)))


def layer(
    synapse: Synapse,
    neuron: Neuron | None = None,
    *,
    shape: tuple[int, ...] = (2,),
    bias: npt.NDArray[np.int32] | None = None,
    source: str = INPUT,
) -> FixedLayer:
    return FixedLayer(
        name="layer",
        shape=shape,
        connections=(Connection(source=source, synapse=synapse),),
        neuron=neuron or cuba(),
        bias=integers(0) if bias is None else bias,
    )


def test_no_float_can_be_stored() -> None:
    with pytest.raises(GraphError, match="float64, int32 is required"):
        FixedDense(weight=np.ones((2, 2)))  # type: ignore[arg-type] # the mistake under test
    with pytest.raises(GraphError, match="neuron threshold: dtype float64"):
        CubaNeuron(
            current_decay=integers(0),
            voltage_decay=integers(0),
            threshold=np.array(1.0),  # type: ignore[arg-type] # the mistake under test
        )
    with pytest.raises(GraphError, match="layer bias: dtype int64"):
        layer(dense([1, 2], [3, 4]), bias=np.zeros(2, np.int64))  # type: ignore[arg-type] # same


@pytest.mark.parametrize(
    ("source", "expected"),
    [((2, 5, 7), (4, 5, 3)), ((2, 3, 3), (4, 3, 1))],
)
def test_conv_output_shape(source: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """H: 5 + 2 - 3 + 1 = 5;  W: (7 + 0 - 3) // 2 + 1 = 3."""
    conv = FixedConv(weight=integers(np.ones((4, 2, 3, 2))), stride=(1, 2), padding=(1, 0),
                     dilation=(1, 2))  # fmt: skip
    assert conv.output_shape(source) == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((3, 5, 5), "3 channels, the weight reads 4"),
        ((4, 2, 5), "larger than the source"),
        ((100,), r"\(C, H, W\) is required"),
    ],
)
def test_conv_refuses_other_sources(source: tuple[int, ...], message: str) -> None:
    conv = FixedConv(weight=integers(np.ones((4, 2, 3, 3))), groups=2)
    with pytest.raises(GraphError, match=message):
        conv.output_shape(source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": (0, 1)}, "stride"),
        ({"padding": (-1, 0)}, "padding"),
        ({"dilation": (1, 0)}, "dilation"),
        ({"groups": 3}, "3 groups do not divide 4"),
        ({"groups": 0}, "0 groups"),
    ],
)
def test_conv_refuses_bad_geometry(options: dict[str, tuple[int, int]], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        FixedConv(weight=integers(np.ones((4, 2, 3, 3))), **options)  # type: ignore[arg-type] # mixed


def test_a_delay_must_fit_weight_and_range() -> None:
    weight = integers([[1, 2]])
    with pytest.raises(GraphError, match="shape"):
        FixedDense(weight=weight, delay=integers([1]))
    with pytest.raises(GraphError, match="0 to 62 are allowed"):
        FixedDense(weight=weight, delay=integers([[1, 63]]))


def test_weights_of_zero_are_named() -> None:
    with pytest.raises(GraphError, match="all weights are zero"):
        _ = dense([0, 0]).effective


@pytest.mark.parametrize("size", [2**25, -(2**25), 2**31 - 1])
def test_parameters_beyond_lavas_integers_are_refused(size: int) -> None:
    with pytest.raises(GraphError, match="threshold"):
        cuba(size)


@pytest.mark.parametrize(("threshold", "exponent"), [(-1, 6), (1 << 19, 6), (0, -1), (0, 25)])
def test_sigma_delta_parameters_beyond_lavas_integers_are_refused(
    threshold: int, exponent: int
) -> None:
    for neuron in (DeltaNeuron, SigmaDeltaNeuron):
        with pytest.raises(GraphError):
            neuron(threshold=threshold, spike_exponent=exponent)


@pytest.mark.parametrize("shape", [(3,), (2, 1, 1), (4, 3, 2), (1, 1, 1, 1)])
def test_parameters_must_fit_the_layer(shape: tuple[int, ...]) -> None:
    conv = FixedConv(weight=integers(np.ones((3, 2, 1, 1))))
    values = integers(np.ones(shape))
    with pytest.raises(GraphError, match="threshold of shape"):
        layer(conv, cuba(values), shape=(3, 4, 4))
    with pytest.raises(GraphError, match="bias of shape"):
        layer(conv, shape=(3, 4, 4), bias=values)


@pytest.mark.parametrize(
    ("neuron", "synapse"),
    [
        (DeltaNeuron(threshold=1, spike_exponent=6), FixedInjection()),
        (SigmaNeuron(), dense([1, 2], [3, 4])),
        (RESONATOR, FixedComplexDense(real=dense([1, 2]), imaginary=dense([3, 4]))),
    ],
)
def test_neurons_without_a_bias(neuron: Neuron, synapse: Synapse) -> None:
    with pytest.raises(GraphError, match="have none"):
        layer(synapse, neuron, bias=integers([1, 0]))


def test_a_neuron_of_a_new_kind_must_state_its_arithmetic_and_limits() -> None:
    class Incomplete(IntegerNeuron):
        is_graded = False

    with pytest.raises(TypeError, match=r"limited.*model"):
        Incomplete()  # type: ignore[abstract]
    with pytest.raises(GraphError, match="neuron of type object, an IntegerNeuron is required"):
        layer(dense([1, 2]), neuron=object())  # type: ignore[arg-type]


def test_resonators_and_complex_weights_need_each_other() -> None:
    pair = FixedComplexDense(real=dense([1], [2]), imaginary=dense([3], [4]))
    layer(pair, RESONATOR)
    with pytest.raises(GraphError, match="need each other"):
        layer(pair)
    with pytest.raises(GraphError, match="need each other"):
        layer(dense([1], [2]), RESONATOR)


def test_both_parts_of_complex_weights_have_one_shape() -> None:
    with pytest.raises(GraphError, match="same shape"):
        FixedComplexDense(real=dense([1]), imaginary=dense([1, 2]))


def test_recurrence_is_dense_and_immediate() -> None:
    delayed = FixedDense(weight=integers(np.eye(2)), delay=integers([[1, 0], [0, 1]]))
    with pytest.raises(GraphError, match="recurrent synapse with delays"):
        layer(delayed, source="layer")
    conv = FixedConv(weight=integers(np.ones((2, 2, 1, 1))))
    with pytest.raises(GraphError, match="only dense synapses"):
        layer(conv, source="layer", shape=(2, 1, 1))


def graph(*layers: FixedLayer, shape: tuple[int, ...] = (2,)) -> FixedPointGraph:
    return FixedPointGraph(input=FixedInput(shape=shape), layers=layers)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), "no layers"),
        ((layer(dense([1, 1], [1, 1])),) * 2, "two layers are called 'layer'"),
        ((layer(dense([1, 1], [1, 1]), source="later"),), "'later', which is not a layer before"),
        ((layer(dense([1, 1, 1], [1, 1, 1])),), "'input' -> 'layer'.*has 2 values"),
        ((layer(dense([1, 1])),), r"gives \(1,\), the layer has \(2,\)"),
    ],
)
def test_a_graph_checks_itself(layers: tuple[FixedLayer, ...], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        graph(*layers)


@pytest.mark.parametrize("bits", [-1, 33])
def test_message_bits_have_a_range(bits: int) -> None:
    with pytest.raises(GraphError, match="message bits"):
        FixedInput(shape=(2,), message_bits=bits)


def test_values_count_after_graded_sources_only() -> None:
    first = layer(dense([1, 1], [1, 1]), SigmaDeltaNeuron(threshold=1, spike_exponent=6))
    second = FixedLayer(
        name="second",
        shape=(1,),
        connections=(Connection(source="layer", synapse=dense([1, 1])),),
        neuron=cuba(),
        bias=integers(0),
    )
    network = graph(first, second)
    assert [network.reads_values(each) for each in network] == [False, True]
    assert network.shape_of(INPUT) == network.shape_of("layer") == (2,)
    with pytest.raises(GraphError, match="no layer 'third'"):
        network.shape_of("third")
