"""Metrics under the names and by the definitions of NeuroBench 2.3.0.

`metrics_of_layers` takes any network, layer by layer, from its recorded tensors; a report applies
the same definitions to its counts. The real package gives the same totals
(tests/differential/test_neurobench.py); where it need not, `NOTES` say why.

Source: neurobench 2.3.0 `metrics/workload/synaptic_operations.py`, `activation_sparsity.py`,
`membrane_updates.py`, `metrics/utils/layers/*.py`, `metrics/static/*.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from neurodeploy.counting.count_tables import Counts
from neurodeploy.counting.fan_out import NumberArray
from neurodeploy.counting.synapse_counts import SynapseCounts
from neurodeploy.errors import DataError

VERSION = "2.3.0"
"""Of the package whose definitions are followed."""

WORD_BYTES = 4
"""Of a parameter and of a state, as torch's float32 and Lava's int32 hold them."""

NOTES = (
    "Effective_ACs and Effective_MACs are split by the values seen in each step of each sample, "
    "NeuroBench's rule at batch 1; at larger batches its split differs, the sum does not. The "
    "layers of this report are split by the declared kind of their input instead.",
    "Sums are exact integers; NeuroBench adds in float32 and may differ above 2^24.",
    "Dense counts every connection at every step and is not the MACs of an ANN.",
    "Footprint is parameters and states for batch 1 at 4 bytes each; NeuroBench adds whatever "
    "buffers a torch module holds. The deployed weights take network.weight_bytes.",
    "NeuroBench reports 0.0 where its computation fails (recurrent layers of torch, a module used "
    "twice), and does not see transposed convolutions and functional operations.",
)


class NeuroBenchJson(TypedDict):
    """NeuroBench's metrics under its own names."""

    Effective_ACs: float
    Effective_MACs: float
    Dense: float
    ConnectionSparsity: float
    ActivationSparsity: float
    MembraneUpdates: float | None
    Footprint: int
    ParameterCount: int
    version: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuroBenchMetrics:
    """Metrics of one network on recorded samples; attributes follow NeuroBench's names.

    Attributes:
        effective_acs: Operations a sample in steps whose input holds nothing but -1, 0 and 1.
        effective_macs: Operations a sample in all other steps.
        dense: Connections · steps, taps on padding left out.
        connection_sparsity: Share of the weights that is zero, rounded to 4 places.
        activation_sparsity: Share of the neurons' outputs that is zero.
        membrane_updates: A sample; None if potentials were not recorded.
        footprint: Bytes.
    """

    effective_acs: float
    effective_macs: float
    dense: float
    connection_sparsity: float
    activation_sparsity: float
    membrane_updates: float | None
    footprint: int
    parameter_count: int

    def to_dict(self) -> NeuroBenchJson:
        """Return the metrics under NeuroBench's names, with its version and our notes."""
        return {
            "Effective_ACs": self.effective_acs,
            "Effective_MACs": self.effective_macs,
            "Dense": self.dense,
            "ConnectionSparsity": self.connection_sparsity,
            "ActivationSparsity": self.activation_sparsity,
            "MembraneUpdates": self.membrane_updates,
            "Footprint": self.footprint,
            "ParameterCount": self.parameter_count,
            "version": VERSION,
            "note": " ".join(NOTES),
        }


def metrics_of_layers(
    layers: Sequence[SynapseCounts],
    *,
    steps: int,
    outputs: Sequence[NumberArray],
    potentials: Sequence[NumberArray] = (),
    parameters: int,
    footprint: int,
) -> NeuroBenchMetrics:
    """Compute the metrics of any network from what its layers recorded.

    Args:
        layers: One entry a layer with weights, from `count_layer`, all for the same samples.
        steps: Steps of a sample.
        outputs: (samples, T, ...) of every layer of neurons.
        potentials: (samples, T, ...) after each step, of the layers that have any.
        parameters: Number of them, biases included.
        footprint: Bytes of parameters and buffers.

    Raises:
        DataError: If there are no layers or outputs, or their samples differ in number.
    """
    samples = {layer.events.shape[0] for layer in layers} | {array.shape[0] for array in outputs}
    if len(samples) != 1 or not outputs or not layers:
        raise DataError(
            f"neurobench: layers and outputs of {sorted(samples)} samples; at least one layer, "
            "one output, and the same samples everywhere are required."
        )
    number = samples.pop()
    operations = sum(int(layer.sops.sum()) + int(layer.encoder_macs.sum()) for layer in layers)
    macs = sum(int(layer.neurobench_macs.sum()) for layer in layers)
    values = sum(array.size for array in outputs)
    updates = [
        count_membrane_updates(array.reshape(number, array.shape[1], -1)) for array in potentials
    ]
    return NeuroBenchMetrics(
        effective_acs=(operations - macs) / number,
        effective_macs=macs / number,
        dense=float(steps * sum(layer.fan_out.dense_exact for layer in layers)),
        connection_sparsity=_share(
            sum(layer.fan_out.zero_weights for layer in layers),
            sum(layer.fan_out.weights for layer in layers),
        ),
        activation_sparsity=1 - sum(int(np.count_nonzero(array)) for array in outputs) / values,
        membrane_updates=sum(updates) / number if updates else None,
        footprint=footprint,
        parameter_count=parameters,
    )


def metrics_of_counts(counts: Counts, *, biases: int, states: int) -> NeuroBenchMetrics:
    """Compute the metrics of a counted network with its stored biases and all neurons' states."""
    samples, totals, rows = counts.samples, counts.totals, counts.layers
    macs = sum(row.neurobench_macs for row in rows)
    weights = sum(row.weights for row in rows)
    outputs = totals.neurons * counts.steps * samples
    updates = counts.membrane_updates
    return NeuroBenchMetrics(
        effective_acs=(totals.sops - macs) / samples,
        effective_macs=macs / samples,
        dense=float(counts.steps * totals.dense_exact),
        connection_sparsity=_share(sum(row.zero_weights for row in rows), weights),
        activation_sparsity=(outputs - totals.spikes) / outputs,
        membrane_updates=None if updates is None else updates / samples,
        footprint=WORD_BYTES * (weights + biases + states),
        parameter_count=weights + biases,
    )


def count_membrane_updates(potential: NumberArray) -> int:
    """Count membrane updates: all neurons at step one, then each whose potential changed.

    Potentials after each step are (..., T, N). A spike whose reset returns to the value before is
    missed, so this is no measure of activity.
    """
    if potential.shape[-2] == 0:
        return 0
    changed = potential[..., 1:, :] != potential[..., :-1, :]
    return potential[..., 0, :].size + int(np.count_nonzero(changed))


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
