"""Files of named tensors with JSON beside them: safetensors, never pickle.

A file carries a SHA-256 of its tensors and its JSON, so that one that was changed is refused. Files
of the first format have none; they are read with a warning.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from neurodeploy.errors import CheckpointError, NeurodeployWarning
from neurodeploy.files import replacing
from neurodeploy.untrusted.boundary import FileKind, reading
from neurodeploy.untrusted.documents import parse_json

JsonTable = dict[str, object]
_KEY = "neurodeploy"
"""The header's one entry: safetensors writes several in no fixed order, and equal networks
should make equal files."""
_HEADER_CHARACTERS = 1 << 26
"""A checkpoint's header holds a record of every epoch."""
_FILE = FileKind(
    "tensors",
    ".safetensors",
    CheckpointError,
    "It is damaged, or no safetensors file: delete it, or copy it again from where it came.",
)


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
    table: JsonTable = {"kind": f"{kind}-2", "metadata": metadata}
    table["sha256"] = _digest(owned, table)
    header = {_KEY: json.dumps(table, allow_nan=False)}
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(save(owned, metadata=header))


def read_tensors(path: Path | str, *, kind: str) -> tuple[dict[str, Tensor], JsonTable]:
    """Read the tensors and metadata that `write_tensors` wrote.

    Raises:
        CheckpointError: If the file is missing, damaged, changed, of another kind, or holds
            numbers that are not finite.
    """
    path = Path(path)
    with (
        reading(path, _FILE),
        path.open("rb") as file,  # safetensors itself opens no name that is not UTF-8
        safe_open(f"/dev/fd/{file.fileno()}", framework="pt") as opened,
    ):
        text = (opened.metadata() or {}).get(_KEY, "{}")
        header = parse_json(text, where=str(path), kind=_FILE, most=_HEADER_CHARACTERS)
        found = header.get("kind") if isinstance(header, dict) else None
        if not isinstance(header, dict) or found not in (f"{kind}-1", f"{kind}-2"):
            raise CheckpointError(
                f"{path}: holds {found or 'tensors of another program'}, {kind} is required."
            )
        tensors = {name: opened.get_tensor(name) for name in list(opened.keys())}
    metadata = header.get("metadata")
    is_first = found == f"{kind}-1"
    keys = {"kind", "metadata"} if is_first else {"kind", "metadata", "sha256"}
    if header.keys() != keys or not isinstance(metadata, dict):
        raise CheckpointError(f"{path}: its header has the wrong keys. {_FILE.rule}")
    if is_first:
        warnings.warn(
            f"{path}: written by an earlier version, without a hash of its content, so that "
            "changes of it go unnoticed.",
            NeurodeployWarning,
            stacklevel=3,
        )
    elif header["sha256"] != _digest(tensors, header):
        raise CheckpointError(
            f"{path}: changed since it was written: its content is not that of its SHA-256. "
            f"{_FILE.rule}"
        )
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{path}: '{name}' holds numbers that are not finite. Train again, or take an "
                "earlier file."
            )
    return tensors, metadata


def _digest(tensors: Mapping[str, Tensor], header: JsonTable) -> str:
    """Return the SHA-256 of names, types, shapes and bytes of tensors, and of the other keys."""
    rest = {key: value for key, value in header.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
