"""Loops compiled by numba, and kept in its own files from one start to the next."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import CellType, FunctionType
from typing import Any

from llvmlite import ir
from numba import extending, njit, types
from numba.core.caching import FunctionCache, NullCache

from neurodeploy.errors import NeurodeployWarning
from neurodeploy.llvm_vectors import Memory, Vector, VectorFunction
from neurodeploy.machine_code import source_key as source_key


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


def intrinsic(function: VectorFunction) -> Callable[..., Any]:
    """Return a function of vectors as one that functions compiled by numba may call."""

    def declare(typing: Any, *kinds: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            operands: list[Memory | Vector] = []
            for kind, argument in zip(signature.args, arguments, strict=True):
                if not isinstance(kind, types.Array):
                    operands.append(Vector(builder, argument))
                    continue
                data = context.make_array(kind)(context, builder, argument).data
                fields: Sequence[str] = ()
                if isinstance(kind.dtype, types.Record):
                    fields = tuple(kind.dtype.fields)
                    data = builder.bitcast(data, ir.IntType(64).as_pointer())
                operands.append(Memory(builder, data, fields))
            result = function.body(*operands)
            return context.get_dummy_value() if result is None else result.value

        return getattr(types, function.returns or "void")(*kinds), generate

    names = inspect.signature(function.body).parameters.values()
    first = inspect.Parameter("typing", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    vars(declare)["__signature__"] = inspect.Signature([first, *names])
    declare.__name__, declare.__doc__ = function.body.__name__, function.body.__doc__
    result: Callable[..., Any] = extending.intrinsic(declare)
    return result
