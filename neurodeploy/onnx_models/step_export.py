"""One step of a deployed network in integers: states in, states out, spikes equal to the chip's.

Synaptic sums are taken in float32, where they are exact: the export refuses weights whose sum could
reach 2**24. All else is int64, with Lava's widths applied explicitly, as the neuron's definition
does: `simulation.neurons.LifDynamics`; `tests/property/test_onnx_files.py` compares every step.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import OnnxError
from neurodeploy.fixedpoint import (
    BIAS_BITS,
    CONV_BITS,
    CURRENT_LIMIT,
    DECAY_BITS,
    DECAY_UNITY,
    STATE_BITS,
    STATE_EXPONENT,
    VOLTAGE_LIMIT,
    scale_up,
    wrap,
)
from neurodeploy.ir.graphs import INPUT, FixedPointGraph
from neurodeploy.ir.integer_layers import (
    Connection,
    CubaNeuron,
    FixedConv,
    FixedDense,
    FixedInjection,
    FixedLayer,
)
from neurodeploy.onnx_models.builder import GraphBuilder

_EXACT = 1 << 24
"""Integers below are exact in float32, and so is every partial sum."""


def export_step(graph: FixedPointGraph, path: str | Path) -> None:
    """Write one step of a deployed network as an ONNX model.

    All tensors are int64. Inputs: `input`, (batch, *port), the step's values; for every layer L
    `L.current` and `L.voltage`, (batch, *L), zeros at first; for recurrent ones `L.previous`, the
    spikes of the step before. Outputs: `L.spikes`, `L.current.next`, `L.voltage.next`. Steps follow
    each other as in a window: every layer sees the events of this step.

    Raises:
        OnnxError: If `onnx` is missing, or the network has other neurons, delays, or weights too
            large for exact sums; it names all of them.

    Example:
        >>> import onnx
        >>> nd.export_step(nd.load_example().graph, "step.onnx")
        >>> [one.name for one in onnx.load("step.onnx").graph.output][:3]
        ['conv1.spikes', 'conv1.current.next', 'conv1.voltage.next']
    """
    builder = GraphBuilder("step")
    if problems := _problems(graph):
        raise OnnxError(f"step: {' '.join(problems)}")
    builder.input("input", graph.input.shape, np.int64)
    sent = {INPUT: "input"}
    reads_input = any(
        one.source == INPUT and not isinstance(one.synapse, FixedInjection)
        for layer in graph
        for one in layer.connections
    )
    if reads_input and not graph.input.is_graded:  # a binary port sees a spike, not its payload
        fired = builder.add("Cast", "input", out="input.bool", to=9)
        sent[INPUT] = builder.add("Cast", fired, out="input.spikes", to=7)
    for layer in graph:
        sent[layer.name] = _add_layer(builder, graph, layer, sent)
    builder.save(path)


def _problems(graph: FixedPointGraph) -> list[str]:
    found = []
    for layer in graph:
        neuron = layer.neuron
        if not isinstance(neuron, CubaNeuron):
            found.append(
                f"'{layer.name}' has neurons of kind {type(neuron).__name__}; only leaky "
                "integrate-and-fire neurons can be exported."
            )
            continue
        decays = np.append(neuron.current_decay, neuron.voltage_decay)
        if decays.min() < 0 or decays.max() > DECAY_UNITY:
            found.append(f"'{layer.name}' has decays outside 0 to {DECAY_UNITY}.")
        for connection in layer.connections:
            synapse = connection.synapse
            if not isinstance(synapse, FixedConv | FixedDense | FixedInjection):
                found.append(f"'{layer.name}' has synapses of kind {type(synapse).__name__}.")
            if isinstance(synapse, FixedDense) and synapse.delay is not None:
                found.append(f"'{layer.name}' has delays, which a single step cannot hold.")
            bound = _largest_sum(graph, connection)
            if bound >= _EXACT:
                found.append(
                    f"'{connection.source}' -> '{layer.name}': sums of up to {bound}, less than "
                    f"{_EXACT} is exact in 32-bit floats."
                )
    return found


def _largest_sum(graph: FixedPointGraph, connection: Connection) -> int:
    """Return a bound of the sum that one neuron can receive."""
    synapse = connection.synapse
    if isinstance(synapse, FixedConv):
        weight = synapse.weight.reshape(len(synapse.weight), -1)
    elif isinstance(synapse, FixedDense):
        weight = synapse.effective.mantissa
    else:
        return 0
    largest = 1
    if connection.source == INPUT and graph.input.is_graded:
        largest = 1 << graph.input.message_bits
    return largest * int(np.abs(weight.astype(np.int64)).sum(axis=1).max())


def _add_layer(
    builder: GraphBuilder, graph: FixedPointGraph, layer: FixedLayer, sent: dict[str, str]
) -> str:
    name, neuron = layer.name, layer.neuron
    assert isinstance(neuron, CubaNeuron)
    drive = ""
    for number, connection in enumerate(layer.connections):
        events = sent.get(connection.source, "")
        if connection.source == name:
            events = builder.input(f"{name}.previous", layer.shape, np.int64)
        bound = _largest_sum(graph, connection)
        part = _add_synapse(builder, layer, connection, events, bound, f"{name}.drive{number}")
        drive = builder.add("Add", drive, part, out=f"{name}.sum{number}") if drive else part
    current = builder.input(f"{name}.current", layer.shape, np.int64)
    voltage = builder.input(f"{name}.voltage", layer.shape, np.int64)
    unit = builder.integer(1 << STATE_EXPONENT)
    scaled = builder.add("Mul", drive, unit, out=f"{name}.drive.scaled")
    kept = _add_decay(builder, current, neuron.current_decay, f"{name}.current.kept")
    full = builder.add("Add", kept, scaled, out=f"{name}.current.full")
    wrapped = _add_wrap(builder, full, STATE_BITS, f"{name}.current.wrapped")
    new_current = _add_turn(builder, wrapped, f"{name}.current")
    held = _add_decay(builder, voltage, neuron.voltage_decay, f"{name}.voltage.kept")
    total = builder.add("Add", held, new_current, out=f"{name}.voltage.driven")
    if layer.bias.any():
        bias = builder.store(f"{name}.bias", _aligned(scale_up(wrap(layer.bias, BIAS_BITS))))
        total = builder.add("Add", total, bias, out=f"{name}.voltage.biased")
    limit = builder.integer(VOLTAGE_LIMIT), builder.integer(-VOLTAGE_LIMIT)
    low = builder.add("Max", total, limit[1], out=f"{name}.voltage.low")
    clipped = builder.add("Min", low, limit[0], out=f"{name}.voltage.clipped")
    threshold = builder.store(f"{name}.threshold", _aligned(scale_up(neuron.threshold)))
    fires = builder.add("Greater", clipped, threshold, out=f"{name}.fires")
    builder.add("Where", fires, builder.integer(0), clipped, out=f"{name}.voltage.next")
    spikes = builder.add("Cast", fires, out=f"{name}.spikes", to=7)
    for tensor in (spikes, f"{name}.current.next", f"{name}.voltage.next"):
        builder.output(tensor, layer.shape, np.int64)
    return spikes


def _add_synapse(
    builder: GraphBuilder,
    layer: FixedLayer,
    connection: Connection,
    events: str,
    bound: int,
    name: str,
) -> str:
    """Add what one synapse sends, sums of up to `bound`, as int64 of the layer's shape."""
    synapse = connection.synapse
    if isinstance(synapse, FixedInjection):
        return builder.add("Identity", "input", out=name)
    values = builder.add("Cast", events, out=f"{name}.float", to=1)
    if isinstance(synapse, FixedConv):
        total = builder.conv(values, synapse, name=name, out=f"{name}.product")
        if bound < 1 << (CONV_BITS - 1):
            return builder.add("Cast", total, out=name, to=7)
        whole = builder.add("Cast", total, out=f"{name}.whole", to=7)
        return _add_wrap(builder, whole, CONV_BITS, name)
    assert isinstance(synapse, FixedDense)
    flat = builder.add("Flatten", values, out=f"{name}.flat", axis=1)
    acting = synapse.effective
    weight = builder.store_floats(f"{name}.weight", acting.mantissa.T)
    total = builder.add("MatMul", flat, weight, out=f"{name}.product")
    whole = builder.add("Cast", total, out=f"{name}.whole", to=7)
    if acting.shift:
        divisor = builder.integer(1 << acting.shift)
        rest = builder.add("Mod", whole, divisor, out=f"{name}.rest")
        even = builder.add("Sub", whole, rest, out=f"{name}.even")
        whole = builder.add("Div", even, divisor, out=f"{name}.shifted")
    shape = builder.store(f"{name}.shape", np.array([-1, *layer.shape], dtype=np.int64))
    return builder.add("Reshape", whole, shape, out=name)


