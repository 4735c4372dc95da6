"""Random changes of training samples: every one is chosen by the generator it is given."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from neurodeploy.learning.data.packages import torchvision_transforms


def shift_images(images: Tensor, pixels: int, *, generator: torch.Generator) -> Tensor:
    """Move every sample by a random number of pixels in each direction; zeros move in.

    This is what "pad, then crop at a random place" does.

    Args:
        images: (batch, ..., H, W), any dtype; all steps of a sample move together.
        pixels: Largest move, either way.
        generator: Chooses it.

    Returns:
        A new tensor like `images`.
    """
    if pixels == 0:
        return images
    rows, columns, height, width = _places(images, pixels, generator)
    is_inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
        :, None, :
    ]
    gathered = _gather(images, rows.clamp(0, height - 1), columns.clamp(0, width - 1))
    return (gathered * is_inside[:, None]).reshape(images.shape)


def roll_images(images: Tensor, pixels: int, *, generator: torch.Generator) -> Tensor:
    """Move every sample as `shift_images` does; what leaves at one edge enters at the other."""
    if pixels == 0:
        return images
    rows, columns, height, width = _places(images, pixels, generator)
    return _gather(images, rows % height, columns % width).reshape(images.shape)


def flip_images(images: Tensor, *, generator: torch.Generator) -> Tensor:
    """Mirror every other sample, on average, from left to right.

    Args:
        images: (batch, ..., W), any dtype; all steps of a sample are mirrored together.
        generator: Chooses which.

    Returns:
        A new tensor like `images`.
    """
    is_flipped = torch.randint(2, (len(images),), generator=generator).bool()
    return torch.where(is_flipped.view(-1, *[1] * (images.ndim - 1)), images.flip(-1), images)


def auto_augment(
    images: Tensor, policy: Literal["cifar10", "imagenet"], *, generator: torch.Generator
) -> Tensor:
    """Apply torchvision's AutoAugment to every image.

    Args:
        images: (batch, 1 or 3, H, W) uint8.
        policy: The published set of operations.
        generator: Chooses among them.

    Returns:
        A new tensor like `images`.
    """
    transforms = torchvision_transforms()
    augment = transforms.AutoAugment(transforms.AutoAugmentPolicy(policy))
    seed = int(torch.randint(2**62, (), generator=generator))
    # torchvision draws from torch's global generator and takes no other: it is set here and
    # put back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.stack([augment(image) for image in images])


def _places(
    images: Tensor, pixels: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, int, int]:
    """Give the row and column, (batch, H) and (batch, W), that each pixel comes from."""
    height, width = images.shape[-2:]
    moves = torch.randint(-pixels, pixels + 1, (2, len(images), 1), generator=generator)
    return torch.arange(height) + moves[0], torch.arange(width) + moves[1], height, width


def _gather(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    flat = images.reshape(len(images), -1, *images.shape[-2:])
    return flat[
        torch.arange(flat.shape[0])[:, None, None, None],
        torch.arange(flat.shape[1])[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
