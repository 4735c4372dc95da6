"""Standard input, output and error as a command needs them, however it was started.

A shell can close each of them (`>&-`), a disk behind them can be full, a reader of a pipe can have
gone, and an encoding can lack letters. None of that may end in a traceback, nor in a data file that
gets the number of a closed stream and with it all that libraries print there.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

STANDARD_OUTPUT = "standard output"
Bytes = bytes | bytearray | memoryview


def prepare_streams() -> bool:
    """Open what is closed, to nowhere; let no letter and no broken standard error be a fault.

    Returns:
        Whether there is a standard output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this
    has_output = sys.stdout is not None
    if sys.stdout is None:
        sys.stdout = _open_nowhere(1)
    if sys.stderr is None:
        sys.stderr = _open_nowhere(2)
    sys.stdout = _through(sys.stdout, _Output)
    sys.stderr = _through(sys.stderr, _Messages)
    return has_output


def flush_or_drop_output() -> None:
    """Write what is buffered; where it cannot be, Python would fail on it again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Output(io.FileIO):
    """Standard output, whose errors say that they are its own."""

    def write(self, data: Bytes, /) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STANDARD_OUTPUT
            raise


class _Messages(io.FileIO):
    """Standard error; where nobody can read it, work goes on."""

    def write(self, data: Bytes, /) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _through(stream: TextIO, kind: type[io.FileIO]) -> TextIO:
    """Return a stream that writes to the same descriptor; what stands for one stays as it is."""
    if type(stream) is not io.TextIOWrapper:
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(kind(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering or kind is _Messages,
        write_through=stream.write_through,
    )


def _open_nowhere(descriptor: int) -> TextIO:
    return open(descriptor, "w", encoding="utf-8", closefd=False)
