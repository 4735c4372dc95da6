"""The process that tries a file loads what it needs beside this one."""

from __future__ import annotations

import subprocess
import sys

from neurodeploy import load_example

CODE = """
import sys
from neurodeploy import netx
from neurodeploy.netx import entrance
start, began = entrance.start_ahead, []

def watched(module):
    began.append((module, "numpy" in sys.modules, "h5py" in sys.modules))
    start(module)

entrance.start_ahead = watched
for _ in range(2):
    netx.read(sys.argv[1])
print(began, "neurodeploy.netx.writer" in sys.modules, netx.write.__name__)
"""


def test_a_process_starts_before_the_reader_is_loaded() -> None:
    command = [sys.executable, "-c", CODE, str(load_example("digits_small").net)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    began = [("neurodeploy.untrusted.hdf5", loaded, loaded) for loaded in (False, True)]
    assert text == f"{began} False write\n"
