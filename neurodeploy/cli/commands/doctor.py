"""What `neurodeploy doctor` tells: versions, processor, kernels, Lava, optional packages."""

from __future__ import annotations

import os
import pkgutil
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numba
import typer
from numba.core.dispatcher import Dispatcher
from numba.extending import is_jitted
from rich.markup import escape
from rich.table import Table

from neurodeploy._version import __version__
from neurodeploy.cli import console
from neurodeploy.cli.options import AsJson
from neurodeploy.errors import SimulationError
from neurodeploy.lava_bridge.runtime import RuntimeReport, diagnose
from neurodeploy.provenance import installed_version, processor

REQUIRED = ("numpy", "numba", "llvmlite", "h5py", "joblib", "jinja2", "matplotlib", "rich", "typer")
"""Distributions that are always installed, and whose versions matter when something is odd."""

_TRAINING_KERNELS = (
    "neurodeploy.nn.functional.loops",
    "neurodeploy.nn.functional.skipping_loops",
)
_FOREIGN = "lava_worker"
"""A module of `simulation` that runs inside the Lava runtime only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionalPackage:
    """A package that some commands need.

    Attributes:
        name: The distribution.
        purpose: What it is for.
        install: How to get it.
        version: Of the installed one; None if there is none.
    """

    name: str
    purpose: str
    install: str
    version: str | None = None


_OPTIONAL = (
    ("torch", "training and fine-tuning", "train"),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledModule:
    """Kernels of one module, and what numba keeps of them.

    Attributes:
        name: The module.
        functions: How many functions are compiled on their first call.
        cached: Specialisations on disk, made for the source as it is.
        outdated: Specialisations on disk of an older source; never used.
        directory: Where they are kept.
        is_writable: Whether new ones can be kept there.
    """

    name: str
    functions: int
    cached: int
    outdated: int
    directory: str
    is_writable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTimes:
    """Seconds from the start of Python to the first spikes of a small network.

    Attributes:
        first: With nothing compiled.
        later: With everything compiled and kept.
    """

    first: float
    later: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The state of an installation.

    Attributes:
        versions: By name.
        processor: Its name.
        architecture: What kernels are compiled for, LLVM's name.
        cores: Cores that this process may use.
        memory_gb: Main memory in 10**9 bytes; None if the system does not say.
        threads: Threads of compiled loops.
        compiled: One entry a module with kernels.
        start: Measured, if that was asked for.
        lava: The Lava runtime.
        packages: Optional ones.
        problems: What should be mended, in words.
    """

    versions: Mapping[str, str]
    processor: str
    architecture: str
    cores: int
    memory_gb: float | None
    threads: int
    compiled: tuple[CompiledModule, ...]
    start: StartTimes | None
    lava: RuntimeReport
    packages: tuple[OptionalPackage, ...]
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        values = asdict(self) | {"versions": dict(self.versions)}
        values["lava"] |= {"path": str(self.lava.path), "versions": dict(self.lava.versions)}
        return values


def examine(*, measures_start: bool = False) -> Diagnosis:
    """Examine this installation; takes a second or two, mostly Lava's self-test.

    Args:
        measures_start: Also measure the first and a later start, each in a process of its own, with
            a cache of their own.

    Raises:
        SimulationError: If those processes fail.
    """
    import llvmlite.binding

    compiled = tuple(_compiled_modules())
    problems = [
        f"{one.name}: compiled kernels cannot be kept in {one.directory}, so that every start "
        "compiles them anew. Make it writable, or set NUMBA_CACHE_DIR to a folder that is."
        for one in compiled
        if not one.is_writable
    ]
    lava = diagnose()
    if lava.is_present and lava.problem:
        problems.append(lava.problem)
    return Diagnosis(
        versions={
            "neurodeploy": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in REQUIRED},
        },
        processor=processor(),
        architecture=str(llvmlite.binding.get_host_cpu_name()),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=_memory(),
        threads=int(vars(numba.config)["NUMBA_NUM_THREADS"]),
        compiled=compiled,
        start=_measure_start() if measures_start else None,
        lava=lava,
        packages=tuple(
            OptionalPackage(
                name=name,
                purpose=purpose,
                install=f"pip install 'neurodeploy[{extra}]'" if extra else f"pip install {name}",
                version=installed_version(name),
            )
            for name, purpose, extra in _OPTIONAL
        ),
        problems=tuple(problems),
    )


def _memory() -> float | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (ValueError, OSError):
        return None


def _compiled_modules() -> list[CompiledModule]:
    from neurodeploy import simulation

    names = [
        f"{simulation.__name__}.{one.name}"
        for one in pkgutil.iter_modules(simulation.__path__)
        if one.name != _FOREIGN
    ]
    if find_spec("torch") is not None:
        names += _TRAINING_KERNELS
    found = []
    for name in names:
        module = import_module(name)
        kernels = [
            one
            for one in vars(module).values()
            if is_jitted(one) and one.py_func.__module__ == name and one.stats.cache_path
        ]
        if kernels:
            found.append(_compiled_module(name, kernels))
    return found


