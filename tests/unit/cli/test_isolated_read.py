"""Files on which the HDF5 library hangs or crashes end in an error of the command line."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from neurodeploy.cli import isolated_read
from neurodeploy.cli.app import make_app
from neurodeploy.cli.isolated_read import started_early, tried_apart
from neurodeploy.errors import DataError, NetxError
from neurodeploy.netx import read
from neurodeploy.untrusted_hdf5 import NETX, FileKind, open_root

GOLDEN = Path(__file__).parents[2] / "golden"
ANY = GOLDEN / "12_conv_grouped.net"
LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 2))\n"
AFTER_A_LINE = "import sys; sys.stdin.readline()\n"


def try_program(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(isolated_read, "_PROGRAM", program)
    with tried_apart(ANY, NETX):
        pass


def test_a_file_that_can_be_read_is_no_trouble() -> None:
    with tried_apart(ANY, NETX):
        pass


def test_a_file_that_is_refused_is_never_opened_here(tmp_path: Path) -> None:
    (tmp_path / "no.net").write_bytes(b"no HDF5")
    refused = pytest.raises(NetxError, match=r"^.*no\.net: cannot be read .*A netx file is HDF5")
    with refused, tried_apart(tmp_path / "no.net", NETX):
        pass


def test_a_file_of_another_kind_is_refused_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.nir").write_bytes(b"no HDF5")
    refused = pytest.raises(DataError, match="A NIR file is HDF5")
    with refused, tried_apart(tmp_path / "a.nir", FileKind("NIR", ".nir", DataError)):
        pass


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.net")), ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::neurodeploy.errors.NeurodeployWarning")
def test_the_trial_reads_all_that_the_reader_reads(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    """What HDF5 fails on in the reader, it must have failed on in the process before."""
    found: list[str] = []
    load = h5py.Dataset.__getitem__

    def noted(dataset: h5py.Dataset, place: object) -> object:
        found.append(dataset.name)
        return load(dataset, place)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", noted)
    with open_root(path) as root:
        root.touch()
    touched = set(found)
    found.clear()
    with np.load(path.with_suffix(".npz")) as recorded:
        shape = json.loads(str(recorded["config"]))["kwargs"].get("input_shape")
    read(path, input_shape=shape and shape[::-1])
    assert found
    assert set(found) <= touched


def test_what_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.monotonic()
    with pytest.raises(NetxError, match=r"took longer than 20\.\d+ s. The file is damaged"):
        try_program(monkeypatch, LIMITED + "while True: pass")
    assert time.monotonic() - start < 30


def test_what_crashes_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NetxError, match=r"crashed with signal 6. The file is damaged"):
        try_program(monkeypatch, "import os; os.abort()")


def test_a_trial_that_cannot_run_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NetxError, match="No module named 'nowhere'"):
        try_program(monkeypatch, "import nowhere")


def children() -> set[str]:
    """The processes that this one has, those of other tests among them."""
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {child for task in tasks for child in task.read_text().split()}


def test_an_interruption_leaves_no_process_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    monkeypatch.setattr(isolated_read, "_PROGRAM", "import time; time.sleep(60)")

    def interrupted() -> None:
        with tried_apart(ANY, NETX):
            assert len(children() - before) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert children() <= before


def test_a_process_that_was_started_early_reads_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated_read, "_PROGRAM", AFTER_A_LINE + "import os; os.abort()")
    with started_early(["neurodeploy", "inspect"]):
        (process,) = isolated_read._waiting
        with pytest.raises(NetxError, match="crashed with signal 6"), tried_apart(ANY, NETX):
            pass
    assert process.returncode == -6


@pytest.mark.parametrize("words", [["inspect"], ["inspect", "--help"], ["train"], []])
def test_a_process_that_nobody_needs_is_ended(words: list[str]) -> None:
    before = children()
    with started_early(["neurodeploy", *words]):
        assert len(isolated_read._waiting) == (words[:1] == ["inspect"])
    assert not isolated_read._waiting
    assert children() <= before


@pytest.mark.parametrize("command", ["inspect", "fit"])
def test_a_tree_that_hdf5_searches_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A handful of changed bytes on which HDF5 2.0 hangs; other versions may just fail."""
    monkeypatch.setattr(isolated_read, "CPU_SECONDS", 1.0)
    content = bytearray((GOLDEN / "12_conv_grouped.net").read_bytes())
    content[28144:28145] = bytes.fromhex("80")
    (tmp_path / "a.net").write_bytes(content)
    outcome = CliRunner().invoke(make_app(), [command, str(tmp_path / "a.net")])
    assert isinstance(outcome.exception, NetxError)
    assert "took longer than 1." in str(outcome.exception) or "cannot be read" in str(
        outcome.exception
    )


def test_a_damaged_file_is_refused_before_it_is_read_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ANY, tmp_path / "a.net")
    monkeypatch.setattr(isolated_read, "_PROGRAM", "import os; os.abort()")
    monkeypatch.setattr("neurodeploy.cli.options.read", None)
    outcome = CliRunner().invoke(make_app(), ["inspect", str(tmp_path / "a.net")])
    assert "crashed with signal 6" in str(outcome.exception)
