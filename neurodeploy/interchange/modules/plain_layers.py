"""Torch's own layers, and those that frameworks derive from them without another meaning."""

from __future__ import annotations

import numpy as np
from torch import nn

from neurodeploy.interchange.modules.foreign_layer import (
    ForeignLayer,
    class_of,
    linear,
    numbers,
    refuse,
)
from neurodeploy.interchange.nir_schema import BATCH_NORM, MAX_POOL, PASS_ON, NirNode

_SPIKINGJELLY = "spikingjelly.activation_based.layer."
_DROPOUTS = tuple(f"{_SPIKINGJELLY}dropout.{name}" for name in ("Dropout", "Dropout2d"))
_ROCKPOOL_LINEAR = "rockpool.nn.modules.torch.linear_torch.LinearTorch"
_SUM_POOL = "sinabs.layers.pool2d.SumPool2d"


def plain_layer(module: nn.Module, source: tuple[int, ...]) -> ForeignLayer | None:
    """Return a layer without memory, or None if the module is none that is known.

    Args:
        module: The module.
        source: Shape of what it read, batch axes included.

    Raises:
        TraceError: If its settings have no counterpart.
    """
    name = class_of(module)
    if name == _ROCKPOOL_LINEAR:
        bias = getattr(module, "bias", None)
        weight = numbers(module.weight).T
        return ForeignLayer(node=linear(weight, None if bias is None else numbers(bias)))
    if name == _SUM_POOL:
        _require(module, not module.ceil_mode, "with ceil_mode")
        return ForeignLayer(node=_pool("SumPool2d", module.kernel_size, module.stride))
    if name in _DROPOUTS:
        _require(module, not module.training, "in training mode. Call eval() first")
        return ForeignLayer(node=NirNode(PASS_ON, {}))
    is_known = name.startswith(
        ("torch.nn.", f"{_SPIKINGJELLY}stateless_wrapper.", f"{_SPIKINGJELLY}bn.")
    )
    kind = name.rsplit(".", 1)[-1] if is_known else None
    match module:
        case nn.Linear() if kind == "Linear":
            bias = None if module.bias is None else numbers(module.bias)
            return ForeignLayer(node=linear(numbers(module.weight), bias))
        case nn.Conv1d() | nn.Conv2d() if kind in ("Conv1d", "Conv2d"):
            return ForeignLayer(node=_conv(module, kind))
        case nn.BatchNorm1d() | nn.BatchNorm2d() if kind in ("BatchNorm1d", "BatchNorm2d"):
            return ForeignLayer(node=_batch_norm(module))
        case nn.AvgPool2d() if kind == "AvgPool2d":
            _require(module, not module.ceil_mode, "with ceil_mode")
            counts_all = module.count_include_pad or not np.any(module.padding)
            _require(module, counts_all, "with count_include_pad=False and padding")
            _require(module, module.divisor_override is None, "with divisor_override")
            pool = _pool("AvgPool2d", module.kernel_size, module.stride, module.padding)
            return ForeignLayer(node=pool)
        case nn.MaxPool2d() if kind == "MaxPool2d":
            is_plain = not module.ceil_mode and not module.return_indices
            _require(module, is_plain, "with ceil_mode or return_indices")
            _require(module, np.all(np.asarray(module.dilation) == 1), "with dilation")
            return ForeignLayer(
                node=_pool(MAX_POOL, module.kernel_size, module.stride, module.padding)
            )
        case nn.AdaptiveAvgPool2d() if kind == "AdaptiveAvgPool2d":
            return ForeignLayer(node=_adaptive(module, source))
        case nn.Flatten() if kind == "Flatten":
            return ForeignLayer(node=NirNode("Flatten", {}))
        case nn.Identity() | nn.Dropout() | nn.Dropout2d() if kind is not None:
            is_still = isinstance(module, nn.Identity) or not module.training
            _require(module, is_still, "in training mode. Call eval() first")
            return ForeignLayer(node=NirNode(PASS_ON, {}))
    return None


def _require(module: nn.Module, holds: object, cause: str) -> None:
    if not holds:
        raise refuse(module, f"{cause} has no counterpart on the chip.")


def _conv(module: nn.Conv1d | nn.Conv2d, kind: str) -> NirNode:
    _require(module, module.padding_mode == "zeros", f"with padding_mode={module.padding_mode!r}")
    padding = module.padding
    return NirNode(
        kind,
        {
            "weight": numbers(module.weight),
            "bias": np.array(0.0) if module.bias is None else numbers(module.bias),
            "stride": np.asarray(module.stride, np.float64),
            "padding": padding if isinstance(padding, str) else np.asarray(padding, np.float64),
            "dilation": np.asarray(module.dilation, np.float64),
            "groups": np.asarray(module.groups, np.float64),
        },
    )


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d) -> NirNode:
    _require(module, not module.training, "in training mode. Call eval() first; it")
    _require(module, module.running_mean is not None, "without running statistics")
    scale = 1 / np.sqrt(numbers(module.running_var) + module.eps)
    shift = -numbers(module.running_mean) * scale
    if module.affine:
        scale = scale * numbers(module.weight)
        shift = shift * numbers(module.weight) + numbers(module.bias)
    return NirNode(BATCH_NORM, {"scale": scale, "shift": shift})


def _pool(kind: str, kernel: object, stride: object, padding: object = 0) -> NirNode:
    return NirNode(
        kind,
        {
            "kernel_size": np.asarray(kernel, np.float64),
            "stride": np.asarray(kernel if stride is None else stride, np.float64),
            "padding": np.asarray(padding, np.float64),
        },
    )


def _adaptive(module: nn.AdaptiveAvgPool2d, source: tuple[int, ...]) -> NirNode:
    size = np.asarray(source[-2:])
    given = module.output_size
    pair = given if isinstance(given, tuple) else (given, given)
    wanted = np.asarray([n or own for n, own in zip(pair, source[-2:], strict=True)])
    _require(module, np.all(size % wanted == 0), f"from {tuple(size)} to {tuple(wanted)}")
    return _pool("AvgPool2d", size // wanted, size // wanted)
