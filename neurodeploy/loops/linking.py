"""A function and all that it calls, as one piece of machine code."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
from llvmlite import binding, ir

from neurodeploy.loops.function_body import Body
from neurodeploy.loops.operands import (
    BYTES,
    WORD,
    Array,
    Number,
    Value,
    element_of,
    kind_of,
    rebuild,
    registers,
    resized,
)
from neurodeploy.loops.texts import FunctionText
from neurodeploy.machine_code import OBJECT_BYTES, Kind, start_llvm

_STATUS = ir.IntType(32)


class LinkedFunction(FunctionText):
    """A function that Python calls as a `machine_code.MachineFunction`, or that others call."""

    def machine_code(self, kinds: Sequence[Kind], symbol: str) -> bytes:
        """Compile it for arguments of these kinds.

        Returns:
            An object file, which refers to C's library only. Its function `symbol` gets an array of
            int64: room for the result; then each number, and of each array the address of Python's
            object. It returns whether it failed, which it only does where memory is lacking.
        """
        start_llvm()
        machine, collects = _target_machine(), gc.isenabled()
        gc.disable()  # little garbage is left; to look for it takes a third of our own time
        try:
            code: bytes = machine.emit_object(self._optimize(machine, kinds, symbol))
        finally:
            if collects:
                gc.enable()
        return code

    def llvm_text(self, kinds: Sequence[Kind], symbol: str) -> str:
        """Return the optimised code of `machine_code` in LLVM's language."""
        start_llvm()
        return str(self._optimize(_target_machine(), kinds, symbol))

    def _optimize(self, machine: Any, kinds: Sequence[Kind], symbol: str) -> Any:
        module = binding.parse_assembly(str(_Unit(self, symbol, kinds).module))
        module.data_layout = str(machine.target_data)
        module.verify()
        tuning = binding.create_pipeline_tuning_options(speed_level=3)
        builder = binding.create_pass_builder(machine, tuning)
        builder.getModulePassManager().run(module, builder)
        return module


linked = LinkedFunction
"""Decorator of functions that become machine code together."""


def _target_machine() -> Any:
    """Return LLVM's description of this processor, or of the one that numba's settings name."""
    target = binding.Target.from_triple(binding.get_process_triple())
    return target.create_target_machine(
        cpu=os.environ.get("NUMBA_CPU_NAME") or binding.get_host_cpu_name(),
        features=os.environ.get("NUMBA_CPU_FEATURES", binding.get_host_cpu_features().flatten()),
        opt=3,
        reloc="static" if target.name.startswith("x86") else "default",
        codemodel="jitdefault",
        jit=True,
    )


class _Unit:
    """One piece of machine code: a function that Python calls, and all that it calls."""

    def __init__(self, called: FunctionText, symbol: str, kinds: Sequence[Kind]) -> None:
        self.module = ir.Module(symbol)
        self.module.triple = binding.get_process_triple()
        self._compiled: dict[Any, tuple[Any, Value]] = {}
        allocate = ir.FunctionType(BYTES, [WORD])
        self.malloc: Any = ir.Function(self.module, allocate, "malloc")
        self._free = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [BYTES]), "free")
        kind = ir.FunctionType(_STATUS, [WORD.as_pointer()])
        entry = ir.Function(self.module, kind, symbol)
        builder = ir.IRBuilder(entry.append_basic_block("entry"))
        self.failed: Any = entry.append_basic_block("failed")
        self.allocated: list[Any] = []
        words = count(1)
        arguments = [_unpack(builder, entry.args[0], kind, words) for kind in kinds]
        result = Body(self, called, builder, may_make=True).run(arguments)
        if result is not None:
            assert isinstance(result, Number)
            builder.store(resized(builder, result, 64), entry.args[0])
        self._leave(builder, 0)
        self._leave(ir.IRBuilder(self.failed), 1)

    def _leave(self, builder: Any, status: int) -> None:
        for slot in self.allocated:
            builder.call(self._free, [builder.load(slot)])
        builder.ret(ir.Constant(_STATUS, status))

    def call(
        self, called: FunctionText, builder: Any, arguments: Sequence[Value], *, may_make: bool
    ) -> Value:
        """Call a function, which is compiled once for each kind of arguments.

        One that makes arrays becomes a part of its caller, which frees them.
        """
        if called.makes_arrays():
            return Body(self, called, builder, may_make=may_make).run(arguments)
        key = called, tuple(kind_of(argument) for argument in arguments)
        if key not in self._compiled:
            self._compiled[key] = self._define(called, arguments, len(self._compiled))
        function, like = self._compiled[key]
        found = builder.call(function, registers(tuple(arguments)))
        number = len(registers(like))
        if number == 1:
            return rebuild(like, iter([found]))
        return rebuild(like, (builder.extract_value(found, k) for k in range(number)))

    def _define(
        self, called: FunctionText, arguments: Sequence[Value], number: int
    ) -> tuple[Any, Value]:
        kinds = [one.type for one in registers(tuple(arguments))]
        name = f"{called.name}.{number}"
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), kinds), name)
        function.linkage = "internal"
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        given = iter(function.args)
        body = Body(self, called, builder, may_make=False)
        result = body.run([rebuild(one, given) for one in arguments])
        returned = registers(result)
        # What it returns is known only now, before it is called for the first time.
        kind: Any = ir.VoidType()
        if len(returned) == 1:
            kind = returned[0].type
            builder.ret(returned[0])
        elif returned:
            kind = ir.LiteralStructType([one.type for one in returned])
            whole = ir.Constant(kind, ir.Undefined)
            for k, one in enumerate(returned):
                whole = builder.insert_value(whole, one, k)
            builder.ret(whole)
        else:
            builder.ret_void()
        function.ftype = ir.FunctionType(kind, kinds)
        function.type = function.ftype.as_pointer()
        function.return_value = type(function.return_value)(function, kind)
        return function, result


def _unpack(builder: Any, words: Any, kind: Kind, places: Iterator[int]) -> Value:
    """Return an argument as Python passes it; see `LinkedFunction.machine_code`."""

    def load(pointer: Any, place: int) -> Any:
        return builder.load(builder.gep(pointer, [ir.Constant(WORD, place)]))

    if kind is None:
        return Number(load(words, next(places)))
    if not (kind and isinstance(kind[0], np.dtype)):
        return tuple([_unpack(builder, words, part, places) for part in kind])
    dtype, axes = kind
    # Source: numpy/_core/include/numpy/ndarraytypes.h:PyArrayObject_fields.
    place = builder.add(load(words, next(places)), ir.Constant(WORD, OBJECT_BYTES))
    fields = builder.inttoptr(place, WORD.as_pointer())
    data = builder.inttoptr(load(fields, 0), element_of(dtype).as_pointer())
    sizes = builder.inttoptr(load(fields, 2), WORD.as_pointer())
    return Array(data, tuple(Number(load(sizes, axis)) for axis in range(axes)), dtype)
