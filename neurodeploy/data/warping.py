"""Turn and resize training images a little, each by a random amount."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class Warp:
    """How much.

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
