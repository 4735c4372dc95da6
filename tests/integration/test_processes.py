"""Training in two processes over gloo: what one process computes, and what survives a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

pytestmark = pytest.mark.slow

RECIPE = """
[recipe]
name = "two"

[data]
source = "npz"
path = "{data}"
shape = [1, 8, 8]
classes = 3
input_bits = 4
shift = 1
validation_fraction = 0.2
test_fraction = 0.2

[network]
steps = 3
layers = [
  {{ type = "conv", channels = 8, stride = 2 }},
  {{ type = "residual", channels = 16, stride = 2 }},
  {{ type = "dense", neurons = 24 }},
]

[neuron]
model = "lif"

[shortcut]
method = "evolutionary"
weight = 0.25
after = "block"

[training]
epochs = {epochs}
batch_size = 25
learning_rate = 0.05
keep = "last"
threads = 1

[verification]
backend = "none"
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three kinds of blobs, 120 samples."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = rng.integers(0, 6, (120, 1, 8, 8))
    for sample, label in zip(images, labels, strict=True):
        sample[0, 2 * label + 1, :] += 9
    path = tmp_path_factory.mktemp("data") / "blobs.npz"
    np.savez(path, input=images.astype(np.int32), label=labels)
    return path


def write_recipe(folder: Path, data: Path, *, epochs: int) -> Path:
    path = folder / "two.toml"
    path.write_text(RECIPE.format(data=data, epochs=epochs), encoding="utf-8")
    return path


def command(recipe: Path, out: Path, *options: str) -> list[str]:
    return [
        sys.executable,
        *("-m", "neurodeploy", "train", str(recipe), "--out", str(out), "--accelerator", "cpu"),
        *options,
    ]


def train(recipe: Path, out: Path, *options: str) -> str:
    """Train; gives what was printed. No process may hang."""
    done = subprocess.run(
        command(recipe, out, *options), capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def losses(out: Path) -> list[float]:
    lines = (out / "training" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_two_processes_have_the_loss_of_one(data: Path, tmp_path: Path) -> None:
    """Same batches, spread over two: equal up to the order of float32 sums.

    The residual block's projection is normalised through torch, all else in fused loops. The odd
    batch of 25 leaves the
    processes unequal parts. Only few steps are compared: a spike that flips at its threshold
    changes all that follows, in one process as well.
    """
    recipe = write_recipe(tmp_path, data, epochs=3)
    train(recipe, tmp_path / "one")
    printed = train(recipe, tmp_path / "both", "--devices", "2")
    one, both = losses(tmp_path / "one"), losses(tmp_path / "both")
    assert len(one) == len(both) == 3
    assert max(abs(a - b) for a, b in zip(one, both, strict=True)) < 2e-5
    assert printed.count("trained network") == 1  # one process speaks
    assert printed.count("warning") == 0
    names = {path.name for path in (tmp_path / "both").rglob("*") if path.is_file()}
    assert names == {path.name for path in (tmp_path / "one").rglob("*") if path.is_file()}


def test_compiled_processes_have_the_loss_of_one(data: Path, tmp_path: Path) -> None:
    """Blocks through the inductor, sums over both processes between their parts."""
    recipe = write_recipe(tmp_path, data, epochs=1)
    train(recipe, tmp_path / "one")
    train(recipe, tmp_path / "both", "--devices", "2", "--compile")
    assert losses(tmp_path / "both") == pytest.approx(losses(tmp_path / "one"), abs=2e-5)


def test_a_killed_process_loses_one_epoch_and_no_more(data: Path, tmp_path: Path) -> None:
    """Kill one of two in the middle: the other ends with an error; resumed, weights are equal."""
    recipe = write_recipe(tmp_path, data, epochs=10)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    short = ("--devices", "2")
    process = subprocess.Popen(
        command(recipe, broken, *short),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        _wait_for(broken / "training" / "checkpoint.safetensors", process)
        (child,) = _children(process.pid)
        os.kill(child, signal.SIGKILL)
        printed, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode != 0, printed
    done = len(losses(broken))
    assert 1 <= done < 10
    train(recipe, broken, "--resume", *short)
    train(recipe, whole, *short)
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (broken, whole))
    assert mine.keys() == theirs.keys()
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
    assert losses(broken) == losses(whole)


def test_a_killed_command_takes_the_processes_along_that_it_started(
    data: Path, tmp_path: Path
) -> None:
    """Even those that have not joined it yet, and would wait for it for half an hour."""
    recipe = write_recipe(tmp_path, data, epochs=25)
    with subprocess.Popen(command(recipe, tmp_path / "out", "--devices", "2")) as process:
        try:
            end = time.monotonic() + 300
            while not (children := _children(process.pid)) and time.monotonic() < end:
                time.sleep(0.02)
        finally:
            process.kill()
    assert children
    end = time.monotonic() + 60
    while (left := [each for each in children if _runs(each)]) and time.monotonic() < end:
        time.sleep(0.1)
    assert left == []


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)


def _children(parent: int) -> list[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False
    )
    names = [int(pid) for pid in found.stdout.split()]
    return [pid for pid in names if Path(f"/proc/{pid}").exists() and _is_python(pid)]


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _is_python(pid: int) -> bool:
    return "neurodeploy" in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
