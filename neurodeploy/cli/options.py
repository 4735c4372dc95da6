"""Groups of options that several commands share, each with its help text and its meaning."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurodeploy.cli import console
from neurodeploy.cli.certified_steps import certified_steps, warn_of_other_steps
from neurodeploy.cli.option_groups import Panel
from neurodeploy.errors import DataError, FractionWarning, NetxError
from neurodeploy.files import net_of, samples_of
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.netx import read
from neurodeploy.samples.array_files import INPUT_BYTES_MAX
from neurodeploy.samples.sources import Samples, holds_recordings, open_samples
from neurodeploy.simulation.event_simulator import conform_input
from neurodeploy.simulation.long_runs.engines import Crew, Engine
from neurodeploy.simulation.long_runs.memory import parse_size
from neurodeploy.simulation.recording import (
    Feed,
    IntArray,
    Record,
    Recording,
    Simulator,
    Stream,
    Timing,
    Window,
)
from neurodeploy.untrusted.hdf5 import tried_apart

if TYPE_CHECKING:
    from neurodeploy.lava_bridge.lava_simulator import LavaSimulator

GENERAL = Panel()
TIME = Panel("Time")
FILE = Panel("How the file is read")
LAVA = Panel("Real Lava")
MANY = Panel("Many samples, many processes")

NetFile = Annotated[
    Path,
    typer.Argument(
        metavar="NET", help="A netx file (`.net`), or the directory of a run.", callback=net_of
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print only JSON to standard output.")]
INCOMPLETE = 3
"""Exit code of a count that leaves operators of an ONNX model out."""

AllowIncomplete = Annotated[
    bool,
    typer.Option(
        "--allow-incomplete",
        help="Exit with 0 instead of 3 where an operator of the model cannot be counted.",
    ),
]
Bindings = Annotated[
    list[str] | None,
    typer.Option(
        "--bind",
        metavar="DIM=SIZE",
        help="Set the size of an open dimension by its name, as in batch=1; one without a name is "
        "called INPUT:AXIS, as in x:0=1. May be repeated.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the recipe, as in `training.epochs=2` or, once it is trained, "
        "`quantization.margin=2`; one without effect is refused. May be repeated.",
    ),
]
LavaPython = Annotated[
    Path | None,
    typer.Option(
        metavar="PYTHON",
        help="Python interpreter that has Lava. Default: the runtime of `neurodeploy lava "
        "install`.",
        rich_help_panel=LAVA.title,
    ),
]


class Backend(StrEnum):
    """The simulator that runs the file."""

    EVENT = "event"
    LAVA = "lava"


@dataclass(frozen=True, kw_only=True)
class TimingOptions:
    """Windows of steps, or Lava's own time."""

    window: int | None = TIME.option(
        None,
        "Run windows of T steps: each sample starts from zero state, and output step t answers "
        "input step t. This is the default, with T taken from the input, but for files of "
        "sigma-delta neurons, whose default is --stream.",
        metavar="T",
    )
    stream: bool = TIME.option(
        False,
        "Keep Lava's own timing: each layer adds one step of delay, and each sample is a run from "
        "step 1.",
    )
    steps: int | None = TIME.option(
        None, "With --stream: number of steps to run. A shorter input is repeated.", metavar="N"
    )
    reset_interval: int | None = TIME.option(
        None,
        "With --stream: `reset_interval` of Lava's Network. States reset every P steps.",
        metavar="P",
    )
    reset_offset: int = TIME.option(
        0,
        "With --stream: `reset_offset` of Lava's Network. 1 aligns resets with the input of a file "
        "that has no input neuron.",
        metavar="O",
    )

    refresh: int | None = TIME.option(
        None,
        "Set sigma-delta networks to zero after every N steps, between two calls of `run` of "
        "Lava's Network. Default: the interval in the file, else 0: never.",
        min=0,
        metavar="N",
    )

    def timing(self, graph: FixedPointGraph | None = None) -> Timing:
        """Return the timing that the options ask for; refuse those that contradict each other.

        Without options, sigma-delta networks run in Lava's own time: a sample is a stream of
        frames, which are answered while the next ones enter.
        """
        refresh = self.refresh
        if refresh is None and graph is not None and self.reset_interval is None:
            refresh = graph.refresh_interval
        if self.stream:
            if self.window is not None:
                raise typer.BadParameter("--stream and --window exclude each other. Choose one.")
            return Stream(
                steps=self.steps,
                reset_interval=self.reset_interval,
                reset_offset=self.reset_offset,
                refresh_interval=refresh or None,
            )
        if self.steps is not None or self.reset_interval is not None or self.reset_offset:
            raise typer.BadParameter(
                "--steps, --reset-interval and --reset-offset belong to Lava's own time. Add "
                "--stream."
            )
        if self.window is None and graph is not None and graph.sends_changes:
            return Stream(refresh_interval=refresh or None)
        if self.refresh and (graph is not None or self.window is not None):
            raise typer.BadParameter(
                "--refresh belongs to sigma-delta networks in Lava's own time. Leave --window out, "
                "or use --reset-interval for LIF neurons."
            )
        return Window(steps=self.window)


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """The arguments of Lava's `Network` that change the meaning of every file."""

    input_bits: int | None = FILE.option(
        None,
        "`input_message_bits` of Lava's Network. 0: each nonzero input is one spike. Above 0: the "
        "value of the input counts. Default: the number that neurodeploy wrote into the file, "
        "else 0.",
        metavar="B",
    )
    input_shape: str | None = FILE.option(
        None,
        "Shape of the input, for a file without an input layer: C,H,W, or N if it is flat.",
        metavar="C,H,W",
    )
    accept_silent_faults: bool = FILE.option(
        False,
        "Accept a file in which Lava silently drops something (delays of conv layers, weight "
        "matrices that it turns into zeros, datasets that it does not know), and run it as Lava "
        "does, with a warning.",
    )

    def read(
        self, net: Path, *, spike_exponent: int | None = None, simulates: bool = False
    ) -> FixedPointGraph:
        """Read a file, which another process reads first.

        `spike_exponent` is `spike_exp` of Lava's `Network`. A command that `simulates` needs LLVM's
        loader, which is loaded while that process reads.
        """
        shape = parse_shape(self.input_shape)
        with tried_apart(net):
            if simulates:
                import_module("neurodeploy.simulation.kernels.layer_records")
        graph = read(
            net,
            input_shape=shape,
            input_bits=self.input_bits,
            spike_exponent=spike_exponent,
            accept_silent_faults=self.accept_silent_faults,
        )
        if shape is not None and shape != graph.input.shape:
            raise typer.BadParameter(
                f"--input-shape {self.input_shape}: {net} has an input layer of "
                f"{','.join(map(str, graph.input.shape))}. Leave the option out."
            )
        return graph


