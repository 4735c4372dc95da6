"""A chain of rectified layers: a ReLU network on its way to sigma-delta neurons.

Every layer reads the one before it alone. Its outputs are max(W x + b, 0); those of the last one
are W x + b. What the network needs later is carried on by relay channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from neurodeploy.fixedpoint import FloatArray, Int64Array
from neurodeploy.interchange.floating import apply
from neurodeploy.ir.float_layers import Conv, Dense, Shape

NONE = -1
"""Where an array of channel numbers names none."""
VALUES_MAX = 1 << 22
"""Values of one layer that are computed at a time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChainLayer:
    """One layer of a chain.

    Attributes:
        name: That of the node whose result it computes.
        synapse: Conv or Dense with a bias.
        source: Shape of what it reads.
        shape: (C, H, W) or (N,).
        tied: (C,) for each output channel, the input channel whose scale it must have because its
            weights are 1 and -1 and must stay exact (relays, maxima); NONE for others.
        identity: (C,) the input channel that is added with weight 1 (a skip connection) and must
            be represented exactly; NONE for others.
        partner: (C,) channels with equal numbers must have one scale (the halves of a value).
        is_pool: Whether the layer takes means: all weights of a channel are equal.
        is_readout: Whether it is the last one, which is not rectified.
    """

    name: str
    synapse: Conv | Dense
    source: Shape
    shape: Shape
    tied: Int64Array
    identity: Int64Array
    partner: Int64Array
    is_pool: bool = False
    is_readout: bool = False

    @property
    def bias(self) -> FloatArray:
        """One value a channel."""
        assert self.synapse.bias is not None
        return self.synapse.bias

    @property
    def is_exact(self) -> bool:
        """True if every output is tied, so that nothing is rounded."""
        return bool((self.tied != NONE).all())

    def sums(self, values: FloatArray) -> FloatArray:
        """Return W x for (n, *source), without the bias."""
        synapse = replace(self.synapse, bias=None)
        sums: FloatArray = apply(synapse, values.reshape(1, len(values), *self.source))[0]
        return sums

    def add_bias(self, sums: FloatArray, bias: FloatArray | None = None) -> FloatArray:
        """Return sums with a bias a channel, this layer's own by default."""
        bias = self.bias if bias is None else bias
        return np.asarray(sums + bias.reshape(-1, *(1,) * (len(self.shape) - 1)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chain:
    """A lowered network.

    Attributes:
        shape: Of a frame.
        layers: In order; the last one is not rectified.
        notes: By node, how it was lowered where that is not plain.
    """

    shape: Shape
    layers: tuple[ChainLayer, ...]
    notes: tuple[str, ...] = ()

    def run(self, frames: FloatArray) -> FloatArray:
        """Return the outputs, (n, classes), of frames (n, *shape)."""
        parts = [self._run_part(part) for part in self.split(frames)]
        return np.concatenate(parts)

    def split(self, frames: FloatArray) -> Iterator[FloatArray]:
        """Yield frames in parts whose largest layer fits into memory."""
        largest = max(int(np.prod(layer.shape)) for layer in self.layers)
        size = max(1, VALUES_MAX // largest)
        for first in range(0, len(frames), size):
            yield frames[first : first + size]

    def _run_part(self, values: FloatArray) -> FloatArray:
        for layer in self.layers[:-1]:
            values = np.maximum(layer.add_bias(layer.sums(values)), 0.0)
        last = self.layers[-1]
        return last.add_bias(last.sums(values))
