"""The command that examines the installation: doctor."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Annotated

import typer
from rich.table import Table

from neurodeploy._version import __version__
from neurodeploy.cli import console
from neurodeploy.cli.options import AsJson
from neurodeploy.errors import SimulationError
from neurodeploy.lava_bridge.runtime import RuntimeReport, diagnose
from neurodeploy.processes.leftovers import temporary_folder
from neurodeploy.processes.parents import BEFORE_EXEC
from neurodeploy.processes.platforms import usable_cores
from neurodeploy.provenance import installed_version, processor

REQUIRED = ("numpy", "llvmlite", "h5py", "joblib", "jinja2", "matplotlib", "rich", "typer")
"""Distributions that are always installed, and whose versions matter when something is odd."""

_OPTIONAL = (
    ("torch", "training and fine-tuning", "train"),
    ("numba", "the loops of training", "train"),
    ("lightning-fabric", "training on several devices", "train"),
    ("safetensors", "files of float weights", "train"),
    ("scikit-learn", "the digits data set", "train"),
    ("onnx", "`macs`, `report --ann`", "onnx"),
    ("onnxruntime", "`report --ann`: effective MACs", "onnx"),
    ("distributed", "`--engine dask`", "dask"),
    ("ray", "`--engine ray`", "ray"),
    ("torchvision", "MNIST, CIFAR, ImageNet from a folder", "data"),
    ("tonic", "N-MNIST, DVS Gesture, SHD, CIFAR10-DVS", "data"),
    ("aedat", "AEDAT 4 recordings", "data"),
)
"""Distributions that some commands need: name, purpose, extra."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionalPackage:
    """A package that some commands need; `version` is None where it is not installed."""

    name: str
    purpose: str
    install: str
    version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The state of an installation.

    Attributes:
        versions: By name.
        processor: Its name.
        architecture: The processor that kernels are compiled for, LLVM's name.
        cores: Cores that this process may use.
        memory_gb: Main memory in 10**9 bytes; None if the system does not say.
        start: Seconds from the start of Python to the first spikes of a small network: "first",
            with nothing compiled, and "later". None unless asked for.
        lava: The Lava runtime.
        packages: Optional ones.
        problems: Faults to be mended, in words.
    """

    versions: dict[str, str]
    processor: str
    architecture: str
    cores: int
    memory_gb: float | None
    start: dict[str, float] | None
    lava: RuntimeReport
    packages: tuple[OptionalPackage, ...]
    problems: tuple[str, ...]


def doctor(
    measures_start: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Also measure the first start, which compiles the kernels, and a later one, both "
            "with a temporary cache.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Examine the installation: versions, processor, Lava, optional packages.

    Exits with 1 if something that is installed does not work.

    Example: `neurodeploy doctor`
    """
    with console.err.status("examining the installation"):
        diagnosis = examine(measures_start=measures_start)
    if as_json:
        lava = diagnosis.lava
        plain = {"path": str(lava.path), "versions": dict(lava.versions)}
        values = asdict(diagnosis)
        console.print_json(values | {"lava": values["lava"] | plain})
    else:
        _print(diagnosis)
    for problem in diagnosis.problems:
        console.print_error(problem)
    if diagnosis.problems:
        raise typer.Exit(1)


def examine(*, measures_start: bool = False) -> Diagnosis:
    """Examine this installation; takes a second or two, mostly Lava's self-test.

    With `measures_start`, two processes with a cache of their own are timed as well.
    """
    # Here and not above: no other command pays for the compiler at its start.
    import llvmlite.binding

    lava = diagnose()
    return Diagnosis(
        versions={
            "neurodeploy": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in REQUIRED},
        },
        processor=processor(),
        architecture=str(llvmlite.binding.get_host_cpu_name()),
        cores=usable_cores(),
        memory_gb=_memory(),
        start=_measure_start() if measures_start else None,
        lava=lava,
        packages=tuple(
            OptionalPackage(
                name=name,
                purpose=purpose,
                install=f"pip install 'neurodeploy[{extra}]'",
                version=installed_version(name),
            )
            for name, purpose, extra in _OPTIONAL
        ),
        problems=(lava.problem,) if lava.is_present and lava.problem else (),
    )


