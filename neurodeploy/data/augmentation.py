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
    """Return how far `move_images` moves each of `count` samples, (count, 2) int64.

    Zeros for 0 pixels, without using the generator.
    """
    if pixels == 0:
        return torch.zeros(count, 2, dtype=torch.int64)
    return torch.randint(-pixels, pixels + 1, (2, count, 1), generator=generator)[..., 0].T


def move_images(images: Tensor, moves: Tensor) -> Tensor:
    """Move each sample, (..., H, W) of any dtype, all steps together; zeros move in."""
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
    """Mirror every other sample, on average, from left to right, all steps together."""
    is_flipped = torch.randint(2, (len(images),), generator=generator).bool()
    return torch.where(is_flipped.view(-1, *[1] * (images.ndim - 1)), images.flip(-1), images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Warp:
    """Limits of `warp_images`: degrees of a turn either way, share of a change of each size."""

    degrees: float = 0.0
    zoom: float = 0.0


def warp_images(images: Tensor, warp: Warp, *, generator: torch.Generator) -> Tensor:
    """Turn and resize every image, (batch, C, H, W), about its middle; zeros move in.

    Values between pixels are interpolated and rounded: integers stay integers.
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
