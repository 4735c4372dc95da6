"""Damaged files cost seconds, not the process that reads them."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from neurodeploy.cli.app import make_app
from neurodeploy.errors import DataError, NeurodeployWarning, OnnxError
from neurodeploy.onnx_models.macs import count_onnx_macs
from neurodeploy.untrusted import isolation
from neurodeploy.untrusted.boundary import FileKind

MODELS = Path(__file__).parents[1] / "onnx_models" / "models"
KIND = FileKind("word", ".txt", OnnxError, "A word is required.")


TASKS = """
import os, signal, warnings
import numpy as np
from neurodeploy.errors import DataError

def spin(path, *others):
    while True:
        pass

def wait(path):
    import time
    time.sleep(60)

def crash(path):
    os.kill(os.getpid(), signal.SIGSEGV)

def fill(path, values):
    return np.empty(values).size

def fail(path):
    raise KeyError(path.name)

def refuse(path):
    raise DataError(f"{path}: refused")

def recur(path):
    recur(path)

class Panic(BaseException):
    pass

def panic(path):
    raise Panic("called unwrap\\n on a None value")

def leave(path):
    os._exit(7)

def warn(path):
    print("a word")
    warnings.warn("a word", RuntimeWarning)
    os.write(2, b"a word of a library")
    return float(np.float16(60000) * np.float16(2))

