"""Take a trained torch module of another framework in, and prove that it was understood."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

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
_FLOAT32 = 1e-5
"""Share of the largest value by which sums in float32 may differ."""


def import_torch(
    module: nn.Module,
    samples: npt.ArrayLike,
    *,
    layout: str | None = None,
    approximate: Collection[str] = (),
) -> Imported:
    """Take in a trained module of norse, snnTorch, SpikingJelly, sinabs, Rockpool or lava-dl.

    The module runs once, as a copy in its own float32, and the float64 graph beside it: without
    approximations every spike of every layer must be equal. Blocks of lava-dl send their spikes a
    step late, as layers on the chip do; recordings here have them at the step that they belong to.

    Args:
        module: The network, in eval mode.
        samples: (samples, T, ...) numbers, as the network will see them.
        layout: Where time lies in its input: "TB" (T, samples, ...), "BT", "flat" (samples · T,
            ...), "step", one step a call, or "last" (samples, ..., T). None: found by its neurons.
        approximate: Names of departures that are allowed, such as "soft-reset".

    Returns:
        The network; populations are called by the paths of their modules.

    Raises:
        TraceError: If a layer is not known, or the flow between layers cannot be followed.
        InterchangeError: If something has no exact counterpart, or a spike differs; names the
            layer, and for a spike the step and sample.

    Example:
        >>> imported = nd.import_torch(network, spikes)
        >>> imported.notes
        {'1': 'exact', '3': 'exact'}
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
    source = _graph_of(seen, inputs.shape[2:])
    _check_received(seen, inputs)
    drafted = draft_graph(
        source,
        Convention(name="module", dt=1.0),
        subtracts_threshold=False,
        approximate=allowed,
    )
    imported = Imported(
        graph=drafted.graph,
        convention=Convention(name="module"),
        notes=drafted.notes,
        shapes=drafted.shapes,
        rests=drafted.rests,
    )
    recorded = {
        path: _stacked(path, outputs, seen, inputs).reshape(
            *inputs.shape[:2], *drafted.shapes[path]
        )
        for path, outputs in seen.sent.items()
        if path in drafted.shapes
    }
    _check_spikes(source, recorded, drafted.notes)
    if _OUTPUT_PATH in drafted.shapes:  # the last layer has no neurons: its sum over steps
        last = sorted({path for path, _ in seen.result})
        sent = [_stacked(path, seen.sent[path], seen, inputs) for path in last]
        values = np.sum(sent, axis=0, dtype=np.float64)
        shape = (*inputs.shape[:2], *drafted.shapes[_OUTPUT_PATH])
        recorded[_OUTPUT_PATH] = values.cumsum(axis=1).reshape(shape)
    imported = imported.compare(inputs, recorded)
    agreement = imported.agreement
    assert agreement is not None
    is_exact = all(note.startswith("exact") for note in imported.notes.values())
    if is_exact and agreement.unexplained is not None:
        sample, step, name = agreement.unexplained
        raise InterchangeError(
            f"{name}: the first spike that differs from {type(module).__name__} is at step {step} "
            f"of sample {sample}, and no rounding explains it. Is its layout '{seen.layout}' "
            f"(layout= {', '.join(LAYOUTS)})? Are values reordered between layers, or changed by "
            f"hooks?\n{agreement.describe()}"
        )
    return imported


def _stacked(
    path: str, values: list[torch.Tensor], seen: Observation, inputs: npt.NDArray[np.generic]
) -> np.ndarray:
    """Return what a layer sent or read as (samples, T, values)."""
    samples, steps = inputs.shape[:2]
    try:
        return stack_calls(values, seen.layout, samples, steps).reshape(samples, steps, -1)
    except (RuntimeError, ValueError, IndexError) as error:
        shapes = sorted({tuple(value.shape) for value in values})
        raise TraceError(
            f"{path}: {len(values)} calls with values of shape {shapes} do not hold {samples} "
            f"samples of {steps} steps in layout '{seen.layout}'. Give layout= "
            f"({', '.join(LAYOUTS)})."
        ) from error