@dataclass(frozen=True, kw_only=True)
class RunOptions(FileOptions, TimingOptions):
    """A network and the samples that it runs on."""

    net: NetFile
    input: Annotated[
        Path,
        typer.Option(
            "--input",
            "-i",
            metavar="IN",
            callback=samples_of,
            help="Samples: integers of shape (samples, T, C, H, W) or (samples, T, N), as array "
            "`input` of an `.npz` or HDF5 file, or an `.npy` file; an event table; or a folder of "
            "`.bin`, `.dat` or `.aedat4` recordings (with --window T, unless a certificate beside "
            "NET names T); or the directory of a run, for its `samples.npz`. With an array "
            "`label`, one class number a sample, or recordings in a folder for each class, the "
            "accuracy is measured: the class is the neuron of the last layer with the highest "
            "voltage after the last step or, if that layer spikes, with the most spikes.",
        ),
    ]
    spike_exp: int | None = FILE.option(
        None,
        "`spike_exp` of Lava's Network. Only sigma-delta neurons use it. Default: the one that "
        "neurodeploy wrote into the file, else 6.",
        metavar="E",
    )
    feed: Feed | None = FILE.option(
        None,
        "How the input enters: `port`; or, for a file with an input neuron block, `neuron` (added "
        "to its current) or `bias` (a constant image without T axis: give --window or --steps). "
        "Default: `neuron` where there is such a block, else `port`.",
    )
    key: str = FILE.option(
        "input", "Name of the array or HDF5 dataset that holds the samples.", metavar="NAME"
    )

    def entry(self, graph: FixedPointGraph) -> Feed:
        """Return how the input enters a network."""
        if self.feed is not None:
            return self.feed
        return Feed.NEURON if graph.has_input_neuron else Feed.PORT

    def graph(self, *, refuses_fractions: bool = False) -> FixedPointGraph:
        """Read the network.

        With `refuses_fractions`, a file whose weights are not integers is an undeployed network.
        """
        with warnings.catch_warnings():
            if refuses_fractions:
                warnings.simplefilter("error", FractionWarning)
            try:
                return self.read(self.net, spike_exponent=self.spike_exp, simulates=True)
            except FractionWarning as warning:
                raise NetxError(
                    f"{warning} Counting what is left would be counting another network: deploy it "
                    "first, or add --accept-silent-faults."
                ) from warning

    def source(self, graph: FixedPointGraph, timing: Timing) -> Samples:
        """Open the samples, to be read a few at a time.

        Recordings are cut into the steps that the certificate beside the file names, unless
        --window says otherwise.
        """
        steps, is_window = timing.steps, isinstance(timing, Window)
        if steps is None and is_window and holds_recordings(self.input):
            steps = certified_steps(self.net)
        found = open_samples(self.input, key=self.key, steps=steps, port=graph.input.shape)
        if is_window and self.entry(graph) is not Feed.BIAS:
            warn_of_other_steps(self.net, found.name, found.shape[0])
        return found

    def samples(self, graph: FixedPointGraph, timing: Timing) -> IntArray:
        """Read all samples at once, as the network takes them."""
        samples = self.source(graph, timing)
        assert samples.count is not None, "files know how many samples they hold"
        size = samples.count * prod(samples.shape) * samples.dtype.itemsize
        if size > INPUT_BYTES_MAX:
            raise DataError(
                f"{samples.name} of shape {(samples.count, *samples.shape)} takes "
                f"{size / 2**30:.0f} GiB, at most {INPUT_BYTES_MAX // 2**30} are read at once. "
                "Split the samples over several files."
            )
        values = samples.read(0, samples.count)
        return conform_input(values, graph, feed=self.entry(graph), where=samples.name)

    def record(
        self,
        simulator: Simulator,
        graph: FixedPointGraph,
        samples: IntArray,
        *,
        label: str,
        quiet: bool,
        record: Record = Record(),  # noqa: B008 - a frozen value
    ) -> Recording:
        """Run a simulator on samples, and show its progress under a label unless `quiet`."""
        with console.progress(label, len(samples), quiet=quiet) as advance:
            return simulator.run(
                samples,
                timing=self.timing(graph),
                feed=self.entry(graph),
                record=record,
                progress=advance,
            )


