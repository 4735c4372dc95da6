"""Training speed: ours, lava-dl, SpikingJelly, snnTorch and norse against the bare convolutions.

    pip install --no-deps spikingjelly snntorch norse nir nirtorch loguru
    python tests/benchmarks/training.py [--cases mlp conv resnet18 …] [--rounds N] [--memory]
        [--cpu] [--save]

One iteration is forward, backward and an SGD step; in `inference` the forward pass alone. All
contenders of a case are measured in turn, round after round, in one process. Given are the median
time of a round and the median and range of the ratios within a round, which a change of the
machine's mood on the way does not touch. The floor is the same convolutions and linear maps alone,
time folded into the batch, channels-last, without norm, neurons or ReLU.

Peers get the network at its best for them: our folded channels-last convolutions and torch's
batch norm, with their own neuron over all steps. lava-dl's blocks are whole, as they cannot be
taken apart. The allocator is told, for all alike, not to give large tensors back to the system:
otherwise glibc maps and clears every tensor above 32 MiB anew. For all alike, OpenMP's threads wait
without spinning, which the command line sets as well.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from memory import memory_mib, peak_mib
from networks import processor_family
from torch import Tensor, nn
from torch.nn import functional

from neurodeploy.files import write_text
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.provenance import provenance
from neurodeploy.recipes.recipe import Architecture

RESULTS = Path(__file__).parent / "results" / f"training_{processor_family()}.json"
CODE = ("neurodeploy", "tests/benchmarks/training.py")
"""What a number depends on."""
PACKAGES = ("torch", "numba", "lava-dl", "spikingjelly", "snntorch", "norse")
Net = Callable[[Tensor], Tensor]
NeuronMaker = Callable[[], nn.Module]
TAU, THRESHOLD = 0.5, 0.5
GOALS = {"mlp": 1.15, "conv": 1.2, "resnet18": 1.25, "sparse": 0.9, "inference": 1.2}
BLOCK_GOALS = {"slayer_mlp": 2.5, "slayer_conv": 2.8}
SHAPES = {  # case: (T, N, *shape of a step)
    "mlp": (16, 64, 784),
    "conv": (4, 32, 3, 32, 32),
    "resnet18": (4, 16, 3, 32, 32),
    "sparse": (4, 32, 3, 32, 32),
    "inference": (4, 32, 3, 32, 32),
    "slayer_mlp": (16, 64, 784),
    "slayer_conv": (4, 32, 3, 32, 32),
}
CONV = ((32, 1), (64, 2), (64, 1), (128, 2))
"""(channels, stride) of the convolutions of "conv"."""


# --- networks of the peers and of the floor ---------------------------------------------------


class Folded(nn.Module):
    """A stateless layer on (T, N, ...): steps become part of the batch."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.flatten(0, 1))
        return y.view(*x.shape[:2], *y.shape[1:])


class Convolution(nn.Conv2d):
    """Channels-last; a strided 1x1 kernel reads a slice, because of torch's faulty gradient."""

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size == (1, 1) and self.stride != (1, 1):
            x = x[..., :: self.stride[0], :: self.stride[1]]
            x = x.contiguous(memory_format=torch.channels_last)
            return functional.conv2d(x, self.weight)
        return super().forward(x)


def convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Module:
    layer = Convolution(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return layer.to(memory_format=torch.channels_last)


class Basic(nn.Module):
    """A residual block; without a neuron, the floor: its convolutions alone."""

    def __init__(self, inputs: int, outputs: int, stride: int, neuron: NeuronMaker | None) -> None:
        super().__init__()
        self.first = stage(convolution(inputs, outputs, 3, stride), outputs, neuron)
        self.second = normalized(convolution(outputs, outputs, 3, 1), outputs, neuron)
        self.skip = (
            normalized(convolution(inputs, outputs, 1, stride), outputs, neuron)
            if stride > 1
            else None
        )
        self.neuron = None if neuron is None else neuron()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x))
        skip = x if self.skip is None else self.skip(x)
        # The floor's skip must be computed and differentiated as well: a view joins it.
        return y + skip if self.neuron is None else self.neuron(y + skip)


def normalized(layer: nn.Module, channels: int, neuron: NeuronMaker | None) -> nn.Module:
    return Folded(layer if neuron is None else nn.Sequential(layer, nn.BatchNorm2d(channels)))


