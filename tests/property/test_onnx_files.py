"""Exported models, run by onnxruntime: one step equals our simulator, the twin equals torch."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from float_networks import LOIHI2, float_graphs, integers_of
from hypothesis import HealthCheck, Phase, assume, event, given, settings, strategies as st
from strategies import Options, generators, graphs, random_input
from torch.nn import functional

import neurodeploy as nd
from neurodeploy.counting.fan_out import ann_macs
from neurodeploy.errors import GraphError, OnnxError
from neurodeploy.fixedpoint import THRESHOLD_MAX
from neurodeploy.ir import FixedPointGraph, float_layers as kinds
from neurodeploy.ir.graphs import FixedInput, Graph
from neurodeploy.ir.integer_layers import (
    Connection,
    CubaNeuron,
    FixedConv,
    FixedDense,
    FixedLayer,
)
from neurodeploy.onnx_models.macs import OnnxMacs
from neurodeploy.passes import lower_residuals
from neurodeploy.simulation import (
    EventSimulator,
    Feed,
    Record,
)

runtime = pytest.importorskip("onnxruntime")
some = settings(
    max_examples=30,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def session(write) -> tuple[runtime.InferenceSession, OnnxMacs]:
    """Export to a file, count it, and load it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write(path)
        macs = nd.count_onnx_macs(path, bindings={"batch": 1})
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        loaded = runtime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    return loaded, macs


