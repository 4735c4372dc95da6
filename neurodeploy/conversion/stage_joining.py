"""Join the stages of a chain: one layer each, with relays for what later layers read.

A stage holds rows of output channels, each a sum of linear maps of blocks. The maps of a stage lie
on one kernel, and channels of weight 1 carry on what a later stage reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from neurodeploy.conversion.chain import NONE, ChainLayer
from neurodeploy.errors import ConversionError
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.ir.float_layers import (
    Conv,
    Dense,
    Shape,
)
from neurodeploy.netx.schema import GEOMETRY_MAX
from neurodeploy.passes.folding import join_groups

INPUT_STAGE = -1
"""Stage that holds the frame itself."""


@dataclass(frozen=True, slots=True)
class ChannelBlock:
    """Channels of one stage: `first` to `first + count` of its own."""

    stage: int
    first: int
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class BlockSum:
    """A tensor as a sum of blocks, each with one coefficient a channel.

    `is_signed` says whether the sum may be negative.
    """

    parts: tuple[tuple[ChannelBlock, FloatArray], ...]
    shape: Shape
    is_signed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class LinearTerm:
    """A linear map of a value; None for the value itself."""

    synapse: Conv | Dense | None
    value: BlockSum


@dataclass(frozen=True, slots=True, eq=False)
class LinearSum:
    """A tensor that is not computed yet: linear maps of values, and a bias a channel."""

    terms: tuple[LinearTerm, ...]
    bias: FloatArray
    shape: Shape


@dataclass(frozen=True, slots=True, eq=False)
class StageRows:
    """Output channels of a stage: sign · (sum + offset), rectified."""

    sum: LinearSum
    sign: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class ChainStage:
    """One layer of the chain without its relays."""

    name: str
    rows: tuple[StageRows, ...]
    keeps_scale: bool = False
    is_pool: bool = False
    is_pair: bool = False

    @property
    def shape(self) -> Shape:
        """Shape of its own channels."""
        first = self.rows[0].sum.shape
        return (sum(rows.sum.shape[0] for rows in self.rows), *first[1:])


def blocks_read(stage: ChainStage) -> set[ChannelBlock]:
    """Return the blocks that a stage reads."""
    return {
        block for rows in stage.rows for term in rows.sum.terms for block, _ in term.value.parts
    }


@dataclass(frozen=True, slots=True, eq=False)
class ChannelLayout:
    """The channels that a layer sends: where each block begins, and how it was thinned out."""

    shape: Shape
    offsets: Mapping[ChannelBlock, int]
    strides: Mapping[ChannelBlock, tuple[int, int]]

    @classmethod
    def of_input(cls, shape: Shape) -> ChannelLayout:
        """Return the layout of a frame."""
        block = ChannelBlock(INPUT_STAGE, 0, shape[0])
        return cls(shape, {block: 0}, {block: (1, 1)})

    @property
    def blocks(self) -> tuple[ChannelBlock, ...]:
        """All blocks, in order."""
        return tuple(self.offsets)


@dataclass(frozen=True, slots=True)
class KernelGeometry:
    """The kernel that all maps of a stage share; None for a dense layer."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