def stage(layer: nn.Module, channels: int, neuron: NeuronMaker | None) -> nn.Module:
    made = normalized(layer, channels, neuron)
    return made if neuron is None else nn.Sequential(made, neuron())


class Pooled(nn.Module):
    """Global average pool and a linear map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x.mean((-2, -1)))
        return y


def make_mlp(neuron: NeuronMaker | None) -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise((784, 512, 512)):
        layers.append(Folded(nn.Linear(inputs, outputs)))
        if neuron is not None:
            layers.append(neuron())
    return nn.Sequential(*layers, Folded(nn.Linear(512, 10)))


def make_conv(neuron: NeuronMaker | None) -> nn.Module:
    inputs, layers = 3, []
    for outputs, stride in CONV:
        layers.append(stage(convolution(inputs, outputs, 3, stride), outputs, neuron))
        inputs = outputs
    return nn.Sequential(*layers, Pooled(inputs))


def make_resnet18(neuron: NeuronMaker | None) -> nn.Module:
    layers: list[nn.Module] = [stage(convolution(3, 16, 3, 1), 16, neuron)]
    inputs = 16
    for index, outputs in enumerate((16, 32, 64, 128)):
        for stride in ((1 if index == 0 else 2), 1):
            layers.append(Basic(inputs, outputs, stride, neuron))
            inputs = outputs
    return nn.Sequential(*layers, Pooled(inputs))


MAKERS = {"mlp": make_mlp, "conv": make_conv, "resnet18": make_resnet18}


# --- neurons of the peers ---------------------------------------------------------------------


def spikingjelly_neuron() -> nn.Module:
    from spikingjelly.activation_based import neuron, surrogate

    made: nn.Module = neuron.LIFNode(
        tau=1 / (1 - TAU),
        decay_input=False,
        v_threshold=THRESHOLD,
        v_reset=0.0,
        surrogate_function=surrogate.ATan(),
        step_mode="m",
    )
    return made


class SnnTorchNeuron(nn.Module):
    """snnTorch's Leaky in a loop over the steps, which is how it is used."""

    def __init__(self) -> None:
        super().__init__()
        import snntorch
        from snntorch import surrogate

        self.cell = snntorch.Leaky(
            beta=TAU,
            threshold=THRESHOLD,
            spike_grad=surrogate.fast_sigmoid(),
            reset_mechanism="zero",
        )

    def forward(self, x: Tensor) -> Tensor:
        membrane = torch.zeros_like(x[0])
        spikes = []
        for step in x:
            spike, membrane = self.cell(step, membrane)
            spikes.append(spike)
        return torch.stack(spikes)


class NorseNeuron(nn.Module):
    """norse's LIFBox in a loop over the steps."""

    def __init__(self) -> None:
        super().__init__()
        from norse.torch.functional import lif_box

        self.step = lif_box.lif_box_feed_forward_step
        self.state = lif_box.LIFBoxFeedForwardState
        self.parameters_ = lif_box.LIFBoxParameters(
            tau_mem_inv=torch.as_tensor(500.0), v_th=torch.as_tensor(THRESHOLD)
        )

    def forward(self, x: Tensor) -> Tensor:
        state = self.state(v=torch.zeros_like(x[0]))
        spikes = []
        for step in x:
            spike, state = self.step(step, state, self.parameters_)
            spikes.append(spike)
        return torch.stack(spikes)


NEURONS: Mapping[str, NeuronMaker] = {
    "SpikingJelly": spikingjelly_neuron,
    "snnTorch": SnnTorchNeuron,
    "norse": NorseNeuron,
}


