"""MACs of an ordinary network that skips products with zero, frame by frame."""

from __future__ import annotations

from math import prod

import numpy as np

from neurodeploy.counting.fan_out import synapse_fan_out
from neurodeploy.fixedpoint import FloatArray, Int64Array
from neurodeploy.interchange.floating import pass_frames
from neurodeploy.ir.float_layers import Conv, Dense
from neurodeploy.ir.graphs import Graph

_VALUES = 1 << 23
"""Values of a layer that are computed at a time."""


def count_frame_macs(graph: Graph, frames: FloatArray) -> Int64Array:
    """Return the products of a weight and a value other than zero in the pass of each frame.

    Args:
        graph: A network of rectified layers.
        frames: (n, *shape) as its first layer reads them.

    Returns:
        (n,) int64.
    """
    shapes = graph.shapes()
    maps = {
        name: synapse_fan_out(layer, shapes[graph.sources(name)[0]]).nonzero.reshape(-1)
        for name, layer in graph.nodes.items()
        if isinstance(layer, Conv | Dense)
    }
    size = max(1, _VALUES // max(prod(shape) for shape in shapes.values()))
    found = np.zeros(len(frames), np.int64)
    for first in range(0, len(frames), size):
        part = slice(first, first + size)
        for name, _, arriving, _ in pass_frames(graph, frames[part]):
            if name in maps:
                events = (arriving[0] != 0).reshape(arriving.shape[1], -1).astype(np.float64)
                found[part] += (events @ maps[name].astype(np.float64)).astype(np.int64)
    return found