def join_stage(
    stage: ChainStage, index: int, layout: ChannelLayout, carried: Sequence[ChannelBlock]
) -> tuple[ChainLayer, ChannelLayout]:
    """Return the layer of a stage with its relays, and the layout of what it sends."""
    terms = [term for rows in stage.rows for term in rows.sum.terms]
    is_dense = any(isinstance(term.synapse, Dense) for term in terms) or (
        len(layout.shape) == 1 or len(stage.shape) == 1
    )
    own, inputs = stage.shape[0], layout.shape[0]
    outputs = own + sum(block.count for block in carried)
    tied = np.full(outputs, NONE)
    identity = np.full(outputs, NONE)
    partner = np.arange(outputs)
    bias = np.zeros(outputs)
    geometry = None if is_dense else _geometry_of(stage, layout)
    if geometry is None:
        if carried and len(layout.shape) > 1 and prod(layout.shape[1:]) > 1:
            raise ConversionError(
                f"{stage.name}: a skip connection passes over a linear layer that reads maps. Only "
                "skips over convolutions, or over linear layers of vectors, can be relayed."
            )
        weight = np.zeros((outputs, inputs, prod(layout.shape[1:])))
    else:
        weight = np.zeros((outputs, inputs, *geometry.kernel))
    row = 0
    for rows in stage.rows:
        count = rows.sum.shape[0]
        for term in rows.sum.terms:
            for block, factor in term.value.parts:
                columns = slice(layout.offsets[block], layout.offsets[block] + block.count)
                placed = _placed(stage.name, term, block, factor, layout, geometry)
                weight[row : row + count, columns] += rows.sign * placed
                if term.synapse is None and rows.sign > 0 and (factor > 0).all():
                    identity[row : row + count] = (
                        columns.start + np.arange(count) * block.count // count
                    )
        bias[row : row + count] = rows.sign * (rows.sum.bias + rows.offset)
        if stage.is_pair:
            partner[row : row + count] = np.arange(count)
        row += count
    if stage.keeps_scale:
        identity[:] = NONE
        reads = (weight.reshape(outputs, inputs, -1) != 0).any(axis=2)
        tied[:own] = np.argmax(reads[:own], axis=1)
    offsets: dict[ChannelBlock, int] = {}
    strides: dict[ChannelBlock, tuple[int, int]] = {}
    row = 0
    for rows in stage.rows:
        block = ChannelBlock(index, row, rows.sum.shape[0])
        offsets[block], strides[block] = row, (1, 1)
        row += block.count
    for block in carried:
        places = np.arange(block.count)
        tap = (0,) if geometry is None else _centre(geometry, stage, layout)
        weight[(row + places, layout.offsets[block] + places, *tap)] = 1.0
        tied[row : row + block.count] = layout.offsets[block] + places
        offsets[block] = row
        before = layout.strides[block]
        step = (1, 1) if geometry is None else geometry.stride
        strides[block] = (before[0] * step[0], before[1] * step[1])
        row += block.count
    partner[own:] = own + np.arange(outputs - own)
    shape = (outputs, *stage.shape[1:]) if geometry is not None else (outputs,)
    layer = ChainLayer(
        name=stage.name,
        synapse=_synapse(weight, bias, geometry),
        source=layout.shape,
        shape=shape,
        tied=tied,
        identity=identity,
        partner=partner,
        is_pool=stage.is_pool,
    )
    found = layer.synapse.output_shape(layout.shape)
    if found != shape:
        raise ConversionError(
            f"{stage.name}: its branches do not lie on each other: {found} is computed, {shape} "
            "expected. Pad both by half of odd kernels."
        )
    return layer, ChannelLayout(shape, offsets, strides)


