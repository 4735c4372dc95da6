from __future__ import annotations

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


@pytest.mark.parametrize(
    ("inputs", "labels", "advice"),
    [
        (values(28, 28), LABELS, r"input=input\[:, None\]"),
        (values(9, 9, 3), LABELS, r"input=input.transpose\(0, 3, 1, 2\)"),
        (values(5, 9, 9, 2), LABELS, r"input=input.transpose\(0, 1, 4, 2, 3\)"),
        (values(1, 8, 8) / 255, LABELS, r"np.round\(input \* 255\)"),
        (values(1, 8, 8) - 100.5, LABELS, r"127 / np.abs\(input\).max\(\)"),
        (values(1, 8, 8) * 1.0, LABELS, "astype"),
        (values(1, 8, 8) * np.nan, LABELS, "NaN"),
        (values(1, 8, 8) * 1000, LABELS, "255 / 255000"),
        (values(1, 8, 8), LABELS + 1, "np.unique"),
        (values(1, 8, 8), LABELS * 2, "np.unique"),
        (values(1, 8, 8), LABELS * 0, "Two classes"),
        (values(1, 8, 8), np.eye(4, dtype=int)[LABELS], "argmax"),
        (values(1, 8, 8), np.array(list("abcd"))[LABELS], "unique"),
        (values(1, 8, 8), [0] * 39 + [1], "add data"),
        (values(1, 2, 3, 4, 5), LABELS, "none of them empty"),
        (np.zeros((40, 1, 0, 8), int), LABELS, "none of them empty"),
        (np.zeros((0, 1, 8, 8), int), [], "none of them empty"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_with_a_remedy(
    tmp_path: Path, inputs: npt.NDArray[np.generic], labels: object, advice: str
) -> None:
    with pytest.raises(DataError, match=advice):
        draft_recipe(save(tmp_path, inputs, labels))


def test_a_name_that_toml_would_not_take_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / 'a "b" \\ \x7f.npz'
    np.savez(path, input=values(1, 8, 8), label=LABELS)
    assert Recipe.parse(draft_recipe(path, name="x").text).data.path == str(path)
