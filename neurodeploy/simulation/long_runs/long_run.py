"""Runs over more samples than fit into memory, which go on where they were stopped.

Samples are read, run and written a few at a time. What is finished is kept beside the output
(`long_runs.parts`) until all of it is joined, so that nothing that ends a run early
costs a finished sample: an interrupt, a killed process, a lost worker, a full disk, an input that
is cut short.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy._version import __version__
from neurodeploy.errors import DataError, NeurodeployWarning, OutputError, SimulationError
from neurodeploy.files import require_output
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.samples.array_files import SUFFIXES, ArrayStream, CutShortError, write_arrays
from neurodeploy.samples.sources import ArraySamples, ObjectSamples, Samples, open_samples
from neurodeploy.simulation.event_simulator import EventSimulator, conform_input, require_fit
from neurodeploy.simulation.long_runs.engines import Crew, WorkerLostError, WorkerPool, open_pool
from neurodeploy.simulation.long_runs.memory import Portion, default_memory, divide_memory
from neurodeploy.simulation.long_runs.parts import (
    Facts,
    PartFile,
    PartStore,
    SampleDigest,
    digest_graph,
    join_facts,
    pack_part,
)
from neurodeploy.simulation.recording import (
    Feed,
    IntArray,
    Progress,
    Record,
    Recording,
    Timing,
    Window,
    member_of,
    plan_steps,
)
from neurodeploy.simulation.recording_files import save_recording

TASK_BYTES = 8 * 2**20
"""Samples that are sent to a worker at a time take at most this much, unless one takes more."""
TASKS_PER_WORKER = 4
"""At least so many, so that all workers end at about the same time."""
FUTILE_ATTEMPTS = 3
"""So often in a row may workers die before anything is finished."""
AnySamples = Samples | npt.NDArray[np.integer] | Iterable[object] | Path | str
"""A file or folder (`open_samples`), an array, a torch or tonic data set, a list, a generator."""
Piece = tuple[int, npt.NDArray[np.integer]]
"""The number of a first sample, and the samples from there on, as they were read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongRun:
    """The outcome of a run over many samples; its arrays are in the file `output`.

    Attributes:
        output: That file.
        facts: Of all samples.
        seconds: Wall time of this call.
        resumed: Samples that were finished before it.
        portion: How memory was divided.
    """

    output: Path
    facts: Facts
    seconds: float
    resumed: int
    portion: Portion


@dataclass(frozen=True, slots=True, eq=False)
class PiecePlan:
    """How every piece is run; by its digest, a worker knows the network again."""

    graph: FixedPointGraph
    digest: str
    timing: Timing
    feed: Feed
    record: Record
    threads: int | None
    working_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinishedPiece:
    """Samples `first` to `last` - 1 as the content of a part's file, and the warnings given."""

    first: int
    last: int
    data: bytes
    warnings: tuple[str, ...]


_simulators: dict[tuple[str, int], EventSimulator] = {}
"""The last simulator of this process: what it prepares for a network is kept between pieces."""


def run_values(
    plan: PiecePlan, values: npt.NDArray[np.integer], *, progress: Progress | None = None
) -> Recording:
    """Run samples that are in memory."""
    key = (plan.digest, plan.working_bytes)
    simulator = _simulators.get(key)
    if simulator is None:
        simulator = EventSimulator(plan.graph, batch_bytes=plan.working_bytes, threads=plan.threads)
        _simulators.clear()
        _simulators[key] = simulator
    return simulator.run(
        values, timing=plan.timing, feed=plan.feed, record=plan.record, progress=progress
    )


def run_piece(plan: PiecePlan, piece: Piece) -> FinishedPiece:
    """Run a piece, here or in a worker; name its samples in an error."""
    first, samples = piece
    values, recording, messages = _record(plan, piece)
    data = pack_part(recording, values)
    return FinishedPiece(first=first, last=first + len(samples), data=data, warnings=messages)


