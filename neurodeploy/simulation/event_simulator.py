"""Our simulator: Lava's integers, exactly, as fast as events allow.

The network is run layer by layer instead of step by step: a layer's input over all steps is known
once the layer before it has run. Layers of LIF and sigma-delta neurons are run by compiled kernels
that follow events (`kernels.lif`, for few channels `kernels.lif_frames`, `kernels.sigma_delta`),
input blocks by `kernels.input_blocks`, all others in NumPy (`layer_by_layer`), with the same
integers. Samples are independent of each
other, so groups of them run side by side.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError, NeurodeployWarning, SimulationError
from neurodeploy.fixedpoint import BIAS_BITS
from neurodeploy.ir.graphs import INPUT, FixedPointGraph
from neurodeploy.ir.integer_layers import (
    CubaNeuron,
    FixedInjection,
    FixedLayer,
)
from neurodeploy.processes.platforms import usable_cores
from neurodeploy.simulation.kernels.compiled_layer import (
    CompiledLayer,
    compile_layer,
    is_graded,
    listed_names,
    packed_names,
)
from neurodeploy.simulation.layer_by_layer import (
    parts_between_refreshes,
    reset_steps,
    run_layer,
    warn_of_missing_resets,
)
from neurodeploy.simulation.outputs import Outputs, Plan
from neurodeploy.simulation.recording import (
    Feed,
    IntArray,
    Progress,
    Record,
    Recording,
    SpikeArray,
    Stream,
    Timing,
    Window,
    member_of,
    plan_steps,
)
from neurodeploy.simulation.spike_bits import tiles_of

if TYPE_CHECKING:
    from neurodeploy.simulation.kernels.layer_records import EventStore

Values = npt.NDArray[np.uint8] | IntArray
"""Samples as they are run: bytes stay bytes until a layer needs them wider."""
BATCH_BYTES = 256 * 2**20
"""Working memory that the samples in work at one time may take."""
_GROUP_BYTES = 8 * 2**20
"""Working memory of one group of samples, so that it stays in a processor's cache."""
_GROUPS_PER_THREAD = 4
"""Groups are at most so large that every thread gets this many."""


