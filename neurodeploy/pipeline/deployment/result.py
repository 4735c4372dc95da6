"""The result of a deployment: files, integers, accuracy and checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neurodeploy.chips.cores import ChipFit
from neurodeploy.ir.graphs import FixedPointGraph, Graph
from neurodeploy.learning.checkpoints import History
from neurodeploy.passes import Lowered
from neurodeploy.passes.calibration import Calibration
from neurodeploy.passes.relays import RelayCost
from neurodeploy.pipeline.deployment.agreement import LayerCheck
from neurodeploy.pipeline.deployment.relay_costs import Relaying


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the deployment, in words."""

    name: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningOutcome:
    """Effect of pruning at deployment, on the validation part, in integers.

    Attributes:
        zero_share: Share of the float weights that are zero.
        neurons_before: Spiking neurons.
        neurons: After.
        sops_before: Synaptic operations a sample, right after quantization.
        sops: Of the deployed network.
        accuracy_before: Without pruning, right after quantization.
        accuracy: Of the deployed network.
    """

    zero_share: float
    neurons_before: int
    neurons: int
    sops_before: float
    sops: float
    accuracy_before: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Deployment:
    """A network in integers.

    Attributes:
        path: The netx file.
        graph: Content of the file, read back from it.
        direct: The integer network that the file was made from, skip connections in place.
        twin: The float network before pools and groups were lowered, without the weights that are
            zero in the file: its ReLU twin.
        lowered: The network with relay channels in place of skip connections, and their cost.
        calibration: Scales and peaks before fine-tuning.
        calibration_samples: Number of samples behind scales and agreement.
        fine_tuning: History of the fine-tune; None if there was none, or if it did not help.
        validation_accuracy: "float": the trained network; "quantized": the integers right after
            quantization; "fine-tuned": after the fine-tune, if there was one; "deployed": those
            in the file.
        choice: The integers in the file, and the reason, in one sentence.
        agreement: Layer by layer, on the calibration samples.
        pruning: Effect of pruning; None if deployment took out nothing.
        weight_bits: Of the deployed weights.
        bits_tried: (bits, validation accuracy) of each width that the search tried.
        fit: Estimated cores; None for a target without cores.
        relaying: Neurons, operations and bytes with relays and without; None if there are none.
        steps: Work done, in order.
        samples: `samples.npz`: the first test samples, with labels.
    """

    path: Path
    graph: FixedPointGraph
    direct: FixedPointGraph
    twin: Graph
    lowered: Lowered
    calibration: Calibration
    calibration_samples: int
    fine_tuning: History | None
    validation_accuracy: dict[str, float]
    choice: str
    agreement: tuple[LayerCheck, ...]
    pruning: PruningOutcome | None
    weight_bits: int
    bits_tried: tuple[tuple[int, float], ...]
    fit: ChipFit | None
    relaying: Relaying | None
    steps: tuple[Step, ...]
    samples: Path

    @property
    def relay_costs(self) -> tuple[RelayCost, ...]:
        """The relays, by layer."""
        return self.lowered.costs
