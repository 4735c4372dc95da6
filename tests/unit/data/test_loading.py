from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from small_recipes import small_recipe as recipe

from neurodeploy.data import (
    ArrayDataset,
    batches,
    load_data,
)
from neurodeploy.data.augmentation import shift_images
from neurodeploy.data.stored import layout_hint
from neurodeploy.errors import DataError, RecipeError

DIGITS = 'source = "digits"'


def archive(path: Path, **arrays: npt.NDArray[np.generic]) -> str:
    np.savez(path, **arrays)
    return f'source = "npz"\npath = "{path.as_posix()}"\nclasses = 2\n'


def images(samples: int = 20) -> npt.NDArray[np.int64]:
    return np.arange(samples * 12).reshape(samples, 1, 3, 4) % 5


def labels(samples: int = 20) -> npt.NDArray[np.int64]:
    return np.arange(samples) % 2


def test_centred_digits_are_the_pixels_minus_their_rounded_mean() -> None:
    plain = load_data(recipe(DIGITS))
    centred = load_data(recipe(DIGITS + '\nnormalization = "center"'))
    pixels = np.concatenate([part.inputs.ravel() for part in plain])
    assert round(pixels.mean()) == 5
    for before, after in zip(plain, centred, strict=True):
        assert after.inputs.dtype == np.int32
        assert np.array_equal(after.inputs, before.inputs - 5)


def test_another_test_seed_is_another_test_part() -> None:
    first, same = (load_data(recipe(DIGITS + "\ntest_seed = 1"))[2] for _ in range(2))
    usual = load_data(recipe(DIGITS))[2]
    assert np.array_equal(first.inputs, same.inputs)
    assert not np.array_equal(first.inputs, usual.inputs)
    assert len(first) == len(usual)


def test_digits_are_whole_pixels_in_three_stratified_parts() -> None:
    train, validation, test = load_data(recipe(DIGITS))
    assert (len(train), len(validation), len(test)) == (1221, 216, 360)
    assert train.inputs.dtype == np.int32
    assert train.labels.dtype == np.int64
    assert train.inputs.shape == (1221, 1, 8, 8)
    assert (train.inputs.min(), train.inputs.max(), train.scale) == (0, 16, 1 / 16)
    assert train.is_static
    for part in (train, validation, test):
        counts = np.bincount(part.labels, minlength=10)
        assert abs(counts - len(part) / 10).max() < 0.05 * len(part)


def test_no_sample_is_in_two_parts() -> None:
    from sklearn.datasets import load_digits

    parts = load_data(recipe(DIGITS))
    found = np.concatenate([part.inputs.reshape(len(part), -1) for part in parts])
    everything = load_digits().data.astype(np.int32)
    assert np.array_equal(np.sort(found, axis=0), np.sort(everything, axis=0))
    order = [np.lexsort(rows.T) for rows in (found, everything)]
    assert np.array_equal(found[order[0]], everything[order[1]])


def test_test_part_is_that_of_scikit_learn_and_the_same_for_every_seed() -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    _, expected = train_test_split(
        bunch.images, test_size=0.2, stratify=bunch.target, random_state=0
    )
    first, second = load_data(recipe(DIGITS, seed=1)), load_data(recipe(DIGITS, seed=2))
    assert np.array_equal(first[2].inputs[:, 0], expected)
    assert np.array_equal(first[2].inputs, second[2].inputs)
    assert not np.array_equal(first[1].inputs, second[1].inputs)


def test_static_images_are_repeated_for_a_simulator() -> None:
    train, _, _ = load_data(recipe(DIGITS))
    windows = train.windows(4)
    assert windows.shape == (1221, 4, 1, 8, 8)
    assert all(np.array_equal(windows[:, t], train.inputs) for t in range(4))


