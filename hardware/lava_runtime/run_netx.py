"""Worker that runs netx files on stock Lava: `python run_netx.py FOLDER`.

The folder holds `request.json` and arrays; results are written there too (README.md has the
format). This process only supervises. It forks the one that imports Lava, into a process group of
its own, and when that one ends, or when our standard input is closed because whoever started us is
gone or has had enough, it ends the whole group. Python's resource tracker is not in that group: it
lives on to remove the shared memory that killed processes leave behind.

Runs under Python 3.10 to 3.13 and imports nothing of neurodeploy.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import time
import traceback
from multiprocessing import resource_tracker
from pathlib import Path

POLL_SECONDS = 0.02
GRACE_SECONDS = 5.0


def main():
    """Supervise one worker.

    Returns:
        Exit code: 0 if `reply.json` holds results, 1 if it holds an error, 2 if it is missing.
    """
    folder = Path(sys.argv[1])
    starter = os.getppid()
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
    while True:
        readable, _, _ = select.select([0], [], [], POLL_SECONDS)
        is_abandoned = bool(readable) and os.read(0, 1) == b""
        if is_abandoned or os.waitpid(worker, os.WNOHANG)[0] == worker:
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker, signal.SIGKILL)
    # Every process of the group holds the pipe; it reads as closed when the last one is gone.
    select.select([alive], [], [], GRACE_SECONDS)
    os.close(resource_tracker.getfd())
    deadline = time.monotonic() + GRACE_SECONDS
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(POLL_SECONDS)
    if os.getppid() != starter:
        shutil.rmtree(folder, ignore_errors=True)  # nobody is left to do it
        return 2
    reply = folder / "reply.json"
    if not reply.exists():
        return 2
    return 1 if "error" in json.loads(reply.read_text(encoding="utf-8")) else 0


def work(folder):
    """Run all jobs of a request and write the reply.

    Returns:
        Exit code of the worker process.
    """
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
        fail("lava", f"{type(error).__name__}: {error}", traceback.format_exc())
    write_reply(folder, {"versions": versions(), "results": results})
    return 0


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