def process_of(path):
    return os.getpid()
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Functions in a module that new processes find as well."""
    isolation.stop_idle()
    (tmp_path / "isolated_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("isolated_tasks")
    del sys.modules["isolated_tasks"]
    isolation.stop_idle()


def call(function: Callable[..., object], path: Path, *arguments: object, **more: int) -> object:
    return isolation.run_apart(function, path, *arguments, kind=KIND, **more)


def test_calls_share_a_process_that_is_not_this_one(tmp_path: Path, tasks: ModuleType) -> None:
    first = call(tasks.process_of, tmp_path)
    assert first == call(tasks.process_of, tmp_path) != os.getpid()
    with pytest.raises(DataError, match="refused"):
        call(tasks.refuse, tmp_path)
    with pytest.raises(OnnxError, match=r"cannot be read \(KeyError: .*A word is required"):
        call(tasks.fail, tmp_path)
    with pytest.raises(OnnxError, match=r"\(Panic: called unwrap on a None value\)"):
        call(tasks.panic, tmp_path)
    with pytest.raises(OnnxError, match=r"nested too deeply"):
        call(tasks.recur, tmp_path)
    assert first == call(tasks.process_of, tmp_path)
    with pytest.raises(OnnxError, match="crashed with signal 11"):
        call(tasks.crash, tmp_path)
    assert call(tasks.process_of, tmp_path) not in (first, os.getpid())
    with pytest.raises(OnnxError, match=r"the process that reads it failed \(no message\)"):
        call(tasks.leave, tmp_path)


def test_foreign_words_and_warnings_do_not_reach_the_terminal(
    tmp_path: Path, tasks: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(tasks.warn, tmp_path) == float("inf")
    assert capfd.readouterr() == ("", "")


def test_time_and_memory_have_limits(
    tmp_path: Path, tasks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "CPU_SECONDS", 0.2)
    monkeypatch.setattr(isolation, "MEMORY", 1 << 30)
    with pytest.raises(OnnxError, match=r"took longer than 0\.2 s of processor time"):
        call(tasks.spin, tmp_path)
    assert call(tasks.fill, tmp_path, 1000) == 1000
    with pytest.raises(OnnxError, match="more than 1 GiB"):
        call(tasks.fill, tmp_path, 1 << 28)
    assert call(tasks.fill, tmp_path, 1 << 27, more_memory=2 << 30) == 1 << 27


def test_a_call_that_only_waits_is_given_up(
    tmp_path: Path, tasks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "BLOCKED_SECONDS", 1)
    before = children()
    with pytest.raises(OnnxError, match="came to a standstill, 1 s without any use of the proc"):
        call(tasks.wait, tmp_path)
    assert children() <= before


def test_a_process_that_cannot_start_is_an_error(
    tmp_path: Path, tasks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "_PROGRAM", "import nowhere")
    with pytest.raises(OnnxError, match="No module named 'nowhere'"):
        call(tasks.process_of, tmp_path)


def test_a_system_that_starts_no_process_is_an_error(
    tmp_path: Path, tasks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere"))
    with pytest.raises(OnnxError, match=r"cannot be started \(No such file"):
        call(tasks.process_of, tmp_path)


def test_threads_call_at_the_same_time(tmp_path: Path, tasks: ModuleType) -> None:
    call(tasks.process_of, tmp_path)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: call(tasks.process_of, tmp_path), range(40)))
    assert os.getpid() not in found
    assert len(isolation._idle) == 1


@pytest.mark.filterwarnings("ignore:this system cannot limit")
def test_a_system_without_limits_calls_here_with_a_warning(
    tmp_path: Path, tasks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "CAN_ISOLATE", False)
    with pytest.warns(NeurodeployWarning, match="cannot limit time and memory"):
        process = call(tasks.process_of, tmp_path)
    assert process == os.getpid()
    with pytest.raises(DataError, match="refused"):
        call(tasks.refuse, tmp_path)
    with pytest.raises(OnnxError, match=r"cannot be read \(KeyError: .*A word is required"):
        call(tasks.fail, tmp_path)
    told: list[tuple[int, int]] = []
    isolation.run_apart(
        lambda _: isolation.tell_progress(1, 2),
        tmp_path,
        kind=KIND,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 2)]


def test_a_folder_that_was_deleted_is_no_trouble(
    tmp_path: Path, tasks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert call(tasks.process_of, tmp_path) != os.getpid()


def children() -> set[str]:
    """The processes that this one has, those of other tests among them."""
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {child for task in tasks for child in task.read_text().split()}


def test_an_interruption_leaves_no_process_behind(tmp_path: Path, tasks: ModuleType) -> None:
    before = children()

    def interrupted() -> None:
        with isolation.running_apart(tasks.spin, tmp_path, kind=KIND):
            assert len(children() - before) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert children() <= before


@pytest.mark.parametrize("words", [["inspect"], ["inspect", "--help"], ["train"], []])
def test_a_process_is_started_early_for_commands_that_read(
    tmp_path: Path, tasks: ModuleType, words: list[str]
) -> None:
    isolation.start_early(["neurodeploy", *words])
    started = [worker.process.pid for worker in isolation._idle]
    assert len(started) == (words[:1] == ["inspect"])
    if started:
        assert call(tasks.process_of, tmp_path) == started[0]


def test_a_process_that_was_forked_off_calls_one_of_its_own(
    tmp_path: Path, tasks: ModuleType
) -> None:
    first = call(tasks.process_of, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        if not (child := os.fork()):
            is_own = call(tasks.process_of, tmp_path) not in (first, os.getpid())
            isolation.stop_idle()
            os._exit(0 if is_own else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert call(tasks.process_of, tmp_path) == first


def test_the_process_ends_when_this_one_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, signal; from neurodeploy.untrusted import isolation as one\n"
        "one.start_early(['', 'inspect']); print(one._idle[0].process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    found = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=False)
    left = Path(f"/proc/{int(found.stdout)}/stat")
    for _ in range(600):
        with suppress(OSError):
            if left.read_text().split()[2] != "Z":  # nobody may be there to fetch its status
                time.sleep(0.05)
                continue
        return
    raise AssertionError("it goes on")


def test_paths_are_those_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    count_onnx_macs(MODELS / "attention.onnx")
    monkeypatch.chdir(MODELS)
    assert count_onnx_macs("attention.onnx").macs_standard == 2304


@pytest.mark.parametrize("name", ["einsum_two_dots", "hang_by_bit_flip"])
def test_models_on_which_onnx_hangs_are_refused_at_once(name: str) -> None:
    with pytest.raises(OnnxError, match=rf"{name}\.onnx: Einsum has the equation"):
        count_onnx_macs(MODELS / f"{name}.onnx")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_hanging_command_at_once(
    tmp_path: Path, tasks: ModuleType, number: signal.Signals, code: int
) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import isolated_tasks; from neurodeploy.cli import main\n"
        "from neurodeploy.onnx_models import macs\n"
        "macs._count, macs.reading_seconds = isolated_tasks.spin, lambda path: 60.0\n"
        f"sys.argv = ['neurodeploy', 'macs', {str(MODELS / 'attention.onnx')!r}]; main()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as process:
        while (child := child_at_work(process.pid)) is None:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(timeout=30) == code  # without the signal it ends with 1
        assert not child.exists()


def child_at_work(parent: int) -> Path | None:
    """The process that has limited its time: imports may start others, such as `uname`."""
    for number in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        child = Path(f"/proc/{number}")
        with suppress(OSError):  # it has ended
            if re.search(r"Max address space +\d", (child / "limits").read_text()):
                return child
    return None


def test_an_interrupt_while_a_process_starts_leaves_none_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def interrupted(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(*arguments, **options))
        raise KeyboardInterrupt

    isolation.stop_idle()
    with monkeypatch.context() as patch:
        patch.setattr(
            isolation, "subprocess", SimpleNamespace(Popen=interrupted, PIPE=subprocess.PIPE)
        )
        with pytest.raises(KeyboardInterrupt) as caught:
            count_onnx_macs(MODELS / "min_nonutf8_name.onnx")
    started[0].communicate(timeout=30)  # closes its input, as the end of this process does
    assert started[0].returncode == 0, caught


def test_names_that_are_not_utf8_are_shown_escaped() -> None:
    macs = count_onnx_macs(MODELS / "min_nonutf8_name.onnx")
    assert {node.name: node.macs_standard for node in macs.nodes} == {"\\xb2\\xe3\u04bb": 60}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("damaged", r"'w' declares shape \(16, 16\) but does not store it"),
        ("damaged_scalar", r"'xs' declares shape \(\) but does not store it"),
        ("recursive_function", r"functions cannot be inlined \(Cycle"),
    ],
)
def test_damaged_models_are_refused_by_name(name: str, message: str) -> None:
    result = CliRunner().invoke(make_app(), ["macs", str(MODELS / f"{name}.onnx")])
    with pytest.raises(OnnxError, match=message):
        raise result.exception or AssertionError(result.output)
