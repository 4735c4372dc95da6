"""Blocks of lava-dl 0.6 (SLAYER): weights on the chip's grid, decays that drop fractions.

Each block sends its spikes a step late, as layers on the chip do (`delay_shift`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.weight_norm import WeightNorm

from neurodeploy.interchange.modules.foreign_layer import (
    ForeignLayer,
    class_of,
    linear,
    numbers,
    read_out,
    refuse,
    spiking,
)
from neurodeploy.interchange.nir_schema import PASS_ON, NirNode

PACKAGE = "lava.lib.dl.slayer."
_BLOCK = f"{PACKAGE}block.cuba."
_MEAN = f"{PACKAGE}neuron.norm.MeanOnlyBatchNorm"
_KINDS = ("Dense", "Conv", "Pool", "Recurrent", "Affine", "Input")
_THROUGH = ("Flatten", "Average")
"""Blocks that hold no layer: what they do with tensors is seen."""
KNOWN = (*_KINDS, *_THROUGH)
"""Classes that come in."""


def slayer_block(module: nn.Module, source: tuple[int, ...] = ()) -> ForeignLayer | None:
    """Return a CUBA block of lava-dl, or None if the module is no block.

    Args:
        module: The module.
        source: Shape of what it read, (N, C, H, W, T) or (N, C, T); not known before it runs.

    Raises:
        TraceError: If it has no exact counterpart.
    """
    own: Any = module  # attributes that torch's type does not know
    name = class_of(module)
    if not name.startswith(f"{PACKAGE}block."):
        return None
    kind = name.removeprefix(_BLOCK)
    if kind in _THROUGH:
        return None
    if kind not in _KINDS:
        raise refuse(
            module,
            f"({name.removeprefix(PACKAGE)}) has no counterpart here; of lava-dl's blocks, those "
            f"of block.cuba called {', '.join((*_KINDS, *_THROUGH))} are known.",
        )
    if own.delay is not None:
        raise refuse(module, "has learned delays; they are not taken over. Train with delay=False.")
    if kind == "Input":
        if own.neuron is not None:
            raise refuse(
                module,
                "has neurons at the input; use it without neuron_params, and a Dense or Conv "
                "block behind it.",
            )
        return ForeignLayer(node=NirNode(PASS_ON, {}))
    if kind == "Affine":
        return ForeignLayer(node=_read_out(module), before=_synapse(module, own.synapse, source))
    back = None
    first = own.synapse if kind != "Recurrent" else own.input_synapse
    if kind == "Recurrent":
        if own.bias is not None:
            raise refuse(module, "has a bias; the blocks of lava-dl have none by themselves.")
        back = linear(_on_grid(module, own.recurrent_synapse, is_current=False)[:, :, 0, 0])
    return ForeignLayer(node=_neuron(module), before=_synapse(module, first, source), back=back)


def rest_blocks(module: nn.Module) -> dict[str, int]:
    """Put the blocks in a module at rest, and let them send at once.

    Returns:
        By path of a block: the steps by which it sent late.
    """
    late: dict[str, int] = {}
    for path, part in module.named_modules():
        name = class_of(part)
        own: Any = part  # attributes that torch's type does not know
        if name == f"{PACKAGE}neuron.cuba.Neuron":
            own.current_state = torch.zeros(1, device=own.current_state.device)
            own.voltage_state = torch.zeros(1, device=own.voltage_state.device)
        elif name.startswith(_BLOCK):
            if getattr(part, "delay_shift", False):
                late[path or type(part).__name__.lower()] = 1
                own.delay_shift = False
            if "spike_state" in dict(part.named_buffers(recurse=False)):
                own.spike_state = torch.zeros(1, device=own.spike_state.device)
    return late


# ------------------------------------------------------------------ neurons


def _neuron(module: nn.Module) -> NirNode:
    own: Any = module
    neuron: Any = own.neuron
    if neuron.graded_spike:
        raise refuse(module, "sends graded spikes; train with graded_spike=False.")
    leaks = _leaks(module)
    return spiking(
        current_decay=leaks["current_decay"],
        voltage_decay=leaks["voltage_decay"],
        bias=leaks["bias"],
        threshold=np.asarray(neuron.threshold, np.float64),
        fires_at_threshold=False,  # it adds a hundredth of a state unit to the threshold
        grid=float(neuron.w_scale),
    )


def _read_out(module: nn.Module) -> NirNode:
    own: Any = module
    if not own.dynamics:
        return NirNode(PASS_ON, {})
    leaks = _leaks(module)
    return read_out(
        current_decay=leaks["current_decay"],
        voltage_decay=leaks["voltage_decay"],
        bias=leaks["bias"],
        grid=float(own.neuron.w_scale),
    )


def _leaks(module: nn.Module) -> dict[str, np.ndarray]:
    own: Any = module
    neuron: Any = own.neuron
    if class_of(neuron) != f"{PACKAGE}neuron.cuba.Neuron":
        raise refuse(module, f"has neurons of type {type(neuron).__name__}.")
    if hasattr(neuron, "current_decay_min"):
        raise refuse(module, "draws its decays at its first run. Run it once before.")
    if neuron.drop is not None and neuron.drop.training:
        raise refuse(module, "drops spikes in training mode. Call eval() first.")
    decays = {}
    for name in ("current_decay", "voltage_decay"):
        if neuron.requires_grad:
            neuron.clamp()
        decay = np.rint(numbers(getattr(neuron, name))) / neuron.p_scale
        if decay.min() < 0 or decay.max() > 1:
            raise refuse(
                module,
                f"has a {name} from {decay.min():g} to {decay.max():g}, from 0 to 1 is required. "
                "Call its neuron.clamp().",
            )
        decays[name] = _by_channel(decay)
    return {**decays, "bias": _by_channel(_bias(module, neuron))}


def _bias(module: nn.Module, neuron: Any) -> np.ndarray:
    """Return the drive of the voltage: minus the mean that a norm takes off the current."""
    norm = neuron.norm
    if norm is None:
        return np.array(0.0)
    if class_of(norm) != _MEAN:
        raise refuse(
            module,
            f"with norm={type(norm).__name__} scales currents; MeanOnlyBatchNorm can be computed.",
        )
    if norm.training:
        raise refuse(module, "measures a mean in training mode. Call eval() first.")
    mean = norm.running_mean.detach()
    return -numbers(norm.pre_hook_fx(mean))


def _by_channel(values: np.ndarray) -> np.ndarray:
    """Return one number, or one a channel in a shape that a map of any size broadcasts."""
    flat = values.reshape(-1)
    return flat.reshape(()) if flat.size == 1 else flat


# ------------------------------------------------------------------ synapses


def _synapse(module: nn.Module, synapse: Any, source: tuple[int, ...]) -> NirNode:
    """Return a synapse with the weights that it acts with."""
    kind = class_of(synapse).removeprefix(f"{PACKAGE}synapse.layer.")
    mask = getattr(module, "mask", None)
    weight = _on_grid(module, synapse, mask=mask)
    if kind == "Dense":
        return linear(weight.reshape(len(weight), -1))
    stride, padding, dilation = (
        np.asarray(pair[:2], np.float64)
        for pair in (synapse.stride, synapse.padding, synapse.dilation)
    )
    groups = synapse.groups
    if kind == "Pool":
        channels, *size = source[1:4] if len(source) == 5 else (1, *weight.shape[2:])
        window = np.asarray(weight.shape[2:])
        is_tiled = np.all(stride == window) and not padding.any() and np.all(dilation == 1)
        if not is_tiled or np.any(np.asarray(size) % window):
            raise refuse(
                module,
                f"pools a map of {tuple(size)} by windows of {tuple(window.tolist())} with stride "
                f"{tuple(stride.astype(int).tolist())}; windows that tile the map are required, "
                "or lava-dl's reach over channels.",
            )
        weight, groups = np.repeat(weight, channels, axis=0), channels
    elif kind != "Conv":
        raise refuse(module, f"has a synapse of type {kind}.")
    return NirNode(
        "Conv2d",
        {
            "weight": weight,
            "bias": np.array(0.0),
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": np.asarray(groups, np.float64),
        },
    )


def _on_grid(
    module: nn.Module, synapse: Any, *, mask: Tensor | None = None, is_current: bool = True
) -> np.ndarray:
    """Return weights (out, in / groups, KH, KW) as they act: normed, masked and quantised.

    Args:
        module: The block.
        synapse: Its synapse.
        mask: Zeros where the block takes weights away, or None. A norm of weights undoes it.
        is_current: Whether a norm of weights is computed anew at each run.
    """
    hooks = [h for h in synapse._forward_pre_hooks.values() if isinstance(h, WeightNorm)]
    with torch.no_grad():
        weight = synapse.weight
        if hooks and is_current:
            weight = hooks[0].compute_weight(synapse)
        elif mask is not None and not hooks:
            weight = weight * mask
        if synapse.pre_hook_fx is not None:
            weight = synapse.pre_hook_fx(weight)
    own: Any = module
    exact = numbers(weight)
    if np.any(exact * own.neuron.w_scale % 1):
        raise refuse(
            module,
            f"has weights between the steps of 1 / {own.neuron.w_scale}, on which its neurons "
            "count. Leave pre_hook_fx to the block, which quantises them.",
        )
    return exact[..., 0]
