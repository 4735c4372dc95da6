"""Commands whose files and memory fail at one point, and the state that each leaves behind."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from fnmatch import fnmatch
from pathlib import Path
from unittest import mock

import numpy as np
from fault_injection import Faults

from neurodeploy import provenance
from neurodeploy.cli import main
from neurodeploy.reports import certificate
from neurodeploy.simulation.long_runs import long_run
from neurodeploy.simulation.long_runs.memory import Portion

GOLDEN = Path(__file__).parents[1] / "golden"
RECIPE = """
[recipe]
name = "tiny"
description = "three patterns of 5x5 pixels"
[data]
source = "npz"
path = "data.npz"
shape = [1, 5, 5]
classes = 3
encoding = "direct"
input_bits = 2
[network]
steps = 3
[[network.layers]]
type = "conv"
channels = 3
[neuron]
model = "lif"
[shortcut]
method = "vanilla"
[training]
epochs = 2
batch_size = 32
threads = 1
[quantization]
fine_tune_epochs = 1
[verification]
backend = "none"
lava_samples = 2
"""
_VOLATILE = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC| --resume")
"""The time, and the words by which a repeated command differs."""
Tree = dict[str, bytes]
"""Content by relative path; of a folder, nothing."""


class _StoppedClock(datetime):
    """It is always the same minute."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime(2000, 1, 1, tzinfo=tz or UTC)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A command, and what it may leave when it fails.

    Attributes:
        command: Its words; paths are relative to the folder it runs in.
        resumes: Path whose existence means that `--resume` goes on.
        progress: Patterns of files that hold finished work at any time.
        removes: Patterns of files that the command takes away before it begins.
        samples: Samples of a piece; None for all of them at once.
        prepare: Makes the files that the command needs.
    """

    name: str
    command: tuple[str, ...]
    prepare: Callable[[Path], None]
    resumes: str = "-"
    progress: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    samples: int | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a command of which one operation failed.

    Attributes:
        number: Of the operation.
        operation: Its kind and file; None if the command made fewer.
        code: Exit code; None for an exception.
        problems: Everything that is not as it should be.
    """

    number: int
    operation: str | None
    code: int | None
    message: str
    problems: tuple[str, ...] = field(default=())


def run_command(
    folder: Path, scenario: Scenario, faults: Faults, *more: str, arrays: bool = True
) -> tuple[int, str]:
    """Run a command in a folder; return its exit code and what it said on standard error."""
    words = ["neurodeploy", *scenario.command, *more]
    said = io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    portion = Portion(samples=scenario.samples or 1024, working_bytes=2**24, peak_bytes=0)
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(said),
        mock.patch.object(sys, "argv", words),
        mock.patch.object(long_run, "divide_memory", return_value=portion),
        mock.patch.object(certificate, "datetime", _StoppedClock),  # it hashes the time too
        mock.patch.object(provenance, "_git", return_value=""),  # a commit may be made meanwhile
        faults.injected(arrays=arrays),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException as error:
            return -1, f"{type(error).__name__}: {error}"
        finally:
            signal.signal(signal.SIGTERM, handler)
    return code, said.getvalue()


def read_tree(folder: Path) -> Tree:
    """Read a folder; what differs between equal runs is masked."""
    return {
        str(path.relative_to(folder)): _VOLATILE.sub(b"", path.read_bytes())
        if path.is_file()
        else b""
        for path in sorted(folder.rglob("*"))
    }


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in Path(name).parts)


def without_struck(tree: Tree, struck: str | None) -> Tree:
    """Leave out a temporary file that could not be removed, and the folders that it keeps."""
    kind, _, kept = (struck or "").partition(" ")
    stay = {Path(name) for name in tree if kind == "remove" and Path(name).name == kept}
    stay |= {folder for path in stay for folder in path.parents}
    return {name: tree[name] for name in tree if Path(name) not in stay or not _is_hidden(name)}


def judge(
    scenario: Scenario, before: Tree, after: Tree, final: Tree, *, struck: str | None
) -> Iterator[str]:
    """Yield what is neither the old state nor the new one.

    A file whose very removal was `struck` may stay.
    """
    after = without_struck(after, struck)
    kept = (struck or "").removeprefix("remove ")

    def may(name: str, patterns: tuple[str, ...]) -> bool:
        return any(fnmatch(name, pattern) for pattern in patterns)

    for name, content in after.items():
        if Path(name).name == kept:
            continue
        if _is_hidden(name):
            yield f"{name} is left over"
        elif content not in (before.get(name), final.get(name)) and not may(
            name, scenario.progress
        ):
            yield f"{name} is neither old nor new"
        elif name not in before and name not in final and not may(name, scenario.progress):
            yield f"{name} is left over"
    for name in before.keys() - after.keys():
        if name in final and not may(name, scenario.removes):
            yield f"{name} is lost"


