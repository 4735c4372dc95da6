"""Calls in a process of their own, with limits on processor time, memory and core dumps.

The libraries that read HDF5 files, ONNX models and AEDAT recordings are compiled code that trusts
its input: a file of 200 bytes can make them loop for ever, fill the memory or crash, and nothing in
Python can interrupt that. A separate process can be lost. It holds faults off, not attackers: it
has all the rights of this one.

The process is used again by the next call. It ends with this one, however this one ends.

Windows has neither the limits nor pipes that such a process can be waited for on: there, calls run
in this process, without limits, and the first of them warns.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Generic, NamedTuple, TypeVar, cast

from neurodeploy.errors import NeurodeployError, NeurodeployWarning
from neurodeploy.processes.owners import activity_of
from neurodeploy.processes.parents import watch_parent

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from neurodeploy.untrusted.boundary import FileKind

CPU_SECONDS = 1.0
"""Processor time that a small file may take."""
CPU_SECONDS_PER_BYTE = 3e-6
"""Time that a file's size explains, if it is packed a thousand to one."""
BLOCKED_SECONDS = 60
"""Time in which a process uses no processor, nor waits for one, after which it counts as lost."""
MEMORY = 4 << 30
"""Bytes of address space, beside those that the file itself explains."""

CAN_ISOLATE = sys.platform != "win32"
_READERS = ("simulate", "verify", "report", "inspect", "fit", "export")
"""Commands that read a netx file."""

# The options let it start quickly, and find the modules that this process finds.
_OPTIONS = ("-S", "-E", "-P", "-W", "ignore", "-c")
_PROGRAM = """
import sys
first, *sys.path[:] = sys.argv[1:]
from neurodeploy.untrusted.isolation import serve
serve(first)
"""
_LARGEST_COMPLAINT = 1 << 15
_PIPE_BYTES = 1 << 20

Answer = TypeVar("Answer")


class _Progress(NamedTuple):
    """A message of a call that is still at work."""

    done: int
    total: int


class _Failure(NamedTuple):
    """The reason for which a call has no answer."""

    reason: str
    is_lack_of_memory: bool = False


class _BlockedError(Exception):
    """A call waits for something that does not come."""


class Call(Generic[Answer]):
    """A call under way; it has an `answer` when its block is left."""

    answer: Answer


