"""Compile kernels, and keep them on disk until a source changes that has a part in their code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from neurodeploy import fixedpoint, llvm_vectors

_HERE = Path(__file__).parent
KERNEL_KEY = llvm_vectors.source_key(
    [*_HERE.glob("*.py"), Path(llvm_vectors.__file__), Path(fixedpoint.__file__)]
)


def kernel(signatures: Sequence[Any] | None = None) -> Callable[..., Any]:
    """Compile a function without Python's lock; see `llvm_vectors.compiled`."""
    return llvm_vectors.compiled(KERNEL_KEY, signatures)
