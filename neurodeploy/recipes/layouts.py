"""From the name of an architecture to its layers, and the shapes they give.

Every architecture is a row of named layers; a residual block is one of them. To add one: a
dataclass with its keys in `network_sections`, a function here that returns its `Layout`, and a line
in `layout_of`.

Source: ResNet-18, -34 and the CIFAR ResNet-20: He et al., "Deep Residual Learning for Image
Recognition", CVPR 2016. Spiking ResNet-19: Zheng et al., "Going Deeper With Directly-Trained
Larger Spiking Neural Networks", AAAI 2021. VGG: Simonyan and Zisserman, ICLR 2015 (A and D).
CIFARNet: Wu et al., "Direct Training for Spiking Neural Networks", AAAI 2019.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from neurodeploy.errors import RecipeError
from neurodeploy.recipes.network_sections import (
    AveragePoolLayer,
    CifarNetwork,
    ConvLayer,
    DenseLayer,
    GlobalAveragePoolLayer,
    LayerSection,
    MaxPoolLayer,
    MlpNetwork,
    NetworkSection,
    NeuronLayer,
    PlainNetwork,
    PlainStages,
    ResidualKind,
    ResidualLayer,
    ResidualNetwork,
    ResidualStages,
    SequentialNetwork,
    VggNetwork,
)

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The layers of a network.

    Attributes:
        layers: In order; each has a name.
        readout: "linear" or "gap_linear".
        blocks: Names of the layers that count as blocks for shortcut branches, in order.
        stages: Names of the last block of each stage; empty where there are no stages.
    """

    layers: tuple[LayerSection, ...]
    readout: Literal["linear", "gap_linear"]
    blocks: tuple[str, ...]
    stages: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the layers."""
        return tuple(layer.name for layer in self.layers)

    @property
    def branch_points(self) -> tuple[str, ...]:
        """Names of the layers that can have a shortcut branch: all that hold neurons."""
        return tuple(
            layer.name
            for layer in self.layers
            if isinstance(layer, ConvLayer | DenseLayer | ResidualLayer | NeuronLayer)
        )

    def branches(self, after: Literal["stage", "block"] | tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the blocks that get a shortcut branch.

        Args:
            after: "stage": the last block of each stage. "block": every block. The last block of
                the network is left out of both: the main output reads it. Or names.
        """
        if isinstance(after, tuple):
            return after
        names = self.stages if after == "stage" else self.blocks
        return tuple(name for name in names if name != self.blocks[-1])


def layout_of(network: NetworkSection) -> Layout:
    """Return the layers that a recipe's [network] stands for."""
    match network:
        case SequentialNetwork():
            return _sequential(network)
        case ResidualNetwork() | ResidualStages():
            return _residual(network)
        case PlainNetwork() | PlainStages():
            return _plain(network)
        case VggNetwork():
            return _vgg(network)
        case CifarNetwork():
            return _cifarnet(network)
        case MlpNetwork():
            return _mlp(network)


def _sequential(network: SequentialNetwork) -> Layout:
    layers = tuple(
        dataclasses.replace(layer, name=layer.name or f"{layer.type}{number}")
        for number, layer in enumerate(network.layers, 1)
    )
    layout = Layout(layers=layers, readout=network.readout, blocks=())
    return dataclasses.replace(layout, blocks=layout.branch_points)


# --- residual and plain networks ------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stages:
    """Numbers of blocks and channels, stage by stage."""

    blocks: tuple[int, ...]
    channels: tuple[int, ...]

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        """Yield name, channels and stride of each block."""
        for stage, (blocks, channels) in enumerate(zip(self.blocks, self.channels, strict=True), 1):
            for block in range(1, blocks + 1):
                stride = 2 if stage > 1 and block == 1 else 1
                yield f"stage{stage}_block{block}", channels, stride

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _, _ in self)

    @property
    def last_names(self) -> tuple[str, ...]:
        return tuple(f"stage{stage}_block{blocks}" for stage, blocks in enumerate(self.blocks, 1))


_FOUR_STAGES = (64, 128, 256, 512)
_THREE_STAGES = (16, 32, 64)
_NAMED_STAGES = {
    "resnet18": _Stages(blocks=(2, 2, 2, 2), channels=_FOUR_STAGES),
    "resnet34": _Stages(blocks=(3, 4, 6, 3), channels=_FOUR_STAGES),
    "resnet19": _Stages(blocks=(3, 3, 2), channels=(128, 256, 512)),
    "resnet20": _Stages(blocks=(3, 3, 3), channels=_THREE_STAGES),
    "resnet20m": _Stages(blocks=(2, 2, 2, 2), channels=_FOUR_STAGES),
    "plain14": _Stages(blocks=(2, 2, 2), channels=_THREE_STAGES),
    "plain20": _Stages(blocks=(3, 3, 3), channels=_THREE_STAGES),
}
_RESNET19_HIDDEN = 256


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def _stages(network: ResidualNetwork | ResidualStages | PlainNetwork | PlainStages) -> _Stages:
    if isinstance(network, ResidualNetwork | PlainNetwork):
        named = _NAMED_STAGES[network.architecture]
        channels = tuple(_scaled(count, network.width) for count in named.channels)
        return _Stages(blocks=named.blocks, channels=channels)
    doubled = tuple(network.channels << stage for stage in range(len(network.blocks)))
    return _Stages(blocks=network.blocks, channels=doubled)


