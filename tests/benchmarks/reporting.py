"""Time and memory of reporting on a full-size residual network.

    python tests/benchmarks/reporting.py [resnet18] [--samples 64] [--json FILE]

Random weights, CIFAR stem, full width, T = 4, skips lowered to relay channels. A process of its own
reads the netx file, simulates with and without counts, and makes the report; the page comes last.
Peak memory is that of the process when the report is there.
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
from neurodeploy.provenance import provenance
from neurodeploy.reports.pages.outline import write_page
from neurodeploy.reports.report import RunSummary
from neurodeploy.reports.report_builder import report
from neurodeploy.simulation import EventSimulator, Record

PACKAGES = ("torch", "numpy", "h5py")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", nargs="?", default="resnet18")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--json", type=Path, help="write the numbers")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(options.network, options.make)
        return
    if options.one:
        print(json.dumps(measure(options.one, options.samples)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "network.net")
        command = [sys.executable, __file__, options.network, "--samples", str(options.samples)]
        subprocess.run([*command, "--make", path], check=True)
        done = subprocess.run([*command, "--one", path], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    print(f"{options.network}:", ", ".join(f"{key} {value}" for key, value in found.items()))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "command": f"python tests/benchmarks/reporting.py --samples {options.samples}",
            **provenance(Path(__file__).parent, code=("neurodeploy", "tests"), packages=PACKAGES),
            options.network: found,
        }
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def make(name: str, path: Path) -> None:
    """Build, lower and write a network."""
    import torch

    from neurodeploy.chips.target import Target
    from neurodeploy.nn.network import SpikingNetwork
    from neurodeploy.passes import (
        choose_scales,
        lower_residuals,
        quantize,
    )
    from neurodeploy.pipeline import lower
    from neurodeploy.recipes.recipe import Architecture

    table = {
        "shape": [3, 32, 32],
        "classes": 10,
        "input_bits": 8,
        "network": {"architecture": name, "steps": 4, "initial_weights": "kaiming"},
        "neuron": {},
        "branches": [],
    }
    torch.manual_seed(0)
    network = SpikingNetwork(Architecture.from_dict(table, where=name)).eval()
    target = Target.load("loihi2")
    graph = lower(network)
    scales = choose_scales(graph, target, steps=4, guard_overflow=False)
    fixed = quantize(graph, target, steps=4, scales=scales)
    netx.write(lower_residuals(fixed, target).graph, path)


def measure(path: Path, samples: int) -> dict[str, float]:
    """Read, simulate, count, report."""
    start = time.perf_counter()
    graph = netx.read(path)
    reading = time.perf_counter() - start
    inputs = np.random.default_rng(0).integers(0, 256, (samples, 1, *graph.input.shape))
    inputs = np.repeat(inputs, 4, axis=1).astype(np.int32)
    simulator = EventSimulator(graph)
    simulator.run(inputs[:1])  # compiled once
    seconds = []
    for counts in (False, True):
        start = time.perf_counter()
        recording = simulator.run(inputs, record=Record(spikes=(), counts=counts))
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    found = report(graph, inputs, recording, network_file=path)
    document = found.to_json()
    reporting = time.perf_counter() - start
    peak = peak_mib()
    start = time.perf_counter()
    page = path.with_suffix(".html")
    write_page(RunSummary(title="page", report=found), page)
    return {
        "seconds to read": round(reading, 2),
        "seconds to simulate": round(seconds[0], 3),
        "seconds to simulate and count": round(seconds[1], 3),
        "seconds to report": round(reporting, 2),
        "peak MiB of the process": round(peak),
        "seconds to draw the page": round(time.perf_counter() - start, 2),
        "layers": len(document["layers"]),
        "samples": samples,
        "SOPs a sample": round(found.sops_per_sample),
    }


if __name__ == "__main__":
    main()
