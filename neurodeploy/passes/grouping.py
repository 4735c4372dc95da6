"""Convolutions of more groups than Lava allows become ones of fewer groups, with zeros between."""

from __future__ import annotations

import dataclasses

import numpy as np

from neurodeploy.fixedpoint import GEOMETRY_MAX
from neurodeploy.ir.float_layers import (
    Conv,
    FloatArray,
    Layer,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes.rewriting import replace_nodes


def merge_groups(graph: Graph) -> Graph:
    """Give every convolution at most the groups that Lava can hold, with the same function.

    Args:
        graph: A float graph.

    Returns:
        The same graph; where a convolution had too many groups, neighbouring ones share a group.
    """
    changed: dict[str, Layer] = {
        name: with_fewer_groups(layer)
        for name, layer in graph.nodes.items()
        if isinstance(layer, Conv) and layer.groups > GEOMETRY_MAX
    }
    return replace_nodes(graph, changed=changed) if changed else graph


def with_fewer_groups(conv: Conv) -> Conv:
    """Let neighbouring groups share one until Lava can hold their number.

    Args:
        conv: Of any number of groups.

    Returns:
        The same function: a channel has zeros for the inputs of the groups that joined its own.
    """
    if conv.groups <= GEOMETRY_MAX:
        return conv
    groups = max(n for n in range(1, GEOMETRY_MAX + 1) if conv.groups % n == 0)
    together = conv.groups // groups
    outputs, inputs, *taps = conv.weight.shape
    weight: FloatArray = np.zeros((outputs, together, inputs, *taps))
    channels = np.arange(outputs)
    weight[channels, channels // (outputs // conv.groups) % together] = conv.weight
    return dataclasses.replace(
        conv, weight=weight.reshape(outputs, together * inputs, *taps), groups=groups
    )
