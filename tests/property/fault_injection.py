"""Let one operation on files or memory fail, the k-th, as SQLite tests its writes.

Inside `Faults` every opening for writing, write, close, fsync, rename, link, directory made or
removed, file removed, lock and large array below a folder is counted, and one of them fails: with
"no space left", "input/output error" or no memory. `lasting` is a full disk: from that operation
on, everything that needs space fails. HDF5 and zip files are written through Python's files, so
theirs are counted too.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

LARGE = 1 << 12
"""Bytes from which an array counts as an allocation that may fail."""
_SPACE = ("open", "write", "close", "fsync", "mkdir", "link")
"""Operations that a full disk fails."""
_ARRAYS = ("empty", "zeros", "ones", "full", "concatenate", "stack", "repeat", "packbits")
_RENAMES = ("replace", "rename", "link", "symlink")
_REMOVALS = ("unlink", "remove", "rmdir")


class Faults:
    """Counts operations below a folder; the one with a certain number fails.

    Attributes:
        operations: What was done, in order, by kind and the name of the file.
        struck: The one that failed; None if none did.
    """

    def __init__(self, root: Path, *, number: int | None = None, lasting: bool = False) -> None:
        self.root = str(root.resolve())
        self.number, self.lasting = number, lasting
        self.operations: list[str] = []
        self.struck: str | None = None

    def meet(self, kind: str, name: object = "") -> None:
        """Count an operation, and fail if it is its turn."""
        self.operations.append(f"{kind} {Path(str(name)).name}".strip())
        is_turn = len(self.operations) - 1 == self.number
        if is_turn:
            self.struck = self.operations[-1]
        if not is_turn and not (self.lasting and self.struck and kind in _SPACE):
            return
        if kind == "allocate":
            raise MemoryError
        code = errno.ENOMEM if kind == "map" else errno.EIO
        if kind in _SPACE:
            code = errno.ENOSPC if kind != "fsync" else errno.EIO
        raise OSError(code, os.strerror(code), None if kind in ("write", "close") else str(name))

    def watches(self, path: object) -> bool:
        """Return whether a path, or an open file, lies below the folder."""
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
            if not path.is_absolute():  # a pipe
                return False
        if not isinstance(path, str | os.PathLike):
            return False
        return os.path.abspath(os.fspath(path)).startswith(self.root)  # noqa: PTH100 - links stay

    @contextmanager
    def injected(self, *, arrays: bool = True) -> Iterator[Faults]:
        """Watch while the block runs; clocks stand still, so that equal runs are equal.

        So does all but one processor: each thread allocates what it needs, if it gets any work.

        Without `arrays`, memory is left alone: numba compiles nothing while NumPy is patched.
        """
        with ExitStack() as stack:

            def put(place: object, name: str, value: object) -> None:
                stack.enter_context(mock.patch.object(place, name, value))

            for place in (io, builtins):
                put(place, "open", self._opener(io.open))
            put(os, "open", self._flagged(os.open))
            put(os, "write", self._named("write", os.write))
            put(os, "fsync", self._named("fsync", os.fsync))
            put(os, "ftruncate", self._named("write", os.ftruncate))
            put(os, "mkdir", self._named("mkdir", os.mkdir))
            for name in _RENAMES:
                kind = "rename" if name in ("replace", "rename") else "link"
                put(os, name, self._named(kind, getattr(os, name), argument=1))
            for name in _REMOVALS:
                put(os, name, self._named("remove", getattr(os, name)))
            put(fcntl, "flock", self._named("lock", fcntl.flock))
            put(mmap, "mmap", self._mapped(mmap.mmap))
            for name in _ARRAYS if arrays else ():
                put(np, name, self._allocated(getattr(np, name)))
            for name in ("perf_counter", "monotonic"):
                put(time, name, lambda: 0.0)
            put(os, "sched_getaffinity", lambda _: {0})
            put(tempfile, "tempdir", str(Path(self.root) / "tmp"))
            yield self

    def _opener(self, original: Callable[..., object]) -> Callable[..., object]:
        def open_file(
            file: object,
            mode: str = "r",
            buffering: int = -1,
            encoding: str | None = None,
            errors: str | None = None,
            newline: str | None = None,
            *others: object,
            **named: object,
        ) -> object:
            is_written = any(mark in mode for mark in "wax+")
            if not is_written or not self.watches(file) or others or named:
                return original(file, mode, buffering, encoding, errors, newline, *others, **named)
            self.meet("open", file)
            raw = _WatchedFile(file, mode.replace("b", "").replace("t", ""), faults=self)
            if buffering == 0:
                return raw
            binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            if "b" in mode:
                return binary
            return io.TextIOWrapper(binary, encoding, errors, newline)

        return open_file

    def _flagged(self, original: Callable[..., int]) -> Callable[..., int]:
        def open_file(path: object, flags: int, *others: object, **named: object) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and self.watches(path):
                self.meet("open", path)
            return original(path, flags, *others, **named)

        return open_file

    def _named(
        self, kind: str, original: Callable[..., object], *, argument: int = 0
    ) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if named.get("dir_fd") is not None or self.watches(arguments[argument]):
                self.meet(kind, arguments[argument])
            return original(*arguments, **named)

        return call

    def _mapped(self, original: Callable[..., object]) -> Callable[..., object]:
        def call(number: int, size: int, *arguments: object, **named: object) -> object:
            if number == -1:
                self.meet("map")
            return original(number, size, *arguments, **named)

        return call

    def _allocated(self, original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            result = original(*arguments, **named)
            if getattr(result, "nbytes", 0) >= LARGE:
                self.meet("allocate")
            return result

        return call


class _WatchedFile(io.FileIO):
    """A file whose writes and closing are counted."""

    def __init__(self, path: object, mode: str, *, faults: Faults) -> None:
        super().__init__(path, mode)  # type: ignore[arg-type]
        self._faults = faults

    def write(self, data: object) -> int:
        self._faults.meet("write", self.name)
        return super().write(data)  # type: ignore[arg-type]

    def truncate(self, size: int | None = None) -> int:
        self._faults.meet("write", self.name)
        return super().truncate(size)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._faults.meet("close", self.name)
