"""Accuracy stage by stage: what ran on Lava is compared on the same samples only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from neurodeploy.data import Dataset
from neurodeploy.pipeline import assessment
from neurodeploy.pipeline.assessment import accuracy_points
from neurodeploy.pipeline.deployment.result import Deployment
from neurodeploy.pipeline.observation import Silence
from neurodeploy.pipeline.stages import Verification

STAGES = {"float": 0.98, "quantized": 0.97, "integer": 0.975}


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (64, [("integer", 360, 0.975), ("integer", 64, 1.0), ("Lava", 64, 1.0)]),
        (360, [("integer", 360, 0.975), ("Lava", 360, 1.0)]),
    ],
)
def test_lava_stands_beside_the_integers_on_the_same_samples(samples, expected) -> None:
    deployment = cast("Deployment", SimpleNamespace(fine_tuning=None))
    verification = cast(
        "Verification", SimpleNamespace(samples=samples, accuracy=1.0, integer_accuracy=1.0)
    )
    points = accuracy_points(STAGES, deployment, verification, 360)
    assert [(point.stage, point.samples, point.value) for point in points[2:]] == expected
    assert len(accuracy_points(STAGES, deployment, None, 360)) == 3


def test_without_onnx_the_report_says_what_to_install(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("neurodeploy.onnx_models.reading.find_spec", lambda name: None)
    twin, (note,) = assessment._try_twin(
        cast("Deployment", SimpleNamespace()),
        cast("Dataset", []),
        np.zeros((1, 2, 3), np.int32),
        tmp_path,
        Silence(),
    )
    assert twin is None
    assert "not every rule can hold" in note
    assert "pip install 'neurodeploy[onnx]'" in note


def test_the_twin_tells_how_far_it_is(monkeypatch, tmp_path) -> None:
    """Its stage is named, and its passes reach the observer."""
    told: list[tuple[object, ...]] = []

    class Labels(list[int]):
        @property
        def labels(self) -> list[int]:
            return self

    class Noting(Silence):
        def stage(self, name: str, note: str = "") -> None:
            told.append((name, note))

        def advance(self, done: int, total: int, note: str = "") -> None:
            told.append((done, total))

    monkeypatch.setattr(assessment, "export_twin", lambda *_: None)
    monkeypatch.setattr(assessment, "read_baseline", lambda *_, progress, **__: progress(1, 2))
    assessment._try_twin(
        cast("Deployment", SimpleNamespace(twin=None)),
        cast("Dataset", Labels([0, 1])),
        np.zeros((2, 2, 3), np.int32),
        tmp_path,
        Noting(),
    )
    assert told == [("ReLU twin", "2 test samples"), (1, 2)]
