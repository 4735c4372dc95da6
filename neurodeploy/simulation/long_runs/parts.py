"""Parts of a long run: one file for each piece of the samples, written whole, joined at the end.

The folder `OUT.parts` holds `run.json`, which says what is run, and a file for each range of
samples that is finished: what was recorded of them (events of 0 and 1 packed in bits), their
health, and the SHA-256 of the samples themselves. A part is a function of its samples alone, so it
does not matter in which pieces, by how many processes or in how many attempts they were made.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.npyio import NpzFile

from neurodeploy.errors import DataError, OutputError
from neurodeploy.files import replacing, write_text
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.samples.array_files import DAMAGE, Array
from neurodeploy.simulation.recording import Health, Recording, unknown_kind
from neurodeploy.simulation.recording_files import recording_arrays

_ABOUT = "run.json"
_PACKED = "bits:"
_FACTS = "facts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts of a run, or of a part of it, beside its arrays; see also `Recording`.

    Attributes:
        samples: How many.
        steps: T.
        layers: Names, in order.
        shapes: Of each layer.
        spikes: Events of each layer; None where neither spikes nor counts were recorded.
        health: Of each layer; None where the simulator cannot see it.
        seconds: Time spent stepping, over all processes.
    """

    samples: int
    steps: int
    layers: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    spikes: tuple[int | None, ...]
    health: tuple[Health, ...] | None
    seconds: float

    @classmethod
    def of(cls, recording: Recording) -> Facts:
        """Take them from a recording."""
        return cls(
            samples=recording.samples,
            steps=recording.steps,
            layers=recording.layers,
            shapes=recording.shapes,
            spikes=recording.spike_totals(),
            health=recording.health,
            seconds=recording.seconds,
        )

    @classmethod
    def from_json(cls, text: str) -> Facts:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        return cls(
            samples=values["samples"],
            steps=values["steps"],
            layers=tuple(values["layers"]),
            shapes=tuple(map(tuple, values["shapes"])),
            spikes=tuple(values["spikes"]),
            health=values["health"] and tuple(Health(**layer) for layer in values["health"]),
            seconds=values["seconds"],
        )

    def to_json(self) -> str:
        """Return them as text."""
        return json.dumps(asdict(self))


def join_facts(parts: Sequence[Facts]) -> Facts:
    """Add up what is known of the parts of a run."""
    first = parts[0]
    spikes = zip(*(part.spikes for part in parts), strict=True)
    health = [part.health for part in parts if part.health is not None]
    return replace(
        first,
        samples=sum(part.samples for part in parts),
        spikes=tuple(None if None in layer else sum(filter(None, layer)) for layer in spikes),
        health=tuple(map(_join_health, zip(*health, strict=True))) if health else None,
        seconds=sum(part.seconds for part in parts),
    )


def _join_health(parts: Sequence[Health]) -> Health:
    """Return the health of one layer over all parts of a run."""
    return Health(
        current_peak=max(part.current_peak for part in parts),
        voltage_peak=max(part.voltage_peak for part in parts),
        current_wraps=sum(part.current_wraps for part in parts),
        voltage_clips=sum(part.voltage_clips for part in parts),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFile:
    """The file of a finished range of samples, `first` to `last` - 1.

    Its methods raise `DataError` if it is damaged.
    """

    first: int
    last: int
    path: Path

    def facts(self) -> tuple[Facts, str]:
        """Return the part's facts and the digest of its samples."""
        _, facts = self._read(_FACTS)
        return Facts.from_json(facts["facts"]), facts["samples_sha256"]

    def array_names(self) -> list[str]:
        """Name the arrays of the part, in the order in which they were recorded."""
        with self._opened() as archive:
            return [name.removeprefix(_PACKED) for name in archive.files if name != _FACTS]

    def array(self, name: str) -> Array:
        """Return one array of the part."""
        arrays, facts = self._read(name)
        if name in arrays:
            return arrays[name]
        shape = json.loads(facts["packed"])[name]
        bits = np.unpackbits(arrays[_PACKED + name].view(np.uint8), count=prod(shape))
        return bits.reshape(shape)

    def _read(self, name: str) -> tuple[dict[str, Array], dict[str, str]]:
        """Read one array, under the name that it is stored by, and the facts."""
        with self._opened() as archive:
            stored = [key for key in (name, _PACKED + name) if key in archive.files]
            return {key: archive[key] for key in stored}, json.loads(str(archive[_FACTS]))

    @contextmanager
    def _opened(self) -> Iterator[NpzFile]:
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                yield archive
        except DAMAGE as error:
            raise DataError(
                f"{self.path}: a damaged part ({error}). Delete it and add --resume: its samples "
                "are run again."
            ) from error


def pack_part(recording: Recording, values: npt.NDArray[np.int32]) -> bytes:
    """Return the content of the file of a part, made of samples as they entered the network."""
    digest = SampleDigest()
    digest.add(values)
    facts = {"facts": Facts.of(recording).to_json(), "samples_sha256": digest.hex()}
    arrays: dict[str, Array] = {}
    packed: dict[str, list[int]] = {}
    for name, array in recording_arrays(recording).items():
        if array.dtype == np.uint8 and name.startswith("spikes_"):
            packed[name] = list(array.shape)
            arrays[_PACKED + name] = np.packbits(array.view(np.uint8))
        elif name != "layers":
            arrays[name] = array
    facts["packed"] = json.dumps(packed)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays, **{_FACTS: np.array(json.dumps(facts))})
    return buffer.getvalue()


