"""Run a benchmark with code for AVX2 alone, on a processor that knows AVX-512.

    python tests/benchmarks/avx2.py against_torch.py [its options]
    python tests/benchmarks/avx2.py -m pytest tests/property/test_simulation.py

Our loops are compiled for Haswell; torch, oneDNN, MKL, OpenBLAS and NumPy choose their loops for
AVX2. This shows how fast such code is here; it is not what a processor without AVX-512 would take,
whose caches, clock and vector units are others. Results say so.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

LIMITS = {
    # Ours, and numba's; no list of features: those of that processor.
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}
"""Settings by which libraries use AVX2 at most."""


def is_limited() -> bool:
    """Return whether this process was started by this file."""
    return all(os.environ.get(name) == value for name, value in LIMITS.items())


def main() -> None:
    command = sys.argv[1:]
    if not command:
        raise SystemExit(__doc__)
    beside = Path(__file__).parent / command[0]
    if beside.is_file():
        command[0] = str(beside)
    os.execve(sys.executable, [sys.executable, *command], os.environ | LIMITS)


if __name__ == "__main__":
    main()
