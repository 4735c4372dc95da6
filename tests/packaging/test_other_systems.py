"""The half without torch keeps to what Windows and macOS have.

Neither runs here: what they lack is taken from this one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import contextlib, io, os, signal, sys, types
from pathlib import Path
platform, folder = sys.argv[1:]

# What is not ours knows which system it was built for.
import h5py, jinja2, joblib, llvmlite.binding, matplotlib, numpy, rich.progress, typer
import multiprocessing.connection, platform as _, selectors, subprocess, tempfile

locked = []
lost = {
    "win32": ("fcntl", "resource", "pwd", "grp", "termios"),
    "darwin": (),
}[platform]
for name in lost:
    sys.modules[name] = None
for name in ("sched_getaffinity", "sched_setaffinity"):
    delattr(os, name)
if platform == "win32":
    for name in ("uname", "geteuid", "getuid", "register_at_fork", "killpg", "sysconf", "fork"):
        delattr(os, name)
    for name in ("setitimer", "ITIMER_PROF", "SIGPROF", "SIGKILL"):
        delattr(signal, name)
    def kill(process, number):
        raise AssertionError("os.kill ends processes on Windows")
    os.kill = kill
    def lock(descriptor, mode, size):
        locked.append(descriptor)
    sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, LK_LOCK=1, locking=lock)
sys.platform = platform
def hide(method):
    def call(path, *words, **more):
        if str(path).startswith(("/proc", "/sys", "/dev/shm")):
            raise FileNotFoundError(2, "no such file", str(path))
        return method(path, *words, **more)
    return call
for name in ("open", "read_text", "read_bytes", "readlink", "stat"):
    setattr(Path, name, hide(getattr(Path, name)))

from neurodeploy.cli import main

def run(*words):
    sys.argv = ["neurodeploy", *words]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as end:
            return end.code, said.getvalue()

os.chdir(folder)
for words in (
    "zoo list", "zoo get digits_small", "recipes", "inspect digits_small", "fit digits_small",
    "simulate digits_small -i digits_small -o spikes.npz",
    "report digits_small -i digits_small",
    "simulate digits_small -i digits_small -o spikes.npz --memory 2GB",
):
    code, said = run(*words.split())
    assert code == 0, (words, said)
    assert "Traceback" not in said, (words, said)
    is_warned = "this system cannot limit" in said
    assert is_warned == (platform == "win32" and words[:3] in ("ins", "fit", "sim", "rep")), said
assert not [path for path in Path().iterdir() if path.name.startswith(".")], os.listdir()
if platform == "win32":
    assert locked
    Path("bad.net").write_bytes(b"no HDF5")
    code, said = run("inspect", "bad.net")
    assert (code, said.count("error:")) == (1, 1), said
    code, said = run("verify", "digits_small", "-i", "digits_small")
    assert (code, "which Windows cannot do" in said) == (1, True), said
    loaded = {"fcntl", "resource", "pwd", "torch"} & {n for n, m in sys.modules.items() if m}
    assert not loaded, loaded
"""


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_commands_do_with_what_another_system_has(platform: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, platform, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
