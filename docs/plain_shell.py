"""Let `!command` in a tutorial print as into a file: in one piece, without spinners and colours."""

from __future__ import annotations

import os
import subprocess

from IPython.core.getipython import get_ipython
from IPython.core.interactiveshell import InteractiveShell

SHELL = get_ipython()
assert isinstance(SHELL, InteractiveShell), "plain_shell is for the cells of a notebook"


def system(command: str) -> None:
    """Run a command of a cell and print its output; fail as the command does."""
    done = subprocess.run(
        SHELL.var_expand(command),
        shell=True,
        env={name: value for name, value in os.environ.items() if name != "FORCE_COLOR"},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    print(done.stdout)


SHELL.system = system