def run_apart(
    function: Callable[..., Answer],
    path: Path,
    *arguments: object,
    kind: FileKind,
    more_seconds: float = 0.0,
    more_memory: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Answer:
    """Call a function of a file in another process, which the next call uses again.

    It is called as `function(path, *arguments)`; arguments and result are pickled. It may take more
    seconds of processor time, and bytes of memory, than reading the file alone. `progress` is
    called with each (done, total) that the function gives to `tell_progress`.

    Raises:
        Error of the kind of file: If the process exceeds its limits or crashes, or the function
            raises anything else than a NeurodeployError.
        NeurodeployError: The errors of the function.
    """
    with running_apart(
        function,
        path,
        *arguments,
        kind=kind,
        more_seconds=more_seconds,
        more_memory=more_memory,
        progress=progress,
    ) as call:
        pass
    return call.answer


@contextmanager
def running_apart(
    function: Callable[..., Answer],
    path: Path,
    *arguments: object,
    kind: FileKind,
    more_seconds: float = 0.0,
    more_memory: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Call[Answer]]:
    """Do as `run_apart` does while the block runs; wait for the answer, or raise, at its end."""
    if not CAN_ISOLATE:
        yield _call_here(function, path, *arguments, kind=kind, progress=progress)
        return
    size = path.stat().st_size if path.is_file() else 0
    seconds = CPU_SECONDS + CPU_SECONDS_PER_BYTE * size + more_seconds
    memory = MEMORY + 4 * size + more_memory
    call: Call[Answer] = Call()
    try:
        worker = _take_worker()
    except OSError as error:
        raise kind.error(
            f"{path}: the process that reads it cannot be started ({error.strerror or error})."
        ) from error
    try:
        worker.send((function, (path, *arguments), _current_folder(), seconds, memory))
        yield call
        while isinstance(message := worker.receive(), _Progress):
            if progress is not None:
                progress(*message)
    except (EOFError, ConnectionError):
        raise kind.error(_say_loss(path, worker, seconds)) from None
    except _BlockedError:
        worker.stop()
        raise kind.error(
            f"{path}: reading it came to a standstill, {BLOCKED_SECONDS} s without any use of the "
            "processor. Does its disk or network drive answer? Copy the file to another place."
        ) from None
    except BaseException:  # Ctrl-C too: the process must not go on
        worker.stop()
        raise
    answer, failure = message
    if isinstance(failure, _Failure) and failure.is_lack_of_memory:
        worker.stop()  # it may not get back what it took
        raise kind.error(
            f"{path}: needs more than {memory / (1 << 30):.3g} GiB of memory. The file is damaged, "
            "or too large to be read."
        )
    _keep(worker)
    if isinstance(failure, _Failure):
        raise kind.error(f"{path}: cannot be read ({failure.reason}). {kind.rule}")
    if failure is not None:
        raise failure
    call.answer = cast("Answer", answer)


def _call_here(
    function: Callable[..., Answer],
    path: Path,
    *arguments: object,
    kind: FileKind,
    progress: Callable[[int, int], None] | None,
) -> Call[Answer]:
    """Call a function in this process, and make the same errors of its faults."""
    global _progress_here
    warnings.warn(
        "this system cannot limit time and memory of the libraries that read files: a damaged file "
        "may hang or end this command. Read files that you trust.",
        NeurodeployWarning,
        stacklevel=2,
    )
    call: Call[Answer] = Call()
    _progress_here = progress
    answer, failure = _answer(function, (path, *arguments), None)
    _progress_here = None
    if isinstance(failure, _Failure):
        raise kind.error(f"{path}: cannot be read ({failure.reason}). {kind.rule}")
    if failure is not None:
        raise failure
    call.answer = cast("Answer", answer)
    return call


def start_early(words: Sequence[str]) -> None:
    """Start the process at once, beside the imports of this one, if the command needs it.

    Args:
        words: The command line; a command that reads a netx file is its second word.
    """
    if set(words[1:2]) & set(_READERS):
        start_ahead("neurodeploy.untrusted.hdf5")


def start_ahead(first: str) -> None:
    """Start the process for the next call, unless it waits already; it begins to load a module."""
    if CAN_ISOLATE and not _idle:
        with suppress(OSError):  # the second try, for the file, tells of it
            _idle.append(_Worker(first=first))


class _Worker:
    """The other process, and our ends of the connections to it.

    Args:
        first: Module that it loads before it is called.
    """

    def __init__(self, first: str = "") -> None:
        # An empty entry is the folder that this process was started in; the child needs our own.
        places = [str(Path(__file__).parents[2]), *filter(None, sys.path)]
        self.process = subprocess.Popen(
            [sys.executable, *_OPTIONS, _PROGRAM, first, *places],
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._ends: tuple[Connection, Connection] | None = None

    def _connections(self) -> tuple[Connection, Connection]:
        """Return the ends to read from and to write to; loaded late, while the process starts."""
        from multiprocessing.connection import Connection

        if self._ends is None:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self._ends = (
                Connection(_taken(self.process.stdout), writable=False),
                Connection(_taken(self.process.stdin), readable=False),
            )
        return self._ends

    def send(self, message: object) -> None:
        self._connections()[1].send(message)

    def receive(self) -> tuple[object, _Failure | NeurodeployError | None] | _Progress:
        answers, still, before = self._connections()[0], 0, -1
        # Seconds are counted, not read from a clock: this process may have been stopped meanwhile.
        while not answers.poll(1.0):
            sleeps, used = activity_of(self.process.pid)
            still, before = (still + 1 if sleeps and used == before else 0), used
            if still >= BLOCKED_SECONDS:
                raise _BlockedError
        message: tuple[object, NeurodeployError | None] | _Progress = answers.recv()
        return message

    def disconnect(self) -> None:
        for end in (*(self._ends or ()), self.process.stdin, self.process.stdout):
            if end is not None:
                end.close()

    def stop(self) -> tuple[int, str]:
        """End the process at once; return its exit code and the last line that it wrote."""
        self.process.kill()
        code = self.process.wait()
        self.disconnect()
        assert self.process.stderr is not None
        with self.process.stderr as pipe:
            lines = pipe.read(_LARGEST_COMPLAINT).decode(errors="replace").strip().splitlines()
        return code, lines[-1] if lines else "no message"


def _taken(pipe: IO[bytes]) -> int:
    """Return a handle of our own to a pipe, which is closed; make room in it for samples."""
    with pipe:
        # Systems that limit it, or know no such thing.
        with suppress(OSError, AttributeError, ImportError):
            import fcntl

            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return os.dup(pipe.fileno())


_progress_here: Callable[[int, int], None] | None = None
"""Told of the progress of a call in this process."""
_parent: Connection | None = None
"""The process that waits for this one, in a process that serves calls."""
_idle: list[_Worker] = []
"""The process of an earlier call, or one that was started early, ready for the next call."""


def _take_worker() -> _Worker:
    with suppress(IndexError):  # there is none, or another thread was faster
        return _idle.pop()
    return _Worker()


def _current_folder() -> Path | None:
    """Return where relative paths begin; None in a folder that was deleted."""
    with suppress(OSError):
        return Path.cwd()
    return None


def _keep(worker: _Worker) -> None:
    if _idle:  # another thread was faster
        worker.stop()
    else:
        _idle.append(worker)


@atexit.register
def stop_idle() -> None:
    """End the process that waits for the next call, if there is one."""
    while _idle:
        _idle.pop().stop()


def _forget_idle() -> None:
    """Leave the process of a parent alone, in a process that was forked off."""
    while _idle:
        worker = _idle.pop()
        worker.disconnect()
        worker.process.returncode = 0  # so that nobody waits for it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_idle)


def _say_loss(path: Path, worker: _Worker, seconds: float) -> str:
    """Return the message for a process that ended without an answer."""
    worker.process.wait()
    code, complaint = worker.stop()
    if code >= 0:
        return (
            f"{path}: the process that reads it failed ({complaint[:300]}). Is neurodeploy "
            "installed completely? `neurodeploy doctor` examines that."
        )
    trouble = f"crashed with signal {-code}"
    if code == -signal.SIGPROF:
        trouble = f"took longer than {seconds:.3g} s of processor time"
    return (
        f"{path}: reading it {trouble}. The file is damaged, or too large to be read. Write or "
        "copy it again."
    )


def tell_progress(done: int, total: int) -> None:
    """Report every hundredth of the way to the process that waits for this call, if one does."""
    if done % max(1, total // 100):
        return
    if _parent is not None:
        _parent.send(_Progress(done, total))
    elif _progress_here is not None:
        _progress_here(done, total)


def serve(first: str) -> None:
    """Answer calls until the other end of the connection is closed; load a module before."""
    global _parent
    import resource
    from multiprocessing.connection import Connection

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent decides
    watch_parent(os.getppid())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if first:
        import_module(first)
    calls, _parent = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(silence, descriptor)
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    while True:
        try:
            function, arguments, folder, seconds, memory = calls.recv()
        except EOFError:
            return
        except Exception as error:  # a module of the function cannot be loaded
            _parent.send((None, _failure(error)))
            continue
        soft = memory if most == resource.RLIM_INFINITY else min(memory, most)
        with suppress(ValueError):  # some systems do not limit memory
            resource.setrlimit(resource.RLIMIT_AS, (soft, most))
        # The system enforces both limits, even if the parent is gone. It counts processor time: a
        # hang burns it, and a process that is stopped or waits for a busy machine does not.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        message = _answer(function, arguments, folder)
        try:
            _parent.send(message)
        except MemoryError as error:
            _parent.send((None, _failure(error)))
        signal.setitimer(signal.ITIMER_PROF, 0)


def _answer(
    function: Callable[..., object], arguments: tuple[object, ...], folder: Path | None
) -> tuple[object, _Failure | NeurodeployError | None]:
    try:
        if folder is not None:
            os.chdir(folder)
        return function(*arguments), None
    except NeurodeployError as error:
        return None, error
    except KeyboardInterrupt:  # only in a process that the user sees
        raise
    except BaseException as error:  # a panic of Rust is no Exception
        return None, _failure(error)


def _failure(error: BaseException) -> _Failure:
    from neurodeploy.untrusted.boundary import reason_of

    name = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
    return _Failure(f"{name}{reason_of(error)}", isinstance(error, MemoryError))
