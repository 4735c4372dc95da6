"""Layers of ours from nodes of NIR, and parameters in the shapes that they take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from neurodeploy.errors import InterchangeError
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.interchange.canonical_neuron import CanonicalNeuron
from neurodeploy.interchange.nir_schema import NirNode
from neurodeploy.ir.float_layers import BatchNorm, Conv, Dense, Shape

_IDENTITY_MAX = 1 << 13
"""Neurons whose identity is written as a matrix."""


def dense_of(node: NirNode) -> Dense:
    """Return a Linear or an Affine."""
    weight = node.array("weight")
    if weight.ndim != 2:
        raise InterchangeError(f"weight of shape {weight.shape}, (out, in) is required.")
    return Dense(weight=weight, bias=_bias(node, weight.shape[0]))


def _bias(node: NirNode, channels: int) -> FloatArray | None:
    if "bias" not in node.values:
        return None
    bias = np.ravel(node.array("bias"))
    if bias.size not in (1, channels):
        raise InterchangeError(f"bias of {bias.size} values, {channels} are required.")
    return np.broadcast_to(bias, (channels,)).copy() if np.any(bias) else None


def conv_of(node: NirNode) -> Conv:
    """Return a Conv2d, or a Conv1d as one over images of height 1."""
    weight = node.array("weight")
    is_flat = node.kind == "Conv1d"
    if weight.ndim != (3 if is_flat else 4):
        raise InterchangeError(
            f"weight of shape {weight.shape}, (out, in / groups, {'K' if is_flat else 'KH, KW'}) "
            "is required."
        )

    def two(name: str) -> tuple[int, int]:
        return pair(node.array(name), name, axes=1 if is_flat else 2)

    stride, dilation = two("stride"), two("dilation")
    if is_flat:
        weight = weight[:, :, None, :]
        stride, dilation = (1, stride[1]), (1, dilation[1])
    groups = _integer(node.array("groups"), "groups")
    if min(*stride, *dilation, groups) < 1 or weight.shape[0] % groups:
        raise InterchangeError(
            f"stride {stride}, dilation {dilation}, {groups} groups of {weight.shape[0]} channels: "
            "each must be at least 1, and groups divide the channels."
        )
    word = node.values["padding"]
    if not isinstance(word, str):
        padding = two("padding")
        padding = (0, padding[1]) if is_flat else padding
    elif word == "same":
        if stride != (1, 1):
            raise InterchangeError(f"padding 'same' with stride {stride}; stride 1 is required.")
        weight, dilation, padding = _same(weight, dilation)
    else:
        padding = (0, 0)
    if min(padding) < 0:
        raise InterchangeError(f"padding {padding}, at least 0 is required.")
    return Conv(
        weight=weight,
        bias=_bias(node, weight.shape[0]),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def _same(
    weight: FloatArray, dilation: tuple[int, int]
) -> tuple[FloatArray, tuple[int, int], tuple[int, int]]:
    """Return weight, dilation and symmetric padding whose output is as large as the input.

    Where the padding of an axis is odd, its larger side comes last: the kernel is written out
    with its dilation, and gets a row of zeros in front.
    """
    dilations, paddings = list(dilation), [0, 0]
    for axis in (0, 1):
        total = dilation[axis] * (weight.shape[axis + 2] - 1)
        if total % 2:
            shape = list(weight.shape)
            shape[axis + 2] = total + 2
            spread = np.zeros(shape)
            place = [slice(None)] * 4
            place[axis + 2] = slice(1, None, dilation[axis])
            spread[tuple(place)] = weight
            weight, dilations[axis], total = spread, 1, total + 1
        paddings[axis] = total // 2
    return weight, (dilations[0], dilations[1]), (paddings[0], paddings[1])


def identity_synapse(shape: Shape, factor: FloatArray | float) -> Dense | Conv:
    """Return a synapse from each neuron to the one at its place, with a weight each."""
    full = np.broadcast_to(factor, shape)
    if len(shape) == 1:
        if full.size > _IDENTITY_MAX:
            raise InterchangeError(f"{full.size} neurons side by side, at most {_IDENTITY_MAX}.")
        return Dense(weight=np.diag(full))
    rows = full.reshape(shape[0], -1)
    if np.ptp(rows, axis=1).max() > 0:
        raise InterchangeError("a factor that differs between pixels of a map.")
    return Conv(weight=rows[:, :1, None, None].copy(), groups=shape[0])


def scale_columns(layer: Dense | Conv, factor: FloatArray, shape: Shape) -> Dense | Conv:
    """Multiply the weights of each input of a layer by its factor; the source has `shape`."""
    if isinstance(layer, Dense):
        full = np.broadcast_to(factor, shape)
        if layer.weight.shape[1] != full.size:
            raise InterchangeError(f"it reads {layer.weight.shape[1]} of {full.size} values.")
        return replace(layer, weight=layer.weight * full.reshape(1, -1))
    rows = np.broadcast_to(by_channel(factor, shape, "a convolution"), (shape[0], 1, 1))
    if rows.size != layer.weight.shape[1] * layer.groups:
        raise InterchangeError(f"it reads {layer.weight.shape[1] * layer.groups} channels.")
    out = layer.weight.shape[0] // layer.groups
    columns = np.repeat(rows.reshape(layer.groups, -1), out, axis=0)
    return replace(layer, weight=layer.weight * columns[:, :, None, None])


def scale_rows(layer: Dense | Conv | BatchNorm, rows: FloatArray) -> Dense | Conv | BatchNorm:
    """Multiply every output of a layer by a factor: one, one a channel, or one a neuron."""
    channels = len(layer.scale if isinstance(layer, BatchNorm) else layer.weight)
    if np.ndim(rows) == 3:
        by_channel = np.broadcast_to(rows, (channels, *rows.shape[1:])).reshape(channels, -1)
        if np.ptp(by_channel, axis=1).max() > 0:
            raise InterchangeError("gains that differ inside a channel of a convolution.")
        rows = by_channel[:, 0]
    rows = np.broadcast_to(rows, (channels,))
    if isinstance(layer, BatchNorm):
        return replace(layer, scale=layer.scale * rows, shift=layer.shift * rows)
    weight = layer.weight * rows.reshape(-1, *(1,) * (layer.weight.ndim - 1))
    return replace(layer, weight=weight, bias=None if layer.bias is None else layer.bias * rows)


def one_threshold(neuron: CanonicalNeuron, shape: Shape) -> tuple[float | None, FloatArray]:
    """Return one threshold in units of the input, and what that asks of each row of weights."""
    if neuron.threshold is None:
        return None, np.array(1.0)
    try:
        ratio = neuron.threshold / neuron.gain
    except ValueError as error:
        raise InterchangeError(f"v_threshold and r of different shapes: {error}.") from error
    threshold = fit_parameter(ratio, shape, "v_threshold")
    chosen = float(threshold.flat[0])
    rows = chosen / threshold
    if len(shape) == 3 and threshold.ndim == 3:
        by_channel = np.broadcast_to(rows, shape).reshape(shape[0], -1)
        if np.ptp(by_channel, axis=1).max() > 0:
            raise InterchangeError(
                "v_threshold or r differs inside a channel; one value a channel is required."
            )
        rows = by_channel[:, 0].reshape(-1, 1, 1)
    return chosen, np.array(1.0) if np.all(rows == 1) else rows


def fit_parameter(values: FloatArray, shape: Shape, name: str) -> FloatArray:
    """Return a parameter in a shape that broadcasts to the layer's: () , (N,), or with C first."""
    values = np.asarray(values)
    if values.size == 1:
        return values.reshape(())
    candidates: list[Callable[[], FloatArray]] = [lambda: values.reshape(shape)]
    if values.ndim == 3 and len(shape) == 3:
        candidates.append(lambda: np.broadcast_to(values, shape))
    elif len(shape) == 3 and values.size == shape[0]:
        candidates.append(lambda: values.reshape(-1, 1, 1))
    for candidate in candidates:
        try:
            return candidate()
        except ValueError:
            continue
    raise InterchangeError(
        f"{name} of shape {values.shape} does not fit the layer's shape {shape}."
    )


