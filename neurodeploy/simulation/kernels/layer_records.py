"""Lists of events of a group of samples, and the compiled layers that read and write them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neurodeploy.fixedpoint import (
    MESSAGE_MAX,
    Int32Array,
    Int64Array,
    scale_up,
)
from neurodeploy.ir.graphs import INPUT, FixedPointGraph
from neurodeploy.simulation.kernel_code import (
    collect_events,
    count_large,
    note_values,
    run_delta_block,
    run_lif,
    run_lif_block,
    run_lif_frames,
    run_resonators,
    run_sigma,
    spread_events,
)
from neurodeploy.simulation.kernels.compiled_layer import (
    CompiledLayer,
    is_graded,
    listed_names,
    packed_names,
)
from neurodeploy.simulation.kernels.layouts.spreading import Spreading
from neurodeploy.simulation.kernels.layouts.weight_layout import frame_of, zeros_on_line
from neurodeploy.simulation.kernels.structures import LISTS, TERM, StructuredArray
from neurodeploy.simulation.outputs import LayerOutputs, new_health
from neurodeploy.simulation.recording import IntArray, SpikeArray, count_type
from neurodeploy.simulation.spike_bits import SpikeBits, pack_bits, tiles_of

_TILES_OF_WORD = 4
"""Bits of a step begin at a word of 64."""
_BEYOND = 8
"""Numbers that may be written behind a list, or read behind all bits."""


class _Prepared(NamedTuple):
    """Arguments of a kernel that are the same for all groups of samples.

    Attributes:
        described: (1,) LAYER.
        terms: (terms,) TERM.
        weights: `Weights`, as a plain tuple.
        spreading: How events are added to sums in memory, if they are.
        arrays: The first results of kernels, for all samples; empty where not kept: spikes and
            totals, unless the kernel writes spikes as bits, traces and finals.
    """

    described: StructuredArray
    terms: StructuredArray
    weights: tuple[npt.NDArray[np.generic], ...]
    spreading: Spreading | None
    arrays: list[npt.NDArray[np.generic]]


class EventStore:
    """Room for the events of all layers of some samples; see `event_lists` for their form."""

    def __init__(
        self,
        graph: FixedPointGraph,
        layers: Sequence[CompiledLayer | None],
        *,
        steps: int,
        samples: int,
    ) -> None:
        """Make room for samples of T steps."""
        self._steps = steps
        compiled = [layer for layer in layers if layer is not None]
        read = [pair for layer in compiled for pair in layer.sources(steps)]
        self._listed = listed_names(graph, layers, steps)
        self._packed = packed_names(layers) | {name for name, in_windows in read if in_windows}
        self._frames = {name: frame_of(graph.shape_of(name)) for name in (INPUT, *graph.names)}
        self._lists: dict[str, StructuredArray] = {}
        size = 0
        for name, (channels, height, width) in self._frames.items():
            pixels = height * width
            neurons = channels * pixels
            values = steps * neurons if is_graded(graph, name) else 0
            lists = np.zeros(1, LISTS)
            if name in self._listed:
                lists["events"], lists["events_by_step"] = size, neurons
                size += steps * neurons + values + _BEYOND
                lists["bounds"], lists["bounds_by_step"] = size, pixels + 1
                size += steps * (pixels + 1)
                lists["to_values"] = values
            if name in self._packed:
                halves = -(-tiles_of((channels, pixels)) // _TILES_OF_WORD) * _TILES_OF_WORD
                lists["bits"], lists["bits_by_step"] = 2 * size, halves
                size += steps * halves // 2
            self._lists[name] = lists
        for lists in self._lists.values():
            lists["events_by_sample"] = lists["bounds_by_sample"] = size
            lists["bits_by_sample"] = 2 * size
        self._store: Int32Array = np.empty(samples * size + _BEYOND, np.int32)
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
        if name in self._listed:
            collect_events(np.ascontiguousarray(frames).reshape(-1), shape, lists, self._store)
        if name in self._packed:
            self._bits(name, len(frames))[:] = pack_bits(frames)
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
        if name in self._packed:
            bits = self._bits(name, samples)[:, first_step:]
            return SpikeBits(bits=bits, shape=(channels, height, width)).make().reshape(shape)
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
        if layer.writes_bits:
            self._keep_spikes(layer, span, outputs)
        if outputs.earlier is not None and outputs.total is not None:
            last = self.spread(layer.name, samples, first_step=self._steps - 1)
            outputs.earlier[span] = outputs.total[span] - last.reshape(samples, *layer.shape)

    def _bits(self, name: str, samples: int) -> npt.NDArray[np.uint16]:
        """Return the part of the store with a layer's bits, (samples, T, pixels · tiles)."""
        channels, height, width = self._frames[name]
        first, by_sample, by_step = (
            int(self._lists[name][key][0]) for key in ("bits", "bits_by_sample", "bits_by_step")
        )
        of_sample = self._store[:-_BEYOND].view(np.uint16).reshape(-1, by_sample)
        bits = of_sample[:samples, first : first + self._steps * by_step]
        by_time = bits.reshape(samples, self._steps, by_step)
        return by_time[:, :, : tiles_of((channels, height, width))]

    def _keep_spikes(self, layer: CompiledLayer, span: slice, outputs: LayerOutputs) -> None:
        """Keep and count the spikes of a layer whose kernel writes them as bits."""
        samples = span.stop - span.start
        if outputs.bits is not None:
            outputs.bits[span] = self._bits(layer.name, samples)
        if outputs.total is not None:
            bits = np.ascontiguousarray(self._bits(layer.name, samples))
            outputs.total[span] = SpikeBits(bits=bits, shape=layer.shape).totals()

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
            used = parameters.copy() if is_bias else parameters  # biases are written into them
            run_lif_block(
                arriving, images, described, used, resets, frames.reshape(-1),
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
        described["lists_spikes"] = layer.name in self._listed
        described["counts_updates"] = len(outputs.updates) > 0
        arrays: list[npt.NDArray[np.generic]] = []
        kinds = [
            ("spikes", outputs.spikes, 1, np.int32 if layer.kernel == "sigma-delta" else np.uint8),
            ("totals", outputs.total, 0, count_type(self._steps)),
            ("traces", outputs.traces, 2, np.int32),
            ("finals", outputs.finals, 1, np.int32),
        ]
        for name, kept, leading, kind in kinds[2 if layer.writes_bits else 0 :]:
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
            lists = self._lists[term.source].copy()
            if not term.has_values:
                lists["to_values"] = 0
            g = term.geometry
            described.append(
                (
                    lists[0].item(),
                    term.lag + (0 if term.source == layer.name else lag),
                    *(*g.frame, *g.kernel, *g.stride, *g.padding, *g.dilation),
                    term.first_row,
                )
            )
        return np.array(described, TERM)
