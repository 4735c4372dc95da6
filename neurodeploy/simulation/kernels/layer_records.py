"""Lists of events of a group of samples, and the compiled layers that read and write them."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from neurodeploy.fixedpoint import Int32Array
from neurodeploy.ir.graphs import INPUT, FixedPointGraph
from neurodeploy.simulation.kernels import event_lists
from neurodeploy.simulation.kernels.compiled_layer import CompiledLayer, is_graded
from neurodeploy.simulation.kernels.frame_layout import Spreading
from neurodeploy.simulation.kernels.lif import run_lif
from neurodeploy.simulation.kernels.lif_frames import run_lif_frames
from neurodeploy.simulation.kernels.sigma_delta import note_values, run_sigma
from neurodeploy.simulation.kernels.structures import LISTS, TERM, StructuredArray
from neurodeploy.simulation.kernels.weight_blocks import frame_of, zeros_on_line
from neurodeploy.simulation.outputs import LayerOutputs
from neurodeploy.simulation.recording import SpikeArray, count_type

Kept = TypeVar("Kept", bound=np.generic)


class _Prepared(NamedTuple):
    """Arguments of a kernel that are the same for all groups of samples.

    Attributes:
        described: (1,) LAYER.
        terms: (terms,) TERM.
        weights: `Weights`, as a plain tuple.
        spreading: How events are added to sums in memory, if they are.
        arrays: The first four of `Results`, for all samples.
    """

    described: StructuredArray
    terms: StructuredArray
    weights: tuple[npt.NDArray[np.generic], ...]
    spreading: Spreading | None
    arrays: tuple[npt.NDArray[np.generic], ...]


class EventStore:
    """Room for the events of all layers of some samples; see `event_lists` for their form.

    Args:
        graph: The network.
        steps: Steps of a sample.
        samples: Most samples at one time.
    """

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
            lists["bounds"], lists["bounds_by_step"] = (
                size + steps * neurons + values,
                pixels + 1,
            )
            lists["to_values"] = values
            self._lists[name] = lists
            size += steps * neurons + values + steps * (pixels + 1)
        for lists in self._lists.values():
            lists["events_by_sample"] = lists["bounds_by_sample"] = size
        self._store: Int32Array = np.empty(samples * size, np.int32)
        self._largest: dict[str, int] = {}
        self._sums: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        self._unread = np.zeros((samples, 2), np.int64)
        self._prepared: dict[str, _Prepared] = {}

    def collect(self, name: str, frames: SpikeArray) -> None:
        """List the events of a sender.

        Args:
            name: Of the input or a layer.
            frames: (samples, T, *sender) uint8 or int32.
        """
        channels, height, width = self._frames[name]
        whole = np.ascontiguousarray(frames).reshape(
            len(frames), self._steps, channels, height * width
        )
        lists = self._lists[name]
        event_lists.collect_events(whole, lists, self._store)
        if lists["to_values"][0]:
            self._largest[name] = max(int(frames.max()), -int(frames.min()), 1)

    def fits(self, layer: CompiledLayer) -> bool:
        """Return whether the values that a layer's sources sent are small enough for its kernel."""
        return layer.fits(self._largest)

    def spread(self, name: str, samples: int, *, first_step: int = 0) -> SpikeArray:
        """Return the events of a layer as an array.

        Args:
            name: Of the layer.
            samples: How many samples are in the store.
            first_step: Step to begin with.

        Returns:
            (samples, T - first_step, channels, pixels) uint8, 0 or 1, or int32 values.
        """
        channels, height, width = self._frames[name]
        shape = (samples, self._steps - first_step, channels, height * width)
        lists = self._lists[name]
        frames = np.zeros(shape, np.int32 if lists["to_values"][0] else np.uint8)
        event_lists.spread_events(frames, first_step, lists, self._store)
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
        if layer.name not in self._prepared:
            self._prepared[layer.name] = self._prepare(layer, lag, outputs)
        described, terms, weights, spreading, arrays = self._prepared[layer.name]
        samples, health = span.stop - span.start, np.zeros(4, np.int64)
        updates = outputs.updates[span] if len(outputs.updates) else self._unread[:samples]
        # A plain tuple in the order of `Results`: numba takes ten times as long for a named one.
        results = (*[array[span] for array in arrays], updates, health)
        common = weights, self._store
        if layer.is_sigma:
            largest = np.ones(1, np.int64)
            run_sigma(samples, self._steps, described, terms, *common, results, largest)
            self._largest[layer.name] = int(largest[0])
            self._note_values(layer, span, outputs)
        elif spreading is None:
            run_lif(samples, described, terms, *common, resets, results)
        else:
            frames = self._frames_for(spreading)
            run_lif_frames(
                samples, described, terms, tuple(spreading), frames, *common, resets, results
            )
        outputs.add_health(health)
        if outputs.earlier is not None and outputs.total is not None:
            last = self.spread(layer.name, samples, first_step=self._steps - 1)
            outputs.earlier[span] = outputs.total[span] - last.reshape(samples, *layer.shape)

    def _prepare(self, layer: CompiledLayer, lag: int, outputs: LayerOutputs) -> _Prepared:
        """Bring together all that is the same for each group: a group may take less time."""
        channels, height, width = self._frames[layer.name]

        def by_pixel(
            array: npt.NDArray[Kept] | None, leading: int, kind: type[Kept]
        ) -> npt.NDArray[Kept]:
            """Return (samples, *leading axes, channels, pixels), empty where nothing is kept."""
            if array is None:
                return np.empty((0,) * (leading + 3), kind)
            return array.reshape(*array.shape[: leading + 1], channels, height * width)

        return _Prepared(
            described=self._describe(layer, outputs),
            terms=self._terms(layer, lag),
            weights=tuple(layer.weights),
            spreading=layer.spreading_for(self._steps),
            arrays=(
                by_pixel(outputs.spikes, 1, np.int32 if layer.is_sigma else np.uint8),
                by_pixel(outputs.total, 0, count_type(self._steps)),
                by_pixel(outputs.traces, 2, np.int32),
                by_pixel(outputs.finals, 1, np.int32),
            ),
        )

    def _note_values(self, layer: CompiledLayer, span: slice, outputs: LayerOutputs) -> None:
        """Count the events of steps with values other than -1 and 1, for a layer that was run."""
        if outputs.valued is None:
            return
        channels, height, width = self._frames[layer.name]
        valued = outputs.valued[span].reshape(-1, channels, height * width)
        is_static = note_values(self._steps, self._lists[layer.name], self._store, valued)
        outputs.note_static(is_static=is_static)

    def _frames_for(self, spreading: Spreading) -> npt.NDArray[np.int16] | Int32Array:
        """Return frames of sums for one sample, zero."""
        size = spreading.frame_bytes(self._steps)
        if self._sums.size < size:
            self._sums = zeros_on_line(size)
        room = self._sums[:size]
        room.fill(0)
        return room.view(spreading.rows.dtype)

    def _describe(self, layer: CompiledLayer, outputs: LayerOutputs) -> StructuredArray:
        """Return (1,) LAYER: where the layer's events go, and what to keep."""
        described = layer.description.copy()
        described["lists"] = self._lists[layer.name]
        described["counts_updates"] = len(outputs.updates) > 0
        described["keeps_spikes"] = outputs.spikes is not None
        described["keeps_totals"] = outputs.total is not None
        described["keeps_traces"] = outputs.traces is not None
        described["keeps_finals"] = outputs.finals is not None
        return described

    def _terms(self, layer: CompiledLayer, lag: int) -> StructuredArray:
        """Return (terms,) TERM: where the events of the sources are, and how they are read."""
        described = []
        for term in layer.terms:
            *lists, to_values = self._lists[term.source][0].item()
            geometry = term.geometry
            record = (
                (*lists, to_values if term.has_values else 0),
                term.lag + (0 if term.source == layer.name else lag),
                *geometry.frame, *geometry.kernel, *geometry.stride, *geometry.padding,
                *geometry.dilation, term.first_row,
            )  # fmt: skip
            described.append(record)
        return np.array(described, TERM)
