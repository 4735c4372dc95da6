"""Parts of a long run: one file for each piece of the samples, written whole, joined at the end.

The folder `OUT.parts` holds `run.json`, which says what is run, and a file for each range of
samples that is finished: what was recorded of them (events of 0 and 1 packed in bits), their
health, and the SHA-256 of the samples themselves. A part is a function of its samples alone, so it
does not matter in which pieces, by how many processes or in how many attempts they were made.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from numpy.lib.npyio import NpzFile

from neurodeploy.errors import DataError, NeurodeployWarning, OutputError
from neurodeploy.files import replacing, write_text
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.processes.platforms import lock_file
from neurodeploy.samples.array_files import Array, require_characters
from neurodeploy.simulation.recording import Health, Recording, unknown_kind
from neurodeploy.simulation.recording_files import recording_arrays
from neurodeploy.strict_tables import NotNegativeFloat, NotNegativeInt, PositiveInt, read_table
from neurodeploy.untrusted.boundary import FileKind, guarded
from neurodeploy.untrusted.documents import parse_json, read_json

_ABOUT = "run.json"
_PACKED = "bits:"
_FACTS = "facts"
_NAME = re.compile(r"part-([0-9]{12})-([0-9]{12})\.npz")
_SEAL_BYTES = 64
_HASHED_AT_ONCE = 1 << 20
_PART = FileKind(
    "part",
    ".npz",
    DataError,
    "A whole part is required. Delete it and add --resume: its samples are run again.",
)
_ABOUT_FILE = FileKind("run", ".json", DataError, "Delete the folder that it is in to begin anew.")


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

    samples: PositiveInt
    steps: PositiveInt
    layers: tuple[str, ...]
    shapes: tuple[tuple[PositiveInt, ...], ...]
    spikes: tuple[NotNegativeInt | None, ...]
    health: tuple[Health, ...] | None
    seconds: NotNegativeFloat

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


def join_facts(parts: Sequence[Facts]) -> Facts:
    """Add up what is known of the parts of a run.

    Raises:
        DataError: If they are not all of one network.
    """
    first = parts[0]
    kinds = {(part.steps, part.layers, part.shapes, part.health is None) for part in parts}
    if len(kinds) > 1:
        raise DataError(f"parts: of {len(kinds)} different runs. Delete their folder.")
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
    numbers = {
        field.name: [getattr(part, field.name) for part in parts] for field in fields(Health)
    }
    return Health(
        **{
            name: max(found) if name.endswith("_peak") else sum(found)
            for name, found in numbers.items()
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRecord:
    """Facts in a part's file beside its arrays.

    Attributes:
        facts: Of its samples.
        samples_sha256: Digest of the samples themselves.
        packed: Shapes of the arrays that are packed in bits.
    """

    facts: Facts
    samples_sha256: str
    packed: Mapping[str, tuple[NotNegativeInt, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFile:
    """The file of a finished range of samples, `first` to `last` - 1, of a run.

    It ends with a SHA-256 of its bytes, its range and its run (`seal_part`), which `record` checks.
    Its methods raise `DataError` if it is damaged, changed, or of another range or run.

    Attributes:
        run: Digest of the run.
    """

    first: int
    last: int
    path: Path
    run: str

    def record(self) -> PartRecord:
        """Return what the part says of itself, once its bytes are those that were written."""
        digest = _begin_seal(self.first, self.last, self.run)
        with guarded(self.path, _PART), self.path.open("rb") as file:
            end = b""
            while block := file.read(_HASHED_AT_ONCE):
                end += block
                digest.update(end[:-_SEAL_BYTES])
                end = end[-_SEAL_BYTES:]
        if end != digest.hexdigest().encode():
            raise DataError(
                f"{self.path}: changed since it was written, or a part of other samples or of "
                f"another run. {_PART.rule}"
            )
        return self._read(_FACTS)[1]

    def array_names(self) -> list[str]:
        """Name the arrays of the part, in the order in which they were recorded."""
        with self._opened() as archive:
            return [name.removeprefix(_PACKED) for name in archive.files if name != _FACTS]

    def array(self, name: str, *, like: Array | None = None) -> Array:
        """Return one array of the part, (samples, ...), of samples as in another part's array."""
        arrays, record = self._read(name)
        with guarded(f"{self.path}: {name}", _PART):
            if name in arrays:
                array = arrays[name]
            else:
                shape = record.packed[name]
                bits = np.unpackbits(arrays[_PACKED + name].view(np.uint8), count=prod(shape))
                array = bits.reshape(shape)
            kind = (array.dtype, array.shape[1:])
            wanted = kind if like is None else (like.dtype, like.shape[1:])
            if array.shape[0] != self.last - self.first or kind != wanted:
                raise ValueError(f"{array.dtype} of shape {array.shape}")
        return array

    def _read(self, name: str) -> tuple[dict[str, Array], PartRecord]:
        """Read one array, under the name that it is stored by, and the record."""
        with self._opened() as archive:
            stored = [key for key in (name, _PACKED + name) if key in archive.files]
            arrays = {key: archive[key] for key in stored}
            stored_text = archive[_FACTS]
            require_characters(stored_text)
        where = f"{self.path}: {_FACTS}"
        table = parse_json(str(stored_text), where=where, kind=_PART)
        record = read_table(PartRecord, table, where=where, error=DataError)
        facts = record.facts
        per_layer = {len(facts.layers), len(facts.shapes), len(facts.spikes)}
        per_layer |= set() if facts.health is None else {len(facts.health)}
        if facts.samples != self.last - self.first or len(per_layer) != 1:
            raise DataError(f"{where}: contradicts itself. {_PART.rule}")
        return arrays, record

    @contextmanager
    def _opened(self) -> Iterator[NpzFile]:
        with (
            guarded(self.path, _PART),
            self.path.open("rb") as file,
            np.load(file, allow_pickle=False) as archive,
        ):
            yield archive


