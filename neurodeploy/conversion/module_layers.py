"""The layers of a float graph that torch's modules and functions are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from neurodeploy.fixedpoint import FloatArray
from neurodeploy.ir.float_layers import (
    AveragePool,
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    Rectifier,
    Shape,
    on_two_axes,
)
from neurodeploy.onnx_models.rectified_nodes import ADVICE, NO_PLACE

_PASSED = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
_DROPOUT = ("dropout", "dropout1d", "dropout2d", "alpha_dropout")
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("relu", "relu_", "relu6", "contiguous", "float", "detach", "clone"), ()),
    "flatten": ("start_dim", "end_dim"),
    **dict.fromkeys(("view", "reshape", "squeeze"), ()),
    "mean": ("dim", "keepdim"),
    "leaky_relu": ("negative_slope",),
    "prelu": ("weight",),
    "hardtanh": ("min_val", "max_val"),
    **dict.fromkeys(("clamp", "clip"), ("min", "max")),
    "clamp_min": ("min",),
    "max_pool2d": ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    "avg_pool2d": (
        *("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
        "divisor_override",
    ),
    "adaptive_avg_pool2d": ("output_size",),
    "conv2d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
    "linear": ("weight", "bias"),
    "batch_norm": (
        *("running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    ),
    **dict.fromkeys(_DROPOUT, ("p", "training")),
}
"""Functions and methods that are layers, and the names of their arguments behind the tensor."""
_ONNX_NAMES = {
    **{name.lower(): name for name in ADVICE},
    "silu": "Swish",
    "cat": "Concat",
    "interpolate": "Resize",
    "groupnorm": "GroupNormalization",
    **dict.fromkeys(("layernorm", "layer_norm"), "LayerNormalization"),
    **dict.fromkeys(("convtranspose1d", "convtranspose2d"), "ConvTranspose"),
    **dict.fromkeys(("instancenorm1d", "instancenorm2d"), "InstanceNormalization"),
}


class UnfitError(Exception):
    """A module or function without a place in the network, with the reason."""


def advice_on(name: str) -> str:
    """Return the way out for a module or function that has no place in the network."""
    return ADVICE.get(_ONNX_NAMES.get(name.lower(), ""), NO_PLACE)


def layer_of_module(module: nn.Module, source: Shape, result: Shape) -> Layer | None:
    """Return the layer that a module is, from one shape to another; None where it does nothing.

    Raises:
        UnfitError: If it has no place in a network of rectified layers.
    """
    match module:
        case _ if isinstance(module, _PASSED):
            return None
        case nn.Conv1d() | nn.Conv2d():
            return _conv(
                weight=module.weight,
                bias=module.bias,
                stride=module.stride,
                padding=module.padding,
                dilation=module.dilation,
                groups=module.groups,
                padding_mode=module.padding_mode,
            )
        case nn.Linear():
            return _dense(source, module.weight, module.bias)
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            mean, variance = module.running_mean, module.running_var
            return _batch_norm(mean, variance, module.weight, module.bias, module.eps)
        case nn.ReLU():
            return Rectifier()
        case nn.Hardtanh():  # ReLU6 is one
            return _clip(module.min_val, module.max_val)
        case nn.LeakyReLU():
            return Rectifier(slope=float(module.negative_slope))
        case nn.PReLU():
            return Rectifier(slope=_array(module.weight))
        case nn.MaxPool2d() | nn.AvgPool2d():
            return _pool(module, source, result)
        case nn.AdaptiveAvgPool2d():
            return _adaptive(source, result)
        case nn.Flatten():
            return _reshaped(source, result)
    raise UnfitError(advice_on(type(module).__name__))


def layer_of_function(
    name: str, given: Mapping[str, Any], source: Shape, result: Shape
) -> Layer | None:
    """Return the layer that a function or method is; None where it does nothing.

    Args:
        name: One of `ARGUMENTS`.
        given: Its arguments by these names, parameters as tensors.
        source: Shape of the tensor that it reads.
        result: Shape of its result.

    Raises:
        UnfitError: If it has no place in a network of rectified layers.
    """
    given = {key: value for key, value in given.items() if key != "inplace"}
    modules: dict[str, Callable[..., nn.Module]] = {
        **dict.fromkeys(("relu", "relu_"), nn.ReLU),
        "relu6": nn.ReLU6,
        "leaky_relu": nn.LeakyReLU,
        "hardtanh": nn.Hardtanh,
        "max_pool2d": nn.MaxPool2d,
        "avg_pool2d": nn.AvgPool2d,
    }
    if name in modules:
        return layer_of_module(modules[name](**given), source, result)
    match name:
        case "prelu":
            return Rectifier(slope=_array(given["weight"]))
        case "clamp" | "clip" | "clamp_min":
            return _clip(given.get("min"), given.get("max"))
        case "adaptive_avg_pool2d":
            return _adaptive(source, result)
        case "mean":
            return _mean(given, source)
        case "conv2d":
            return _conv(**given)
        case "linear":
            return _dense(source, given["weight"], given.get("bias"))
        case "batch_norm":
            if given.get("training", False):
                raise UnfitError("takes statistics of the frame; give training=self.training.")
            mean, variance = given["running_mean"], given["running_var"]
            weight, bias = given.get("weight"), given.get("bias")
            return _batch_norm(mean, variance, weight, bias, given.get("eps", 1e-5))
        case _ if name in _DROPOUT:
            # all but one of these functions drop unless they are told not to
            if given.get("training", name != "alpha_dropout") and given.get("p", 0.5):
                raise UnfitError("drops values in use as well; give training=self.training.")
            return None
    return _reshaped(source, result)


def _array(tensor: torch.Tensor) -> FloatArray:
    return tensor.detach().cpu().double().numpy()


def _optional(tensor: torch.Tensor | None) -> FloatArray | None:
    return None if tensor is None else _array(tensor)


def _conv(
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Layer:
    kernel = tuple(weight.shape[2:])
    steps = _each(dilation, len(kernel))
    if padding_mode != "zeros" or (padding == "same" and any(size % 2 == 0 for size in kernel)):
        raise UnfitError(f"pads with mode '{padding_mode}' or unequal sides; zeros are possible.")
    if padding == "same":
        padding = [(size - 1) * step // 2 for size, step in zip(kernel, steps, strict=True)]
    elif isinstance(padding, str):
        padding = 0
    values = _array(weight)
    return Conv(
        weight=values if values.ndim == 4 else values[:, :, None],
        bias=_optional(bias),
        stride=on_two_axes(_each(stride, len(kernel)), 1),
        padding=on_two_axes(_each(padding, len(kernel)), 0),
        dilation=on_two_axes(steps, 1),
        groups=groups,
    )


def _dense(source: Shape, weight: torch.Tensor, bias: torch.Tensor | None) -> Layer:
    if len(source) != 2:
        raise UnfitError(f"reads {source}; vectors are possible. Flatten before it.")
    return Dense(weight=_array(weight), bias=_optional(bias))


def _batch_norm(
    mean: torch.Tensor | None,
    variance: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    epsilon: float,
) -> Layer:
    if mean is None or variance is None:
        raise UnfitError("has no running statistics; train it with them.")
    scale: FloatArray = 1 / np.sqrt(_array(variance) + epsilon)
    shift = -_array(mean) * scale
    if weight is not None:
        scale, shift = scale * _array(weight), shift * _array(weight)
    if bias is not None:
        shift = shift + _array(bias)
    return BatchNorm(scale=scale, shift=shift)


def _clip(low: Any, high: Any) -> Layer:
    numbers = [one for one in (low, high) if one is not None]
    if not all(isinstance(one, int | float) for one in numbers):
        raise UnfitError("clips to computed values; numbers are possible.")
    if low != 0 or (high is not None and high <= 0):
        raise UnfitError(f"clips to {low} to {high}; 0 to a positive value is possible.")
    return Rectifier(ceiling=None if high is None else float(high))


def _pool(module: nn.MaxPool2d | nn.AvgPool2d, source: Shape, result: Shape) -> Layer:
    kernel = _both(module.kernel_size)
    stride = _both(module.stride or kernel)
    padding = _both(module.padding)
    make: Callable[..., Layer] = AveragePool
    if isinstance(module, nn.MaxPool2d):
        make = MaxPool
        if _both(module.dilation) != (1, 1):
            raise UnfitError("has gaps in its windows.")
    else:
        if any(padding) and not module.count_include_pad:
            raise UnfitError("leaves padding out of its means; use count_include_pad=True.")
        if module.divisor_override not in (None, prod(kernel)):
            raise UnfitError("divides by another number than its window has; leave that out.")
    layer = make(kernel=kernel, stride=stride, padding=padding)
    if layer.output_shape(source[1:]) != result[1:]:
        raise UnfitError("windows reach over the border (ceil_mode); use windows that fit.")
    return layer


def _adaptive(source: Shape, result: Shape) -> Layer:
    kernel = []
    for size, wanted in zip(source[2:], result[2:], strict=True):
        if size % wanted:
            raise UnfitError(f"windows of {source[2:]} for {result[2:]} differ in size.")
        kernel.append(size // wanted)
    return AveragePool(kernel=(kernel[0], kernel[1]), stride=(kernel[0], kernel[1]))


def _mean(given: Mapping[str, Any], source: Shape) -> Layer:
    dims = given.get("dim", range(len(source)))
    axes = sorted(dim % len(source) for dim in ([dims] if isinstance(dims, int) else dims))
    if len(source) != 4 or axes != [2, 3]:
        raise UnfitError(f"takes the mean over axes {axes}; those of the image are possible.")
    return AveragePool(kernel=(source[2], source[3]), stride=(1, 1))


def _reshaped(source: Shape, result: Shape) -> Layer | None:
    if source == result:
        return None
    if len(result) != 2 or result[0] != 1 or prod(result) != prod(source):
        raise UnfitError(f"makes {result} of {source}; only vectors can be made of maps.")
    return Flatten()


def _both(value: int | Sequence[int]) -> tuple[int, int]:
    numbers = _each(value, 2)
    return numbers[0], numbers[-1]


def _each(value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """Return a number for each axis: one number stands for all of them."""
    numbers = (value,) if isinstance(value, int) else tuple(int(one) for one in value)
    return numbers * axes if len(numbers) == 1 else numbers
