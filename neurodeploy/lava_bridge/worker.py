"""The other side of `hardware/lava_runtime/run_netx.py`: jobs out, recordings back.

One worker process runs a list of jobs. Jobs and results travel as JSON and plain arrays through a
private temporary folder.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from neurodeploy.errors import (
    DataError,
    LavaRuntimeError,
    NeurodeployError,
    OutputError,
    SimulationError,
)
from neurodeploy.files import hardware_path, real_path
from neurodeploy.processes.leftovers import temporary_folder
from neurodeploy.simulation.counters import count_spikes
from neurodeploy.simulation.recording import IntArray, Record, Recording, SpikeArray

logger = logging.getLogger(__name__)

SILENCE_SECONDS = 300.0
"""Longest time without a sign of life. A healthy worker gives one about every second; only start-up
or one step of a huge network takes longer."""
TRACEBACK_SECONDS = 10.0
"""A worker that printed a traceback and then stays silent for this long hangs."""
STOP_SECONDS = 20.0
"""Time for the worker's supervisor to end all processes and remove their shared memory."""
TAIL_LINES = 15

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_WANT = (
    *("can't start new thread", "Too many open files", "Cannot allocate memory", "MemoryError"),
    "Resource temporarily unavailable",
)
"""Words of errors that no file is to blame for."""
PORTABLE_FLOATS = {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX"}
"""The same numbers on every x86 processor.

With AVX-512, NumPy 1.26's arctangent and sine differ in the last bit from those without. Lava
truncates what it computes from them for resonate-and-fire neurons: sinDecay 920 acts as 919 on the
one kind of processor and as 920 on the other. Measured with NumPy 1.26.4 on golden case 25.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One netx file with its input, in the worker's own terms.

    Attributes:
        net: The file.
        inputs: (samples, T, ...) int32, or (samples, ...) for feed "bias".
        layers: Names for the layers, or None to number them.
        timing: "window" or "stream".
        steps: Steps of one sample.
        feed: "port", "neuron" or "bias".
        input_bits: `input_message_bits` of Lava's `Network`, whose own names the following have.
        input_shape: In Lava's order (W, H, C), or None.
        spike_exponent: `spike_exp`.
        sparse_fc_layer: For dense layers.
        reset_interval: For "stream".
        reset_offset: For "stream".
        refresh_interval: For "stream".
        record: What to keep.
    """

    net: Path
    inputs: IntArray
    layers: tuple[str, ...] | None = None
    timing: str
    steps: int
    feed: str
    input_bits: int = 0
    input_shape: tuple[int, ...] | None = None
    spike_exponent: int = 6
    sparse_fc_layer: bool = False
    reset_interval: int | None = None
    reset_offset: int = 0
    refresh_interval: int | None = None
    record: Record = Record()  # noqa: RUF009 - a frozen value


_OPTIONS = [
    spec.name for spec in fields(Job) if spec.name not in ("net", "inputs", "layers", "record")
]
"""Fields of a job that travel as they are."""


def run_jobs(
    python: Path,
    jobs: Sequence[Job],
    *,
    is_isolated: bool = False,
    timeout: float | None = None,
    silence: float = SILENCE_SECONDS,
    progress: Callable[[int, int], None] | None = None,
    versions: dict[str, str] | None = None,
) -> list[Recording]:
    """Run jobs one after the other in one worker process.

    Args:
        python: Interpreter that has Lava.
        jobs: Their results come all or not at all.
        is_isolated: Whether the worker ignores Python's environment variables and the user's own
            packages, as it should in a runtime of ours.
        timeout: Longest time for everything, in seconds; None for no limit.
        silence: Longest time without a sign of life, in seconds.
        progress: Called with (samples done, samples in all).
        versions: Filled with the versions of Python, Lava and the packages below it.

    Raises:
        DataError: If an input does not fit its network.
        SimulationError: If a job cannot be done as asked.
        LavaRuntimeError: If Lava is missing, fails, or takes too long.
    """
    start = time.monotonic()
    try:
        with temporary_folder() as folder:
            _write_request(folder, jobs)
            report = _progress_report(jobs, progress)
            worker = _LavaProcess(python, folder, is_isolated=is_isolated, report=report)
            try:
                trouble = worker.watch(timeout=timeout, silence=silence)
            finally:
                worker.stop()
            logger.debug("Lava worker: %s", worker.complaints)
            if trouble:
                raise LavaRuntimeError(f"Lava worker: {trouble}{tail(worker.complaints)}")
            reply = _read_reply(folder, worker)
            elapsed = time.monotonic() - start
            if versions is not None:
                versions.update(reply["versions"])
            results = [reply["results"][_name(index)] for index in range(len(jobs))]
            startup = max(0.0, elapsed - sum(result["seconds"] for result in results)) / len(jobs)
            return [
                _read_recording(folder, _name(index), job, result, startup, reply["versions"])
                for index, (job, result) in enumerate(zip(jobs, results, strict=True))
            ]
    except OutputError:
        raise
    except OSError as error:
        raise LavaRuntimeError(
            f"Lava worker: {error.strerror or error} ({error.filename or python}). "
            "Check the interpreter, and the space in the folder for temporary files "
            f"({tempfile.gettempdir()})."
        ) from error


def _name(index: int) -> str:
    return f"job{index}"


def _write_request(folder: Path, jobs: Sequence[Job]) -> None:
    described = []
    for index, job in enumerate(jobs):
        file = f"{_name(index)}_input.npy"
        np.save(folder / file, job.inputs, allow_pickle=False)
        described.append(
            {name: getattr(job, name) for name in _OPTIONS}
            | {
                "name": _name(index),
                "net": str(real_path(job.net)),
                "input": file,
                "record_all": job.record.final_states,
            }
        )
    (folder / "request.json").write_text(json.dumps({"jobs": described}), encoding="utf-8")


def _progress_report(
    jobs: Sequence[Job], progress: Callable[[int, int], None] | None
) -> Callable[[int], None]:
    """Turn the worker's counts, which start again with every job, into a single count."""
    total = sum(len(job.inputs) for job in jobs)
    done = [0, 0]  # samples of finished jobs, samples of the present one

    def report(samples: int) -> None:
        if samples < done[1]:
            done[0] += done[1]
        if samples != done[1]:
            done[1] = samples
            if progress is not None:
                progress(done[0] + done[1], total)

    return report


class _LavaProcess:
    """A running worker, and its words so far."""

    def __init__(
        self, python: Path, folder: Path, *, is_isolated: bool, report: Callable[[int], None]
    ) -> None:
        script = hardware_path() / "lava_runtime" / "run_netx.py"
        # One thread a process: Lava starts several a layer, which share the cores already.
        environment = {**dict.fromkeys(THREADS, "1"), **PORTABLE_FLOATS, **os.environ}
        self.process = subprocess.Popen(
            [str(python), *(["-I"] if is_isolated else []), str(script), str(folder)],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._stdout, self._stderr = self.process.stdout, self.process.stderr
        self._report = report
        self._output, self._errors = bytearray(), bytearray()
        self._last_sign = time.monotonic()
        self._traceback_at: float | None = None
        self.is_ready = False

    @property
    def complaints(self) -> str:
        """All it printed that was no message."""
        return self._errors.decode(errors="replace")

    def watch(self, *, timeout: float | None, silence: float) -> str | None:
        """Follow it until it ends; return why it had to be stopped, if it had."""
        start = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for stream in (self._stdout, self._stderr):
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select(timeout=0.2):
                    if not self._take(os.read(key.fd, 65536), key.fd):
                        selector.unregister(key.fd)
                now = time.monotonic()
                if timeout is not None and now - start > timeout:
                    return (
                        f"not done after the {timeout:g} s allowed; all its processes were ended. "
                        "Allow more time, or run fewer samples or steps."
                    )
                if now - self._last_sign > silence:
                    return (
                        f"no sign of life for {silence:g} s; all its processes were ended. Lava "
                        "hangs when a file holds what it does not expect; check it with "
                        "`neurodeploy inspect`."
                    )
                if self._traceback_at and now - self._traceback_at > TRACEBACK_SECONDS:
                    return "a process failed and the others wait for it; all were ended."
        return None

    def _take(self, data: bytes, source: int) -> bool:
        """Understand what a stream brought: progress, readiness, complaints; false at its end."""
        if source == self._stderr.fileno():
            self._errors += data
            if b"Traceback (most recent call last)" in self._errors:
                self._traceback_at = self._traceback_at or time.monotonic()
            return bool(data)
        self._output += data
        *lines, rest = bytes(self._output).split(b"\n")
        self._output[:] = rest
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if not isinstance(message, dict):
                self._errors += line + b"\n"  # Lava prints some failures
                continue
            self._last_sign = time.monotonic()
            self._traceback_at = None
            if "ready" in message:
                self.is_ready = True
                logger.debug("Lava worker: ready, %s", message["ready"])
            elif "samples" in message:
                self._report(int(message["samples"]))
        return bool(data)

    def stop(self) -> None:
        """End it with all it started.

        Closing its standard input makes its supervisor end every process and clean up, or its heir
        if the supervisor cannot; only if both fail, the rest is killed here.
        """
        assert self.process.stdin is not None
        self.process.stdin.close()
        deadline = time.monotonic() + STOP_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            self._stdout.read()  # without blocking: full pipes would keep it from ending
            self._stderr.read()
            time.sleep(0.01)
        self._stdout.close()
        self._stderr.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def tail(text: str) -> str:
    """Return the last lines of what a process said, to be put below an error."""
    lines = [line for line in text.splitlines() if line.strip()]
    return "".join(f"\n    {line}" for line in lines[-TAIL_LINES:])


def _read_reply(folder: Path, worker: _LavaProcess) -> dict[str, Any]:
    """Return what the worker replied with, or raise it if it is an error."""
    path = folder / "reply.json"
    if not path.exists():
        raise LavaRuntimeError(
            f"Lava worker: it ended with status {worker.process.returncode} and without a reply."
            + ("" if worker.is_ready else " Does this interpreter work, and does it have Lava?")
            + " Run `neurodeploy lava doctor`."
            + tail(worker.complaints)
        )
    reply: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "error" not in reply:
        return reply
    error = reply["error"]
    kinds: Mapping[str, type[NeurodeployError]] = {"input": DataError, "plan": SimulationError}
    if error["kind"] in kinds:
        raise kinds[error["kind"]](error["message"])
    if error["kind"] == "space":
        raise LavaRuntimeError(
            f"{folder}: cannot be written ({error['message']}). Free some space, or let TMPDIR "
            "name a folder that has it."
        )
    if not worker.is_ready:
        raise LavaRuntimeError(
            f"Lava worker: Lava cannot be imported ({error['message']}). "
            "Run `neurodeploy lava install`, or name an interpreter that has Lava."
            + tail(error["details"])
        )
    advice = "Lava cannot run this file as asked; `neurodeploy inspect` shows what is in it."
    if any(words in error["message"] for words in _WANT):
        advice = "Raise the limits of this shell or job (`ulimit -a`): Lava starts many processes."
    raise LavaRuntimeError(f"Lava: {error['message']}. {advice}" + tail(error["details"]))


def _read_recording(
    folder: Path,
    name: str,
    job: Job,
    result: dict[str, Any],
    startup: float,
    versions: Mapping[str, str],
) -> Recording:
    """Read one job's arrays into a recording."""
    described: list[dict[str, list[Any]]] = result["layers"]
    samples, steps = len(job.inputs), job.steps
    names = job.layers or tuple(f"layer{index}" for index in range(len(described)))
    if len(names) != len(described):
        raise SimulationError(
            f"{job.net}: Lava makes {len(described)} layers of this file, {len(names)} names were "
            "given. Give one name a layer."
        )
    kept, traced = job.record.resolve(names)
    require_last_layer(job.record, names)

    def read(kind: str, *axes: int) -> IntArray:
        count = prod(axes)
        array = np.fromfile(folder / f"{name}_{kind}.bin", dtype=np.int32, count=count)
        return array.reshape(axes)

    spikes: list[SpikeArray] = []
    finals: list[dict[str, IntArray]] = []
    traces: dict[str, IntArray] = {}
    for index, layer in enumerate(described):
        shape = tuple(layer["shape"][::-1])
        states = layer["states"]
        spikes.append(_narrowed(read(f"spikes_{index}", samples, steps, *shape), states))
        if index == len(described) - 1:
            rows = read(f"states_{index}", samples, steps, len(states), *shape)
            traces = {state: rows[:, :, number].copy() for number, state in enumerate(states)}
            finals.append({state: trace[:, -1].copy() for state, trace in traces.items()})
        elif job.record.final_states:
            rows = read(f"states_{index}", samples, len(states), *shape)
            finals.append({state: rows[:, number].copy() for number, state in enumerate(states)})
    return Recording(
        layers=names,
        shapes=tuple(tuple(layer["shape"][::-1]) for layer in described),
        samples=samples,
        steps=steps,
        spikes=tuple(
            sent if name in kept else None for name, sent in zip(names, spikes, strict=True)
        ),
        states={names[-1]: traces} if names[-1] in traced else {},
        final_states=tuple(finals) if job.record.final_states else None,
        events=tuple(
            count_spikes(sent, is_graded=sent.dtype != np.uint8, is_recurrent=True)
            for sent in spikes
        )
        if job.record.counts
        else None,
        seconds=result["seconds"],
        startup_seconds=startup,
        versions=versions,
    )


def require_last_layer(record: Record, layers: tuple[str, ...]) -> None:
    """Raise `SimulationError` for states that the worker's probes cannot see."""
    inner = sorted(record.resolve(layers)[1] - {layers[-1]})
    if inner:
        raise SimulationError(
            f"Lava: states of {', '.join(inner)} after every step; only those of the last layer "
            "can be recorded on Lava. Use our simulator, or ask for final states."
        )


def _narrowed(spikes: IntArray, states: Sequence[str]) -> SpikeArray:
    """Hold spikes without payload in one byte each; whatever else Lava sent stays as it is."""
    is_binary = "sigma" not in states and int(spikes.min()) >= 0 and int(spikes.max()) <= 1
    return spikes.astype(np.uint8) if is_binary else spikes
