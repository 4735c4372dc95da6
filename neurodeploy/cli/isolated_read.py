"""Try to read a netx file in a process of its own before this one reads it.

The HDF5 library is C code that trusts its input: on some damaged files HDF5 2.0 crashes, or
searches a tree for ever, and nothing in Python can interrupt it. A separate process can be lost.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from neurodeploy.errors import NetxError
from neurodeploy.netx.untrusted_hdf5 import check_file

CPU_SECONDS = 20.0
"""Processor time that reading may take, beside the time that the file's size explains."""
CPU_SECONDS_PER_BYTE = 1e-6

# The limit counts processor time: a hang burns it, and a process that is merely stopped (Ctrl-Z) or
# waits for a busy machine does not. The system enforces it even if this process is gone.
_PROGRAM = """
import json, resource, sys
from neurodeploy.errors import NeurodeployError
from neurodeploy.netx import read
limit = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime + float(sys.argv[3])) + 1
resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
try:
    read(sys.argv[1], **json.loads(sys.argv[2]))
except (NeurodeployError, MemoryError):
    pass
"""


@contextmanager
def tried_apart(path: Path, arguments: Mapping[str, object]) -> Iterator[None]:
    """Read a file in a process of its own while the block runs; what it returns or raises is lost.

    Args:
        path: The file.
        arguments: Those of `netx.read`, as JSON can hold them.

    Raises:
        NetxError: At the end of the block, if the process hung, crashed or failed; before it, if
            there is no such file.
    """
    check_file(path)
    seconds = CPU_SECONDS + path.stat().st_size * CPU_SECONDS_PER_BYTE
    command = [sys.executable, "-P", "-W", "ignore", "-c", _PROGRAM]
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [*command, str(path), json.dumps(arguments), str(seconds)],
        env=os.environ | environment | {"OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield
            _, complaint = process.communicate()
        finally:
            process.kill()
    code = process.returncode
    if code == -signal.SIGXCPU:
        trouble = f"took longer than {seconds:g} s. The file is damaged"
    elif code < 0:
        trouble = f"crashed with signal {-code}. The file is damaged"
    elif code > 0:
        last = (complaint.strip().splitlines() or ["no message"])[-1]
        raise NetxError(f"{path}: the process that tries to read it failed ({last}).")
    else:
        return
    raise NetxError(f"{path}: reading it {trouble}. Write or copy it again.")