def test_own_images_and_own_event_frames(tmp_path: Path) -> None:
    own = archive(tmp_path / "own.npz", input=images().astype(np.uint8), label=labels())
    train, validation, test = load_data(recipe(own + "shape = [1, 3, 4]\ninput_bits = 3"))
    assert (len(train), len(validation), len(test)) == (13, 3, 4)
    assert train.scale == 1 / 8
    frames = np.stack([images() % 2, images() % 3 % 2], axis=1).astype(bool)
    own = archive(tmp_path / "frames.npz", input=frames, label=labels())
    train, _, _ = load_data(recipe(own + 'shape = [1, 3, 4]\nencoding = "events"'))
    assert train.inputs.shape == (13, 2, 1, 3, 4)
    assert not train.is_static
    assert train.windows(2) is train.inputs
    with pytest.raises(DataError, match="samples of 2 steps, the network takes 3"):
        train.windows(3)


SHAPE = "shape = [1, 3, 4]\ninput_bits = 3"


def frames(steps: int) -> npt.NDArray[np.int64]:
    return np.repeat(images()[:, np.newaxis], steps, axis=1)


@pytest.mark.parametrize(
    ("change", "keys", "message"),
    [
        ({"input": images() / 3}, SHAPE, "input is float64, integers are required"),
        ({"input": np.full((20, 1, 3, 4), np.nan)}, SHAPE, "input holds NaN"),
        ({"label": labels() - np.inf}, SHAPE, "label holds NaN or infinity"),
        ({"input": images()}, "shape = [1, 4, 3]", r"input has shape \(20, 1, 3, 4\)"),
        ({"input": images()}, SHAPE + '\nencoding = "events"', r"\(samples, 2, 1, 3, 4\)"),
        ({"input": images()[:19]}, SHAPE, r"label has shape \(20,\), \(19,\) is required"),
        ({"input": images() * 9}, SHAPE, "input from 0 to 36, -8 to 8 is allowed by data.input"),
        ({"label": labels() + 1}, SHAPE, "label from 1 to 2, 0 to 1 is allowed by data.classes"),
        ({"input": images(0), "label": labels(0)}, SHAPE, "no samples"),
        ({"input": images(3), "label": labels(3)}, SHAPE, "cannot be split"),
        ({"input": np.array(["a"] * 20, dtype=object)}, SHAPE, "holds Python objects"),
        ({"input": np.int64(3)}, SHAPE, "input has shape"),
        (
            {"label": np.array(["cat", "dog"] * 10)},
            SHAPE,
            "Number the classes from 0: names, label",
        ),
        ({"input": images()}, SHAPE + '\nencoding = "events"', "set data.encoding = 'direct'"),
        ({"input": frames(3)}, SHAPE, "have 3 steps each: set data.encoding = 'events'"),
        ({"input": frames(3)}, SHAPE + '\nencoding = "events"', "Set network.steps = 3, not 2"),
        ({"input": images()[:, 0]}, SHAPE, r"Add the axis of the channels: input\[:, None\]"),
    ],
)
def test_malformed_archives_are_named(
    tmp_path: Path, change: dict[str, npt.NDArray[np.generic]], keys: str, message: str
) -> None:
    arrays = {"input": images(), "label": labels()} | change
    with pytest.raises(DataError, match=message):
        load_data(recipe(archive(tmp_path / "own.npz", **arrays) + keys))


def test_paths_that_no_system_can_look_up_are_refused() -> None:
    keys = f'source = "npz"\npath = "{"n" * 5000}"\nclasses = 2\n' + SHAPE
    with pytest.raises(DataError, match=r"data\.path = 'nnn.*cannot be looked up"):
        load_data(recipe(keys))


