"""Pooling of spikes without neurons: time-first images in, time-first values out."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class MaxPool(nn.Module):
    """Largest value of each window; of binary spikes, whether there is one.

    Args:
        kernel: Height and width.
        stride: Height and width.
        padding: On each side; never the largest.
    """

    def __init__(self, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Give (T, N, C, H', W') for (T, N, C, H, W)."""
        pooled = functional.max_pool2d(x.flatten(0, 1), self.kernel, self.stride, self.padding)
        return pooled.view(*x.shape[:2], *pooled.shape[1:])


class AveragePool(nn.Module):
    """Mean of each window, zeros of the padding included.

    Args:
        kernel: Height and width.
        stride: Height and width.
        padding: Zeros on each side.
    """

    def __init__(self, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Give (T, N, C, H', W') for (T, N, C, H, W)."""
        pooled = functional.avg_pool2d(x.flatten(0, 1), self.kernel, self.stride, self.padding)
        return pooled.view(*x.shape[:2], *pooled.shape[1:])


class GlobalAveragePool(nn.Module):
    """Mean over space."""

    def forward(self, x: Tensor) -> Tensor:
        """Give (T, N, C) for (T, N, C, H, W)."""
        return x.mean(dim=(3, 4))
