"""Random changes of training samples: every one is chosen by the generator it is given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from neurodeploy.data.packages import torchvision_transforms


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
    return move_images(images, draw_moves(len(images), pixels, generator=generator))


def draw_moves(count: int, pixels: int, *, generator: torch.Generator) -> Tensor:
    """Draw how far `move_images` moves each of `count` samples.

    Returns:
        (count, 2) int64, from where each sample's first row and column come, within ±pixels;
        zeros for 0 pixels, without using the generator.
    """
    if pixels == 0:
        return torch.zeros(count, 2, dtype=torch.int64)
    return torch.randint(-pixels, pixels + 1, (2, count, 1), generator=generator)[..., 0].T


def move_images(images: Tensor, moves: Tensor) -> Tensor:
    """Move each sample; zeros move in.

    Args:
        images: (batch, ..., H, W), any dtype; all steps of a sample move together.
        moves: (batch, 2), as `draw_moves` gives them.
    """
    pixels = int(moves.abs().max()) if moves.numel() else 0
    if pixels == 0:
        return images
    height, width = images.shape[-2:]
    padded = torch.nn.functional.pad(images, (pixels,) * 4)
    corners = (moves + pixels).tolist()
    return torch.stack(
        [
            sample[..., top : top + height, left : left + width]
            for sample, (top, left) in zip(padded, corners, strict=True)
        ]
    )


def roll_images(images: Tensor, pixels: int, *, generator: torch.Generator) -> Tensor:
    """Move every sample as `shift_images` does; what leaves at one edge enters at the other."""
    if pixels == 0:
        return images
    moves = (-draw_moves(len(images), pixels, generator=generator)).tolist()
    return torch.stack(
        [torch.roll(sample, move, (-2, -1)) for sample, move in zip(images, moves, strict=True)]
    )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Warp:
    """How much `warp_images` turns and resizes images.

    Attributes:
        degrees: Images are turned by up to this much, either way.
        zoom: Height and width are changed by up to this share, each by itself.
    """

    degrees: float = 0.0
    zoom: float = 0.0


def warp_images(images: Tensor, warp: Warp, *, generator: torch.Generator) -> Tensor:
    """Turn and resize every image about its middle; zeros move in.

    Values between pixels are interpolated and rounded: integers stay integers.

    Args:
        images: (batch, C, H, W) of integers.
        warp: How much.
        generator: Chooses each image's angle and sizes.

    Returns:
        A new tensor like `images`.
    """
    draws = 2 * torch.rand((3, len(images)), generator=generator, dtype=torch.float64) - 1
    angles = draws[0] * math.radians(warp.degrees)
    heights, widths = 1 + draws[1:] * warp.zoom
    # Where each pixel comes from, in the units of `affine_grid`, x before y: a larger image is
    # read in smaller steps.
    rows = (
        torch.stack([angles.cos() / widths, -angles.sin() / widths, torch.zeros_like(angles)]),
        torch.stack([angles.sin() / heights, angles.cos() / heights, torch.zeros_like(angles)]),
    )
    matrices = torch.stack(rows).permute(2, 0, 1).to(torch.float32)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    warped = functional.grid_sample(
        images.to(torch.float32), grid, mode="bilinear", align_corners=False
    )
    return warped.round().to(images.dtype)
