"""Neurons of norse 1.1: forward Euler with a parameter tuple `p` and a step `dt`."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from neurodeploy.interchange.canonical_neuron import INITIAL_STATE, SOFT_RESET
from neurodeploy.interchange.modules.foreign_layer import (
    ForeignLayer,
    class_of,
    linear,
    numbers,
    read_out,
    refuse,
    spiking,
)

_MODULE = "norse.torch.module."
_BOX = ("lif_box.LIFBoxCell",)
_CURRENT = ("lif.LIFCell", "lif.LIF", "lif.LIFRecurrentCell", "lif.LIFRecurrent")
_READ_OUTS = ("leaky_integrator.LICell", "leaky_integrator.LI", "leaky_integrator_box.LIBoxCell")
_PLAIN = "iaf.IAFCell"
KNOWN = (*_BOX, *_CURRENT, _PLAIN, *_READ_OUTS)
"""Classes that come in."""
STEPPED = tuple(_MODULE + name for name in (*_BOX, *_CURRENT, *_READ_OUTS) if name.endswith("Cell"))
"""Modules that compute one step at a time; the others read time first."""


def norse_neuron(module: nn.Module) -> ForeignLayer | None:
    """Return a neuron of norse, or None if the module is none.

    Raises:
        TraceError: If it has no exact counterpart.
    """
    name = class_of(module)
    kind = name.removeprefix(_MODULE)
    own: Any = module  # attributes that torch's type does not know
    if kind == name or not hasattr(own, "p"):
        return None
    parameters = own.p
    if kind == _PLAIN:
        return ForeignLayer(
            node=spiking(
                voltage_decay=np.array(0.0),
                threshold=numbers(parameters.v_th) - numbers(parameters.v_reset),
                fires_at_threshold=False,
            )
        )
    if kind not in (*_BOX, *_CURRENT, *_READ_OUTS):
        return None
    departures = []
    leak = numbers(own.dt) * numbers(parameters.tau_mem_inv)
    rest = numbers(parameters.v_leak)
    current = np.array(1.0)
    if hasattr(parameters, "tau_syn_inv"):
        current = numbers(own.dt) * numbers(parameters.tau_syn_inv)
    if kind in _READ_OUTS:
        is_one = np.ptp(rest) == 0
        if not is_one:
            departures.append(("initial-state", "its voltages start at v_leak, which differ"))
        node = read_out(
            current_decay=current,
            voltage_decay=leak,
            gain=leak,
            bias=np.array(0.0) if is_one else leak * rest,
            rest=float(rest.flat[0]) if is_one else 0.0,
            departures=departures,
        )
        return ForeignLayer(node=node)
    reset = numbers(parameters.v_reset) if hasattr(parameters, "v_reset") else np.array(0.0)
    if getattr(getattr(parameters, "reset_method", None), "__name__", "reset_value") != (
        "reset_value"
    ):
        departures.append(("soft-reset", f"{type(module).__name__} {SOFT_RESET}"))
    if np.any(rest != reset):
        departures.append(("initial-state", f"{type(module).__name__} {INITIAL_STATE}"))
    if np.any(leak > 1) or np.any(np.asarray(current) > 1):
        raise refuse(module, f"has a time constant below its step of {own.dt:g} s.")
    node = spiking(
        current_decay=current,
        voltage_decay=leak,
        gain=leak,
        bias=leak * (rest - reset),
        threshold=numbers(parameters.v_th) - reset,
        fires_at_threshold=False,
        departures=departures,
    )
    if "Recurrent" not in kind:
        return ForeignLayer(node=node)
    back = numbers(own.recurrent_weights)
    if not own.autapses:
        back = back * (1 - np.eye(len(back)))
    return ForeignLayer(node=node, before=linear(numbers(own.input_weights)), back=linear(back))
