"""Whatever is wrong: one clear error, exit code 1, nothing half-written, nothing left behind."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from neurodeploy.cli.commands import (
    lava as lava_commands,
    simulate,
    train,
)
from neurodeploy.errors import LavaRuntimeError
from neurodeploy.lava_bridge import lava_simulator, runtime

DENSE = "01_dense_basic.net"
CONV = "10_conv_flatten_dense.net"
OLD = b"an older result"


@pytest.fixture
def refused(neurodeploy, tmp_path: Path) -> Callable[..., str]:
    """Run `simulate` on files that must be refused, and give the error."""

    def run(net: Path, source: Path, *options: object) -> str:
        output = tmp_path / "out.npz"
        output.write_bytes(OLD)
        before = sorted(tmp_path.iterdir())
        outcome = neurodeploy("simulate", net, "-i", source, "-o", output, "--json", *options)
        assert outcome.code == 1
        assert outcome.out == ""
        assert len(outcome.errors) == 1
        assert output.read_bytes() == OLD
        assert sorted(tmp_path.iterdir()) == before
        return outcome.errors[0]

    return run


# --- networks -------------------------------------------------------------------------------


def change(path: str, value: object) -> Callable[[h5py.File], None]:
    """Make a change that puts `value` in the place of a dataset; None removes it."""

    def apply(file: h5py.File) -> None:
        del file[path]
        if value is not None:
            file[path] = value

    return apply


def add_bits(file: h5py.File) -> None:
    file["layer/0/neuron/messageBits"] = 8


def drop_layer(file: h5py.File) -> None:
    del file["layer/0"]


BAD_NETS = {
    "no layers": (DENSE, change("layer", None), "layer"),
    "no weight": (DENSE, change("layer/0/weight", None), "weight"),
    "no threshold": (DENSE, change("layer/1/neuron/vThMant", None), "vThMant"),
    "no type": (DENSE, change("layer/0/type", None), "type"),
    "a gap": (DENSE, drop_layer, "layer"),
    "unknown type": (DENSE, change("layer/0/type", b"denze"), "denze"),
    "unknown neuron": (DENSE, change("layer/0/neuron/type", b"ALIF"), "ALIF"),
    "float decay": (DENSE, change("layer/0/neuron/iDecay", 0.5), "iDecay"),
    "message bits": (DENSE, add_bits, "messageBits"),
    "strings for weights": (DENSE, change("layer/0/weight", b"many"), "weight"),
    "NaN": (DENSE, change("layer/0/weight", np.full((20, 24), np.nan)), "NaN"),
    "all zero": (DENSE, change("layer/0/weight", np.zeros((20, 24), int)), "weight"),
    "one sign, too large": (DENSE, change("layer/0/weight", np.full((20, 24), 300)), "weight"),
    "no neurons": (DENSE, change("layer/0/weight", np.zeros((0, 24), int)), "weight"),
    "misfit": (DENSE, change("layer/1/weight", np.ones((7, 19), int)), "weight"),
    "no stride": (CONV, change("layer/1/stride", None), "stride"),
    "too many groups": (CONV, change("layer/1/groups", 200), "groups"),
    "wrong output shape": (CONV, change("layer/1/shape", [6, 9, 9]), "shape"),
}


@pytest.mark.parametrize("name", BAD_NETS)
def test_bad_networks(name: str, refused, golden: Path, samples, tmp_path: Path) -> None:
    original, apply, word = BAD_NETS[name]
    net = tmp_path / "bad.net"
    shutil.copy(golden / original, net)
    with h5py.File(net, "a") as file:
        apply(file)
    error = refused(net, samples(np.ones((1, 4, 24), int)))
    assert str(net) in error
    assert word in error


@pytest.mark.parametrize("size", [0, 7, 100, 3000])
def test_truncated_networks(size: int, refused, golden: Path, samples, tmp_path: Path) -> None:
    net = tmp_path / "bad.net"
    net.write_bytes((golden / DENSE).read_bytes()[:size])
    assert str(net) in refused(net, samples(np.ones((1, 4, 24), int)))


def test_other_files_in_place_of_a_network(refused, golden: Path, samples, tmp_path: Path) -> None:
    source = samples(np.ones((1, 4, 24), int))
    for net in (source, tmp_path, tmp_path / "nosuch.net", Path(os.devnull)):
        assert str(net) in refused(net, source)


# --- inputs ---------------------------------------------------------------------------------


def header(shape: str, descr: str = "<i8") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    padded = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


def archive(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("input.npy", content)
    return packed.getvalue()


def saved(**arrays: object) -> bytes:
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return packed.getvalue()


GOOD = saved(input=np.ones((1, 4, 24), int))
BAD_INPUTS = {
    "another key": (saved(x=np.ones(3, int)), "no array 'input'"),
    "nothing": (saved(), "nothing"),
    "floats": (saved(input=np.ones((1, 4, 24))), "float64"),
    "NaN": (saved(input=np.full((1, 4, 24), np.nan)), "integers are required"),
    "objects": (saved(input=np.array([{}, None], dtype=object)), "Python objects"),
    "text": (saved(input=np.array(["a"])), "integers are required"),
    "wrong shape": (saved(input=np.ones((1, 4, 23), int)), "(samples, T, 24)"),
    "no time axis": (saved(input=np.ones((4, 24), int)), "(samples, T, 24)"),
    "a scalar": (saved(input=np.array(3)), "shape ()"),
    "no samples": (saved(input=np.ones((0, 4, 24), int)), "at least one sample"),
    "no steps": (saved(input=np.ones((2, 0, 24), int)), "at least one sample"),
    "too large": (saved(input=np.full((1, 4, 24), 2**40)), "32 bits"),
    "no archive": (b"hello", "An .npz archive is required"),
    "empty": (b"", "An .npz archive is required"),
    "truncated": (GOOD[: len(GOOD) // 2], "cut short or damaged"),
    "a flipped bit": (GOOD[:300] + b"\xff" + GOOD[301:], "damaged: its checksum"),
    "no array inside": (archive(b"hello"), "An .npz archive is required"),
    "huge, but not there": (archive(header("(1000000, 1000000, 24)")), "128 bytes"),
    "beyond 64 bits": (archive(header(f"({10**30},)")), "128 bytes"),
    "negative shape": (archive(header("(-1, 4, 24)") + bytes(800)), "damaged"),
    "data missing": (archive(header("(1, 4, 24)") + bytes(99)), "damaged"),
    "data too many": (archive(header("(1, 4, 24)") + bytes(4 * 24 * 8 + 1)), "damaged"),
    "code for a shape": (archive(header("(print('x'),)")), "An .npz archive is required"),
    "unknown dtype": (archive(header("(1, 4, 24)", "<q9")), "An .npz archive is required"),
    "unfinished header": (
        archive(b"\x93NUMPY\x01\x00\x10\x00{{{{{{{{{{{{{{{("),
        "An .npz archive is required",
    ),
    "unknown version": (archive(b"\x93NUMPY\x09\x00" + bytes(200)), "An .npz archive is required"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required additional header")
def test_bad_inputs(name: str, refused, golden: Path, tmp_path: Path) -> None:
    content, words = BAD_INPUTS[name]
    source = tmp_path / "in.npz"
    source.write_bytes(content)
    assert words in refused(golden / DENSE, source)


def test_missing_inputs(refused, golden: Path, tmp_path: Path) -> None:
    assert "no such file" in refused(golden / DENSE, tmp_path / "nosuch.npz")
    assert "directory" in refused(golden / DENSE, tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--input-bits", 3), "do not fit 3 message bits"),
        (("--input-bits", 99), "99 message bits"),
        (("--window", 5), "the input has 4 steps"),
        (("--window", 0), "at least 1"),
        (("--stream", "--steps", 0), "at least 1"),
        (("--stream", "--reset-interval", 0), "at least 1"),
        (("--stream", "--reset-interval", 2, "--reset-offset", -1), "must not be negative"),
        (("--input-shape", 25), "24"),
        (("--feed", "bias"), "Use --feed port"),
        (("--feed", "neuron"), "Use --feed port"),
    ],
)
def test_options_that_do_not_fit(
    refused, golden: Path, samples, options: tuple[object, ...], words: str
) -> None:
    assert words in refused(golden / DENSE, samples(np.full((1, 4, 24), 8)), *options)


# --- outputs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place", ["file/out.npz", "folder", os.devnull, f"{'x' * 300}.npz", "/proc/out.npz"]
)
def test_outputs_that_cannot_be_written(
    neurodeploy, golden: Path, samples, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_bytes(OLD)
    (tmp_path / "folder").mkdir()
    source = samples(np.ones((1, 4, 24), int))
    before = sorted(tmp_path.rglob("*"))
    outcome = neurodeploy("simulate", golden / DENSE, "-i", source, "-o", tmp_path / place)
    assert (outcome.code, outcome.out, len(outcome.errors)) == (1, "", 1)
    assert sorted(tmp_path.rglob("*")) == before
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_a_place_that_cannot_be_written_is_found_before_the_work(
    neurodeploy, golden: Path, samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate.EventSimulator, "run", None)
    (tmp_path / "file").write_bytes(OLD)
    source = samples(np.ones((1, 4, 24), int))
    outcome = neurodeploy(
        "simulate", golden / DENSE, "-i", source, "-o", tmp_path / "file" / "out.npz"
    )
    assert outcome.code == 1
    assert "cannot be written" in outcome.errors[0]


def test_a_full_disk(
    refused, neurodeploy, golden: Path, samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    source = samples(np.ones((1, 4, 24), int))
    assert "No space left on device" in refused(golden / DENSE, source)
    page = tmp_path / "page.html"
    outcome = neurodeploy("report", golden / DENSE, "-i", source, "--html", page)
    assert (outcome.code, len(outcome.errors), page.exists()) == (1, 1, False)


# --- Lava -----------------------------------------------------------------------------------


def test_a_missing_runtime_is_found_before_the_work(
    neurodeploy, golden: Path, samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "runtime_path", lambda: tmp_path / "nowhere")
    monkeypatch.setattr(simulate.EventSimulator, "run", None)
    source = samples(np.ones((1, 4, 24), int))
    outcome = neurodeploy("verify", golden / DENSE, "-i", source)
    assert outcome.code == 1
    assert "neurodeploy lava install" in outcome.errors[0]


@pytest.mark.parametrize("python", ["/nowhere/python", "FILE"])
def test_a_named_interpreter_that_is_none(
    neurodeploy, golden: Path, samples, tmp_path: Path, python: str
) -> None:
    (tmp_path / "FILE").write_text("text")
    source = samples(np.ones((1, 4, 24), int))
    outcome = neurodeploy(
        "verify", golden / DENSE, "-i", source, "--lava-python", tmp_path / python
    )
    assert outcome.code == 1
    assert "not an executable" in outcome.errors[0]


def test_an_executable_that_is_no_python(refused, golden: Path, samples) -> None:
    source = samples(np.ones((1, 4, 24), int))
    options = ("--backend", "lava", "--lava-python", shutil.which("true"))
    assert "Does this interpreter work" in refused(golden / DENSE, source, *options)


def test_lava_that_fails(refused, golden: Path, samples, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise LavaRuntimeError("Lava worker: it failed.")

    monkeypatch.setattr(lava_simulator, "run_jobs", fail)
    monkeypatch.setattr(lava_simulator, "find_runtime", lambda: Path("python"))
    source = samples(np.ones((1, 4, 24), int))
    assert "it failed" in refused(golden / DENSE, source, "--backend", "lava")


def test_an_installation_that_fails(neurodeploy, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise LavaRuntimeError("Lava runtime: no network.")

    monkeypatch.setattr(lava_commands, "install_runtime", fail)
    outcome = neurodeploy("lava", "install")
    assert (outcome.code, outcome.errors) == (1, ["error: Lava runtime: no network."])


# --- interruption ---------------------------------------------------------------------------


def test_an_interrupted_simulation_leaves_nothing(
    neurodeploy, golden: Path, samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    source, output = samples(np.ones((1, 4, 24), int)), tmp_path / "out.npz"
    before = sorted(tmp_path.iterdir())
    outcome = neurodeploy("simulate", golden / DENSE, "-i", source, "-o", output)
    assert outcome.code == 130
    assert len(outcome.errors) == 1
    assert "interrupted" in outcome.errors[0]
    assert "--resume" not in outcome.errors[0]  # there is nothing to go on with
    assert sorted(tmp_path.iterdir()) == before


def test_a_terminated_command_ends_in_good_order(
    neurodeploy, golden: Path, samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: os.kill(os.getpid(), signal.SIGTERM))
    source, output = samples(np.ones((1, 4, 24), int)), tmp_path / "out.npz"
    before = sorted(tmp_path.iterdir())
    assert neurodeploy("simulate", golden / DENSE, "-i", source, "-o", output).code == 143
    assert sorted(tmp_path.iterdir()) == before


def test_training_without_its_packages(neurodeploy, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(train, "load_recipe", fail)
    outcome = neurodeploy("run", "digits")
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert "pip install 'neurodeploy[train]'" in outcome.errors[0]


def test_too_little_memory(refused, golden: Path, samples, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(simulate.EventSimulator, "run", fail)
    assert "not enough memory" in refused(golden / DENSE, samples(np.ones((1, 4, 24), int)))


# --- what is typed --------------------------------------------------------------------------


@pytest.fixture
def typed(neurodeploy, golden: Path, samples, tmp_path: Path, monkeypatch) -> Callable[..., str]:
    """Type a command in a folder with a network, samples and a run; return its refusal as a line.

    Words in braces stand for the files.
    """
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.toml").write_text("", encoding="utf-8")
    text = tmp_path / "notes.txt"
    text.write_text("notes", encoding="utf-8")
    inputs = samples(np.ones((2, 4, 3, 8, 8), np.int8))
    recipe = tmp_path / "own.toml"
    recipe.write_text('[recipe]\nname = "own"\n', encoding="utf-8")
    table = tmp_path / "table.json"
    table.write_text("{}", encoding="utf-8")
    files = {"net": golden / CONV, "input": inputs, "run": run, "text": text}
    files |= {"recipe": recipe, "json": table}
    monkeypatch.chdir(tmp_path)

    def call(code: int, *words: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        outcome = neurodeploy(*(word.format(**files) for word in words))
        assert (outcome.code, outcome.out) == (code, "")
        assert sorted(tmp_path.rglob("*")) == before
        return " ".join(outcome.err.replace("│", " ").split())

    return call


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("report", "{net}", "-i", "{input}", "--bind", "a=1"), "Add --ann MODEL.onnx"),
        (("report", "{net}", "-i", "{input}", "--ann-input", "{input}"), "Add --ann MODEL.onnx"),
        (("simulate", "{net}", "-i", "{input}", "-o", "o.npz", "--sample", "1"), "Add --plot FILE"),
        (("simulate", "{net}", "-i", "{input}", "-o", "o.npz", "--neurons", "1"), "Add --plot"),
        (("fit", "{net}", "--weight-bits", "4"), "holds its own weights"),
        (("fit", "784-10", "--input-bits", "4"), "sizes, not a file"),
        (("inspect", "{net}", "--input-shape", "1,6,6"), "has an input layer of 3,8,8. Leave"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(typed, words, answer: str) -> None:
    assert answer in typed(2, *words)


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (("train", "{run}"), ("is a run, a recipe is required", "run --from {run}")),
        (("run", "{run}"), ("is a run, a recipe is required", "recipe.toml")),
        (("run", "{recipe}#big"), ("no variant 'big'. The file has no variants.",)),
        (("compare", "{json}"), ("(key 'tiers' is missing)", "`neurodeploy report --json`")),
        (
            ("verify", "{net}", "-i", "{text}"),
            ("cannot be read", ".npy and .npz", ".h5", ".aedat4"),
        ),
        (("verify", "{net}", "-i", "nosuch.npz"), ("no such file. Check its name",)),
        (("fit", "784-10", "--target", "{text}"), ("a TOML file, named *.toml", "loihi2")),
        (
            (
                "simulate",
                "{net}",
                "-i",
                "{input}",
                "-o",
                "o.npz",
                "--plot",
                "p.svg",
                "--sample",
                "9",
            ),
            ("--sample 9: ", "holds 2 samples, 0 to 1. Name one"),
        ),
    ],
)
def test_a_file_of_another_kind_is_named_with_the_way_on(typed, tmp_path, words, answers) -> None:
    error = typed(1, *words)
    for answer in answers:
        assert answer.format(run=tmp_path / "run") in error


def test_a_resumption_without_a_beginning_is_a_whole_run(
    neurodeploy, golden: Path, samples, tmp_path: Path
) -> None:
    inputs = samples(np.ones((2, 4, 3, 8, 8), np.int8))
    outcome = neurodeploy(
        "simulate", golden / CONV, "-i", inputs, "-o", tmp_path / "o.npz", "--resume"
    )
    assert outcome.code == 0
    assert "2 samples of 4 steps in " in outcome.out


def test_an_installation_of_lava_tells_its_steps_in_logs(neurodeploy, monkeypatch) -> None:
    def install(path: Path | None, *, python: Path | None, progress: Callable[[str], None]) -> Path:
        progress("downloading")
        return Path("lava-python")

    monkeypatch.setattr(lava_commands, "install_runtime", install)
    outcome = neurodeploy("lava", "install")
    assert outcome.code == 0
    assert "installing the Lava runtime: downloading" in outcome.err.splitlines()