class Sweep:
    """Runs one scenario again and again, each time with another operation that fails."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self.scenario, self._folder = scenario, folder
        self._start = folder / "start"
        (self._start / "tmp").mkdir(parents=True)
        scenario.prepare(self._start)
        self.before = read_tree(self._start)
        self.operations: list[str] = []
        for arrays in (False, True):  # the first compiles
            place = self._copy()
            faults = Faults(place)
            code, said = run_command(place, scenario, faults, arrays=arrays)
            assert code == 0, said
            self.operations, self.final = faults.operations, read_tree(place)

    def _copy(self) -> Path:
        place = self._folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self._start, place)
        return place

    def run(self, number: int, *, lasting: bool = False) -> Outcome:
        """Let one operation fail, look at what is left, and repeat the command."""
        scenario, place = self.scenario, self._copy()
        faults = Faults(place, number=number, lasting=lasting)
        code, said = run_command(place, scenario, faults)
        after = read_tree(place)
        problems = list(judge(scenario, self.before, after, self.final, struck=faults.struck))
        lines = [line for line in said.splitlines() if line.startswith("error:")]
        if code == 0 and without_struck(after, faults.struck) != self.final:
            problems.append("exit 0, but not the new state")
        if code < 0 or "Traceback" in said:
            problems.append(f"uncaught {said.strip().splitlines()[-1]}")
        elif code and len(lines) != 1:
            problems.append(f"{len(lines)} lines of errors")
        more = ("--resume",) if (place / scenario.resumes).exists() else ()
        again, complaint = run_command(place, scenario, Faults(place), *more)
        if again:
            problems.append(f"cannot be repeated: {complaint.strip()[-300:]}")
        elif (end := read_tree(place)) != self.final:
            names = [n for n in end.keys() | self.final.keys() if end.get(n) != self.final.get(n)]
            problems.append(f"repeated, it differs in {', '.join(sorted(names))}")
        return Outcome(
            number=number,
            operation=faults.struck,
            code=code,
            message=lines[0] if lines else said.strip()[-300:],
            problems=tuple(problems),
        )


def _network(folder: Path) -> None:
    shutil.copy(GOLDEN / "10_conv_flatten_dense.net", folder / "a.net")
    shutil.copy(GOLDEN / "24_mini_resnet.net", folder / "chain.net")
    rng = np.random.default_rng(0)
    inputs = (rng.random((12, 4, 3, 8, 8)) < 0.3).astype(np.uint8)
    np.savez(folder / "in.npz", input=inputs, label=np.arange(12) % 4)


def _old_results(folder: Path) -> None:
    """An earlier result is in the place of each output."""
    _network(folder)
    for name in ("out.npz", "out.h5", "page.html", "page.md", "plot.html", "twin.onnx", "s.onnx"):
        (folder / name).write_bytes(b"old")
    (folder / "n.nir").write_bytes(b"old")


def _recipe(folder: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    patterns = rng.integers(0, 2, (3, 1, 5, 5))[labels]
    inputs = 3 * patterns + rng.integers(0, 2, patterns.shape)
    np.savez(folder / "data.npz", input=inputs.astype(np.uint8), label=labels)
    (folder / "tiny.toml").write_text(RECIPE, encoding="utf-8")


def _prepared(folder: Path, *commands: tuple[str, ...]) -> None:
    for command in commands:
        scenario = Scenario(name="", command=command, prepare=_recipe)
        code, said = run_command(folder, scenario, Faults(folder), arrays=False)
        assert code == 0, said


def _trained(folder: Path) -> None:
    _recipe(folder)
    _prepared(folder, ("train", "tiny.toml", "--out", "run"))


def _deployed(folder: Path) -> None:
    _trained(folder)
    _prepared(folder, ("deploy", "run", "--weight-bits", "4"))


def _foreign(folder: Path) -> None:
    """A NIR file was deployed to the folder in which it is deployed again."""
    for name in ("01_snntorch_leaky_dense.nir", "01_snntorch_leaky_dense.npz"):
        shutil.copy(GOLDEN / "interchange" / name, folder / f"a{name[-4:]}")
    _prepared(folder, ("deploy", "a.nir", "--samples", "a.npz", "--weight-bits", "4"))


_CHECKPOINTS = ("run/*training/*", "run/fine_tuning/*")
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="simulate",
            command=("simulate", "a.net", "-i", "in.npz", "-o", "out.npz"),
            prepare=_old_results,
            resumes="out.npz.parts",
            progress=("out.npz.parts*",),
            samples=5,
        ),
        Scenario(
            name="simulate h5",
            command=("simulate", "a.net", "-i", "in.npz", "-o", "out.h5"),
            prepare=_old_results,
            resumes="out.h5.parts",
            progress=("out.h5.parts*",),
            samples=7,
        ),
        Scenario(
            name="simulate at once",
            command=(
                *("simulate", "a.net", "-i", "in.npz", "-o", "new/deep/out.npz"),
                *("--plot", "plot.html"),
            ),
            prepare=_old_results,
        ),
        Scenario(
            name="report",
            command=(
                *("report", "a.net", "-i", "in.npz", "--json"),
                *("--html", "page.html", "--markdown", "page.md"),
            ),
            prepare=_old_results,
            samples=5,
        ),
        Scenario(
            name="export",
            command=(
                *("export", "chain.net", "--ann", "twin.onnx", "--step", "s.onnx"),
                *("--nir", "n.nir"),
            ),
            prepare=_old_results,
        ),
        Scenario(
            name="train",
            command=("train", "tiny.toml", "--out", "run", "--test"),
            prepare=_recipe,
            resumes="run/recipe.toml",
            progress=_CHECKPOINTS,
        ),
        Scenario(
            name="deploy",
            command=("deploy", "run"),
            prepare=_trained,
            progress=_CHECKPOINTS,
        ),
        Scenario(
            name="deploy again",
            command=("deploy", "run", "--no-test"),
            prepare=_deployed,
            progress=_CHECKPOINTS,
        ),
        Scenario(
            name="deploy nir",
            command=("deploy", "a.nir", "--samples", "a.npz"),
            prepare=_foreign,
        ),
        Scenario(
            name="run",
            command=("run", "tiny.toml", "--out", "run"),
            prepare=_recipe,
            resumes="run/recipe.toml",
            progress=_CHECKPOINTS,
        ),
    )
}
