"""Functions kept as machine code from one start to the next, and called without their compiler.

To compile functions takes longer than most simulations of a few samples take to run. So the code of
a function is kept as the processor runs it, and LLVM's loader links it; the compiler is loaded only
for what no file holds yet.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import llvmlite
import numpy as np
import numpy.typing as npt
from llvmlite import binding

from neurodeploy.errors import NeurodeployWarning, OutputError
from neurodeploy.files import replacing

Argument: TypeAlias = "int | npt.NDArray[Any] | tuple[Argument, ...]"
"""A number, an array in C order, or a tuple of such."""
Kind: TypeAlias = "tuple[np.dtype[Any], int] | tuple[Kind, ...] | None"
"""The kind of an argument: None for a number, type and axes of an array, or those of a tuple."""

OBJECT_BYTES = object.__basicsize__
"""What precedes the fields of an array in memory: its address, number of axes and their sizes."""
_PACKAGE = Path(__file__).parent
_CHECKSUM = hashlib.sha256().digest_size
_DAY = 24 * 60 * 60


def source_key(files: Iterable[Path]) -> str:
    """Return a checksum of source files."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()


class MachineFunction:
    """A function of arrays and numbers that runs as machine code, without Python's lock.

    It is compiled for each kind of arguments when they first come, and kept until one of its
    sources, the compiler or the processor is another.

    Args:
        module: Name of the module that defines it by `loops.linking.linked`; loaded to compile.
        name: Its name there.
        key: Checksum of all sources that have a part in it; see `source_key`.
    """

    def __init__(self, module: str, name: str, *, key: str) -> None:
        self._module, self._name, self._key = module, name, key
        self._functions: dict[tuple[Kind, ...], Callable[[Any], int]] = {}
        self._lock = threading.Lock()

    @property
    def met(self) -> list[tuple[Kind, ...]]:
        """Kinds of arguments that came so far."""
        return list(self._functions)

    def __call__(self, *arguments: Argument) -> int:
        """Call it; arrays are in C order, and those that it writes can be written.

        Raises:
            MemoryError: If its working arrays do not fit into memory.
        """
        words = [0]
        kinds = tuple([_flatten(argument, words) for argument in arguments])
        function = self._functions.get(kinds) or self._load(kinds)
        passed = (ctypes.c_int64 * len(words))(*words)
        if function(passed) != 0:
            raise MemoryError(f"{self._name}: no memory for its working arrays")
        return passed[0]

    def _load(self, kinds: tuple[Kind, ...]) -> Callable[[Any], int]:
        with self._lock:
            if kinds not in self._functions:
                facts = repr((self._module, self._name, self._key, kinds, _circumstances()))
                digest = hashlib.sha256(facts.encode()).hexdigest()
                symbol = f"{self._name}_{digest[:16]}"
                file = f"{self._name}.{self._key[:16]}.{digest[:16]}.o"
                code = _read(file)
                if code is None:
                    definition: Any = getattr(import_module(self._module), self._name)
                    code = definition.machine_code(kinds, symbol)
                    _keep(file, code)
                self._functions[kinds] = _link(symbol, code)
            return self._functions[kinds]


def _flatten(argument: Argument, words: list[int]) -> Kind:
    """Add an argument to the words that are passed; return its kind."""
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous
        words.append(id(argument))  # asked for its address, an array would take a microsecond
        return argument.dtype, argument.ndim
    if isinstance(argument, tuple):
        return tuple([_flatten(part, words) for part in argument])
    words.append(int(argument))
    return None


@cache
def _circumstances() -> tuple[object, ...]:
    """Return what else machine code depends on: processor, compiler and its settings."""
    return (
        binding.get_host_cpu_name(),
        binding.get_host_cpu_features().flatten(),
        llvmlite.__version__,
        sys.version_info[:2],
        OBJECT_BYTES,
        sorted(one for one in os.environ.items() if one[0].startswith("NUMBA_")),
    )


def folders() -> list[Path]:
    """Return where machine code is kept: the first of these that can be written."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return [Path(chosen) / "neurodeploy"]
    places = [_PACKAGE / "__pycache__"]
    with suppress(RuntimeError):  # a user without a home
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        places.append(Path(home) / "neurodeploy")
    return places


def _read(name: str) -> bytes | None:
    """Return code that is kept; None if there is none, or only a damaged file."""
    for folder in folders():
        with suppress(OSError):
            file = folder / name
            content = file.read_bytes()
            code = content[_CHECKSUM:]
            if hashlib.sha256(code).digest() == content[:_CHECKSUM]:
                with suppress(OSError):
                    if time.time() - file.stat().st_mtime > _DAY:
                        os.utime(file)  # it is in use: see _remove_old
                return code
    return None


def _keep(name: str, code: bytes) -> None:
    """Keep code for later starts; warn where it cannot be."""
    reason = ""
    for folder in folders():
        try:
            with replacing(folder / name) as temporary:
                temporary.write_bytes(hashlib.sha256(code).digest() + code)
            _remove_old(folder, name)
            return
        except OutputError as error:
            reason = reason or str(error.__cause__ or error)
    warnings.warn(
        f"compiled loops cannot be kept ({reason}), so that each start compiles them again, for "
        "some seconds. Let NUMBA_CACHE_DIR name a folder with space that can be written.",
        NeurodeployWarning,
        stacklevel=4,
    )


def _remove_old(folder: Path, name: str) -> None:
    """Remove code of the same function and other sources that was not in use for a week.

    Another version may share the folder; if its file goes nevertheless, it compiles once more.
    """
    function, key, _ = name.split(".", 2)
    for file in folder.glob(f"{function}.*.o"):
        with suppress(OSError):  # another process was faster
            if file.name.split(".")[1] != key and time.time() - file.stat().st_mtime > 7 * _DAY:
                file.unlink()


_engines: list[binding.ExecutionEngine] = []
"""What holds the code of functions in memory."""


@cache
def start_llvm() -> None:
    """Get LLVM ready for this processor."""
    with suppress(RuntimeError):  # LLVM of later versions does so by itself
        binding.initialize()
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()


def _link(symbol: str, code: bytes) -> Callable[[Any], int]:
    """Load machine code that refers to nothing but C's library; return its function."""
    start_llvm()
    machine = binding.Target.from_default_triple().create_target_machine()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)
    return kind(engine.get_function_address(symbol))
