"""Neurons of Rockpool 3.1: exponential decays; those that spike always have a soft reset."""

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
    read_out,
    refuse,
    spiking,
)

_MODULE = "rockpool.nn.modules.torch."
_SPIKING = ("lif_torch.LIFTorch", "lif_neuron_torch.LIFNeuronTorch")
_READ_OUT = "exp_syn_torch.ExpSynTorch"
KNOWN = (*_SPIKING, _READ_OUT)
"""Classes that come in."""


def rockpool_neuron(module: nn.Module) -> ForeignLayer | None:
    """Return a neuron of Rockpool, or None if the module is none.

    Raises:
        TraceError: If it has no exact counterpart.
    """
    own: Any = module  # attributes that torch's type does not know
    name = class_of(module)
    kind = name.removeprefix(_MODULE)
    if kind == name or kind not in (*_SPIKING, _READ_OUT):
        return None
    if float(own.noise_std) != 0:
        raise refuse(module, f"adds noise at every step; use noise_std=0 (found {own.noise_std}).")
    if kind == _READ_OUT:
        keep = np.exp(-numbers(own.dt) / numbers(own.tau))
        return ForeignLayer(node=read_out(voltage_decay=1 - keep, gain=keep))
    called = type(module).__name__
    current, gain, back = np.array(1.0), np.array(1.0), None
    if called == "LIFTorch":
        if own.n_synapses > 1:
            raise refuse(module, "has several synapses a neuron; one current can be computed.")
        # Its decays, whether it was given them, time constants or shifts of bits.
        keep, gain = numbers(own.alpha), numbers(own.beta)
        gain = gain[:, 0] if gain.ndim > 1 else gain
        current, back = 1 - gain, numbers(own.w_rec).T
    else:
        keep = np.exp(-numbers(own.dt) / numbers(own.tau_mem))
    departures = [("soft-reset", f"{called} {SOFT_RESET}")]
    if float(own.max_spikes_per_dt) > 1:
        departures.append(("many-spikes", f"{called} sends many spikes a step"))
    return ForeignLayer(
        node=spiking(
            current_decay=current,
            voltage_decay=1 - keep,
            gain=gain,
            bias=numbers(own.bias),
            threshold=numbers(own.threshold),
            fires_at_threshold=True,
            departures=departures,
        ),
        # Without recurrence it holds a matrix of zeros.
        back=linear(back) if back is not None and np.any(back) else None,
    )
