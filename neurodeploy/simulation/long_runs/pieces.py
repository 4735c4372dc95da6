"""Pieces of a long run: how they are read from the samples, and how each is computed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError, NeurodeployWarning
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.samples.array_archives import CutShortError
from neurodeploy.samples.sources import Samples
from neurodeploy.simulation.event_simulator import EventSimulator, conform_input
from neurodeploy.simulation.long_runs.parts import (
    Part,
    SampleDigest,
    pack_part,
    read_facts,
)
from neurodeploy.simulation.recording import (
    Feed,
    Progress,
    Record,
    Recording,
    Timing,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PiecePlan:
    """What is done with every piece.

    Attributes:
        graph: The network.
        digest: Of the network, by which a worker knows it again.
        timing: Windows or Lava's time.
        feed: How the input enters.
        record: What to keep.
        working_bytes: What the simulator may use.
        threads: Of one process; None for one a processor.
    """

    graph: FixedPointGraph
    digest: str
    timing: Timing
    feed: Feed
    record: Record
    working_bytes: int
    threads: int | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """Samples `first` to `first + len(values)` - 1, as they were read."""

    first: int
    values: npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinishedPiece:
    """What became of a piece.

    Attributes:
        first: Its first sample.
        last: One behind its last sample.
        data: Content of the part's file.
        warnings: What was warned of.
    """

    first: int
    last: int
    data: bytes
    warnings: tuple[str, ...]


_simulators: dict[tuple[str, int], EventSimulator] = {}
"""The last simulator of this process: what it prepares for a network is kept between pieces."""


def run_values(
    plan: PiecePlan, values: npt.NDArray[np.integer], *, progress: Progress | None = None
) -> Recording:
    """Run samples that are in memory.

    Raises:
        DataError: If they do not fit the network.
        SimulationError: If timing or feed do not.
    """
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
    """Run a piece, here or in a worker.

    Raises:
        DataError: If its samples do not fit the network; it says which they are.
    """
    last = piece.first + len(piece.values)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NeurodeployWarning)
        try:
            values = conform_input(piece.values, plan.graph, feed=plan.feed)
        except DataError as error:
            raise DataError(f"samples {piece.first} to {last - 1}: {error}") from error
        recording = run_values(plan, values)
    return FinishedPiece(
        first=piece.first,
        last=last,
        data=pack_part(recording, values),
        warnings=tuple(
            str(one.message) for one in caught if issubclass(one.category, NeurodeployWarning)
        ),
    )


class PieceReader:
    """Reads what is not finished, piece by piece and in order, and checks what is.

    Attributes:
        error: Why reading ended early; None if it did not. Engines take pieces from threads of
            their own, so this is asked for once all that were read are finished.
    """

    def __init__(
        self,
        samples: Samples,
        plan: PiecePlan,
        *,
        size: int,
        finished: Sequence[Part],
        checks: bool,
    ) -> None:
        """Prepare to read.

        Args:
            samples: Where from.
            plan: What is done with them.
            size: Samples of a piece.
            finished: Parts that exist, in order.
            checks: Whether the samples of those are compared with what the parts answer.
        """
        self.error: Exception | None = None
        self._samples = samples
        self._plan = plan
        self._size = size
        self._finished = finished
        self._checks = checks

    def __iter__(self) -> Iterator[Piece]:
        try:
            position = 0
            for part in self._finished:
                yield from self._gap(position, part.first)
                if self.error is not None:
                    return
                if self._checks:
                    self._check(part)
                position = part.last
            yield from self._gap(position, self._samples.count)
        except Exception as error:
            self.error = error

    def _gap(self, first: int, last: int | None) -> Iterator[Piece]:
        """Give the pieces up to `last`, or for None up to the end of the samples."""
        while self.error is None and (last is None or first < last):
            stop = first + self._size if last is None else min(first + self._size, last)
            try:
                values = self._samples.read(first, stop)
            except CutShortError as error:
                self.error = error
                stop = error.complete
                values = self._samples.read(first, max(first, stop))
            if len(values):
                yield Piece(first=first, values=values)
            first += len(values)
            if first < stop:
                return

    def _check(self, part: Part) -> None:
        """Compare the samples that a part answers with those that are there now.

        Raises:
            DataError: If they differ.
        """
        digest = SampleDigest()
        for first in range(part.first, part.last, self._size):
            values = self._samples.read(first, min(first + self._size, part.last))
            digest.add(conform_input(values, self._plan.graph, feed=self._plan.feed))
        if digest.hex() != read_facts(part)[1]:
            raise DataError(
                f"{self._samples.name}: samples {part.first} to {part.last - 1} are not those that "
                f"{part.path} answers. Give the input of the interrupted run, or delete "
                f"{part.path.parent} to begin anew."
            )
