"""Pieces of a long run: how they are read, given to workers, and run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError, NeurodeployWarning
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.samples.array_files import CutShortError
from neurodeploy.samples.located_files import SampleFile, read_located
from neurodeploy.samples.sources import Samples
from neurodeploy.simulation.event_simulator import EventSimulator, check_input
from neurodeploy.simulation.long_runs.parts import PartFile, SampleDigest, pack_part
from neurodeploy.simulation.recording import Feed, Progress, Record, Recording, Timing


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
    file: SampleFile | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """Samples `first` to `last` - 1, as they were read; None where the plan's file has them."""

    first: int
    last: int
    samples: npt.NDArray[np.integer] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinishedPiece:
    """Samples `first` to `last` - 1 as the content of a part's file, and the warnings given.

    Where a worker could not read the samples, there is no content.
    """

    first: int
    last: int
    data: bytes | None
    warnings: tuple[str, ...] = ()


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
    first, last, samples = piece.first, piece.last, piece.samples
    if samples is None:
        assert plan.file is not None
        samples = read_located(plan.file, first, last)
        if samples is None:
            return FinishedPiece(first=first, last=last, data=None)
    values, recording, messages = record_piece(plan, first, samples)
    data = pack_part(recording, values)
    return FinishedPiece(first=first, last=last, data=data, warnings=messages)


def record_piece(
    plan: PiecePlan,
    first: int,
    samples: npt.NDArray[np.integer],
    *,
    progress: Progress | None = None,
) -> tuple[npt.NDArray[np.integer], Recording, tuple[str, ...]]:
    """Return samples in the network's shape, their recording, and warnings."""
    last = first + len(samples)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NeurodeployWarning)
        try:
            values = check_input(samples, plan.graph, feed=plan.feed)
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
        size: Samples of a piece at most.
        least: Where workers share them, samples of a piece at least.
        workers: How many there are; 0 where none share them: pieces then are as large as can be.
        finished: Parts that exist, in order.
        checks: Whether the samples of those are compared with what the parts answer.
        sends: Whether pieces hold samples; else whoever runs them reads the plan's file.
        is_stopped: Set to read no further.
        error: Why reading ended early; None if it did not. Engines take pieces from threads of
            their own, so this is asked for once all that were read are finished.
    """

    samples: Samples
    plan: PiecePlan
    size: int
    least: int = 1
    workers: int = 0
    finished: Sequence[PartFile]
    checks: bool
    sends: bool = True
    is_stopped: bool = False
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
        while not self.is_stopped and self.error is None and (last is None or first < last):
            stop = first + self._size_from(first)
            stop = stop if last is None else min(stop, last)
            if not self.sends:
                yield Piece(first=first, last=stop, samples=None)
                first = stop
                continue
            try:
                values = self.samples.read(first, stop)
            except CutShortError as error:
                self.error = error
                stop = error.complete
                values = self.samples.read(first, max(first, stop))
            if len(values):
                yield Piece(first=first, last=first + len(values), samples=values)
            first += len(values)
            if first < stop:
                return

    def _size_from(self, first: int) -> int:
        """Return how many samples the next piece may have.

        While much is left, few large pieces cost the least; small ones let all workers end at about
        the same time.
        """
        if self.workers == 0 or self.samples.count is None:
            return self.size
        share = (self.samples.count - first) // (2 * self.workers)
        return min(self.size, max(self.least, share))

    def _check(self, part: PartFile) -> None:
        """Refuse to go on if the samples that a part answers are not those that are there now."""
        digest = SampleDigest()
        for first in range(part.first, part.last, self.size):
            values = self.samples.read(first, min(first + self.size, part.last))
            digest.add(check_input(values, self.plan.graph, feed=self.plan.feed))
        if digest.hex() != part.record().samples_sha256:
            raise DataError(
                f"{self.samples.name}: samples {part.first} to {part.last - 1} are not those that "
                f"{part.path} answers. Give the input of the interrupted run, or delete "
                f"{part.path.parent} to begin anew."
            )
