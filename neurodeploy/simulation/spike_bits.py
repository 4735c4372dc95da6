"""Spikes of a recording as bits, and the arrays of them, made when somebody reads them.

Of a run that keeps all spikes, to write a byte for each neuron and step took as long as a third of
all else; most of them are never read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from threading import Lock
from typing import Generic, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt

from neurodeploy.simulation.large_pages import zeros_together

Item = TypeVar("Item")
Made = TypeVar("Made", covariant=True)
Number = TypeVar("Number")
CountArray = npt.NDArray[np.uint8] | npt.NDArray[np.int32]
SpikeArray = npt.NDArray[np.integer]
"""Events of one layer: uint8 (0 or 1) where they carry no value, int32 where they do."""
TILE_BITS = 16
"""Channels of a pixel, which lie side by side, are padded to a multiple of this."""
_lock = Lock()
"""Held while an array takes the place of its bits."""


class Unmade(ABC, Generic[Made]):
    """Something that is made when it is read."""

    __slots__ = ()

    @abstractmethod
    def make(self) -> Made:
        """Make it."""

    @abstractmethod
    def count(self) -> int:
        """Return the number of events in it, which need not be made for that."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpikeBits(Unmade[SpikeArray]):
    """Spikes of one layer, a bit for each neuron and step.

    Attributes:
        bits: (samples, T, pixels · tiles) uint16: of each pixel 16 channels a tile, the first in
            the lowest bit; zero where there is no channel.
        shape: Of the layer, (C, H, W) or (N,).
    """

    bits: npt.NDArray[np.uint16]
    shape: tuple[int, ...]

    def count(self) -> int:
        """Return the number of spikes."""
        return int(np.bitwise_count(self.bits).sum(dtype=np.int64))

    def make(self) -> npt.NDArray[np.uint8]:
        """Return (samples, T, *layer) uint8, 0 or 1."""
        samples, steps = self.bits.shape[:2]
        channels, pixels = self.shape[0], prod(self.shape[1:])
        if pixels == 1:
            octets = self._frames().astype("<u2", copy=False).view(np.uint8)
            flat = np.unpackbits(octets, axis=-1, count=channels, bitorder="little")
            return flat.reshape(samples, steps, *self.shape)
        from neurodeploy.simulation.kernel_code import expand_bits  # here: it loads LLVM

        (frames,) = zeros_together([((samples, steps, *self.shape), np.uint8)])
        expand_bits((samples * steps, channels, pixels), self._frames(), frames.reshape(-1))
        return cast("npt.NDArray[np.uint8]", frames)

    def totals(self) -> CountArray:
        """Return the number of spikes of each neuron, (samples, *layer), in `count_type(T)`."""
        from neurodeploy.simulation.kernel_code import count_bits  # likewise

        samples, steps = self.bits.shape[:2]
        channels, pixels = self.shape[0], prod(self.shape[1:])
        (counted,) = zeros_together([((samples, *self.shape), count_type(steps))])
        if steps:
            shape = samples, steps, channels, pixels
            count_bits(shape, self._frames(), counted.reshape(-1))
        return cast("CountArray", counted)

    def _frames(self) -> npt.NDArray[np.uint16]:
        """Return the bits, (samples · T, pixels · tiles), in one piece."""
        samples, steps, size = self.bits.shape
        return np.ascontiguousarray(self.bits).reshape(samples * steps, size)


class MadeWhenRead(Sequence[Item]):
    """Something of each layer; some are made when they are first read, and once.

    They may be changed, and others see it. A copy, or what a pickle holds, is made when it is read
    itself.
    """

    def __init__(self, kept: Sequence[Item | Unmade[Item]]) -> None:
        self._kept = list(kept)

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Item, ...]: ...

    def __getitem__(self, index: int | slice) -> Item | tuple[Item, ...]:
        if isinstance(index, slice):
            return tuple(self[k] for k in range(len(self))[index])
        kept = self._kept[index]
        if not isinstance(kept, Unmade):
            return kept
        made: Item = kept.make()
        with _lock:  # two threads that read it first get the same
            if self._kept[index] is kept:
                self._kept[index] = made
            return cast("Item", self._kept[index])

    def counts(self, count: Callable[[Item], Number]) -> tuple[int | Number, ...]:
        """Return the number of events of each; `count` tells that of one that is made."""
        return tuple(one.count() if isinstance(one, Unmade) else count(one) for one in self._kept)


def made_when_read(kept: Sequence[Item | Unmade[Item]]) -> Sequence[Item]:
    """Return something of each layer: a tuple, unless some are still to be made."""
    made = [one for one in kept if not isinstance(one, Unmade)]
    return tuple(made) if len(made) == len(kept) else MadeWhenRead(kept)


def count_events(
    layers: Sequence[Item], count: Callable[[Item], Number]
) -> tuple[int | Number, ...]:
    """Return the number of events of each layer, without making what is not made."""
    if isinstance(layers, MadeWhenRead):
        return layers.counts(count)
    return tuple(map(count, layers))


def count_type(steps: int) -> type[np.uint8] | type[np.int32]:
    """Return the type in which events of a neuron are counted over some steps: uint8 up to 255."""
    return np.uint8 if steps <= np.iinfo(np.uint8).max else np.int32


def tiles_of(shape: tuple[int, ...]) -> int:
    """Return how many numbers of 16 bits the spikes of a layer take in a step."""
    return -(-shape[0] // TILE_BITS) * prod(shape[1:])


def pack_bits(spikes: SpikeArray) -> npt.NDArray[np.uint16]:
    """Return spikes (samples, T, *layer) as `SpikeBits.bits`."""
    samples, steps, channels = spikes.shape[:3]
    flat = (spikes != 0).reshape(samples, steps, channels, -1).transpose(0, 1, 3, 2)
    padded = np.zeros((*flat.shape[:3], -(-channels // TILE_BITS) * TILE_BITS), bool)
    padded[..., :channels] = flat
    octets = np.packbits(padded.reshape(samples, steps, -1), axis=-1, bitorder="little")
    return octets.view("<u2").astype(np.uint16, copy=False)
