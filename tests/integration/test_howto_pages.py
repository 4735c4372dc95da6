"""How-to pages as they stand: their Python, their files, and those commands that take a moment."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
QUICK = ("init", "report", "simulate")
NEEDS_MORE = {"--ann"}
"""Options that need files which are not there."""


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the language and the text of each block of a page."""
    text = (ROOT / "docs" / "howto" / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S)


def write_recordings(folder: Path) -> None:
    """Write ten recordings a class, in N-MNIST's format."""
    rng = np.random.default_rng(0)
    for number in range(20):
        events = np.zeros((30, 5), np.uint8)
        events[:, :2] = rng.integers(0, 34, (30, 2))
        events[:, 2] = 128 * rng.integers(0, 2, 30)
        events[:, 3] = np.arange(30)  # times 256 microseconds
        path = folder / ("left", "right")[number % 2] / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(events.tobytes())


@pytest.mark.parametrize(
    ("page", "runs"),
    [
        ("camera", 1),
        ("energy", 1),
        ("large_data", 2),
        ("new_target", 0),
        ("reports", 3),
    ],
)
def test_what_a_page_shows_works_in_a_folder_with_its_files(
    page: str,
    runs: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    neurodeploy: Callable[..., Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("network.net", "samples.npz"):
        shutil.copy(ROOT / "examples" / "zoo" / "digits_small" / name, name)
    write_recordings(Path("recordings"))
    done = 0
    for language, shown in blocks(page):
        # The program that is within these bounds is the reader's, which does not hold all tests.
        text = shown.replace("2GiB", "16GiB").replace("2 * 10**9", "16 * 10**9")
        if language == "python":
            exec(compile(text, f"{page}.md", "exec"), {})
        elif language == "toml":
            (name,) = re.findall(r'^name = "(\w+)"', text, re.M)
            Path(f"{name}.toml").write_text(text, encoding="utf-8")
        elif language == "json":
            Path("profile.json").write_text(text, encoding="utf-8")
        elif language == "sh":
            for line in text.splitlines():
                command, *arguments = shlex.split(line, comments=True)[1:]
                is_here = command == "init" or Path(arguments[0]).exists()
                if command in QUICK and is_here and not NEEDS_MORE & set(arguments):
                    outcome = neurodeploy(command, *arguments)
                    assert outcome.code == 0, outcome.err
                    done += 1
    assert done == runs
