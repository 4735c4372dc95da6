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
from collections.abc import Iterable, Iterator
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
from neurodeploy.samples.located_files import locate
from neurodeploy.samples.sources import ArraySamples, ObjectSamples, Samples, open_samples
from neurodeploy.simulation.event_simulator import require_fit
from neurodeploy.simulation.long_runs.engines import Crew, WorkerLostError, WorkerPool, open_pool
from neurodeploy.simulation.long_runs.memory import Portion, default_memory, divide_memory
from neurodeploy.simulation.long_runs.parts import Facts, PartStore, digest_graph, join_facts
from neurodeploy.simulation.long_runs.pieces import (
    PiecePlan,
    PieceReader,
    record_piece,
    run_piece,
    run_values,
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
TASKS_PER_WORKER = 16
"""The last tasks are as small as if each worker had so many: all end at about the same time."""
PIECES_ENOUGH = 4096
"""On large clusters no more than this, or one a worker: some fifty a second can be handed out."""
FUTILE_ATTEMPTS = 3
"""So often in a row may workers die before anything is finished."""
AnySamples = Samples | npt.NDArray[np.integer] | Iterable[object] | Path | str
"""A file or folder (`open_samples`), an array, a torch or tonic data set, a list, a generator."""


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
    file = None if crew.is_here else locate(source)
    plan = replace(plan, working_bytes=portion.working_bytes, file=file)
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
            _run_in_pieces(plan, source, store, pool, most=portion.samples, progress=progress)
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
        assert piece.samples is not None
        values, recording, messages = record_piece(
            plan, piece.first, piece.samples, progress=advance
        )
        _show_once(messages, shown)
        done += recording.samples
        yield values.astype(np.int32, copy=False), recording
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


def piece_number(workers: int) -> int:
    """Return how many pieces there would be if all were as small as the last ones."""
    return min(TASKS_PER_WORKER * workers, max(PIECES_ENOUGH, workers))


def _make_reader(
    plan: PiecePlan, source: Samples, store: PartStore, pool: WorkerPool[PiecePlan], *,
    most: int, checks: bool, sends: bool,
) -> PieceReader:  # fmt: skip
    """Make pieces small enough to be sent, if they are, and in the end small enough for all."""
    workers = 0 if pool.is_here else pool.size
    if workers and sends:
        sample = int(np.prod(source.shape, dtype=np.int64)) * source.dtype.itemsize
        most = min(most, max(1, TASK_BYTES // sample))
    least = ceil((source.count or 1) / piece_number(pool.size))
    return PieceReader(
        samples=source, plan=plan, size=most, least=least, workers=workers,
        finished=store.parts(), checks=checks, sends=sends,
    )  # fmt: skip


def _run_in_pieces(
    plan: PiecePlan,
    source: Samples,
    store: PartStore,
    pool: WorkerPool[PiecePlan],
    *,
    most: int,
    progress: Progress | None,
) -> None:
    """Finish what is not finished, `most` samples at a time; start again when workers are lost."""
    shown: set[str] = set()
    futile, checks, sends = 0, True, plan.file is None
    while True:
        before = done = store.finished_samples()
        reader = _make_reader(plan, source, store, pool, most=most, checks=checks, sends=sends)
        try:
            # Pieces that wait without their samples take no memory, and keep workers busy.
            for piece in pool.run(run_piece, reader, waiting=1 if sends else pool.size):
                if piece.data is None:
                    reader.is_stopped = True
                    continue
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
        if not reader.is_stopped:
            return
        checks, sends = False, True
        warnings.warn(
            f"{source.name}: a worker does not find the same file under this name, so samples are "
            "sent to workers, which takes longer. Put the file where all machines see it.",
            NeurodeployWarning,
            stacklevel=3,
        )


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
