"""The Lava runtime: a small virtual environment that holds Lava, frozen, and nothing of torch.

It is made from the interpreter that runs neurodeploy (or a named one), lives inside the
environment it serves, and goes away with it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from neurodeploy.errors import LavaRuntimeError, NeurodeployError
from neurodeploy.files import hardware_path, replacing
from neurodeploy.lava_bridge.worker import Job, run_jobs, tail
from neurodeploy.processes.leftovers import remove_leftovers_in, temporary_folder
from neurodeploy.processes.owners import owner_mark
from neurodeploy.processes.parents import BEFORE_EXEC
from neurodeploy.processes.platforms import lock_file

logger = logging.getLogger(__name__)

Progress = Callable[[str], None]
"""Called with a few words about what is being done."""

MANIFEST = "neurodeploy-lava.json"
FORMAT = 1
"""Part of the recipe's fingerprint; raise it when the steps of the installation change."""
SUPPORTED = ((3, 10), (3, 11), (3, 12), (3, 13))
FREE_BYTES = 700 * 2**20
"""Space that the installation needs while it runs."""
INSTALL_SECONDS = 900.0

UNNEEDED = (
    "tests",  # lava-nc's own tests, installed at the top level: 110 MB
    "lava/lib/dl/slayer",  # needs torch; the worker has a stand-in for the one function netx uses
    "*/tests",
    "scipy/*/tests",
    "scipy/*/*/tests",
    "networkx/*/*/tests",
    "pip",
    "pip-*.dist-info",
    "setuptools",
    "setuptools-*.dist-info",
    "pkg_resources",
    "_distutils_hack",
    "distutils-precedence.pth",
)
"""Patterns below site-packages of what is removed after the installation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeReport:
    """The state of a runtime, as `diagnose` sees it.

    Attributes:
        path: Folder of the runtime, or the named interpreter.
        is_present: Whether there is an interpreter.
        is_current: Whether it is what this version of neurodeploy would install; None for a named
            interpreter.
        versions: Versions by name: python, lava-nc, lava-dl, numpy, scipy, h5py.
        size_mb: Size on disk in 10**6 bytes; 0 for a named interpreter.
        is_torch_absent: Whether torch cannot be found in it; None if it could not be asked.
        is_working: Whether the self-test gave the known result.
        problem: What is wrong, in words; empty if nothing is.
        seconds: How long the self-test took, start-up included.
    """

    path: Path
    is_present: bool
    is_current: bool | None
    versions: Mapping[str, str]
    size_mb: float
    is_torch_absent: bool | None
    is_working: bool
    problem: str
    seconds: float


def runtime_path() -> Path:
    """Return the folder of the runtime that belongs to the running environment."""
    return Path(sys.prefix) / "share" / "neurodeploy" / "lava-runtime"


def find_runtime(path: Path | None = None) -> Path:
    """Return the interpreter of the runtime at `path`, or else of the running environment's.

    Raises:
        LavaRuntimeError: If there is none.
    """
    folder = runtime_path() if path is None else Path(path)
    python = _python_of(folder)
    if not os.access(python, os.X_OK):
        raise LavaRuntimeError(
            f"Lava runtime: none at {folder}. Install it with `neurodeploy lava install` (about "
            "half a minute), or name an interpreter that has Lava."
        )
    return python


def require_forks() -> None:
    """Refuse a system on which Lava cannot run.

    Raises:
        LavaRuntimeError: On Windows.
    """
    if sys.platform == "win32":
        raise LavaRuntimeError(
            "Lava runtime: Lava forks its processes, which Windows cannot do. "
            "Use Linux (for instance WSL) or macOS."
        )


def install_runtime(
    path: Path | None = None,
    *,
    python: Path | str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Install the Lava runtime, whole or not at all; does nothing if it is there and current.

    Args:
        path: Folder to make; None for the one of the running environment. What is there is
            replaced only if it is a runtime, or empty.
        python: Interpreter to build from; None for the running one.
        progress: Called with a few words at each stage.

    Returns:
        The runtime's interpreter.

    Raises:
        LavaRuntimeError: If the interpreter is not supported, its `venv` or `pip` is missing or
            fails, the folder cannot be written, the disk is full, or the result does not compute
            what it should.
    """
    folder = runtime_path() if path is None else Path(path).absolute()
    tell = progress or (lambda _: None)
    base, version = _examine_interpreter(python)
    requirements = _requirements(version)
    with _explained(folder), _lock(folder):
        expected = _fingerprint(requirements, version)
        if _is_intact(folder, expected):
            logger.info("Lava runtime: %s is current", folder)
            return _python_of(folder)
        _check_replaceable(folder)
        _check_space(folder.parent)
        remove_leftovers_in(folder.parent)
        building = Path(tempfile.mkdtemp(prefix=_beside(folder), dir=folder.parent))
        try:
            _build(building, base, requirements, tell)
            tell("testing")
            _, versions = self_test(_python_of(building))
            _write_manifest(building, expected, versions)
            tell("moving into place")
            _replace(folder, building)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return _python_of(folder)


