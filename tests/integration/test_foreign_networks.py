"""`inspect` and `deploy` of NIR files, as a user of another framework types them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "interchange"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(neurodeploy: Callable, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run a command; its exit code, its output, and its complaints in one line."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "200")
        outcome = neurodeploy(*words)
        return outcome.code, outcome.out, " ".join(outcome.err.replace("│", " ").split())

    return run


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    with np.load(GOLDEN / "01_snntorch_leaky_dense.npz") as arrays:
        np.savez(tmp_path / "samples.npz", input=arrays["input"], label=np.array([1, 4, 1, 5]))
    return tmp_path / "samples.npz"


def test_inspect_shows_the_nodes_and_the_step_width(call: Call) -> None:
    path = GOLDEN / "01_snntorch_leaky_dense.nir"
    code, out, _ = call("inspect", path)
    assert code == 0
    assert "step width 0.0001 s" in out
    assert "tau 0.001 (24)" in out
    code, out, _ = call("inspect", path, "--json")
    content = json.loads(out)
    assert content["dt"] == 1e-4
    assert [node["type"] for node in content["nodes"]] == [
        "Affine", "LIF", "Linear", "LIF", "Input", "Output",
    ]  # fmt: skip
    _, out, _ = call("inspect", GOLDEN / "09_norse_lifbox.nir")
    assert "not told" in out


def test_deploy_simulate_and_report(call: Call, samples: Path, tmp_path: Path) -> None:
    path, out_dir = GOLDEN / "01_snntorch_leaky_dense.nir", tmp_path / "deployed"
    code, out, error = call("deploy", path, "--samples", samples, "--out", out_dir)
    assert code == 0, error
    assert "convention euler, steps of 0.0001 s" in " ".join(out.split())
    assert "accuracy, deployed: " in out
    net, kept = out_dir / "network.net", out_dir / "samples.npz"
    assert call("simulate", net, "-i", kept, "-o", tmp_path / "out.npz")[0] == 0
    code, out, _ = call("report", net, "--input", kept, "--json")
    assert code == 0
    assert json.loads(out)["ann"]["macs_border_exact"] == 12 * 24 + 24 * 6
    code, out, _ = call(
        "deploy", path, "--samples", samples, "--out", tmp_path / "again", "--json",
        "--convention", "snntorch", "--target", "loihi1",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["populations"] == {"1": "exact", "3": "exact"}


def test_deploy_trains_further(call: Call, tmp_path: Path) -> None:
    path, out_dir = GOLDEN / "01_snntorch_leaky_dense.nir", tmp_path / "deployed"
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 6
    rates = np.where(np.arange(12) // 2 == labels[:, None], 0.9, 0.1)
    inputs = (rng.random((120, 20, 12)) < rates[:, None]).astype(np.uint8)
    np.savez(tmp_path / "task.npz", input=inputs, label=labels)
    words = ("deploy", path, "--samples", tmp_path / "task.npz", "--out", out_dir)
    code, out, error = call(
        *words, "--fine-tune", "4", "--weight-bits", "4",
        "--set", "quantization.fine_tune_learning_rate=0.02",
    )  # fmt: skip
    assert code == 0, error
    text = " ".join(out.split())
    assert "of 12 samples held out" in text
    assert "deployed: the fine-tuned network: accuracy on the samples to choose by" in text
    assert "Agreement with the floats no longer applies: weights were trained further." in text
    stages = ("float", "quantized", "fine-tuned", "deployed")
    assert all(f"accuracy, {stage}: " in text for stage in stages)
    code, out, _ = call(
        *words, "--json", "--fine-tune", "1", "--set", "quantization.target=loihi1"
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["choice"].startswith("the ")
    assert json.loads(out)["target"] == "loihi1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give --samples, a file with integers `input`"),
        (("--samples", "S", "--reset", "soft"), "--reset soft: zero or subtract is allowed"),
        (("--samples", "S", "--prune", "0.5"), "pruning.schedule, pruning.sparsity: not for a"),
        (("--samples", "S", "--weight-bits", "9"), "weight_bits = 9"),
        (("--samples", "S", "--set", "training.epochs=2"), "training.epochs: not for a network"),
        (("--samples", "S", "--fine-tune", "1"), "Every class needs samples in each part"),
        (("--samples", "S", "--convention", "snn"), "convention 'snn': allowed are euler"),
        (("--samples", "S", "--reset", "subtract"), "allow approximate={'soft-reset'}"),
        (("--samples", "S", "--approximate", "anything"), "anything; allowed are soft-reset"),
        (("--samples", "missing.npz"), "missing.npz"),
    ],
)
def test_refusals(
    call: Call, words: tuple[str, ...], message: str, samples: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.nir"
    shutil.copy(GOLDEN / "01_snntorch_leaky_dense.nir", path)
    given = [samples if word == "S" else word for word in words]
    code, _, error = call("deploy", path, "--out", tmp_path / "out", *given)
    assert code != 0
    assert message in error
    assert not (tmp_path / "out" / "network.net").exists()


def test_neither_its_samples_nor_a_whole_run_are_replaced(
    call: Call, samples: Path, tmp_path: Path
) -> None:
    path = GOLDEN / "01_snntorch_leaky_dense.nir"
    for folder, name, message in (
        ("a", "samples.npz", "samples.npz: is the samples of the network"),
        ("b", "summary.json", "holds a whole run, whose report would no longer be about"),
    ):
        place = tmp_path / folder
        place.mkdir()
        given = samples.rename(place / name) if folder == "a" else tmp_path / "a" / "samples.npz"
        (place / name).touch()
        before = {one: one.read_bytes() for one in place.iterdir()}
        code, _, error = call("deploy", path, "--samples", given, "--out", place)
        assert code == 1
        assert message in " ".join(error.split())
        assert {one: one.read_bytes() for one in place.iterdir()} == before


def test_a_trained_run_takes_no_options_of_nir_files(
    call: Call, samples: Path, tmp_path: Path
) -> None:
    code, _, error = call("deploy", tmp_path, "--samples", samples)
    assert code != 0
    assert "options for a NIR file, but this is none" in error
