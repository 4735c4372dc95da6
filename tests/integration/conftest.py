"""The command line, called in this process as a shell would call it, and small things to run."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from neurodeploy.cli import main

TINY_RECIPE = """
[recipe]
name = "tiny"
description = "three patterns of 5x5 pixels"

[data]
source = "npz"
path = "{path}"
shape = [1, 5, 5]
classes = 3
encoding = "{encoding}"
input_bits = {input_bits}

[network]
steps = 4

[[network.layers]]
type = "conv"
channels = 4

[[network.layers]]
type = "conv"
channels = 4
stride = 2

[neuron]
model = "lif"

[shortcut]
method = "evolutionary"
after = ["conv1"]

[training]
epochs = 2
batch_size = 16
threads = 1

[quantization]
fine_tune_epochs = 1

[verification]
backend = "none"
lava_samples = 3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines that are errors."""
        return [line for line in self.err.splitlines() if line.startswith("error:")]


@pytest.fixture
def neurodeploy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Outcome]]:
    """Run `neurodeploy` with these arguments."""
    monkeypatch.setenv("COLUMNS", "80")
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["neurodeploy", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        assert isinstance(end.value.code, int)
        assert "Traceback" not in captured.err
        return Outcome(code=end.value.code, out=captured.out, err=captured.err)

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def golden() -> Path:
    """Folder of the networks and results recorded from Lava."""
    return Path(__file__).parents[1] / "golden"


@pytest.fixture
def samples(tmp_path: Path) -> Callable[..., Path]:
    """Write an array as `input` of an archive."""

    def write(array: npt.NDArray[np.generic], name: str = "in.npz") -> Path:
        path = tmp_path / name
        np.savez(path, input=array)
        return path

    return write


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Callable[..., Path]:
    """Write a recipe that trains in a second, with its data: images or events."""

    def write(encoding: str = "direct") -> Path:
        rng = np.random.default_rng(0)
        labels = np.arange(150) % 3
        patterns = rng.integers(0, 2, (3, 1, 5, 5))[labels]
        if encoding == "direct":
            inputs = 3 * patterns + rng.integers(0, 2, patterns.shape)
        else:
            inputs = rng.random((150, 4, 1, 5, 5)) < 0.1 + 0.8 * patterns[:, np.newaxis]
        data, recipe = tmp_path / f"{encoding}.npz", tmp_path / f"{encoding}.toml"
        np.savez(data, input=inputs.astype(np.uint8), label=labels)
        text = TINY_RECIPE.format(
            path=data, encoding=encoding, input_bits=2 if encoding == "direct" else 0
        )
        recipe.write_text(text, encoding="utf-8")
        return recipe

    return write
