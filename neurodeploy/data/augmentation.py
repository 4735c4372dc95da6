"""Random changes of training samples: every one is chosen by the generator it is given."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


def shift_images(images: Tensor, pixels: int, *, generator: torch.Generator) -> Tensor:
    """Move every sample by up to so many pixels in each direction, as "pad, then crop" does."""
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
    padded = functional.pad(images, (pixels,) * 4)
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
    """Mirror every other sample, on average, from left to right, with all its steps.

    Args:
        images: (batch, ..., W), any dtype.
        generator: Chooses the samples.
    """
    is_flipped = torch.randint(2, (len(images),), generator=generator).bool()
    return torch.where(is_flipped.view(-1, *[1] * (images.ndim - 1)), images.flip(-1), images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Warp:
    """Limits of what `warp_images` does.

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
        warp: Limits of the changes.
        generator: Chooses each image's angle and sizes.
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
