"""Published image sets, read by torchvision from a folder of the user's."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from neurodeploy.data.augmentation import flip_images, shift_images
from neurodeploy.data.stored import StoredDataset, import_package, is_hidden, layout_hint
from neurodeploy.errors import DataError
from neurodeploy.recipes.data_sections import (
    Cifar10Data,
    Cifar100Data,
    ImageNetData,
    ImageSection,
    MemoryImageSection,
    MnistData,
)
from neurodeploy.untrusted.boundary import FileKind, guarded, reading, reason_of

IMAGES = FileKind("image set", "images", DataError, "Get the set again.")
IMAGE = FileKind(
    "image", ".JPEG", DataError, "An image is required. Get the file again, or remove it."
)
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
"""Formats that the suffixes of images stand for; for others Pillow may run programs."""
_CLASSES_AND_PAGES = {
    "mnist": ("MNIST", "http://yann.lecun.com/exdb/mnist"),
    "fashion_mnist": ("FashionMNIST", "https://github.com/zalandoresearch/fashion-mnist"),
    "cifar10": ("CIFAR10", "https://www.cs.toronto.edu/~kriz/cifar.html (CIFAR-10 python version)"),
    "cifar100": (
        "CIFAR100",
        "https://www.cs.toronto.edu/~kriz/cifar.html (CIFAR-100 python version)",
    ),
}
"""torchvision's class for each source, and where the set is offered."""
_IMAGENET_PAGE = "https://image-net.org/download.php (ILSVRC 2012; free registration)"


def read_images(section: ImageSection) -> tuple[StoredDataset, StoredDataset]:
    """Return the published training part and test part of an image set in the recipe's folder.

    Raises:
        DataError: If files are missing or damaged; it says which, where they come from and how
            to lay them out.
    """
    if isinstance(section, ImageNetData):
        return _folder_part(section, "train"), _folder_part(section, "val", like="train")
    return _memory_part(section, train=True), _memory_part(section, train=False)


@contextlib.contextmanager
def _seeded(generator: torch.Generator) -> Iterator[None]:
    """Seed torch's global generator inside the block: torchvision draws from no other."""
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


# --- in memory: MNIST and CIFAR ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MemoryImages:
    """Images in memory, (samples, C, H, W) uint8, and what training does to them."""

    images: Tensor
    crop_padding: int
    flip: bool
    policy: Literal["cifar10"] | None

    @property
    def is_random(self) -> bool:
        """True if a generator changes the samples."""
        return bool(self.crop_padding or self.flip or self.policy)

    def read(self, indices: Tensor, *, generator: torch.Generator | None) -> Tensor:
        """Return (batch, C, H, W) uint8, cropped, mirrored and augmented given a generator."""
        images = self.images[indices]
        if generator is None:
            return images
        images = shift_images(images, self.crop_padding, generator=generator)
        if self.flip:
            images = flip_images(images, generator=generator)
        if self.policy is not None:
            transforms = import_package("torchvision.transforms")
            augment = transforms.AutoAugment(transforms.AutoAugmentPolicy(self.policy))
            with _seeded(generator):
                return torch.stack([augment(image) for image in images])
        return images

    def digest(self) -> str:
        """Return a short name that changes with pixels and augmentation."""
        digest = hashlib.sha256(self.images.numpy().tobytes())
        digest.update(repr((self.images.shape, self.crop_padding, self.flip, self.policy)).encode())
        return digest.hexdigest()


def _memory_part(section: MemoryImageSection, *, train: bool) -> StoredDataset:
    root = Path(section.root).expanduser()
    name, page = _CLASSES_AND_PAGES[section.source]
    kind = getattr(import_package("torchvision.datasets"), name)
    files = _expected_files(kind, root)
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise DataError(_how_to_get(section, missing, root))
    try:
        with guarded(files[0].parent, IMAGES), warnings.catch_warnings():
            # CIFAR's files describe a dtype as NumPy did long ago; NumPy 2.4.0 to 2.4.4 warn of it.
            warnings.filterwarnings("ignore", message=".*align should be passed")
            found = kind(str(root), train=train, download=False)
            images = torch.as_tensor(np.asarray(found.data))
            labels = np.asarray(found.targets, dtype=np.int64)
    except DataError as error:
        is_whole = import_package("torchvision.datasets").utils.check_integrity
        damaged = [root / path for path, md5 in _checksums(kind) if not is_whole(root / path, md5)]
        names = ", ".join(map(str, damaged)) or f"{files[0].parent}: the files"
        reason = reason_of(error.__cause__ or error)
        raise DataError(
            f"{names}: damaged or incomplete ({reason}). Get the set again from {page}."
        ) from error
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    if images.shape[1:] != section.shape or images.dtype != torch.uint8:
        raise DataError(
            f"{files[0].parent}: images are {images.dtype} of shape {tuple(images.shape[1:])}, "
            f"uint8 of shape {section.shape} is required by source = '{section.source}'."
        )
    if labels.shape != (len(images),) or not len(images):
        raise DataError(
            f"{files[0].parent}: {len(images)} images and {len(labels)} labels. Get the set again."
        )
    if labels.min() < 0 or labels.max() >= section.classes:
        raise DataError(
            f"{files[0].parent}: labels from {labels.min()} to {labels.max()}, 0 to "
            f"{section.classes - 1} are required. Get the set again."
        )
    with_flip = not isinstance(section, MnistData) and section.flip
    augmented = isinstance(section, Cifar10Data | Cifar100Data) and section.auto_augment
    source = MemoryImages(
        images=images.contiguous(),
        crop_padding=section.crop_padding,
        flip=with_flip,
        policy="cifar10" if augmented else None,
    )
    return StoredDataset.of(section, source, labels)


