"""Record commit, device and versions beside a measured number, so that it can be repeated."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from neurodeploy._version import __version__

ABSENT = "none"
"""Version of a package that is not installed."""


def provenance(
    folder: Path | str, *, code: tuple[str, ...] = (), packages: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return commit, device and versions for the log of a measurement.

    Args:
        folder: Any folder of the checkout whose commit is recorded; "unknown" outside of one.
        code: Paths from its top that the number depends on; if git sees changes there that are
            not committed, "+changes" is added to the commit.
        packages: Distributions whose versions matter; "none" where one is not installed.
    """
    commit = _git(folder, "rev-parse", "--short", "HEAD") or "unknown"
    paths = [f":/{path}" for path in code]
    if paths and _git(folder, "status", "--porcelain", "--", *paths):
        commit += "+changes"
    return {
        "commit": commit,
        "device": processor(),
        "python": platform.python_version(),
        **{package: installed_version(package) or ABSENT for package in packages},
    }


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of neurodeploy, with its commit, of Python and of installed packages."""
    package = Path(__file__).parent
    known = {"neurodeploy": __version__, "python": platform.python_version()}
    # Only if this very file is under version control: a virtual environment often lies inside
    # somebody else's repository.
    if _git(package, "ls-files", Path(__file__).name):
        known["commit"] = provenance(package, code=("neurodeploy",))["commit"]
    installed = {name: installed_version(name) for name in packages}
    return known | {name: value for name, value in installed.items() if value is not None}


def installed_version(package: str) -> str | None:
    """Return the version of a distribution; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """Return the processor's name, as the system knows it."""
    about = Path("/proc/cpuinfo")
    if about.is_file():
        for line in about.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def _git(folder: Path | str, *arguments: str) -> str:
    """Return the output of git; nothing if there is no git, or no repository."""
    try:
        outcome = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return outcome.stdout.strip() if outcome.returncode == 0 else ""
