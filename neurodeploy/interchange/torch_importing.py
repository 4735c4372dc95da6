"""Take a trained torch module of another framework in, and prove that it was understood."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from neurodeploy.errors import InterchangeError, TraceError
from neurodeploy.interchange.convention import Convention
from neurodeploy.interchange.draft import draft_graph
from neurodeploy.interchange.importing import Imported, check_approximations
from neurodeploy.interchange.nir_schema import (
    INPUT_NODE,
    OUTPUT_NODE,
    SPIKING,
    NirGraph,
    NirNode,
)
from neurodeploy.interchange.observing import (
    INPUT_PATH,
    LAYOUTS,
    Observation,
    observe_run,
    stack_calls,
)

_OUTPUT_PATH = "output"


def import_torch(
    module: nn.Module,
    samples: npt.ArrayLike,
    *,
    layout: str | None = None,
    approximate: Collection[str] = (),
) -> Imported:
    """Take in a trained module of norse, snnTorch, SpikingJelly, sinabs or Rockpool.

    The module runs once, as a copy in its own float32, and the float64 graph beside it: without
    approximations every spike of every layer must be equal.

    Args:
        module: The network, in eval mode.
        samples: (samples, T, ...) numbers, as the network will see them.
        layout: Where time lies in its input: "TB" (T, samples, ...), "BT", "flat" (samples · T,
            ...) or "step", one step a call. None: found by its neurons.
        approximate: Names of departures that are allowed, such as "soft-reset".

    Returns:
        The network; populations are called by the paths of their modules.

    Raises:
        TraceError: If a layer is not known, or the flow between layers cannot be followed.
        InterchangeError: If something has no exact counterpart, or a spike differs; names the
            layer, and for a spike the step and sample.
    """
    allowed = check_approximations(approximate)
    if layout is not None and layout not in LAYOUTS:
        raise InterchangeError(f"layout '{layout}': allowed are {', '.join(LAYOUTS)}.")
    inputs = np.asarray(samples)
    if inputs.dtype.kind not in "biuf" or inputs.ndim < 3 or not inputs.size:
        raise InterchangeError(
            f"samples: {inputs.dtype} of shape {inputs.shape}; numbers (samples, T, ...) are "
            "required, at least one."
        )
    seen = observe_run(module, torch.from_numpy(inputs.astype(np.float32)), layout)
    drafted = draft_graph(
        _graph_of(seen, inputs.shape[2:]),
        Convention(name="module", dt=1.0),
        subtracts_threshold=False,
        approximate=allowed,
    )
    imported = Imported(
        graph=drafted.graph,
        convention=Convention(name="module"),
        notes=drafted.notes,
        shapes=drafted.shapes,
    )
    recorded = {
        path: _in_shape(stack_calls(outputs, seen.layout, *inputs.shape[:2]), drafted.shapes[path])
        for path, outputs in seen.sent.items()
        if path in drafted.shapes
    }
    imported = imported.compare(inputs, recorded)
    agreement = imported.agreement
    assert agreement is not None
    is_exact = all(note.startswith("exact") for note in imported.notes.values())
    if is_exact and agreement.unexplained is not None:
        sample, step, name = agreement.unexplained
        raise InterchangeError(
            f"{name}: the first spike that differs from {type(module).__name__} is at step {step} "
            f"of sample {sample}, and no rounding explains it. Is its layout '{seen.layout}' "
            f"(layout= {', '.join(LAYOUTS)})?\n{agreement.describe()}"
        )
    return imported


def _in_shape(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return values.reshape(*values.shape[:2], *shape)


def _graph_of(seen: Observation, shape: tuple[int, ...]) -> NirGraph:
    """Return the observed layers as nodes; all refusals are in one error."""
    nodes: dict[str, NirNode] = {
        INPUT_PATH: NirNode(INPUT_NODE, {"shape": np.asarray(shape, np.float64)})
    }
    edges: list[tuple[str, str]] = []
    refusals: list[str] = []
    calls: dict[str, int] = defaultdict(int)
    for path, _ in seen.reads:
        calls[path] += 1
    for path, layer in seen.layers.items():
        entry = path
        if layer.before is not None:
            entry = f"{path}.input"
            nodes[entry] = layer.before
            edges.append((entry, path))
        nodes[path] = layer.node
        if layer.back is not None:
            nodes[f"{path}.back"] = layer.back
            edges += [(path, f"{path}.back"), (f"{path}.back", path)]
        for source, lags in _lags(seen, path, calls).items():
            is_back = lags == {1}
            if lags not in ({0}, {1}) or (is_back and layer.node.kind not in (
                *SPIKING, "Linear", "Affine"
            )):  # fmt: skip
                refusals.append(
                    f"{path}: reads {source} of {sorted(lags)} steps before; only the same step, "
                    "or the step before through one Linear, can be computed."
                )
            edges.append((source, entry))
        if calls[path] not in (1, seen.steps):
            refusals.append(f"{path}: is called {calls[path]} times in {seen.steps} steps.")
    results = {path for path, _ in seen.result}
    if len(results) != 1:
        refusals.append(
            f"the result comes of {len(results)} layers ({', '.join(sorted(results))}); one is "
            "required."
        )
    if refusals:
        raise TraceError(
            "cannot be taken as it is.\n" + "\n".join(f"  {line}" for line in refusals)
        )
    nodes[_OUTPUT_PATH] = NirNode(OUTPUT_NODE, {})
    edges.append((results.pop(), _OUTPUT_PATH))
    return NirGraph(nodes=nodes, edges=tuple(dict.fromkeys(edges)))


def _lags(seen: Observation, path: str, calls: Mapping[str, int]) -> dict[str, set[int]]:
    """Return, by source, how many calls before its own the layer read it."""
    lags: dict[str, set[int]] = {}
    for (reader, call), sources in seen.reads.items():
        if reader != path:
            continue
        for source, other in sources:
            # A layer that is called once sees all of time at once.
            at_once = calls[path] == 1 or calls.get(source, 1) == 1 or source == INPUT_PATH
            lags.setdefault(source, set()).add(0 if at_once else call - other)
    return lags
