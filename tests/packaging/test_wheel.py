"""What a user gets from a wheel: the package, the recipes and the hardware folder."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = {
    "hardware/": "neurodeploy/_hardware/",
    "training/recipes/": "neurodeploy/_recipes/",
    "examples/zoo/": "neurodeploy/_zoo/",
}
"""Folders of the checkout, and their places in the wheel."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_every_module_and_every_data_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "neurodeploy", *PLACES],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    expected = {
        next((name.replace(old, new) for old, new in PLACES.items() if name.startswith(old)), name)
        for name in tracked
        if (ROOT / name).exists()
    }
    assert expected - names == set()
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheels_own_files_are_found_and_used(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = (
        "from pathlib import Path\n"
        "import neurodeploy\n"
        "from neurodeploy.files import hardware_path, recipes_path\n"
        "from neurodeploy.chips.target import Target\n"
        "here = Path(neurodeploy.__file__).parent\n"
        f"assert here.parent == Path({str(tmp_path)!r}), here\n"
        "assert hardware_path() == here / '_hardware'\n"
        "assert recipes_path() == here / '_recipes'\n"
        "assert neurodeploy.load_example().net == here / '_zoo' / 'digits_small' / 'network.net'\n"
        "assert Target.load('loihi2').weight_max == 254\n"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )


def test_the_checkout_uses_its_own_folders() -> None:
    from neurodeploy.files import hardware_path, recipes_path

    assert hardware_path() == ROOT / "hardware"
    assert recipes_path() == ROOT / "training" / "recipes"