@dataclass(frozen=True, kw_only=True)
class LavaOptions:
    """The Lava that runs the file, and its time limit."""

    lava_python: LavaPython = None
    timeout: float | None = LAVA.option(
        None,
        "Give up on Lava after this time. Default: when it shows no sign of life.",
        metavar="SECONDS",
    )

    def simulator(self, run: RunOptions, graph: FixedPointGraph) -> LavaSimulator:
        """Return real Lava for a network that has been read."""
        # Most commands never start Lava.
        from neurodeploy.lava_bridge.lava_simulator import LavaSimulator

        return LavaSimulator(
            run.net,
            python=self.lava_python,
            input_bits=graph.input.message_bits,
            input_shape=graph.input.shape,
            spike_exponent=graph.spike_exponent,
            layer_names=graph.names,
            timeout=self.timeout,
        )


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
    """Memory of a run over any number of samples."""

    memory: str | None = MANY.option(
        None,
        "Memory for the run, such as 800MB or 2GiB. Default: half of the free memory, at most 4 "
        "GiB.",
        metavar="SIZE",
    )

    def memory_bytes(self) -> int | None:
        """Return the size of --memory in bytes; refuse all else."""
        if self.memory is None:
            return None
        try:
            return parse_size(self.memory)
        except ValueError as error:
            raise typer.BadParameter(f"--memory {error}") from error


