"""The result of a deployment as a value, its costs, and the record beside its file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from neurodeploy import netx
from neurodeploy.chips.cores import ChipFit
from neurodeploy.chips.target import Target
from neurodeploy.data import Dataset
from neurodeploy.files import hash_file, write_text
from neurodeploy.ir.graphs import INPUT, FixedPointGraph, Graph
from neurodeploy.learning.checkpoints import History
from neurodeploy.passes import Carried, Lowered
from neurodeploy.passes.calibration import Calibration
from neurodeploy.passes.relays import RelayCost
from neurodeploy.pipeline.deployment.agreement import LayerCheck
from neurodeploy.pipeline.directory import versions
from neurodeploy.pipeline.prediction import mean_sops
from neurodeploy.processes.leftovers import temporary_folder
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.reports.certificate import Certificate
from neurodeploy.reports.report import Agreement
from neurodeploy.simulation.recording import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the deployment, in words.

    Example:
        >>> [step.name for step in run.deployment.steps]
        ['trace', 'fold', 'quantize', 'check limits', 'write', 'check file']
    """

    name: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningOutcome:
    """Effect of pruning at deployment, on the validation part, in integers.

    `zero_share` is the share of the float weights that are zero, SOPs are synaptic operations a
    sample. Values before are those without pruning, right after quantization. Channels that carry
    biases count as the neurons and operations that they are.

    Example:
        >>> half = {**quick, "pruning.sparsity": "0.5", "pruning.schedule": "one_shot"}
        >>> model, _ = nd.pipeline.load_model("runs/digits-1")
        >>> recipe = nd.Recipe.load("digits", overrides=half)
        >>> pruned = nd.pipeline.deploy(model, recipe, Path("pruned"))
        >>> round(pruned.pruning.zero_share, 2), pruned.pruning.sops < pruned.pruning.sops_before
        (0.5, True)
    """

    zero_share: float
    neurons_before: int
    neurons: int
    sops_before: float
    sops: float
    accuracy_before: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaying:
    """Sizes of the network with its skip connections, before, and of the file with relays.

    SOPs are synaptic operations a sample, means over the calibration samples, those of the skips
    included; `bytes_before` is the size of a netx file of the same layers without skip
    connections: no file can hold them.

    Example:
        >>> run.deployment.relaying is None  # a network without skip connections
        True
    """

    neurons_before: int
    neurons: int
    sops_before: float
    sops: float
    bytes_before: int
    bytes: int

    def describe(self) -> str:
        """Return the cost of the relays in one line."""
        neurons, sops, size = (
            f"{before:,.0f} -> {after:,.0f}{unit} ({100 * (after / before - 1):+.1f} %)"
            for before, after, unit in (
                (self.neurons_before, self.neurons, ""),
                (self.sops_before, self.sops, ""),
                (self.bytes_before / 1024, self.bytes / 1024, " KiB"),
            )
        )
        return f"neurons {neurons}, SOPs a sample {sops}, file {size}"


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
        carried: Biases that pass through decaying currents: carried by channels that always fire,
            or driving the voltage, an approximation.
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
        certificate: The file and the integers, equal on `samples`; also in `certificate.json`.
        lava: The file on our simulator and on real Lava, on calibration samples; None if Lava was
            not asked for.

    Example:
        >>> run.deployment.path.name, run.deployment.graph.names[:2], run.deployment.weight_bits
        ('network.net', ('conv1', 'readout'), 8)
        >>> run.deployment.fit.cores_text, run.deployment.certificate.result.differing
        ('2', 0)
    """

    path: Path
    graph: FixedPointGraph
    direct: FixedPointGraph
    twin: Graph
    lowered: Lowered
    carried: Carried
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
    certificate: Certificate
    lava: Agreement | None

    @property
    def relay_costs(self) -> tuple[RelayCost, ...]:
        """The relays, by layer."""
        return self.lowered.costs

    def to_dict(self) -> dict[str, object]:
        """Return choices, checks and costs as plain values for JSON."""
        return {
            "deployed": self.choice,
            "validation_accuracy": dict(self.validation_accuracy),
            "weight_bits": self.weight_bits,
            "bits_tried": [
                {"bits": bits, "validation_accuracy": accuracy}
                for bits, accuracy in self.bits_tried
            ],
            "agreement": [asdict(entry) for entry in self.agreement],
            "relaying": None if self.relaying is None else asdict(self.relaying),
            "relays": [asdict(cost) for cost in self.relay_costs],
            "current_biases": {
                "carried_by": dict(self.carried.carriers),
                "approximated": dict(self.carried.driven),
            },
            "pruning": None if self.pruning is None else asdict(self.pruning),
            "fit": None if self.fit is None else self.fit.to_dict(),
        }


def measure_relays(
    direct: FixedPointGraph,
    chain: FixedPointGraph,
    inputs: npt.NDArray[np.int32],
    direct_run: Recording,
    chain_run: Recording,
    path: Path,
) -> Relaying:
    """Count `direct`, a network with skip connections, and `chain`, the content of its file.

    Both recordings are of `inputs`, (samples, T, ...).
    """
    with temporary_folder() as folder:
        plain = folder / "plain.net"
        netx.write(without_skips(direct), plain)
        bytes_before = plain.stat().st_size
    return Relaying(
        neurons_before=sum(layer.neurons for layer in direct),
        neurons=sum(layer.neurons for layer in chain),
        sops_before=mean_sops(direct, inputs, direct_run),
        sops=mean_sops(chain, inputs, chain_run),
        bytes_before=bytes_before,
        bytes=path.stat().st_size,
    )


def without_skips(graph: FixedPointGraph) -> FixedPointGraph:
    """Return the chain of a network's layers, each reading only the one before it."""
    before = (INPUT, *graph.names)
    layers = tuple(
        dataclasses.replace(
            layer, connections=tuple(c for c in layer.connections if c.source == previous)
        )
        for previous, layer in zip(before, graph, strict=False)
    )
    return FixedPointGraph(input=graph.input, layers=layers)


def hash_weights(network: nn.Module) -> str:
    """Return the SHA-256, in hexadecimal, of a network's named parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_net_record(
    path: Path,
    recipe: Recipe,
    target: Target,
    deployment: Deployment,
    *,
    network: nn.Module,
    samples: Dataset,
) -> None:
    """Write all that is needed to make a netx file again.

    `network` and `samples`, the network deployed and the calibration samples, are named by their
    hashes.
    """
    calibration, twin = deployment.calibration, deployment.graph.relu_twin
    layers = [
        {
            "name": name,
            "scale": calibration.scales[name],
            "skip_bits": calibration.skip_bits[name],
            "current_peak": health.current_peak,
            "voltage_peak": health.voltage_peak,
            "current_wraps": health.current_wraps,
            "voltage_clips": health.voltage_clips,
        }
        for name, health in zip(calibration.graph.names, calibration.health, strict=True)
    ]
    record = {
        "net": deployment.path.name,
        "sha256": hash_file(deployment.path),
        "weights_sha256": hash_weights(network),
        "calibration_data": samples.digest(),
        "target": target.name,
        "steps": recipe.network.steps,
        "message_bits": calibration.graph.input.message_bits,
        "calibration_samples": deployment.calibration_samples,
        "calibration": {"margin": recipe.quantization.margin, "layers": layers},
        "steps_done": [asdict(step) for step in deployment.steps],
        **deployment.to_dict(),
        "relu_twin": None if twin is None else [asdict(layer) for layer in twin.layers],
        "versions": versions(),
        "recipe": recipe.to_dict(),
    }
    write_text(path, json.dumps(record, indent=2) + "\n")
