"""The ends of a command: its faults as one line each, and the exit code."""

from __future__ import annotations

import mmap
import os
import sys
import threading
from collections.abc import Callable, Iterator

from neurodeploy.cli.standard_streams import STANDARD_OUTPUT, flush_or_drop_output, prepare_streams
from neurodeploy.errors import NeurodeployError, OutputError
from neurodeploy.processes.platforms import usable_cores
from neurodeploy.untrusted.boundary import reason_of

INTERRUPTED = 130
_ROOM = 128 << 20
"""Bytes of address space that NumPy takes as it is loaded, and some more."""
_MOST_THREADS = 64
"""OpenBLAS starts no more."""
_EXTRAS = {
    **dict.fromkeys(("torch", "lightning_fabric", "numba", "safetensors", "sklearn"), "train"),
    **dict.fromkeys(("onnx", "onnxruntime", "google"), "onnx"),
    **dict.fromkeys(("torchvision", "tonic", "aedat"), "data"),
}
"""Extras that bring packages, by the first part of their modules' names."""
_NO_MEMORY = (
    "cannot allocate memory",
    "failed to map segment from shared object",
    "could not find/load shared object file 'libllvmlite",
)
"""Words of a library that cannot be loaded for want of memory."""


def run_to_the_end(command: Callable[[], None]) -> int:
    """Run a command and turn whatever ends it into an exit code.

    Nothing is imported for it that could fail for want of memory or of threads.
    """
    has_output = prepare_streams()
    try:
        if not has_output:
            raise OutputError("standard output: is closed. Redirect it, if only to /dev/null.")
        _require_directory()
        _require_room()
        try:
            command()
            code = 0
        except SystemExit as end:  # Typer's way to say that it has finished, or refused
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.stdout.flush()
    except BaseException as error:
        flush_or_drop_output()
        if isinstance(error, BrokenPipeError) and error.filename == STANDARD_OUTPUT:
            return 1  # the reader of a pipe has seen enough
        message = _explain(error)
        if message is None:
            raise
        _print_error(message)
        is_interrupted = isinstance(error, KeyboardInterrupt)
        return int(getattr(error, "exit_code", INTERRUPTED if is_interrupted else 1))
    if code == INTERRUPTED:
        _print_error(_explain(KeyboardInterrupt()))
    return code


def _explain(error: BaseException) -> str | None:
    """Return the line that a user sees; None for a fault of ours, which needs its traceback."""
    if isinstance(error, NeurodeployError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted. Files that were being written are as they were before."
    if any(_is_want_of_memory(each) for each in _chain(error)):
        return (
            "not enough memory. Allow this process more (`ulimit -v`, the limit of a job or a "
            "container), or use fewer samples at a time, or fewer steps."
        )
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        extra = _EXTRAS.get(package)
        return extra and (
            f"this command needs the package '{package}', which is not installed. Run: pip install "
            f"'neurodeploy[{extra}]'"
        )
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return "no further thread can be started. Raise the limit of processes (`ulimit -u`)."
    if isinstance(error, OSError):
        if "temporary directory" in str(error):  # of tempfile, without the name of a file
            return f"temporary files: {error.strerror}. Set TMPDIR to a folder that can be written."
        reason = reason_of(error)
        if error.filename is None:
            return f"the system refused: {reason}. Check free disk space and limits (`ulimit -a`)."
        return f"{os.fsdecode(error.filename)}: {reason}."
    return None


def _is_want_of_memory(error: BaseException) -> bool:
    if isinstance(error, ImportError | OSError):
        return any(words in str(error).lower() for words in _NO_MEMORY)
    return isinstance(error, MemoryError)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and those that it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _require_directory() -> None:
    """Raise an error where the current directory is gone: no name of a file would lead anywhere."""
    try:
        os.getcwd()  # noqa: PTH109 - quicker than pathlib
    except OSError as error:
        raise OutputError(
            f"current directory: {error.strerror}. Change to one that exists and can be read."
        ) from error


def _require_room() -> None:
    """Raise an error where NumPy's linear algebra would end the process as it is loaded.

    Without memory or threads, OpenBLAS prints lines of its own, and exits or sends an interrupt.
    """
    mmap.mmap(-1, _ROOM).close()
    end = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(min(usable_cores(), _MOST_THREADS) - 1):
            thread = threading.Thread(target=end.wait)
            thread.start()
            started.append(thread)
    finally:
        end.set()
        for thread in started:
            thread.join()


def _print_error(message: object) -> None:
    try:
        from neurodeploy.cli.console import print_error

        print_error(message)
    except (ImportError, MemoryError):
        sys.stderr.write(f"error: {message}\n")
