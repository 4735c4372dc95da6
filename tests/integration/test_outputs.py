"""Files that commands write: never one that they read, with the right suffix, and named."""

from __future__ import annotations

import inspect
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from neurodeploy.cli.app import make_app
from neurodeploy.cli.commands import lava, zoo
from neurodeploy.cli.option_groups import Writes
from neurodeploy.errors import OutputError
from neurodeploy.pipeline.directory import require_data_apart
from neurodeploy.recipes.recipe import Recipe

CONV = "10_conv_flatten_dense.net"
SAYABLE = "17_maxpool_or.net"
"""A network that NIR can say; in the other one, a current lasts before a voltage without leak."""
READS = {
    "init": ("data",),
    "run": ("source",),
    "deploy": ("model", "samples"),
    "simulate": ("net", "input", "lava_python"),
    "verify": ("net", "input", "lava_python", "certificate"),
    "report": ("net", "input", "ann", "ann_input", "measured"),
    "compare": ("networks",),
    "inspect": ("net",),
    "export": ("source",),
    "macs": ("model",),
    "advise": ("model", "samples"),
    "convert": ("model", "samples", "lava_python"),
    "lava install": ("python",),
    "lava doctor": ("path", "lava_python"),
}
"""Options that are files or folders to read, by command."""
NEW = {"init": ("recipe",)}
"""Options that are files to write which must not exist (`test_own_images.py`)."""
FOLDERS = {
    "run": ("out",),
    "train": ("out",),
    "deploy": ("out",),
    "zoo get": ("output",),
    "lava install": ("path",),
}
"""Options that are folders to fill. A run's owner and data are checked, see below; `zoo get`
replaces nothing (`test_zoo.py`); a Lava runtime replaces only a runtime (`test_runtime.py`)."""
WRITES = {
    ("simulate", "output"): ("-o", ".npz"),
    ("simulate", "plot"): ("--plot", ".svg"),
    ("report", "html"): ("--html", ".html"),
    ("report", "markdown_file"): ("--markdown", ".md"),
    ("compare", "html"): ("--html", ".html"),
    ("compare", "markdown_file"): ("--markdown", ".md"),
    ("export", "ann"): ("--ann", ".onnx"),
    ("export", "step"): ("--step", ".onnx"),
    ("export", "nir"): ("--nir", ".nir"),
    ("verify", "write_certificate"): ("--write-certificate", ".json"),
    ("advise", "html"): ("--html", ".html"),
    ("advise", "markdown_file"): ("--markdown", ".md"),
    ("convert", "out"): ("--out", ".net"),
    ("convert", "integers"): ("--integers", ".npz"),
    ("convert", "html"): ("--html", ".html"),
    ("convert", "markdown_file"): ("--markdown", ".md"),
    ("convert", "write_certificate"): ("--write-certificate", ".json"),
}
"""Every option that is a file to write: how it is typed, and one of its suffixes."""


@dataclass(frozen=True, slots=True)
class Case:
    """A command without the option under test, and the files that it reads."""

    command: tuple[object, ...]
    reads: tuple[Path, ...]


@pytest.fixture
def case(neurodeploy, golden: Path, samples, tmp_path: Path) -> Callable[[str, str], Case]:
    """Return the command line that an option completes."""

    def build(command: str, option: str) -> Case:
        net = tmp_path / "network.net"
        shutil.copy(golden / (SAYABLE if option == "nir" else CONV), net)
        inputs = samples(np.random.default_rng(0).integers(0, 2, (2, 4, 3, 8, 8)))
        if command == "compare":
            run = tmp_path / "run"
            run.mkdir()
            summary = neurodeploy("report", net, "-i", inputs, "--json").out
            (run / "summary.json").write_text(summary, encoding="utf-8")
            (run / "recipe.toml").write_text("", encoding="utf-8")
            return Case(("compare", run), (run / "summary.json", run / "recipe.toml"))
        if command == "export":
            return Case(("export", net), (net,))
        if command in ("advise", "convert"):
            model = tmp_path / "model.onnx"
            shutil.copy(golden / "sigma_delta" / "01_conv_chain.onnx", model)
            frames = tmp_path / "frames.npz"
            pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 1, 8, 8)) / 255
            np.savez(frames, input=pixels)
            if command == "advise":
                return Case(("advise", model, "--samples", frames), (model, frames))
            other: tuple[object, ...] = ()
            if option != "out":
                other = ("--out", tmp_path / "other.net")
            if option == "write_certificate":
                other += ("--integers", tmp_path / "other.npz")
            words = ("--samples", frames, "--thresholds", "none", *other)
            return Case(("convert", model, *words), (model, frames))
        rest = ("-o", tmp_path / "other.npz") if option == "plot" else ()
        return Case((command, net, "-i", inputs, *rest), (net, inputs))

    return build


