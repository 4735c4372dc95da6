from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from neurodeploy.data.recipe_draft import draft_recipe
from neurodeploy.errors import DataError
from neurodeploy.recipes.network_sections import ConvLayer, DenseLayer, SequentialNetwork
from neurodeploy.recipes.recipe import Recipe

RNG = np.random.default_rng(0)
LABELS = np.arange(40) % 4


def save(tmp_path: Path, inputs: npt.NDArray[np.generic], labels: object = LABELS) -> Path:
    path = tmp_path / "mine.npz"
    np.savez(path, input=inputs, label=np.asarray(labels))
    return path


def values(*shape: int, low: int = 0, high: int = 256) -> npt.NDArray[np.int64]:
    array = RNG.integers(low, high, (40, *shape))
    array.flat[0], array.flat[1] = low, high - 1
    return array


@pytest.mark.parametrize(
    ("shape", "high", "is_event", "wanted"),
    [
        ((1, 28, 28), 256, False, ((1, 28, 28), "direct", 8, 4)),
        ((3, 9, 9), 17, False, ((3, 9, 9), "direct", 4, 4)),
        ((12,), 18, False, ((12,), "direct", 5, 4)),
        ((6, 2, 8, 10), 2, False, ((2, 8, 10), "events", 0, 6)),
        ((6, 12), 3, True, ((12,), "events", 1, 6)),
        ((1, 2, 5), 2, False, ((1, 2, 5), "direct", 0, 4)),
    ],
)
def test_the_recipe_fits_the_file(
    tmp_path: Path, shape: tuple[int, ...], high: int, is_event: bool, wanted: object
) -> None:
    path = save(tmp_path, values(*shape, high=high))
    recipe = Recipe.parse(draft_recipe(path, is_event=is_event).text)
    data = recipe.data
    assert (data.shape, data.encoding, data.input_bits, recipe.network.steps) == wanted
    assert (recipe.recipe.name, data.path, data.classes) == ("mine", str(path), 4)


def test_signed_spikes_need_no_bits(tmp_path: Path) -> None:
    draft = draft_recipe(save(tmp_path, values(3, 12, low=-1, high=2)), is_event=True)
    assert Recipe.parse(draft.text).data.input_bits == 0
    assert "values from -1 to 1; 4 classes of 10 samples" in draft.found


def test_the_network_follows_the_size_of_a_sample(tmp_path: Path) -> None:
    for shape, kinds in (((1, 28, 28), [ConvLayer] * 2), ((1, 8, 8), [ConvLayer] * 2),
                         ((1, 60, 60), [ConvLayer] * 4), ((30,), [DenseLayer] * 2)):  # fmt: skip
        network = Recipe.parse(draft_recipe(save(tmp_path, values(*shape))).text).network
        assert isinstance(network, SequentialNetwork)
        assert [type(layer) for layer in network.layers] == kinds


def test_every_key_has_a_comment_before_it(tmp_path: Path) -> None:
    lines = draft_recipe(save(tmp_path, values(1, 8, 8))).text.splitlines()
    keys = [k for k, line in enumerate(lines) if line[:1].isalpha()]
    assert len(keys) > 20
    assert all(lines[k - 1].startswith("# ") for k in keys)


def mend(message: str) -> Path:
    """Run the lines of Python at the end of an error, and return the file that they write."""
    lines = [line.strip() for line in message.splitlines()[1:]]
    assert [line.partition(" ")[0] for line in lines] == ["import", "old", lines[2].split()[0]]
    exec("\n".join(lines), {})
    written, _ = json.JSONDecoder().raw_decode(lines[2].removeprefix("np.savez("))
    return Path(written)


