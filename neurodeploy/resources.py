"""Where the files are that come with neurodeploy but are not Python modules of it."""

from __future__ import annotations

from pathlib import Path

from neurodeploy.errors import NeurodeployError

PACKAGE = Path(__file__).resolve().parent


def hardware_path() -> Path:
    """Give the folder with target files and the Lava worker.

    Raises:
        NeurodeployError: If the installation lacks it.
    """
    return _find("_hardware", "hardware")


def recipes_path() -> Path:
    """Give the folder with the recipes that come with neurodeploy.

    Raises:
        NeurodeployError: If the installation lacks it.
    """
    return _find("_recipes", "training/recipes")


def _find(installed: str, in_checkout: str, *, package: Path = PACKAGE) -> Path:
    """Look beside the running package first, as in a wheel, then in the checkout.

    An editable install leaves a copy of the wheel's folder elsewhere, which nobody must read;
    hence nothing is looked up by distribution.
    """
    candidates = (package / installed, package.parent / in_checkout)
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise NeurodeployError(
        f"neurodeploy: neither {candidates[0]} nor {candidates[1]} exists, one of them belongs to "
        "every installation. Install neurodeploy again."
    )
