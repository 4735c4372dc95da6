"""Name the files in a run's directory, for readers that need no torch."""

from __future__ import annotations

from pathlib import Path

from neurodeploy.errors import NetxError

RECIPE = "recipe.toml"
MODEL = "model.safetensors"
NET = "network.net"
NET_RECORD = "network.json"
SAMPLES = "samples.npz"
REPORT = "report.html"
SUMMARY = "summary.json"
DEPLOYMENT = "deployment.json"
TEST = "test.json"
TWIN = "twin.onnx"
RUN_FILES = (RECIPE, MODEL, NET, NET_RECORD, SAMPLES, REPORT, SUMMARY, DEPLOYMENT, TEST, TWIN)
"""All of them, but for the checkpoints in folders of their own."""


def net_of(path: Path) -> Path:
    """Return the netx file that `path` is, or that the run with this directory or file deployed.

    Raises:
        NetxError: If it is a directory without one.
    """
    if path.name in RUN_FILES and (path.parent / NET).is_file():
        return path.parent / NET
    if not path.is_dir():
        return path
    if not (path / NET).is_file():
        raise NetxError(
            f"{path}: no {NET} in this directory. Name a netx file, or deploy a training first: "
            f"neurodeploy deploy {path}."
        )
    return path / NET


def samples_of(path: Path) -> Path:
    """Return the samples that `path` is, or that the run with this directory or netx file left."""
    run = path.parent if path.name == NET else path
    return run / SAMPLES if (run / SAMPLES).is_file() and (run / NET).is_file() else path


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files that a command may read when it is given `path`: a file, or a run."""
    return (path, *(path / name for name in RUN_FILES if (path / name).exists()))