def _memory() -> float | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (ValueError, OSError, AttributeError):  # Windows does not tell
        return None


def run_small_network() -> None:
    """Run a network of a conv and a dense layer for a few steps: what a first call compiles."""
    import numpy as np

    from neurodeploy.ir import graphs, integer_layers as layers
    from neurodeploy.simulation.event_simulator import EventSimulator

    random = np.random.default_rng(0)

    def weights(*shape: int) -> layers.IntArray:
        return random.integers(-60, 60, shape, dtype=np.int32)

    def layer(source: str, synapse: layers.Synapse, name: str, *shape: int) -> layers.FixedLayer:
        decay, leak, threshold, bias = (np.array(n, np.int32) for n in (4096, 128, 80, 0))
        return layers.FixedLayer(
            name=name,
            shape=shape,
            connections=(layers.Connection(source=source, synapse=synapse),),
            neuron=layers.CubaNeuron(current_decay=decay, voltage_decay=leak, threshold=threshold),
            bias=bias,
        )

    conv = layers.FixedConv(weight=weights(4, 2, 3, 3), padding=(1, 1))
    dense = layers.FixedDense(weight=weights(10, 256))
    graph = graphs.FixedPointGraph(
        input=graphs.FixedInput(shape=(2, 8, 8)),
        layers=(
            layer(graphs.INPUT, conv, "conv", 4, 8, 8),
            layer("conv", dense, "dense", 10),
        ),
    )
    inputs = (random.random((4, 6, 2, 8, 8)) < 0.2).astype(np.int32)
    EventSimulator(graph).run(inputs)


_PROGRAM = "from neurodeploy.cli.commands.doctor import run_small_network; run_small_network()"


def _measure_start() -> dict[str, float]:
    """Measure two starts with an empty cache that both share."""
    seconds = {}
    with temporary_folder() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
        for name in ("first", "later"):
            begin = time.perf_counter()
            call = [sys.executable, "-c", _PROGRAM]
            end = subprocess.run(
                call,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                preexec_fn=BEFORE_EXEC,
            )
            seconds[name] = time.perf_counter() - begin
            if end.returncode:
                raise SimulationError(
                    f"doctor: the small network that measures a start failed: "
                    f"{(end.stderr.strip().splitlines() or ['no message'])[-1]}"
                )
    return seconds


def _print(diagnosis: Diagnosis) -> None:
    table = Table(show_header=False)
    for name, number in diagnosis.versions.items():
        table.add_row(name, number)
    table.add_section()
    memory = "" if diagnosis.memory_gb is None else f", {diagnosis.memory_gb:.1f} GB of memory"
    table.add_row("processor", diagnosis.processor)
    table.add_row("compiled for", diagnosis.architecture)
    table.add_row("cores", f"{diagnosis.cores}{memory}")
    if diagnosis.start is not None:
        table.add_row("first start, compiling", f"{diagnosis.start['first']:.1f} s")
        table.add_row("later start", f"{diagnosis.start['later']:.1f} s")
    table.add_section()
    lava = diagnosis.lava
    state = f"works, {lava.seconds:.1f} s to start and run" if lava.is_working else "does not work"
    table.add_row("Lava runtime", state if lava.is_present else "none: `neurodeploy lava install`")
    if lava.is_present:
        table.add_row("", ", ".join(f"{name} {number}" for name, number in lava.versions.items()))
    table.add_section()
    for package in diagnosis.packages:
        missing = f"none: {package.install}" if package.version is None else package.version
        table.add_row(package.name, f"{missing} ({package.purpose})")
    console.out.print(table)