def _compiled_module(name: str, kernels: Sequence[Dispatcher]) -> CompiledModule:
    """Count what is kept of a module's kernels.

    Numba keeps `<file>.<function>-<line>.<abi>.<n>.nbc` for each specialisation, and with the
    index of a function (`.nbi`) the time of the source that it was made from. Source: numba 0.68,
    `numba/core/caching.py`: `IndexDataCacheFile`.
    """
    module = import_module(name)
    source = Path(str(module.__file__))
    directory = Path(str(kernels[0].stats.cache_path))
    changed = source.stat().st_mtime
    current = {
        f"{source.stem}.{one.py_func.__qualname__}-{one.py_func.__code__.co_firstlineno}."
        for one in kernels
    }
    abi = f"py{sys.version_info.major}{sys.version_info.minor}"
    cached = outdated = 0
    for data in directory.glob(f"{source.stem}.*.{abi}*.nbc"):
        begin = data.name[: data.name.index(f".{abi}") + 1]
        index = data.with_name(data.name.rsplit(".", 2)[0] + ".nbi")
        is_current = begin in current and index.is_file() and index.stat().st_mtime >= changed
        cached += is_current
        outdated += not is_current
    existing = next(one for one in (directory, *directory.parents) if one.exists())
    return CompiledModule(
        name=name,
        functions=len(kernels),
        cached=cached,
        outdated=outdated,
        directory=str(directory),
        is_writable=os.access(existing, os.W_OK | os.X_OK),
    )


def run_small_network() -> None:
    """Run a network of a conv and a dense layer for a few steps: what a first call compiles."""
    import numpy as np

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
        IntArray,
    )
    from neurodeploy.simulation.event_simulator import EventSimulator

    random = np.random.default_rng(0)

    def weights(*shape: int) -> IntArray:
        return random.integers(-60, 60, shape, dtype=np.int32)

    def value(number: int) -> IntArray:
        return np.array(number, np.int32)

    neuron = CubaNeuron(current_decay=value(4096), voltage_decay=value(128), threshold=value(80))
    conv = FixedConv(weight=weights(4, 2, 3, 3), padding=(1, 1))
    dense = FixedDense(weight=weights(10, 256))
    graph = FixedPointGraph(
        input=FixedInput(shape=(2, 8, 8)),
        layers=tuple(
            FixedLayer(
                name=name,
                shape=shape,
                connections=(Connection(source=source, synapse=synapse),),
                neuron=neuron,
                bias=value(0),
            )
            for name, source, synapse, shape in (
                ("conv", INPUT, conv, (4, 8, 8)),
                ("dense", "conv", dense, (10,)),
            )
        ),
    )
    inputs = (random.random((4, 6, 2, 8, 8)) < 0.2).astype(np.int32)
    EventSimulator(graph).run(inputs)


_PROGRAM = "from neurodeploy.cli.commands.doctor import run_small_network; run_small_network()"


def _measure_start() -> StartTimes:
    """Measure two starts with an empty cache that both share."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        seconds = []
        for _ in range(2):
            begin = time.perf_counter()
            end = subprocess.run(
                [sys.executable, "-c", _PROGRAM],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            seconds.append(time.perf_counter() - begin)
            if end.returncode:
                raise SimulationError(
                    f"doctor: the small network that measures a start failed: "
                    f"{(end.stderr.strip().splitlines() or ['no message'])[-1]}"
                )
    return StartTimes(first=seconds[0], later=seconds[1])


# The command that examines the installation: doctor.


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(doctor)


def doctor(
    measures_start: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Also measure the first start, which compiles, and a later one. They keep what "
            "they compile in a temporary folder.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Examine the installation: versions, processor, compiled kernels, Lava, optional packages.

    Exits with 1 if something that is installed does not work.

    Example: `neurodeploy doctor`
    """
    with console.err.status("examining the installation"):
        found = examine(measures_start=measures_start)
    if as_json:
        console.print_json(found.to_dict())
    else:
        _print(found)
    if found.problems:
        for problem in found.problems:
            console.print_error(problem)
        raise typer.Exit(1)


def _print(found: Diagnosis) -> None:
    table = Table("what", "found", show_header=False)
    for name, number in found.versions.items():
        table.add_row(name, number)
    table.add_section()
    memory = "" if found.memory_gb is None else f", {found.memory_gb:.1f} GB of memory"
    table.add_row("processor", found.processor)
    table.add_row("compiled for", found.architecture)
    table.add_row("cores", f"{found.cores}{memory}")
    table.add_row("threads of compiled loops", str(found.threads))
    table.add_section()
    for one in found.compiled:
        outdated = f", {one.outdated} outdated" if one.outdated else ""
        table.add_row(
            one.name.removeprefix("neurodeploy."),
            f"{one.functions} functions, {one.cached} specialisations kept{outdated}",
        )
    for directory, writable in {one.directory: one.is_writable for one in found.compiled}.items():
        table.add_row("kept in", directory + ("" if writable else " (not writable)"))
    if found.start is not None:
        table.add_row("first start, compiling", f"{found.start.first:.1f} s")
        table.add_row("later start", f"{found.start.later:.1f} s")
    table.add_section()
    lava = found.lava
    state = f"works, {lava.seconds:.1f} s to start and run" if lava.is_working else "does not work"
    table.add_row("Lava runtime", state if lava.is_present else "none: `neurodeploy lava install`")
    if lava.is_present:
        versions = ", ".join(f"{name} {version}" for name, version in lava.versions.items())
        table.add_row("", versions)
    table.add_section()
    for package in found.packages:
        missing = f"none: {package.install}" if package.version is None else package.version
        table.add_row(package.name, escape(f"{missing} ({package.purpose})"))
    console.out.print(table)
