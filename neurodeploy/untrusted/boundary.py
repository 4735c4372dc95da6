"""The boundary between files that a stranger may have made and the rest of the package.

Every reader works inside of `guarded` or `reading`. Whatever goes wrong there, in our code or in a
foreign library, leaves as one error of the file's kind, raised from its cause: which file, which
place in it, what was found, what is allowed. Readers therefore catch nothing themselves, except to
say something more helpful. Sizes are checked before anything is allocated: `read_bytes` and
`read_text` do it for files that are read as a whole.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from neurodeploy.errors import NeurodeployError, NeurodeployWarning

_REASON_MAX = 300
"""Characters of a foreign message that are shown."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file, and the error for one that cannot be trusted.

    Attributes:
        name: For messages: `netx`.
        suffix: `.net`.
        error: Raised for whatever is wrong with such a file.
        rule: Sentences that say what is allowed, and what to do.
    """

    name: str
    suffix: str
    error: type[NeurodeployError]
    rule: str


@contextmanager
def guarded(where: object, kind: FileKind) -> Iterator[None]:
    """Turn everything that is raised in the block into the error of this kind of file.

    Our own errors and warnings, Ctrl-C and the end of the program pass unchanged. All else does
    not: exhausted memory and recursion, and panics of Rust, which Python's `Exception` leaves out.

    Args:
        where: The file, and the place in it.
        kind: The kind of file.
    """
    try:
        yield
    except (NeurodeployError, NeurodeployWarning, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise kind.error(f"{where}: cannot be read ({reason_of(error)}). {kind.rule}") from error


@contextmanager
def reading(path: Path, kind: FileKind) -> Iterator[None]:
    """Check that there is a file, and guard the block that reads it."""
    check_file(path, kind)
    with guarded(path, kind):
        yield


def check_file(path: Path, kind: FileKind) -> None:
    """Check that there is a file to open; a pipe, for instance, would be waited for.

    Raises:
        Error of the kind of file: If there is none.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            path.open("rb").close()
    except (OSError, ValueError) as error:
        raise kind.error(
            f"{path}: {reason_of(error)}. Give the path of a {kind.suffix} file."
        ) from error
    if not stat.S_ISREG(mode):
        raise kind.error(f"{path}: not a file. Give the path of a {kind.suffix} file.")


def read_bytes(path: Path, kind: FileKind, *, most: int) -> bytes:
    """Read a whole file of at most `most` bytes.

    Raises:
        Error of the kind of file: If it is missing, too long or cannot be read.
    """
    with reading(path, kind), path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise kind.error(f"{path}: over {most} bytes, which is more than is read. {kind.rule}")
    return content


def read_text(path: Path, kind: FileKind, *, most: int) -> str:
    """Read a whole file of at most `most` bytes of UTF-8.

    Raises:
        Error of the kind of file: If it is missing, too long, no UTF-8 or cannot be read.
    """
    content = read_bytes(path, kind, most=most)
    with guarded(path, kind):
        return content.decode()


def reason_of(error: BaseException) -> str:
    """Return the reason of an error in one line of printable characters."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    if isinstance(error, KeyError) and error.args:  # whose text is in quotes
        text = str(error.args[0])
    line = " ".join(text.split())
    line = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line[:_REASON_MAX])
    return line or type(error).__name__