@dataclass(frozen=True, slots=True, eq=False)
class PartStore:
    """The folder that a run's parts are kept in until they are joined; made if needed.

    Attributes:
        folder: Where.
        about: What is run, by names that a user understands; a run goes on only if all agree.
    """

    folder: Path
    about: Mapping[str, str]

    def exists(self) -> bool:
        """Return whether there is something of an earlier run."""
        return (self.folder / _ABOUT).exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, or check that it is of this very run; keep other processes out.

        At the end it goes if nothing was finished.

        Raises:
            DataError: If it is of another run.
            OutputError: If it cannot be written, or another process works in it.
        """
        about = self.folder / _ABOUT
        if not about.exists():
            write_text(about, json.dumps(self.about, indent=2) + "\n")
        with about.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise OutputError(
                    f"{self.folder}: another process is writing there. Wait for it, or name "
                    "another output."
                ) from error
            self._check_about(about)
            for left_over in self.folder.glob(".part-*"):
                left_over.unlink(missing_ok=True)
            try:
                yield
            finally:
                if not self.parts():
                    self.remove()

    def _check_about(self, about: Path) -> None:
        try:
            found = json.loads(about.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{about}: cannot be read ({error}). Delete {self.folder} to begin anew."
            ) from error
        differing = [key for key, value in self.about.items() if found.get(key) != value]
        if differing:
            raise DataError(
                f"{self.folder}: holds parts of another run; different: {', '.join(differing)}. "
                "Name another output, or delete the folder to begin anew."
            )

    def parts(self) -> list[PartFile]:
        """List the finished parts in order; refuse any that overlap."""
        found = []
        for path in sorted(self.folder.glob("part-*-*.npz")):
            _, first, last = path.stem.split("-")
            found.append(PartFile(first=int(first), last=int(last), path=path))
        for before, after in pairwise(found):
            if after.first < before.last:
                raise DataError(
                    f"{self.folder}: {before.path.name} and {after.path.name} overlap. Delete "
                    "the folder to begin anew."
                )
        return found

    def finished_samples(self) -> int:
        """Return how many samples are finished."""
        return sum(part.last - part.first for part in self.parts())

    def write(self, first: int, last: int, data: bytes) -> None:
        """Keep a part, whole or not at all."""
        with replacing(self.folder / f"part-{first:012d}-{last:012d}.npz") as temporary:
            temporary.write_bytes(data)

    def remove(self) -> None:
        """Delete the parts and the folder, once they are joined."""
        for part in self.parts():
            part.path.unlink(missing_ok=True)
        (self.folder / _ABOUT).unlink(missing_ok=True)
        with suppress(OSError):  # a user may keep something else there
            self.folder.rmdir()


class SampleDigest:
    """SHA-256 of samples by their values and shape, whatever dtype they are stored in."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, values: npt.NDArray[np.int32]) -> None:
        """Go on with further samples, int32 of (samples, ...)."""
        for value in np.ascontiguousarray(values, dtype="<i4"):
            self._digest.update(repr(value.shape).encode())
            self._digest.update(value.data)

    def hex(self) -> str:
        """Return the digest of all samples so far."""
        return self._digest.hexdigest()


def digest_graph(graph: FixedPointGraph) -> str:
    """Return the SHA-256 of all that a network consists of."""
    digest = hashlib.sha256()

    def add(value: object) -> None:
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype.str}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).data)
        elif is_dataclass(value) and not isinstance(value, type):
            digest.update(type(value).__name__.encode())
            for field in fields(value):
                digest.update(field.name.encode())
                add(getattr(value, field.name))
        elif isinstance(value, tuple | list):
            digest.update(f"({len(value)}".encode())
            for one in value:
                add(one)
        elif value is None or isinstance(value, str | int | float | np.generic):
            digest.update(repr(value).encode())
        else:  # its text might leave out values of an array
            raise unknown_kind(value, "long_runs.parts.digest_graph")

    add(graph)
    return digest.hexdigest()
