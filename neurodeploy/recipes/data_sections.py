"""Where samples come from: what [data] may say in a recipe, one class for each source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from neurodeploy.recipes.strict_toml import (
    FRACTION,
    NOT_EMPTY,
    NOT_NEGATIVE,
    POSITIVE,
    Range,
)

Normalization = Literal["scale", "center", "mean_std"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitsData:
    """The scikit-learn digits as [data]: 1797 images of 8x8 pixels, 0 to 16, ten classes.

    Attributes:
        source: "digits".
        test_fraction: Share of all samples, stratified, the same in every run.
        test_seed: Chooses which samples they are; another one is another split, for an estimate
            that does not hang on a single test part.
        validation_fraction: Share of the training part that is held out, stratified, chosen by
            the recipe's seed.
        input_bits: The network sees x / 2**input_bits for an integer x; |x| may not exceed
            2**input_bits.
        normalization: "scale": x is the pixel. "center": x is the pixel minus the rounded mean of
            all, 5, still an integer that a chip can read; zeros around the image are then grey.
        shift: Training images are moved by up to this many pixels in each direction.
        rotate: Training images are turned by up to this many degrees, either way.
        zoom: Height and width of training images are changed by up to this share.
        enlarge: Each pixel becomes a square of this many pixels in width: 2 gives 16x16 images.
    """

    source: Literal["digits"] = "digits"
    test_fraction: float = field(default=0.2, metadata=FRACTION)
    test_seed: int = field(default=0, metadata=NOT_NEGATIVE)
    validation_fraction: float = field(default=0.15, metadata=FRACTION)
    input_bits: int = field(default=4, metadata={"range": Range(minimum=0, maximum=16)})
    normalization: Literal["scale", "center"] = "scale"
    shift: int = field(default=0, metadata=NOT_NEGATIVE)
    rotate: float = field(default=0.0, metadata=NOT_NEGATIVE)
    zoom: float = field(default=0.0, metadata={"range": Range(minimum=0, below=1)})
    enlarge: int = field(default=1, metadata={"range": Range(minimum=1, maximum=32)})

    classes: ClassVar[int] = 10
    encoding: ClassVar[Literal["direct", "events"]] = "direct"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image: (1, H, W)."""
        return (1, 8 * self.enlarge, 8 * self.enlarge)


