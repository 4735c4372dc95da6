"""Read a NIR graph from a file of strangers, or from a graph object in memory.

Nothing but the named file is read, nothing is loaded before its type and size are checked, and
every fault is an `InterchangeError` that names the node. Shapes that the file states are not
believed: exporters write batch and time axes into them. `nir.read` is not used: it follows links
into other files, and refuses grouped convolutions and kernels that are not square.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import InterchangeError
from neurodeploy.interchange.nir_schema import (
    GRAPH_NODE,
    INPUT_NODE,
    OUTPUT_NODE,
    PRIMITIVES,
    FieldKind,
    NirField,
    NirGraph,
    NirNode,
)
from neurodeploy.untrusted.boundary import FileKind
from neurodeploy.untrusted.hdf5 import ELEMENTS_MAX, Field, UntrustedGroup, open_root

NIR = FileKind(
    "NIR",
    ".nir",
    InterchangeError,
    "A NIR file is HDF5; this one is damaged, cut short or something else. Write or copy it again.",
)

DEPTH_MAX = 8
NODES_MAX = 2_000
EDGES_MAX = 10_000
NAME_MAX = 256

Edge = tuple[str, str]


def read_nir(path: str | Path) -> NirGraph:
    """Read a `.nir` file.

    The HDF5 library may crash or hang on a damaged file, so another process reads the file first.

    Raises:
        InterchangeError: If it is missing, damaged, too large, or no valid NIR graph.
    """
    path = Path(path)
    with open_root(path, NIR) as root:
        top = root.subgroup("node")
        if top is None:
            raise InterchangeError(
                f"{path}: no group 'node', which every NIR file has. Write it with nir.write."
            )
        return _flatten(_FileEntry(top))


def take_nir(graph: object) -> NirGraph:
    """Take a `nir.NIRGraph`, or any object whose `to_dict()` gives the same dictionary.

    Raises:
        InterchangeError: If it has no such method, or holds no valid NIR graph.
    """
    to_dict = getattr(graph, "to_dict", None)
    content = to_dict() if callable(to_dict) else graph
    if not isinstance(content, Mapping):
        raise InterchangeError(
            f"NIR: an object of type {type(graph).__name__}; a path, a nir.NIRGraph or its "
            "dictionary is required."
        )
    return _flatten(_ObjectEntry(content, "NIR"))


class _Entry(Protocol):
    """A group of a file, or a dictionary: where nodes are read from."""

    @property
    def where(self) -> str: ...
    def text(self, name: str) -> str: ...
    def numbers(self, field: NirField) -> npt.NDArray[np.generic] | str | None: ...
    def edges(self) -> list[Edge]: ...
    def children(self) -> Iterator[tuple[str, _Entry]]: ...
    def metadata_dt(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class _FileEntry:
    """A group of an HDF5 file."""

    group: UntrustedGroup

    @property
    def where(self) -> str:
        return self.group.where

    def text(self, name: str) -> str:
        return self.group.text(name)

    def numbers(self, field: NirField) -> npt.NDArray[np.generic] | str | None:
        if field.kind is FieldKind.PADDING and self.group.kind_of(field.name) in ("O", "S"):
            return self.group.text(field.name)
        allows_floats = field.kind is FieldKind.NUMBERS
        return self.group.numbers(
            Field(field.name, field.kind.value, "", allows_floats=allows_floats)
        )

    def edges(self) -> list[Edge]:
        texts = self.group.texts("edges")
        if texts is None:
            return []
        if texts.ndim != 2 or texts.shape[1] != 2:
            raise InterchangeError(f"{self.where}/edges: shape {texts.shape}, (n, 2) is required.")
        return [(str(source), str(destination)) for source, destination in texts]

    def children(self) -> Iterator[tuple[str, _Entry]]:
        nodes = self.group.subgroup("nodes")
        if nodes is None:
            raise InterchangeError(f"{self.where}: no group 'nodes'; a graph has nodes.")
        for name in nodes.names(NODES_MAX):
            child = nodes.subgroup(name)
            if child is None:
                raise InterchangeError(f"{nodes.where}/{name}: not a group; a node is one.")
            yield name, _FileEntry(child)

    def metadata_dt(self) -> float | None:
        metadata = self.group.subgroup("metadata")
        if metadata is None or metadata.kind_of("dt") not in ("i", "u", "f"):
            return None
        value = _FileEntry(metadata).numbers(NirField("dt"))
        return float(value.item()) if isinstance(value, np.ndarray) and value.size == 1 else None


@dataclass(frozen=True, slots=True)
class _ObjectEntry:
    """A dictionary as `nir.NIRGraph.to_dict` makes it."""

    content: Mapping[str, object]
    where: str

    def text(self, name: str) -> str:
        value = self.content.get(name)
        if not isinstance(value, str):
            raise InterchangeError(f"{self.where}: '{name}' must be a string, found {value!r:.60}.")
        return value

    def numbers(self, field: NirField) -> npt.NDArray[np.generic] | str | None:
        value = self.content.get(field.name)
        if value is None or (isinstance(value, str) and field.kind is FieldKind.PADDING):
            return value
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise InterchangeError(
                f"{self.where}/{field.name}: {error}; {field.kind.value} are required."
            ) from error
        allowed = "iuf" if field.kind is FieldKind.NUMBERS else "iu"
        if array.dtype.kind not in allowed or array.size > ELEMENTS_MAX:
            raise InterchangeError(
                f"{self.where}/{field.name}: {array.dtype} of shape {array.shape}, "
                f"{field.kind.value} are required."
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InterchangeError(f"{self.where}/{field.name}: holds NaN or infinity.")
        return array

    def edges(self) -> list[Edge]:
        edges = self.content.get("edges", ())
        if not isinstance(edges, list | tuple | set | np.ndarray):
            raise InterchangeError(f"{self.where}/edges: pairs of names are required.")
        pairs = []
        for pair in edges:
            if not (isinstance(pair, list | tuple | np.ndarray) and len(pair) == 2):
                raise InterchangeError(
                    f"{self.where}/edges: pairs of names are required, found {pair!r:.60}."
                )
            pairs.append((str(pair[0]), str(pair[1])))
        return pairs

    def children(self) -> Iterator[tuple[str, _Entry]]:
        nodes = self.content.get("nodes")
        if not isinstance(nodes, Mapping):
            raise InterchangeError(f"{self.where}: no 'nodes'; a graph has nodes.")
        for name, node in nodes.items():
            to_dict = getattr(node, "to_dict", None)
            content = to_dict() if callable(to_dict) else node
            if not isinstance(content, Mapping):
                raise InterchangeError(f"{self.where}/{name}: not a node, {node!r:.60}.")
            yield str(name), _ObjectEntry(content, f"{self.where}/{name}")

    def metadata_dt(self) -> float | None:
        metadata = self.content.get("metadata")
        value = metadata.get("dt") if isinstance(metadata, Mapping) else None
        is_number = isinstance(value, int | float | np.integer | np.floating)
        return float(value) if is_number and not isinstance(value, bool) else None  # type: ignore[arg-type]


@dataclass(slots=True)
class _Flat:
    """The nodes and edges found so far; graphs inside are entered by their own names."""

    nodes: dict[str, NirNode] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    entries: dict[str, tuple[str, str]] = field(default_factory=dict)
    """(input, output) of each graph inside, by its name."""


def _flatten(top: _Entry) -> NirGraph:
    if top.text("type") != GRAPH_NODE:
        raise InterchangeError(f"{top.where}: type '{top.text('type')}', '{GRAPH_NODE}' required.")
    flat = _Flat()
    source, output = _collect(top, "", 1, flat)
    if len(flat.edges) > EDGES_MAX:
        raise InterchangeError(f"{top.where}: over {EDGES_MAX} edges.")
    edges = list(dict.fromkeys(_enter(edge, flat) for edge in flat.edges))
    if len(edges) < len(flat.edges):
        raise InterchangeError(f"{top.where}: an edge is there twice. Write each edge once.")
    inner = {
        name
        for name, node in flat.nodes.items()
        if node.kind in (INPUT_NODE, OUTPUT_NODE) and name not in (source, output)
    }
    dt = top.metadata_dt()
    if dt is not None and not dt > 0:
        raise InterchangeError(f"{top.where}/metadata/dt: {dt:g}, seconds above 0 are required.")
    return NirGraph(
        nodes={name: node for name, node in flat.nodes.items() if name not in inner},
        edges=tuple(_bridge(edges, inner)),
        dt=dt,
    )


def _collect(entry: _Entry, prefix: str, depth: int, flat: _Flat) -> tuple[str, str]:
    """Add a graph's nodes and edges; return the names of its input and its output."""
    if depth > DEPTH_MAX:
        raise InterchangeError(
            f"{entry.where}: graphs inside graphs, over {DEPTH_MAX} deep. Flatten them."
        )
    ends: dict[str, list[str]] = {INPUT_NODE: [], OUTPUT_NODE: []}
    inside = set()
    for name, child in entry.children():
        full = prefix + _checked_name(name, entry.where)
        if full in flat.nodes or full in flat.entries or len(flat.nodes) >= NODES_MAX:
            raise InterchangeError(
                f"{child.where}: two nodes are called '{full}', or there are over {NODES_MAX}."
            )
        inside.add(name)
        with _within(child.where):
            kind = child.text("type")
        if kind == GRAPH_NODE:
            flat.entries[full] = _collect(child, f"{full}.", depth + 1, flat)
            continue
        if kind not in PRIMITIVES:
            raise InterchangeError(
                f"{child.where}: type '{kind:.60}' is not known. Known: {', '.join(PRIMITIVES)}."
            )
        flat.nodes[full] = NirNode(kind, _values(child, kind))
        if kind in ends:
            ends[kind].append(full)
    for kind, names in ends.items():
        if len(names) != 1:
            raise InterchangeError(
                f"{entry.where}: {len(names)} nodes of type {kind}, exactly one is required."
            )
    for source, destination in entry.edges():
        for end in (source, destination):
            if end not in inside:
                raise InterchangeError(
                    f"{entry.where}: edge '{source}' -> '{destination}': no node '{end:.60}'."
                )
        flat.edges.append((prefix + source, prefix + destination))
    return ends[INPUT_NODE][0], ends[OUTPUT_NODE][0]


