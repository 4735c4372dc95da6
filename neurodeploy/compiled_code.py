"""Loops compiled by numba: kept in its own files, or made machine code that needs no numba.

`compiled` and `kept` make functions that Python calls through numba. `linked` makes those that
`machine_code.MachineFunction` calls: they and what they call become one piece of machine code.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import CellType, FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import _dynfunc, from_dtype, njit, types  # type: ignore[attr-defined]
from numba.core import codegen, compiler, cpu, dispatcher
from numba.core.caching import FunctionCache, NullCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher, cpu_target
from numba.core.runtime import nrtdynmod
from numba.np.arrayobj import populate_array

from neurodeploy.errors import NeurodeployWarning
from neurodeploy.machine_code import OBJECT_BYTES, Kind, source_key as source_key

_WORD = ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
_C_LIBRARY = {"malloc", "free", "memcpy", "memmove", "memset"}
"""Functions that machine code may refer to, whoever loads it."""
_ALLOCATED = ir.LiteralStructType(nrtdynmod._meminfo_struct_type.elements)
"""Head of an array that a function allocates, as numba has it: of it, counter and address count."""


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


class _Library(codegen.AOTCodeLibrary):
    """Code of one function; optimised and made machine code only where it is called from Python."""

    is_whole = False

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        if self.is_whole:
            super()._optimize_final_module()  # type: ignore[no-untyped-call]


class _Codegen(codegen.JITCPUCodegen):
    """Code for this very processor that is not loaded."""

    _library_class = _Library  # type: ignore[assignment]

    def _add_module(self, module: Any) -> None:
        del module


class _Context(cpu.CPUContext):
    """Numba's CPU, whose functions are linked into others and never called by themselves."""

    def get_executable(self, library: Any, fndesc: Any, env: Any) -> Any:
        library._ensure_finalized()
        name = fndesc.qualname.split(".")[-1]
        return _dynfunc.make_function(fndesc.lookup_module(), name, "", 0, env, (library,))


class _Target:
    """The parts of a target that numba's dispatchers ask for."""

    options = cpu.CPUTargetOptions
    typing_context = cpu_target.typing_context
    target_context = cpu_target.target_context.subtarget(
        _internal_codegen=_Codegen("kernels")  # type: ignore[no-untyped-call]
    )


_Target.target_context.__class__ = _Context


class _WholeCompiler(dispatcher._FunctionCompiler):  # type: ignore[misc,name-defined]
    """Compiles a function without finishing its library."""

    def _customize_flags(self, flags: Any) -> Any:
        flags.no_compile = True
        return flags


class LinkedFunction(CPUDispatcher):
    """A function that compiled functions call, and that Python calls as a `MachineFunction`."""

    targetdescr = _Target  # type: ignore[assignment]

    def machine_code(self, kinds: Sequence[Kind], symbol: str) -> bytes:
        """Compile it for arguments of these kinds.

        Returns:
            An object file, which refers to C's library only. Its function `symbol` gets an array of
            int64: room for the result; then each number, and of each array the address of Python's
            object. It returns whether it failed, which it only does where memory is lacking.
        """
        collects = gc.isenabled()
        gc.disable()  # the compiler leaves little garbage; to look for it takes a tenth of the time
        try:
            with global_compiler_lock:
                code: bytes = self.link(kinds, symbol).emit_native_object()
                return code
        finally:
            if collects:
                gc.enable()

    @global_compiler_lock  # type: ignore[untyped-decorator]
    def link(self, kinds: Sequence[Kind], symbol: str) -> Any:
        """Return the code of it and of all that it calls, optimised, as a library of numba's."""
        signature = tuple(_type_of(kind) for kind in kinds)
        compiled_for = _WholeCompiler(
            self.py_func, _Target, self.targetoptions, {}, compiler.Compiler
        )
        whole = compiled_for.compile(signature, None)
        library = whole.library
        module = library.create_ir_module(symbol)
        _define_entry(module, symbol, whole)
        _define_memory(module)
        library.add_ir_module(module)
        library.is_whole = True
        library.finalize()
        strange = {
            function.name
            for function in library._final_module.functions
            if function.is_declaration and not function.name.startswith("llvm.")
        }
        assert strange <= _C_LIBRARY, strange
        return library


def linked(function: Callable[..., Any]) -> LinkedFunction:
    """Make a function one of those that become machine code together."""
    options = {
        "nopython": True,
        "nogil": True,
        "boundscheck": None,
        "no_cpython_wrapper": True,
        "no_cfunc_wrapper": True,
    }
    return LinkedFunction(function, {}, options)


