"""Neurons of SpikingJelly 2.0: they fire at the threshold, and start at v_reset."""

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
    spiking,
)

_MODULE = "spikingjelly.activation_based."
_NEURONS = ("IFNode", "LIFNode", "ParametricLIFNode", "CUBALIFNode")
_RECURRENT = _MODULE + "layer.container.LinearRecurrentContainer"
KNOWN = (*_NEURONS, _RECURRENT)
"""Classes that come in."""


def spikingjelly_neuron(module: nn.Module) -> ForeignLayer | None:
    """Return a neuron of SpikingJelly, or None if the module is none."""
    own: Any = module  # attributes that torch's type does not know
    name = class_of(module)
    if name == _RECURRENT:
        return _recurrent(module)
    kind = name.rsplit(".", 1)[-1]
    if not name.startswith(f"{_MODULE}neuron.") or kind not in _NEURONS:
        return None
    departures = []
    reset = 0.0 if own.v_reset is None else float(own.v_reset)
    if own.v_reset is None:
        departures.append(("soft-reset", f"{kind} with v_reset=None {SOFT_RESET}"))
    threshold = numbers(own.v_threshold) - reset
    current, gain, bias = np.array(1.0), np.array(1.0), np.array(0.0)
    if kind == "IFNode":
        leak = np.array(0.0)
    elif kind == "CUBALIFNode":
        current, leak = 1 - numbers(own.c_decay), 1 - numbers(own.v_decay)
        bias = -leak * reset
    else:
        leak = 1 / (1 + np.exp(-numbers(own.w))) if kind[0] == "P" else 1 / numbers(own.tau)
        if own.decay_input:
            gain = leak
    return ForeignLayer(
        node=spiking(
            current_decay=current,
            voltage_decay=leak,
            gain=gain,
            bias=bias,
            threshold=threshold,
            fires_at_threshold=True,
            departures=departures,
        )
    )


def _recurrent(module: nn.Module) -> ForeignLayer | None:
    """Return y = neuron(L [x, y of the step before])."""
    own: Any = module  # attributes that torch's type does not know
    inner = spikingjelly_neuron(own.sub_module)
    if inner is None or not isinstance(own.rc, nn.Linear):
        return None
    weight = numbers(own.rc.weight)
    inputs = weight.shape[1] - weight.shape[0]
    bias = own.rc.bias
    return ForeignLayer(
        node=inner.node,
        before=linear(weight[:, :inputs], None if bias is None else numbers(bias)),
        back=linear(weight[:, inputs:]),
    )