def _add_decay(
    builder: GraphBuilder, state: str, mantissa: npt.NDArray[np.int32], name: str
) -> str:
    """Add state · (4096 - decay) / 4096, towards zero as ONNX's integer division rounds."""
    keeps = DECAY_UNITY - mantissa.astype(np.int64)
    factor = builder.store(f"{name}.factor", _aligned(keeps))
    product = builder.add("Mul", state, factor, out=f"{name}.product")
    return builder.add("Div", product, builder.integer(1 << DECAY_BITS), out=name)


def _add_wrap(builder: GraphBuilder, value: str, bits: int, name: str) -> str:
    half = builder.integer(1 << (bits - 1))
    moved = builder.add("Add", value, half, out=f"{name}.moved")
    low = builder.add("Mod", moved, builder.integer(1 << bits), out=f"{name}.low")
    return builder.add("Sub", low, half, out=name)


def _add_turn(builder: GraphBuilder, value: str, name: str) -> str:
    """Bring a current back into 24 bits by one turn; see `fixedpoint.wrap_current`."""
    turn = builder.integer(1 << 24)
    above = builder.add("Greater", value, builder.integer(CURRENT_LIMIT), out=f"{name}.is_above")
    lowest = builder.integer(-CURRENT_LIMIT)
    below = builder.add("LessOrEqual", value, lowest, out=f"{name}.is_below")
    less = builder.add("Sub", value, turn, out=f"{name}.less")
    more = builder.add("Add", value, turn, out=f"{name}.more")
    some = builder.add("Where", below, more, value, out=f"{name}.not_below")
    return builder.add("Where", above, less, some, out=f"{name}.next")


def _aligned(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return a parameter an axis for the batch, unless it is one number."""
    return np.expand_dims(values, 0) if values.ndim else values
