"""MACs of each frame without products with zero."""

from __future__ import annotations

import numpy as np

from neurodeploy.ir.float_layers import Conv, Dense, Flatten, Input, Rectifier
from neurodeploy.ir.graphs import Graph
from neurodeploy.pipeline import frame_macs
from neurodeploy.pipeline.frame_macs import count_frame_macs


def network() -> Graph:
    """Return a 2 x 2 convolution over 3 x 3 pixels, and two outputs that read its 4 values."""
    kernel = np.array([[[[1.0, 0.0], [0.0, -1.0]]]])
    weight = np.array([[1.0, 0.0, 0.0, 2.0], [3.0, 4.0, 0.0, 0.0]])
    return Graph(
        nodes={
            "input": Input(shape=(1, 3, 3)),
            "conv": Conv(weight=kernel),
            "relu": Rectifier(),
            "flatten": Flatten(),
            "dense": Dense(weight=weight),
        },
        edges=(("input", "conv"), ("conv", "relu"), ("relu", "flatten"), ("flatten", "dense")),
    )


def test_counts_by_hand(monkeypatch) -> None:
    """The middle pixel is read through both weights, one corner through one, others through none.

    A pixel of 1 in the top left corner makes the first of four values 1, which two outputs read;
    one in the middle makes the last value 1, which one reads, and the first -1, rectified to 0.
    """
    frames = np.zeros((4, 1, 3, 3))
    frames[1, 0, 0, 0] = 1.0
    frames[2, 0, 1, 1] = 1.0
    frames[3, 0, 0, 2] = 1.0
    assert count_frame_macs(network(), frames).tolist() == [0, 1 + 2, 2 + 1, 0]
    monkeypatch.setattr(frame_macs, "_VALUES", 18)  # in pieces
    assert count_frame_macs(network(), frames).tolist() == [0, 3, 3, 0]
