"""Calls in a process of their own, with limits on processor time and memory.

The libraries that read ONNX models are C++ code that trusts its input: a file of 200 bytes can make
them loop for ever, fill the memory or crash, and nothing in Python can interrupt that. A separate
process can be lost.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, TypeVar

from neurodeploy.errors import NeurodeployError, OnnxError

if TYPE_CHECKING:
    import onnx
    from onnxruntime import InferenceSession

CPU_SECONDS = 3.0
"""Processor time that a small file may take."""
CPU_SECONDS_PER_BYTE = 2e-5
_BYTES_COUNTED = 5_000_000
"""Bytes beyond which a longer file takes no more time: they are weights, which nobody looks at."""

MEMORY = 4 << 30
"""Bytes of address space, beside those that the file itself explains."""

_PROGRAM = """
import sys
from neurodeploy.onnx_models.isolation import serve
serve(int(sys.argv[1]))
"""

Answer = TypeVar("Answer")


class _Progress(NamedTuple):
    """A message of a call that is still at work."""

    done: int
    total: int


def run_apart(
    function: Callable[..., Answer],
    path: Path,
    *arguments: object,
    more_seconds: float = 0.0,
    more_memory: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Answer:
    """Call a function of a model file in another process, which the next call uses again.

    It is called as `function(path, *arguments)`; arguments and result are pickled. It may take more
    seconds of processor time, and bytes of memory, than reading the file alone. `progress` is
    called with each (done, total) that the function gives to `tell_progress`.

    Raises:
        OnnxError: If the process exceeds its limits or crashes.
        NeurodeployError: The errors of the function.
    """
    size = path.stat().st_size if path.is_file() else 0
    seconds = CPU_SECONDS + CPU_SECONDS_PER_BYTE * min(size, _BYTES_COUNTED) + more_seconds
    memory = MEMORY + 4 * size + more_memory
    with _lock:
        worker = _idle.pop() if _idle else _Worker()
        try:
            worker.connection.send((function, (path, *arguments), Path.cwd(), seconds, memory))
            while isinstance(message := worker.connection.recv(), _Progress):
                if progress is not None:
                    progress(*message)
            answer, error = message
        except (EOFError, ConnectionError):
            raise _lost(path, worker, seconds) from None
        except BaseException:  # Ctrl-C too: the process must not go on
            worker.stop()
            raise
        _idle.append(worker)
    if error is not None:
        raise error
    result: Answer = answer
    return result


class _Worker:
    """The other process, and our end of the connection to it."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        self.complaint: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `stop`
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", "-c", _PROGRAM, str(theirs.fileno())],
                # The child finds the modules that this process finds, wherever it was started.
                env=os.environ
                | {
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    "OPENBLAS_NUM_THREADS": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.complaint,
                pass_fds=[theirs.fileno()],
            )
        except BaseException:  # Ctrl-C: a child that runs already ends where nobody is connected
            self.connection.close()
            self.complaint.close()
            raise
        finally:
            theirs.close()

    def stop(self) -> tuple[int, str]:
        """End the process at once; return its exit code and the last line that it wrote."""
        self.connection.close()
        self.process.kill()
        code = self.process.wait()
        self.complaint.seek(0)
        lines = self.complaint.read().decode(errors="replace").strip().splitlines()
        self.complaint.close()
        return code, lines[-1] if lines else "no message"


_parent: Connection | None = None
"""The process that waits for this one, in a process that serves calls."""
_lock = threading.Lock()
_idle: list[_Worker] = []
"""The process of an earlier call, ready for the next one."""


@atexit.register
def _stop_idle() -> None:
    while _idle:
        _idle.pop().stop()


def _lost(path: Path, worker: _Worker, seconds: float) -> OnnxError:
    """Return the error for a process that ended without an answer."""
    worker.process.wait()
    code, complaint = worker.stop()
    if code >= 0:
        return OnnxError(
            f"{path}: the process that reads it failed ({complaint[:300]}). Is neurodeploy "
            "installed completely? `neurodeploy doctor` examines that."
        )
    trouble = f"crashed with signal {-code}"
    if code == -signal.SIGXCPU:
        trouble = f"took longer than {seconds:.3g} s of processor time"
    return OnnxError(
        f"{path}: reading it {trouble}. The model is damaged, or too large to be examined. Check "
        "it, or export it again."
    )


def tell_progress(done: int, total: int) -> None:
    """Report every hundredth of the way to the process that waits for this call, if one does."""
    if _parent is not None and done % max(1, total // 100) == 0:
        _parent.send(_Progress(done, total))


def serve(descriptor: int) -> None:
    """Answer calls until the other end of a connection is closed."""
    global _parent
    import resource

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent decides
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = _parent = Connection(descriptor)
    while True:
        try:
            function, arguments, folder, seconds, memory = connection.recv()
        except EOFError:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        # The system enforces both limits, even if the parent is gone.
        cpu = int(used.ru_utime + used.ru_stime + seconds) + 1
        for limit, value in ((resource.RLIMIT_CPU, cpu), (resource.RLIMIT_AS, memory)):
            most = resource.getrlimit(limit)[1]
            soft = value if most == resource.RLIM_INFINITY else min(value, most)
            with suppress(ValueError):  # some systems do not limit memory
                resource.setrlimit(limit, (soft, most))
        connection.send(_answer(function, arguments, folder, memory))


def _answer(
    function: Callable[..., object], arguments: tuple[object, ...], folder: Path, memory: int
) -> tuple[object, NeurodeployError | None]:
    try:
        os.chdir(folder)
        return function(*arguments), None
    except NeurodeployError as error:
        return None, error
    except MemoryError:
        return None, OnnxError(
            f"{arguments[0]}: needs more than {memory / (1 << 30):.3g} GiB of memory. The model is "
            "damaged, or too large to be examined."
        )
    except Exception as error:  # any error of a foreign library that meets a damaged file
        message = " ".join(str(error).split())[:300]
        return None, OnnxError(
            f"{arguments[0]}: cannot be examined ({type(error).__name__}: {message}). Check the "
            "model with onnx.checker; if it is valid, neurodeploy has a fault: report it."
        )


def open_session(model: onnx.ModelProto, *, is_optimized: bool = True) -> InferenceSession:
    """Let onnxruntime read a model, silently and on one processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not is_optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
