"""Worker that runs netx files on stock Lava: `python run_netx.py FOLDER`.

The folder holds `request.json` and arrays; results are written there too (README.md has the
format). This process only supervises. It forks the one that imports Lava, into a process group of
its own, and when that one ends, or when our standard input is closed because whoever started us is
gone or has had enough, it ends the whole group. Python's resource tracker is not in that group: it
lives on to remove the shared memory that killed processes leave behind. Names of shared memory
begin with that of the folder, for whoever finds some that even the tracker could not remove.

A second child, the heir, waits for the supervisor to end. If that was killed, or does not do its
work because it was stopped, the heir ends the group and removes the folder. On Linux the system
also wakes or kills every process here whose parent ends.

Runs under Python 3.10 to 3.13 and imports nothing of neurodeploy.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import json
import multiprocessing
import os
import select
import shutil
import signal
import sys
import time
import traceback
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path

POLL_SECONDS = 0.02
GRACE_SECONDS = 5.0
PR_SET_PDEATHSIG = 1
DONE = b"d"


def main():
    """Supervise one worker.

    Returns:
        Exit code: 0 if `reply.json` holds results, 1 if it holds an error, 2 if it is missing.
    """
    folder = Path(sys.argv[1]).resolve()
    starter = os.getppid()
    get_signal_at_end_of_parent(signal.SIGCONT)  # a stopped process cannot clean up
    resource_tracker.ensure_running()
    alive, held_while_alive = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.setpgid(0, 0)
        os.close(alive)
        os._exit(work(folder))
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(worker, worker)  # whoever comes first; the child may already be done
    os.close(held_while_alive)
    word, end_of_word = os.pipe()
    if os.fork() == 0:
        os.close(end_of_word)
        os._exit(inherit(worker, folder, word, alive))
    os.close(word)
    while True:
        readable, _, _ = select.select([0], [], [], POLL_SECONDS)
        is_abandoned = bool(readable) and os.read(0, 1) == b""
        if is_abandoned or os.waitpid(worker, os.WNOHANG)[0] == worker:
            break
    end_group(worker, alive)
    os.killpg(0, signal.SIGCONT)  # the tracker, if it was stopped
    if os.getppid() == starter:
        with contextlib.suppress(BrokenPipeError):  # someone killed the heir
            os.write(end_of_word, DONE)
    os.close(end_of_word)  # without the word, the heir removes the folder: nobody else is left
    os.close(resource_tracker.getfd())
    deadline = time.monotonic() + GRACE_SECONDS
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(POLL_SECONDS)
    reply = folder / "reply.json"
    if not reply.exists():
        return 2
    return 1 if "error" in json.loads(reply.read_text(encoding="utf-8")) else 0


def inherit(worker, folder, word, alive):
    """Wait for the supervisor's word that all is done; do what is left if none comes.

    Returns:
        Exit code of the heir.
    """
    supervisor, group = os.getppid(), os.getpgrp()
    os.setsid()  # what is sent to the supervisor's group is not for us
    get_signal_at_end_of_parent(signal.SIGCONT)
    os.close(resource_tracker.getfd())
    poll = select.poll()
    poll.register(word, select.POLLIN)
    poll.register(0, 0)  # its end only
    if word not in dict(poll.poll()):  # the supervisor should end now
        readable, _, _ = select.select([word], [], [], 2 * GRACE_SECONDS)
        if not readable:
            os.kill(supervisor, signal.SIGKILL)  # it is stopped
    if os.read(word, 1) == DONE:
        return 0
    end_group(worker, alive)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGCONT)
    shutil.rmtree(folder, ignore_errors=True)
    return 2


def end_group(worker, alive):
    """Kill the worker with all that it started, and wait for their end.

    Args:
        worker: Its number, and that of its process group.
        alive: Descriptor of a pipe whose other end every process of the group holds.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker, signal.SIGKILL)
    select.select([alive], [], [], GRACE_SECONDS)


def get_signal_at_end_of_parent(number):
    """Let the system send this process a signal when the one that started it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def work(folder):
    """Run all jobs of a request and write the reply.

    Returns:
        Exit code of the worker process.
    """
    die = functools.partial(get_signal_at_end_of_parent, signal.SIGKILL)
    die()
    os.register_at_fork(after_in_child=die)
    name_shared_memory(folder.name[:100])
    # Sockets of multiprocessing go there too, under a name that is short enough for a socket.
    os.chdir(folder)
    multiprocessing.current_process()._config["tempdir"] = "."
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    name = ""

    def fail(kind, message, details):
        write_reply(
            folder, {"error": {"job": name, "kind": kind, "message": message, "details": details}}
        )
        os._exit(1)

    sys.path.insert(0, str(Path(__file__).resolve().parent))
    try:
        request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
        import network_run  # not at the top: the supervisor needs neither NumPy nor Lava
        import stock_lava

        lava = stock_lava.import_lava()
        print(json.dumps({"ready": versions()}), flush=True)
        watch = network_run.Watch(fail)
        results = {}
        for job in request["jobs"]:
            name = job["name"]
            results[name] = network_run.NetworkRun(lava, job, folder, watch).run()
    except BaseException as error:  # whatever it is, the parent must hear of it
        if hasattr(error, "kind"):  # a JobError
            fail(error.kind, str(error), "")
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            fail("space", os.strerror(error.errno), "")
        fail("lava", f"{type(error).__name__}: {error}", traceback.format_exc())
    write_reply(folder, {"versions": versions(), "results": results})
    return 0


def name_shared_memory(name):
    """Let the names of shared memory begin with `name`, where the system allows long ones."""
    if sys.platform == "linux":
        # Private names of the standard library, the same in Python 3.10 to 3.13.
        shared_memory._SHM_NAME_PREFIX = f"/{name}-"
        shared_memory._SHM_SAFE_NAME_LENGTH = len(name) + 18


def versions():
    """Return the versions that a result depends on."""
    from importlib import metadata

    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in ("lava-nc", "lava-dl", "numpy", "scipy", "h5py", "torch"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def write_reply(folder, reply):
    """Write the reply whole or not at all."""
    partial = folder / "reply.part"
    partial.write_text(json.dumps(reply), encoding="utf-8")
    partial.replace(folder / "reply.json")


if __name__ == "__main__":
    sys.exit(main())
