"""Settings and places of a fine-tune; its training is tested with whole deployments."""

from __future__ import annotations

import pytest
import torch

from neurodeploy.pipeline.deployment import fine_tuning


def test_integers_train_on_the_processor_whatever_gpus_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """NumPy computes them, and cannot read what lies on a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert fine_tuning._engine().device == torch.device("cpu")