@dataclass(frozen=True, slots=True, kw_only=True)
class NpzData:
    """A NumPy archive of one's own as [data], with the arrays `input` and `label`.

    Attributes:
        source: "npz".
        path: The archive; relative to the directory that the command runs in, as on a command
            line, and not to the recipe. `~` is the home directory.
        shape: Shape of one step of one sample: [C, H, W] or [N].
        classes: Number of classes; labels are 0 to classes - 1.
        encoding: "direct": `input` is (samples, *shape), shown at each step. "events": it is
            (samples, steps, *shape).
        test_fraction: As for the digits.
        validation_fraction: As for the digits.
        input_bits: As for the digits; 0 for binary spikes.
        shift: As for the digits.
    """

    source: Literal["npz"]
    path: str = field(metadata=NOT_EMPTY)
    shape: tuple[int, ...] = field(metadata={**POSITIVE, "lengths": (1, 3)})
    classes: int = field(metadata={"range": Range(minimum=2)})
    encoding: Literal["direct", "events"] = "direct"
    test_fraction: float = field(default=0.2, metadata=FRACTION)
    validation_fraction: float = field(default=0.15, metadata=FRACTION)
    input_bits: int = field(default=0, metadata={"range": Range(minimum=0, maximum=16)})
    shift: int = field(default=0, metadata=NOT_NEGATIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageData:
    """What published image sets have in common; each is a [data] section of its own.

    Attributes:
        source: Which set.
        root: Folder that holds the set, laid out as torchvision expects; nothing is downloaded.
            Relative to the directory that the command runs in; `~` is the home directory.
        validation_fraction: Share of the training part that is held out, stratified, chosen by
            the recipe's seed.
        input_bits: A pixel of 8 bits is cut down to this many; the network sees
            x / 2**input_bits.
        normalization: "scale": x is the pixel. "center": x is the pixel minus the rounded mean of
            its channel, still an integer that a chip can read. "mean_std": the usual float
            normalisation with mean and deviation; for training only, deployment refuses it.
        crop_padding: Training images are padded by so many black pixels and cropped at a random
            place.
        workers: Processes that prepare batches ahead; changes nothing but the speed.
    """

    source: str
    root: str = field(metadata=NOT_EMPTY)
    validation_fraction: float = field(default=0.1, metadata=FRACTION)
    input_bits: int = field(default=8, metadata={"range": Range(minimum=1, maximum=8)})
    normalization: Normalization = "scale"
    crop_padding: int = field(default=0, metadata=NOT_NEGATIVE)
    workers: int = field(default=0, metadata=NOT_NEGATIVE)

    encoding: ClassVar[Literal["direct", "events"]] = "direct"
    shift: ClassVar[int] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MnistData(ImageData):
    """MNIST as [data]: 60000 + 10000 digits of 28x28 pixels.

    Attributes:
        source: "mnist".
    """

    source: Literal["mnist"]

    shape: ClassVar[tuple[int, ...]] = (1, 28, 28)
    classes: ClassVar[int] = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FashionMnistData(ImageData):
    """Fashion-MNIST as [data]: 60000 + 10000 articles of 28x28 pixels.

    Attributes:
        source: "fashion_mnist".
        flip: Training images are mirrored, every other one on average.
    """

    source: Literal["fashion_mnist"]
    flip: bool = False

    shape: ClassVar[tuple[int, ...]] = (1, 28, 28)
    classes: ClassVar[int] = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Cifar10Data(ImageData):
    """CIFAR-10 as [data]: 50000 + 10000 colour images of 32x32 pixels.

    Attributes:
        source: "cifar10".
        flip: Training images are mirrored, every other one on average.
        auto_augment: AutoAugment's CIFAR-10 policy on training images, after flip and crop.
    """

    source: Literal["cifar10"]
    flip: bool = False
    auto_augment: bool = False

    shape: ClassVar[tuple[int, ...]] = (3, 32, 32)
    classes: ClassVar[int] = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Cifar100Data(ImageData):
    """CIFAR-100 with its fine labels as [data]: 50000 + 10000 colour images of 32x32 pixels.

    Attributes:
        source: "cifar100".
        flip: As for CIFAR-10.
        auto_augment: As for CIFAR-10.
    """

    source: Literal["cifar100"]
    flip: bool = False
    auto_augment: bool = False

    shape: ClassVar[tuple[int, ...]] = (3, 32, 32)
    classes: ClassVar[int] = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageNetData:
    """ImageNet, or any images in folders of classes, as [data].

    Attributes:
        source: "imagenet".
        root: Folder with train/CLASS/*.JPEG and val/CLASS/*.JPEG; `val` is the test part.
        size: Height and width that images are brought to.
        classes: Number of folders in each.
        validation_fraction: As for `ImageData`.
        input_bits: As for `ImageData`.
        normalization: As for `ImageData`.
        random_crop: Training images are random parts, 8 to 100 % of the area, of an image; else
            the middle, as in the other parts.
        flip: Training images are mirrored, every other one on average.
        auto_augment: AutoAugment's ImageNet policy on training images, after crop and flip.
        workers: As for `ImageData`.
    """

    source: Literal["imagenet"]
    root: str = field(metadata=NOT_EMPTY)
    size: int = field(default=224, metadata=POSITIVE)
    classes: int = field(default=1000, metadata={"range": Range(minimum=2)})
    validation_fraction: float = field(default=0.01, metadata=FRACTION)
    input_bits: int = field(default=8, metadata={"range": Range(minimum=1, maximum=8)})
    normalization: Normalization = "scale"
    random_crop: bool = True
    flip: bool = True
    auto_augment: bool = False
    workers: int = field(default=0, metadata=NOT_NEGATIVE)

    encoding: ClassVar[Literal["direct", "events"]] = "direct"
    shift: ClassVar[int] = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """(3, size, size)."""
        return 3, self.size, self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class EventData:
    """What published event sets have in common; each is a [data] section of its own.

    A sample is cut into T spans of equal length, from its first event to its last; a frame counts
    the events of a span. Frames are made once and kept on disk.

    Attributes:
        source: Which set.
        root: Folder that holds the set, laid out as tonic expects; nothing is downloaded.
            Relative to the directory that the command runs in; `~` is the home directory.
        cache: Folder for the frames; by default `frames` inside `root`.
        validation_fraction: Share of the training part that is held out, stratified, chosen by
            the recipe's seed.
        input_bits: Counts above 2**input_bits are cut off; the network sees x / 2**input_bits.
            0: a place has spiked or not.
        workers: Processes that prepare batches ahead; changes nothing but the speed.
    """

    source: str
    root: str = field(metadata=NOT_EMPTY)
    cache: str | None = field(default=None, metadata=NOT_EMPTY)
    validation_fraction: float = field(default=0.1, metadata=FRACTION)
    input_bits: int = field(default=0, metadata={"range": Range(minimum=0, maximum=7)})
    workers: int = field(default=0, metadata=NOT_NEGATIVE)

    encoding: ClassVar[Literal["direct", "events"]] = "events"
    shift: ClassVar[int] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cifar10DvsData(EventData):
    """CIFAR10-DVS as [data]: 10000 recordings of 128x128 pixels, two polarities.

    Attributes:
        source: "cifar10dvs".
        test_fraction: Share of all samples, stratified, the same in every run; 0.1 gives the
            usual 9000 and 1000.
        size: Height and width that positions are scaled down to.
        flip: Training samples are mirrored, every other one on average.
        roll: Training samples move by up to so many pixels in each direction; what leaves at one
            edge enters at the other.
    """

    source: Literal["cifar10dvs"]
    test_fraction: float = field(default=0.1, metadata=FRACTION)
    size: int = field(default=48, metadata={"range": Range(minimum=1, maximum=128)})
    flip: bool = False
    roll: int = field(default=0, metadata=NOT_NEGATIVE)

    classes: ClassVar[int] = 10

    @property
    def shape(self) -> tuple[int, ...]:
        """(polarities, size, size)."""
        return 2, self.size, self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class NmnistData(EventData):
    """N-MNIST as [data]: 60000 + 10000 recordings of 34x34 pixels, two polarities.

    Attributes:
        source: "nmnist".
        roll: As for CIFAR10-DVS.
    """

    source: Literal["nmnist"]
    roll: int = field(default=0, metadata=NOT_NEGATIVE)

    shape: ClassVar[tuple[int, ...]] = (2, 34, 34)
    classes: ClassVar[int] = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DvsGestureData(EventData):
    """DVS Gesture as [data]: recordings of 128x128 pixels, two polarities, eleven gestures.

    Attributes:
        source: "dvs_gesture".
        size: Height and width that positions are scaled down to.
        roll: As for CIFAR10-DVS.
    """

    source: Literal["dvs_gesture"]
    size: int = field(default=128, metadata={"range": Range(minimum=1, maximum=128)})
    roll: int = field(default=0, metadata=NOT_NEGATIVE)

    classes: ClassVar[int] = 11

    @property
    def shape(self) -> tuple[int, ...]:
        """(polarities, size, size)."""
        return 2, self.size, self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class ShdData(EventData):
    """Spiking Heidelberg Digits as [data]: 8156 + 2264 recordings of 700 channels, 20 classes.

    Attributes:
        source: "shd".
    """

    source: Literal["shd"]

    shape: ClassVar[tuple[int, ...]] = (700,)
    classes: ClassVar[int] = 20


DataSection = (
    DigitsData
    | NpzData
    | MnistData
    | FashionMnistData
    | Cifar10Data
    | Cifar100Data
    | ImageNetData
    | Cifar10DvsData
    | NmnistData
    | DvsGestureData
    | ShdData
)
