"""Own samples: the section of the documentation word for word, and recipes that `init` writes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from neurodeploy.samples.sources import open_samples

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "own_data.md"


def blocks() -> dict[str, str]:
    """Return the code of the section by its language."""
    (section,) = re.findall(
        r"^## Your own images\n(.*?)^## ", PAGE.read_text(encoding="utf-8"), re.M | re.S
    )
    found = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.M | re.S)
    assert [language for language, _ in found] == ["python", "toml", "sh"]
    return dict(found)


def own_images(samples: int = 150) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Ten classes of grey images without an axis of channels: a bright patch on noise."""
    rng = np.random.default_rng(0)
    classes = np.arange(samples) % 10
    images = rng.integers(0, 60, (samples, 28, 28)).astype(np.uint8)
    for image, number in zip(images, classes, strict=True):
        top, left = 9 * (number // 4), 7 * (number % 4)
        image[top : top + 8, left : left + 6] += 190
    return images, classes


def save(names: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[np.generic]]:
    """Run the section's Python with images of these classes."""
    exec(blocks()["python"], {"images": own_images()[0], "names": names})
    with np.load("mine.npz") as archive:
        return dict(archive)


@pytest.mark.slow
def test_own_images_reach_a_deployed_file_in_three_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, neurodeploy: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(np.array([f"class {number}" for number in own_images()[1]]))
    Path("mine.toml").write_text(blocks()["toml"], encoding="utf-8")
    commands = blocks()["sh"].splitlines()
    assert len(commands) == 3
    for command in commands:
        outcome = neurodeploy(*command.split()[1:])
        assert outcome.code == 0, outcome.err
    assert Path("runs/mine/network.net").is_file()
    assert "accuracy" in outcome.out
    with np.load("runs/mine/samples.npz") as archive:
        assert len(archive["input"]) == 30
        assert sorted(set(archive["label"].tolist())) == list(range(10))


def test_classes_may_be_numbers_or_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images, classes = own_images()
    for names in (classes, classes + 7, np.array(list("abcdefghij"))[classes]):
        found = save(names)
        assert np.array_equal(found["label"], classes)
        assert found["input"].dtype == np.uint8
        assert np.array_equal(found["input"][:, 0], images)


@pytest.mark.slow
def test_a_recipe_that_init_writes_trains_and_deploys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, neurodeploy: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    images, classes = own_images(60)
    np.savez("mine.npz", input=images[:, None, ::2, ::2], label=classes % 4)
    outcome = neurodeploy("init", "--data", "mine.npz")
    assert outcome.code == 0, outcome.err
    assert "60 samples, still inputs of 1x14x14" in outcome.out
    assert outcome.out.endswith("next: neurodeploy run mine.toml\n")
    assert "wrote mine.toml" in outcome.err
    small = ("--set", "training.epochs=4", "--set", "verification.backend=none")
    outcome = neurodeploy("run", "mine.toml", *small, "--out", "run")
    assert outcome.code == 0, outcome.err
    assert Path("run/network.net").is_file()


def test_init_writes_over_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, neurodeploy: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    images, classes = own_images(60)
    np.savez("mine.npz", input=images[:, None], label=classes)
    Path("mine.toml").write_text("mine")
    Path("gone.toml").symlink_to("nothing")
    for words in ((), ("mine.toml",), ("gone.toml",)):
        outcome = neurodeploy("init", *words, "--data", "mine.npz")
        assert (outcome.code, outcome.out) == (1, "")
        assert "exists, and is not written over. Name another file." in outcome.err
    assert Path("mine.toml").read_text() == "mine"
    assert not Path("nothing").exists()
    assert "--encoding events" in neurodeploy("init", "a.toml", "--data", bad_archive()).err
    assert not Path("a.toml").exists()


def bad_archive() -> str:
    np.savez("flat.npz", input=own_images(60)[0], label=own_images(60)[1])
    return "flat.npz"


def test_the_event_table_of_the_documentation_is_read_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    exec(code[-1], {})
    samples = open_samples("events.npz", key="input", steps=4, port=(2, 8, 8))
    places = [list(place) for place in np.argwhere(samples.read(0, 1))]
    assert places == [[0, 0, 0, 0, 5], [0, 3, 1, 1, 1]]


def test_recordings_of_a_camera_become_an_archive_and_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, neurodeploy: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(40):
        folder = Path("recordings") / ("left", "right")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        times = np.sort(rng.integers(0, 1000, 60))
        columns = rng.integers(0, 17, 60) + 17 * (number % 2)
        events = zip(columns, rng.integers(0, 34, 60), times, strict=True)
        content = [[x, y, 128 * (t % 2), t >> 8, t & 255] for x, y, t in events]  # N-MNIST's bytes
        (folder / f"{number:02}.bin").write_bytes(np.array(content, np.uint8).tobytes())
    text = (PAGE.parent / "camera.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    exec(code, {})
    with np.load("camera.npz") as archive:
        assert archive["input"].shape == (40, 8, 2, 34, 34)
        assert archive["label"].tolist() == [0] * 20 + [1] * 20
        assert archive["input"][:20, ..., 17:].sum() == 0
    outcome = neurodeploy("init", "camera.toml", "--data", "camera.npz")
    assert outcome.code == 0, outcome.err
    assert "40 samples, 8 steps of 2x34x34" in outcome.out
