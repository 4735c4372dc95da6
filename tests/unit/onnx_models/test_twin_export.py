"""The twin's biases, wherever a layer keeps them, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from neurodeploy.errors import OnnxError
from neurodeploy.ir import float_layers as floats
from neurodeploy.ir.graphs import INPUT, FixedInput, FixedPointGraph, Graph
from neurodeploy.ir.integer_layers import (
    Connection,
    CubaNeuron,
    FixedConv,
    FixedInjection,
    FixedLayer,
    Synapse,
)
from neurodeploy.onnx_models.twin_export import _float_neuron, export_twin

runtime = pytest.importorskip("onnxruntime")


def run(network: Graph | FixedPointGraph, path: Path, frame: np.ndarray) -> np.ndarray:
    export_twin(network, path)
    session = runtime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": frame.astype(np.float32)})[0])


def one_layer(bias: np.ndarray, *synapses: Synapse) -> FixedPointGraph:
    layer = FixedLayer(
        name="only",
        shape=(1, 2, 2),
        connections=tuple(Connection(source=INPUT, synapse=synapse) for synapse in synapses),
        neuron=CubaNeuron(
            current_decay=np.array(4096, np.int32),
            voltage_decay=np.array(0, np.int32),
            threshold=np.array(100, np.int32),
        ),
        bias=bias.astype(np.int32),
    )
    entry = FixedInput(shape=(1, 2, 2), message_bits=8)
    return FixedPointGraph(input=entry, layers=(layer,))


CONV = FixedConv(weight=np.array([[[[2]]]], np.int32))
FRAME = np.arange(4).reshape(1, 1, 2, 2)


@pytest.mark.parametrize("synapses", [(CONV,), (FixedInjection(), CONV)])
def test_a_bias_for_every_neuron_is_added(tmp_path: Path, synapses: tuple[Synapse, ...]) -> None:
    bias = np.array([[[10, 20], [30, 40]]])
    found = run(one_layer(bias, *synapses), tmp_path / "m.onnx", FRAME)
    expected = FRAME * (2 if len(synapses) == 1 else 3) + bias
    assert np.array_equal(found, expected)


def test_a_bias_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OnnxError, match="'only' has a bias, and no weights to add it to"):
        export_twin(one_layer(np.ones((1, 2, 2)), FixedInjection()), tmp_path / "m.onnx")


def test_weights_beyond_32_bit_floats_are_refused(tmp_path: Path) -> None:
    """And NumPy's warning of the overflow is not shown: here it would be an error."""
    dense = floats.Dense(weight=np.array([[1e39, 1.0]]), bias=None)
    graph = Graph(nodes={"input": floats.Input(shape=(2,)), "fc": dense}, edges=(("input", "fc"),))
    with pytest.raises(OnnxError, match=r"'fc.weight' holds values from 1 to 1e\+39"):
        export_twin(graph, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_neuron_of_an_unknown_kind_is_no_relu() -> None:
    layer = SimpleNamespace(name="odd", neuron=SimpleNamespace(label="quantum"))
    with pytest.raises(OnnxError, match="'odd' has quantum neurons"):
        _float_neuron(cast("FixedLayer", layer))
