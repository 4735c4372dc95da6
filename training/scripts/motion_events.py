"""Make recordings of digits that cross the field of an event camera in eight directions.

    python training/scripts/motion_events.py runs/zoo/motion_events.npz

One recording of each of scikit-learn's digits, so that no digit is in two parts of a data set:
16x16 pixels, 12 steps of a pixel each. A pixel sends an event when its brightness differs by 4 of
16 levels from that at its last one, brighter on channel 0 and darker on channel 1; one in a hundred
sends one by chance. The class is the direction, counted from right, anticlockwise.
`motion_events.toml` beside this script trains on them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

DIGIT, FIELD, STEPS = 8, 16, 12
THRESHOLD = 4
NOISE = 0.01
WANDERING = 3
"""Pixels by which a path may miss the middle of the field, in each direction."""
DIRECTIONS = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
"""Rows and columns of a step."""


def record(image: np.ndarray, direction: int, generator: np.random.Generator) -> np.ndarray:
    """Return the events (12, 2, 16, 16) of an image (8, 8) that moves straight on."""
    margin = DIGIT + STEPS
    world = np.zeros((FIELD + 2 * margin,) * 2, np.int32)
    seen = slice(margin, margin + FIELD)
    middle = margin + (FIELD - DIGIT) // 2 + generator.integers(-WANDERING, WANDERING + 1, 2)
    reference: np.ndarray | None = None
    events = np.zeros((STEPS, 2, FIELD, FIELD), np.uint8)
    for step in range(STEPS + 1):
        row, column = middle + np.array(DIRECTIONS[direction]) * (step - STEPS // 2)
        world[:] = 0
        world[row : row + DIGIT, column : column + DIGIT] = image
        frame = world[seen, seen]
        if reference is None:
            reference = frame.copy()
            continue
        change = frame - reference
        events[step - 1] = np.stack([change >= THRESHOLD, change <= -THRESHOLD])
        reference = np.where(np.abs(change) >= THRESHOLD, frame, reference)
    return events | (generator.random(events.shape) < NOISE)


def write(path: Path) -> None:
    """Write the recordings, the same ones every time."""
    generator = np.random.default_rng(0)
    images = load_digits().images.astype(np.int32)
    labels = generator.integers(0, len(DIRECTIONS), len(images))
    recordings = [
        record(image, label, generator) for image, label in zip(images, labels, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, input=np.stack(recordings), label=labels)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
