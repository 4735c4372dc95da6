"""The code of README and pages runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import neurodeploy as nd

ROOT = Path(__file__).parents[2]
ENERGY = ROOT / "docs" / "howto" / "energy.md"
README = ROOT / "README.md"


@pytest.mark.lava
def test_the_code_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.M | re.S)
    assert "torch" not in block
    monkeypatch.chdir(tmp_path)
    exec(compile(block, README, "exec"), {})
    assert "</html>" in (tmp_path / "report.html").read_text("utf-8")


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