def _checked_name(name: str, where: str) -> str:
    if not name or len(name) > NAME_MAX or not name.isprintable() or "/" in name:
        raise InterchangeError(
            f"{where}: a node is called {name[:60]!r}; names of 1 to {NAME_MAX} printable "
            "characters without '/' are allowed."
        )
    return name


@contextmanager
def _within(where: str) -> Iterator[None]:
    try:
        yield
    except InterchangeError as error:
        if str(error).startswith(where):
            raise
        raise InterchangeError(f"{where}: {error}") from error


def _values(entry: _Entry, kind: str) -> dict[str, npt.NDArray[np.float64] | str]:
    """Return the fields of a node, defaults filled in, numbers as float64."""
    values: dict[str, npt.NDArray[np.float64] | str] = {}
    for part in PRIMITIVES[kind]:
        value = entry.numbers(part)
        if kind == INPUT_NODE and (value is None or not np.size(value)):
            value = np.zeros(1, np.int64)  # not told: weights may tell it
        if value is None:
            if part.default is None:
                raise InterchangeError(
                    f"{entry.where}: {kind} without '{part.name}' ({part.kind.value})."
                )
            value = np.array(part.default)
        if isinstance(value, str):
            if value not in ("same", "valid"):
                raise InterchangeError(
                    f"{entry.where}/{part.name}: '{value:.60}', {part.kind.value} are required."
                )
            values[part.name] = value
            continue
        if not value.size:
            raise InterchangeError(f"{entry.where}/{part.name}: shape {value.shape} holds nothing.")
        values[part.name] = value.astype(np.float64)
    return values