def _record(
    plan: PiecePlan, piece: Piece, *, progress: Progress | None = None
) -> tuple[IntArray, Recording, tuple[str, ...]]:
    """Return the samples of a piece as they entered the network, their recording, and warnings."""
    first, samples = piece
    last = first + len(samples)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NeurodeployWarning)
        try:
            values = conform_input(samples, plan.graph, feed=plan.feed)
        except DataError as error:
            raise DataError(f"samples {first} to {last - 1}: {error}") from error
        recording = run_values(plan, values, progress=progress)
    messages = tuple(
        str(one.message) for one in caught if issubclass(one.category, NeurodeployWarning)
    )
    return values, recording, messages


@dataclass(slots=True, kw_only=True, eq=False)
class PieceReader:
    """Reads what is not finished, piece by piece and in order, and checks what is.

    Attributes:
        samples: Where from.
        plan: How pieces are run.
        size: Samples of a piece.
        finished: Parts that exist, in order.
        checks: Whether the samples of those are compared with what the parts answer.
        error: Why reading ended early; None if it did not. Engines take pieces from threads of
            their own, so this is asked for once all that were read are finished.
    """

    samples: Samples
    plan: PiecePlan
    size: int
    finished: Sequence[PartFile]
    checks: bool
    error: Exception | None = None

    def __iter__(self) -> Iterator[Piece]:
        try:
            position = 0
            for part in self.finished:
                yield from self._gap(position, part.first)
                if self.error is not None:
                    return
                if self.checks:
                    self._check(part)
                position = part.last
            yield from self._gap(position, self.samples.count)
        except Exception as error:
            self.error = error

    def _gap(self, first: int, last: int | None) -> Iterator[Piece]:
        """Yield the pieces up to `last`, or for None up to the end of the samples."""
        while self.error is None and (last is None or first < last):
            stop = first + self.size if last is None else min(first + self.size, last)
            try:
                values = self.samples.read(first, stop)
            except CutShortError as error:
                self.error = error
                stop = error.complete
                values = self.samples.read(first, max(first, stop))
            if len(values):
                yield first, values
            first += len(values)
            if first < stop:
                return

    def _check(self, part: PartFile) -> None:
        """Refuse to go on if the samples that a part answers are not those that are there now."""
        digest = SampleDigest()
        for first in range(part.first, part.last, self.size):
            values = self.samples.read(first, min(first + self.size, part.last))
            digest.add(conform_input(values, self.plan.graph, feed=self.plan.feed))
        if digest.hex() != part.record().samples_sha256:
            raise DataError(
                f"{self.samples.name}: samples {part.first} to {part.last - 1} are not those that "
                f"{part.path} answers. Give the input of the interrupted run, or delete "
                f"{part.path.parent} to begin anew."
            )


def parts_folder(output: Path | str) -> Path:
    """Name the folder that holds the finished parts of a run into `output`."""
    output = Path(output)
    return output.with_name(f"{output.name}.parts")