class EventSimulator:
    """Runs a `FixedPointGraph` in the integers of Lava's fixed-point CPU models.

    Equal to Lava on every spike, current and voltage; the test suite compares them.

    Samples are run in groups, as many side by side as there are threads. Besides inputs and
    recording, a sample in work takes at most

        4 · T · (sum over input and layers of (2 if its values count, else 1) · N + P + 1) bytes

    for N neurons on P pixels (P = 1 for flat layers), 4 · T · N more for an input block, and
    48 · T · N for every layer that is not compiled, or may have to run in NumPy as values of other
    layers' events reach it. A bit for each neuron and step, with channels padded to a multiple of
    16, comes on top. Each thread takes the sums of one sample beside: for the largest layer of at
    most 64 channels, 2 or 4 · T · (P and its kernel's margins) · 16, 32 or 64 bytes, but never more
    than 4 MiB. All together stays below `batch_bytes`, down to one sample. Neither groups nor
    threads change a result.

    Example:
        >>> example = nd.load_example()
        >>> nd.EventSimulator(example.graph).run(example.inputs).spikes_of("conv1").shape
        (32, 4, 8, 4, 4)
    """

    def __init__(
        self,
        graph: FixedPointGraph,
        *,
        batch_bytes: int = BATCH_BYTES,
        threads: int | None = None,
        is_compiled: bool = True,
    ) -> None:
        """Prepare to run `graph`.

        Args:
            graph: The network; skip connections and recurrence are allowed.
            batch_bytes: Bound on working memory.
            threads: How many groups of samples run side by side; None: one for each processor
                that this process may use.
            is_compiled: Whether kernels are used; without them everything runs in NumPy, which
                gives the same and needs no compiler. So it is too where NUMBA_DISABLE_JIT is set.

        Raises:
            SimulationError: If `graph` is no network, or the number of threads is not positive.
        """
        if not isinstance(graph, FixedPointGraph):
            raise SimulationError(
                f"simulation: {type(graph).__name__} in place of a FixedPointGraph. Read a file "
                "with neurodeploy.netx.read(path), or quantize a Graph."
            )
        if threads is not None and threads < 1:
            raise SimulationError(f"simulation: {threads} threads, at least 1 is needed.")
        self.graph = graph
        self._batch_bytes = batch_bytes
        self._threads = threads or usable_cores()
        self._is_compiled = is_compiled
        self._spreads: bool | None = None  # set by tests: see compile_layer
        self._compiled: dict[tuple[str, int], CompiledLayer | None] = {}

    def run(
        self,
        inputs: npt.NDArray[np.integer],
        *,
        timing: Timing = Window(),  # noqa: B008 - a frozen value, not shared state
        feed: Feed = Feed.PORT,
        record: Record = Record(),  # noqa: B008 - likewise
        progress: Progress | None = None,
    ) -> Recording:
        """Run all samples; the recording has the health of every layer.

        Args:
            inputs: (samples, T, *port) integers; without the T axis for `Feed.BIAS`.
            timing: Windows or Lava's time.
            feed: How the input enters.
            record: What to keep.
            progress: Called after each group of samples.

        Raises:
            DataError: If the input has the wrong shape, kind or range.
            SimulationError: If timing, feed or record do not fit the network.

        Example:
            >>> example = nd.load_example()
            >>> record = nd.Record(spikes=("conv2",), counts=True)
            >>> recording = nd.EventSimulator(example.graph).run(example.inputs[:2], record=record)
            >>> recording.spikes_of("conv2").shape, recording.spike_totals()
            ((2, 4, 16, 2, 2), (324, 163, 0))
        """
        start = time.perf_counter()
        graph, feed = self.graph, member_of(Feed, feed, name="feed")
        given, low, high = _checked(inputs, graph, feed, "input")
        steps = plan_steps(timing, None if feed is Feed.BIAS else int(given.shape[1]))
        if feed is not Feed.BIAS and steps != given.shape[1]:
            given = given[:, np.arange(steps) % given.shape[1]]
        values = _keep_bytes(np.ascontiguousarray(given))
        warn_of_missing_resets(graph, timing)
        parts = parts_between_refreshes(graph, timing, steps)
        kept, traced = record.resolve(graph.names)
        plan = Plan(steps=steps, timing=timing, feed=feed, record=record, kept=kept, traced=traced)
        layers = self._layers(max(high, -low), plan)
        outputs = Outputs(graph, plan, samples=len(values), packed=packed_names(layers))
        begin = time.perf_counter()
        done = 0
        for part in parts:
            for finished in self._run_part(values, layers, plan, outputs, part):
                done += finished
                if progress is not None:
                    progress(done // len(parts), len(values))
        return outputs.recording(seconds=time.perf_counter() - begin, startup_seconds=begin - start)

    def _run_part(
        self,
        values: Values,
        layers: tuple[CompiledLayer | None, ...],
        plan: Plan,
        outputs: Outputs,
        part: range,
    ) -> Iterator[int]:
        """Run some of the steps from zero; yield the number of samples of each finished group."""
        written = outputs
        if len(part) < plan.steps:
            plan, values = replace(plan, steps=len(part)), values[:, part.start : part.stop]
            written = Outputs(self.graph, plan, samples=len(values), packed=packed_names(layers))
        workers, size = self._groups(layers, plan, len(values))
        spans = [(i, min(i + size, len(values))) for i in range(0, len(values), size)]
        work = _Work(self.graph, layers, plan, size, written)
        yield from _run_side_by_side(work, values, spans, workers)
        if written is not outputs:
            outputs.take_part(written, part.start)

    def _layers(self, largest: int, plan: Plan) -> tuple[CompiledLayer | None, ...]:
        """Compile what can be compiled, for values of this size; None for the other layers."""
        if not (self._is_compiled and _has_compiler()):
            return (None,) * len(self.graph.layers)
        takes_values = self.graph.input.is_graded or plan.feed is Feed.NEURON
        if takes_values and plan.feed is not Feed.BIAS:
            largest = 1 << (largest - 1).bit_length()  # few different ones, to be kept
        else:
            largest = 1
        found = []
        for layer in self.graph:
            size = largest if INPUT in _sources(layer) else 1
            if (layer.name, size) not in self._compiled:
                self._compiled[layer.name, size] = compile_layer(
                    self.graph, layer, largest_input=size, spreads=self._spreads
                )
            found.append(self._compiled[layer.name, size])
        return tuple(found)

    def _groups(
        self, layers: tuple[CompiledLayer | None, ...], plan: Plan, samples: int
    ) -> tuple[int, int]:
        """Return the number of groups side by side, and of samples in each; see the class."""
        sums, workers = 0, self._threads
        size = 2 * plan.steps * sum(tiles_of(layer.shape) for layer in self.graph)
        for name in listed_names(self.graph, layers, plan.steps):
            shape = self.graph.shape_of(name)
            values = prod(shape) * (1 + is_graded(self.graph, name))
            size += 4 * plan.steps * (values + prod(shape[1:]) + 1)
        for layer, compiled in zip(self.graph, layers, strict=True):
            if compiled is None or compiled.sizes:
                size += 48 * plan.steps * layer.neurons
            if compiled is None:
                if not all(isinstance(c.synapse, FixedInjection) for c in layer.connections):
                    workers = 1  # NumPy's matrix products use all processors themselves
            elif compiled.is_block:
                size += 4 * plan.steps * layer.neurons
            elif (spreading := compiled.spreading_for(plan.steps)) is not None:
                sums = max(sums, spreading.frame_bytes(plan.steps))
        workers = max(1, min(workers, samples, self._batch_bytes // (size + sums)))
        group = min(
            (self._batch_bytes // workers - sums) // size,
            max(1, _GROUP_BYTES // size),
            -(-samples // (workers * _GROUPS_PER_THREAD)),
        )
        return workers, max(1, group)


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """Runs groups of samples, `size` at most, through all layers; each thread in its own store."""

    graph: FixedPointGraph
    layers: tuple[CompiledLayer | None, ...]
    plan: Plan
    size: int
    outputs: Outputs
    local: threading.local = field(default_factory=threading.local)

    def run(self, values: Values, first: int, stop: int) -> int:
        """Run samples first to stop; return their number."""
        graph, plan, span = self.graph, self.plan, slice(first, stop)
        part, lag = values[span], 1 if isinstance(plan.timing, Stream) else 0
        known: dict[str, SpikeArray] = {}
        is_listed = {term.source for layer in self.layers if layer for term in layer.terms}
        store = self._store()
        if plan.feed is not Feed.BIAS and store is not None and INPUT in is_listed:
            store.collect(INPUT, part)
        for index, (layer, compiled) in enumerate(zip(graph, self.layers, strict=True)):
            outputs = self.outputs.layers[index]
            if compiled is None or store is None or not store.fits(compiled):
                for source in _sources(layer) - {*known, layer.name}:
                    known[source] = self._spread(source, part, store)
                fed = part.astype(np.int32, copy=False)
                sent = run_layer(graph, layer, index, known, fed, plan, outputs, span)
                known[layer.name] = sent
                if store is not None and layer.name in is_listed:
                    store.collect(layer.name, sent)
                continue
            resets = np.array(reset_steps(plan.timing, plan.steps, index), bool)
            if compiled.is_block:
                is_bias, fed = plan.feed is Feed.BIAS, part.astype(np.int32, copy=False)
                store.run_block(
                    compiled, fed, span, is_bias=is_bias, resets=resets, outputs=outputs
                )
                continue
            store.run(compiled, span, lag=lag, resets=resets, outputs=outputs)
        return stop - first

    def _spread(self, source: str, part: Values, store: EventStore | None) -> SpikeArray:
        """Return the events of a compiled layer, or of the input, for a layer that NumPy runs."""
        if source == INPUT:
            is_graded = self.graph.input.is_graded
            return part.astype(np.int32, copy=False) if is_graded else (part != 0).astype(np.uint8)
        assert store is not None
        shape = (len(part), self.plan.steps, *self.graph.shape_of(source))
        return store.spread(source, len(part)).reshape(shape)

    def _store(self) -> EventStore | None:
        """Return the store of this thread; None if no layer needs one."""
        if all(layer is None for layer in self.layers):
            return None
        if not hasattr(self.local, "store"):
            from neurodeploy.simulation.kernels import layer_records  # here: it loads LLVM

            self.local.store = layer_records.EventStore(
                self.graph,
                self.layers,
                steps=self.plan.steps,
                samples=self.size,
            )
        store: EventStore = self.local.store
        return store


def _run_side_by_side(
    work: _Work, values: Values, spans: list[tuple[int, int]], workers: int
) -> Iterator[int]:
    """Run all spans in threads; yield the number of samples of each as it is finished."""
    if workers == 1:
        for first, stop in spans:
            yield work.run(values, first, stop)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="neurodeploy") as pool:
        try:
            runs = [pool.submit(work.run, values, first, stop) for first, stop in spans]
            for future in as_completed(runs):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _has_compiler() -> bool:
    """Return whether loops are compiled, as numba's setting has it."""
    loaded = sys.modules.get("numba")  # not for this alone: it takes longer than many a run
    if loaded is not None:
        return not loaded.config.DISABLE_JIT
    return os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")


def _sources(layer: FixedLayer) -> set[str]:
    return {connection.source for connection in layer.connections}


def require_fit(
    shape: tuple[int, ...], graph: FixedPointGraph, *, feed: Feed, where: str = "input"
) -> None:
    """Check feed and shape of samples, (samples, T, ...) or for `Feed.BIAS` (samples, ...).

    `where` names the samples in errors.

    Raises:
        DataError: If the shape does not fit.
        SimulationError: If the feed does not exist in this network.
    """
    if feed is Feed.BIAS and not isinstance(graph.layers[0].neuron, CubaNeuron):
        raise SimulationError(
            "simulation: feed 'bias' needs LIF neurons in the input block. Use --feed neuron."
        )
    if feed is Feed.BIAS and any(INPUT in _sources(layer) for layer in graph.layers[1:]):
        raise SimulationError(
            "simulation: feed 'bias' is for networks in which only the input block reads the input."
        )
    if (feed is Feed.PORT) == graph.has_input_neuron:
        raise SimulationError(
            "simulation: the file has an input neuron block; feed its neuron or its bias "
            "(--feed neuron or --feed bias). Lava does not connect its port."
            if graph.has_input_neuron
            else f"simulation: feed '{feed}' needs an input block with neurons, which this network "
            "does not have. Use --feed port."
        )
    port = graph.input.shape
    leading = 1 if feed is Feed.BIAS else 2

    def fits(values: tuple[int, ...]) -> bool:
        return values == port or (len(port) == 1 and len(values) > 0 and prod(values) == prod(port))

    if not fits(shape[leading:]):
        expected, hint = ", ".join((*("samples", "T")[:leading], *map(str, port))), ""
        if leading == 2 and fits(shape[1:]):
            hint = (
                " Still images have no T axis: show each in T steps, "
                "numpy.repeat(input[:, None], T, axis=1)."
            )
        elif len(shape) > 1 and fits(shape):
            hint = " This is one sample: add the axis of the samples, input[None]."
        raise DataError(f"{where}: shape {shape}, ({expected}) is required.{hint}")
    if 0 in shape:
        raise DataError(f"{where}: shape {shape}; at least one sample and one step needed.")


def conform_input(
    inputs: npt.NDArray[np.integer], graph: FixedPointGraph, *, feed: Feed, where: str = "input"
) -> IntArray:
    """Return samples as int32; see `check_input`."""
    return check_input(inputs, graph, feed=feed, where=where).astype(np.int32, copy=False)


def check_input(
    inputs: npt.NDArray[np.integer], graph: FixedPointGraph, *, feed: Feed, where: str = "input"
) -> npt.NDArray[np.integer]:
    """Return samples, which fit int32, as (samples, T, *port), or for `Feed.BIAS` (samples, *port).

    A flat port also takes (samples, T, C, H, W), read in C order. `where` names the samples in
    errors.

    Raises:
        DataError: If the dtype is not integer, the shape does not fit, or a value exceeds what
            the port can carry.
        SimulationError: If the feed does not exist in this network.
    """
    return _checked(inputs, graph, feed, where)[0]


def _checked(
    inputs: npt.NDArray[np.integer], graph: FixedPointGraph, feed: Feed, where: str
) -> tuple[npt.NDArray[np.integer], int, int]:
    """Return what `check_input` does, and the extremes as `_extremes` has them."""
    array = np.asarray(inputs)
    if array.dtype.kind not in "iub":
        raise DataError(
            f"{where}: dtype {array.dtype}, integers are required. Quantize the samples first."
        )
    feed = member_of(Feed, feed, name="feed")
    require_fit(array.shape, graph, feed=feed, where=where)
    array = array.reshape(*array.shape[: 1 if feed is Feed.BIAS else 2], *graph.input.shape)
    limits = np.iinfo(np.int32)
    low, high = _extremes(array)
    if feed is Feed.BIAS:
        _require_range(array, low, high, BIAS_BITS - 1, "the bias of an input block")
    elif feed is Feed.PORT and graph.input.is_graded:
        bits = graph.input.message_bits
        _require_range(array, low, high, bits, f"{bits} message bits (--input-bits)")
    elif feed is Feed.PORT and not (low >= 0 and high <= 1):
        warnings.warn(
            f"{where}: values from {array.min()} to {high} on a binary port; every value but 0 "
            "counts as one spike. Give the number of bits (--input-bits) if the values matter.",
            NeurodeployWarning,
            stacklevel=3,
        )
    if low < limits.min or high > limits.max:
        raise DataError(f"{where}: values from {array.min()} to {array.max()} exceed 32 bits.")
    return array, low, high


def _keep_bytes(array: npt.NDArray[np.integer]) -> Values:
    """Return samples that fit int32 as int32, or as they are if they take a byte each."""
    return array.view(np.uint8) if array.dtype == np.uint8 else array.astype(np.int32, copy=False)


def _extremes(array: npt.NDArray[np.integer]) -> tuple[int, int]:
    """Return the smallest value, or 0 if none is negative, and the largest; at least 1."""
    if array.flags.c_contiguous:
        # As unsigned numbers negative ones are large: one pass tells whether there are any.
        unsigned = array.view(f"u{array.dtype.itemsize}")
        high = int(unsigned.max())
        if array.dtype.kind != "i" or high <= np.iinfo(array.dtype).max:
            return 0, max(high, 1)
    return min(int(array.min()), 0), max(int(array.max()), 1)


def _require_range(
    array: npt.NDArray[np.integer], low: int, high: int, bits: int, carrier: str
) -> None:
    """Refuse values of 2**bits or more in size."""
    if max(high, -low) >= 1 << bits:
        raise DataError(
            f"input: values from {array.min()} to {array.max()} do not fit {carrier}: less than "
            f"{1 << bits} in size is allowed. Scale the input."
        )
