"""Write files whole or not at all; name the files of a run, and find those of the installation.

Nothing here needs torch.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from neurodeploy.errors import DataError, NetxError, NeurodeployError, OutputError
from neurodeploy.processes.leftovers import remove_leftovers_in
from neurodeploy.processes.owners import owner_mark
from neurodeploy.processes.platforms import lock_file

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

PACKAGE = Path(__file__).resolve().parent
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
CERTIFICATE = "certificate.json"
RUN_FILES = (
    *(RECIPE, MODEL, NET, NET_RECORD, SAMPLES, REPORT, SUMMARY, DEPLOYMENT, TEST, TWIN),
    CERTIFICATE,
)
"""All of them, but for the checkpoints in folders of their own."""

_LOCK = ".lock"
_STAGING = ".deploying-"
_held: set[tuple[Path, int]] = set()
"""Locks of this process, by the thread that took them."""
_searched: set[Path] = set()
"""Folders in which this process has removed the temporary files of dead ones."""


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it there when the block ends well.

    A reader sees the old file or the whole new one, never a part. When the block raises,
    the temporary file is removed and `path` is as it was. Data reach the disk before the
    move, so a power cut cannot leave an empty file under the final name.

    Missing parent directories are created, and removed when it fails; a symbolic link stays, and
    the file it points to is replaced. The temporary path is in the same directory and has the same
    suffix.

    Raises:
        OutputError: If the directory cannot be created or written, or the disk is full.
    """
    path = Path(path)
    try:
        final = real_path(path)
        if leads_in_a_circle(final):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if final.exists() and not (final.is_file() or final.is_dir()):
            raise OutputError(
                f"{path}: is a device or a pipe, which cannot be replaced. Name an ordinary file."
            )
        with _making(final.parent), _temporary_beside(final) as temporary:
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.replace(final)
        _sync(final.parent)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}). "
            "Check the directory's permissions and the free disk space; nothing was changed."
        ) from error


@contextmanager
def _making(folder: Path) -> Iterator[None]:
    """Create a folder and its parents; where the block fails, remove those that it left empty."""
    created = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for parent in created:
            with suppress(OSError):
                parent.rmdir()
        raise


@contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    """Create an empty hidden file, with the permissions any new file gets; it goes on failure."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if path.parent not in _searched:
        _searched.add(path.parent)
        with suppress(OSError):  # files may be created in a folder that may not be listed
            remove_leftovers_in(path.parent)
    name = f".{path.stem[:20]}-{owner_mark()}{secrets.token_hex(8)}{path.suffix}"
    temporary = path.with_name(name)
    try:
        temporary.open("xb").close()
        yield temporary
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _sync(folder: Path) -> None:
    """Have a move within a folder reach the disk, where the system can tell it to."""
    with suppress(OSError):  # some file systems cannot; the file is in its place all the same
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def replacing_together(
    folder: Path, names: Iterable[str], *, stale: Iterable[str] = ()
) -> Iterator[Path]:
    """Yield a folder for new files; move them into `folder` when the block ends well, all or none.

    Those of `names` that were written replace older ones. `stale` names older files that would be
    wrong beside them; they go at the same moment. When the block or a move fails, every file in
    `folder` is as it was. Whoever calls this holds the lock of `folder`.

    Raises:
        OutputError: If files cannot be written or moved.
    """
    place = real_path(folder)
    for left_over in place.glob(f"{_STAGING}*"):  # of a process that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    staging = place / f"{_STAGING}{secrets.token_hex(8)}"
    try:
        staging.mkdir(parents=True)
        yield staging
        _move(staging, place, names, stale)
    except (OutputError, OSError) as error:
        cause: BaseException | None = error
        if isinstance(error, OutputError):
            if str(staging) not in str(error):
                raise
            cause = error.__cause__  # it is about a file in a folder that nobody knows
        raise OutputError(
            f"{folder}: cannot be written ({getattr(cause, 'strerror', None) or cause}). Check the "
            "directory's permissions and the free disk space; the files in it were not changed."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _move(staging: Path, place: Path, names: Iterable[str], stale: Iterable[str]) -> None:
    """Move files from `staging` to `place`; undo it all where a move fails.

    At every moment each file is the old or the new one, whatever ends the process.
    """
    earlier = staging / "earlier"
    earlier.mkdir()
    undo: list[tuple[Path, Path | None]] = []
    try:
        for name in (*stale, *names):
            kept: Path | None = None
            if (place / name).exists():
                kept = earlier / name
                _keep(place / name, kept)
            undo.append((place / name, kept))
            if (staging / name).exists():
                (staging / name).replace(place / name)
            elif name in stale:
                (place / name).unlink(missing_ok=True)
    except BaseException:
        for final, kept in reversed(undo):
            with suppress(OSError):
                if kept is None:
                    final.unlink(missing_ok=True)
                else:
                    kept.replace(final)
        raise
    _sync(place)


def _keep(path: Path, kept: Path) -> None:
    """Link a file to a second name, or copy it where the file system knows no second names."""
    try:
        kept.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, kept)


class SteadyFile(io.RawIOBase):
    """A new file for libraries that cannot bear a failing write: HDF5 crashes on a full disk.

    From the first failure on, writes are dropped and said to have succeeded; `check` raises it.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb+", buffering=0)
        self._failure: OSError | None = None

    def write(self, data: ReadableBuffer) -> int:
        """Write all of it, or remember why not."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while self._failure is None and len(rest):
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._failure = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the file's length, or remember why not."""
        size = self.tell() if size is None else size
        try:
            if self._failure is None:
                self._file.truncate(size)
        except OSError as error:
            self._failure = error
        return size

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read as a file does."""
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Seek as a file does."""
        return self._file.seek(offset, whence)

    def check(self) -> None:
        """Raise the first failure."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    with replacing(path) as temporary:
        # Names of files may hold bytes that are no UTF-8; in JSON they read back as they were.
        temporary.write_text(text.encode(errors="backslashreplace").decode(), encoding="utf-8")


def require_writable(path: Path) -> None:
    """Check before long work, and without a trace, that `path` can probably be written.

    Raises:
        OutputError: If it cannot.
    """
    path = Path(path)
    real = real_path(path)
    if leads_in_a_circle(real):
        raise OutputError(
            f"{path}: cannot be written ({os.strerror(errno.ELOOP)}). Name another file."
        )
    existing = next(parent for parent in real.parents if parent.exists())
    if path.is_dir() or not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        blame = path if path.is_dir() else existing
        reason = "is a directory" if path.is_dir() else "is no directory that may be written to"
        raise OutputError(f"{path}: cannot be written ({blame} {reason}). Name another file.")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder while the block runs; create the folder if needed.

    The system holds the lock for this process, so the end of the process releases it, whatever
    ends it. A thread may take the lock again inside the block.

    Raises:
        OutputError: If another process or thread works in the folder, or it cannot be written.
    """
    path = real_path(folder) / _LOCK
    owner = (path, threading.get_ident())
    if owner in _held:
        yield
        return
    created = [parent for parent in path.parents if not parent.exists()]
    try:
        with _making(path.parent):
            file = _take_lock(path, folder)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or error}). Name another directory."
        ) from error
    _held.add(owner)
    try:
        yield
    finally:
        _held.discard(owner)
        if sys.platform == "win32":  # which removes no file that is open
            file.close()
        with suppress(OSError):
            path.unlink()
            for parent in created:  # those that nothing was written to
                parent.rmdir()
        with suppress(OSError):
            file.close()


