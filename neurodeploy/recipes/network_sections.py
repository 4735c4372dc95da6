"""The [network] section of a recipe: layers one by one, or an architecture by its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from neurodeploy.fixedpoint import DELAY_MAX
from neurodeploy.strict_tables import Factor, Lengths, NotEmpty, PositiveInt, Range

Extent = Annotated[int, Range(minimum=1, maximum=4096)]
"""Pixels of a window or a step."""
Padding = Annotated[int, Range(minimum=0, maximum=4096)]
Width = Annotated[float, Range(above=0, maximum=64)]
Steps = Annotated[int, Range(minimum=1, maximum=1 << 20)]
Blocks = Annotated[
    tuple[Annotated[int, Range(minimum=1, maximum=1000)], ...], Lengths(range(1, 17))
]
NormKind = Literal["tdbn", "bn", "tebn"]
ResidualKind = Literal["standard", "ms", "sew"]
Readout = Literal["linear", "gap_linear"]

# --- layers ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """Keys of every entry of [[network.layers]].

    Attributes:
        type: The kind of layer.
        name: Names the layer in reports and in `shortcut.after`; empty for its type and number,
            such as conv1.
    """

    type: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvLayer(_Layer):
    """Convolution and spiking neurons.

    Attributes:
        channels: Of the output.
        kernel: Height and width of the kernel.
        stride: Pixels from one place of the kernel to the next, in both directions.
        padding: Zeros on each side.
        groups: Parts that the channels fall into; each sees its own inputs only.
        batch_norm: Normalise the current over batch, time and space before the neuron.
    """

    type: Literal["conv"]
    channels: PositiveInt
    kernel: Extent = 3
    stride: Extent = 1
    padding: Padding = 1
    groups: PositiveInt = 1
    batch_norm: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseLayer(_Layer):
    """Dense synapse and spiking neurons, flattening its source.

    Attributes:
        neurons: Number of neurons.
        batch_norm: Normalise the current over batch and time before the neuron.
        recurrent: Add a dense synapse from the layer to itself, by which spikes of a step arrive
            in the next; it is not normalised.
    """

    type: Literal["dense"]
    neurons: PositiveInt
    batch_norm: bool = True
    recurrent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayLayer(_Layer):
    """Spikes of a dense layer that arrive at the next, also dense, after learned delays.

    Each neuron has its own delay in whole steps; what is later than the last step is lost.

    Attributes:
        longest: Delays start between zero and this many steps, and stay there.
    """

    type: Literal["delay"]
    longest: Annotated[int, Range(minimum=1, maximum=DELAY_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualLayer(_Layer):
    """Two 3x3 convolutions and a skip connection.

    Where channels or size change, the skip is a 1x1 convolution with batch norm.

    Attributes:
        channels: Of the output.
        stride: Of the first convolution and of the 1x1 one.
        residual: "standard": o = g(f(x) + x) with spiking g, the paper's choice. "ms":
            pre-activation, x + f(g(x)); the sum is a current, so a layer of neurons must follow
            the last of them. "sew": spike-element-wise, g(f(x)) + x; spikes become integers,
            which a chip with binary spikes cannot run.
        alpha: Under "tdbn" and "tebn" the two summands start with a standard deviation of
            alpha · V_th; 1 / sqrt(2) as in the paper of tdBN.
        zero_init: Start with f(x) = 0: the last batch norm's gamma is zero.
    """

    type: Literal["residual"]
    channels: PositiveInt
    stride: Extent = 1
    residual: ResidualKind = "standard"
    alpha: Factor = 0.5**0.5
    zero_init: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLayer(_Layer):
    """Keys of both kinds of pooling.

    Attributes:
        kernel: Height and width of a window.
        stride: Pixels from one window to the next, in both directions.
        padding: On each side: zeros for the mean, never the largest for the maximum.
    """

    kernel: Extent = 2
    stride: Extent = 2
    padding: Padding = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPoolLayer(PoolLayer):
    """Largest value of each window."""

    type: Literal["max_pool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragePoolLayer(PoolLayer):
    """Mean of each window, zeros of the padding included."""

    type: Literal["average_pool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalAveragePoolLayer(_Layer):
    """Mean over space."""

    type: Literal["global_average_pool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronLayer(_Layer):
    """Spiking neurons without a synapse, for the end of "ms" blocks."""

    type: Literal["neuron"]


LayerSection = (
    ConvLayer
    | DenseLayer
    | DelayLayer
    | ResidualLayer
    | MaxPoolLayer
    | AveragePoolLayer
    | GlobalAveragePoolLayer
    | NeuronLayer
)

# --- networks -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    """Keys of every architecture.

    Attributes:
        architecture: The network: its layers one by one, or the name of a known one.
        steps: T, the number of time steps a sample lasts.
        norm: Batch norm of the currents, over batch, time and space. "bn": gamma starts at 1.
            "tdbn": gamma starts at V_th. "tebn": as tdbn, and a learned factor for each step.
        initial_weights: Of convolutions. "uniform": within ±1 / sqrt(fan-in), torch's own default.
            "kaiming": normal with variance 2 / fan-out, as torchvision's ResNets start. Before a
            batch norm the scale does not change what a layer computes, but a larger one learns
            more slowly.
    """

    architecture: str
    steps: Steps
    norm: NormKind = "tdbn"
    initial_weights: Literal["uniform", "kaiming"] = "uniform"


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialNetwork(_Network):
    """Layers one after the other.

    Attributes:
        layers: The layers in order, each a table; see [[network.layers]].
        readout: What follows the layers. "linear": flatten and a linear map, one output a class.
            "gap_linear": the mean over space first.
    """

    architecture: Literal["sequential"] = "sequential"
    layers: Annotated[tuple[LayerSection, ...], NotEmpty()]
    readout: Readout = "linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Residual(_Network):
    """Keys of residual architectures.

    Attributes:
        stem: "cifar": 3x3 convolution. "imagenet": 7x7 with stride 2, then 3x3 max pooling with
            stride 2.
        residual: "standard": o = g(f(x) + x) with spiking g, the paper's choice. "ms":
            pre-activation, x + f(g(x)). "sew": spike-element-wise, g(f(x)) + x; spikes become
            integers, which a chip with binary spikes cannot run.
        alpha: Under "tdbn" and "tebn" the two summands of a block start with a standard deviation
            of alpha · V_th; 1 / sqrt(2) as in the paper of tdBN.
    """

    stem: Literal["cifar", "imagenet"] = "cifar"
    residual: ResidualKind = "standard"
    alpha: Factor = 0.5**0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualNetwork(_Residual):
    """A residual network by its name.

    Attributes:
        architecture: "resnet18", "resnet34": stages of [2, 2, 2, 2] and [3, 4, 6, 3] blocks at
            64, 128, 256, 512 channels. "resnet19": [3, 3, 2] at 128, 256, 512, then 256 dense
            neurons. "resnet20": [3, 3, 3] at 16, 32, 64. "resnet20m": the paper's authors' own:
            three stem convolutions, [2, 2, 2, 2] at 64 to 512, f(x) = 0 at the start.
        width: Multiplies all numbers of channels.
    """

    architecture: Literal["resnet18", "resnet19", "resnet20", "resnet20m", "resnet34"]
    width: Width = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualStages(_Residual):
    """A residual network of one's own.

    Attributes:
        blocks: Number of blocks of each stage; each stage but the first halves the image.
        channels: Of the first stage; doubled from stage to stage.
    """

    architecture: Literal["residual"]
    blocks: Blocks
    channels: PositiveInt


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainNetwork(_Network):
    """A deep network without skip connections, by its name.

    Attributes:
        architecture: "plain14", "plain20": a stem, stages of [2, 2, 2] and [3, 3, 3] blocks of two
            convolutions at 16, 32, 64 channels, mean over space, linear map.
        width: Multiplies all numbers of channels.
    """

    architecture: Literal["plain14", "plain20"]
    width: Width = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainStages(_Network):
    """A deep network of one's own without skip connections.

    Attributes:
        blocks: Number of blocks of each stage, two convolutions each; each stage but the first
            halves the image.
        channels: Of the first stage; doubled from stage to stage.
    """

    architecture: Literal["plain"]
    blocks: Blocks
    channels: PositiveInt


@dataclass(frozen=True, slots=True, kw_only=True)
class VggNetwork(_Network):
    """Stages of 3x3 convolutions with pooling after each of the five.

    Attributes:
        width: Multiplies all numbers of channels.
        pooling: Mean or largest value of each window; the maximum of spikes is their OR.
        hidden: Dense neurons before the read-out; [4096, 4096] in the original for ImageNet.
    """

    architecture: Literal["vgg11", "vgg16"]
    width: Width = 1.0
    pooling: Literal["average", "max"] = "average"
    hidden: tuple[PositiveInt, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CifarNetwork(_Network):
    """Wu et al.'s CIFARNet: 128-256-pool-512-pool-1024-512 convolutions, 1024-512 dense.

    Attributes:
        width: Multiplies all numbers of channels and dense neurons.
        pooling: Mean or largest value of each window; the maximum of spikes is their OR.
    """

    architecture: Literal["cifarnet"]
    width: Width = 1.0
    pooling: Literal["average", "max"] = "average"


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpNetwork(_Network):
    """Dense layers of spiking neurons.

    Attributes:
        hidden: Neurons of each layer before the read-out.
        batch_norm: Normalise the currents over batch and time before the neurons.
    """

    architecture: Literal["mlp"]
    hidden: Annotated[tuple[PositiveInt, ...], NotEmpty()]
    batch_norm: bool = True


NetworkSection = (
    SequentialNetwork
    | ResidualNetwork
    | ResidualStages
    | PlainNetwork
    | PlainStages
    | VggNetwork
    | CifarNetwork
    | MlpNetwork
)
