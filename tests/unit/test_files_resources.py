"""Files that come with neurodeploy are found beside the running package, else in the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurodeploy import files
from neurodeploy.errors import NeurodeployError


def test_checkout_has_worker_and_recipes() -> None:
    assert (files.hardware_path() / "lava_runtime" / "run_netx.py").is_file()
    assert files.recipes_path().is_dir()


def test_folder_beside_the_package_comes_first(tmp_path: Path) -> None:
    package = tmp_path / "neurodeploy"
    (package / "_hardware").mkdir(parents=True)
    (tmp_path / "hardware").mkdir()
    found = files._find("_hardware", "hardware", package=package)
    assert found == package / "_hardware"


def test_neither_folder(tmp_path: Path) -> None:
    with pytest.raises(NeurodeployError, match="Install neurodeploy again"):
        files._find("_hardware", "hardware", package=tmp_path)