def _synapse(weight: FloatArray, bias: FloatArray, geometry: KernelGeometry | None) -> Conv | Dense:
    if geometry is None:
        return Dense(weight=weight.reshape(len(weight), -1), bias=bias)
    outputs, inputs = weight.shape[:2]
    groups = 1
    diagonal = np.eye(outputs, dtype=bool)
    if outputs == inputs and not weight[~diagonal[: len(weight)]].any() and outputs > 1:
        groups = outputs
        weight = weight[diagonal][:, None]
        if groups > GEOMETRY_MAX:
            fewer = max(n for n in range(1, GEOMETRY_MAX + 1) if groups % n == 0)
            weight, groups = join_groups(weight, groups, groups // fewer), fewer
    return Conv(
        weight=weight,
        bias=bias,
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=groups,
    )


def _geometry_of(stage: ChainStage, layout: ChannelLayout) -> KernelGeometry:
    """Return a kernel on which the kernels of all terms lie."""
    found: list[KernelGeometry] = []
    for rows in stage.rows:
        for term in rows.sum.terms:
            for block, _ in term.value.parts:
                found.append(_own_geometry(stage.name, term, layout.strides[block]))
    main = max(found, key=lambda one: prod(one.kernel))
    padding = tuple(max(one.padding[axis] for one in found) for axis in (0, 1))
    kernel = [0, 0]
    for one in found:
        same = [
            one.stride[axis] == main.stride[axis]
            and (one.kernel[axis] == 1 or one.dilation[axis] == main.dilation[axis])
            and (padding[axis] - one.padding[axis]) % main.dilation[axis] == 0
            for axis in (0, 1)
        ]
        if not all(same):
            raise ConversionError(
                f"{stage.name}: adds branches of stride {main.stride} and {one.stride}, kernel "
                f"{main.kernel} and {one.kernel}; the kernels must lie on each other. A 1x1 "
                "convolution of the same stride does."
            )
        for axis in (0, 1):
            offset = (padding[axis] - one.padding[axis]) // main.dilation[axis]
            kernel[axis] = max(kernel[axis], offset + one.kernel[axis])
    # Taps beyond the kernels, so that every output lies where it should.
    for axis in (0, 1):
        size = layout.shape[axis + 1] + 2 * padding[axis]
        wanted = stage.shape[axis + 1]
        step, dilation = main.stride[axis], main.dilation[axis]
        while (size - dilation * (kernel[axis] - 1) - 1) // step + 1 > wanted:
            kernel[axis] += 1
    if max(kernel) > GEOMETRY_MAX:
        raise ConversionError(
            f"{stage.name}: a kernel of {tuple(kernel)}; Lava holds {GEOMETRY_MAX} at most along "
            "each axis. Use smaller kernels in a row, or a pool before it."
        )
    return KernelGeometry(
        (kernel[0], kernel[1]), main.stride, (padding[0], padding[1]), main.dilation
    )


def _own_geometry(name: str, term: LinearTerm, thinned: tuple[int, int]) -> KernelGeometry:
    conv = term.synapse
    if conv is None:
        conv = Conv(weight=np.ones((1, 1, 1, 1)))
    assert isinstance(conv, Conv)
    kernel = (conv.weight.shape[2], conv.weight.shape[3])
    stride = []
    for axis in (0, 1):
        if thinned[axis] == 1:
            stride.append(conv.stride[axis])
            continue
        step, rest = divmod(conv.stride[axis], thinned[axis])
        if rest or kernel[axis] != 1 or conv.padding[axis]:
            raise ConversionError(
                f"{name}: reads a skip connection over stride {thinned[axis]} with kernel "
                f"{kernel} and stride {conv.stride}; the path that it skips leaves only every "
                f"{thinned[axis]}nd pixel. A 1x1 convolution of the same stride does."
            )
        stride.append(step)
    return KernelGeometry(kernel, (stride[0], stride[1]), conv.padding, conv.dilation)


def _centre(geometry: KernelGeometry, stage: ChainStage, layout: ChannelLayout) -> tuple[int, int]:
    """Return the tap that passes every pixel of a skip connection on."""
    taps = []
    for axis in (0, 1):
        tap, rest = divmod(geometry.padding[axis], geometry.dilation[axis])
        needed = -(-layout.shape[axis + 1] // geometry.stride[axis])
        if rest or tap >= geometry.kernel[axis] or stage.shape[axis + 1] < needed:
            raise ConversionError(
                f"{stage.name}: with kernel {geometry.kernel} and padding {geometry.padding} it "
                f"makes {stage.shape[1:]} of {layout.shape[1:]} pixels, so that a skip connection "
                "cannot pass over it with all of its pixels. Pad by half of an odd kernel."
            )
        taps.append(tap)
    return taps[0], taps[1]


def _placed(
    name: str,
    term: LinearTerm,
    block: ChannelBlock,
    factor: FloatArray,
    layout: ChannelLayout,
    geometry: KernelGeometry | None,
) -> FloatArray:
    """Return a term's weights for one block, on the taps of the stage's kernel."""
    if geometry is None:
        positions = prod(layout.shape[1:])
        if term.synapse is None:
            weight = np.eye(block.count * positions).reshape(-1, block.count, positions)
        else:
            assert isinstance(term.synapse, Dense)
            weight = term.synapse.weight.reshape(-1, block.count, positions)
        return np.asarray(weight * factor[:, None])
    own = _own_geometry(name, term, layout.strides[block])
    if term.synapse is None:
        weight = np.eye(block.count)[:, :, None, None]
    else:
        assert isinstance(term.synapse, Conv)
        conv = term.synapse
        weight = conv.weight
        if conv.groups > 1:
            weight = join_groups(weight, conv.groups, conv.groups)
    taps = [
        slice(offset, offset + own.kernel[axis])
        for axis in (0, 1)
        for offset in [(geometry.padding[axis] - own.padding[axis]) // geometry.dilation[axis]]
    ]
    placed = np.zeros((*weight.shape[:2], *geometry.kernel))
    placed[:, :, taps[0], taps[1]] = weight * factor[:, None, None]
    return placed