def _check_received(seen: Observation, inputs: npt.NDArray[np.generic]) -> None:
    """Check that each layer read what its sources sent, each value at its place.

    Where neurons are computed exactly, their spikes prove it.
    """
    sent = {INPUT_PATH: inputs.reshape(*inputs.shape[:2], -1).astype(np.float64)}
    for path, values in seen.received.items():
        received = _stacked(path, values, seen, inputs)
        expected = np.zeros_like(received, np.float64)
        sources = seen.lags(path)
        for source, lags in sources.items():
            if source not in sent:
                sent[source] = _stacked(source, seen.sent[source], seen, inputs)
            if sent[source].shape != expected.shape:
                break  # refused by its shape
            lag = max(lags)
            expected[:, lag:] += sent[source][:, : expected.shape[1] - lag]
        else:
            largest = float(np.abs(expected).max(initial=0.0))
            if sources and np.abs(received - expected).max() > _FLOAT32 * largest:
                raise TraceError(
                    f"{path}: reads the values of {', '.join(sorted(sources))} changed, or at "
                    "another place than they were sent. Values can be reshaped between layers, "
                    "not reordered or written to."
                )


def _check_spikes(
    source: NirGraph, recorded: Mapping[str, npt.NDArray[np.generic]], notes: Mapping[str, str]
) -> None:
    for path, values in recorded.items():
        if source.nodes[path].kind in SPIKING and "many-spikes" not in notes[path]:
            others = values[(values != 0) & (values != 1)]
            if others.size:
                raise InterchangeError(
                    f"{path}: sends {float(others[0]):g}; spikes of 0 and 1 are required. Train "
                    "with a surrogate whose forward pass is a step."
                )


def _delays(seen: Observation) -> tuple[dict[str, int], list[str]]:
    """Return by how many steps each layer's input comes late, and a refusal where that differs."""
    late: dict[str, int] = {INPUT_PATH: 0}
    differing: dict[str, list[int]] = {}

    def measure(path: str) -> int:
        if path not in late:
            late[path] = 0  # of a population that reads itself
            sources = [source for source, lags in seen.lags(path).items() if 0 in lags]
            steps = sorted({measure(source) + seen.late.get(source, 0) for source in sources})
            late[path] = max(steps, default=0)
            if len(steps) > 1:
                differing[path] = steps
        return late[path]

    for path in seen.layers:
        measure(path)
    refusals = [
        f"{path}: its sources come {' and '.join(map(str, steps))} steps late. Use "
        "delay_shift=False where paths are of different lengths."
        for path, steps in differing.items()
    ]
    return late, refusals


def _graph_of(seen: Observation, shape: tuple[int, ...]) -> NirGraph:
    """Return the observed layers as nodes; all refusals are in one error."""
    nodes: dict[str, NirNode] = {
        INPUT_PATH: NirNode(INPUT_NODE, {"shape": np.asarray(shape, np.float64)})
    }
    edges: list[tuple[str, str]] = []
    late, refusals = _delays(seen)
    for path, layer in seen.layers.items():
        entry = path
        if layer.before is not None:
            entry = f"{path}.input"
            nodes[entry] = layer.before
            edges.append((entry, path))
        nodes[path] = layer.node
        if late[path] and np.any(layer.node.values.get("bias", 0) != 0):
            cause = f"its bias acts from {late[path]} steps before its first input on"
            departures = (*layer.node.departures, ("initial-state", cause))
            nodes[path] = replace(layer.node, departures=departures)
        if layer.back is not None:
            nodes[f"{path}.back"] = layer.back
            edges += [(path, f"{path}.back"), (f"{path}.back", path)]
        read = seen.lags(path)
        if not read:
            once = " in one step; give samples of 2 steps or more" * (seen.steps == 1)
            refusals.append(f"{path}: reads nothing that comes from the input{once}.")
        for source, lags in read.items():
            is_circle = path in seen.lags(source)
            if lags != {0} and not (lags == {1} and is_circle):
                refusals.append(
                    f"{path}: reads {source} of {sorted(lags)[:4]} steps before; only the same "
                    "step can be computed, or the step before of a population that reads itself "
                    "through one Linear."
                )
            edges.append((source, entry))
        calls = len(seen.reads[path])
        if calls not in (1, seen.steps):
            refusals.append(f"{path}: is called {calls} times in {seen.steps} steps.")
    results = sorted({path for path, _ in seen.result})
    if not results or (len(results) > 1 and not seen.is_sum):
        refusals.append(
            f"the result comes of {len(results)} layers ({', '.join(results)}); one, or the sum "
            "of several, is required."
        )
    if refusals:
        raise TraceError(
            "cannot be taken as it is.\n" + "\n".join(f"  {line}" for line in refusals)
        )
    nodes[_OUTPUT_PATH] = NirNode(OUTPUT_NODE, {})
    edges += [(path, _OUTPUT_PATH) for path in results]
    return NirGraph(nodes=nodes, edges=tuple(dict.fromkeys(edges)))
