"""The primitives of NIR and their fields: one table, read by the reader and the writer alike.

Source: nir 1.0.8, whose files differ from those of 0.1 only in fields that may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from neurodeploy.fixedpoint import FloatArray

VERSION = "1.0.8"
"""Version of nir whose format is written."""
INPUT_NODE = "Input"
OUTPUT_NODE = "Output"
GRAPH_NODE = "NIRGraph"


class FieldKind(Enum):
    """Which values a field may hold."""

    NUMBERS = "finite numbers"
    INTEGERS = "integers"
    PADDING = "integers, or 'same' or 'valid'"


@dataclass(frozen=True, slots=True)
class NirField:
    """One field of a primitive.

    Attributes:
        name: Name of the dataset.
        kind: Which values it may hold.
        default: Value where the field is missing; None if the field is required.
    """

    name: str
    kind: FieldKind = FieldKind.NUMBERS
    default: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class NirNode:
    """One node of a NIR graph that has no graph inside.

    Attributes:
        kind: The primitive, a key of `PRIMITIVES`.
        values: Fields as float64 or int64 arrays, 0-d ones included; a padding may be a word.
        departures: (name, cause) of each approximation without which it cannot be computed.
    """

    kind: str
    values: Mapping[str, FloatArray | str]
    departures: tuple[tuple[str, str], ...] = ()

    def array(self, name: str) -> FloatArray:
        """Return a field that is an array."""
        value = self.values[name]
        assert not isinstance(value, str)
        return value


@dataclass(frozen=True, slots=True, eq=False)
class NirGraph:
    """A NIR graph without graphs inside: nested nodes are called `outer.inner`.

    Attributes:
        nodes: Nodes by name.
        edges: (source, destination), each once.
        dt: Step width in seconds that the graph's metadata name, or None.
    """

    nodes: Mapping[str, NirNode]
    edges: tuple[tuple[str, str], ...]
    dt: float | None = None

    def sources(self) -> dict[str, list[str]]:
        """Return the nodes that lead into each node."""
        sources: dict[str, list[str]] = {name: [] for name in self.nodes}
        for start, end in self.edges:
            sources[end].append(start)
        return sources

    def readers(self) -> dict[str, list[str]]:
        """Return the nodes that each node leads into."""
        readers: dict[str, list[str]] = {name: [] for name in self.nodes}
        for start, end in self.edges:
            readers[start].append(end)
        return readers


def reachable(start: str, following: Mapping[str, list[str]]) -> set[str]:
    """Return the nodes that steps along `following` reach, the first included."""
    seen, waiting = {start}, [start]
    while waiting:
        for name in following[waiting.pop()]:
            if name not in seen:
                seen.add(name)
                waiting.append(name)
    return seen


_SHAPE = NirField("shape", FieldKind.INTEGERS)
_STRIDE = NirField("stride", FieldKind.INTEGERS, 1)
_CONV = (
    NirField("weight"),
    NirField("bias", default=0),
    _STRIDE,
    NirField("padding", FieldKind.PADDING, 0),
    NirField("dilation", FieldKind.INTEGERS, 1),
    NirField("groups", FieldKind.INTEGERS, 1),
)
_POOL = (
    NirField("kernel_size", FieldKind.INTEGERS),
    NirField("stride", FieldKind.INTEGERS),
    NirField("padding", FieldKind.INTEGERS, 0),
)
_GAIN = NirField("r")
_LEAK = NirField("v_leak")
_THRESHOLD = NirField("v_threshold")
_RESET = NirField("v_reset", default=0)
_CURRENT = (NirField("tau_syn"), NirField("tau_mem"), _GAIN, _LEAK, NirField("w_in", default=1))

PRIMITIVES: Mapping[str, tuple[NirField, ...]] = {
    INPUT_NODE: (_SHAPE,),
    OUTPUT_NODE: (),
    "Affine": (NirField("weight"), NirField("bias")),
    "Linear": (NirField("weight"),),
    "Scale": (NirField("scale"),),
    "Conv1d": _CONV,
    "Conv2d": _CONV,
    "SumPool2d": _POOL,
    "AvgPool2d": _POOL,
    "Flatten": (),
    "Threshold": (NirField("threshold"),),
    "IF": (_GAIN, _THRESHOLD, _RESET),
    "LIF": (NirField("tau"), _GAIN, _LEAK, _THRESHOLD, _RESET),
    "CubaLIF": (*_CURRENT, _THRESHOLD, _RESET),
    "I": (_GAIN,),
    "LI": (NirField("tau"), _GAIN, _LEAK),
    "CubaLI": _CURRENT,
    "Delay": (NirField("delay"),),
}
"""Fields that decide what a node computes; others, such as shapes, are not believed."""

STATED: Mapping[str, tuple[NirField, ...]] = {
    OUTPUT_NODE: (_SHAPE,),
    "Conv2d": (NirField("input_shape", FieldKind.INTEGERS),),
    "Flatten": tuple(
        NirField(name, FieldKind.INTEGERS) for name in ("input_type", "start_dim", "end_dim")
    ),
}
"""Fields that are written for other readers; ours works them out and does not believe them."""

CANONICAL = "canonical neuron"
CANONICAL_READ_OUT = "canonical read-out"
BATCH_NORM = "batch norm"
MAX_POOL = "max pool"
PASS_ON = "pass on"
"""Kinds that no file has: nodes of networks that come in as modules."""

SPIKING = ("Threshold", "IF", "LIF", "CubaLIF", CANONICAL)
READ_OUTS = ("I", "LI", "CubaLI", CANONICAL_READ_OUT)
