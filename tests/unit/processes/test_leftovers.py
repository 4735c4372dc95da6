from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from neurodeploy.errors import OutputError
from neurodeploy.files import write_text
from neurodeploy.processes import leftovers
from neurodeploy.processes.leftovers import remove_leftovers, temporary_folder
from neurodeploy.processes.owners import owner_mark

KILLED = """
import os, signal, sys, tempfile
from pathlib import Path
from neurodeploy.files import replacing
from neurodeploy.processes.leftovers import temporary_folder
tempfile.tempdir = sys.argv[1]
with temporary_folder() as folder, replacing(Path(sys.argv[1], "result.txt")) as file:
    (folder / "deep").mkdir()
    (folder / "deep" / "file").touch()
    file.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(leftovers, "SHARED_MEMORY", tmp_path / "absent")
    return tmp_path


def leave(scratch: Path) -> list[str]:
    """Let a process be killed at work; give the names of what it left."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(scratch)], check=False)
    assert done.returncode == -signal.SIGKILL
    return sorted(path.name for path in scratch.iterdir())


def test_a_folder_lives_as_long_as_its_block(scratch: Path) -> None:
    with temporary_folder() as folder:
        (folder / "file").touch()
        assert folder.parent == scratch
    assert list(scratch.iterdir()) == []


def test_the_next_folder_removes_what_a_killed_process_left(scratch: Path) -> None:
    left = leave(scratch)
    assert len(left) == 2
    mine, foreign = scratch / f"{owner_mark()}x", scratch / "neurodeploy-lava-x"
    mine.mkdir()
    foreign.mkdir()
    with temporary_folder() as folder:
        assert sorted(scratch.iterdir()) == sorted([folder, foreign, mine])


def test_the_next_write_removes_the_half_written_file(scratch: Path) -> None:
    left = leave(scratch)
    write_text(scratch / "result.txt", "whole")
    assert sorted(path.name for path in scratch.iterdir()) == ["result.txt"], left


def test_shared_memory_is_removed(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = scratch / "shm"
    memory.mkdir()
    monkeypatch.setattr(leftovers, "SHARED_MEMORY", memory)
    (folder,) = (name for name in leave(scratch) if name.startswith("neurodeploy-"))
    (memory / f"{folder}-1234").touch()
    (memory / "psm_1234").touch()
    number = folder.split("-")[2]
    (memory / f"sem.loky-{number}-abcd").touch()
    (memory / f"joblib_memmapping_folder_{number}_abcd").mkdir()
    (memory / f"sem.loky-{number}1-abcd").touch()
    remove_leftovers()
    kept = sorted(path.name for path in memory.iterdir())
    assert kept == ["psm_1234", f"sem.loky-{number}1-abcd"]


def test_a_link_is_removed_and_not_followed(scratch: Path) -> None:
    (folder,) = (name for name in leave(scratch) if name.startswith("neurodeploy-"))
    kept = scratch / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (scratch / f"{folder}-link").symlink_to(kept)
    remove_leftovers()
    assert [path.name for path in scratch.iterdir()] == ["kept"]
    assert (kept / "file").exists()


def test_no_place_for_temporary_files_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    with (
        pytest.raises(OutputError, match=r"^temporary files: .*\. Set TMPDIR to a folder with"),
        temporary_folder(),
    ):
        pass


def test_the_mark_of_a_process_lasts_to_its_end(scratch: Path) -> None:
    program = (
        "import os, sys, tempfile\n"
        "from neurodeploy.processes.leftovers import mark_process\n"
        "tempfile.tempdir = sys.argv[1]\n"
        "mark_process()\n"
        "mark_process()\n"
        "print(*os.listdir(sys.argv[1]))\n"
    )
    command = [sys.executable, "-c", program, str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 1
    assert list(scratch.iterdir()) == []