def _expected_files(kind: type, root: Path) -> list[Path]:
    """Return the files that one of torchvision's classes reads, as the class itself lists them."""
    if hasattr(kind, "resources"):
        names = [Path(name).stem for name, _ in kind.resources]
        return [root / kind.__name__ / "raw" / name for name in names]
    return [root / path for path, _ in _checksums(kind)]


def _checksums(kind: type) -> list[tuple[Path, str]]:
    if not hasattr(kind, "train_list"):
        return []
    entries = [*kind.train_list, *kind.test_list]  # type: ignore[attr-defined]  # checked above
    entries.append((kind.meta["filename"], kind.meta["md5"]))  # type: ignore[attr-defined]
    folder = Path(kind.base_folder)  # type: ignore[attr-defined]
    return [(folder / name, checksum) for name, checksum in entries]


def _how_to_get(section: MemoryImageSection, missing: list[Path], root: Path) -> str:
    name, page = _CLASSES_AND_PAGES[section.source]
    what = ", ".join(str(path) for path in missing)
    if all(path.with_name(path.name + ".gz").is_file() for path in missing):
        advice = f"Unpack what is there: gunzip --keep {missing[0].parent}/*.gz"
    else:
        advice = (
            f"Get the set from {page} and put the files there, unpacked; on a machine with a "
            "network torchvision does both: "
            f"python -c \"import torchvision.datasets as d; d.{name}('{root}', download=True)\""
        )
    hint = layout_hint(root, missing[0].relative_to(root).parts[0])
    return f"data.root: no such file: {what}.{hint} {advice}. Or set data.root to where they are."


# --- in folders: ImageNet ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FolderImages:
    """Image files below a folder, decoded when they are wanted, and what training does to them."""

    root: Path
    files: tuple[str, ...]
    section: ImageNetData

    @property
    def is_random(self) -> bool:
        """True if a generator changes the samples."""
        return self.section.random_crop or self.section.flip or self.section.auto_augment

    def read(self, indices: Tensor, *, generator: torch.Generator | None) -> Tensor:
        """Return (batch, 3, size, size) uint8; `DataError` if a file is damaged or gone."""
        files = [self.files[index] for index in indices.tolist()]
        change = self._change(is_random=generator is not None)
        with contextlib.nullcontext() if generator is None else _seeded(generator):
            return torch.stack([change(self._image(file)) for file in files])

    def digest(self) -> str:
        """Return a short name that changes with file names, size and augmentation."""
        section = self.section
        settings = (section.size, section.random_crop, section.flip, section.auto_augment)
        digest = hashlib.sha256(repr(settings).encode())
        digest.update("\n".join(self.files).encode())
        return digest.hexdigest()

    def _image(self, file: str) -> object:
        path = self.root / file
        with (
            reading(path, IMAGE),
            import_package("PIL.Image").open(path, formats=_FORMATS) as image,
        ):
            return image.convert("RGB")

    def _change(self, *, is_random: bool) -> Callable[[object], Tensor]:
        """Return the function from a decoded image to (3, size, size) uint8."""
        transforms = import_package("torchvision.transforms")
        size = self.section.size
        crop = [transforms.Resize(round(size * 256 / 224)), transforms.CenterCrop(size)]
        others = []
        if is_random and self.section.random_crop:
            crop = [transforms.RandomResizedCrop(size)]
        if is_random and self.section.flip:
            others.append(transforms.RandomHorizontalFlip())
        if is_random and self.section.auto_augment:
            others.append(transforms.AutoAugment(transforms.AutoAugmentPolicy.IMAGENET))
        change: Callable[[object], Tensor] = transforms.Compose(
            [*crop, *others, transforms.PILToTensor()]
        )
        return change


def _folder_part(section: ImageNetData, part: str, *, like: str | None = None) -> StoredDataset:
    datasets = import_package("torchvision.datasets")
    root = Path(section.root).expanduser()
    folder = root / part
    layout = (
        f"{root / 'train'}/CLASS/*.JPEG and {root / 'val'}/CLASS/*.JPEG with {section.classes} "
        "folders in each are required"
    )
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; {layout}. Get the images from {_IMAGENET_PAGE}, sort "
            "those for validation into folders by class, and set data.root."
            f"{layout_hint(root, folder.name)}"
        )
    with guarded(folder, replace(IMAGES, rule=f"{layout[0].upper()}{layout[1:]}.")):
        found = datasets.ImageFolder(
            str(folder),
            is_valid_file=lambda path: (
                not is_hidden(Path(path)) and datasets.folder.is_image_file(path)
            ),
        )
    names: list[str] = found.classes
    if len(names) != section.classes:
        raise DataError(
            f"{folder}: {len(names)} folders, data.classes says {section.classes}; {layout}."
        )
    if like is not None:
        others = {path.name for path in (root / like).iterdir() if path.is_dir()}
        different = sorted(others ^ set(names))
        if different:
            raise DataError(
                f"{folder}: other classes than in {root / like}: {', '.join(different[:5])}; "
                f"{layout}."
            )
    labels = np.asarray(found.targets, dtype=np.int64)
    files = tuple(str(Path(path).relative_to(folder)) for path, _ in found.samples)
    source = FolderImages(root=folder, files=files, section=section)
    return StoredDataset.of(section, source, labels)
