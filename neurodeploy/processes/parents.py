"""Children that end with the process that started them, however it ended."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

CHECK_SECONDS = 1.0
STARTER = "NEURODEPLOY_STARTER"
"""Variable with the number of a process, for the processes that it has others start for it."""
_PR_SET_PDEATHSIG = 1


def watch_parent(parent: int) -> None:
    """End this process soon after the process that started it has ended."""

    def watch() -> None:
        while os.getppid() == parent:  # another one once `parent` is gone
            time.sleep(CHECK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def watch_starter() -> None:
    """Do so if the process that started this one gave its number in the environment."""
    starter = os.environ.pop(STARTER, None)
    if starter is not None:
        watch_parent(int(starter))


def die_with_parent() -> None:
    """Let Linux kill this process, whatever it does, when the thread that started it ends.

    It is for a process that this thread waits for; other systems leave it to run to its end. It
    outlives `exec`, so that it may be called between that and the fork.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


BEFORE_EXEC = die_with_parent if sys.platform == "linux" else None
"""To call in a child before its program begins; Windows takes nothing."""
