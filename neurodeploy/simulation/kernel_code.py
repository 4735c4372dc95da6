"""The compiled kernels, by name: none is loaded, and no compiler, before it is called."""

from __future__ import annotations

from pathlib import Path

from neurodeploy.files import PACKAGE
from neurodeploy.machine_code import MachineFunction, source_key

KERNEL_KEY = source_key(
    [
        *(Path(__file__).parent / "kernels").rglob("*.py"),
        *(PACKAGE / "loops").glob("*.py"),
        *(PACKAGE / f"{name}.py" for name in ("fixedpoint", "llvm_vectors")),
    ]
)
"""Machine code is kept until a source changes that has a part in it."""


def _kernel(module: str, name: str) -> MachineFunction:
    """Return a kernel; its module, which loads the compiler, is imported only to compile it."""
    return MachineFunction(f"{__package__}.kernels.{module}", name, key=KERNEL_KEY)


collect_events = _kernel("event_lists", "collect_events")
spread_events = _kernel("event_lists", "spread_events")
count_bits = _kernel("event_lists", "count_bits")
expand_bits = _kernel("event_lists", "expand_bits")
run_lif = _kernel("lif", "run_lif")
run_lif_frames = _kernel("lif_frames", "run_lif_frames")
run_sigma = _kernel("sigma_delta", "run_sigma")
count_large = _kernel("sigma_delta", "count_large")
note_values = _kernel("sigma_delta", "note_values")
run_resonators = _kernel("resonators", "run_resonators")
run_delta_block = _kernel("input_blocks", "run_delta_block")
run_lif_block = _kernel("input_blocks", "run_lif_block")
