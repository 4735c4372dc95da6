"""Lists of events of a group of samples, and the compiled layers that read and write them."""

from __future__ import annotations

from math import prod
from typing import cast

import numpy as np
import numpy.typing as npt

from neurodeploy.fixedpoint import STATE_EXPONENT
from neurodeploy.ir.graphs import INPUT, FixedPointGraph
from neurodeploy.simulation.kernels import (
    lif as kernels,
    lif_frames,
    sigma_delta,
)
from neurodeploy.simulation.kernels.compiled_layer import (
    CompiledLayer,
    SigmaNumbers,
    frame_of,
)
from neurodeploy.simulation.kernels.frame_layout import Spreading
from neurodeploy.simulation.outputs import LayerOutputs
from neurodeploy.simulation.recording import (
    CountArray,
    IntArray,
    SpikeArray,
    count_type,
)

_NO_SPIKES = np.zeros((1, 1, 1, 1), np.uint8)
_NO_VALUES = np.zeros((1, 1, 1, 1), np.int32)
_NO_TRACES = np.zeros((1, 1, 1, 1, 1), np.int32)
_NO_FINALS = np.zeros((1, 1, 1, 1), np.int32)


def _is_graded(graph: FixedPointGraph, name: str) -> bool:
    if name == INPUT:
        return graph.input.is_graded
    return graph.layers[graph.names.index(name)].neuron.is_graded


