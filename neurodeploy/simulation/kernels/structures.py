"""Structured types through which kernels are told of layers: all numbers int64, read by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neurodeploy.fixedpoint import Int32Array

StructuredArray = npt.NDArray[np.void]
"""Records of one of the types below."""
RowArray = npt.NDArray[np.int8] | npt.NDArray[np.int16] | npt.NDArray[np.int32]
"""Rows of weights."""
WordArray = npt.NDArray[np.uint64]
"""Words of 64 bits, one for each of some channels."""


def _integers(names: str, first: Sequence[tuple[str, Any]] = ()) -> np.dtype[np.void]:
    return np.dtype([*first, *((name, np.int64) for name in names.split())])


LISTS = _integers(
    "events events_by_sample events_by_step bounds bounds_by_sample bounds_by_step to_values "
    "bits bits_by_sample bits_by_step"
)
"""Where the lists of a sender lie in the store.

The position of the first list, its distance to that of the next sample and of the next step; the
same of the bounds; the distance from an event to its value, 0 if events carry none; and the
positions of the bits as of lists, but counted in 16 bits.
"""
TERM = _integers(
    "lag height width channels kernel_y kernel_x stride_y stride_x padding_y padding_x dilation_y "
    "dilation_x first_row",
    first=[("source", LISTS)],
)
"""Synapses with the same source and delay; `weight_layout.Term`, with the lists of the source.

`lag` is how many steps an event takes; `height`, `width` and `channels` are the source's.
"""
LAYER = _integers(
    "height width channels padded shift plane parameters_by_pixel holds_current rows_at_once "
    "counts_updates lists_spikes keeps_spikes keeps_totals keeps_traces keeps_finals threshold "
    "is_output wraps_24",
    first=[("lists", LISTS)],
)
"""A layer, with its own lists.

`padded` are its channels, padded to a multiple of 16. Sums are scaled by 2**shift. Parameters of
one kind take `plane` numbers; `parameters_by_pixel` is the distance between those of neighbouring
pixels, 0 if all have the same. `rows_at_once` is how many rows at most are added up before their
sum is widened to 32 bits. `lists_spikes` says whether spikes that are written as bits are listed
as well. The last three are of sigma-delta neurons: the threshold, whether they
only sum, and whether sums wrap at 24 bits.
"""
SEGMENT = _integers("low high events start lag bounds_by_step events_by_step to_values first_row")
"""Events of neighbouring pixels that an output pixel reads, side by side in each step's list.

`low` and `high` are the positions of the bounds around them at step 0, `events` that of its list.
"""
RANGE = _integers("first stop start to_values first_row")
"""Events of one step: positions in the store, and where the weights of neuron 0 are.

`first_row` is the number of its row of weights, `start` where that begins.
"""
NOTES = _integers("current_wraps voltage_clips changes idle")
"""Counted by steps of LIF neurons; `idle` is the mask of those with nothing to do in the last."""
CHANGE_NOTES = _integers("sigma_wraps activation_wraps sum_overflows standing")
"""Counted by steps of sigma-delta neurons; `standing` is the mask of those that now have a state or
a bias."""
RESONATORS = _integers("place present lanes width shift sine cosine threshold is_phase")
"""A group of resonators: the first, how many there are, and how many step side by side.

`width` is that of rows and states, of which the imaginary parts are the second half; sums are
scaled by 2**shift. Sine, cosine, threshold and kind are those of the layer, the threshold scaled.
"""
SPREAD = _integers(
    "taps_y taps_x step_y step_x first_place inverse windows first_line blocks block_tiles "
    "last_bits vectors advance"
)
"""How the events of a term spread over a frame; see `layouts.spreading`.

Lines of taps, and taps of a line; the distance in the frame from one line to the next, and from one
tap to the next; where its pixels begin in the table of places; `neuron · inverse >> 40` is the
neuron's pixel.

The others are of terms that are read in `windows`, 1 or 0: where its lines begin in the table of
lines, how many blocks each has, of how many times 16 bits, and how many bits the last one has;
vectors in a line of a window, and by how many it advances from block to block.
"""
LINE = _integers("target start lines")
"""A line of pixels of a term that is read in windows: where its first window begins in the frame,
where its weights do, and how many lines its windows have."""
FRAME = _integers("size pitch origin")
"""Numbers in a frame, from one of its rows to the next, and before the layer's first pixel."""


class Weights(NamedTuple):
    """Weights and parameters of a layer.

    Attributes:
        rows: (rows · padded,) int8, int16 or int32: weights, row after row. All sums must fit 23
            bits, and those of `rows_at_once` rows of int8 or int16 fit 16 bits.
        reach: (rows · words,) uint64: which weights are not zero, 64 channels a word.
        parameters: int32; (4 · plane,) as `neuron_vectors.make_lif_step` has them, or the biases
            of sigma-delta neurons, at the scale of the activation.
    """

    rows: RowArray
    reach: WordArray
    parameters: Int32Array