def diagnose(path: Path | None = None, *, python: Path | None = None) -> RuntimeReport:
    """Examine the runtime at `path`, or an interpreter, and run a small network on it."""
    folder = runtime_path() if path is None else Path(path)
    interpreter = _python_of(folder) if python is None else Path(python)
    is_present = os.access(interpreter, os.X_OK)
    versions: Mapping[str, str] = {}
    problem, seconds = "", 0.0
    is_torch_absent: bool | None = None
    is_current: bool | None = None
    try:
        if not is_present:
            find_runtime(folder if python is None else python)
        _, version = _examine_interpreter(interpreter)
        is_torch_absent = _is_torch_absent(interpreter, is_isolated=python is None)
        if python is None:
            is_current = _is_intact(folder, _fingerprint(_requirements(version), version))
        seconds, versions = self_test(interpreter, is_isolated=python is None)
    except NeurodeployError as error:
        problem = str(error)
    if not problem and is_current is False:
        problem = (
            f"Lava runtime: {folder} works but is not what this version of neurodeploy installs. "
            "Run `neurodeploy lava install`."
        )
    return RuntimeReport(
        path=folder if python is None else interpreter,
        is_present=is_present,
        is_current=is_current,
        versions=versions,
        size_mb=_size(folder) / 1e6 if is_present and python is None else 0.0,
        is_torch_absent=is_torch_absent,
        is_working=bool(versions),
        problem=problem,
        seconds=seconds,
    )


def self_test(python: Path, *, is_isolated: bool = True) -> tuple[float, Mapping[str, str]]:
    """Run a network whose spikes are known.

    One neuron without leak integrates 3 a step (weight 4, bias -1) and spikes above 8: it fires at
    every third step of its input.

    Returns:
        Seconds taken, and the versions of what took part.

    Raises:
        LavaRuntimeError: If it fails or gives anything else.
    """
    begin = time.perf_counter()
    with temporary_folder() as folder:
        net = folder / "selftest.net"
        _write_known_network(net)
        job = Job(
            net=net, inputs=np.ones((2, 6, 1), np.int32), timing="window", steps=6, feed="port"
        )
        versions: dict[str, str] = {}
        recording = run_jobs(
            python, [job], is_isolated=is_isolated, timeout=INSTALL_SECONDS, versions=versions
        )[0]
    expected = [[0, 0, 1, 0, 0, 1]] * 2
    found = recording.spikes_of(0)[:, :, 0].tolist()
    if found != expected:
        raise LavaRuntimeError(
            f"Lava runtime: the self-test gave the spikes {found}, {expected} is right. Install it "
            "again with `neurodeploy lava install`."
        )
    return time.perf_counter() - begin, versions


def _write_known_network(path: Path) -> None:
    content = io.BytesIO()  # HDF5 tells in many ways of a full disk
    with h5py.File(content, "w") as file:
        layer = file.create_group("layer/0")
        layer["type"] = np.bytes_(b"dense")
        layer["shape"] = np.array([1])
        layer["weight"] = np.array([[4]])
        layer["bias"] = np.array([-1])
        neuron = layer.create_group("neuron")
        neuron["type"] = np.bytes_(b"CUBA")
        neuron["iDecay"], neuron["vDecay"], neuron["vThMant"] = 4096, 0, 8
    with replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _beside(folder: Path) -> str:
    """Return how the names of temporary folders beside a runtime begin."""
    return f".{folder.name}-{owner_mark()}"


def _python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def _requirements(version: tuple[int, int]) -> Path:
    return hardware_path() / "lava_runtime" / f"requirements-py{version[0]}{version[1]}.txt"


def _examine_interpreter(python: Path | str | None) -> tuple[Path, tuple[int, int]]:
    """Return an interpreter's path and version, if it can carry Lava."""
    require_forks()
    if python is None:
        base, version = Path(sys.executable), sys.version_info[:2]
    else:
        found = shutil.which(str(python))
        if found is None:
            raise LavaRuntimeError(
                f"{python}: not an executable. Name a Python interpreter, 3.10 to 3.13."
            )
        base = Path(found)
        answer = _call([str(base), "-c", "import sys; print(*sys.version_info[:2])"])
        words = answer.stdout.split()
        if answer.returncode or len(words) != 2:
            raise LavaRuntimeError(
                f"{python}: does not run as Python. Name a Python interpreter, 3.10 to 3.13."
                + tail(answer.stderr)
            )
        version = (int(words[0]), int(words[1]))
    if version not in SUPPORTED:
        raise LavaRuntimeError(
            f"{base}: Python {version[0]}.{version[1]}; Lava runs on 3.10 to 3.13. "
            "Name another interpreter."
        )
    return base, version


def _fingerprint(requirements: Path, version: tuple[int, int]) -> str:
    """Return a text that changes whenever the installation would come out differently."""
    content = repr((FORMAT, version, UNNEEDED)).encode() + requirements.read_bytes()
    return hashlib.sha256(content).hexdigest()


