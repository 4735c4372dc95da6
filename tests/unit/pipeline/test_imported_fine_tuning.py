"""Networks of other frameworks, trained further in the chip's integers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import neurodeploy as nd
from neurodeploy.errors import DataError, TrainingError
from neurodeploy.reports.certified_facts import TRAINED_FURTHER

INPUTS, CLASSES, STEPS = 12, 3, 6


def network(last: str) -> dict[str, object]:
    """Two layers that were never trained, as a NIR graph: its accuracy is that of chance."""
    rng = np.random.default_rng(0)

    def node(kind: str, size: int, threshold: float) -> dict[str, object]:
        tau = np.full(size, 5e-4)
        values = {"type": kind, "tau": tau, "r": tau / 1e-4, "v_leak": np.zeros(size)}
        return values if kind == "LI" else {**values, "v_threshold": np.full(size, threshold)}

    return {
        "type": "NIRGraph",
        "nodes": {
            "in": {"type": "Input", "shape": np.array([INPUTS])},
            "fc1": {"type": "Linear", "weight": rng.normal(0, 0.5, (16, INPUTS))},
            "first": node("LIF", 16, 0.8),
            "fc2": {"type": "Linear", "weight": rng.normal(0, 0.4, (CLASSES, 16))},
            "last": node(last, CLASSES, 0.8),
            "out": {"type": "Output", "shape": np.array([CLASSES])},
        },
        "edges": [
            ("in", "fc1"), ("fc1", "first"), ("first", "fc2"), ("fc2", "last"), ("last", "out"),
        ],
    }  # fmt: skip


def make_task(samples: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """Spikes of three groups of inputs, one of them more active than the others."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, CLASSES, samples)
    rates = np.where(np.arange(INPUTS) % CLASSES == labels[:, None], 0.7, 0.2)
    return (rng.random((samples, STEPS, INPUTS)) < rates[:, None]).astype(np.uint8), labels


@pytest.mark.parametrize("last", ["LIF", "LI"])
def test_training_further_is_better_and_the_certificate_says_so(last: str, tmp_path: Path) -> None:
    samples, labels = make_task()
    settings = nd.FineTuning(epochs=16, learning_rate=0.02, held_out=0.5)
    result = nd.deploy(network(last), samples, labels, out=tmp_path, fine_tune=settings)
    accuracy = result.accuracy
    assert list(accuracy) == ["float", "quantized", "fine-tuned", "deployed"]
    assert accuracy["deployed"] == accuracy["fine-tuned"] > 0.85 > 0.6 > accuracy["quantized"]
    assert result.is_trained_further
    tuned = result.fine_tuning
    assert tuned is not None
    assert tuned.after > tuned.before
    # What was measured can be measured again, on samples that nothing was learned from.
    with np.load(tmp_path / "samples.npz") as kept:
        shown, classes = kept["input"], kept["label"]
    assert len(shown) == 60
    recording = nd.EventSimulator(nd.netx.read(result.path)).run(shown)
    scores = recording.voltage[:, -1] if last == "LI" else recording.spikes_of("last").sum(axis=1)
    assert np.mean(scores.argmax(axis=1) == classes) == accuracy["deployed"]
    # Integers no longer have to do with the floats; the file has all to do with the integers.
    assert [layer.deployed for layer in result.agreement] == [None, None]
    assert result.agreement[0].quantized is not None
    assert result.agreement[0].quantized > 0.95
    assert [layer.file_differing for layer in result.agreement] == [0, 0]
    certificate = nd.Certificate.load(tmp_path / "certificate.json")
    assert certificate.check(tmp_path, tmp_path).holds
    assert certificate.deployment is not None
    assert certificate.deployment.comparison == TRAINED_FURTHER
    assert [layer.equal_share for layer in certificate.deployment.layers] == [None, None]
    source = "float network, convention euler"
    assert certificate.describe().endswith(f"; agreement with the {source} {TRAINED_FURTHER}")
    assert f"first in integers: agreement with float64 {TRAINED_FURTHER}" in result.describe()
    record = json.loads((tmp_path / "network.json").read_text())
    assert record["accuracy"] == accuracy
    assert record["fine_tuning"]["samples"] == {"training": 120, "choice": 60, "shown": 60}
    assert record["fine_tuning"]["is_deployed"]
    assert len(record["fine_tuning"]["epochs"]) == 16
    assert "the fine-tuned network: accuracy on the samples" in record["fine_tuning"]["choice"]


def test_weights_that_are_no_better_are_not_taken(tmp_path: Path) -> None:
    samples, _ = make_task()
    right = nd.import_nir(network("LIF")).run(samples)["last"].sum(axis=1, dtype=int).argmax(axis=1)
    keeps = np.concatenate([np.flatnonzero(right == name)[:12] for name in np.unique(right)])
    settings = nd.FineTuning(epochs=1, learning_rate=1e-9, held_out=0.5)
    result = nd.deploy(
        network("LIF"), samples[keeps], right[keeps], out=tmp_path, fine_tune=settings
    )
    assert not result.is_trained_further
    assert result.accuracy["deployed"] == result.accuracy["quantized"]
    plain = nd.deploy(network("LIF"), samples[keeps], out=tmp_path / "plain")
    assert all(layer.deployed is not None for layer in result.agreement)
    assert plain.fine_tuning is None
    certificate = nd.Certificate.load(tmp_path / "certificate.json")
    assert certificate.deployment is not None
    assert certificate.deployment.comparison == "spikes"
    assert "deployed: the quantized network" in result.describe()


def test_narrow_weights(tmp_path: Path) -> None:
    samples, labels = make_task(60)
    result = nd.deploy(network("LIF"), samples, labels, out=tmp_path, weight_bits=3)
    weights = [c.synapse.weight for layer in result.graph for c in layer.connections]
    assert min(w.min() for w in weights) >= -8
    assert max(w.max() for w in weights) <= 6
    with pytest.raises(nd.NeurodeployError, match="weights of 9 bits"):
        nd.deploy(network("LIF"), samples, labels, out=tmp_path, weight_bits=9)


def test_samples_that_cannot_teach(tmp_path: Path) -> None:
    samples, labels = make_task(30)
    settings = nd.FineTuning(epochs=1)
    with pytest.raises(DataError, match="labels: none, and a fine-tune learns them"):
        nd.deploy(network("LIF"), samples, out=tmp_path, fine_tune=settings)
    with pytest.raises(DataError, match="labels: 1 to 3, the network has classes 0 to 2"):
        nd.deploy(network("LIF"), samples, labels + 1, out=tmp_path, fine_tune=settings)
    with pytest.raises(DataError, match="Every class needs samples in each part"):
        nd.deploy(network("LIF"), samples[:4], labels[:4], out=tmp_path, fine_tune=settings)
    assert not (tmp_path / "network.net").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs = 0, at least 1 is required"),
        ({"batch_size": 0}, "batch_size = 0, at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate = nan, a number above 0"),
        ({"held_out": 1.0}, "held_out = 1.0, above 0 and below 1"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        nd.FineTuning(**settings)
