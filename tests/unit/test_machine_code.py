from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from neurodeploy import machine_code
from neurodeploy.errors import NeurodeployWarning
from neurodeploy.machine_code import MachineFunction

LOOPS = """
import numpy as np
from neurodeploy.loops.linking import linked

@linked
def half(number):
    return number // 2

@linked
def total(numbers, factor, parts):
    words, (more, offset) = np.zeros(3, np.int64), parts
    for row in range(numbers.shape[0]):
        for column in range(numbers.shape[1]):
            words[1] += numbers[row, column] * factor
    for k in range(more.size):
        words[2] += more[k].value
        more[k].value = -1
    return half(2 * (words[1] + words[2])) + offset

@linked
def fill(size, place):
    room = np.zeros(size, np.int64)
    room[place] = size
    return room[3 - place]
"""
RECORD = np.dtype([("name", np.int64), ("value", np.int64)])


@pytest.fixture(autouse=True)
def loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let kept code lie in a folder of the test, and functions in a module of its own."""
    (tmp_path / "loops_of_test.py").write_text(LOOPS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(machine_code, "folders", lambda: [tmp_path / "cache/neurodeploy"])


def call(key: str = "a") -> int:
    """Call a function as a new process would."""
    more = np.array([(1, 10), (2, 20)], RECORD)
    found = MachineFunction("loops_of_test", "total", key=key)(
        np.arange(6, dtype=np.int8).reshape(2, 3), 7, (more, -1000)
    )
    assert more["value"].tolist() == [-1, -1]
    return found


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache/neurodeploy").glob("*.o"))


def test_numbers_arrays_records_and_tuples_are_passed() -> None:
    assert call() == 15 * 7 + 30 - 1000


def test_code_is_found_by_the_next_start(tmp_path: Path) -> None:
    """A damaged file is written again; what is kept is not compiled, nor its module loaded."""
    call()
    (file,) = kept(tmp_path)
    whole = file.read_bytes()
    for damaged in (b"", whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        file.write_bytes(damaged)
        call()
        assert kept(tmp_path) == [file]
        assert file.read_bytes()[:32] == hashlib.sha256(file.read_bytes()[32:]).digest()
    (tmp_path / "loops_of_test.py").write_text("raise AssertionError\n")
    sys.modules.pop("loops_of_test")
    call()


def test_code_is_compiled_anew_for_another_key_and_another_kind(tmp_path: Path) -> None:
    call("a")
    call("b")
    assert len(kept(tmp_path)) == 2
    MachineFunction("loops_of_test", "total", key="a")(
        np.zeros((2, 3), np.int16), 7, (np.zeros(2, RECORD), 0)
    )
    assert len(kept(tmp_path)) == 3


def test_code_of_other_sources_is_removed_once_nobody_uses_it(tmp_path: Path) -> None:
    """Such code is only looked for when new code is written; code in use is marked once a day."""
    call("a")
    call("b")
    first, second = sorted(kept(tmp_path), key=lambda path: path.name.split(".")[1] == "b")
    (tmp_path / "cache/neurodeploy/other.a.1.o").write_bytes(b"another function's")
    for days in (8, 2):
        for file in kept(tmp_path):
            os.utime(file, (time.time() - days * 86400,) * 2)
        call("a")  # in use
        call("c")
    assert [path.name.split(".")[:2] for path in kept(tmp_path)] == [
        ["other", "a"], ["total", "a"], ["total", "c"]
    ]  # fmt: skip
    assert first.exists()
    assert not second.exists()


def test_settings_of_the_compiler_are_a_part_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call()
    monkeypatch.setenv("NUMBA_SETTING_OF_TEST", "1")
    machine_code._circumstances.cache_clear()
    call()
    machine_code._circumstances.cache_clear()
    assert len(kept(tmp_path)) == 2


def test_lack_of_memory_is_an_error() -> None:
    assert MachineFunction("loops_of_test", "fill", key="a")(10, 1) == 0
    with pytest.raises(MemoryError, match="fill: no memory for its working arrays"):
        MachineFunction("loops_of_test", "fill", key="a")(1 << 58, 1)


def test_where_no_folder_can_be_written_each_start_compiles_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(machine_code, "folders", lambda: [tmp_path / "file/a", tmp_path / "file/b"])
    message = r"^compiled loops cannot be kept \(.*Not a directory.* NUMBA_CACHE_DIR name a folder"
    with pytest.warns(NeurodeployWarning, match=message):
        call()


def test_the_second_folder_is_taken_where_the_first_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(machine_code, "folders", lambda: [tmp_path / "file/a", tmp_path / "b"])
    call()
    assert len(list((tmp_path / "b").glob("*.o"))) == 1


def test_kept_code_runs_without_the_compiler(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from neurodeploy.machine_code import MachineFunction\n"
        "found = MachineFunction('loops_of_test', 'fill', key='a')(4, 1)\n"
        "print(found, 'neurodeploy.loops' in sys.modules)\n"
    )
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    environment = os.environ | {"PYTHONPATH": paths, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    texts = [
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            env=environment,
            capture_output=True,
            text=True,
        ).stdout
        for _ in range(2)
    ]
    assert texts == ["0 True\n", "0 False\n"]
    assert len(kept(tmp_path)) == 1
