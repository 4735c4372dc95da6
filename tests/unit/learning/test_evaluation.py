"""What an evaluation measures, worked out by hand."""

from __future__ import annotations

import numpy as np
import torch

from neurodeploy.data import ArrayDataset
from neurodeploy.learning.evaluation import evaluate


class Echo(torch.nn.Module):
    """Votes for the class that the pixel names, and shows a layer of two neurons.

    In two steps the first neuron spikes always, the second in the first step where the pixel is 1.
    """

    def forward_with_spikes(
        self, inputs: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        pixel = inputs.reshape(len(inputs), -1)[:, 0].float()
        spikes = torch.ones(len(inputs), 2, 2)
        spikes[:, 0, 1] = pixel
        spikes[:, 1, 1] = 0
        scores = torch.stack([1 - pixel, pixel], dim=1)
        return scores[:, None].repeat(1, 2, 1), {"layer": spikes}


def test_rates_are_spikes_per_neuron_and_step_over_all_batches() -> None:
    inputs = np.zeros((600, 1, 1, 1), np.int32)
    inputs[:150] = 1
    labels = inputs.ravel().astype(np.int64)
    labels[:60] = 0  # one in ten is wrong
    dataset = ArrayDataset(inputs=inputs, labels=labels, shape=(1, 1, 1), classes=2, scale=1.0)
    calls: list[tuple[int, int]] = []
    found = evaluate(Echo(), dataset, progress=lambda *call: calls.append(call))
    assert calls == [(200, 600), (400, 600), (600, 600)]
    assert found.spike_rates == {"layer": (2 * 600 + 150) / (4 * 600)}
    assert found.accuracy == 0.9