@pytest.mark.parametrize(
    ("inputs", "labels", "wanted"),
    [
        (values(28, 28), LABELS, ((1, 28, 28), 8)),
        (values(9, 9, 3), LABELS, ((3, 9, 9), 8)),
        (values(5, 9, 9, 2), LABELS, ((2, 9, 9), 8)),
        (values(1, 8, 8) / 255, LABELS, ((1, 8, 8), 8)),
        (values(8, 8, 3) / 255, LABELS + 1, ((3, 8, 8), 8)),
        (values(1, 8, 8) - 100.5, LABELS, ((1, 8, 8), 7)),
        (values(1, 8, 8) * 1.0, LABELS, ((1, 8, 8), 8)),
        (values(1, 8, 8) * 1000, LABELS, ((1, 8, 8), 8)),
        (values(12, 12) * 1000.0, LABELS, ((1, 12, 12), 8)),
        (values(1, 8, 8), LABELS * 2, ((1, 8, 8), 8)),
        (values(1, 8, 8), np.eye(4, dtype=int)[LABELS], ((1, 8, 8), 8)),
        (values(1, 8, 8), np.array(list("abcd"))[LABELS], ((1, 8, 8), 8)),
    ],
)
def test_the_error_mends_all_misfits_at_once(
    tmp_path: Path, inputs: npt.NDArray[np.generic], labels: object, wanted: object
) -> None:
    with pytest.raises(DataError, match="cannot be trained on as it is") as caught:
        draft_recipe(save(tmp_path, inputs, labels))
    data = Recipe.parse(draft_recipe(mend(str(caught.value))).text).data
    assert (data.shape, data.input_bits) == wanted


def test_arrays_of_other_names_are_recognized(tmp_path: Path) -> None:
    path = tmp_path / 'my "images".npz'
    np.savez(path, images=values(9, 9) / 255, classes=LABELS, mean=np.float64(3))
    with pytest.raises(DataError, match="arrays 'images', 'classes' must be called") as caught:
        draft_recipe(path)
    assert Recipe.parse(draft_recipe(mend(str(caught.value))).text).data.shape == (1, 9, 9)
    np.savez(path, a=values(9, 9), b=values(9, 9), classes=LABELS)
    with pytest.raises(DataError, match="'a', 'b', 'classes'; the arrays 'input' and 'label'"):
        draft_recipe(path)


@pytest.mark.parametrize(
    ("inputs", "labels", "advice"),
    [
        (values(1, 8, 8) * np.nan, LABELS, "NaN"),
        (values(1, 8, 8), LABELS * 0, "Two classes"),
        (values(1, 8, 8), LABELS[1:], "the number of a class for each sample"),
        (values(1, 8, 8), [0] * 39 + [1], "add data"),
        (values(1, 2, 3, 4, 5), LABELS, "none of them empty"),
        (np.zeros((40, 1, 0, 8), int), LABELS, "none of them empty"),
        (np.zeros((0, 1, 8, 8), int), [], "none of them empty"),
    ],
)
def test_what_no_line_mends_is_refused(
    tmp_path: Path, inputs: npt.NDArray[np.generic], labels: object, advice: str
) -> None:
    with pytest.raises(DataError, match=advice):
        draft_recipe(save(tmp_path, inputs, labels))


def test_a_name_that_toml_would_not_take_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / 'a "b" \\ \x7f.npz'
    np.savez(path, input=values(1, 8, 8), label=LABELS)
    assert Recipe.parse(draft_recipe(path, name="x").text).data.path == str(path)


def test_a_folder_of_recordings_is_refused_with_lines_that_make_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, x in (("left", 2), ("right", 30)):
        (tmp_path / "camera" / name).mkdir(parents=True)
        for number in range(12):
            events = bytes([x, number, 128, 1, 0, x, number, 0, 2, 0])
            (tmp_path / "camera" / name / f"{number}.bin").write_bytes(events)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="event camera") as caught:
        draft_recipe("camera")
    exec("\n".join(line.strip() for line in str(caught.value).splitlines()[1:]), {})
    assert Recipe.parse(draft_recipe("recordings.npz").text).data.shape == (2, 34, 34)
