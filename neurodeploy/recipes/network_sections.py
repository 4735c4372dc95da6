"""What [network] of a recipe may say: layers one by one, or an architecture by its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from neurodeploy.recipes.strict_toml import (
    ABOVE_ZERO,
    NOT_EMPTY,
    NOT_NEGATIVE,
    POSITIVE,
)

NormKind = Literal["tdbn", "bn", "tebn"]
ResidualKind = Literal["standard", "ms", "sew"]

# --- layers ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvLayer:
    """Convolution and spiking neurons: an entry of [[network.layers]].

    Attributes:
        type: "conv".
        name: Of the block; by default its type and number.
        channels: Output channels.
        kernel: Height and width.
        stride: Height and width.
        padding: Zeros on each side.
        groups: Channel groups.
        batch_norm: Normalise the current over batch, time and space before the neuron.
    """

    type: Literal["conv"]
    name: str = ""
    channels: int = field(metadata=POSITIVE)
    kernel: int = field(default=3, metadata=POSITIVE)
    stride: int = field(default=1, metadata=POSITIVE)
    padding: int = field(default=1, metadata=NOT_NEGATIVE)
    groups: int = field(default=1, metadata=POSITIVE)
    batch_norm: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseLayer:
    """Dense synapse and spiking neurons, flattening its source: an entry of [[network.layers]].

    Attributes:
        type: "dense".
        name: Of the block; by default its type and number.
        neurons: Number of neurons.
        batch_norm: Normalise the current over batch and time before the neuron.
    """

    type: Literal["dense"]
    name: str = ""
    neurons: int = field(metadata=POSITIVE)
    batch_norm: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualLayer:
    """Two 3x3 convolutions and a skip connection: an entry of [[network.layers]].

    Where channels or size change, the skip is a 1x1 convolution with batch norm.

    Attributes:
        type: "residual".
        name: Of the block; by default its type and number.
        channels: Output channels.
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
    name: str = ""
    channels: int = field(metadata=POSITIVE)
    stride: int = field(default=1, metadata=POSITIVE)
    residual: ResidualKind = "standard"
    alpha: float = field(default=0.5**0.5, metadata=ABOVE_ZERO)
    zero_init: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPoolLayer:
    """Largest value of each window: an entry of [[network.layers]].

    Attributes:
        type: "max_pool".
        name: Of the layer; by default its type and number.
        kernel: Height and width.
        stride: Height and width.
        padding: On each side; never the largest.
    """

    type: Literal["max_pool"]
    name: str = ""
    kernel: int = field(default=2, metadata=POSITIVE)
    stride: int = field(default=2, metadata=POSITIVE)
    padding: int = field(default=0, metadata=NOT_NEGATIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragePoolLayer:
    """Mean of each window, zeros of the padding included: an entry of [[network.layers]].

    Attributes:
        type: "average_pool".
        name: Of the layer; by default its type and number.
        kernel: Height and width.
        stride: Height and width.
        padding: Zeros on each side.
    """

    type: Literal["average_pool"]
    name: str = ""
    kernel: int = field(default=2, metadata=POSITIVE)
    stride: int = field(default=2, metadata=POSITIVE)
    padding: int = field(default=0, metadata=NOT_NEGATIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalAveragePoolLayer:
    """Mean over space: an entry of [[network.layers]].

    Attributes:
        type: "global_average_pool".
        name: Of the layer; by default its type and number.
    """

    type: Literal["global_average_pool"]
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronLayer:
    """Spiking neurons without a synapse, for the end of "ms" blocks.

    Attributes:
        type: "neuron".
        name: Of the layer; by default its type and number.
    """

    type: Literal["neuron"]
    name: str = ""


PoolLayer = MaxPoolLayer | AveragePoolLayer
LayerSection = (
    ConvLayer
    | DenseLayer
    | ResidualLayer
    | MaxPoolLayer
    | AveragePoolLayer
    | GlobalAveragePoolLayer
    | NeuronLayer
)

# --- networks -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    """What every architecture has.

    Attributes:
        architecture: Its name.
        steps: T, the number of time steps a sample lasts.
        norm: Batch norm of the currents, over batch, time and space. "bn": gamma starts at 1.
            "tdbn": gamma starts at V_th. "tebn": as tdbn, and a learned factor for each step.
        initial_weights: Of convolutions. "uniform": within ±1 / sqrt(fan-in), torch's own default.
            "kaiming": normal with variance 2 / fan-out, as torchvision's ResNets start. Before a
            batch norm the scale does not change what a layer computes, but a larger one learns
            more slowly.
    """

    architecture: str
    steps: int = field(metadata=POSITIVE)
    norm: NormKind = "tdbn"
    initial_weights: Literal["uniform", "kaiming"] = "uniform"


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialNetwork(_Network):
    """Layers one after the other: [network].

    Attributes:
        architecture: "sequential", which is also meant where the key is left out.
        layers: In order.
        readout: "linear": flatten and a linear map. "gap_linear": mean over space first.
    """

    architecture: Literal["sequential"] = "sequential"
    layers: tuple[LayerSection, ...] = field(metadata=NOT_EMPTY)
    readout: Literal["linear", "gap_linear"] = "linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Residual(_Network):
    """What residual architectures have in common.

    Attributes:
        stem: "cifar": 3x3 convolution. "imagenet": 7x7 with stride 2, then 3x3 max pooling with
            stride 2.
        residual: See `ResidualLayer`.
        alpha: See `ResidualLayer`.
    """

    stem: Literal["cifar", "imagenet"] = "cifar"
    residual: ResidualKind = "standard"
    alpha: float = field(default=0.5**0.5, metadata=ABOVE_ZERO)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualNetwork(_Residual):
    """A residual network by its name: [network].

    Attributes:
        architecture: "resnet18", "resnet34": stages of [2, 2, 2, 2] and [3, 4, 6, 3] blocks at
            64, 128, 256, 512 channels. "resnet19": [3, 3, 2] at 128, 256, 512, then 256 dense
            neurons. "resnet20": [3, 3, 3] at 16, 32, 64. "resnet20m": the paper's authors' own:
            three stem convolutions, [2, 2, 2, 2] at 64 to 512, f(x) = 0 at the start.
        width: Multiplies all numbers of channels.
    """

    architecture: Literal["resnet18", "resnet19", "resnet20", "resnet20m", "resnet34"]
    width: float = field(default=1.0, metadata=ABOVE_ZERO)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualStages(_Residual):
    """A residual network of one's own: [network].

    Attributes:
        architecture: "residual".
        blocks: Number of blocks of each stage; each stage but the first halves the image.
        channels: Of the first stage; doubled from stage to stage.
    """

    architecture: Literal["residual"]
    blocks: tuple[int, ...] = field(metadata={**POSITIVE, **NOT_EMPTY})
    channels: int = field(metadata=POSITIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainNetwork(_Network):
    """A deep network without skip connections, by its name: [network].

    Attributes:
        architecture: "plain14", "plain20": a stem, stages of [2, 2, 2] and [3, 3, 3] blocks of
            two convolutions at 16, 32, 64 channels, mean over space, linear map.
        width: Multiplies all numbers of channels.
    """

    architecture: Literal["plain14", "plain20"]
    width: float = field(default=1.0, metadata=ABOVE_ZERO)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainStages(_Network):
    """A deep network without skip connections, of one's own: [network].

    Attributes:
        architecture: "plain".
        blocks: Number of blocks of two convolutions of each stage; each stage but the first
            halves the image.
        channels: Of the first stage; doubled from stage to stage.
    """

    architecture: Literal["plain"]
    blocks: tuple[int, ...] = field(metadata={**POSITIVE, **NOT_EMPTY})
    channels: int = field(metadata=POSITIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class VggNetwork(_Network):
    """Stages of 3x3 convolutions with pooling between: [network].

    Attributes:
        architecture: "vgg11" or "vgg16".
        width: Multiplies all numbers of channels.
        pooling: After each of the five stages.
        hidden: Dense neurons before the read-out; [4096, 4096] in the original for ImageNet.
    """

    architecture: Literal["vgg11", "vgg16"]
    width: float = field(default=1.0, metadata=ABOVE_ZERO)
    pooling: Literal["average", "max"] = "average"
    hidden: tuple[int, ...] = field(default=(), metadata=POSITIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CifarNetwork(_Network):
    """Wu et al.'s CIFARNet: 128-256-pool-512-pool-1024-512 convolutions, 1024-512 dense: [network].

    Attributes:
        architecture: "cifarnet".
        width: Multiplies all numbers of channels and dense neurons.
        pooling: After the second and third convolution.
    """

    architecture: Literal["cifarnet"]
    width: float = field(default=1.0, metadata=ABOVE_ZERO)
    pooling: Literal["average", "max"] = "average"


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpNetwork(_Network):
    """Dense layers: [network].

    Attributes:
        architecture: "mlp".
        hidden: Neurons of each layer.
        batch_norm: Normalise the currents.
    """

    architecture: Literal["mlp"]
    hidden: tuple[int, ...] = field(metadata={**POSITIVE, **NOT_EMPTY})
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
