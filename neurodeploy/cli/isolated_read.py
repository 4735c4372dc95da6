"""Try to read an HDF5 file in a process of its own before this one reads it.

The HDF5 library is C code that trusts its input: on some damaged files HDF5 2.0 crashes, or
searches a tree for ever, and nothing in Python can interrupt it. A separate process can be lost.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neurodeploy.untrusted_hdf5 import FileKind

CPU_SECONDS = 20.0
"""Processor time that reading may take, beside the time that the file's size explains."""
CPU_SECONDS_PER_BYTE = 1e-6

_READERS = ("simulate", "verify", "report", "inspect", "fit", "export")
"""Commands that read a netx file."""

# The limit counts processor time: a hang burns it, and a process that is merely stopped (Ctrl-Z) or
# waits for a busy machine does not. The system enforces it even if the parent is gone. The program
# loads nothing but NumPy and h5py, so that it is ready before this process is.
_PROGRAM = """
import sys
sys.path[:] = sys.argv[1:]
import os, resource
from pathlib import Path
from neurodeploy.errors import NeurodeployError
from neurodeploy.untrusted_hdf5 import FileKind, open_root
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for line in sys.stdin:
    seconds, kind, path = line.split()
    limit = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime + float(seconds)) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
    try:
        path = Path(os.fsdecode(bytes.fromhex(path)))
        with open_root(path, FileKind(kind, path.suffix, NeurodeployError)) as root:
            root.touch()
    except MemoryError:
        pass
    except NeurodeployError as error:
        print(error, file=sys.stderr)
        sys.exit(3)
"""
_REFUSED = 3
"""Exit code of the program for a file that is not HDF5, or whose groups cannot be listed."""

_waiting: list[subprocess.Popen[str]] = []
"""The process that was started early, until a file is read."""


@contextmanager
def started_early(words: Sequence[str]) -> Iterator[None]:
    """Start the process at once, beside the imports of this one, if the command needs it.

    Args:
        words: The command line; a command that reads a netx file is its second word.
    """
    if not set(words[1:2]) & set(_READERS):
        yield
        return
    with suppress(OSError):  # the second try, for the file, tells of it
        _waiting.append(_start())
    try:
        yield
    finally:
        while _waiting:
            with _waiting.pop() as process:
                process.kill()


@contextmanager
def tried_apart(path: Path, kind: FileKind) -> Iterator[None]:
    """Read a file in a process of its own while the block runs; its result is dropped.

    Raises:
        Error of the kind of file: At the end of the block, if the process hung, crashed, failed or
            refused it.
    """
    seconds = CPU_SECONDS + path.stat().st_size * CPU_SECONDS_PER_BYTE
    with _waiting.pop() if _waiting else _start() as process:
        try:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it has failed already: its status says how
                process.stdin.write(f"{seconds} {kind.name} {os.fsencode(path).hex()}\n")
                process.stdin.flush()
            yield
            _, complaint = process.communicate()
        finally:
            process.kill()
    code = process.returncode
    if code == _REFUSED:
        raise kind.error(complaint.strip())
    if code > 0:
        last = (complaint.strip().splitlines() or ["no message"])[-1]
        raise kind.error(
            f"{path}: the process that tries to read it first failed ({last}). Is neurodeploy "
            "installed completely? `neurodeploy doctor` examines that."
        )
    if code < 0:
        trouble = f"crashed with signal {-code}"
        if code == -signal.SIGXCPU:
            trouble = f"took longer than {seconds:g} s"
        raise kind.error(
            f"{path}: reading it {trouble}. The file is damaged. Write or copy it again."
        )


def _start() -> subprocess.Popen[str]:
    """Start a process that reads the files named on its standard input."""
    # An empty entry is the folder that this process was started in; the child needs our own.
    places = [str(Path(__file__).parents[2]), *filter(None, sys.path)]
    return subprocess.Popen(
        # The child finds the modules that this process finds, and needs not look for them.
        [sys.executable, "-S", "-E", "-P", "-W", "ignore", "-c", _PROGRAM, *places],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