def _take_lock(path: Path, folder: Path) -> IO[str]:
    """Return the open file that holds the lock, with the number and name of this process in it."""
    while True:
        file = path.open("a+", encoding="utf-8", errors="backslashreplace")
        try:
            lock_file(file)
        except OSError as error:
            if not isinstance(error, BlockingIOError):  # no locks here: the file is of no use
                file.close()
                path.unlink(missing_ok=True)
                raise
            file.seek(0)
            process = file.read() or "of unknown number"
            file.close()
            raise OutputError(
                f"{folder}: process {process} is working in it. Wait until it ends, or name "
                "another directory (--out)."
            ) from error
        # Its last owner may have removed the file between our opening it and our locking it.
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            break
        file.close()
    try:
        file.truncate(0)
        file.write(f"{os.getpid()} ({' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])})")
        file.flush()
    except OSError:
        with suppress(OSError):
            path.unlink()
        with suppress(OSError):  # it would write once more
            file.close()
        raise
    return file


def is_there(path: Path) -> bool:
    """Return whether there is a file; False for names that none can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or NUL in it
        return False


def real_path(path: Path) -> Path:
    """Return a path without links; one that leads round in a circle, for others to fail on."""
    return Path(os.path.realpath(path))  # pathlib's own raises for circles what is no OSError


def leads_in_a_circle(real: Path) -> bool:
    """Return whether there are links in a `real_path`, which are those that it cannot resolve."""
    return any(one.is_symlink() for one in (real, *real.parents))


def is_same_file(path: Path, other: Path) -> bool:
    """Return whether two names lead to one file, through whatever links."""
    try:
        return path.samefile(other)
    except OSError:  # one of them does not exist, or lies where nobody may look
        return real_path(path) == real_path(other)


def require_output(path: Path, suffixes: Sequence[str], *, inputs: Iterable[Path] = ()) -> None:
    """Check before long work that `path` may be written: its suffix, its place, and its owner.

    Args:
        path: The file to create or replace.
        suffixes: Those that it may have, the file behind a symbolic link as well.
        inputs: Files that the work reads, and others that it writes.

    Raises:
        OutputError: If the suffix is another, `path` is one of `inputs`, or it cannot be written.
    """
    for name in dict.fromkeys((path, real_path(path))):
        if name.suffix.lower() not in suffixes:
            raise OutputError(
                f"{path}: would be written to {name.name}, the name of such a file ends with "
                f"{', '.join(suffixes)}. Name another file."
            )
    for other in inputs:
        if is_same_file(path, other):
            raise OutputError(
                f"{path}: is also {other}, which this command reads or writes as something else. "
                "Name another file; nothing was changed."
            )
    require_writable(path)


def hash_file(path: Path | str) -> str:
    """Return the SHA-256 of a file's content, read piece by piece.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}). Give a file that exists."
        ) from error


def hash_folder(folder: Path) -> str:
    """Return the SHA-256 of the names and hashes of all files below a folder.

    Raises:
        DataError: If one of them cannot be read.
    """
    files = sorted(one for one in folder.rglob("*") if one.is_file())
    lines = (f"{hash_file(one)} {one.relative_to(folder).as_posix()}\n" for one in files)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


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


def hardware_path() -> Path:
    """Return the folder with target files and the Lava worker."""
    return _find_folder("_hardware", "hardware")


def recipes_path() -> Path:
    """Return the folder with the recipes that come with neurodeploy."""
    return _find_folder("_recipes", "training/recipes")


def zoo_path() -> Path:
    """Return the folder of the small verified networks that come with neurodeploy."""
    return _find_folder("_zoo", "examples/zoo")


def _find_folder(installed: str, in_checkout: str, *, package: Path = PACKAGE) -> Path:
    """Look beside the running package first, as in a wheel, then in the checkout.

    An editable install leaves a copy of the wheel's folder elsewhere, which nobody must read;
    hence nothing is looked up by distribution.
    """
    candidates = (package / installed, package.parent / in_checkout)
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise NeurodeployError(
        f"neurodeploy: neither {candidates[0]} nor {candidates[1]} exists, one of them belongs to "
        "every installation. Install neurodeploy again."
    )
