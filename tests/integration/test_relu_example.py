"""The example that converts a ReLU network, with fewer epochs and frames."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

import neurodeploy as nd
from neurodeploy.testing import Comparison

EXAMPLE = Path(__file__).parents[2] / "examples" / "from_relu.py"


@pytest.mark.slow
@pytest.mark.lava
def test_the_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = EXAMPLE.read_text()
    for name, value in {"EPOCHS": 4, "FRAMES": 8, "LAVA_SEQUENCES": 1}.items():
        text, found = re.subn(rf"^{name} = \d+\b", f"{name} = {value}", text, flags=re.MULTILINE)
        assert found == 1
    script = tmp_path / "example.py"
    script.write_text(text)
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    try:
        variables = runpy.run_path(str(script))
    finally:
        torch.set_num_threads(threads)
    # Chance is 10 %; 30 epochs reach far more.
    assert variables["accuracy"] > 0.5
    assert abs(variables["converted_accuracy"] - variables["accuracy"]) < 0.03
    assert variables["error"] < 0.1
    comparison = variables["comparison"]
    assert isinstance(comparison, Comparison)
    assert comparison.is_equal
    conversion = variables["conversion"]
    frames = 8 + conversion.latency
    neurons = sum(layer.neurons for layer in conversion.graph)
    assert f"real Lava: 0 of {frames * neurons:,} messages differ" in capsys.readouterr().out
    # The file and the samples are those that the page's commands read.
    graph = nd.netx.read("runs/from_relu/network.net")
    assert graph.frame_scales == conversion.graph.frame_scales
    with np.load("runs/from_relu/samples.npz") as samples:
        np.testing.assert_array_equal(samples["input"], variables["values"])
