"""Training speed and memory on a GPU: ours, SpikingJelly on Triton and snnTorch.

    pip install --no-deps spikingjelly snntorch nir nirtorch loguru
    python tests/benchmarks/gpu.py [--cases mlp conv resnet18] [--samples N] [--rounds N] [--save]
        [--device cpu] [--backend inductor]

One iteration is forward, backward and an SGD step of the networks of `training.py`, at a larger
batch. Ours runs three times: as written, through torch.compile, which is what training does on
CUDA, and through torch.compile with activations computed again. Contenders take turns, round after
round; given are the median time of a round, the median and range of the ratio to the bare
convolutions within a round, and the most memory of torch's allocator in an iteration. SpikingJelly
is told to use its Triton kernels.

Without a GPU, or with `--device cpu`, the script tries itself on the CPU: two samples, no memory,
and times that say nothing about a GPU; they are not saved.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from neurodeploy.files import write_text
from neurodeploy.provenance import provenance
from training import MAKERS, NEURONS, SHAPES, Ours, Stateless, training_step

RESULT = Path(__file__).parent / "results" / "gpu.json"
CODE = ("neurodeploy", "tests/benchmarks/gpu.py", "tests/benchmarks/training.py")
PACKAGES = ("torch", "triton", "spikingjelly", "snntorch")
PEERS = ("SpikingJelly", "snnTorch")


def contenders(case: str, backend: str) -> dict[str, Callable[[], nn.Module]]:
    """Return the maker of each network by name, the floor first."""
    make = MAKERS[case]

    def ours(*, is_recomputing: bool) -> Ours:
        made = Ours(case)
        made.network.is_recomputing = is_recomputing
        made.network.compile_blocks(backend=backend)
        return made

    makers: dict[str, Callable[[], nn.Module]] = {
        "floor": lambda: make(None),
        "ours, as written": lambda: Ours(case),
        "ours, compiled": lambda: ours(is_recomputing=False),
        "ours, recomputing": lambda: ours(is_recomputing=True),
    }
    for name in PEERS:
        makers[name] = lambda neuron=NEURONS[name]: Stateless(make(neuron))
    return makers


def spikes_of(case: str, samples: int, device: torch.device) -> Tensor:
    """Return binary spikes (T, samples, ...), one in five."""
    shape = (SHAPES[case][0], samples, *SHAPES[case][2:])
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(shape, generator=generator) < 0.2).float().to(device)


def measure(
    case: str, samples: int, rounds: int, device: torch.device, backend: str
) -> dict[str, dict[str, float]]:
    """Return milliseconds, ratio to the floor with its range, and MiB, by contender."""
    x, steps = spikes_of(case, samples, device), {}
    memory: dict[str, float] = {}
    for name, make in contenders(case, backend).items():
        torch.manual_seed(0)
        try:
            step = training_step(make().to(device), x)
        except ImportError as error:
            print(f"  {name} left out: {error}")
            continue
        step()
        step()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            step()
            memory[name] = (torch.cuda.max_memory_allocated() - before) / 2**20
        steps[name] = step
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            seconds[name].append(timed(step, device))
    rows = {}
    for name, found in seconds.items():
        ratios = [own / floor for own, floor in zip(found, seconds["floor"], strict=True)]
        rows[name] = {
            "milliseconds": round(1000 * statistics.median(found), 3),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_least": round(min(ratios), 3),
            "ratio_most": round(max(ratios), 3),
        }
        if name in memory:
            rows[name]["peak_mib"] = round(memory[name], 1)
    return rows


def timed(step: Callable[[], None], device: torch.device) -> float:
    """Return the seconds of an iteration, until the device has finished it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=MAKERS, default=list(MAKERS))
    parser.add_argument("--samples", type=int, help="in a batch; 256 on a GPU, 2 on a CPU")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", choices=("cuda", "cpu"))
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--save", action="store_true", help="keep the numbers of a GPU")
    options = parser.parse_args(arguments)
    kind = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(kind)
    samples = options.samples or (256 if kind == "cuda" else 2)
    os.environ["SJ_LIF_CUDA_IMPLEMENTATION"] = "triton"
    if kind == "cpu":
        print("no GPU in use: the script tries itself on the CPU; nothing here is a measurement")
    found = {}
    for case in options.cases:
        print(f"{case}: {samples} samples; milliseconds, times the floor and its range, peak MiB")
        found[case] = measure(case, samples, options.rounds, device, options.backend)
        for name, row in found[case].items():
            memory = f"{row['peak_mib']:9.1f} MiB" if "peak_mib" in row else "  not measured"
            print(
                f"  {name:18}{row['milliseconds']:10.3f} ms {row['ratio']:7.2f} "
                f"({row['ratio_least']:.2f} to {row['ratio_most']:.2f}){memory}",
                flush=True,
            )
    if options.save and kind == "cuda":
        stamp = provenance(RESULT.parent, code=CODE, packages=PACKAGES)
        found_on = {"gpu": torch.cuda.get_device_name(), "samples": samples, "cases": found}
        write_text(RESULT, json.dumps({**stamp, **found_on}, indent=1) + "\n")


if __name__ == "__main__":
    main()
