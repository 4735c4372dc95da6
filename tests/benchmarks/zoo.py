"""ResNets of SpikingJelly's zoo at full width: from the module to a file, with time and memory.

    python tests/benchmarks/zoo.py [spiking_resnet18 sew_resnet18] [--samples N] [--target NAME]

Random weights, images 3x32x32, T = 4. The module's spikes are compared with its import in float64,
the integers with skips with the file read back, both in our simulator. Each network runs in a
process of its own, whose processor time is measured. Results go to
tests/benchmarks/results/zoo.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from memory import peak_mib
from networks import write_result

import neurodeploy as nd

sys.path.insert(0, str(Path(__file__).parents[1] / "property"))
from zoo_networks import draw_network

NETWORKS = ("spiking_resnet18", "sew_resnet18")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--target", default="loihi2")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.samples, options.target)))
        return
    found = {}
    for name in options.networks:
        command = [sys.executable, __file__, "--one", name, "--samples", str(options.samples)]
        result = subprocess.run(
            [*command, "--target", options.target], capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise SystemExit(f"{name}: {result.stderr}")
        found[name] = json.loads(result.stdout.splitlines()[-1])
        print(f"{name}:", ", ".join(f"{key} {value}" for key, value in found[name].items()))
    write_result("zoo", found)


def measure(name: str, count: int, target: str) -> dict[str, object]:
    """Take one network from the module to a file, and compare."""
    warnings.simplefilter("ignore")  # of the framework
    module, samples = draw_network(name, samples=count)
    start_mib = peak_mib()
    start = time.process_time()
    imported = nd.import_torch(module, samples)
    importing, import_mib = time.process_time() - start, peak_mib()
    agreement = imported.agreement
    assert agreement is not None
    assert agreement.unexplained is None
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        result = nd.deploy(imported, samples, target=target, out=folder)
        deploying, peak = time.process_time() - start, peak_mib()
        size = result.path.stat().st_size
        from_file = nd.EventSimulator(nd.netx.read(result.path)).run(samples)
    direct = nd.EventSimulator(result.calibration.graph).run(samples)
    integers = differing = 0
    for layer, ours, read in zip(direct.layers, direct.spikes, from_file.spikes, strict=True):
        integers += ours.size
        differing += int((ours != read[:, :, : result.lowered.channels[layer]]).sum())
    differing += int((direct.voltage != from_file.voltage).sum())
    kept = [check.deployed for check in result.agreement if check.deployed is not None]
    rates = [float((spikes != 0).mean()) for spikes in direct.spikes[:-1]]
    return {
        "samples": count,
        "target": target,
        "layers": len(direct.layers),
        "values compared with the module": sum(layer.values for layer in agreement.layers),
        "values that differ from the module": sum(layer.differing for layer in agreement.layers),
        "values compared with the file": integers,
        "values that differ from the file": differing,
        "spike rates": [round(min(rates), 3), round(max(rates), 3)],
        "spikes as in float64": [round(min(kept), 3), round(max(kept), 3)],
        "CPU seconds to import and compare": round(importing, 1),
        "CPU seconds to deploy and compare": round(deploying, 1),
        "MiB before": round(start_mib),
        "peak MiB of the import": round(import_mib),
        "peak MiB": round(peak),
        "neurons": sum(layer.neurons for layer in result.calibration.graph),
        "relay neurons": sum(cost.neurons for cost in result.lowered.costs),
        "weights": sum(c.synapse.weight.size for layer in result.graph for c in layer.connections),
        "relay weights": sum(cost.weights for cost in result.lowered.costs),
        "file MiB": round(size / 2**20, 1),
        "cores": None if result.fit is None else result.fit.cores_text,
        "MACs of the ReLU twin": result.graph.relu_twin.macs_standard,
    }


if __name__ == "__main__":
    main()