def test_missing_truncated_and_foreign_archives_are_named(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    keys = archive(path, images=images()) + SHAPE
    with pytest.raises(DataError, match="holds 'images'; the arrays 'input' and 'label'"):
        load_data(recipe(keys))
    archive(path, input=images(), label=labels())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cut short or damaged"):
        load_data(recipe(keys))
    np.save(tmp_path / "plain.npy", images())
    (tmp_path / "plain.npy").rename(path)
    with pytest.raises(DataError, match="cannot be read"):
        load_data(recipe(keys))
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        load_data(recipe(keys))


def test_relative_paths_start_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(tmp_path / "own.npz", input=images(), label=labels())
    keys = 'source = "npz"\npath = "own.npz"\nclasses = 2\n' + SHAPE
    monkeypatch.chdir(tmp_path)
    assert sum(map(len, load_data(recipe(keys)))) == 20
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(DataError, match=r"own\.npz: no such file in .*other, where relative paths"):
        load_data(recipe(keys))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": [[1], [2]]}, "inputs are a list, a NumPy array is required"),
        ({"inputs": np.zeros((2, 1))}, "inputs is float64, integers are required"),
        ({"inputs": np.zeros((2, 3), int)}, r"inputs of shape \(2, 3\), \(samples, 1\) for still"),
        ({"labels": np.array(["a", "b"])}, "Number the classes from 0"),
        ({"labels": np.array([0])}, r"labels of shape \(1,\), \(2,\) is required"),
        ({"labels": np.array([0, 2])}, "labels from 0 to 2, 0 to 1 is allowed by classes = 2"),
    ],
)
def test_a_data_set_checks_its_arrays(change: dict[str, object], message: str) -> None:
    arrays = {"inputs": np.zeros((2, 1), np.int32), "labels": np.array([0, 1])} | change
    with pytest.raises(DataError, match=message):
        ArrayDataset(**arrays, shape=(1,), classes=2, scale=1.0)


def test_a_recipe_is_required_and_not_its_name() -> None:
    with pytest.raises(RecipeError, match=r"str in place of a Recipe.*Recipe\.load\('digits'\)"):
        load_data("digits")


def test_a_set_that_is_packed_or_lies_elsewhere_is_found(tmp_path: Path) -> None:
    inner = tmp_path / "data" / "MNIST"
    inner.mkdir(parents=True)
    assert layout_hint(tmp_path, "MNIST") == f" It lies in {inner.parent}: set data.root to that."
    assert f"set data.root to {inner.parent}" in layout_hint(inner, "MNIST")
    (tmp_path / "NMNIST.tar.gz").touch()
    assert layout_hint(tmp_path, "NMNIST") == f" {tmp_path} holds NMNIST.tar.gz: unpack it there."
    assert layout_hint(tmp_path / "nowhere", "MNIST") == ""


def numbered(samples: int) -> ArrayDataset:
    numbers = np.arange(samples, dtype=np.int32)
    return ArrayDataset(
        inputs=numbers[:, np.newaxis],
        labels=numbers.astype(np.int64),
        shape=(1,),
        classes=samples,
        scale=1.0,
    )


def test_batches_hold_every_sample_once_and_differ_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    found = [batch for batch, _ in batches(numbered(10), 4, generator=generator)]
    assert [len(batch) for batch in found] == [4, 3, 3]
    order = torch.cat(found).flatten().tolist()
    assert sorted(order) == list(range(10))
    assert order != list(range(10))
    again = batches(numbered(10), 4, generator=torch.Generator().manual_seed(0))
    assert torch.cat([batch for batch, _ in again]).flatten().tolist() == order
    plain = torch.cat([batch for batch, _ in batches(numbered(10), 4)])
    assert plain.flatten().tolist() == list(range(10))


def test_shift_moves_whole_samples_and_lets_zeros_in() -> None:
    picture = torch.arange(1, 13, dtype=torch.int32).reshape(3, 4)
    samples = picture.expand(200, 2, 1, 3, 4).contiguous()
    moved = shift_images(samples, 1, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(picture, (1, 1, 1, 1))
    allowed = {
        tuple(padded[dy : dy + 3, dx : dx + 4].flatten().tolist())
        for dy in range(3)
        for dx in range(3)
    }
    assert moved.dtype == torch.int32
    assert {tuple(frame.flatten().tolist()) for frame in moved[:, 0]} == allowed
    assert torch.equal(moved[:, 0], moved[:, 1])
    assert shift_images(samples, 0, generator=torch.Generator()) is samples


def test_digest_names_the_content() -> None:
    assert numbered(5).digest() == numbered(5).digest()
    assert numbered(5).digest() != numbered(6).digest()
    assert numbered(5).subset(np.array([0, 1])).digest() == numbered(2).digest()
