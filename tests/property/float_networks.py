"""Random float networks with pools and skips, and what deployment makes of them."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, event, strategies as st
from strategies import generators

from neurodeploy.chips.target import Target
from neurodeploy.errors import GraphError, QuantizationError
from neurodeploy.ir import FixedPointGraph
from neurodeploy.ir.float_layers import (
    AveragePool,
    BatchNorm,
    Conv,
    Cuba,
    Dense,
    Flatten,
    GlobalAveragePool,
    Input,
    Integrator,
    Layer,
    MaxPool,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes import (
    choose_scales,
    fold_average_pool,
    fold_batchnorm,
    fold_global_average_pool,
    lower_max_pool,
    prune_weights,
    quantize,
    run_passes,
)
from neurodeploy.passes.linear_chains import split_sums

LOIHI2 = Target.load("loihi2")
REFUSALS = (
    "round to zero",  # weights far smaller than the largest one
    "all of one sign",
    "leaves pixels over",  # averages whose windows do not tile the image
    "pads with zeros where an average",
)


class Builder:
    """Appends layers to a float graph."""

    def __init__(self, draw: st.DrawFn, rng: np.random.Generator) -> None:
        self.draw, self.rng = draw, rng
        size = draw(st.tuples(st.integers(1, 2), st.integers(3, 5), st.integers(3, 5)))
        bits = draw(st.sampled_from([0, 3]))
        entry = Input(shape=size, scale=1.0 if bits == 0 else 1 / 8, largest=1 if bits == 0 else 7)
        self.nodes: dict[str, Layer] = {"input": entry}
        self.edges: list[tuple[str, str]] = []
        self.last: tuple[str, ...] = ("input",)  # several: the next layer reads their sum
        self.shape = size

    def add(self, name: str, layer: Layer, *sources: str) -> str:
        self.nodes[name] = layer
        self.edges += [(source, name) for source in sources]
        return name

    def weight(self, *shape: int) -> np.ndarray:
        return self.rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)

    def neuron(self) -> Cuba:
        leak = self.draw(st.sampled_from([0.0, 0.25, 0.75, 1.0]))
        threshold = float(self.rng.uniform(0.02, 0.6)) * self.draw(st.sampled_from([1, 1, 4]))
        return Cuba(threshold=threshold, current_decay=1.0, voltage_decay=leak)

    def synapse(
        self, name: str, sources: tuple[str, ...], shape: tuple, conv: Conv
    ) -> tuple[str, tuple]:
        self.add(f"{name}.synapse", conv, *sources)
        end = f"{name}.synapse"
        shape = conv.output_shape(shape)
        if self.draw(st.booleans()):
            norm = BatchNorm(
                scale=self.rng.uniform(0.5, 2, shape[0]), shift=self.rng.normal(0, 0.1, shape[0])
            )
            end = self.add(f"{name}.norm", norm, end)
        return end, shape

    def conv(self, outputs: int, inputs: int, kernel: int, stride: int) -> Conv:
        return Conv(
            weight=self.weight(outputs, inputs, kernel, kernel),
            bias=self.rng.normal(0, 0.1, outputs) if self.draw(st.booleans()) else None,
            stride=(stride, stride),
            padding=(kernel // 2, kernel // 2),
        )

    def plain(self, name: str, stride: int = 1) -> None:
        kernel = self.draw(st.sampled_from([1, 3]))
        conv = self.conv(self.draw(st.integers(1, 3)), self.shape[0], kernel, stride)
        end, self.shape = self.synapse(name, self.last, self.shape, conv)
        self.last = (self.add(name, self.neuron(), end),)

    def branches(self, name: str) -> None:
        """Branches whose spikes are added: two or three from one source, or one and its source."""
        source, before = self.last, self.shape
        is_identity = self.draw(st.booleans())
        stride = 1 if is_identity else self.draw(st.sampled_from([1, 2]))
        outputs = before[0] if is_identity else self.draw(st.integers(1, 3))
        ends = list(source) if is_identity and source != ("input",) else []
        for index in range(self.draw(st.integers(1 if ends else 2, 3))):
            kernel = self.draw(st.sampled_from([3, 3, 1])) if stride == 1 or not index else 1
            conv = self.conv(outputs, before[0], kernel, stride)
            end, self.shape = self.synapse(f"{name}.{index}", source, before, conv)
            ends.append(self.add(f"{name}.{index}", self.neuron(), end))
            if self.draw(st.booleans()):  # one layer further on this branch
                conv = self.conv(outputs, outputs, 3, 1)
                end, _ = self.synapse(f"{name}.{index}.next", (ends.pop(),), self.shape, conv)
                ends.append(self.add(f"{name}.{index}.next", self.neuron(), end))
        self.last = tuple(ends)

    def block(self, name: str) -> None:
        """A residual block of two or three convolutions; identity or projection."""
        source, before = self.last, self.shape
        stride = self.draw(st.sampled_from([1, 1, 2]))
        is_identity = stride == 1 and self.draw(st.booleans())
        outputs = before[0] if is_identity else self.draw(st.integers(1, 3))
        for index in range(self.draw(st.integers(1, 2))):
            conv = self.conv(
                self.draw(st.integers(1, 3)), self.shape[0], 3, stride if index == 0 else 1
            )
            end, self.shape = self.synapse(f"{name}.{index}", self.last, self.shape, conv)
            self.last = (self.add(f"{name}.{index}", self.neuron(), end),)
        end, self.shape = self.synapse(
            f"{name}.out", self.last, self.shape, self.conv(outputs, self.shape[0], 3, 1)
        )
        skip = source
        if not is_identity:
            conv = self.conv(outputs, before[0], 1, stride)
            skip = self.synapse(f"{name}.skip", source, before, conv)[:1]
        self.last = (self.add(name, self.neuron(), end, *skip),)

    def pool(self, name: str, kind: type[MaxPool] | type[AveragePool]) -> None:
        kernel, stride = self.draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
        padding = self.draw(st.integers(0, kernel // 2))
        pool = kind(kernel=(kernel,) * 2, stride=(stride,) * 2, padding=(padding,) * 2)
        try:
            self.shape = pool.output_shape(self.shape)
        except GraphError:  # the image is too small by now
            return
        self.last = (self.add(name, pool, *self.last),)

    def readout(self) -> None:
        if len(self.shape) == 3 and self.draw(st.booleans()):
            self.last = (self.add("gap", GlobalAveragePool(), *self.last),)
            self.shape = self.shape[:1]
        else:
            self.last = (self.add("flat", Flatten(), *self.last),)
            self.shape = (int(np.prod(self.shape)),)
        dense = Dense(weight=self.weight(3, self.shape[0]), bias=self.rng.normal(0, 0.1, 3))
        self.add("out", Integrator(), self.add("out.synapse", dense, *self.last))

    def graph(self) -> Graph:
        return Graph(nodes=self.nodes, edges=tuple(self.edges))


@st.composite
def float_graphs(draw: st.DrawFn) -> Graph:
    builder = Builder(draw, draw(generators))
    builder.plain("stem")
    for index in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["block", "block", "branches", "plain", "max", "average"]))
        event(kind)
        if kind == "block":
            builder.block(f"block{index}")
        elif kind == "branches":
            builder.branches(f"branches{index}")
        elif kind == "plain":
            builder.plain(f"conv{index}", stride=draw(st.integers(1, 2)))
        elif kind == "max" and len(builder.last) == 1:
            builder.pool(f"max{index}", MaxPool)
        elif kind == "average":
            builder.pool(f"average{index}", AveragePool)
            if draw(st.booleans()):
                builder.plain(f"after{index}")
            else:
                break
    builder.readout()
    return builder.graph()


def integers_of(graph: Graph, steps: int, factor: float, sparsity: float) -> FixedPointGraph:
    """Lower and quantize, with scales anywhere below the largest possible ones."""
    try:
        folded = run_passes(graph, fold_batchnorm, lambda g: prune_weights(g, sparsity=sparsity))
        split = split_sums(folded)
        flat = run_passes(split, lower_max_pool, fold_global_average_pool, fold_average_pool)
        scales = choose_scales(flat, LOIHI2, steps=steps, guard_overflow=False)
        narrowed = {name: scale * factor for name, scale in scales.items()}
        return quantize(flat, LOIHI2, steps=steps, scales=narrowed)
    except (GraphError, QuantizationError) as error:
        assume(not any(words in str(error) for words in REFUSALS))
        raise
