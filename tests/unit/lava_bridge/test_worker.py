"""Watching the worker: nothing hangs, and every failure has its reason. No Lava is needed."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from neurodeploy.errors import (
    DataError,
    LavaRuntimeError,
    NetxError,
    SimulationError,
)
from neurodeploy.lava_bridge import worker
from neurodeploy.lava_bridge.lava_simulator import LavaSimulator
from neurodeploy.lava_bridge.worker import Job, run_jobs
from neurodeploy.simulation.recording import Feed, Window

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def job() -> Job:
    return Job(
        net=GOLDEN / "01_dense_basic.net",
        inputs=np.zeros((1, 2, 24), np.int32),
        timing="window",
        steps=2,
        feed="port",
    )


def interpreter(folder: Path, text: str) -> Path:
    """A program that is started in place of Python, as `program run_netx.py FOLDER`."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STOP_SECONDS", 0.2)
    monkeypatch.setattr(worker, "TRACEBACK_SECONDS", 0.2)


def test_timeout_ends_the_whole_group(tmp_path: Path, job: Job) -> None:
    child = tmp_path / "child"
    python = interpreter(tmp_path, f"sleep 100 & echo $! > {child}; wait")
    with pytest.raises(LavaRuntimeError, match=r"not done after the 0\.5 s allowed; all its proc"):
        run_jobs(python, [job], timeout=0.5)
    assert is_gone(int(child.read_text()))


def is_gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return "Z (zombie)" in Path(f"/proc/{pid}/status").read_text()


def test_silence_is_noticed(tmp_path: Path, job: Job) -> None:
    with pytest.raises(LavaRuntimeError, match=r"no sign of life for 0\.3 s"):
        run_jobs(interpreter(tmp_path, "sleep 100"), [job], silence=0.3)


def test_traceback_with_nothing_after_it(tmp_path: Path, job: Job) -> None:
    text = "echo 'Traceback (most recent call last):' >&2; echo 'TypeError: float' >&2; sleep 100"
    with pytest.raises(LavaRuntimeError, match=r"a process failed(.|\n)*TypeError: float"):
        run_jobs(interpreter(tmp_path, text), [job])


def test_numpy_computes_the_same_on_every_processor(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NPY_DISABLE_CPU_FEATURES", raising=False)
    told = "echo without $NPY_DISABLE_CPU_FEATURES, $OMP_NUM_THREADS thread >&2; exit 3"
    with pytest.raises(LavaRuntimeError, match="without AVX512F AVX512CD AVX512_SKX, "):
        run_jobs(interpreter(tmp_path, told), [job])
    monkeypatch.setenv("NPY_DISABLE_CPU_FEATURES", "FMA3")
    with pytest.raises(LavaRuntimeError, match="without FMA3, "):
        run_jobs(interpreter(tmp_path, told), [job])


def test_end_without_a_reply(tmp_path: Path, job: Job) -> None:
    with pytest.raises(LavaRuntimeError, match=r"status 3 and without a reply(.|\n)*out of memory"):
        run_jobs(interpreter(tmp_path, "echo out of memory >&2; exit 3"), [job])


def test_interpreter_without_lava(job: Job, tmp_path: Path) -> None:
    """The real worker, under an interpreter that sees only the standard library."""
    text = f'exec {sys.executable} -S "$@"'
    with pytest.raises(LavaRuntimeError, match="Lava cannot be imported"):
        run_jobs(interpreter(tmp_path, text), [job])


def test_interpreter_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(LavaRuntimeError, match="not an executable"):
        LavaSimulator(GOLDEN / "01_dense_basic.net", python=tmp_path / "absent")


def test_temporary_folder_is_removed(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with pytest.raises(LavaRuntimeError):
        run_jobs(interpreter(tmp_path, "exit 1"), [job])
    assert list(scratch.iterdir()) == []


@pytest.fixture
def simulator() -> LavaSimulator:
    return LavaSimulator(GOLDEN / "01_dense_basic.net", python=sys.executable)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((1, 2, 24)), "dtype float64, integers are required"),
        (np.zeros((2, 24), int), r"shape \(2, 24\), \(samples, T, ...\) is required"),
        (np.zeros((0, 2, 24), int), "at least one sample"),
        (np.full((1, 2, 24), 2**31), "exceed 32 bits"),
    ],
)
def test_input_that_is_refused(simulator: LavaSimulator, inputs: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        simulator.job(inputs)


def test_bias_images_need_a_number_of_steps(simulator: LavaSimulator) -> None:
    with pytest.raises(SimulationError, match="does not say how many steps"):
        simulator.job(np.zeros((1, 24), int), timing=Window(), feed=Feed.BIAS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_bits": -1}, "-1 input bits"),
        ({"input_shape": (3, 8)}, r"input shape \(3, 8\)"),
        ({"timeout": 0.0}, "timeout"),
    ],
)
def test_option_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        LavaSimulator(GOLDEN / "01_dense_basic.net", python=sys.executable, **options)


def test_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(NetxError, match="no such file"):
        LavaSimulator(tmp_path / "absent.net", python=sys.executable)


def test_a_full_disk_names_the_folder(tmp_path: Path, job: Job) -> None:
    reply = '{"error": {"job": "job0", "kind": "space", "message": "No space", "details": ""}}'
    python = interpreter(tmp_path, f"echo '{reply}' > $2/reply.json; exit 1")
    with pytest.raises(LavaRuntimeError, match=r"neurodeploy-\S+: cannot be written \(No space\)"):
        run_jobs(python, [job])


def test_a_limit_of_the_machine_is_not_blamed_on_the_file(tmp_path: Path, job: Job) -> None:
    error = {"job": "job0", "kind": "", "message": "OSError: Too many open files", "details": ""}
    reply = json.dumps({"error": error})
    python = interpreter(
        tmp_path, f"echo '{{\"ready\": 1}}'; echo '{reply}' > $2/reply.json; exit 1"
    )
    with pytest.raises(LavaRuntimeError, match=r"Too many open files\. Raise the limits of this"):
        run_jobs(python, [job])
