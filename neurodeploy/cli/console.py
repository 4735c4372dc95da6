"""Output: tables and bars for people, JSON for machines, plain errors."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from neurodeploy.errors import NeurodeployWarning


class RunInterruptedError(Exception):
    """The user interrupted something that can go on; the message says how."""


LINE_SECONDS = 30.0
"""Time between two lines of progress where standard error is no terminal."""
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_json(value: object, *, wrote: Iterable[Path | None] = ()) -> None:
    """Print one JSON document to standard output and nothing else.

    Args:
        value: The document; a mapping where files were written.
        wrote: Files written, which the document names as `wrote`.
    """
    names = [str(path) for path in wrote if path is not None]
    if names:
        assert isinstance(value, Mapping)
        value = {**value, "wrote": names}
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_written(paths: Iterable[Path]) -> None:
    """Name the files written, on standard error."""
    for path in paths:
        err.print(f"wrote {relative(path)}", markup=False, soft_wrap=True)


def print_error(message: object) -> None:
    """Print an error as one block to standard error; of a training's processes, say which one."""
    rank = os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0"
    where = "" if rank == "0" else f" (process {rank})"
    err.print(f"[bold red]error{where}:[/]", end=" ")
    err.print(str(message), markup=False, soft_wrap=True)


def show_warnings_as_lines() -> None:
    """Print each `NeurodeployWarning` as one line, once, without Python's file and line."""
    shown: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: object = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, NeurodeployWarning):
            if str(message) not in shown:
                shown.add(str(message))
                err.print("[bold yellow]warning:[/]", end=" ")
                err.print(str(message), markup=False, soft_wrap=True)
        else:
            sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))

    warnings.showwarning = show
    warnings.simplefilter("always", NeurodeployWarning)


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress]:
    """Return a progress display on standard error, silent when quiet or not a terminal."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=err,
        disable=quiet or not err.is_terminal,
        transient=True,
    ) as bar:
        yield bar


class ProgressLines:
    """Progress as lines, for logs and pipes: one at the end of each epoch, else every half minute.

    An epoch ends where the first part of the note, up to a comma, becomes another.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._start = self._printed = time.monotonic()
        self._last = (0, 0, "")

    def advance(self, done: int, total: int, note: str = "") -> None:
        """Take note of the progress, and print it if it is time."""
        before = self._last[2]
        if before.partition(",")[0] != note.partition(",")[0]:
            self.close()
        self._last = (done, total, note)
        if time.monotonic() - self._printed >= LINE_SECONDS:
            self._print()

    def close(self) -> None:
        """Print the end of an epoch, or of anything that took long."""
        if self._last[2] or time.monotonic() - self._start >= LINE_SECONDS:
            self._print()

    def _print(self) -> None:
        done, total, note = self._last
        self._printed = time.monotonic()
        words = [self._label, f"{done} of {total}", *filter(None, [note])]
        if 0 < done < total:
            left = (self._printed - self._start) * (total - done) / done
            words.append(f"{timedelta(seconds=round(left))} left")
        err.print(", ".join(words), markup=False, soft_wrap=True)


@contextmanager
def progress(label: str, total: int, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Return a function that is called with (done, total) and moves a bar, or prints lines."""
    lines = None if quiet or err.is_terminal else ProgressLines(label)
    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task(label, total=total, note="")

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if lines is not None:
                lines.advance(done, total)

        yield advance
    if lines is not None:
        lines.close()


def command_line() -> str:
    """Return the command that is running, as it can be typed again."""
    return shlex.join(["neurodeploy", *sys.argv[1:]])


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape as "16x8x8"."""
    return "x".join(map(str, shape))


def relative(path: Path) -> str:
    """Return a path as the user would type it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
