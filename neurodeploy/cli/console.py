"""How the command line speaks: tables and bars for people, JSON for machines, plain errors."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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

from neurodeploy.errors import DataError, NeurodeployWarning

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """Print one JSON document to standard output and nothing else."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_error(message: object) -> None:
    """Print an error as one block to standard error."""
    err.print("[bold red]error:[/]", end=" ")
    err.print(str(message), markup=False, soft_wrap=True)


def show_warnings_as_lines() -> None:
    """Print each `NeurodeployWarning` as one line, without Python's file and line."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: object = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, NeurodeployWarning):
            err.print("[bold yellow]warning:[/]", end=" ")
            err.print(str(message), markup=False, soft_wrap=True)
        else:
            sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))

    warnings.showwarning = show
    warnings.simplefilter("always", NeurodeployWarning)


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress]:
    """Give a progress display on standard error; nothing is drawn when quiet or not a terminal."""
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


def parse_shape(text: str | None) -> tuple[int, ...] | None:
    """Read "C,H,W" or "N".

    Raises:
        DataError: If the text is anything else.
    """
    if text is None:
        return None
    parts = text.replace("x", ",").split(",")
    if len(parts) not in (1, 3) or not all(part.strip().isdigit() for part in parts):
        raise DataError(f"--input-shape {text}: C,H,W or N is required, for instance 1,28,28.")
    return tuple(int(part) for part in parts)


def parse_settings(settings: list[str]) -> dict[str, str]:
    """Read `key=value` pairs.

    Raises:
        DataError: If a pair has no "=".
    """
    pairs: dict[str, str] = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator or not key:
            raise DataError(f"--set {setting}: key=value is required, as in training.epochs=2.")
        pairs[key.strip()] = value.strip()
    return pairs


def relative(path: Path) -> str:
    """Give a path as the user would type it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
