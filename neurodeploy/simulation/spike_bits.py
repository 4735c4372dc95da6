"""Spikes of a recording as bits, and the arrays of them, made when somebody reads them.

Of a run that keeps all spikes, to write a byte for each neuron and step took as long as a third of
all else; most of them are never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from threading import Lock
from typing import overload

import numpy as np
import numpy.typing as npt

SpikeArray = npt.NDArray[np.integer]
"""Events of one layer: uint8 (0 or 1) where they carry no value, int32 where they do."""
TILE_BITS = 16
"""Channels of a pixel, which lie side by side, are padded to a multiple of this."""
_lock = Lock()
"""Held while an array takes the place of its bits."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpikeBits:
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

    def expand(self) -> npt.NDArray[np.uint8]:
        """Return (samples, T, *layer) uint8, 0 or 1."""
        samples, steps = self.bits.shape[:2]
        channels, pixels = self.shape[0], prod(self.shape[1:])
        if pixels == 1:
            octets = self.bits.astype("<u2", copy=False).view(np.uint8)
            flat = np.unpackbits(octets, axis=-1, count=self.shape[0], bitorder="little")
            return flat.reshape(samples, steps, *self.shape)
        from neurodeploy.simulation.kernel_code import expand_bits  # here: it loads LLVM

        frames = np.empty(samples * steps * channels * pixels, np.uint8)
        bits = np.ascontiguousarray(self.bits).reshape(samples * steps, -1)
        expand_bits((samples * steps, channels, pixels), bits, frames)
        return frames.reshape(samples, steps, *self.shape)


class LayerSpikes(Sequence[SpikeArray | None]):
    """Spikes of each layer, None where they were not kept; arrays of bits are made once, if read.

    They may be changed, and others see it, as with any array. Pickled, bits stay bits.
    """

    def __init__(self, kept: Sequence[SpikeArray | SpikeBits | None]) -> None:
        self._kept = list(kept)

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, index: int) -> SpikeArray | None: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[SpikeArray | None, ...]: ...

    def __getitem__(self, index: int | slice) -> SpikeArray | tuple[SpikeArray | None, ...] | None:
        if isinstance(index, slice):
            return tuple(self[k] for k in range(len(self))[index])
        kept = self._kept[index]
        if isinstance(kept, SpikeBits):
            array = kept.expand()
            with _lock:  # of two threads that read it first, both get the same array
                if self._kept[index] is kept:
                    self._kept[index] = array
                kept = self._kept[index]
        assert not isinstance(kept, SpikeBits)
        return kept

    def totals(self) -> tuple[int | None, ...]:
        """Return the number of events of each layer, without making arrays."""
        return count_of_each(self._kept)


def spikes_of_layers(
    kept: Sequence[SpikeArray | SpikeBits | None],
) -> Sequence[SpikeArray | None]:
    """Return the spikes of each layer: a tuple, unless some are bits."""
    arrays = [one for one in kept if not isinstance(one, SpikeBits)]
    return tuple(arrays) if len(arrays) == len(kept) else LayerSpikes(kept)


def count_of_each(kept: Sequence[SpikeArray | SpikeBits | None]) -> tuple[int | None, ...]:
    """Return the number of events of each layer, None where they were not kept."""
    counts: list[int | None] = []
    for one in kept:
        if one is None or isinstance(one, SpikeBits):
            counts.append(None if one is None else one.count())
        else:
            counts.append(int(np.count_nonzero(one)))
    return tuple(counts)


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
