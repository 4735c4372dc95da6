"""Loops compiled by numba, and the files that keep them from one start to the next."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import CellType, FunctionType
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache, NullCache

from neurodeploy.errors import NeurodeployWarning


def source_key(files: Iterable[Path]) -> str:
    """Return a checksum of source files."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()


def compiled(key: str, signatures: Sequence[Any] = ()) -> Callable[..., Any]:
    """Compile functions by numba, kept on disk as long as the key is the same.

    Numba drops compiled code when the file of its function changes, and keeps it when another
    does whose functions are compiled into it, or which generates a part of it. But it tells
    functions apart by the values of their closure, so the key is put there.

    Args:
        key: Of all sources that have a part in the code; see `source_key`.
        signatures: What to compile for at once; none: whatever a call brings.
    """

    def decorate(function: FunctionType) -> Callable[..., Any]:
        code = function.__code__.replace(co_freevars=("source_key",))
        keyed = FunctionType(
            code, function.__globals__, function.__name__, closure=(CellType(key),)
        )
        keyed.__doc__, keyed.__module__ = function.__doc__, function.__module__
        result: Callable[..., Any] = kept(keyed, signatures)
        return result

    return decorate


def kept(function: Callable[..., Any], signatures: Sequence[Any] = ()) -> Any:
    """Compile a function by numba for these signatures, else for those that calls bring.

    What is compiled is kept on disk, as `njit(cache=True)` does; but where it cannot be, or a file
    is damaged, a start only takes longer.
    """
    result: Any = njit(nogil=True)(function)
    try:
        result._cache = _Cache(function)  # type: ignore[no-untyped-call]
    except RuntimeError:
        _warn("no folder for them can be written")  # the same words for every loop: one warning
        result._cache = NullCache()
    for signature in signatures:
        result.compile(signature)
    if signatures:
        result.disable_compile()
    return result


class _Cache(FunctionCache):
    """Numba's files of compiled code, without its faults."""

    def load_overload(self, signature: Any, context: Any) -> Any:
        try:
            return super().load_overload(signature, context)  # type: ignore[no-untyped-call]
        except Exception:  # whatever a damaged file brings: its place is taken by a new one
            with suppress(OSError):
                self.flush()  # type: ignore[no-untyped-call]
            return None

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            super().save_overload(signature, data)  # type: ignore[no-untyped-call]
        except OSError as error:
            _warn(str(error))


def _warn(reason: str) -> None:
    warnings.warn(
        f"compiled loops cannot be kept ({reason}), so that each start compiles them again, for "
        "some ten seconds. Let NUMBA_CACHE_DIR name a folder with space that can be written.",
        NeurodeployWarning,
        stacklevel=3,
    )
