"""Time until a small file has been simulated, compiled for, and verified on real Lava.

    python tests/benchmarks/startup.py [--runs 11] [--before CHECKOUT] [--json NAME]

Each row is a process of its own, started again and again: wall time and processor time of it and
its children. With --before, another checkout takes turns with this one. The small file is the
network `digits_small` of the zoo, which plain Lava runs too; `digits` of the zoo is verified.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from networks import spread, write_result

import neurodeploy as nd
from neurodeploy.lava_bridge.runtime import find_runtime

HERE = Path(__file__).parents[2]
IN_PYTHON = """
import sys, numpy as np
import neurodeploy as nd
nd.EventSimulator(nd.netx.read(sys.argv[1])).run(np.load(sys.argv[2])["input"])
"""
IN_NUMPY = "import numpy, h5py"
PLAIN_LAVA = """
import sys
sys.path.insert(0, sys.argv[1])
from stock_lava import import_lava
lava = import_lava()
net = lava.Network(net_config=sys.argv[2], input_message_bits=4)
config = lava.Loihi2SimCfg(select_tag="fixed_pt")
net.run(condition=lava.RunSteps(num_steps=4), run_cfg=config)
net.stop()
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--before", type=Path, help="another checkout, which takes turns with this")
    parser.add_argument("--only", nargs="+", help="rows to measure")
    parser.add_argument("--json", default="", help="name of the result in tests/benchmarks/results")
    options = parser.parse_args()
    checkouts = {"now": HERE}
    if options.before is not None:
        checkouts["before"] = options.before.resolve()
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for row, (command, runs) in rows(Path(folder), options.runs).items():
            if options.only and not any(word in row for word in options.only):
                continue
            found[row] = measure(command, runs, checkouts)
            for name, numbers in found[row].items():
                print(f"{row}, {name}: " + ", ".join(map(_text, numbers.items())), flush=True)
    if options.json:
        write_result(options.json, found)


def rows(folder: Path, runs: int) -> dict[str, tuple[Callable[[int], list[str]], int]]:
    """Return the rows: a function from the number of a run to a command, and how many runs."""
    net, one = folder / "small.net", folder / "one.npz"
    example = nd.load_example("digits_small")
    net.write_bytes(example.net.read_bytes())
    np.savez(one, input=example.inputs[:1])
    large, many = folder / "digits.net", folder / "many.npz"
    digits = nd.load_example("digits")
    large.write_bytes(digits.net.read_bytes())
    np.savez(many, input=np.concatenate([digits.inputs] * 2)[:64])
    python, lava = sys.executable, str(find_runtime())
    command = [python, "-m", "neurodeploy"]
    simulate = [*command, "simulate", str(net), "-i", str(one), "-o", str(folder / "out.npz")]
    first = [python, "-c", IN_PYTHON, str(net), str(one)]
    plain = [lava, "-c", PLAIN_LAVA, str(HERE / "hardware" / "lava_runtime"), str(net)]
    return {
        "import and simulate in Python": (lambda _: first, runs),
        "simulate as a command": (lambda _: simulate, runs),
        "inspect as a command": (lambda _: [*command, "inspect", str(net)], runs),
        "floor: NumPy and h5py loaded": (lambda _: [python, "-c", IN_NUMPY], runs),
        "peer: plain Lava, one sample": (lambda _: plain, runs),
        "first call, which compiles": (
            lambda run: ["env", f"NUMBA_CACHE_DIR={folder}/cache{run}", *first],
            max(3, runs // 3),
        ),
        "verify 64 samples on Lava": (
            lambda _: [*command, "verify", str(large), "-i", str(many)],
            max(3, runs // 3),
        ),
    }


def measure(
    command: Callable[[int], list[str]], runs: int, checkouts: dict[str, Path]
) -> dict[str, dict[str, dict[str, float]]]:
    """Run a command of each checkout in turn; the first round fills caches and is not counted."""
    walls: dict[str, list[float]] = {name: [] for name in checkouts}
    busy: dict[str, list[float]] = {name: [] for name in checkouts}
    for run in range(runs + 1):
        names = list(checkouts) if run % 2 else list(checkouts)[::-1]
        for name in names:
            environment = os.environ | {"PYTHONPATH": str(checkouts[name])}
            before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(
                command(2 * run + names.index(name)),
                check=True, cwd=tempfile.gettempdir(), env=environment, capture_output=True,
            )  # fmt: skip
            wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
            if run:
                walls[name].append(wall)
                used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                busy[name].append(used)
    return {
        name: {"wall": spread(walls[name]), "processor": spread(busy[name])} for name in checkouts
    }


def _text(item: tuple[str, dict[str, float]]) -> str:
    name, numbers = item
    return f"{name} {numbers['median']:.3f} s ({numbers['least']:.3f} to {numbers['most']:.3f})"


if __name__ == "__main__":
    main()