def compact_parameter(values: FloatArray, shape: Shape, name: str) -> float | FloatArray:
    """Return one number if all are equal, one a channel if a channel's are, else all."""
    fitted = fit_parameter(values, shape, name)
    if np.ptp(fitted) == 0:
        return float(fitted.flat[0])
    if fitted.ndim == 3:
        rows = np.broadcast_to(fitted, shape).reshape(shape[0], -1)
        if np.ptp(rows, axis=1).max() == 0:
            return rows[:, 0].reshape(-1, 1, 1)
    return fitted


def _integer(values: FloatArray, name: str) -> int:
    numbers = [int(value) for value in np.ravel(values)]
    if len(numbers) != 1:
        raise InterchangeError(f"{name} of {len(numbers)} values, one is required.")
    return numbers[0]


def pair(values: FloatArray, name: str, axes: int = 2) -> tuple[int, int]:
    """Return (H, W) of one or two integers; of a convolution over one axis, W alone matters."""
    numbers = [int(value) for value in np.ravel(values)]
    if len(numbers) not in (1, axes):
        raise InterchangeError(f"{name} of {len(numbers)} values, 1 or {axes} are required.")
    return numbers[0], numbers[-1]


def pool_geometry(node: NirNode) -> dict[str, tuple[int, int]]:
    """Return kernel, stride and padding of a pool."""
    kernel = pair(node.array("kernel_size"), "kernel_size")
    stride, padding = pair(node.array("stride"), "stride"), pair(node.array("padding"), "padding")
    if min(*kernel, *stride) < 1 or min(padding) < 0:
        raise InterchangeError(f"kernel {kernel}, stride {stride}: at least 1 is required.")
    return {"kernel": kernel, "stride": stride, "padding": padding}


def by_channel(factor: FloatArray, shape: Shape, reader: str) -> FloatArray:
    """Return a factor as one number or as (C, 1, 1)."""
    if factor.ndim == 0 or len(shape) != 3:
        return factor
    full = np.broadcast_to(factor, shape)
    if np.ptp(full.reshape(shape[0], -1), axis=1).max() > 0:
        raise InterchangeError(f"a scale that differs between pixels before {reader}.")
    return full[:, :1, :1]
