"""The optional packages that read published data sets, imported where they are needed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from neurodeploy.errors import DataError


def torchvision_datasets() -> ModuleType:
    """Return `torchvision.datasets`.

    Raises:
        DataError: If torchvision is not installed.
    """
    return _package("torchvision.datasets")


def torchvision_transforms() -> ModuleType:
    """Return `torchvision.transforms`.

    Raises:
        DataError: If torchvision is not installed.
    """
    return _package("torchvision.transforms")


def tonic() -> ModuleType:
    """Return `tonic`.

    Raises:
        DataError: If tonic is not installed.
    """
    return _package("tonic")


def reason_of(error: Exception) -> str:
    """Return the first line of what another package says, or else the error's name."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _package(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise DataError(
            f"data: {package} is needed for this source and cannot be imported ({error}). "
            "Install it: pip install 'neurodeploy[data]'."
        ) from error