def _residual(network: ResidualNetwork | ResidualStages) -> Layout:
    stages = _stages(network)
    is_own = network.architecture == "resnet20m"
    layers: list[LayerSection] = list(
        _stem(stages.channels[0], network.stem, convolutions=3 if is_own else 1)
    )
    layers.extend(
        ResidualLayer(
            type="residual",
            name=name,
            channels=channels,
            stride=stride,
            residual=network.residual,
            alpha=network.alpha,
            zero_init=is_own,
        )
        for name, channels, stride in stages
    )
    last: ResidualKind = network.residual
    if last == "ms":
        layers.append(NeuronLayer(type="neuron", name="spikes"))
    readout: Literal["linear", "gap_linear"] = "gap_linear"
    if isinstance(network, ResidualNetwork) and network.architecture == "resnet19":
        hidden = _scaled(_RESNET19_HIDDEN, network.width)
        layers.append(GlobalAveragePoolLayer(type="global_average_pool", name="pool"))
        layers.append(DenseLayer(type="dense", name="dense", neurons=hidden, batch_norm=False))
        readout = "linear"
    return Layout(
        layers=tuple(layers), readout=readout, blocks=stages.names, stages=stages.last_names
    )


def _stem(
    channels: int, stem: Literal["cifar", "imagenet"], *, convolutions: int
) -> Iterator[LayerSection]:
    is_large = stem == "imagenet"
    kernel = 7 if is_large and convolutions == 1 else 3
    for number in range(1, convolutions + 1):
        yield ConvLayer(
            type="conv",
            name="stem" if convolutions == 1 else f"stem{number}",
            channels=channels,
            kernel=kernel,
            stride=2 if is_large and number == 1 else 1,
            padding=kernel // 2,
        )
    if is_large:
        yield MaxPoolLayer(type="max_pool", name="stem_pool", kernel=3, stride=2, padding=1)


def _plain(network: PlainNetwork | PlainStages) -> Layout:
    stages = _stages(network)
    layers = list(_stem(stages.channels[0], "cifar", convolutions=1))
    for name, channels, stride in stages:
        # The second convolution carries the block's name: its spikes are those of the block.
        layers.append(_conv(f"{name}_conv1", channels, stride=stride))
        layers.append(_conv(name, channels))
    return Layout(
        layers=tuple(layers),
        readout="gap_linear",
        blocks=stages.names,
        stages=stages.last_names,
    )


def _conv(name: str, channels: int, *, stride: int = 1) -> ConvLayer:
    return ConvLayer(type="conv", name=name, channels=channels, stride=stride)


# --- the others -----------------------------------------------------------------------------

_VGG = {
    "vgg11": ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2),
    "vgg16": ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
}
_CIFARNET = ((128, 256), (512,), (1024, 512))
_CIFARNET_HIDDEN = (1024, 512)


def _vgg(network: VggNetwork) -> Layout:
    layers: list[LayerSection] = []
    blocks: list[str] = []
    stages: list[str] = []
    for stage, widths in enumerate(_VGG[network.architecture], 1):
        for number, channels in enumerate(widths, 1):
            blocks.append(f"stage{stage}_conv{number}")
            layers.append(_conv(blocks[-1], _scaled(channels, network.width)))
        stages.append(blocks[-1])
        layers.append(_pool(f"stage{stage}_pool", network.pooling))
    layers.extend(_dense(network.hidden))
    return Layout(
        layers=tuple(layers), readout="linear", blocks=tuple(blocks), stages=tuple(stages)
    )


def _cifarnet(network: CifarNetwork) -> Layout:
    layers: list[LayerSection] = []
    blocks: list[str] = []
    stages: list[str] = []
    for stage, widths in enumerate(_CIFARNET, 1):
        for channels in widths:
            blocks.append(f"conv{len(blocks) + 1}")
            layers.append(_conv(blocks[-1], _scaled(channels, network.width)))
        stages.append(blocks[-1])
        if stage < len(_CIFARNET):
            layers.append(_pool(f"pool{stage}", network.pooling))
    layers.extend(_dense(_scaled(neurons, network.width) for neurons in _CIFARNET_HIDDEN))
    return Layout(
        layers=tuple(layers), readout="linear", blocks=tuple(blocks), stages=tuple(stages)
    )