def _type_of(kind: Kind) -> types.Type:
    """Return numba's type of an argument."""
    if kind is None:
        return types.int64
    if kind and isinstance(kind[0], np.dtype):
        dtype, axes = kind
        return types.Array(from_dtype(dtype), axes, "C", aligned=dtype.names is None)
    return types.Tuple([_type_of(part) for part in kind])  # type: ignore[no-untyped-call]


def _define_entry(module: ir.Module, symbol: str, whole: Any) -> None:
    """Define the function that unpacks the words it gets, calls, and stores the result."""
    context, result = whole.target_context, whole.signature.return_type
    kind = ir.FunctionType(ir.IntType(32), [_WORD.as_pointer()])
    function = ir.Function(module, kind, symbol)
    builder = ir.IRBuilder(function.append_basic_block())
    taken = 0

    def load(words: Any, place: int) -> Any:
        return builder.load(builder.gep(words, [ir.Constant(_WORD, place)]))

    def word() -> Any:
        nonlocal taken
        taken += 1
        return load(function.args[0], taken)

    def unpack(kind: Any) -> Any:
        if isinstance(kind, types.UniTuple | types.Tuple):
            return context.make_tuple(builder, kind, [unpack(part) for part in kind.types])
        if not isinstance(kind, types.Array):
            return word()
        array = context.make_array(kind)(context, builder)
        # Source: numpy/_core/include/numpy/ndarraytypes.h:PyArrayObject_fields.
        place = builder.add(word(), ir.Constant(_WORD, OBJECT_BYTES))
        fields = builder.inttoptr(place, _WORD.as_pointer())
        data = builder.inttoptr(load(fields, 0), array.data.type)
        sizes = builder.inttoptr(load(fields, 2), _WORD.as_pointer())
        shape = [load(sizes, axis) for axis in range(kind.ndim)]
        size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
        strides = [ir.Constant(_WORD, size)]
        for axis in reversed(shape[1:]):
            strides.insert(0, builder.mul(strides[0], axis))
        populate_array(array, data, shape, strides, strides[-1], None)  # type: ignore[no-untyped-call]
        return array._getvalue()

    arguments = [unpack(kind) for kind in whole.signature.args]
    called = context.declare_function(module, whole.fndesc)
    status, value = context.call_conv.call_function(
        builder, called, result, whole.signature.args, arguments
    )
    if result != types.none:
        builder.store(context.cast(builder, value, result, types.int64), function.args[0])
    builder.ret(builder.zext(status.is_error, ir.IntType(32)))


def _define_memory(module: ir.Module) -> None:
    """Define how arrays within a function are allocated and freed, of which numba's part is C."""
    allocate = ir.Function(module, ir.FunctionType(_BYTES, [_WORD]), "malloc")
    free = ir.Function(module, ir.FunctionType(ir.VoidType(), [_BYTES]), "free")
    kind = ir.FunctionType(_BYTES, [_WORD, ir.IntType(32)])
    function = ir.Function(module, kind, "NRT_MemInfo_alloc_aligned")
    builder = ir.IRBuilder(function.append_basic_block())
    head = ir.Constant(_WORD, 8 * len(_ALLOCATED.elements))
    size, alignment = function.args[0], builder.zext(function.args[1], _WORD)
    room = builder.call(allocate, [builder.add(size, builder.add(head, alignment))])
    with builder.if_then(builder.icmp_unsigned("==", room, ir.Constant(_BYTES, None))):
        builder.ret(room)
    first = builder.add(builder.ptrtoint(room, _WORD), builder.add(head, alignment))
    data = builder.inttoptr(builder.and_(first, builder.neg(alignment)), _BYTES)
    fields = builder.bitcast(room, _ALLOCATED.as_pointer())
    zero = ir.Constant(ir.IntType(32), 0)
    for position, value in ((0, ir.Constant(_WORD, 1)), (3, data), (4, size)):
        place = builder.gep(fields, [zero, ir.Constant(ir.IntType(32), position)])
        builder.store(value, place)
    builder.ret(room)
    function = ir.Function(
        module, ir.FunctionType(ir.VoidType(), [_BYTES]), "NRT_MemInfo_call_dtor"
    )
    builder = ir.IRBuilder(function.append_basic_block())
    builder.call(free, [function.args[0]])
    builder.ret_void()
