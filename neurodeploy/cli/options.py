"""Options that several commands share, each with its help text."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from pathlib import Path
from typing import Annotated

import typer

from neurodeploy.errors import (
    DataError,
    FractionWarning,
    NetxError,
)
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.netx import read
from neurodeploy.samples.array_archives import INPUT_BYTES_MAX
from neurodeploy.samples.sources import open_samples
from neurodeploy.simulation.event_simulator import conform_input
from neurodeploy.simulation.long_runs.engines import Engine
from neurodeploy.simulation.long_runs.memory import parse_size
from neurodeploy.simulation.recording import (
    Feed,
    IntArray,
    Record,
    Stream,
    Timing,
    Window,
)

TIME = "Time"
FILE = "How the file is read"
LAVA = "Real Lava"
LOOK = "Look at it"
MANY = "Many samples, many processes"

NetFile = Annotated[Path, typer.Argument(metavar="NET", help="A netx file (`.net`).")]
InputFile = Annotated[
    Path,
    typer.Option(
        "--input",
        "-i",
        metavar="IN",
        help="Samples: integers of shape (samples, T, C, H, W) or (samples, T, N), as array "
        "`input` of an `.npz` or HDF5 file, or an `.npy` file; an event table; or a folder of "
        "`.bin`, `.dat` or `.aedat4` recordings (with --window T).",
    ),
]
InputKey = Annotated[
    str,
    typer.Option(
        "--key",
        metavar="NAME",
        help="Name of the array or HDF5 data set that holds the samples.",
        rich_help_panel=FILE,
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Memory that the run may take, such as 800MB or 2GiB; on a cluster elsewhere: that "
        "each worker may take. By default half of what is free, 4 GiB at most.",
        rich_help_panel=MANY,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with the finished samples of an interrupted run, in OUT.parts.",
        rich_help_panel=MANY,
    ),
]
EngineOption = Annotated[
    Engine,
    typer.Option(
        "--engine",
        help="Who computes: processes here (`local`), a Dask or a Ray cluster.",
        rich_help_panel=MANY,
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Of a running Dask or Ray cluster, such as tcp://host:8786; by default one is "
        "started here.",
        rich_help_panel=MANY,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="Processes on this machine; by default one for `local`, one a core for others.",
        rich_help_panel=MANY,
    ),
]
WindowSteps = Annotated[
    int | None,
    typer.Option(
        "--window",
        metavar="T",
        help="Windows of T steps: each sample starts from zero state, output step t answers "
        "input step t. The default, with T from the input.",
        rich_help_panel=TIME,
    ),
]
IsStream = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="Lava's own time: one step of delay per layer, each sample a run from step 1.",
        rich_help_panel=TIME,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        metavar="N",
        help="With --stream: steps to run; beyond its end the input repeats.",
        rich_help_panel=TIME,
    ),
]
ResetInterval = Annotated[
    int | None,
    typer.Option(
        metavar="P",
        help="With --stream: `reset_interval` of Lava's Network, states reset every P steps.",
        rich_help_panel=TIME,
    ),
]
ResetOffset = Annotated[
    int,
    typer.Option(
        metavar="O",
        help="With --stream: `reset_offset` of Lava's Network; 1 aligns resets with the input of a "
        "file that has no input neuron.",
        rich_help_panel=TIME,
    ),
]
InputBits = Annotated[
    int | None,
    typer.Option(
        metavar="B",
        help="`input_message_bits` of Lava's Network: 0 counts every nonzero input as one spike, "
        "more use its value. By default what neurodeploy wrote into the file, else 0.",
        rich_help_panel=FILE,
    ),
]
InputShape = Annotated[
    str | None,
    typer.Option(
        metavar="C,H,W",
        help="Where the file has no input layer: the input's shape; N for a flat one.",
        rich_help_panel=FILE,
    ),
]
SpikeExponent = Annotated[
    int,
    typer.Option(
        "--spike-exp",
        metavar="E",
        help="`spike_exp` of Lava's Network; matters to sigma-delta neurons only.",
        rich_help_panel=FILE,
    ),
]
FeedOption = Annotated[
    Feed,
    typer.Option(
        help="How input enters: `port`; or, for files with an input neuron block, `neuron` (added "
        "to its current) or `bias` (a constant image; the input then has no T axis, so give "
        "--window or --steps).",
        rich_help_panel=FILE,
    ),
]
LavaPython = Annotated[
    Path | None,
    typer.Option(
        metavar="PYTHON",
        help="Interpreter that has Lava, instead of the runtime of `neurodeploy lava install`.",
        rich_help_panel=LAVA,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Give up on Lava after this long; by default once it shows no sign of life.",
        rich_help_panel=LAVA,
    ),
]
AcceptSilentFaults = Annotated[
    bool,
    typer.Option(
        "--accept-silent-faults",
        help="Run files in which Lava silently drops something (delays of conv layers, weight "
        "matrices that it turns into zeros) the way Lava does, with a warning.",
        rich_help_panel=FILE,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON, and nothing else, to standard output.")
]


class Backend(StrEnum):
    """Which simulator runs the file."""

    EVENT = "event"
    LAVA = "lava"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a netx file is to be read: the arguments of Lava's `Network` that change its meaning."""

    net: Path
    input_bits: int | None
    input_shape: str | None
    spike_exponent: int
    accept_silent_faults: bool

    def graph(self, *, refuses_fractions: bool = False) -> FixedPointGraph:
        """Read the file.

        Args:
            refuses_fractions: Take a file whose weights are not integers for an undeployed network.

        Raises:
            typer.BadParameter: If the input shape is none.
            NetxError: If it cannot be trusted.
        """
        with warnings.catch_warnings():
            if refuses_fractions:
                warnings.simplefilter("error", FractionWarning)
            try:
                return read(
                    self.net,
                    input_shape=parse_shape(self.input_shape),
                    input_bits=self.input_bits,
                    spike_exponent=self.spike_exponent,
                    accept_silent_faults=self.accept_silent_faults,
                )
            except FractionWarning as found:
                raise NetxError(
                    f"{found} Counting what is left would be counting another network: deploy it "
                    "first, or add --accept-silent-faults."
                ) from found