class EventStore:
    """Room for the events of all layers of some samples; see `event_kernels` for their form.

    Args:
        graph: The network.
        steps: Steps of a sample.
        samples: Most samples at one time.
    """

    def __init__(self, graph: FixedPointGraph, *, steps: int, samples: int) -> None:
        self._steps = steps
        self._frames = {name: frame_of(graph.shape_of(name)) for name in (INPUT, *graph.names)}
        self._places: dict[str, tuple[int, int, int]] = {}
        size = 0
        for name, frame in self._frames.items():
            neurons, pixels = prod(frame), frame[1] * frame[2]
            values = steps * neurons if _is_graded(graph, name) else 0
            bounds = size + steps * neurons + values
            self._places[name] = (size, bounds, values)
            size = bounds + steps * (pixels + 1)
        self._size = size
        self._store: IntArray = np.empty(samples * size, np.int32)
        self._largest: dict[str, int] = {}
        self._sums: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        self._no_totals = cast("CountArray", np.zeros((1, 1, 1), count_type(steps)))
        self._described: dict[
            tuple[str, int, int], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
        ] = {}

    def _lists(self, name: str) -> tuple[int, int, int, int, int, int]:
        """Return place, distance by sample and by step of lists, then the same of bounds."""
        channels, height, width = self._frames[name]
        pixels = height * width
        events, bounds, _ = self._places[name]
        return events, self._size, channels * pixels, bounds, self._size, pixels + 1

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
        kernels.collect_events(whole, *self._lists(name), self._places[name][2], self._store)
        if self._places[name][2]:
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
        values = self._places[name][2]
        frames = np.zeros(shape, np.int32 if values else np.uint8)
        kernels.spread_events(frames, first_step, *self._lists(name), values, self._store)
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
            outputs: Gets what is to be kept.
        """
        channels, height, width = self._frames[layer.name]
        pixels, samples = height * width, span.stop - span.start
        has_updates = len(outputs.updates) > 0
        spikes: SpikeArray = _NO_SPIKES if layer.sigma is None else _NO_VALUES
        totals, traces, finals = self._no_totals, _NO_TRACES, _NO_FINALS
        keeps = 0
        if outputs.spikes is not None:
            keeps |= kernels.KEEP_SPIKES
            spikes = outputs.spikes[span].reshape(samples, self._steps, channels, pixels)
        if outputs.total is not None:
            keeps |= kernels.KEEP_TOTALS
            totals = outputs.total[span].reshape(samples, channels, pixels)
        if outputs.traces is not None:
            keeps |= kernels.KEEP_TRACES
            states = outputs.traces.shape[2]
            traces = outputs.traces[span].reshape(samples, self._steps, states, channels, pixels)
        if outputs.finals is not None:
            keeps |= kernels.KEEP_FINALS
            states = outputs.finals.shape[1]
            finals = outputs.finals[span].reshape(samples, states, channels, pixels)
        updates = outputs.updates[span] if has_updates else np.zeros((samples, 2), np.int64)
        health = np.zeros(4, np.int64)
        shared = (
            layer.reach, layer.parameters, layer.parameters.size // 4, self._store, resets, spikes,
            totals, traces, finals, updates, health, has_updates,
        )  # fmt: skip
        key = (layer.name, keeps, lag)
        if key not in self._described:
            self._described[key] = self._describe(layer, keeps), self._table(layer, lag)
        described, table = self._described[key]
        spreading = layer.spreading_for(self._steps)
        if layer.sigma is not None:
            largest = np.ones(1, np.int64)
            sigma_delta.run_sigma(
                0,
                samples,
                self._steps,
                described,
                self._numbers(layer, layer.sigma),
                table,
                layer.rows,
                layer.reach,
                layer.sigma.biases,
                self._store,
                spikes,
                totals,
                traces,
                finals,
                updates,
                health,
                largest,
                has_updates,
            )
            self._largest[layer.name] = int(largest[0])
            if outputs.valued is not None:
                self._note_values(layer.name, samples, outputs, span)
        elif spreading is None:
            kernels.run_lif(0, samples, described, table, layer.rows, *shared)
        else:
            lif_frames.run_spreading_lif(
                0,
                samples,
                described,
                table,
                spreading.terms,
                spreading.places,
                spreading.rows,
                spreading.lanes,
                self._frames_for(spreading),
                spreading.frame,
                spreading.pitch,
                spreading.origin,
                *shared,
            )
        outputs.add_health(health)
        if outputs.earlier is not None and outputs.total is not None:
            last = self.spread(layer.name, samples, first_step=self._steps - 1)
            outputs.earlier[span] = outputs.total[span] - last.reshape(samples, *layer.shape)

    def _numbers(self, layer: CompiledLayer, sigma: SigmaNumbers) -> npt.NDArray[np.int64]:
        numbers = np.zeros(sigma_delta.NUMBER_FIELDS, np.int64)
        numbers[sigma_delta.THRESHOLD] = sigma.threshold
        numbers[sigma_delta.IS_OUTPUT] = sigma.is_output
        numbers[sigma_delta.WRAPS_24] = sigma.wraps_24
        numbers[sigma_delta.COMMON] = layer.shift - STATE_EXPONENT
        numbers[sigma_delta.OWN_VALUES] = self._places[layer.name][2]
        return numbers

    def _note_values(self, name: str, samples: int, outputs: LayerOutputs, span: slice) -> None:
        """Count the events of steps with values other than -1 and 1, for a layer that was run."""
        channels, height, width = self._frames[name]
        assert outputs.valued is not None
        valued = outputs.valued[span].reshape(samples, channels, height * width)
        is_static = sigma_delta.note_values(
            samples,
            self._steps,
            channels,
            height * width,
            *self._lists(name),
            self._places[name][2],
            self._store,
            valued,
        )
        outputs.note_static(is_static=is_static)

    def _frames_for(self, spreading: Spreading) -> npt.NDArray[np.int16] | IntArray:
        """Return frames of sums for one sample, zero."""
        size = spreading.frame_bytes(self._steps)
        if self._sums.size < size:
            self._sums = np.empty(size, np.uint8)
        room = self._sums[:size]
        room.fill(0)
        return room.view(np.int32) if spreading.is_wide else room.view(np.int16)

    def _describe(self, layer: CompiledLayer, keeps: int) -> npt.NDArray[np.int64]:
        described = np.zeros(kernels.LAYER_FIELDS, np.int64)
        channels, height, width = self._frames[layer.name]
        described[: kernels.OUT_HEIGHT] = self._lists(layer.name)
        described[kernels.OUT_HEIGHT] = height
        described[kernels.OUT_WIDTH] = width
        described[kernels.OUT_CHANNELS] = channels
        described[kernels.PADDED] = layer.padded
        described[kernels.SHIFT] = layer.shift
        described[kernels.PARAMETER_STEP] = 0 if layer.is_uniform else layer.padded
        described[kernels.HOLDS_CURRENT] = layer.holds_current
        described[kernels.KEEPS] = keeps
        described[kernels.EVENTS_AT_ONCE] = layer.events_at_once
        return described

    def _table(self, layer: CompiledLayer, lag: int) -> npt.NDArray[np.int64]:
        table = np.zeros((len(layer.terms), kernels.TERM_FIELDS), np.int64)
        for row, term in zip(table, layer.terms, strict=True):
            row[kernels.LAG] = term.lag + (0 if term.source == layer.name else lag)
            row[kernels.EVENTS : kernels.VALUES] = self._lists(term.source)
            row[kernels.VALUES] = self._places[term.source][2] if term.has_values else 0
            row[kernels.HEIGHT : kernels.KERNEL_Y] = term.frame
            row[kernels.KERNEL_Y : kernels.STRIDE_Y] = term.kernel
            row[kernels.STRIDE_Y : kernels.PADDING_Y] = term.stride
            row[kernels.PADDING_Y : kernels.DILATION_Y] = term.padding
            row[kernels.DILATION_Y : kernels.ROWS] = term.dilation
            row[kernels.ROWS] = term.first_row
        return table
