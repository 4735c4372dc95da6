"""Lists of events of a group of samples, and the compiled layers that read and write them."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neurodeploy.files import PACKAGE
from neurodeploy.fixedpoint import (
    MESSAGE_MAX,
    Int32Array,
    Int64Array,
    scale_up,
)
from neurodeploy.ir.graphs import INPUT, FixedPointGraph
from neurodeploy.machine_code import MachineFunction, source_key
from neurodeploy.simulation.kernels.compiled_layer import CompiledLayer, is_graded
from neurodeploy.simulation.kernels.structures import LISTS, TERM, StructuredArray
from neurodeploy.simulation.kernels.weight_layout import Spreading, frame_of, zeros_on_line
from neurodeploy.simulation.outputs import LayerOutputs, new_health
from neurodeploy.simulation.recording import IntArray, SpikeArray, count_type

KERNEL_KEY = source_key(
    [
        *Path(__file__).parent.glob("*.py"),
        *(PACKAGE / "loops").glob("*.py"),
        *(PACKAGE / f"{name}.py" for name in ("fixedpoint", "llvm_vectors")),
    ]
)
"""Machine code is kept until a source changes that has a part in it."""


def _kernel(module: str, name: str) -> MachineFunction:
    """Return a kernel; its module, which loads the compiler, is imported only to compile it."""
    return MachineFunction(f"{__package__}.{module}", name, key=KERNEL_KEY)


collect_events = _kernel("event_lists", "collect_events")
spread_events = _kernel("event_lists", "spread_events")
run_lif = _kernel("lif", "run_lif")
run_lif_frames = _kernel("lif_frames", "run_lif_frames")
run_sigma = _kernel("sigma_delta", "run_sigma")
count_large = _kernel("sigma_delta", "count_large")
note_values = _kernel("sigma_delta", "note_values")
run_resonators = _kernel("resonators", "run_resonators")
run_delta_block = _kernel("input_blocks", "run_delta_block")
run_lif_block = _kernel("input_blocks", "run_lif_block")


class _Prepared(NamedTuple):
    """Arguments of a kernel that are the same for all groups of samples.

    Attributes:
        described: (1,) LAYER.
        terms: (terms,) TERM.
        weights: `Weights`, as a plain tuple.
        spreading: How events are added to sums in memory, if they are.
        arrays: The first four results of kernels, for all samples; empty where not kept.
    """

    described: StructuredArray
    terms: StructuredArray
    weights: tuple[npt.NDArray[np.generic], ...]
    spreading: Spreading | None
    arrays: list[npt.NDArray[np.generic]]


class EventStore:
    """Room for the events of all layers of some samples; see `event_lists` for their form."""

    def __init__(self, graph: FixedPointGraph, *, steps: int, samples: int) -> None:
        self._steps = steps
        self._frames = {name: frame_of(graph.shape_of(name)) for name in (INPUT, *graph.names)}
        self._lists: dict[str, StructuredArray] = {}
        size = 0
        for name, (channels, height, width) in self._frames.items():
            pixels = height * width
            neurons = channels * pixels
            values = steps * neurons if is_graded(graph, name) else 0
            lists = np.zeros(1, LISTS)
            lists["events"], lists["events_by_step"] = size, neurons
            size += steps * neurons + values
            lists["bounds"], lists["bounds_by_step"] = size, pixels + 1
            size += steps * (pixels + 1)
            lists["to_values"] = values
            self._lists[name] = lists
        for lists in self._lists.values():
            lists["events_by_sample"] = lists["bounds_by_sample"] = size
        self._store: Int32Array = np.empty(samples * size, np.int32)
        self._largest: dict[str, int] = {}
        self._sums: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        self._unread = np.zeros((samples, 2), np.int64)
        self._prepared: dict[str, _Prepared] = {}

    def collect(self, name: str, frames: SpikeArray, *, largest: int | None = None) -> None:
        """List the events of the input or a layer, (samples, T, *sender) uint8 or int32.

        `largest` is the size of the largest value, where it is known.
        """
        channels, height, width = self._frames[name]
        shape = (len(frames), self._steps, channels, height * width)
        lists = self._lists[name]
        collect_events(np.ascontiguousarray(frames).reshape(-1), shape, lists, self._store)
        if lists["to_values"][0]:
            if largest is None:
                largest = max(int(frames.max()), -int(frames.min()))
            self._largest[name] = max(largest, 1)

    def fits(self, layer: CompiledLayer) -> bool:
        """Return whether the values that a layer's sources sent are small enough for its kernel."""
        return layer.fits(self._largest)

    def spread(self, name: str, samples: int, *, first_step: int = 0) -> SpikeArray:
        """Return the events of a layer for the samples in the store, from `first_step` on.

        Returns:
            (samples, T - first_step, channels, pixels) uint8, 0 or 1, or int32 values.
        """
        channels, height, width = self._frames[name]
        shape = (samples, self._steps - first_step, channels, height * width)
        lists = self._lists[name]
        frames = np.zeros(shape, np.int32 if lists["to_values"][0] else np.uint8)
        spread_events(frames, first_step, lists, self._store)
        return frames

    def run(
        self,
        layer: CompiledLayer,
        span: slice,
        *,
        lag: int,
        resets: npt.NDArray[np.bool_],
        outputs: LayerOutputs,
    ) -> None:
        """Run a layer whose sources are in the store.

        Args:
            layer: The layer.
            span: Where the samples are in `outputs`.
            lag: Steps that events from other layers take beside their delay: 1 in Lava's time.
            resets: (T,) whether states are set to zero before a step.
            outputs: Gets all that is to be kept.
        """
        described, terms, weights, spreading, arrays = self._prepare(layer, lag, outputs)
        samples, health = span.stop - span.start, new_health()
        updates = outputs.updates[span] if len(outputs.updates) else self._unread[:samples]
        # In the order of `run_lif`.
        results = (*[array[span] for array in arrays], updates, health)
        common = weights, self._store
        if layer.kernel == "sigma-delta":
            largest = np.zeros(1, np.int64)
            run_sigma(samples, self._steps, described, terms, *common, results, largest)
            self._largest[layer.name] = max(int(largest[0]), 1)
            if not described["is_output"][0]:
                self._note_messages(layer.name, samples, int(largest[0]), health)
            self._note_values(layer, span, outputs)
        elif layer.kernel == "resonator":
            run_resonators(samples, self._steps, described, terms, *common, results)
        elif spreading is None:
            run_lif(samples, described, terms, *common, resets, results)
        else:
            frames = self._frames_for(spreading)
            run_lif_frames(
                samples, described, terms, tuple(spreading), frames, weights[1:], self._store,
                resets, results,
            )  # fmt: skip
        outputs.add_health(health)
        if outputs.earlier is not None and outputs.total is not None:
            last = self.spread(layer.name, samples, first_step=self._steps - 1)
            outputs.earlier[span] = outputs.total[span] - last.reshape(samples, *layer.shape)

    def run_block(
        self,
        layer: CompiledLayer,
        values: IntArray,
        span: slice,
        *,
        is_bias: bool,
        resets: npt.NDArray[np.bool_],
        outputs: LayerOutputs,
    ) -> None:
        """Run an input block.

        Args:
            layer: The block.
            values: (samples, T, *port) int32, what its neurons are fed; or if `is_bias`, biases
                (samples, *port).
            span: Where the samples are in `outputs`.
            is_bias: Whether biases take the place of the layer's.
            resets: (T,) whether states are set to zero before a step.
            outputs: Gets all that is to be kept.
        """
        described, _, (_, _, parameters), _, (_, *arrays) = self._prepare(layer, 0, outputs)
        samples, health = span.stop - span.start, new_health()
        updates = outputs.updates[span] if len(outputs.updates) else self._unread[:samples]
        flat = [array[span].reshape(-1) for array in arrays]
        frames = outputs.spikes[span] if outputs.spikes is not None else None
        if frames is None:
            shape = (samples, self._steps, *layer.shape)
            frames = np.zeros(shape, np.int32 if layer.kernel == "sigma-delta" else np.uint8)
        values, sent = values.reshape(-1), 1
        if layer.kernel == "sigma-delta":
            biases = parameters[: prod(layer.shape)]
            largest = np.zeros(2, np.int64)
            run_delta_block(
                values, described, biases, frames.reshape(-1), (*flat, updates), largest
            )
            health[1], sent = largest[0], int(largest[1])
        else:
            nothing = values[:0]
            images = scale_up(values).astype(np.int32) if is_bias else nothing
            arriving = nothing if is_bias else values
            run_lif_block(
                arriving, images, described, parameters.copy(), resets, frames.reshape(-1),
                (*flat, updates), health,
            )  # fmt: skip
        self.collect(layer.name, frames, largest=sent)
        if layer.kernel == "sigma-delta":
            self._note_messages(layer.name, samples, sent, health)
            self._note_values(layer, span, outputs)
        outputs.add_health(health)

    def _note_messages(self, name: str, samples: int, largest: int, health: Int64Array) -> None:
        """Note the size of a layer's largest message in its health, and how many do not fit."""
        health[5] = largest
        if largest > MESSAGE_MAX:
            lists = self._lists[name]
            health[7] = count_large(samples, self._steps, lists, self._store, MESSAGE_MAX)

    def _note_values(self, layer: CompiledLayer, span: slice, outputs: LayerOutputs) -> None:
        """Count the events that carried values, where they are counted."""
        if outputs.valued is None:
            return
        channels, height, width = self._frames[layer.name]
        valued = outputs.valued[span].reshape(span.stop - span.start, channels, height * width)
        is_static = note_values(self._steps, self._lists[layer.name], self._store, valued)
        outputs.note_static(is_static=bool(is_static))

    def _prepare(self, layer: CompiledLayer, lag: int, outputs: LayerOutputs) -> _Prepared:
        """Bring together all that is the same for each group: a group may take less time."""
        if layer.name not in self._prepared:
            self._prepared[layer.name] = self._prepared_of(layer, lag, outputs)
        return self._prepared[layer.name]

    def _prepared_of(self, layer: CompiledLayer, lag: int, outputs: LayerOutputs) -> _Prepared:
        channels, height, width = self._frames[layer.name]
        described = layer.description.copy()
        described["lists"] = self._lists[layer.name]
        described["counts_updates"] = len(outputs.updates) > 0
        arrays: list[npt.NDArray[np.generic]] = []
        for name, kept, leading, kind in (
            ("spikes", outputs.spikes, 1, np.int32 if layer.kernel == "sigma-delta" else np.uint8),
            ("totals", outputs.total, 0, count_type(self._steps)),
            ("traces", outputs.traces, 2, np.int32),
            ("finals", outputs.finals, 1, np.int32),
        ):
            described[f"keeps_{name}"] = kept is not None
            if kept is None:
                arrays.append(np.empty((0,) * (leading + 3), kind))
            else:
                arrays.append(kept.reshape(*kept.shape[: leading + 1], channels, height * width))
        return _Prepared(
            described=described,
            terms=self._terms(layer, lag),
            weights=tuple(layer.weights),
            spreading=layer.spreading_for(self._steps),
            arrays=arrays,
        )

    def _frames_for(self, spreading: Spreading) -> npt.NDArray[np.int16] | Int32Array:
        """Return frames of sums for one sample, zero."""
        size = spreading.frame_bytes(self._steps)
        if self._sums.size < size:
            self._sums = zeros_on_line(size)
        room = self._sums[:size]
        room.fill(0)
        return room.view(spreading.rows.dtype)

    def _terms(self, layer: CompiledLayer, lag: int) -> StructuredArray:
        """Return (terms,) TERM: where the events of the sources are, and how they are read."""
        described = []
        for term in layer.terms:
            *lists, to_values = self._lists[term.source][0].item()
            g = term.geometry
            described.append(
                (
                    (*lists, to_values if term.has_values else 0),
                    term.lag + (0 if term.source == layer.name else lag),
                    *(*g.frame, *g.kernel, *g.stride, *g.padding, *g.dilation),
                    term.first_row,
                )
            )
        return np.array(described, TERM)
