"""Try something that may hang or crash in a copy of this process first.

The HDF5 library is C code that trusts its input: on some damaged files HDF5 2.0 searches a tree
or a heap for ever, and nothing in Python can interrupt it. A forked copy that is given up after
some time can. The copy costs a few milliseconds and shares memory until it writes.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import suppress

_FIRST_WAIT_S = 0.0005
_LONGEST_WAIT_S = 0.05


def find_trouble(action: Callable[[], object], *, seconds: float) -> str | None:
    """Run `action` in a forked copy of this process and say whether it hangs or crashes.

    What it returns or raises is dropped: do it again here to get that. Where the system cannot
    fork (Windows), nothing is tried.

    Args:
        action: What to try. It must not write files or print.
        seconds: How long it may take.

    Returns:
        None if the copy came to an end, with or without an exception; else what happened, as a
        phrase for an error message.
    """
    if not hasattr(os, "fork"):
        return None
    with warnings.catch_warnings():
        # Python warns that a copy of a process with threads may wait for a lock that no thread
        # holds any more. This copy calls HDF5 and NumPy only; h5py frees its lock in copies.
        warnings.simplefilter("ignore", DeprecationWarning)
        copy = os.fork()
    if copy == 0:
        _run_and_exit(action)
    status: int | None = None
    try:
        status = _wait(copy, seconds)
    finally:
        if status is None:
            with suppress(ProcessLookupError):
                os.kill(copy, signal.SIGKILL)
            os.waitpid(copy, 0)
    if status is None:
        return f"took longer than {seconds:g} s"
    if os.WIFSIGNALED(status):
        return f"crashed with signal {os.WTERMSIG(status)}"
    return None


def _run_and_exit(action: Callable[[], object]) -> None:
    """Run in the copy; it ends here in any case, without any clean-up of its parent's things."""
    try:
        faulthandler.disable()  # a crash is expected here, and no news to the user
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            action()
    except BaseException:
        os._exit(1)  # the parent meets the same exception by itself
    os._exit(0)


def _wait(copy: int, seconds: float) -> int | None:
    """Return the copy's status, or None if it is still running after `seconds`.

    Counted is the time that this process asked to wait, so that being stopped for a while (Ctrl-Z,
    a debugger) does not make a file look damaged.
    """
    waited, pause = 0.0, _FIRST_WAIT_S
    while True:
        ended, status = os.waitpid(copy, os.WNOHANG)
        if ended:
            return status
        if waited > seconds:
            return None
        time.sleep(pause)
        waited += pause
        pause = min(2 * pause, _LONGEST_WAIT_S)