def path_options() -> Iterator[tuple[str, str, bool]]:
    """Yield command, parameter, and whether it is marked, of all that are paths."""
    for group, prefix in ((make_app(), ""), (lava.app, "lava "), (zoo.app, "zoo ")):
        for entry in group.registered_commands:
            assert entry.callback is not None
            signature = inspect.signature(entry.callback, eval_str=True)
            for name, parameter in signature.parameters.items():
                kind, *marks = get_args(parameter.annotation) or (parameter.annotation,)
                if "Path" in str(kind):
                    is_marked = any(isinstance(mark, Writes) for mark in marks)
                    yield prefix + entry.callback.__name__, name, is_marked


def test_every_option_that_is_a_path_is_known_here() -> None:
    """A command that gains one must say whether it is read or written, and come under test."""
    known = {(command, name) for command, names in READS.items() for name in names}
    known |= {(command, name) for command, names in (FOLDERS | NEW).items() for name in names}
    found = {(command, name): is_marked for command, name, is_marked in path_options()}
    assert {key for key, is_marked in found.items() if is_marked} == set(WRITES)
    assert {key for key, is_marked in found.items() if not is_marked} == known


@pytest.mark.parametrize("link", ["itself", "symbolic", "hard"])
@pytest.mark.parametrize(("command", "option"), WRITES)
def test_no_command_writes_over_a_file_that_it_reads(
    neurodeploy, case, tmp_path: Path, command: str, option: str, link: str
) -> None:
    word, suffix = WRITES[command, option]
    line = case(command, option)
    for number, path in enumerate(line.reads):
        content, output = path.read_bytes(), path
        if link != "itself":
            output = tmp_path / f"link{number}{suffix}"
            (os.symlink if link == "symbolic" else os.link)(path, output)
        before = sorted(tmp_path.rglob("*"))
        outcome = neurodeploy(*line.command, word, output)
        assert (outcome.code, outcome.out, len(outcome.errors)) == (1, "", 1)
        assert str(output) in outcome.errors[0]
        assert "Name another file" in outcome.errors[0]
        assert path.read_bytes() == content
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("command", "option"), WRITES)
def test_every_file_has_a_suffix_of_its_kind_and_is_named(
    neurodeploy, case, tmp_path: Path, command: str, option: str
) -> None:
    word, suffix = WRITES[command, option]
    line = case(command, option)
    for wrong in ("result.txt", "result"):
        outcome = neurodeploy(*line.command, word, tmp_path / wrong)
        assert outcome.code == 1
        assert suffix in outcome.errors[0]
    output = tmp_path / f"result{suffix}"
    outcome = neurodeploy(*line.command, word, output)
    assert outcome.code == 0, outcome.err
    assert f"wrote {output}" in outcome.err.splitlines()
    outcome = neurodeploy(*line.command, word, output, "--json")
    assert f"wrote {output}" in outcome.err.splitlines()
    assert str(output) in json.loads(outcome.out)["wrote"]


def test_two_files_to_write_are_two(neurodeploy, case, tmp_path: Path) -> None:
    line, both = case("export", "ann"), tmp_path / "model.onnx"
    outcome = neurodeploy(*line.command, "--ann", both, "--step", both)
    assert outcome.code == 1
    assert "reads or writes as something else" in outcome.errors[0]
    assert not both.exists()


@pytest.mark.parametrize("name", ["samples.npz", "report.html", "model.safetensors"])
@pytest.mark.parametrize("command", ["train", "run", "deploy"])
def test_a_run_is_not_written_over_its_data(
    neurodeploy, tiny_recipe, tmp_path: Path, command: str, name: str
) -> None:
    recipe, out = tiny_recipe(), tmp_path / "out"
    out.mkdir()
    data = out / name
    os.link(tmp_path / "direct.npz", data)
    words: tuple[object, ...] = (command, recipe, "--set", f'data.path="{data}"', "--out", out)
    if command == "deploy":
        trained = tmp_path / "trained"
        assert neurodeploy("train", recipe, "--out", trained).code == 0
        words = ("deploy", trained, *words[2:])
    content = data.read_bytes()
    outcome = neurodeploy(*words)
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert f"{data}: is the data of the recipe" in outcome.errors[0]
    assert data.read_bytes() == content
    assert list(out.iterdir()) == [data]
    with pytest.raises(OutputError, match="is the data of the recipe"):
        require_data_apart(Recipe.load(recipe, overrides={"data.path": f'"{data}"'}), out)
