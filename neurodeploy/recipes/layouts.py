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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, NamedTuple

from neurodeploy.errors import RecipeError, TrainingError
from neurodeploy.recipes.network_sections import (
    AveragePoolLayer,
    CifarNetwork,
    ConvLayer,
    DelayLayer,
    DenseLayer,
    GlobalAveragePoolLayer,
    LayerSection,
    MaxPoolLayer,
    MlpNetwork,
    NetworkSection,
    NeuronLayer,
    PlainNetwork,
    PlainStages,
    Readout,
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
        readout: As in `SequentialNetwork`.
        blocks: Names of the layers that count as blocks for shortcut branches, in order.
        stages: Names of the last block of each stage; empty where there are no stages.
    """

    layers: tuple[LayerSection, ...]
    readout: Readout
    blocks: tuple[str, ...]
    stages: tuple[str, ...] = ()

    @property
    def branch_points(self) -> tuple[str, ...]:
        """Names of the layers that can have a shortcut branch: all that hold neurons."""
        holders = ConvLayer | DenseLayer | ResidualLayer | NeuronLayer
        return tuple(layer.name for layer in self.layers if isinstance(layer, holders))

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
        case VggNetwork() | CifarNetwork():
            return _pooled(network)
        case MlpNetwork():
            layers = tuple(_dense(network.hidden, batch_norm=network.batch_norm))
            names = tuple(layer.name for layer in layers)
            return Layout(layers=layers, readout="linear", blocks=names)


def _sequential(network: SequentialNetwork) -> Layout:
    layers = tuple(
        dataclasses.replace(layer, name=layer.name or f"{layer.type}{number}")
        for number, layer in enumerate(network.layers, 1)
    )
    layout = Layout(layers=layers, readout=network.readout, blocks=())
    return dataclasses.replace(layout, blocks=layout.branch_points)


def _staged(
    layers: Iterable[LayerSection], names: Sequence[Sequence[str]], *, readout: Readout
) -> Layout:
    """Return a layout whose blocks have these names, stage by stage."""
    return Layout(
        layers=tuple(layers),
        readout=readout,
        blocks=tuple(name for stage in names for name in stage),
        stages=tuple(stage[-1] for stage in names),
    )


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


# --- residual and plain networks ------------------------------------------------------------

_FOUR_STAGES = (64, 128, 256, 512)
_THREE_STAGES = (16, 32, 64)
_BLOCKS_AND_CHANNELS = {
    "resnet18": ((2, 2, 2, 2), _FOUR_STAGES),
    "resnet34": ((3, 4, 6, 3), _FOUR_STAGES),
    "resnet19": ((3, 3, 2), (128, 256, 512)),
    "resnet20": ((3, 3, 3), _THREE_STAGES),
    "resnet20m": ((2, 2, 2, 2), _FOUR_STAGES),
    "plain14": ((2, 2, 2), _THREE_STAGES),
    "plain20": ((3, 3, 3), _THREE_STAGES),
}
_RESNET19_HIDDEN = 256


class _Block(NamedTuple):
    name: str
    channels: int
    stride: int


def _stages(
    network: ResidualNetwork | ResidualStages | PlainNetwork | PlainStages,
) -> list[list[_Block]]:
    """Return the blocks of each stage."""
    if isinstance(network, ResidualNetwork | PlainNetwork):
        counts, widths = _BLOCKS_AND_CHANNELS[network.architecture]
        channels = [_scaled(width, network.width) for width in widths]
    else:
        counts = network.blocks
        channels = [network.channels << stage for stage in range(len(counts))]
    return [
        [
            _Block(
                name=f"stage{stage}_block{number}",
                channels=channels[stage - 1],
                stride=2 if stage > 1 and number == 1 else 1,
            )
            for number in range(1, count + 1)
        ]
        for stage, count in enumerate(counts, 1)
    ]


def _names(stages: Iterable[Iterable[_Block]]) -> list[list[str]]:
    return [[block.name for block in stage] for stage in stages]


def _residual(network: ResidualNetwork | ResidualStages) -> Layout:
    stages = _stages(network)
    is_own = network.architecture == "resnet20m"
    layers: list[LayerSection] = list(
        _stem(stages[0][0].channels, network.stem, convolutions=3 if is_own else 1)
    )
    layers.extend(
        ResidualLayer(
            type="residual",
            name=block.name,
            channels=block.channels,
            stride=block.stride,
            residual=network.residual,
            alpha=network.alpha,
            zero_init=is_own,
        )
        for stage in stages
        for block in stage
    )
    if network.residual == "ms":
        layers.append(NeuronLayer(type="neuron", name="spikes"))
    if not isinstance(network, ResidualNetwork) or network.architecture != "resnet19":
        return _staged(layers, _names(stages), readout="gap_linear")
    hidden = _scaled(_RESNET19_HIDDEN, network.width)
    layers.append(GlobalAveragePoolLayer(type="global_average_pool", name="pool"))
    layers.append(DenseLayer(type="dense", name="dense", neurons=hidden, batch_norm=False))
    return _staged(layers, _names(stages), readout="linear")


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
    layers = list(_stem(stages[0][0].channels, "cifar", convolutions=1))
    for stage in stages:
        for block in stage:
            # The second convolution carries the block's name: its spikes are those of the block.
            layers.append(_conv(f"{block.name}_conv1", block.channels, stride=block.stride))
            layers.append(_conv(block.name, block.channels))
    return _staged(layers, _names(stages), readout="gap_linear")


def _conv(name: str, channels: int, *, stride: int = 1) -> ConvLayer:
    return ConvLayer(type="conv", name=name, channels=channels, stride=stride)


# --- convolutions with pooling between, dense layers ----------------------------------------

_WIDTHS = {
    "vgg11": ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2),
    "vgg16": ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    "cifarnet": ((128, 256), (512,), (1024, 512)),
}
_CIFARNET_HIDDEN = (1024, 512)


def _pooled(network: VggNetwork | CifarNetwork) -> Layout:
    widths = _WIDTHS[network.architecture]
    if isinstance(network, VggNetwork):
        hidden = network.hidden
        names = [
            [f"stage{stage}_conv{number + 1}" for number in range(len(each))]
            for stage, each in enumerate(widths, 1)
        ]
        pools = [f"stage{stage}_pool" for stage in range(1, len(widths) + 1)]
    else:
        hidden = tuple(_scaled(neurons, network.width) for neurons in _CIFARNET_HIDDEN)
        names, pools = [["conv1", "conv2"], ["conv3"], ["conv4", "conv5"]], ["pool1", "pool2"]
    layers: list[LayerSection] = []
    for stage, (stage_names, each) in enumerate(zip(names, widths, strict=True)):
        for name, channels in zip(stage_names, each, strict=True):
            layers.append(_conv(name, _scaled(channels, network.width)))
        if stage < len(pools):
            if network.pooling == "max":
                layers.append(MaxPoolLayer(type="max_pool", name=pools[stage]))
            else:
                layers.append(AveragePoolLayer(type="average_pool", name=pools[stage]))
    return _staged([*layers, *_dense(hidden)], names, readout="linear")


def _dense(hidden: Iterable[int], *, batch_norm: bool = True) -> Iterator[DenseLayer]:
    for number, neurons in enumerate(hidden, 1):
        yield DenseLayer(
            type="dense", name=f"dense{number}", neurons=neurons, batch_norm=batch_norm
        )


MOST_LAYERS = 2000
MOST_WEIGHTS = 1 << 28
MOST_VALUES = 1 << 32
"""Limits of a network: 1 GiB of weights as floats, 16 GiB of values."""
LONGEST_NAME = 100

# --- shapes ---------------------------------------------------------------------------------


def output_shape(layer: LayerSection, shape: Shape, *, where: str = "layer") -> Shape:
    """Return the shape of a layer's output for the (C, H, W) or (N,) of its source.

    Raises:
        RecipeError: If the source does not fit.
    """
    if isinstance(layer, DenseLayer):
        return (layer.neurons,)
    if isinstance(layer, NeuronLayer | DelayLayer):
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
    """Return the output shape of each layer, for the (C, H, W) or (N,) of the input.

    Raises:
        RecipeError: If a layer's name or source does not fit.
    """
    shapes: dict[str, Shape] = {}
    is_current = False
    for number, layer in enumerate(layout.layers):
        place = f"{where} [network.layers.{number}]"
        is_name = layer.name.isidentifier() and len(layer.name) <= LONGEST_NAME
        if not is_name or layer.name in ("input", "readout"):
            raise RecipeError(
                f"{place}: name = '{layer.name[:LONGEST_NAME]}'; up to {LONGEST_NAME} letters, "
                "digits and underscores are allowed, 'input' and 'readout' are taken."
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
        _check_delay(layer, layout.layers[number - 1] if number else None, where=place)
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


def _check_delay(layer: LayerSection, before: LayerSection | None, *, where: str) -> None:
    """Refuse a delay where the chip has none."""
    if isinstance(layer, DelayLayer) and not isinstance(before, DenseLayer):
        raise RecipeError(
            f"{where}: a delay must follow a layer of type 'dense', whose spikes it holds back."
        )
    if isinstance(before, DelayLayer) and not isinstance(layer, DenseLayer):
        raise RecipeError(
            f"{where}: a '{layer.type}' layer follows a delay; only synapses of 'dense' layers and "
            "of the readout have delays."
        )
    if isinstance(before, DelayLayer) and isinstance(layer, DenseLayer) and layer.recurrent:
        raise RecipeError(
            f"{where}: recurrent and after a delay; Lava scales the weights of such a layer "
            "wrongly. Leave out one of them, or put another dense layer between."
        )


def count_weights(layout: Layout, shape: Shape, shapes: Mapping[str, Shape], classes: int) -> int:
    """Return the number of weights of all synapses but those of branches.

    Args:
        layout: The layers.
        shape: Of the input.
        shapes: What `shapes_of` gives.
        classes: Outputs of the readout.
    """
    weights = 0
    for layer in layout.layers:
        match layer:
            case ConvLayer():
                weights += layer.channels * (shape[0] // layer.groups) * layer.kernel**2
            case DenseLayer():
                weights += layer.neurons * (prod(shape) + layer.neurons * layer.recurrent)
            case ResidualLayer():
                weights += 9 * layer.channels * (shape[0] + layer.channels)
        shape = shapes[layer.name]
    return weights + classes * (shape[0] if layout.readout == "gap_linear" else prod(shape))


def require_size(
    layout: Layout,
    shape: Shape,
    shapes: Mapping[str, Shape],
    *,
    classes: int,
    steps: int,
    where: str,
) -> None:
    """Refuse a network that no machine could hold, before anything of it is made.

    Args:
        layout: The layers.
        shape: Of the input.
        shapes: What `shapes_of` gives.
        classes: Outputs of the readout.
        steps: T.
        where: Start of the error.

    Raises:
        RecipeError: If it has too many layers, weights or values.
    """
    values = steps * (prod(shape) + sum(map(prod, shapes.values())))
    for count, limit, noun in (
        (len(layout.layers), MOST_LAYERS, "layers"),
        (count_weights(layout, shape, shapes, classes), MOST_WEIGHTS, "weights"),
        (values, MOST_VALUES, "values of one sample over all steps"),
    ):
        if count > limit:
            raise RecipeError(
                f"{where} [network]: {count:,} {noun}, at most {limit:,} are allowed. Make the "
                "network smaller."
            )


def check_batch_norms(
    network: NetworkSection, shape: Shape, *, samples: int, is_static: bool
) -> None:
    """Check that every batch norm takes its mean and variance from several values.

    Args:
        network: [network].
        shape: (C, H, W) or (N,) of the input.
        samples: Of the smallest part of a batch that is computed at once.
        is_static: Whether a sample is one image, of which the first layer sees one step only.

    Raises:
        TrainingError: Naming a layer for which that is not so.
    """
    layout = layout_of(network)
    shapes = shapes_of(layout, shape, where="network")
    for number, layer in enumerate(layout.layers):
        has_norm = isinstance(layer, ResidualLayer) or (
            isinstance(layer, ConvLayer | DenseLayer) and layer.batch_norm
        )
        steps = 1 if is_static and number == 0 else network.steps
        if has_norm and samples * steps * prod(shapes[layer.name][1:]) == 1:
            raise TrainingError(
                f"layer '{layer.name}': batch norm over a single value of each channel, of one "
                "sample, step and place, would leave nothing of it. At least two are required: use "
                "a larger training.batch_size, a smaller training.accumulate or fewer devices."
            )
