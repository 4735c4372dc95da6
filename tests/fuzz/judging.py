"""One input, read under limits, and what was wrong with how that ended."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import struct
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import numpy as np
from hdf5_mutators import SECRETS
from targets import MEMORY, NonsenseError, Target

from neurodeploy.errors import MESSAGE_MAX, NeurodeployError, NeurodeployWarning

_OUTSIDE = Path("/etc/hostname")
_MESSAGE_MAX = MESSAGE_MAX + 100
_VALUES_MAX = 20_000
_OPENED = 0x20
"""IN_OPEN of inotify."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How one input ended.

    Attributes:
        cause: What was wrong, in a few words that name a file as well; empty if nothing was.
        is_accepted: Whether it was read without an error.
        peak: Bytes of memory that it took, at least.
        detail: For people.
    """

    cause: str
    is_accepted: bool
    peak: int
    detail: str = ""


class Judge:
    """Reads inputs of one kind in a folder of its own."""

    def __init__(self, target: Target, folder: Path) -> None:
        self._target, self._folder = target, folder
        self._place = folder / target.file
        self._beside = dict(target.beside())
        self._watch = _Watch(folder)
        os.chdir(folder)

    def judge(self, content: bytes) -> Verdict:
        """Put the content into its place, read it, and look at what came of it."""
        self._prepare(content)
        self._watch.opened()
        forget_peak()
        rest = resident()
        begin = time.process_time()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        cause = detail = ""
        is_accepted = False
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                value = self._target.read(self._place)
                is_accepted = True
                cause = detail = _nonsense(value)
            except NonsenseError as error:
                cause = detail = f"nonsense: {error}"
            except NeurodeployError as error:
                cause, detail = self._wrong_with(error), str(error)
            except BaseException as error:
                cause, detail = place_of(error), traceback.format_exc(limit=-6)
        spent = time.process_time() - begin + _seconds_since(before)
        peak = max(peak_here() - rest, peak_of_children())
        if not cause and (opened := self._watch.opened() - {self._place.name}):
            cause = f"opens {', '.join(sorted(opened))}"
        if not cause and peak > MEMORY + 64 * len(content):
            cause = "memory"
        if not cause and spent > self._target.seconds:
            cause, detail = "slow", f"{spent:.1f} s"
        if not cause:
            cause = _foreign_warning(told)
        return Verdict(cause=cause, is_accepted=is_accepted, peak=peak, detail=detail)

    def _prepare(self, content: bytes) -> None:
        for entry in self._folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name not in SECRETS and entry != self._place:
                entry.unlink()
        for name, data in {**self._beside, self._target.file: content}.items():
            place = self._folder / name
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(data)

    def _wrong_with(self, error: NeurodeployError) -> str:
        text = str(error)
        if not isinstance(error, self._target.errors):
            return f"wrong class {place_of(error)}"
        if any(isinstance(one, MemoryError) for one in _causes(error)):
            return f"allocation {place_of(error)}"
        if len(text) > _MESSAGE_MAX:
            return f"endless message {place_of(error)}"
        return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def place_of(error: BaseException) -> str:
    """Return the class of an error, and the last line of the package that it passed."""
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "/neurodeploy/" in frame.filename and "/tests/" not in frame.filename:
            return f"{name}@{Path(frame.filename).name}:{frame.name}"
    return name


def _foreign_warning(told: list[warnings.WarningMessage]) -> str:
    for one in told:
        if not issubclass(one.category, NeurodeployWarning | ResourceWarning | DeprecationWarning):
            return f"warning {one.category.__name__}@{Path(one.filename).name}:{one.lineno}"
    return ""


def _nonsense(value: object) -> str:
    """Return what is no finite number in what was read; empty if there is nothing."""
    waiting, seen = [value], 0
    while waiting and (seen := seen + 1) < _VALUES_MAX:
        one = waiting.pop()
        if isinstance(one, float) and not np.isfinite(one):
            return f"nonsense: {one}"
        if isinstance(one, np.ndarray):
            if one.dtype.kind == "f" and not np.isfinite(one).all():
                return f"nonsense: an array with {one[~np.isfinite(one)].flat[0]}"
        elif type(one).__name__ == "Tensor":
            if one.is_floating_point() and not bool(one.isfinite().all()):
                return "nonsense: weights that are not finite"
        elif isinstance(one, Mapping):
            waiting += one.values()
        elif isinstance(one, tuple | list | set | frozenset):
            waiting += one
        elif is_dataclass(one) and not isinstance(one, type):
            waiting += [getattr(one, spec.name) for spec in fields(one)]
    return ""


# --- the files that are opened --------------------------------------------------------------------


class _Watch:
    """The system's report of each file that is opened in a folder, and of one outside of it."""

    _SIZE = struct.calcsize("iIII")

    def __init__(self, folder: Path) -> None:
        for name in SECRETS:
            content = _secret() if name.endswith(".h5") else b"\x11" * 4096
            (folder / name).write_bytes(content)
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._paths: dict[int, str] = {}
        watched = [folder / name for name in SECRETS] + [_OUTSIDE]
        for path in watched:
            number = libc.inotify_add_watch(self._descriptor, os.fsencode(path), _OPENED)
            if number >= 0:
                self._paths[number] = path.name
        if len(self._paths) < len(SECRETS):
            raise OSError(ctypes.get_errno(), "inotify cannot watch files")

    def opened(self) -> set[str]:
        """Return the names of the watched files that were opened since the last call."""
        found = set()
        with suppress(BlockingIOError):
            while data := os.read(self._descriptor, 1 << 16):
                while data:
                    number, _, _, length = struct.unpack_from("iIII", data)
                    found.add(self._paths.get(number, "a file"))
                    data = data[self._SIZE + length :]
        return found


def _secret() -> bytes:
    import seeds

    return seeds.hdf5_samples()[0]


# --- time and memory ------------------------------------------------------------------------------


def _seconds_since(before: resource.struct_rusage) -> float:
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime


def forget_peak() -> None:
    """Begin to count the largest memory of this process, and of its children, anew."""
    for process in ("self", *_children()):
        with suppress(OSError):
            Path(f"/proc/{process}/clear_refs").write_text("5")


def peak_here() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_of_children() -> int:
    """Return the largest memory of a child since `forget_peak`."""
    found = [0]
    for process in _children():
        with suppress(OSError, IndexError, ValueError):
            for line in Path(f"/proc/{process}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    found.append(int(line.split()[1]) * 1024)
    return max(found)


def _children() -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return []