def read_samples(
    path: Path, graph: FixedPointGraph, timing: Timing, feed: Feed, *, key: str = "input"
) -> IntArray:
    """Read all samples of a file or folder at once, as the network takes them.

    Raises:
        DataError: If they cannot be read, do not fit the network, or are too many.
    """
    samples = open_samples(path, key=key, steps=timing.steps, port=graph.input.shape)
    assert samples.count is not None, "files know how many samples they hold"
    size = samples.count * prod(samples.shape) * samples.dtype.itemsize
    if size > INPUT_BYTES_MAX:
        raise DataError(
            f"{samples.name} of shape {(samples.count, *samples.shape)} takes "
            f"{size / 2**30:.0f} GiB, at most {INPUT_BYTES_MAX // 2**30} are read at once. Split "
            "the samples over several files."
        )
    return conform_input(samples.read(0, samples.count), graph, feed=feed)


def parse_neurons(text: str | None) -> list[int] | None:
    """Read "3,17".

    Raises:
        typer.BadParameter: If the text is anything else.
    """
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise typer.BadParameter(f"--neurons {text}: numbers are required, for instance 3,17.")
    return [int(part) for part in parts]


def parse_memory(text: str | None) -> int | None:
    """Read the size of --memory.

    Raises:
        typer.BadParameter: If it is none.
    """
    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(f"--memory {error}") from error


def choose_timing(
    *,
    window: int | None,
    is_stream: bool,
    steps: int | None,
    reset_interval: int | None,
    reset_offset: int,
) -> Timing:
    """Return the timing that the options ask for.

    Raises:
        typer.BadParameter: If they contradict each other.
    """
    if is_stream:
        if window is not None:
            raise typer.BadParameter("--stream and --window exclude each other. Choose one.")
        return Stream(steps=steps, reset_interval=reset_interval, reset_offset=reset_offset)
    if steps is not None or reset_interval is not None or reset_offset:
        raise typer.BadParameter(
            "--steps, --reset-interval and --reset-offset belong to Lava's own time. Add --stream."
        )
    return Window(steps=window)


def parse_shape(text: str | None) -> tuple[int, ...] | None:
    """Read "C,H,W" or "N".

    Raises:
        typer.BadParameter: If the text is anything else.
    """
    if text is None:
        return None
    parts = text.split(",")
    is_shape = len(parts) in (1, 3) and all(part.strip().isdecimal() for part in parts)
    if not is_shape or not all(map(int, parts)):
        raise typer.BadParameter(
            f"--input-shape {text}: C,H,W or N is required, for instance 1,28,28."
        )
    return tuple(int(part) for part in parts)


class Recorded(StrEnum):
    """What `simulate` keeps."""

    ALL = "all"
    OUTPUTS = "outputs"
    COUNTS = "counts"
    EVENTS = "events"


def choose_record(
    recorded: Recorded, layers: tuple[str, ...], *, spikes: list[str], states: list[str]
) -> Record:
    """Turn the options into what a simulator is told.

    Args:
        recorded: The choice.
        layers: Names of the network's layers, in order.
        spikes: Layers whose spikes are kept as well.
        states: Layers whose states are kept as well.

    Raises:
        SimulationError: If a layer does not exist.
    """
    has_counts = recorded in (Recorded.COUNTS, Recorded.EVENTS)
    outputs = () if has_counts else layers[-1:]
    chosen = Record(
        spikes=None if recorded is Recorded.ALL else (*outputs, *spikes),
        states=(*outputs, *states),
        counts=has_counts,
        updates=recorded is not Recorded.EVENTS,
    )
    Record(spikes=tuple(spikes), states=tuple(states)).resolve(layers)
    return chosen


def parse_settings(settings: list[str] | None) -> dict[str, str]:
    """Read `key=value` pairs.

    Raises:
        typer.BadParameter: If a pair has no "=".
    """
    pairs: dict[str, str] = {}
    for setting in settings or []:
        key, separator, value = setting.partition("=")
        if not separator or not key.strip():
            raise typer.BadParameter(
                f"--set {setting}: key=value is required, as in training.epochs=2."
            )
        pairs[key.strip()] = value.strip()
    return pairs
