"""Files of named tensors with JSON beside them: safetensors, never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from neurodeploy.errors import CheckpointError
from neurodeploy.files import replacing

JsonTable = dict[str, object]
_KEY = "neurodeploy"
"""The header's one entry: safetensors writes several in no fixed order, and equal networks
should make equal files."""


def write_tensors(
    path: Path | str, tensors: Mapping[str, Tensor], *, kind: str, metadata: JsonTable
) -> None:
    """Write tensors by name, and metadata as JSON holds it, into one file, whole or not at all.

    `kind` says what the file is, so that another kind is not read in its place.

    Raises:
        OutputError: If it cannot be written; an older file stays as it was.
    """
    # safetensors refuses tensors that share memory, and views: give each its own.
    owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    header = {_KEY: json.dumps({"kind": kind, "metadata": metadata}, allow_nan=False)}
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(save(owned, metadata=header))


def read_tensors(path: Path | str, *, kind: str) -> tuple[dict[str, Tensor], JsonTable]:
    """Read the tensors and metadata that `write_tensors` wrote.

    Raises:
        CheckpointError: If the file is missing, damaged or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file.")
    try:
        with safe_open(path, framework="pt") as opened:
            header = json.loads((opened.metadata() or {}).get(_KEY, "{}"))
            found = header.get("kind") if isinstance(header, dict) else None
            if found != kind:
                raise CheckpointError(
                    f"{path}: holds {found or 'tensors of another program'}, {kind} is required."
                )
            metadata = header["metadata"]
            tensors = {name: opened.get_tensor(name) for name in list(opened.keys())}
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path}: damaged ({error}). Delete it, or copy it again from where it came."
        ) from error
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path}: damaged (metadata is no table).")
    return tensors, metadata
