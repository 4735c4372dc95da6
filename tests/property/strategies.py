"""Random integers, matrices and networks for property tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

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
from neurodeploy.ir.integer_layers import (
    FixedInjection,
    Neuron,
    Shape,
    Synapse,
)

IntArray = npt.NDArray[np.int32]

generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)
int32s = st.integers(-(2**31), 2**31 - 1)


@st.composite
def weight_matrices(draw: st.DrawFn) -> npt.NDArray[np.int64]:
    """Small matrices from every regime: one sign or two, any range, common factors of two."""
    low, high = draw(
        st.sampled_from(
            [(-256, 254), (0, 255), (-256, -1), (-256, 0), (-8, 8), (-600, 600), (0, 600),
             (-600, -1), (-600, 0), (-(2**31), 2**31 - 1), (-2, 1), (-1, -1), (-16, -15)]
        )
    )  # fmt: skip
    rows, columns = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    values = draw(
        st.lists(st.integers(low, high), min_size=rows * columns, max_size=rows * columns)
    )
    factor = draw(st.sampled_from([1, 1, 2, 4, 8, 16]))
    scaled = [max(-(2**31), min(2**31 - 1, value * factor)) for value in values]
    return np.array(scaled, np.int64).reshape(rows, columns)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a random network may hold."""

    is_chain: bool
    """Only what a netx file can hold, acting exactly as stored."""
    kinds: tuple[str, ...] = ("lif",)
    """"lif", "sigma-delta", "resonator"."""


@st.composite
def graphs(draw: st.DrawFn, options: Options) -> FixedPointGraph:
    """Networks of one to four layers of any kind that `options` allows."""
    rng = draw(generators)
    is_spatial = draw(st.integers(0, 2)) > 0
    shape: Shape = (
        tuple(draw(st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))))
        if is_spatial
        else (draw(st.integers(1, 5)),)
    )
    kind = draw(st.sampled_from(options.kinds))
    exponent = draw(st.sampled_from([0, 0, 0, 1, 8]))
    layers: list[FixedLayer] = []
    if draw(st.booleans()) and kind != "resonator":
        neuron: Neuron = (
            DeltaNeuron(threshold=draw(st.sampled_from([0, 0, 1, 5])), spike_exponent=exponent)
            if kind == "sigma-delta"
            else random_lif(rng, shape)
        )
        layers.append(
            FixedLayer(
                name="block",
                shape=shape,
                connections=(Connection(source=INPUT, synapse=FixedInjection()),),
                neuron=neuron,
                bias=np.zeros((), np.int32),
            )
        )
    port = shape
    count = draw(st.integers(0 if layers else 1, 3))
    for index in range(count):
        is_last = index == count - 1
        synapse: Synapse | None = None
        if len(shape) == 3 and kind != "resonator" and draw(st.integers(0, 4)) > 0:
            synapse = random_conv(draw, rng, shape)
        if synapse is None:
            if not layers:
                port = shape = (int(np.prod(shape)),)  # the port of a dense layer is flat
            synapse = random_dense(draw, rng, int(np.prod(shape)), options)
        source = layers[-1].name if layers else INPUT
        layer = random_layer(
            draw, rng, f"layer{index}", source, synapse, shape, kind, exponent, options,
            is_last=is_last,
        )  # fmt: skip
        layers.append(layer)
        shape = layer.shape
    if not options.is_chain:
        layers = add_skips(draw, rng, layers, port)
    bits = draw(st.sampled_from([0, 0, 4, 16]))
    return FixedPointGraph(input=FixedInput(shape=port, message_bits=bits), layers=tuple(layers))


def random_layer(
    draw: st.DrawFn,
    rng: np.random.Generator,
    name: str,
    source: str,
    synapse: Synapse,
    shape: Shape,
    kind: str,
    exponent: int,
    options: Options,
    *,
    is_last: bool,
) -> FixedLayer:
    output = synapse.output_shape(shape)
    connections = (Connection(source=source, synapse=synapse),)
    neuron: Neuron
    has_bias = True
    if kind == "resonator":
        assert isinstance(synapse, FixedDense)
        plain = FixedDense(weight=synapse.weight)
        other = FixedDense(weight=random_weight(rng, synapse.weight.shape, options))
        connections = (
            Connection(source=source, synapse=FixedComplexDense(real=plain, imaginary=other)),
        )
        neuron = ResonateFireNeuron(
            sine_decay=draw(st.integers(-4096, 4096)),
            cosine_decay=draw(st.integers(-4096, 4096)),
            threshold=draw(st.integers(-5, 200)),
            is_phase=draw(st.booleans()),
        )
        has_bias = False
    elif kind == "sigma-delta" and is_last and draw(st.booleans()):
        neuron, has_bias = SigmaNeuron(), False
    elif kind == "sigma-delta":
        neuron = SigmaDeltaNeuron(
            threshold=draw(st.sampled_from([0, 0, 1, 5])), spike_exponent=exponent
        )
    else:
        neuron = random_lif(rng, output)
    # One recurrent weight has one sign, which in a file need not act as stored.
    can_recur = kind != "resonator" and (output[0] > 1 or not options.is_chain)
    if isinstance(synapse, FixedDense) and can_recur and draw(st.booleans()):
        connections = recurrent_pair(rng, name, source, synapse.weight, options)
    bias = np.zeros((), np.int32)
    if has_bias and draw(st.booleans()):
        bias = rng.integers(-50, 50, parameter_shape(rng, output), dtype=np.int32)
    return FixedLayer(name=name, shape=output, connections=connections, neuron=neuron, bias=bias)


