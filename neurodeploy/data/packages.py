"""The optional packages that read published data sets, imported where they are needed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from neurodeploy.errors import DataError

_PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".rar", ".7z")


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


def layout_hint(root: Path, first: str) -> str:
    """Return the advice for a set that is packed, or lies above or below; empty for any other.

    Args:
        root: Folder that was named.
        first: Folder or file that it should hold.
    """
    packed = sorted(path.name for path in root.glob("*") if path.name.endswith(_PACKED))
    if packed:
        return f" {root} holds {', '.join(packed)}: unpack it there."
    if root.name == first:
        return f" {root} is one level too deep: set data.root to {root.parent}."
    below = sorted(root.glob(f"*/{first}"))
    return f" It lies in {below[0].parent}: set data.root to that." if below else ""


def _package(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise DataError(
            f"data: {package} is needed for this source and cannot be imported ({error}). "
            "Install it: pip install 'neurodeploy[data]'."
        ) from error
