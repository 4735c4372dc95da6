"""Files are written whole or not at all; those that come with neurodeploy are found."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from neurodeploy import files
from neurodeploy.errors import DataError, NeurodeployError, OutputError
from neurodeploy.files import (
    SteadyFile,
    hash_file,
    hash_folder,
    locked,
    replacing,
    replacing_together,
    require_output,
    write_text,
)


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_a_new_file_appears_with_its_content(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.txt", "häuser")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "häuser".encode()
    assert names(tmp_path / "new") == ["a.txt"]


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old and longer")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_the_temporary_file_keeps_the_suffix(tmp_path: Path) -> None:
    """Writers such as HDF5 or image libraries choose the format by suffix."""
    with replacing(tmp_path / "a.net") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".net"
        assert temporary.name.startswith(".")


def test_readers_see_the_old_file_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
    assert path.read_text() == "half"


def write_half(path: Path, failure: BaseException) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise failure


@pytest.mark.parametrize("failure", [KeyError("a fault"), KeyboardInterrupt()])
def test_an_interruption_leaves_everything_as_it_was(
    tmp_path: Path, failure: BaseException
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(failure)):
        write_half(path, failure)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_full_disk_is_an_output_error_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(self: Path, text: str, encoding: str) -> int:
        with self.open("wb") as file:
            file.write(text.encode(encoding)[:2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written \(No space left on device\)"):
        write_text(path, "new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_a_disk_that_fills_up_at_the_final_flush_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_in_the_way_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(OutputError):
        write_text(tmp_path / "a" / "b.txt", "text")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("target", ["", "directory"])
def test_a_directory_is_no_file(tmp_path: Path, target: str) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(OutputError, match="directory"):
        write_text(tmp_path / target, "text")
    assert names(tmp_path) == ["directory"]


def test_a_directory_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says to anyone but root, who may write everywhere."""

    def refuse(self: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        write_text(tmp_path / "a.txt", "text")
    assert names(tmp_path) == []


def test_files_have_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_text(tmp_path / "ours", "text")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_device_is_not_replaced() -> None:
    """Whoever may write to /dev could otherwise lose /dev/null by `--output /dev/null`."""
    with pytest.raises(OutputError, match="Name an ordinary file"):
        write_text(Path(os.devnull), "text")
    assert not Path(os.devnull).is_file()


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "data" / "a.txt", tmp_path / "a.txt"
    target.parent.mkdir()
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert names(tmp_path / "data") == ["a.txt"]


def test_a_file_is_known_by_its_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_file(tmp_path / "a") == (  # the test vector of FIPS 180-2
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    with pytest.raises(DataError, match="cannot be read"):
        hash_file(tmp_path)


def test_checkout_has_worker_and_recipes() -> None:
    assert (files.hardware_path() / "lava_runtime" / "run_netx.py").is_file()
    assert files.recipes_path().is_dir()


def test_folder_beside_the_package_comes_first(tmp_path: Path) -> None:
    package = tmp_path / "neurodeploy"
    (package / "_hardware").mkdir(parents=True)
    (tmp_path / "hardware").mkdir()
    found = files._find_folder("_hardware", "hardware", package=package)
    assert found == package / "_hardware"


def test_neither_folder(tmp_path: Path) -> None:
    with pytest.raises(NeurodeployError, match="Install neurodeploy again"):
        files._find_folder("_hardware", "hardware", package=tmp_path)


def hold(folder: Path) -> subprocess.Popen[str]:
    """Start a process that locks a folder and keeps it."""
    program = (
        "import sys, time; from pathlib import Path; from neurodeploy.files import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    words = [sys.executable, "-c", program, str(folder)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_one_process_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    with hold(folder) as process:
        try:
            words = rf"^{folder}: process {process.pid} \(.*\) is working in it.[^.]*\.$"
            with pytest.raises(OutputError, match=words), locked(folder):
                pass
        finally:
            process.kill()
    with locked(folder), locked(folder):  # the dead process holds nothing, and a thread may nest
        assert names(folder) == [".lock"]
    assert names(folder) == []


def test_a_lock_leaves_no_folder_that_it_made(tmp_path: Path) -> None:
    with locked(tmp_path / "runs" / "a"):
        pass
    assert names(tmp_path) == []


def test_threads_do_not_share_a_lock(tmp_path: Path) -> None:
    with locked(tmp_path), ThreadPoolExecutor(1) as pool:
        other = pool.submit(lambda: locked(tmp_path).__enter__())
        assert isinstance(other.exception(), OutputError)
        assert f"process {os.getpid()} " in str(other.exception())


def test_inputs_are_known_through_links_and_outputs_by_their_suffix(tmp_path: Path) -> None:
    source, other = tmp_path / "a.npz", tmp_path / "b.npz"
    source.write_text("a")
    require_output(other, (".npz",), inputs=[source])
    other.symlink_to(source)
    with pytest.raises(OutputError, match="Name another file"):
        require_output(other, (".npz",), inputs=[source])
    page = tmp_path / "page.html"
    page.symlink_to(source)
    with pytest.raises(OutputError, match=r"written to a\.npz, .* ends with \.html"):
        require_output(page, (".html",))
    with pytest.raises(OutputError, match="nothing was changed"):  # neither exists yet
        require_output(tmp_path / "c.npz", (".npz",), inputs=[tmp_path / "." / "c.npz"])


# --- several files, all or none -----------------------------------------------------------------


def old_files(folder: Path) -> None:
    for name in ("net", "record", "report"):
        (folder / name).write_text(f"old {name}")


def replace_all(folder: Path) -> None:
    with replacing_together(folder, ("net", "record"), stale=("report", "none")) as place:
        write_text(place / "net", "new net")
        write_text(place / "record", "new record")
        assert (folder / "net").read_text() == "old net"


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_files_are_replaced_together(tmp_path: Path) -> None:
    old_files(tmp_path)
    (tmp_path / ".deploying-dead").mkdir()  # of a process that was killed
    replace_all(tmp_path)
    assert contents(tmp_path) == {"net": "new net", "record": "new record"}


def test_a_failure_names_no_temporary_folder(tmp_path: Path) -> None:
    old_files(tmp_path)
    with (
        pytest.raises(OutputError) as caught,
        replacing_together(tmp_path, ("net", "record")) as place,
        replacing(place / "net"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(caught.value).startswith(f"{tmp_path}: cannot be written (No space left on device).")


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("operation", ["replace", "link", "unlink", "mkdir"])
def test_where_one_cannot_be_moved_none_is(tmp_path, monkeypatch, operation, number) -> None:
    """Each move fails once; second names that a file system refuses are no failure."""
    old_files(tmp_path)
    before, calls, original = contents(tmp_path), iter(range(9)), getattr(os, operation)

    def fail(*arguments: object, **options: object) -> None:
        is_ours = "deploying" in str(arguments) or str(arguments[0]).endswith("report")
        is_temporary = Path(str(arguments[0])).name.startswith(".net-")
        if is_ours and not is_temporary and next(calls) == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, operation, fail)
        said = ""
        try:
            replace_all(tmp_path)
        except OutputError as error:
            said = str(error)
    if said:
        assert "Input/output error" in said
        assert contents(tmp_path) == before
    else:
        assert operation != "replace"
        assert contents(tmp_path) == {"net": "new net", "record": "new record"}


# --- writers that cannot bear a failure ---------------------------------------------------------


def test_a_steady_file_is_a_file(tmp_path: Path) -> None:
    with SteadyFile(tmp_path / "a") as file:
        file.write(b"abcdef")
        file.seek(2)
        assert file.write(memoryview(b"XY")) == 2
        assert file.truncate(5) == 5
        file.seek(0)
        assert file.read() == b"abXYe"
        file.check()
    assert (tmp_path / "a").read_bytes() == b"abXYe"


def test_a_steady_file_keeps_its_first_failure() -> None:
    """A device that is always full."""
    with SteadyFile(Path("/dev/full")) as file:
        assert file.write(b"abc") == 3
        assert file.truncate(1) == 1
        with pytest.raises(OSError, match="No space left"):
            file.check()


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.99])
def test_a_full_disk_is_an_error_in_hdf5_as_well(tmp_path: Path, share: float) -> None:
    """HDF5 crashes the process when it closes a file that it could not write."""
    program = (
        "import resource, signal, sys\n"
        "import numpy as np\n"
        "from neurodeploy.errors import OutputError\n"
        "from neurodeploy.samples.array_files import ArrayStream, write_arrays\n"
        "from pathlib import Path\n"
        "path = Path(sys.argv[1])\n"
        "rng = np.random.default_rng(0)\n"
        "arrays = {f'a{n}': rng.integers(0, 9**9, (40, 500), dtype=np.int32) for n in range(2)}\n"
        "def write():\n"
        "    write_arrays(path, {n: ArrayStream.of(a) for n, a in arrays.items()})\n"
        "write()\n"
        "size = path.stat().st_size\n"
        "path.write_bytes(b'old')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * float(sys.argv[2])),) * 2)\n"
        "try:\n"
        "    write()\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    path = tmp_path / "out.h5"
    done = subprocess.run(
        [sys.executable, "-c", program, path, str(share)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "File too large" in done.stdout
    assert contents(tmp_path) == {"out.h5": "old"}


def test_the_hash_of_a_folder_is_of_names_and_contents(tmp_path: Path) -> None:
    for name in ("a/1.bin", "b.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    before = hash_folder(tmp_path)
    (tmp_path / "a" / "1.bin").rename(tmp_path / "a" / "2.bin")
    renamed = hash_folder(tmp_path)
    (tmp_path / "b.bin").write_text("other")
    assert len({before, renamed, hash_folder(tmp_path)}) == 3
