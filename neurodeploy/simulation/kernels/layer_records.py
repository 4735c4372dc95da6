"""Lists of events of a group of samples, and the compiled layers that read and write them."""

from __future__ import annotations

from typing import TypeVar

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
from neurodeploy.simulation.kernels.structures import LISTS, TERM, Results, StructuredArray
from neurodeploy.simulation.kernels.weight_blocks import frame_of
from neurodeploy.simulation.outputs import LayerOutputs
from neurodeploy.simulation.recording import SpikeArray, count_type

Kept = TypeVar("Kept", bound=np.generic)


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
        self._described: dict[str, tuple[StructuredArray, StructuredArray]] = {}

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
        samples = span.stop - span.start
        results = self._results(layer, span, outputs)
        if layer.name not in self._described:  # the same for all samples
            self._described[layer.name] = self._describe(layer, outputs), self._terms(layer, lag)
        described, terms = self._described[layer.name]
        spreading = layer.spreading_for(self._steps)
        common = tuple(layer.weights), self._store  # numba takes ten times as long for named ones
        if layer.is_sigma:
            largest = np.ones(1, np.int64)
            run_sigma(samples, self._steps, described, terms, *common, tuple(results), largest)
            self._largest[layer.name] = int(largest[0])
            self._note_values(layer, span, outputs)
        elif spreading is None:
            run_lif(samples, described, terms, *common, resets, tuple(results))
        else:
            frames = self._frames_for(spreading)
            run_lif_frames(
                samples, described, terms, tuple(spreading), frames, *common, resets, tuple(results)
            )
        outputs.add_health(results.health)
        if outputs.earlier is not None and outputs.total is not None:
            last = self.spread(layer.name, samples, first_step=self._steps - 1)
            outputs.earlier[span] = outputs.total[span] - last.reshape(samples, *layer.shape)

    def _results(self, layer: CompiledLayer, span: slice, outputs: LayerOutputs) -> Results:
        """Return the arrays that a kernel writes: parts of the outputs, or stand-ins."""
        channels, height, width = self._frames[layer.name]

        def part(array: npt.NDArray[Kept] | None, leading: int, kind: type) -> npt.NDArray[Kept]:
            """Return (samples, *leading axes, channels, pixels)."""
            if array is None:
                return np.zeros((1,) * (leading + 3), kind)
            samples = array[span]
            return samples.reshape(*samples.shape[: leading + 1], channels, height * width)

        has_updates = len(outputs.updates) > 0
        return Results(
            spikes=part(outputs.spikes, 1, np.int32 if layer.is_sigma else np.uint8),
            totals=part(outputs.total, 0, count_type(self._steps)),
            traces=part(outputs.traces, 2, np.int32),
            finals=part(outputs.finals, 1, np.int32),
            updates=outputs.updates[span]
            if has_updates
            else np.zeros((span.stop - span.start, 2), np.int64),
            health=np.zeros(4, np.int64),
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
            self._sums = np.empty(size, np.uint8)
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
        described = np.zeros(len(layer.terms), TERM)
        for record, term in zip(described, layer.terms, strict=True):
            record["source"] = self._lists[term.source][0]
            if not term.has_values:
                record["source"]["to_values"] = 0
            record["lag"] = term.lag + (0 if term.source == layer.name else lag)
            record["first_row"] = term.first_row
            geometry = term.geometry
            record["height"], record["width"], record["channels"] = geometry.frame
            for name in ("kernel", "stride", "padding", "dilation"):
                record[f"{name}_y"], record[f"{name}_x"] = getattr(geometry, name)
        return described
