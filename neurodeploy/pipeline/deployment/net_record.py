"""Write the record beside a netx file: all that is needed to make it again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from neurodeploy.chips.target import Target
from neurodeploy.data import Dataset
from neurodeploy.files import hash_file, write_text
from neurodeploy.pipeline.directory import versions
from neurodeploy.recipes.recipe import Recipe

if TYPE_CHECKING:
    from neurodeploy.pipeline.deployment.result import Deployment


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
    calibration = deployment.calibration
    layers = [
        {
            "name": name,
            "scale": calibration.scales[name],
            "skip_bits": calibration.skip_bits[name],
            **dataclasses.asdict(health),
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
        "weight_bits": deployment.weight_bits,
        "bits_tried": [
            {"bits": bits, "validation_accuracy": accuracy}
            for bits, accuracy in deployment.bits_tried
        ],
        "calibration_samples": deployment.calibration_samples,
        "calibration": {"margin": recipe.quantization.margin, "layers": layers},
        "validation_accuracy": dict(deployment.validation_accuracy),
        "deployed": deployment.choice,
        "steps_done": [dataclasses.asdict(step) for step in deployment.steps],
        "agreement": [dataclasses.asdict(entry) for entry in deployment.agreement],
        "relaying": (
            None if deployment.relaying is None else dataclasses.asdict(deployment.relaying)
        ),
        "relays": [dataclasses.asdict(cost) for cost in deployment.relay_costs],
        "relu_twin": (
            None
            if deployment.graph.relu_twin is None
            else [dataclasses.asdict(layer) for layer in deployment.graph.relu_twin.layers]
        ),
        "pruning": None if deployment.pruning is None else dataclasses.asdict(deployment.pruning),
        "fit": None if deployment.fit is None else deployment.fit.to_dict(),
        "versions": versions(),
        "recipe": recipe.to_dict(),
    }
    write_text(path, json.dumps(record, indent=2) + "\n")
