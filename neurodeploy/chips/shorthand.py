"""Networks as one line of text: sizes enough for an estimate, before there is a file.

784-256-10                          dense layers of 256 and 10 neurons on 784 inputs
3x66x200-24c3s2-36c3s2-100-10       convolutions: channels, c, kernel; s stride, p padding,
                                    d dilation, g groups; "s2,1" is rows and columns
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod

import numpy as np

from neurodeploy.chips.layer_sizes import LayerSize, conv_instances
from neurodeploy.errors import GraphError
from neurodeploy.ir.integer_layers import FixedConv, Shape

_INPUT = re.compile(r"\d+(x\d+x\d+)?")
_DENSE = re.compile(r"\d+")
_CONV = re.compile(
    r"(?P<channels>\d+)c(?P<kernel>\d+(,\d+)?)(?P<options>([spdg]\d+(,\d+)?)*)", re.IGNORECASE
)
_OPTION = re.compile(r"([spdg])(\d+(?:,\d+)?)", re.IGNORECASE)


def parse_sketch(text: str, *, weight_bits: int = 8) -> tuple[LayerSize, ...]:
    """Read a network written as one line.

    Args:
        text: Input and layers, joined by "-".
        weight_bits: Bits of every weight, sign included.

    Returns:
        Sizes of the layers, the input left out.

    Raises:
        GraphError: If a part cannot be read or does not fit the one before it.
    """
    first, *rest = (part.strip() for part in text.split("-"))
    if not _INPUT.fullmatch(first) or not rest:
        raise GraphError(
            f"shapes '{text}': an input (N or CxHxW) and at least one layer are required, joined "
            "by '-', as in 784-256-10 or 3x66x200-24c3s2-100-10."
        )
    shape: Shape = tuple(int(size) for size in first.split("x"))
    if min(shape) < 1:
        raise GraphError(f"shapes '{text}': an input without values.")
    layers = []
    counts = {"conv": 0, "dense": 0}
    for part in rest:
        kind = "dense" if _DENSE.fullmatch(part) else "conv"
        counts[kind] += 1
        name = f"{kind}{counts[kind]}"
        layer = (
            _dense(part, name, shape, weight_bits)
            if kind == "dense"
            else _conv(part, name, shape, weight_bits)
        )
        layers.append(layer)
        shape = layer.shape
    return tuple(layers)


def _dense(part: str, name: str, source: Shape, weight_bits: int) -> LayerSize:
    if int(part) < 1:
        raise GraphError(f"shapes: '{part}': a layer needs a neuron.")
    return LayerSize(name=name, shape=(int(part),), inputs=prod(source), weight_bits=weight_bits)


def _conv(part: str, name: str, source: Shape, weight_bits: int) -> LayerSize:
    found = _CONV.fullmatch(part)
    if found is None:
        raise GraphError(
            f"shapes: '{part}' is neither a number of neurons nor a convolution such as 24c3s2p1."
        )
    options = {key.lower(): _pair(value) for key, value in _OPTION.findall(found["options"])}
    groups = options.get("g", (1, 1))[0]
    channels, kernel = int(found["channels"]), _pair(found["kernel"])
    if len(source) != 3 or groups < 1 or source[0] % groups or channels < 1:
        raise GraphError(
            f"shapes: '{part}' cannot read a source of shape {'x'.join(map(str, source))}."
        )
    geometry = FixedConv(
        weight=np.broadcast_to(np.int32(0), (channels, source[0] // groups, *kernel)),
        stride=options.get("s", (1, 1)),
        padding=options.get("p", (0, 0)),
        dilation=options.get("d", (1, 1)),
        groups=groups,
    )
    shape = geometry.output_shape(source)
    return LayerSize(
        name=name,
        shape=shape,
        synapses=conv_instances(geometry.weight.shape, source, shape, geometry),
        weight_bits=weight_bits,
    )


def _pair(text: str) -> tuple[int, int]:
    numbers: Sequence[int] = [int(number) for number in text.split(",")]
    return numbers[0], numbers[-1]
