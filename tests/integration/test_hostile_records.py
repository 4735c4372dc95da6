"""Recipes, records, parts, models and networks of strangers: one clear error, soon, or a result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hostile_files import HOSTILE, NET, hostile, refusal_of

from neurodeploy import netx
from neurodeploy.errors import DataError, NeurodeployWarning
from neurodeploy.files import MODEL, RECIPE
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.simulation.long_runs import long_run
from neurodeploy.simulation.long_runs.long_run import parts_folder, run_samples
from neurodeploy.simulation.long_runs.memory import Portion
from neurodeploy.simulation.long_runs.parts import PartFile, PartStore, seal_part

ANSWERS = {
    "01": ": line 5: nested deeper than 32 tables and lists",
    "02": "[data]: classes = 4294967296, it must be at least 2 and at most 1048576",
    "03": ": data.classes has 10000000000000000000..., at most 64 bits",
    "04": ": line 14: a number of 5000 characters",
    "05": "[training]: threads = 4294967296, it must be at least 0 and at most 1024",
    "06": "[training]: threads = 65536, it must be at least 0 and at most 1024",
    "28": "a number of 401 digits",
    "29": "a number of 401 digits",
    "30": "seconds: 1e+308 in all, at most 1e+30 is possible",
    "36": "'xs' declares shape () but does not store it",
    "38": "'ws' declares shape () but does not store it",
    "39": "Einsum has the equation 'i.j'",
    "40": "functions cannot be inlined",
    "42": "'xs' declares shape () but does not store it",
    "43": "Einsum has the equation 'i.j'",
    "44": "functions cannot be inlined",
    "74": "a number of 401 digits",
    "75": "made with training data = ",
    "83": ": line 48: nested deeper than 32 tables and lists",
    "84": ": line 11: a number of 5000 characters",
    "85": "name",
    "86": ": line 8: nested deeper than 32 tables and lists",
    "87": ": line 35: a number of 5000 characters",
    "88": ": line 1: nested deeper than 32 tables and lists",
    "89": ": line 14: a number of 5000 characters",
    "90": "value = -1, 1 to 2147483647 are allowed",
    "91": "made with training data = ",
}
"""By number: what the error says; the others are valid, or parts."""


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[object, ...]]:
    """Make what a command needs beside a hostile file, and return the command."""
    monkeypatch.chdir(tmp_path)
    samples, own = tmp_path / "samples.npz", tmp_path / "own.npz"
    rng = np.random.default_rng(0)
    np.savez(samples, input=rng.integers(0, 2, (2, 3, 24)))
    np.savez("tiny.npz", input=rng.integers(0, 4, (60, 1, 3, 3)), label=np.arange(60) % 3)

    def make(number: str) -> tuple[object, ...]:
        path = hostile(number)
        kind = path.stem[3:]
        report = ("report", NET, "-i", samples)
        if kind in ("build_recipe", "toml_recipe"):
            return ("train", path)
        if kind in ("json_measured", "toml_preset"):
            return (*report, "--preset" if kind == "toml_preset" else "--measured", path)
        if kind == "json_summary":
            return ("compare", path)
        if kind == "net_struct":
            return ("inspect", path)
        if kind in ("onnx_bytes", "onnx_struct"):
            return ("macs", path)
        if kind == "onnx_run":
            shape = onnx.load(path).graph.input[0].type.tensor_type.shape
            sizes = [dim.dim_value for dim in shape.dim]
            np.savez(own, input=rng.random((2, *(sizes[1:] or [24]))).astype(np.float32))
            return (*report, "--ann", path, "--ann-input", own)
        run = tmp_path / "run"
        (run / "training").mkdir(parents=True)
        shutil.copy(hostile("07"), run / RECIPE)
        if kind == "st_resume":
            shutil.copy(path, run / "training" / "checkpoint.safetensors")
            return ("train", run / RECIPE, "--out", run, "--resume")
        if kind == "st_model":
            shutil.copy(path, run / MODEL)
            return ("deploy", run)
        assert kind == "toml_target"
        SpikingNetwork.from_recipe(Recipe.load(run / RECIPE)).save(run / MODEL)
        return ("deploy", run, "--target", path)

    return make


@pytest.mark.parametrize("number", ANSWERS)
def test_hostile_records_are_refused(neurodeploy, words, number: str) -> None:
    assert ANSWERS[number] in refusal_of(neurodeploy, *words(number))


@pytest.mark.parametrize("number", ["07", "31", "32", "37", "41"])
def test_odd_records_that_are_valid_work(neurodeploy, words, number: str) -> None:
    outcome = neurodeploy(*words(number))
    assert (outcome.code, outcome.errors) == (0, [])
    if number == "32":
        assert "[/b]" in outcome.out


PARTS = sorted(HOSTILE.glob("*_parts.bin"))
"""Folders of interrupted runs, a part or the record changed: NAME, \\1, HEX, \\0."""


def unpacked(path: Path) -> dict[str, bytes]:
    files = (entry.split(b"\x01") for entry in path.read_bytes().split(b"\0"))
    return {name.decode(): bytes.fromhex(content.decode()) for name, content in files}


@pytest.fixture
def run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], bytes]:
    """Return a function that runs the same samples into a file, or goes on, two at a time."""
    portion = Portion(samples=2, working_bytes=2**24, peak_bytes=0)
    monkeypatch.setattr(long_run, "_divide", lambda *_, **__: portion)
    inputs = np.random.default_rng(0).integers(0, 2, (6, 3, 24)).astype(np.uint8)
    graph = netx.read(NET)

    def run(name: str, *, resume: bool = False, ends_early: bool = False) -> bytes:
        def stop(done: int, total: int) -> None:
            if ends_early and done == 4:
                raise KeyboardInterrupt

        run_samples(graph, inputs, tmp_path / name, resume=resume, progress=stop)
        return (tmp_path / name).read_bytes()

    return run


@pytest.mark.parametrize("path", PARTS, ids=lambda path: path.stem)
def test_hostile_parts_are_never_joined(tmp_path: Path, run_again, path: Path) -> None:
    whole = run_again("whole.npz")
    with pytest.raises(KeyboardInterrupt):
        run_again("out.npz", ends_early=True)
    folder = parts_folder(tmp_path / "out.npz")
    about = json.loads((folder / "run.json").read_text())
    run = PartStore(folder, about).run
    for name, content in unpacked(path).items():
        if name != "run.json":
            (folder / name).write_bytes(content)
            (tmp_path / name).write_bytes(seal_part(content, 0, 2, run))
    with pytest.warns(NeurodeployWarning, match="deleted, and its samples are run again"):
        assert run_again("out.npz", resume=True) == whole
    for sealed in tmp_path.glob("part-*"):  # as a forger would, who knows how parts are sealed
        part = PartFile(first=0, last=2, path=sealed, run=run)
        with pytest.raises(DataError, match=sealed.name):
            part.record()


@pytest.mark.parametrize("path", PARTS, ids=lambda path: path.stem)
def test_a_record_of_another_run_is_refused(tmp_path: Path, run_again, path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_again("out.npz", ends_early=True)
    about = parts_folder(tmp_path / "out.npz") / "run.json"
    about.write_bytes(unpacked(path)["run.json"])
    with pytest.raises(DataError, match=r"out\.npz\.parts.*(another run|run\.json)"):
        run_again("out.npz", resume=True)