def recurrent_pair(
    rng: np.random.Generator, name: str, source: str, weight: IntArray, options: Options
) -> tuple[Connection, Connection]:
    back = random_weight(rng, (weight.shape[0],) * 2, options)
    return (
        Connection(source=source, synapse=FixedDense(weight=weight, partner=back)),
        Connection(source=name, synapse=FixedDense(weight=back, partner=weight)),
    )


def parameter_shape(rng: np.random.Generator, shape: Shape) -> Shape:
    """One value, one a channel, or one a neuron."""
    choices: list[Shape] = [(), shape]
    if len(shape) == 3:
        choices.append((shape[0], 1, 1))
    return choices[int(rng.integers(len(choices)))]


def random_lif(rng: np.random.Generator, shape: Shape) -> CubaNeuron:
    def decays() -> IntArray:
        size = parameter_shape(rng, shape)
        extremes = rng.choice(np.array([0, 1, 2048, 4095, 4096], np.int32), size)
        return np.asarray(
            np.where(rng.random(size) < 0.5, extremes, rng.integers(0, 4097, size)), np.int32
        )

    return CubaNeuron(
        current_decay=decays(),
        voltage_decay=decays(),
        threshold=np.asarray(
            rng.integers(
                0, int(rng.choice([3, 3, 20, 20, 300, 200_000])), parameter_shape(rng, shape)
            ),
            np.int32,
        ),
    )


def random_weight(rng: np.random.Generator, shape: tuple[int, ...], options: Options) -> IntArray:
    """Weights for a dense synapse; for chains with both signs, so that they act as stored."""
    low, high = ((-256, 255), (-20, 20), (-3, 4))[int(rng.integers(3))]
    weight = rng.integers(low, high, shape, dtype=np.int32)
    if options.is_chain:
        weight.flat[0] = max(1, abs(int(weight.flat[0])) % 255)
        if weight.size > 1:
            weight.flat[-1] = -weight.flat[0]
        return weight
    if rng.random() < 0.3:
        weight = np.abs(weight) * (1 if rng.random() < 0.5 else -1)
    weight.flat[0] = weight.flat[0] or 1
    return weight.astype(np.int32)


def random_dense(
    draw: st.DrawFn, rng: np.random.Generator, inputs: int, options: Options
) -> FixedDense:
    outputs = draw(st.integers(1, 4))
    weight = random_weight(rng, (outputs, inputs), options)
    delay = None
    if draw(st.integers(0, 3)) == 0:
        delay = rng.integers(0, int(rng.choice([3, 63])), weight.shape, dtype=np.int32)
        delay.flat[0] = max(1, delay.flat[0])
    return FixedDense(weight=weight, delay=delay)


def random_conv(draw: st.DrawFn, rng: np.random.Generator, shape: Shape) -> FixedConv:
    """A convolution of a source of `shape`; kernel and dilation are cut to what fits."""
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if shape[0] % g == 0]))
    outputs = groups * draw(st.integers(1, 2))
    kernel, stride, dilation, padding = (
        draw(st.tuples(st.integers(low, high), st.integers(low, high)))
        for low, high in ((1, 3), (1, 3), (1, 3), (0, 2))
    )
    room = [extent + 2 * pad for extent, pad in zip(shape[1:], padding, strict=True)]
    kernel = tuple(min(*pair) for pair in zip(kernel, room, strict=True))
    dilation = tuple(
        d if d * (k - 1) < extent else 1
        for d, k, extent in zip(dilation, kernel, room, strict=True)
    )
    largest = int(rng.choice([3, 30, 300, 2**20]))
    weight = rng.integers(-largest, largest, (outputs, shape[0] // groups, *kernel), dtype=np.int32)
    return FixedConv(
        weight=weight, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


def add_skips(
    draw: st.DrawFn, rng: np.random.Generator, layers: list[FixedLayer], port: Shape
) -> list[FixedLayer]:
    """Let some layers read an earlier layer or the input as well."""
    shapes = {INPUT: port, **{layer.name: layer.shape for layer in layers}}
    result: list[FixedLayer] = []
    for index, layer in enumerate(layers):
        earlier = [INPUT, *(other.name for other in layers[:index])]
        is_block = isinstance(layer.connections[0].synapse, FixedInjection)
        is_complex = isinstance(layer.connections[0].synapse, FixedComplexDense)
        if is_block or is_complex or not draw(st.booleans()):
            result.append(layer)
            continue
        source = draw(st.sampled_from(earlier))
        weight = random_weight(
            rng, (layer.neurons, int(np.prod(shapes[source]))), Options(is_chain=False)
        )
        skip = Connection(source=source, synapse=FixedDense(weight=weight))
        if len(layer.shape) == 3:
            kernel = rng.integers(-9, 9, (layer.shape[0], shapes[source][0], 1, 1), dtype=np.int32)
            if shapes[source][1:] != layer.shape[1:]:
                result.append(layer)
                continue
            skip = Connection(source=source, synapse=FixedConv(weight=kernel))
        result.append(
            FixedLayer(
                name=layer.name,
                shape=layer.shape,
                connections=(*layer.connections, skip),
                neuron=layer.neuron,
                bias=layer.bias,
            )
        )
    return result


def random_input(
    rng: np.random.Generator, graph: FixedPointGraph, *, samples: int, steps: int
) -> IntArray:
    """(samples, steps, *port): spikes, graded values, or values for an input block's neurons."""
    size = (samples, steps, *graph.input.shape)
    if graph.has_input_neuron:
        return rng.integers(-300, 300, size, dtype=np.int32)
    if graph.input.is_graded:
        bound = 1 << graph.input.message_bits
        return rng.integers(-bound + 1, bound, size, dtype=np.int32)
    return (rng.random(size) < rng.uniform(0.2, 1)).astype(np.int32)