@dataclass(frozen=True, kw_only=True)
class LongRunOptions(MemoryOptions):
    """Memory, processes, and the rest of an interrupted run."""

    memory: str | None = MANY.option(
        None,
        "Memory for the run, such as 800MB or 2GiB; on a remote cluster, memory for each worker. "
        "Default: half of the free memory, at most 4 GiB.",
        metavar="SIZE",
    )
    resume: bool = MANY.option(
        False, "Continue an interrupted run from the finished samples in OUT.parts."
    )
    engine: Engine = MANY.option(
        Engine.LOCAL,
        "Where to compute: in processes on this machine (`local`), on a Dask or a Ray cluster.",
    )
    cluster: str | None = MANY.option(
        None,
        "Address of a running Dask or Ray cluster, such as tcp://host:8786. Default: start one on "
        "this machine.",
        metavar="ADDRESS",
    )
    workers: int | None = MANY.option(
        None,
        "Number of processes on this machine. Default: 1 for `local`, one per core for Dask and "
        "Ray.",
        min=1,
        metavar="N",
    )

    def crew(self) -> Crew:
        """Return who computes."""
        return Crew(engine=self.engine, workers=self.workers, cluster=self.cluster)


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """Files that people read."""

    html: Path | None = GENERAL.option(
        None,
        "Write a self-contained HTML page.",
        metavar="FILE.html",
        writes=(".html", ".htm"),
    )
    markdown_file: Path | None = GENERAL.option(
        None,
        "Write a Markdown file.",
        name="--markdown",
        metavar="FILE.md",
        writes=(".md", ".markdown"),
    )

    @property
    def files(self) -> tuple[Path | None, ...]:
        """The files to write."""
        return self.html, self.markdown_file


def parse_shape(text: str | None) -> tuple[int, ...] | None:
    """Read "C,H,W" or "N"; refuse all else."""
    if text is None:
        return None
    parts = text.split(",")
    is_shape = len(parts) in (1, 3) and all(part.strip().isdecimal() for part in parts)
    if not is_shape or not all(map(int, parts)):
        raise typer.BadParameter(
            f"--input-shape {text}: C,H,W or N is required, for instance 1,28,28."
        )
    return tuple(int(part) for part in parts)


def parse_settings(settings: list[str] | None) -> dict[str, str]:
    """Read `key=value` pairs; refuse all else."""
    pairs: dict[str, str] = {}
    for setting in settings or []:
        key, separator, value = setting.partition("=")
        if not separator or not key.strip():
            raise typer.BadParameter(
                f"--set {setting}: key=value is required, as in training.epochs=2."
            )
        pairs[key.strip()] = value.strip()
    return pairs


def parse_bindings(entries: list[str] | None) -> dict[str, int]:
    """Read `name=size` pairs; refuse all else."""
    bindings: dict[str, int] = {}
    for entry in entries or []:
        name, mark, size = entry.rpartition("=")
        if not mark or not name or not size.strip().isdecimal():
            raise typer.BadParameter(f"--bind {entry}: name=size is required, as in batch=1.")
        bindings[name.strip()] = int(size)
    return bindings
