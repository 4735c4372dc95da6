"""`neurodeploy convert` from an ONNX file to a netx file that is equal on real Lava."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neurodeploy import netx
from neurodeploy.cli.certificates import origin_of
from neurodeploy.files import hash_file
from neurodeploy.reports.certificate import Certificate

GOLDEN = Path(__file__).parents[1] / "golden" / "sigma_delta"


def run(*words: str, folder: Path, command: str = "convert") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "neurodeploy", command, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        timeout=300,
    )


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    with np.load(GOLDEN / "11_digits_trained.npz") as found:
        x, labels = found["x"] / float(found["s_in"]), found["labels"]
    path = tmp_path / "frames.npz"
    np.savez(
        path,
        input=x.reshape(4, 40, *x.shape[1:]).astype(np.float32),
        label=labels.reshape(4, 40).astype(np.int64),
    )
    return path


@pytest.mark.lava
def test_converts_and_verifies(frames: Path, tmp_path: Path) -> None:
    model = str(GOLDEN / "11_digits_trained.onnx")
    words = ["--samples", str(frames), "--out", "digits.net", "--verify", "1", "--json"]
    files = ["--integers", "ints.npz", "--write-certificate", "made.json", "--html", "page.html"]
    done = run(model, *words, *files, "--target", "loihi2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["accuracy"] == found["final"]["accuracy"] == 1.0
    assert found["final"]["error"] <= 0.05
    assert found["final"]["operations"] < found["rounded"]["operations"] < 10_000
    assert found["lava"] == {"sequences": 1, "values": 60_280, "is_equal": True}
    assert found["cores"] == "5"
    graph = netx.read(tmp_path / "digits.net")
    assert graph.relu_twin is not None
    assert graph.relu_twin.macs_standard == 73_984
    # every frame beside the network itself, which can skip zeros and repeated frames as well
    counted = found["report"]["frames"]
    assert (counted["frames"], counted["repeated"], counted["zeros"]) == (40, 120, "measured")
    assert counted["sops"]["median"] == 0.0
    fill = (counted["sops"]["fill"] + counted["sops"]["rest"]) / 40
    assert counted["sops"]["mean"] + fill == pytest.approx(found["final"]["operations"])
    assert [(one["name"], one["macs_per_frame"]) for one in counted["anns"]] == [
        ("dense", 57_200.0),
        ("zero-skipping", pytest.approx(26_847.3)),  # measured by onnxruntime on these frames
        ("frame-skipping", 14_300.0),
        ("frame- and zero-skipping", pytest.approx(6_711.825)),
    ]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for text in (
        "From the network to integers",
        "Error without a refresh",
        "holds for",
        "Frame by frame",
        "Our simulator and Lava",
    ):
        assert text in page
    certificate = Certificate.load(tmp_path / "made.json")
    facts = certificate.conversion
    assert facts is not None
    assert facts.sha256 == hash_file(model)
    assert (facts.sequences, facts.frames) == (4, 40)
    assert (facts.lava_sequences, facts.lava_differing) == (1, 0)
    assert facts.rms_error == found["final"]["error"]
    assert [row.margin for row in facts.margins] == [row["margin"] for row in found["layers"]]
    assert "converted from 11_digits_trained.onnx" in certificate.describe()
    assert certificate.check(tmp_path / "digits.net", tmp_path / "ints.npz").holds
    # whoever verifies the file again keeps what is known of its origin, unless the file is another
    assert origin_of(tmp_path / "digits.net") is None
    (tmp_path / "made.json").rename(tmp_path / "certificate.json")
    assert origin_of(tmp_path / "digits.net") == facts
    assert origin_of(shutil.copy(GOLDEN / "01_conv_chain.net", tmp_path / "other.net")) is None


def test_tables_and_refusals(neurodeploy, frames: Path, tmp_path: Path) -> None:
    model = str(GOLDEN / "11_digits_trained.onnx")
    words = ["--samples", str(frames), "--thresholds", "2", "--integers", "ints.npz"]
    done = run(model, *words, "--refresh", "24", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    for text in (
        "margin",
        "with thresholds",
        "73,984",
        "comes 4 steps later",
        "Error after 1, 32, 40 frames without a refresh: ",
        "the 5 nearest of 13",
        "for inputs from 0 to 16, over 24 steps; the others held on 160 frames",
        "After every 24 steps set sigma, act and residue",
    ):
        assert text in said
    assert "wrote network.net" in done.stderr
    # The file says by itself how it is fed and timed, and what a frame costs an ordinary network.
    words = ["-i", "ints.npz", "--ann", model, "--json"]
    done = run("network.net", *words, folder=tmp_path, command="report")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ann"]["passes"] == 40  # but for the steps in which two last frames are held
    assert report["ann"]["macs_standard"] == 40 * 73_984
    assert report["frames"]["zeros"] == "measured"
    assert report["accuracy"] == {"deployed": 1.0}  # labels came with the integers
    assert report["frames"]["anns"][1]["macs_per_frame"] == pytest.approx(26_847.3)
    words = ["-i", "ints.npz", "-o", "out.npz"]
    done = run("network.net", *words, folder=tmp_path, command="simulate")
    assert done.returncode == 0
    assert "accuracy 100.00% of 160 frames, by their labels" in done.stdout
    graph, net = netx.read(tmp_path / "network.net"), tmp_path / "network.net"
    command = ("simulate", net, "-i", tmp_path / "ints.npz", "-o", tmp_path / "other.npz")
    assert neurodeploy(*command, "--refresh", 0).code == 0
    with np.load(tmp_path / "out.npz") as one, np.load(tmp_path / "other.npz") as other:
        np.testing.assert_array_equal(one["spikes_1"][:, :24], other["spikes_1"][:, :24])
        assert (one["spikes_1"][:, 24:] != other["spikes_1"][:, 24:]).any()
    assert graph.refresh_interval == 24
    assert "a refresh every 24 steps" in " ".join(neurodeploy("inspect", net).out.split())
    answer = json.loads(neurodeploy("inspect", net, "--json").out)
    assert answer["sigma_delta"]["refresh_interval"] == 24
    spiking = GOLDEN.parent / "01_dense_basic.net"
    outcome = neurodeploy("simulate", spiking, *command[2:], "--refresh", 4)
    assert outcome.code == 2
    assert "--refresh belongs to sigma-delta networks" in " ".join(outcome.err.split())
    refused = GOLDEN / "refused" / "sigmoid_hidden.onnx"
    done = run(str(refused), "--samples", str(frames), "--out", "no.net", folder=tmp_path)
    assert done.returncode == 1
    assert "Sigmoid" in done.stderr
    assert not (tmp_path / "no.net").exists()
    words = ["--samples", str(frames), "--write-certificate", "c.json"]
    done = run(model, *words, folder=tmp_path)
    assert done.returncode == 2
    assert "--integers" in done.stderr
    done = run(model, "--samples", str(frames), "--thresholds", "x", folder=tmp_path)
    assert done.returncode == 2
    assert "auto, none or a number" in done.stderr
