"""Neurons of sinabs 3.1: exponential decays; by default many spikes a step, and a soft reset."""

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

KNOWN = {
    f"sinabs.layers.{file}.{name}{suffix}"
    for file, name in (("lif", "LIF"), ("iaf", "IAF"), ("exp_leak", "ExpLeak"))
    for suffix in ("", "Squeeze", "Recurrent")
}
"""Classes that come in."""


def sinabs_neuron(module: nn.Module) -> ForeignLayer | None:
    """Return a neuron of sinabs, or None if the module is none.

    Raises:
        TraceError: If it has no exact counterpart.
    """
    own: Any = module  # attributes that torch's type does not know
    name = class_of(module)
    if name not in KNOWN:
        return None
    kind = name.rsplit(".", 1)[-1]
    keep = np.array(1.0)
    if not kind.startswith("IAF"):
        keep = np.exp(-1 / numbers(own.tau_mem))
    gain = 1 - keep if own.norm_input else np.array(1.0)
    current = np.array(1.0)
    if own.tau_syn is not None:
        keep_current = np.exp(-1 / numbers(own.tau_syn))
        current, gain = 1 - keep_current, gain * keep_current
    departures = []
    if own.min_v_mem is not None:
        departures.append(("minimum-voltage", f"{kind} holds its voltage above min_v_mem"))
    if kind.startswith("ExpLeak"):
        node = read_out(
            current_decay=current, voltage_decay=1 - keep, gain=gain, departures=departures
        )
        return ForeignLayer(node=node)
    if own.spike_fn.__name__ != "SingleSpike":
        departures.append(
            ("many-spikes", f"{kind} with {own.spike_fn.__name__} sends many spikes a step")
        )
    reset = type(own.reset_fn).__name__
    if reset != "MembraneReset":
        departures.append(("soft-reset", f"{kind} with {reset} {SOFT_RESET}"))
    elif own.reset_fn.reset_value != 0:
        raise refuse(
            module,
            f"with MembraneReset({own.reset_fn.reset_value:g}) adds that to every neuron at "
            "every step. Use MembraneReset(0).",
        )
    node = spiking(
        current_decay=current,
        voltage_decay=1 - keep,
        gain=gain,
        threshold=numbers(own.spike_threshold),
        fires_at_threshold=True,
        departures=departures,
    )
    if not kind.endswith("Recurrent"):
        return ForeignLayer(node=node)
    inner = [part for part in own.rec_connect.modules() if isinstance(part, nn.Linear)]
    others = [
        part
        for part in own.rec_connect.modules()
        if not isinstance(part, nn.Linear | nn.Sequential | nn.Flatten | nn.Unflatten | nn.Identity)
    ]
    if len(inner) != 1 or others:
        raise refuse(module, "is recurrent through something other than one Linear.")
    if inner[0].bias is not None and np.any(numbers(inner[0].bias) != 0):
        raise refuse(
            module,
            "adds the bias of its recurrent Linear from the second step on; it would be there from "
            "the first. Train with bias=False, or put the bias into the layer before.",
        )
    return ForeignLayer(node=node, back=linear(numbers(inner[0].weight)))
