"""Number of steps that the certificate beside a file was made with."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

from neurodeploy.errors import DataError, NeurodeployWarning
from neurodeploy.files import CERTIFICATE, hash_file
from neurodeploy.untrusted.boundary import FileKind
from neurodeploy.untrusted.documents import read_json

_FILE = FileKind("certificate", ".json", DataError, "Write the certificate again.")


def certified_steps(net: Path) -> int | None:
    """Return T of the windows in `certificate.json` beside a file, if it is about this very file.

    A certificate that cannot be read, or of Lava's own time, says nothing here.
    """
    named = _steps_named(net)
    return None if named is None or named.digest != hash_file(net) else named.steps


def warn_of_other_steps(net: Path, samples: str, steps: int) -> None:
    """Warn if samples have another number of steps than those that a file was certified with."""
    named = _steps_named(net)
    if named is None or named.steps == steps or named.digest != hash_file(net):
        return
    warnings.warn(
        f"{samples}: samples of {steps} steps, but {net.name} was deployed and certified with "
        f"{named.steps}: accuracy, counts and energy are those of {steps} steps. Give samples of "
        f"{named.steps} steps if that is not wanted.",
        NeurodeployWarning,
        stacklevel=2,
    )


class _Named(NamedTuple):
    """T that a certificate names, and the digest of the file that it is about."""

    steps: int
    digest: str


def _steps_named(net: Path) -> _Named | None:
    path = net.parent / CERTIFICATE
    if not path.is_file():
        return None
    try:
        match read_json(path, _FILE):
            case {
                "network": {"sha256": str(digest)},
                "run": {"timing": "window"},
                "recording": {"steps": int(steps)},
            } if steps > 0:
                return _Named(steps, digest)
    except DataError:
        pass
    return None
