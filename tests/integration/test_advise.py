"""`neurodeploy advise`: one page on a model, whatever it holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
GOLDEN = Path(__file__).parents[1] / "golden" / "sigma_delta"


def test_one_page_with_frames(neurodeploy, tmp_path: Path) -> None:
    with np.load(GOLDEN / "01_conv_chain.npz") as found:
        np.savez(tmp_path / "frames.npz", input=(found["x"] / float(found["s_in"]))[None])
    model = GOLDEN / "01_conv_chain.onnx"
    page = tmp_path / "advice.html"
    outcome = neurodeploy("advise", model, "--samples", tmp_path / "frames.npz", "--html", page)
    lines = outcome.out.splitlines()
    assert outcome.code == 0
    assert lines[0].startswith("01_conv_chain.onnx can be converted (")
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 100
    for word in ("still, measured", "moving, measured", "Assumed", "A sceptic would say"):
        assert word in outcome.out
    assert "A sceptic would say" in page.read_text(encoding="utf-8")
    assert outcome.err.strip() == f"wrote {page}"


def test_json_of_a_model_that_cannot_be_converted(neurodeploy) -> None:
    outcome = neurodeploy("advise", GOLDEN / "refused" / "squeeze_excite_mul.onnx", "--json")
    found = json.loads(outcome.out)
    assert outcome.code == 0
    assert (found["is_convertible"], found["suits"]) == (False, "none")
    assert [one["operator"] for one in found["obstacles"]] == ["Mul"]
    assert found["figures"]["is_supposed"]
    assert [need["target"] for need in found["figures"]["cores"]] == ["loihi1", "loihi2"]


def test_frames_of_another_shape(neurodeploy, tmp_path: Path) -> None:
    np.savez(tmp_path / "frames.npz", input=np.random.default_rng(0).random((4, 9, 9)))
    model = GOLDEN / "01_conv_chain.onnx"
    outcome = neurodeploy("advise", model, "--samples", tmp_path / "frames.npz")
    assert outcome.code == 1
    assert "samples: shape (4, 9, 9); frames of (1, 8, 8) are required" in outcome.err
