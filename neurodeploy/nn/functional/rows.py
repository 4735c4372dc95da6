"""Between a time-first tensor and the rows that `neurodeploy.nn.functional.dynamics` works on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurodeploy.errors import GraphError


@dataclass(frozen=True, slots=True)
class Rows:
    """How a (T, N, C, ...) tensor is read as (T, M), in the order its memory already has.

    A neuron does not care which of its M = N · C · ... columns it is, so a channels-last tensor
    needs no copy. Only decays that differ between channels must be spread in the same order.

    Attributes:
        order: The tensor's axes as they lie in memory, time first.
        sizes: Their sizes, in that order.
    """

    order: tuple[int, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, x: Tensor) -> Rows:
        """Find the order of a tensor; one without a dense memory order gets (0, 1, 2, ...)."""
        strides = x.stride()
        order = (0, *sorted(range(1, x.dim()), key=lambda axis: strides[axis], reverse=True))
        if not x.permute(order).is_contiguous():
            order = tuple(range(x.dim()))
        return cls(order, tuple(x.shape[axis] for axis in order))

    def flatten(self, x: Tensor) -> Tensor:
        """Read (T, N, C, ...) as contiguous (T, M)."""
        return x.permute(self.order).reshape(self.sizes[0], -1).contiguous()

    @property
    def layout(self) -> tuple[list[int], list[int]]:
        """Sizes and strides of the tensor (T, N, C, ...) that lies in memory in this order."""
        strides = [1]
        for size in reversed(self.sizes[1:]):
            strides.insert(0, strides[0] * size)
        places = self._inverse()
        return [self.sizes[place] for place in places], [strides[place] for place in places]

    def restore(self, rows: Tensor) -> Tensor:
        """Read (T, M) as (T, N, C, ...) again, without a copy."""
        return rows.reshape(self.sizes).permute(self._inverse())

    def flatten_state(self, state: Tensor | None) -> Tensor | None:
        """Read (N, C, ...) as (M,); None stays None."""
        if state is None:
            return None
        return state.permute([axis - 1 for axis in self.order[1:]]).reshape(-1)

    def restore_state(self, column: Tensor) -> Tensor:
        """Read (M,) as (N, C, ...) again."""
        return column.reshape(1, *self.sizes[1:]).permute(self._inverse())[0]

    def spread(self, values: Tensor) -> Tensor:
        """Return one value a column, (M,), for one a channel, (C,); a single one stays (1,)."""
        if values.numel() == 1:
            return values
        sizes = [self.sizes[place] for place in self._inverse()[1:]]
        per_neuron = values.view(1, -1, *(1,) * (len(sizes) - 2)).expand(sizes)
        return per_neuron.permute([axis - 1 for axis in self.order[1:]]).reshape(-1)

    def _inverse(self) -> list[int]:
        return [self.order.index(axis) for axis in range(len(self.order))]


def at_least_float32(x: Tensor) -> Tensor:
    """Return x as it is, or in float32 where autocast left less: norms and neurons need that."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def checked_input(x: Tensor, name: str) -> Tensor:
    """Return a neuron's input in at least float32; GraphError unless it is (T, N, C, ...)."""
    if x.dim() < 3 or not x.is_floating_point():
        raise GraphError(
            f"{name}: input of shape {tuple(x.shape)} and dtype {x.dtype}, a float tensor "
            "(T, N, C, ...) is required."
        )
    return at_least_float32(x)
