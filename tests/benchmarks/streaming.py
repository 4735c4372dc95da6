"""Runs over more and more samples of ImageNet's size: time must grow with them, memory must not.

    python tests/benchmarks/streaming.py [simulate report] [--samples 60 --memory 600MB --json FILE]

`neurodeploy simulate` and `neurodeploy report` run 1, 4 and 16 times as many samples, each time in
a process of its own whose peak memory the system states (VmHWM). Also: how long a process takes to
its first result.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from memory import peak_mib

from neurodeploy import netx
from neurodeploy.ir.graphs import (
    INPUT,
    FixedInput,
    FixedPointGraph,
)
from neurodeploy.ir.integer_layers import (
    Connection,
    CubaNeuron,
    FixedConv,
    FixedDense,
    FixedLayer,
)
from neurodeploy.provenance import provenance

SHAPE = (2, 3, 224, 224)


def value(number: int) -> np.ndarray:
    return np.array(number, np.int32)


def make_network(rng: np.random.Generator) -> FixedPointGraph:
    """Two conv layers and a dense one on 3x224x224."""

    def layer(name: str, source: str, synapse: FixedConv | FixedDense, *shape: int) -> FixedLayer:
        return FixedLayer(
            name=name,
            shape=shape,
            connections=(Connection(source=source, synapse=synapse),),
            neuron=CubaNeuron(
                current_decay=value(4096), voltage_decay=value(128), threshold=value(300)
            ),
            bias=value(0),
        )

    def weights(*shape: int) -> np.ndarray:
        return 2 * rng.integers(-20, 30, shape).astype(np.int32)

    return FixedPointGraph(
        input=FixedInput(shape=SHAPE[1:]),
        layers=(
            layer("conv1", INPUT, FixedConv(weight=weights(16, 3, 7, 7), stride=(4, 4),
                                            padding=(3, 3)), 16, 56, 56),
            layer("conv2", "conv1", FixedConv(weight=weights(16, 16, 3, 3), stride=(2, 2),
                                              padding=(1, 1)), 16, 28, 28),
            layer("dense", "conv2", FixedDense(weight=weights(10, 16 * 28 * 28)), 10),
        ),
    )  # fmt: skip


def write_samples(path: Path, count: int, rng: np.random.Generator) -> None:
    """Write events at five per cent, a sample at a time."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, *SHAPE))
    some = [(rng.random(SHAPE, np.float32) < 0.05).astype(np.uint8) for _ in range(8)]
    for index in range(count):
        array[index] = np.roll(some[index % 8], index, axis=3)
    array.flush()


def measure(*arguments: str) -> tuple[float, float]:
    """Run a command; give its wall time in seconds and its peak memory in MB."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "neurodeploy", *arguments], stdout=subprocess.DEVNULL
    )
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, peak_mib(process.pid))
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"neurodeploy {' '.join(arguments)} ended with {process.returncode}")
    return time.perf_counter() - begin, peak * 2**20 / 10**6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commands", nargs="*", default=["simulate", "report"])
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--memory", default="600MB")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        net, inputs, output = (Path(folder) / name for name in ("a.net", "in.npy", "out.h5"))
        netx.write(make_network(rng), net)
        for name in options.commands:
            write_samples(inputs, 1, rng)
            command = (name, str(net), "-i", str(inputs))
            command += ("-o", str(output)) if name == "simulate" else ("--json",)
            measure(*command)  # compiles, where there is something to compile
            first = min(measure(*command)[0] for _ in range(3))
            print(f"{name}: process start to the result of one sample: {first:.2f} s")
            for factor in (1, 4, 16):
                write_samples(inputs, count := factor * options.samples, rng)
                size = inputs.stat().st_size / 1e6
                seconds, peak = measure(*command, "--memory", options.memory)
                row = {"samples": count, "input_mb": size, "seconds": seconds, "peak_mb": peak}
                rows.append({"command": name, "first_result_seconds": first, **row})
                print(
                    f"{count:5d} samples, {size:7.1f} MB of input: {seconds:6.2f} s "
                    f"({1000 * (seconds - first) / count:.1f} ms a sample), peak {peak:.0f} MB, "
                    f"{options.memory} allowed"
                )
    if options.json is not None:
        found = {
            "command": f"python tests/benchmarks/streaming.py --samples {options.samples}",
            "memory": options.memory,
            "runs": rows,
            **provenance(Path(__file__).parent, code=("neurodeploy",), packages=("numpy", "numba")),
        }
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
