"""Faults of the machine, in real processes: one line each, and nothing half-written."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[1] / "golden"
COMMAND = f"{sys.executable} -m neurodeploy"
NO_MEMORY = "error: not enough memory. Allow this process more (`ulimit -v`, the limit of a job or"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="written for the shell of Linux")


def obey_permissions() -> None:
    """Let not even root read and write what permissions forbid, once a program is executed."""
    drop = ctypes.CDLL(None).prctl
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        drop(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a network and samples."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "a.net").write_bytes((GOLDEN / "01_dense_basic.net").read_bytes())
    np.savez(folder / "in.npz", input=np.ones((1, 8, 24), np.uint8))
    return folder


def shell(folder: Path, text: str) -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        ["/bin/bash", "-c", text.replace("neurodeploy ", f"{COMMAND} ")],
        cwd=folder,
        capture_output=True,
        preexec_fn=obey_permissions,
        timeout=300,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("neurodeploy inspect a.net >&-", "error: standard output: is closed. Redirect it, if"),
        ("neurodeploy inspect a.net <&- >/dev/full", "error: standard output: No space left on"),
        ("ln -s b.net b.net; neurodeploy inspect b.net", "error: b.net: Too many levels of"),
        (
            "ln -s b.npz b.npz; neurodeploy simulate a.net -i in.npz -o b.npz",
            "error: b.npz: cannot be written (Too many levels of symbolic links)",
        ),
        (
            "ln -s b b; neurodeploy simulate a.net -i in.npz -o b/b.npz",
            "error: b/b.npz: cannot be written (Too many levels of symbolic links)",
        ),
        (
            "ln -s b.npz b.npz; neurodeploy simulate a.net -i b.npz -o c.npz",
            "error: b.npz: Too many levels of symbolic links. Give the path of a .npz",
        ),
        ("chmod 0 a.net; neurodeploy inspect a.net", "error: a.net: Permission denied. Give"),
        ("chmod 0 in.npz; neurodeploy macs in.npz", "error: in.npz: cannot be read (Permission"),
        ("chmod 0 in.npz; neurodeploy compare in.npz in.npz", "error: in.npz: "),
        ("chmod 0 in.npz; neurodeploy simulate a.net -i in.npz -o b.npz", "error: in.npz: "),
        (
            "chmod 555 .; neurodeploy simulate a.net -i in.npz -o b.npz",
            "error: b.npz: cannot be written (",
        ),
        (
            "mkdir b; cd b; rmdir ../b; neurodeploy recipes",
            "error: current directory: No such file or directory. Change to one that exists",
        ),
        (
            "ulimit -f 1; neurodeploy simulate a.net -i in.npz -o b.npz",
            "error: b.npz: cannot be written (File too large)",
        ),
        ("ulimit -v 20000; neurodeploy inspect a.net", NO_MEMORY),
        ("ulimit -v 50000; neurodeploy inspect a.net", NO_MEMORY),
        ("ulimit -v 100000; neurodeploy inspect a.net", NO_MEMORY),  # OpenBLAS would exit
    ],
)
def test_a_fault_of_the_machine_is_one_line(folder: Path, text: str, line: str) -> None:
    before = {path: path.lstat().st_mtime_ns for path in folder.iterdir()}
    code, _, complaint = shell(folder, text)
    assert code == 1
    lines = complaint.decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith(line)
    after = {path: path.lstat().st_mtime_ns for path in folder.iterdir() if not path.is_symlink()}
    assert after == {path: before[path] for path in before}


def test_without_threads_openblas_is_not_loaded() -> None:
    """It would print four lines of its own, and interrupt the command."""
    program = """
import os, sys, threading
def refuse(thread):
    raise RuntimeError("can't start new thread")
threading.Thread.start, os.sched_getaffinity = refuse, lambda process: {0, 1}
from neurodeploy.cli import main
sys.argv[1:] = ["recipes"]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: no further thread can be started. Raise the limit of processes")


def test_without_standard_error_only_the_exit_code_tells(folder: Path) -> None:
    for redirection in ("2>&-", "2>/dev/full", "<&- >&- 2>&-"):
        assert shell(folder, f"neurodeploy inspect no.net {redirection}") == (1, b"", b"")
    code, output, _ = shell(folder, "neurodeploy simulate a.net -i in.npz -o b.npz 2>/dev/full")
    assert code == 0
    assert output
    with np.load(folder / "b.npz") as arrays:  # no library wrote into it
        assert arrays.files


def test_no_letter_is_a_fault(folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9.net")  # no UTF-8
    (folder / "a.net").rename(folder / name)
    for setting in (
        "PYTHONIOENCODING=ascii",
        "LC_ALL=POSIX PYTHONUTF8=0 PYTHONCOERCECLOCALE=0",
        "LC_ALL=C.UTF-8",
        "env -i",
    ):
        code, output, complaint = shell(folder, f"{setting} neurodeploy inspect caf*")
        assert code == 0, complaint
        assert b"caf\\udce9.net: input 24, binary" in output
    name = os.fsdecode(b"caf\xe8.html")
    code, output, complaint = shell(
        folder, "neurodeploy report caf* -i in.npz --html $'caf\\xe8.html' --json"
    )
    assert code == 0, complaint
    assert json.loads(output)["wrote"] == [name]
    assert (folder / name).is_file()


def test_a_clock_that_runs_backwards_is_no_fault(
    neurodeploy, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [2e9]

    def time() -> float:
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr("time.time", time)
    outcome = neurodeploy(
        "simulate", folder / "a.net", "-i", folder / "in.npz", "-o", folder / "b.npz"
    )
    assert outcome.code == 0
    assert " in -" not in outcome.out