def _build(folder: Path, base: Path, requirements: Path, tell: Callable[[str], None]) -> None:
    """Make the virtual environment in `folder` and install into it."""
    tell("creating the virtual environment")
    made = _call([str(base), "-m", "venv", "--without-pip", "--clear", str(folder)])
    if made.returncode:
        raise LavaRuntimeError(
            f"{base}: cannot make a virtual environment. Install its venv module (on Debian the "
            "package python3-venv), or name another interpreter." + tail(made.stderr)
        )
    tell("downloading and installing Lava")
    python = str(_python_of(folder))
    pip = [str(base), "-m", "pip", "--python", python]
    if _call([*pip, "--version"]).returncode:
        bundled = _call([python, "-I", "-m", "ensurepip"])
        if bundled.returncode:
            raise LavaRuntimeError(
                f"{base}: has neither pip nor ensurepip. Install pip for it, or name another "
                "interpreter." + tail(bundled.stderr)
            )
        pip = [python, "-I", "-m", "pip"]
    options = (
        "--no-deps --ignore-requires-python --no-compile --no-input --disable-pip-version-check "
        "--no-warn-script-location"
    )
    installed = _call([*pip, "install", *options.split(), "--requirement", str(requirements)])
    if installed.returncode:
        output = installed.stderr + installed.stdout
        if os.strerror(errno.ENOSPC) in output:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise LavaRuntimeError(
            "Lava runtime: pip could not install it. Check the connection and pip's settings; "
            "nothing was changed." + tail(output)
        )
    tell("removing what is not needed")
    _trim(folder)


def _trim(folder: Path) -> None:
    """Remove tests, installers, SLAYER, and scripts that hold the building folder's name."""
    (packages,) = (folder / "lib").glob("python3*/site-packages")
    for pattern in UNNEEDED:
        for found in list(packages.glob(pattern)):
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            else:
                found.unlink()
    for script in (folder / "bin").iterdir():
        if not script.name.startswith("python"):
            script.unlink()


def _call(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and keep what it says."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__", "PIP_TARGET", "PIP_USER")
    }
    try:
        with temporary_folder() as folder:
            return subprocess.run(
                command,
                env={**environment, "TMPDIR": str(folder)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=INSTALL_SECONDS,
                check=False,
                preexec_fn=BEFORE_EXEC,
            )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(
            command, 1, "", f"not done after {INSTALL_SECONDS:g} seconds"
        )


def _is_torch_absent(python: Path, *, is_isolated: bool) -> bool:
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is not None)"
    options = ["-I"] if is_isolated else []
    return _call([str(python), *options, "-c", code]).returncode == 0


def _write_manifest(folder: Path, fingerprint: str, versions: Mapping[str, str]) -> None:
    count, size = _census(folder)
    manifest = {"recipe": fingerprint, "versions": dict(versions), "files": count, "bytes": size}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _is_intact(folder: Path, fingerprint: str) -> bool:
    """Return whether a folder holds the whole requested runtime and a working interpreter."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        expected = (manifest["recipe"], manifest["files"], manifest["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if expected != (fingerprint, *_census(folder)):
        return False
    python = _python_of(folder)
    return os.access(python, os.X_OK) and _call([str(python), "-I", "-c", ""]).returncode == 0


def _census(folder: Path) -> tuple[int, int]:
    """Count the files of a runtime and their bytes, without what Python compiles or we add."""
    count = size = 0
    for root, folders, files in os.walk(folder):
        if "__pycache__" in folders:
            folders.remove("__pycache__")
        for name in files:
            path = Path(root, name)
            if name != MANIFEST and not path.is_symlink():
                count += 1
                size += path.stat().st_size
    return count, size


def _size(folder: Path) -> int:
    """Return the bytes that a folder takes on disk."""
    files = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sum(file.lstat().st_blocks * 512 for file in files)


def _check_replaceable(folder: Path) -> None:
    if not folder.exists() or (folder / MANIFEST).exists():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise LavaRuntimeError(
            f"{folder}: exists and is not a Lava runtime, so it is left as it is. "
            "Remove it, or name another folder."
        )


def _check_space(parent: Path) -> None:
    if shutil.disk_usage(parent).free < FREE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _replace(folder: Path, building: Path) -> None:
    """Put `building` where `folder` is."""
    building.chmod(0o755)
    if not folder.exists():
        building.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=_beside(folder), dir=folder.parent))
    try:
        folder.rename(old / folder.name)
        try:
            building.rename(folder)
        except OSError:
            (old / folder.name).rename(folder)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn errors of the file system into ours."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise LavaRuntimeError(
                f"{folder.parent}: no space left; the Lava runtime needs {FREE_BYTES >> 20} MB "
                "while it is installed. Free some, or name another folder; nothing was changed."
            ) from error
        raise LavaRuntimeError(
            f"{error.filename or folder}: {error.strerror or error}. Choose a folder that can be "
            "written; nothing was changed."
        ) from error


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let one installation at a time work on `folder`; a second waits and finds it done."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.parent / f".{folder.name}.lock"
    with path.open("w") as file:
        lock_file(file, waits=True)
        yield
