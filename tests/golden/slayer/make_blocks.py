"""Write blocks.npz: a small network in lava-dl, its weights, spikes and gradients.

Run once, beside an installed lava-dl 0.6.0, from this folder: python make_blocks.py
The file is frozen; it is never made again to turn a test green.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lava.lib.dl import slayer

NEURON = {
    "threshold": 1.25,
    "current_decay": 0.25,
    "voltage_decay": 0.03,
    "tau_grad": 0.1,
    "scale_grad": 3,
}


def main() -> None:
    """Build, run, differentiate, save."""
    torch.manual_seed(20)
    cuba = slayer.block.cuba
    network = torch.nn.Sequential(
        cuba.Conv(NEURON, 2, 4, 3, padding=1, weight_scale=4, weight_norm=True),
        cuba.Pool(NEURON, 2, weight_scale=1.1),
        cuba.Conv(NEURON, 4, 6, (3, 2), stride=(1, 2), weight_scale=6, delay_shift=False),
        cuba.Flatten(),
        cuba.Dense({**NEURON, "shared_param": False}, 24, 5, weight_scale=6, delay=True),
    )
    spikes_in = (torch.rand(2, 2, 8, 8, 16) < 0.3).float()
    network(spikes_in)  # shapes delays and decays of channels
    network[4].delay.delay.data = torch.tensor([0.0, 1.5, 2.9, 0.4, 7.0])
    spikes_in.requires_grad_()
    outputs = [spikes_in]
    for block in network:
        outputs.append(block(outputs[-1]))
    upstream = torch.randn(outputs[-1].shape)
    outputs[-1].backward(upstream)
    arrays = {f"state/{key}": value for key, value in network.state_dict().items()}
    arrays |= {f"spikes/{place}": value for place, value in enumerate(outputs)}
    arrays |= {
        f"gradient/{key}": value.grad
        for key, value in network.named_parameters()
        if value.grad is not None
    }
    arrays |= {"upstream": upstream, "gradient/input": spikes_in.grad}
    np.savez_compressed("blocks.npz", **{k: v.detach().numpy() for k, v in arrays.items()})


if __name__ == "__main__":
    main()
