"""Report how far a pipeline is, and how long its stages took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from neurodeploy.learning.checkpoints import IterationRecord


class Observer(Protocol):
    """Receives the progress of a pipeline; the command line draws it.

    Example:
        >>> class Printer:
        ...     def stage(self, name, note=""):
        ...         print(name)
        ...     def advance(self, done, total, note=""):
        ...         pass
        >>> Printer().stage("quantize")  # as nd.pipeline.run(..., observer=Printer()) does
        quantize
    """

    def stage(self, name: str, note: str = "") -> None:
        """A stage begins."""
        ...

    def advance(self, done: int, total: int, note: str = "") -> None:
        """The stage has got this far."""
        ...


class Silence:
    """An observer that draws nothing.

    Example:
        >>> class Stages(nd.pipeline.Silence):  # shows the names of stages, nothing else
        ...     def stage(self, name, note=""):
        ...         print(name)
        >>> Stages().stage("quantize")
        quantize
        >>> Stages().advance(1, 2)
    """

    def stage(self, name: str, note: str = "") -> None:
        """Ignore it."""

    def advance(self, done: int, total: int, note: str = "") -> None:
        """Ignore it."""


def iteration_callback(observer: Observer) -> Callable[[IterationRecord], None]:
    """Return a trainer's callback that reports each iteration to an observer."""

    def report(record: IterationRecord) -> None:
        note = f"epoch {record.epoch}/{record.epochs}, loss {record.loss:.3f}"
        observer.advance(record.iteration + 1, record.iterations, note)

    return report


@dataclass(slots=True)
class Stopwatch:
    """Wall time of each stage, in seconds.

    Example:
        >>> watch = nd.pipeline.Stopwatch()
        >>> with watch.time("simulate"):
        ...     result = sum(range(1000))
        >>> list(watch.seconds)
        ['simulate']
    """

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time of the block to `stage`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + spent, 3)