class Stateless(nn.Module):
    """A network whose neurons forget between calls."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        for module in self.network.modules():
            if callable(reset := getattr(module, "reset", None)):
                reset()
        y: Tensor = self.network(x)
        return y


# --- lava-dl and our blocks of its kind -------------------------------------------------------

CUBA = {"threshold": 0.5, "current_decay": 0.5, "voltage_decay": 0.2}


class LavaNetwork(nn.Module):
    """lava-dl's blocks, which want time last: (T, N, ...) is turned round at the entry."""

    def __init__(self, case: str) -> None:
        super().__init__()
        from lava.lib.dl.slayer import block

        self.blocks = nn.ModuleList(
            [
                block.cuba.Dense(CUBA, inputs, outputs)
                for inputs, outputs in itertools.pairwise((784, 512, 512, 10))
            ]
            if "mlp" in case
            else [
                block.cuba.Conv(CUBA, inputs, outputs, 3, stride=stride, padding=1)
                for (inputs, _), (outputs, stride) in itertools.pairwise(((3, 1), *CONV))
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(0, -1).contiguous()
        for block in self.blocks:
            x = block(x)
        return x.movedim(-1, 0)


class OurBlocks(nn.Module):
    """The same of our blocks, time first."""

    def __init__(self, case: str) -> None:
        super().__init__()
        from neurodeploy.nn import blocks

        params = dict(CUBA)
        self.blocks = nn.ModuleList(
            [
                blocks.Dense(params, inputs, outputs)
                for inputs, outputs in itertools.pairwise((784, 512, 512, 10))
            ]
            if "mlp" in case
            else [
                blocks.Conv(params, inputs, outputs, 3, stride, 1)
                for (inputs, _), (outputs, stride) in itertools.pairwise(((3, 1), *CONV))
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


# --- ours -------------------------------------------------------------------------------------


class Ours(nn.Module):
    """`SpikingNetwork`, which wants samples first."""

    def __init__(self, case: str) -> None:
        super().__init__()
        networks: dict[str, dict[str, object]] = {
            "mlp": {
                "steps": 16,
                "layers": [
                    {"type": "dense", "neurons": 512, "batch_norm": False},
                    {"type": "dense", "neurons": 512, "batch_norm": False},
                ],
            },
            "conv": {
                "steps": 4,
                "readout": "gap_linear",
                "norm": "bn",
                "layers": [
                    {"type": "conv", "channels": channels, "stride": stride}
                    for channels, stride in CONV
                ],
            },
            "resnet18": {
                "architecture": "residual",
                "blocks": [2, 2, 2, 2],
                "channels": 16,
                "steps": 4,
                "norm": "bn",
            },
        }
        shape = SHAPES[case][2:]
        table: dict[str, object] = {
            "shape": list(shape),
            "classes": 10,
            "input_bits": 0,
            "network": networks["conv" if case in ("sparse", "inference") else case],
            "neuron": {"model": "lif", "tau": TAU, "threshold": THRESHOLD},
            "branches": [],
        }
        self.network = SpikingNetwork(Architecture.from_dict(table, where=case))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x.transpose(0, 1))
        return y.transpose(0, 1)


# --- measuring --------------------------------------------------------------------------------


def contenders(case: str) -> dict[str, Callable[[], nn.Module]]:
    """Name and maker of every network of a case that can be made here; the floor first."""
    if case.startswith("slayer"):
        return {"lava-dl": lambda: LavaNetwork(case), "ours": lambda: OurBlocks(case)}
    make = MAKERS["conv" if case in ("sparse", "inference") else case]
    makers: dict[str, Callable[[], nn.Module]] = {
        "floor": lambda: make(None),
        "ours": lambda: Ours(case),
    }
    if case == "sparse":
        return makers
    for name, neuron in NEURONS.items():
        makers[name] = lambda neuron=neuron: Stateless(make(neuron))
    return makers


def inputs_of(case: str) -> Tensor:
    """Return binary spikes (T, N, ...), one in five, one in ten for "sparse"."""
    generator = torch.Generator().manual_seed(0)
    share = 0.1 if case == "sparse" else 0.2
    return (torch.rand(SHAPES[case], generator=generator) < share).float()


def prepare(case: str, network: nn.Module) -> Callable[[], None]:
    """Return what is timed: one iteration."""
    x = inputs_of(case)
    if case == "sparse":
        quieten(network, x)
    if case == "inference":
        network.eval()

        def infer() -> None:
            with torch.no_grad():
                network(x)

        return infer
    return training_step(network, x)


def training_step(network: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return one iteration: forward, backward, SGD; on the device of the input."""
    labels = torch.arange(x.shape[1], device=x.device) % 10
    optimizer: list[torch.optim.Optimizer] = []

    def train() -> None:
        y = network(x)
        scores = y.flatten(2).mean(0)
        loss = functional.cross_entropy(scores, labels % scores.shape[1])
        if not optimizer:  # lava-dl makes its weights at the first call
            optimizer.append(torch.optim.SGD(network.parameters(), lr=1e-3))
        optimizer[0].zero_grad()
        loss.backward()
        optimizer[0].step()

    return train


def quieten(network: nn.Module, x: Tensor) -> None:
    """Move the norms so that at most one neuron in ten spikes."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, -0.9)
    with torch.no_grad():
        if isinstance(network, Ours):
            _, spikes = network.network.forward_with_spikes(x.transpose(0, 1))
            shares = ", ".join(f"{float(values.mean()):.1%}" for values in spikes.values())
            print(f"  activity {shares}")


def measure(case: str, rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of the better of two iterations in each round, for each contender."""
    runs: dict[str, Callable[[], None]] = {}
    for name, make in contenders(case).items():
        torch.manual_seed(0)
        try:
            runs[name] = prepare(case, make())
            runs[name]()
            runs[name]()
        except ImportError as error:
            runs.pop(name, None)
            print(f"  {name} left out: {error}")
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            best = float("inf")
            for _ in range(2):
                start = clock()
                run()
                best = min(best, clock() - start)
            seconds[name].append(best)
    gc.collect()
    return seconds


def keep_memory() -> None:
    """Tell glibc to keep freed memory: no page faults for tensors above 32 MiB."""
    if platform.system() == "Linux":
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((-3, 1 << 30), (-1, -1 & 0x7FFFFFFF)):  # mmap, trim thresholds
            libc.mallopt(option, value)


def peak_memory(case: str, name: str) -> float:
    """MiB that a process of its own needs at most for three iterations, beyond its imports."""
    result = subprocess.run(
        [sys.executable, __file__, "--one", case, name], capture_output=True, text=True, check=True
    )
    return float(result.stdout.split()[-1])


def run_one(case: str, name: str) -> None:
    """Three iterations of one contender; prints the growth of the peak in MiB."""
    network = contenders(case)[name]()
    before = memory_mib("VmRSS")
    run = prepare(case, network)
    for _ in range(3):
        run()
    print(peak_mib() - before)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Training speed against peers and the floor.")
    parser.add_argument("--cases", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="processor time of one thread in place of wall time, for a machine with other work",
    )
    parser.add_argument("--memory", action="store_true", help="peak memory of each as well")
    parser.add_argument(
        "--save",
        action="store_true",
        help="keep the numbers of this family of processors; those of other cases stay",
    )
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if "OMP_WAIT_POLICY" not in os.environ:  # as the command line does; torch reads it once
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    torch.set_num_threads(1 if options.cpu else options.threads)
    if options.one:
        run_one(*options.one)
        return
    keep_memory()
    for case in options.cases:
        found = measure(
            case, options.rounds, time.process_time if options.cpu else time.perf_counter
        )
        base = found["lava-dl" if case in BLOCK_GOALS else "floor"]
        goal = GOALS.get(case) or BLOCK_GOALS[case]
        relation = "times as fast as lava-dl" if case in BLOCK_GOALS else "times the floor"
        print(
            f"{case}: goal {'≥' if case in BLOCK_GOALS else '≤'} {goal} {relation}; milliseconds "
            "and ratio, medians over rounds, and the ratio's range"
        )
        rows: dict[str, dict[str, float]] = {}
        for name, seconds in found.items():
            ratios = [own / other for own, other in zip(seconds, base, strict=True)]
            if case in BLOCK_GOALS:
                ratios = [1 / ratio for ratio in ratios]
            rows[name] = {
                "milliseconds": round(1000 * statistics.median(seconds), 2),
                "ratio": round(statistics.median(ratios), 3),
                "ratio_least": round(min(ratios), 3),
                "ratio_most": round(max(ratios), 3),
            }
            line = "  {:14}{:9.1f} ms {:7.2f} ({:.2f} to {:.2f})".format(name, *rows[name].values())
            if options.memory:
                rows[name]["peak_mib"] = memory = round(peak_memory(case, name))
                line += f" {memory:8} MiB"
            print(line, flush=True)
        if options.save:
            clock = "processor" if options.cpu else "wall"
            save(
                case,
                {"goal": goal, "rounds": options.rounds, "clock": clock, "contenders": rows},
            )


def save(case: str, found: dict[str, object]) -> None:
    """Put a case's numbers among those of the others, with what they depend on."""
    table = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    stamp = provenance(RESULTS.parents[1], code=CODE, packages=PACKAGES)
    table[case] = {**found, "threads": torch.get_num_threads(), **stamp}
    write_text(RESULTS, json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
