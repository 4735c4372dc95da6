"""Name the files in a run's directory, for readers that need no torch."""

from __future__ import annotations

from pathlib import Path

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


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files that a command may read when it is given `path`: a file, or a run."""
    return (path, *(path / name for name in RUN_FILES)) if path.is_dir() else (path,)