def _enter(edge: Edge, flat: _Flat) -> Edge:
    """Lead an edge that begins or ends at a graph inside to that graph's output or input."""
    source, destination = edge
    if source in flat.entries:
        source = flat.entries[source][1]
    if destination in flat.entries:
        destination = flat.entries[destination][0]
    return source, destination


def _bridge(edges: list[Edge], inner: set[str]) -> list[Edge]:
    """Join the edges that meet at the inputs and outputs of graphs inside, and drop those nodes."""
    before: dict[str, dict[str, None]] = {}
    after: dict[str, dict[str, None]] = {}
    for source, destination in edges:
        after.setdefault(source, {})[destination] = None
        before.setdefault(destination, {})[source] = None
    for name in sorted(inner):
        sources, destinations = before.pop(name, {}), after.pop(name, {})
        if name in sources or len(sources) * len(destinations) > EDGES_MAX:
            raise InterchangeError(f"NIR: '{name}' reads itself, or joins too many nodes.")
        for source in sources:
            del after[source][name]
            doubled = after[source].keys() & destinations.keys()
            if doubled:
                raise InterchangeError(
                    f"NIR: two edges lead from '{source}' to '{min(doubled)}'. Write one."
                )
            after[source].update(destinations)
        for destination in destinations:
            del before[destination][name]
            before[destination].update(sources)
    return [(source, end) for source, ends in after.items() for end in ends]