def _mlp(network: MlpNetwork) -> Layout:
    layers = tuple(_dense(network.hidden, batch_norm=network.batch_norm))
    return Layout(layers=layers, readout="linear", blocks=tuple(layer.name for layer in layers))


def _pool(name: str, pooling: Literal["average", "max"]) -> MaxPoolLayer | AveragePoolLayer:
    if pooling == "max":
        return MaxPoolLayer(type="max_pool", name=name)
    return AveragePoolLayer(type="average_pool", name=name)


def _dense(hidden: Iterable[int], *, batch_norm: bool = True) -> Iterator[DenseLayer]:
    for number, neurons in enumerate(hidden, 1):
        yield DenseLayer(
            type="dense", name=f"dense{number}", neurons=neurons, batch_norm=batch_norm
        )


# --- shapes ---------------------------------------------------------------------------------


def output_shape(layer: LayerSection, shape: Shape, *, where: str = "layer") -> Shape:
    """Return the shape of a layer's output.

    Args:
        layer: The layer.
        shape: (C, H, W) or (N,) of its source.
        where: Start of errors.

    Raises:
        RecipeError: If the source does not fit.
    """
    if isinstance(layer, DenseLayer):
        return (layer.neurons,)
    if isinstance(layer, NeuronLayer):
        return shape
    if len(shape) != 3:
        raise RecipeError(f"{where}: a {layer.type} layer needs a source (C, H, W), not {shape}.")
    channels, size = shape[0], shape[1:]
    match layer:
        case GlobalAveragePoolLayer():
            return (channels,)
        case ResidualLayer():
            height, width = ((extent - 1) // layer.stride + 1 for extent in size)
            return (layer.channels, height, width)
        case ConvLayer():
            if channels % layer.groups or layer.channels % layer.groups:
                raise RecipeError(
                    f"{where}: groups = {layer.groups} does not divide {channels} input and "
                    f"{layer.channels} output channels."
                )
            channels = layer.channels
        case MaxPoolLayer() | AveragePoolLayer():
            if 2 * layer.padding > layer.kernel:
                raise RecipeError(
                    f"{where}: padding = {layer.padding}, at most half of kernel = "
                    f"{layer.kernel} is allowed."
                )
    height, width = (
        (extent + 2 * layer.padding - layer.kernel) // layer.stride + 1 for extent in size
    )
    if min(height, width) < 1:
        raise RecipeError(
            f"{where}: kernel = {layer.kernel} with padding = {layer.padding} is larger than "
            f"its source {shape}."
        )
    return (channels, height, width)


def shapes_of(layout: Layout, shape: Shape, *, where: str) -> dict[str, Shape]:
    """Return the output shape of each layer, after checking its name and that its source fits.

    Args:
        layout: The layers.
        shape: (C, H, W) or (N,) of the input.
        where: Start of errors.

    Raises:
        RecipeError: If something does not fit.
    """
    shapes: dict[str, Shape] = {}
    is_current = False
    for number, layer in enumerate(layout.layers):
        place = f"{where} [network.layers.{number}]"
        if not layer.name.isidentifier() or layer.name in ("input", "readout"):
            raise RecipeError(
                f"{place}: name = '{layer.name}'; letters, digits and underscores are allowed, "
                "'input' and 'readout' are taken."
            )
        if layer.name in shapes:
            raise RecipeError(f"{place}: a second block called '{layer.name}'. Names must differ.")
        if number == 0 and not isinstance(layer, ConvLayer | DenseLayer):
            raise RecipeError(
                f"{place}: the first layer is of type '{layer.type}'. Inputs are no spikes: begin "
                "with 'conv' or 'dense'."
            )
        is_ms = isinstance(layer, ResidualLayer) and layer.residual == "ms"
        if is_current and not is_ms and not isinstance(layer, NeuronLayer):
            raise RecipeError(
                f"{place}: follows a block with residual = 'ms', which gives a current, not "
                "spikes. Put a layer of type 'neuron' between."
            )
        is_current = is_ms
        shape = shapes[layer.name] = output_shape(layer, shape, where=place)
    if is_current:
        raise RecipeError(
            f"{where} [network]: the last block has residual = 'ms' and gives a current, not "
            "spikes. End with a layer of type 'neuron'."
        )
    if layout.readout == "gap_linear" and len(shape) != 3:
        raise RecipeError(
            f"{where} [network]: readout = 'gap_linear' after a dense layer. Use 'linear'."
        )
    return shapes