def seal_part(archive: bytes, first: int, last: int, run: str) -> bytes:
    """Return an archive with a comment at its end: the digest of its bytes, range and run."""
    # An archive without a comment ends with the comment's length, two bytes.
    content = archive[:-2] + _SEAL_BYTES.to_bytes(2, "little")
    digest = _begin_seal(first, last, run)
    digest.update(content)
    return content + digest.hexdigest().encode()


def _begin_seal(first: int, last: int, run: str) -> hashlib._Hash:
    return hashlib.sha256(f"{run} {first} {last}\n".encode())


def pack_part(recording: Recording, samples: npt.NDArray[np.integer]) -> bytes:
    """Return the content of the file of a part, made of samples in the network's own shape."""
    digest = SampleDigest()
    digest.add(samples)
    arrays: dict[str, Array] = {}
    packed: dict[str, list[int]] = {}
    for name, array in recording_arrays(recording).items():
        if array.dtype == np.uint8 and name.startswith("spikes_"):
            packed[name] = list(array.shape)
            arrays[_PACKED + name] = np.packbits(array.view(np.uint8))
        elif name != "layers":
            arrays[name] = array
    record = {
        "facts": asdict(Facts.of(recording)),
        "samples_sha256": digest.hex(),
        "packed": packed,
    }
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays, **{_FACTS: np.array(json.dumps(record))})
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
            self._lock(file)
            self._check_about(about)
            for left_over in self.folder.glob(".part-*"):
                left_over.unlink(missing_ok=True)
            self._drop_unsound()
            try:
                yield
            finally:
                if not self.parts():
                    self.remove()

    def require_idle(self) -> None:
        """Check that no process is at work in the folder; nothing is changed.

        Raises:
            OutputError: If one is.
        """
        with suppress(FileNotFoundError), (self.folder / _ABOUT).open("rb") as file:
            self._lock(file)

    def _lock(self, file: IO[bytes]) -> None:
        try:
            lock_file(file)
        except OSError as error:
            reason = f"cannot be locked ({error.strerror})"
            if isinstance(error, BlockingIOError):
                reason = "another process is writing there"
            raise OutputError(
                f"{self.folder}: {reason}. Wait for it, or name another output."
            ) from error

    def _check_about(self, about: Path) -> None:
        found = read_json(about, _ABOUT_FILE)
        if not isinstance(found, dict):
            raise DataError(f"{about}: not a table. Delete {self.folder} to begin anew.")
        differing = [key for key, value in self.about.items() if found.get(key) != value]
        if differing:
            raise DataError(
                f"{self.folder}: holds parts of another run; different: {', '.join(differing)}. "
                "Name another output, or delete the folder to begin anew."
            )

    def _drop_unsound(self) -> None:
        """Delete parts that were changed, or are of another run: their samples are run again."""
        for part in self._list():
            try:
                part.record()
            except DataError as error:
                part.path.unlink(missing_ok=True)
                warnings.warn(
                    f"{part.path}: deleted, and its samples are run again. It was damaged, changed "
                    f"since it was written, or of another run or version ({error}).",
                    NeurodeployWarning,
                    stacklevel=5,
                )

    def parts(self) -> list[PartFile]:
        """List the finished parts in order; refuse any that overlap."""
        found = self._list()
        for before, after in pairwise(found):
            if after.first < before.last:
                raise DataError(
                    f"{self.folder}: {before.path.name} and {after.path.name} overlap. Delete "
                    "the folder to begin anew."
                )
        return found

    def _list(self) -> list[PartFile]:
        run = self.run
        named = ((_NAME.fullmatch(path.name), path) for path in self.folder.glob("part-*.npz"))
        parts = (
            PartFile(first=int(name[1]), last=int(name[2]), path=path, run=run)
            for name, path in named
            if name is not None
        )
        return sorted(parts, key=lambda part: (part.first, part.last))

    @property
    def run(self) -> str:
        """Digest of all that the run is known by."""
        return hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()

    def finished_samples(self) -> int:
        """Return how many samples are finished."""
        return sum(part.last - part.first for part in self.parts())

    def write(self, first: int, last: int, data: bytes) -> None:
        """Keep a part, whole or not at all."""
        with replacing(self.folder / f"part-{first:012d}-{last:012d}.npz") as temporary:
            temporary.write_bytes(seal_part(data, first, last, self.run))

    def remove(self) -> None:
        """Delete the parts and the folder, once they are joined.

        Raises:
            OutputError: If they cannot be deleted.
        """
        try:
            for part in self.parts():
                part.path.unlink(missing_ok=True)
            (self.folder / _ABOUT).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.folder}: cannot be removed ({error.strerror or error}). The output is "
                "complete. Delete the folder, or repeat the command with --resume."
            ) from error
        with suppress(OSError):  # a user may keep something else there
            self.folder.rmdir()


class SampleDigest:
    """SHA-256 of samples by their values and shape, whatever dtype they are stored in.

    Samples of zeros and ones go in as bits: as int32, the digest would take as long as a small
    network's run.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, samples: npt.NDArray[np.integer]) -> None:
        """Go on with further samples, (samples, ...), of values that fit int32."""
        for sample in np.ascontiguousarray(samples, samples.dtype.newbyteorder("=")):
            # As unsigned numbers negative ones are large.
            is_binary = sample.view(f"u{sample.itemsize}").max() <= 1
            self._digest.update(f"{sample.shape}{'bits' if is_binary else ''}".encode())
            if is_binary:
                kept = sample if sample.itemsize == 1 else sample.astype(np.uint8)
                self._digest.update(np.packbits(kept).data)
            else:
                self._digest.update(sample.astype("<i4").data)

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
