"""The script that measures training on a GPU, tried on the CPU."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from neurodeploy.nn.network import SpikingNetwork

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_script_runs_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ours and the floor make their steps, and the output says that nothing was measured.

    Peers are left out, whose imports take half a minute; so is torch's compiler, which has tests
    of its own.
    """
    compiled: list[object] = []

    def compile_blocks(network: SpikingNetwork, *, backend: str) -> None:
        compiled.append((network.is_recomputing, backend))

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(SpikingNetwork, "compile_blocks", compile_blocks)
    gpu = importlib.import_module("gpu")
    monkeypatch.setattr(gpu, "PEERS", ())
    gpu.main(["--device", "cpu", "--cases", "mlp", "--rounds", "1"])
    output = capsys.readouterr().out
    assert "nothing here is a measurement" in output
    for name in ("floor", "ours, as written", "ours, compiled", "ours, recomputing"):
        assert f"  {name} " in output
    assert output.count("not measured") == 4
    assert compiled == [(False, "inductor"), (True, "inductor")]
