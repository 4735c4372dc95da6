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

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table

from neurodeploy.errors import NeurodeployError, NeurodeployWarning
from neurodeploy.files import real_path


class RunInterruptedError(NeurodeployError):
    """The user interrupted something that can go on; the message says how."""

    exit_code = 130


@contextmanager
def resumable(kept: Path, advice: str) -> Iterator[None]:
    """Let an interruption of the block give advice on how to go on, once `kept` exists."""
    try:
        yield
    except KeyboardInterrupt:
        if not kept.exists():
            raise
        raise RunInterruptedError(f"interrupted. {advice}") from None


LINE_SECONDS = 30.0
"""Time between two lines of progress where standard error is no terminal."""


class _LiteralConsole(Console):
    """A console that shows every string as it is: no markup, no control characters.

    Names come from files of strangers. One may look like markup, which a console would interpret or
    stumble over, and an escape sequence in it could rewrite what the terminal shows.
    """

    def __init__(self, *, is_error: bool = False) -> None:
        super().__init__(stderr=is_error, highlight=False, markup=False, emoji=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the pieces of anything that is printed, without control characters."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)


def printable(text: str) -> str:
    """Return a text of any number of lines with its control characters written out."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)


out = _LiteralConsole()
err = _LiteralConsole(is_error=True)


def print_json(value: object, *, wrote: Iterable[Path | None] = ()) -> None:
    """Print one JSON document to standard output, and nothing else.

    A document about files `wrote`, a mapping, names them so.
    """
    names = [str(path) for path in wrote if path is not None]
    if names:
        assert isinstance(value, Mapping)
        value = {**value, "wrote": names}
    is_ascii = not (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=is_ascii) + "\n")


def print_written(paths: Iterable[Path]) -> None:
    """Name the files written, on standard error."""
    for path in paths:
        err.print(f"wrote {relative(path)}", soft_wrap=True)


def print_error(message: object) -> None:
    """Print an error as one block to standard error; of a training's processes, say which one."""
    rank = os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0"
    where = "" if rank == "0" else f" (process {rank})"
    err.print(f"error{where}:", end=" ", style="bold red")
    err.print(str(message), soft_wrap=True)


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
                err.print("warning:", end=" ", style="bold yellow")
                err.print(str(message), soft_wrap=True)
        else:
            sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))

    warnings.showwarning = show
    warnings.simplefilter("always", NeurodeployWarning)


class StageDisplay:
    """Progress on standard error: a bar for each stage on a terminal, lines in logs and pipes.

    Lines come at the end of each epoch, else every half minute. An epoch ends where the first part
    of the note, up to a comma, becomes another.
    """

    def __init__(self, bar: Progress, *, quiet: bool) -> None:
        self._bar, self._quiet = bar, quiet
        self._task: TaskID | None = None
        self._label = ""
        self._start = self._printed = time.monotonic()
        self._last = (0, 0, "")

    def stage(self, name: str, note: str = "") -> None:
        """Begin a stage, and name it."""
        self.begin(name, note)
        if not self._quiet:
            err.print(name, end=" ", style="bold")
            err.print(note)

    def begin(self, name: str, note: str = "", *, total: int | None = None) -> None:
        """Begin something that is named only once it has taken long."""
        self.finish()
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(name, total=total, note=note)
        self._label = name
        self._start = self._printed = time.monotonic()
        self._last = (0, 0, "")

    def advance(self, done: int, total: int, note: str = "") -> None:
        """Move the bar, or print a line if it is time."""
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total, note=note)
        before = self._last[2]
        if before.partition(",")[0] != note.partition(",")[0]:
            self.finish()
        self._last = (done, total, note)
        if time.monotonic() - self._printed >= LINE_SECONDS:
            self._print()

    def finish(self) -> None:
        """Print the end of an epoch, or of anything that took long."""
        if self._last[2] or time.monotonic() - self._start >= LINE_SECONDS:
            self._print()

    def _print(self) -> None:
        done, total, note = self._last
        self._printed = time.monotonic()
        if self._quiet or err.is_terminal or self._task is None:
            return
        words = [self._label, f"{done} of {total}", *filter(None, [note])]
        if 0 < done < total:
            left = (self._printed - self._start) * (total - done) / done
            words.append(f"{timedelta(seconds=round(left))} left")
        err.print(", ".join(words), soft_wrap=True)


@contextmanager
def draw_stages(*, quiet: bool) -> Iterator[StageDisplay]:
    """Yield a display of stages."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=err,
        disable=quiet or not err.is_terminal,
        transient=True,
    ) as bar:
        display = StageDisplay(bar, quiet=quiet)
        yield display
        display.finish()


@contextmanager
def progress(label: str, total: int, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that is called with (done, total) and moves a bar, or prints lines."""
    with draw_stages(quiet=quiet) as display:
        display.begin(label, total=total)
        yield display.advance


@contextmanager
def progress_by_name(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that is called with (name, done, total), a bar or lines for each name."""
    with draw_stages(quiet=quiet) as display:
        current = ""

        def advance(name: str, done: int, total: int) -> None:
            nonlocal current
            if name != current:
                display.begin(name, total=total)
                current = name
            display.advance(done, total)

        yield advance


def make_table(*columns: str, title: str | None = None, caption: str | None = None) -> Table:
    """Return a table, its title and caption on the left; columns that begin with ">" hold numbers.

    Numbers stand on the right.
    """
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name[:1] == ">" else "left")
    return table


def command_line() -> str:
    """Return the command that is running, as it can be typed again."""
    return shlex.join(["neurodeploy", *sys.argv[1:]])


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape as "16x8x8"."""
    return "x".join(map(str, shape))


def relative(path: Path) -> str:
    """Return a path as the user would type it."""
    try:
        return str(real_path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):  # elsewhere, or the current directory is gone by now
        return str(path)