def walk(graph: FixedPointGraph, inputs: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Run the exported step again and again, feeding its states back."""
    model, macs = session(lambda path: nd.export_step(graph, path))
    assert macs.macs_standard == sum(row.macs_standard for row in ann_macs(graph).layers) + sum(
        layer.neurons**2 for layer in graph if layer.is_recurrent
    )
    assert not macs.uncounted_ops
    samples = len(inputs)
    states = {}
    for layer in graph:
        names = ["current", "voltage", *(["previous"] if layer.is_recurrent else [])]
        for name in names:
            states[f"{layer.name}.{name}"] = np.zeros((samples, *layer.shape), np.int64)
    outputs = [one.name for one in model.get_outputs()]
    found = []
    for step in range(inputs.shape[1]):
        values = model.run(outputs, {"input": inputs[:, step].astype(np.int64), **states})
        found.append(dict(zip(outputs, values, strict=True)))
        for name in states:
            layer, state = name.rsplit(".", 1)
            source = f"{layer}.spikes" if state == "previous" else f"{name}.next"
            states[name] = found[-1][source]
    return found


def test_sums_and_states_of_a_step_wrap_as_those_of_the_chip() -> None:
    """Sums of 12,032,188 wrap in conv synapses; currents that never decay pass 32 bits."""
    weight = np.array([[[[859_442]]], [[[-400_000]]]], np.int32)
    layer = FixedLayer(
        name="conv",
        shape=(2, 1, 1),
        connections=(Connection(source="input", synapse=FixedConv(weight=weight)),),
        neuron=CubaNeuron(
            current_decay=np.array(0, np.int32),
            voltage_decay=np.array(0, np.int32),
            threshold=np.array(100_000, np.int32),
        ),
        bias=np.array(0, np.int32),
    )
    graph = FixedPointGraph(input=FixedInput(shape=(1, 1, 1), message_bits=4), layers=(layer,))
    inputs = np.full((1, 12, 1, 1, 1), 14, np.int32)
    recording = EventSimulator(graph).run(inputs, record=Record(states=["conv"]))
    found = walk(graph, inputs)
    for step in range(12):
        for state, values in recording.states["conv"].items():
            np.testing.assert_array_equal(found[step][f"conv.{state}.next"], values[:, step])


@some
@given(graphs(Options(is_chain=False)), generators, st.integers(1, 5))
def test_steps_are_those_of_the_simulator(
    graph: FixedPointGraph, rng: np.random.Generator, steps: int
) -> None:
    inputs = random_input(rng, graph, samples=2, steps=steps)
    try:
        found = walk(graph, inputs)
    except OnnxError as error:
        assume(not any(word in str(error) for word in ("delays", "sums of up to")))
        raise
    feed = Feed.NEURON if graph.has_input_neuron else Feed.PORT
    recording = EventSimulator(graph).run(inputs, feed=feed, record=Record(states=graph.names))
    for layer in graph:
        for step in range(steps):
            assert np.array_equal(
                found[step][f"{layer.name}.spikes"], recording.spikes_of(layer.name)[:, step]
            )
            for state, trace in recording.states[layer.name].items():
                assert np.array_equal(found[step][f"{layer.name}.{state}.next"], trace[:, step])


def in_torch(graph: Graph, frame: np.ndarray) -> np.ndarray:
    """The twin by definition, in doubles."""
    shapes, values = graph.shapes(), {}
    for name, layer in graph.nodes.items():
        if isinstance(layer, kinds.Input):
            pixels = torch.from_numpy(frame).double()
            if layer.mean:
                mean, deviation = torch.tensor(layer.mean), torch.tensor(layer.deviation)
                pixels = (pixels - mean[:, None, None]) / deviation[:, None, None]
            values[name] = pixels * layer.scale
            continue
        x = sum(values[source] for source in graph.sources(name))
        match layer:
            case kinds.Conv():
                bias = None if layer.bias is None else torch.from_numpy(layer.bias)
                x = functional.conv2d(
                    x, torch.from_numpy(layer.weight), bias, layer.stride, layer.padding,
                    layer.dilation, layer.groups,
                )  # fmt: skip
            case kinds.Dense():
                bias = None if layer.bias is None else torch.from_numpy(layer.bias)
                x = functional.linear(x.flatten(1), torch.from_numpy(layer.weight), bias)
            case kinds.BatchNorm():
                axes = (1, -1, *(1,) * (x.dim() - 2))
                x = x * torch.from_numpy(layer.scale).reshape(axes)
                x = x + torch.from_numpy(layer.shift).reshape(axes)
            case kinds.MaxPool():
                x = functional.max_pool2d(x, layer.kernel, layer.stride, layer.padding)
            case kinds.AveragePool():
                x = functional.avg_pool2d(x, layer.kernel, layer.stride, layer.padding)
            case kinds.GlobalAveragePool():
                x = x.mean(dim=(2, 3))
            case kinds.Flatten():
                x = x.flatten(1)
            case kinds.Cuba():
                x = x.relu()
        values[name] = x
        assert tuple(x.shape[1:]) == shapes[name]
    return x.numpy()


@some
@given(float_graphs(), generators)
def test_the_twin_computes_what_torch_does(graph: Graph, rng: np.random.Generator) -> None:
    model, macs = session(lambda path: nd.export_twin(graph, path))
    frame = rng.normal(size=(3, *graph.input.shape)).astype(np.float32)
    (found,) = model.run(None, {"input": frame})
    # doubles against onnxruntime's float32 through up to a dozen layers
    np.testing.assert_allclose(found, in_torch(graph, frame), rtol=1e-3, atol=1e-4)
    twin = ann_macs(graph)
    assert macs.macs_standard == twin.macs_standard
    assert macs.macs_border_exact == twin.macs_border_exact


@some
@given(float_graphs(), generators)
def test_the_twin_of_a_normalized_input_reads_raw_pixels(
    graph: Graph, rng: np.random.Generator
) -> None:
    """Exported with its normalization, or with the normalization folded into weights and bias."""
    entry = graph.input
    channels = entry.shape[0]
    entry = replace(
        entry,
        scale=1.0,
        largest=255,
        mean=tuple(rng.uniform(50, 200, channels)),
        deviation=tuple(rng.uniform(20, 80, channels)),
    )
    graph = graph.replace_nodes(changed={graph.input_name: entry})
    frame = rng.integers(0, 256, (3, *entry.shape)).astype(np.float32)
    expected = in_torch(graph, frame)
    model, macs = session(lambda path: nd.export_twin(graph, path))
    (found,) = model.run(None, {"input": frame})
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)  # float32, as above
    assert macs.macs_border_exact == ann_macs(graph).macs_border_exact
    try:
        folded = nd.fold_normalization(graph)
    except GraphError:  # a pool reads the input
        return
    event("folded")
    model, _ = session(lambda path: nd.export_twin(folded, path))
    (found,) = model.run(None, {"input": frame})
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@some
@given(float_graphs())
def test_the_twin_of_a_deployed_network_has_its_macs(graph: Graph) -> None:
    fixed = lower_residuals(integers_of(graph, 2, 0.6, 0.0), LOIHI2).graph
    model, macs = session(lambda path: nd.export_twin(fixed, path))
    assert macs.macs_border_exact == ann_macs(fixed).macs_border_exact
    (found,) = model.run(None, {"input": np.ones((2, *fixed.input.shape), np.float32)})
    assert found.shape == (2, fixed.layers[-1].neurons)


@pytest.mark.parametrize("threshold", [THRESHOLD_MAX, THRESHOLD_MAX + 1])
def test_scores_of_a_deployed_readout_may_be_negative(threshold: int) -> None:
    """A quantized read-out has the largest threshold there is, one without neurons a larger one."""
    layer = FixedLayer(
        name="readout",
        shape=(2,),
        connections=(
            Connection(
                source="input", synapse=FixedDense(weight=np.array([[4, -6], [2, 8]], np.int32))
            ),
        ),
        neuron=CubaNeuron(
            current_decay=np.array(4096, np.int32),
            voltage_decay=np.array(0, np.int32),
            threshold=np.array(threshold, np.int32),
        ),
        bias=np.zeros((), np.int32),
    )
    graph = FixedPointGraph(input=FixedInput(shape=(2,)), layers=(layer,))
    model, _ = session(lambda path: nd.export_twin(graph, path))
    (found,) = model.run(None, {"input": np.ones((1, 2), np.float32)})
    assert found.tolist() == [[-2, 10]]


def test_what_has_no_counterpart_is_refused(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden"
    for name, message in (("05_dense_delay", "delays"), ("22_sdnn", "DeltaNeuron")):
        with pytest.raises(OnnxError, match=message):
            nd.export_step(nd.netx.read(golden / f"{name}.net"), tmp_path / "x.onnx")
    with pytest.raises(OnnxError, match=r"'conv_1' .* 'dense_3' "):
        nd.export_step(nd.netx.read(golden / "22_sdnn.net"), tmp_path / "x.onnx")
    with pytest.raises(OnnxError, match="recurrent"):
        nd.export_twin(nd.netx.read(golden / "07_dense_rec.net"), tmp_path / "x.onnx")
    with pytest.raises(OnnxError, match="complex"):
        nd.export_twin(nd.netx.read(golden / "25_complex_rf.net"), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())
