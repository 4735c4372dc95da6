"""Neurons of Rockpool 3.1: exponential decays, and always a soft reset."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from neurodeploy.interchange.canonical_neuron import SOFT_RESET
from neurodeploy.interchange.modules.foreign_layer import (
    ForeignLayer,
    class_of,
    linear,
    numbers,
    refuse,
    spiking,
)

_LIF = "rockpool.nn.modules.torch.lif_torch.LIFTorch"


def rockpool_neuron(module: nn.Module) -> ForeignLayer | None:
    """Return a neuron of Rockpool, or None if the module is none.

    Raises:
        TraceError: If it has no exact counterpart.
    """
    own: Any = module  # attributes that torch's type does not know
    if class_of(module) != _LIF:
        return None
    if float(own.noise_std) != 0:
        raise refuse(module, f"adds noise at every step; use noise_std=0 (found {own.noise_std}).")
    if numbers(own.tau_syn).ndim > 1 and numbers(own.tau_syn).shape[1] > 1:
        raise refuse(module, "has several synapses a neuron; one current can be computed.")
    step = numbers(own.dt)
    keep_voltage = np.exp(-step / numbers(own.tau_mem))
    keep_current = np.exp(-step / numbers(own.tau_syn)[:, 0])
    departures = [("soft-reset", f"LIFTorch {SOFT_RESET}")]
    if float(own.max_spikes_per_dt) > 1:
        departures.append(("many-spikes", "LIFTorch sends many spikes a step"))
    back = getattr(module, "w_rec", None)
    return ForeignLayer(
        node=spiking(
            current_decay=1 - keep_current,
            voltage_decay=1 - keep_voltage,
            gain=keep_current,
            bias=numbers(own.bias),
            threshold=numbers(own.threshold),
            fires_at_threshold=True,
            departures=departures,
        ),
        back=None if back is None else linear(numbers(back).T),
    )