def run_samples(
    graph: FixedPointGraph,
    samples: AnySamples,
    output: Path | str,
    *,
    timing: Timing = Window(),  # noqa: B008 - a frozen value, not shared state
    feed: Feed = Feed.PORT,
    record: Record = Record(),  # noqa: B008 - likewise
    memory: int | None = None,
    crew: Crew = Crew(),  # noqa: B008 - likewise
    resume: bool = False,
    progress: Progress | None = None,
) -> LongRun:
    """Run samples of any number into a file; the result is that of one run over all of them.

    Args:
        graph: The network.
        samples: A file (`open_samples`), an array, a torch or tonic data set, a list, a generator.
        output: `.npz`, `.h5` or `.hdf5`, to be created or replaced, with the arrays of
            `neurodeploy.simulation.recording_files.recording_arrays`.
        timing: Windows or Lava's time.
        feed: How the input enters.
        record: What to keep.
        memory: Bytes that this machine's processes may take together (on a cluster elsewhere: each
            of its workers); None for half of the memory available, at most 4 GiB.
        crew: Which processes or cluster compute.
        resume: Go on with what an earlier run of the same network and samples has finished.
        progress: Called with (samples done, samples in all) after each piece.

    Raises:
        DataError: If samples are malformed or end early, or parts are of another run.
        OutputError: If the output cannot be written, or parts are there and `resume` is False.
        SimulationError: If the run cannot be carried out as asked, or workers keep dying.

    Example:
        >>> example = nd.load_example()
        >>> run = nd.run_samples(example.graph, example.samples, "spikes.npz", memory=4 * 2**30)
        >>> sorted(np.load(run.output))[:3], run.facts.samples
        (['current', 'layers', 'prediction'], 32)
    """
    begin = time.perf_counter()
    output, feed = Path(output), member_of(Feed, feed, name="feed")
    named = [Path(samples)] if isinstance(samples, Path | str) else []
    require_output(output, SUFFIXES, inputs=named)
    source = as_samples(samples, graph, timing)
    threads = None if crew.is_here else 1  # there are as many processes as are wanted
    plan = PiecePlan(graph, digest_graph(graph), timing, feed, record, threads)
    portion = _divide(plan, source, memory=memory, crew=crew)
    plan = replace(plan, working_bytes=portion.working_bytes)
    store = PartStore(parts_folder(output), _identity(plan, source))
    if store.exists() and not resume:
        store.require_idle()
        raise OutputError(
            f"{store.folder}: holds {store.finished_samples()} finished samples of an interrupted "
            "run. Go on with --resume, or delete the folder to begin anew."
        )
    resumed, facts = 0, None
    if crew.is_here and not store.exists() and (source.count or np.inf) <= portion.samples:
        facts = _run_at_once(plan, source, output, progress)
    if facts is None:
        with open_pool(crew, plan) as pool, store.locked():
            resumed = store.finished_samples()
            portion = _for_workers(portion, pool, source)
            _run_in_pieces(plan, source, store, pool, size=portion.samples, progress=progress)
            facts = _join(store, output)
            store.remove()
    seconds = time.perf_counter() - begin
    return LongRun(output=output, facts=facts, seconds=seconds, resumed=resumed, portion=portion)


def record_in_pieces(
    graph: FixedPointGraph,
    samples: AnySamples,
    *,
    timing: Timing = Window(),  # noqa: B008 - a frozen value, not shared state
    feed: Feed = Feed.PORT,
    record: Record = Record(),  # noqa: B008 - likewise
    memory: int | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[IntArray, Recording]]:
    """Run samples of any number; yield a few at a time, as they entered the network, recorded.

    Nothing is kept of them here. The arguments are those of `run_samples`, the errors likewise.
    """
    source = as_samples(samples, graph, timing)
    plan = PiecePlan(graph, digest_graph(graph), timing, feed, record, None)
    portion = _divide(plan, source, memory=memory, crew=Crew())
    plan = replace(plan, working_bytes=portion.working_bytes)
    size = portion.samples
    reader = PieceReader(samples=source, plan=plan, size=size, finished=(), checks=False)
    shown: set[str] = set()
    done = 0

    def advance(finished: int, total: int) -> None:
        if progress is not None:
            progress(done + finished, source.count or done + total)

    for piece in reader:
        values, recording, messages = _record(plan, piece, progress=advance)
        _show_once(messages, shown)
        done += recording.samples
        yield values, recording
    if reader.error is not None:
        raise reader.error


def _divide(plan: PiecePlan, source: Samples, *, memory: int | None, crew: Crew) -> Portion:
    """Check, before anything runs, that the run is possible as asked; divide its memory."""
    if source.count == 0:
        raise DataError(f"{source.name}: no samples; at least one sample is needed.")
    shape = (source.count or 1, *source.shape)
    require_fit(shape, plan.graph, feed=plan.feed, where=source.name)
    plan.record.resolve(plan.graph.names)
    return divide_memory(
        plan.graph,
        memory=default_memory() if memory is None else memory,
        processes=max(1, crew.processes_here),
        steps=plan_steps(plan.timing, None if plan.feed is Feed.BIAS else source.shape[0]),
        input_shape=source.shape,
        input_dtype=source.dtype,
        record=plan.record,
    )


