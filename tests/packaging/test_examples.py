"""The README's script is the example's, and it runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import neurodeploy as nd

ROOT = Path(__file__).parents[2]
ENERGY = ROOT / "docs" / "howto" / "energy.md"
QUICKSTART = ROOT / "examples" / "quickstart.py"


def code_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_the_readme_shows_the_example() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    shown = code_lines(block)
    example = code_lines(QUICKSTART.read_text().split('"""', 2)[2])
    assert shown == example
    assert len(shown) <= 15


@pytest.mark.lava
def test_the_example_runs(tmp_path: Path) -> None:
    # One epoch is enough to see that every line works.
    script = QUICKSTART.read_text().replace(
        '"training/recipes/digits.toml"',
        f"{str(ROOT / 'training' / 'recipes' / 'digits.toml')!r}, "
        'overrides={"training.epochs": "1"}',
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "every spike of every layer is equal\n"
    assert (tmp_path / "digits.net").exists()


def test_the_code_on_the_page_of_energies_runs() -> None:
    text = ENERGY.read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(block, ENERGY, "exec"), {})


def test_the_measured_file_on_the_page_of_energies_is_one(tmp_path: Path) -> None:
    text = ENERGY.read_text()
    (block,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "profile.json"
    path.write_text(block)
    assert nd.Measured.load(path).counters["dendrite_updates"] == 7680.0
