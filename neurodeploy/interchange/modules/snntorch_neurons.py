"""Neurons of snnTorch 1.0: Leaky, Synaptic and their recurrent forms."""

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
from neurodeploy.interchange.nir_schema import NirNode

KNOWN = {
    "snntorch._neurons.leaky.Leaky": "Leaky",
    "snntorch._neurons.synaptic.Synaptic": "Synaptic",
    "snntorch._neurons.rleaky.RLeaky": "RLeaky",
    "snntorch._neurons.rsynaptic.RSynaptic": "RSynaptic",
}
"""Classes that come in."""


def snntorch_neuron(module: nn.Module) -> ForeignLayer | None:
    """Return a neuron of snnTorch, or None if the module is none.

    Raises:
        TraceError: If it has no exact counterpart.
    """
    own: Any = module  # attributes that torch's type does not know
    kind = KNOWN.get(class_of(module))
    if kind is None:
        return None
    for attribute, meaning in (("inhibition", "lets one neuron win"), ("state_quant", "rounds")):
        if getattr(module, attribute):
            raise refuse(module, f"with {attribute} {meaning}; this cannot be computed.")
    if np.any(numbers(own.graded_spikes_factor) != 1):
        raise refuse(module, "sends graded spikes; use graded_spikes_factor=1.")
    reset = own.reset_mechanism
    running = getattr(own.state_function, "__name__", "")
    expected = {"subtract": "sub", "zero": "zero", "none": "int"}[reset]
    if running and not running.endswith(expected):
        raise refuse(
            module, f"says reset_mechanism='{reset}' but runs {running}. Make the layer anew."
        )
    leak = 1 - np.clip(numbers(own.beta), 0, 1)
    current = np.array(1.0)
    if "Synaptic" in kind:
        current = 1 - np.clip(numbers(own.alpha), 0, 1)
    if reset == "none":
        has_voltage = not own.init_hidden or own.output
        return ForeignLayer(
            node=read_out(current_decay=current, voltage_decay=leak),
            output=(2 if "Synaptic" in kind else 1) if has_voltage else 0,
        )
    departures = []
    if reset == "subtract":
        departures.append(("soft-reset", f"{kind} {SOFT_RESET}"))
    elif kind != "Leaky" and own.reset_delay:
        departures.append(
            ("lost-step", f"{kind} with reset_delay=True loses the step after a spike")
        )
    node = spiking(
        current_decay=current,
        voltage_decay=leak,
        threshold=numbers(own.threshold),
        fires_at_threshold=False,
        departures=departures,
    )
    return ForeignLayer(node=node, back=_back(module, kind))


def _back(module: nn.Module, kind: str) -> NirNode | None:
    own: Any = module  # attributes that torch's type does not know
    if not kind.startswith("R"):
        return None
    if not own.all_to_all:
        raise refuse(module, "feeds each neuron back to itself only; use all_to_all=True.")
    if not isinstance(own.recurrent, nn.Linear):
        raise refuse(module, "is recurrent through a convolution; use linear_features.")
    bias = own.recurrent.bias
    return linear(numbers(own.recurrent.weight), None if bias is None else numbers(bias))