def _identity(plan: PiecePlan, source: Samples) -> dict[str, str]:
    """Describe a run by what must be equal for another one to go on with its parts."""
    return {
        "network": plan.digest,
        "time": repr(plan.timing),
        "feed": plan.feed.value,
        "what is recorded": repr(plan.record),
        "shape of a sample": repr(source.shape),
        "version of neurodeploy": __version__,
    }


def as_samples(samples: AnySamples, graph: FixedPointGraph, timing: Timing) -> Samples:
    """Take samples in any form that `run_samples` accepts."""
    if isinstance(samples, Path | str):
        return open_samples(samples, steps=timing.steps, port=graph.input.shape)
    if isinstance(samples, np.ndarray):
        return ArraySamples(samples)
    if isinstance(samples, Samples):
        return samples
    return ObjectSamples(samples)


def _run_at_once(
    plan: PiecePlan, source: Samples, output: Path, progress: Progress | None
) -> Facts | None:
    """Run samples that all fit into memory; None if not all of them are there."""
    assert source.count is not None
    try:
        values = source.read(0, source.count)
    except CutShortError:
        return None
    recording = run_values(plan, values, progress=progress)
    save_recording(output, recording)
    return Facts.of(recording)


def _for_workers(portion: Portion, pool: WorkerPool[PiecePlan], source: Samples) -> Portion:
    """Make pieces small enough to be sent, and enough of them for all workers."""
    if pool.is_here:
        return portion
    sample = int(np.prod(source.shape, dtype=np.int64)) * source.dtype.itemsize
    samples = min(portion.samples, max(1, TASK_BYTES // sample))
    if source.count is not None:
        samples = min(samples, ceil(source.count / (TASKS_PER_WORKER * pool.size)))
    return replace(portion, samples=samples)


def _run_in_pieces(
    plan: PiecePlan,
    source: Samples,
    store: PartStore,
    pool: WorkerPool[PiecePlan],
    *,
    size: int,
    progress: Progress | None,
) -> None:
    """Finish what is not finished; start again when workers are lost."""
    shown: set[str] = set()
    futile, checks = 0, True
    while True:
        before = done = store.finished_samples()
        parts = store.parts()
        reader = PieceReader(samples=source, plan=plan, size=size, finished=parts, checks=checks)
        try:
            for piece in pool.run(run_piece, reader):
                store.write(piece.first, piece.last, piece.data)
                done += piece.last - piece.first
                if progress is not None:
                    progress(done, source.count or done)
                _show_once(piece.warnings, shown)
        except WorkerLostError as error:
            checks = False
            futile = 0 if done > before else futile + 1
            if futile >= FUTILE_ATTEMPTS:
                raise SimulationError(
                    f"simulation: workers died {futile} times before a piece was finished "
                    f"({error}). If memory ran out, give less of it (--memory) or use fewer "
                    f"workers. {done} samples are finished: add --resume to go on."
                ) from error
            continue
        if isinstance(reader.error, CutShortError):
            kept = f"The results of these are kept in {store.folder}. " if done else ""
            raise DataError(
                f"{reader.error} {kept}Get the whole input"
                + (" and go on with --resume." if done else ".")
            ) from reader.error
        if reader.error is not None:
            raise reader.error
        return


def _show_once(messages: Iterable[str], shown: set[str]) -> None:
    """Warn of what was not warned of yet; texts that differ in numbers alone count as one."""
    for message in messages:
        kind = re.sub(r"-?\d+", "#", message)
        if kind not in shown:
            shown.add(kind)
            warnings.warn(message, NeurodeployWarning, stacklevel=4)


def _join(store: PartStore, output: Path) -> Facts:
    """Write the output from the parts, a part at a time."""
    parts = store.parts()
    facts = join_facts([part.record().facts for part in parts])

    def stream(name: str) -> ArrayStream:
        head = parts[0].array(name)
        return ArrayStream(
            shape=(facts.samples, *head.shape[1:]),
            dtype=head.dtype,
            pieces=(part.array(name, like=head) for part in parts),
        )

    layers = ArrayStream.of(np.array(facts.layers))
    write_arrays(output, {"layers": layers, **{n: stream(n) for n in parts[0].array_names()}})
    return facts
