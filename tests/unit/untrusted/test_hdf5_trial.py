"""Files on which the HDF5 library hangs or crashes end in an error, in Python and in commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from neurodeploy.cli.app import make_app
from neurodeploy.errors import DataError, NetxError
from neurodeploy.netx import read
from neurodeploy.untrusted import hdf5, isolation
from neurodeploy.untrusted.boundary import FileKind
from neurodeploy.untrusted.hdf5 import open_root, tried_apart

GOLDEN = Path(__file__).parents[2] / "golden"
ANY = GOLDEN / "12_conv_grouped.net"
# Bytes of it whose change makes HDF5 2.0 search a tree for ever; other versions may just fail.
HANGS = (28144, 0x80)


def damaged(folder: Path) -> Path:
    content = bytearray(ANY.read_bytes())
    content[HANGS[0]] = HANGS[1]
    (folder / "a.net").write_bytes(content)
    return folder / "a.net"


def test_a_file_that_can_be_read_is_no_trouble() -> None:
    with tried_apart(ANY):
        pass


def test_a_file_that_is_refused_is_never_opened_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no.net").write_bytes(b"no HDF5")
    monkeypatch.setattr(hdf5, "h5py", None)
    refused = pytest.raises(NetxError, match=r"^.*no\.net: cannot be read .*A netx file is HDF5")
    with refused, tried_apart(tmp_path / "no.net"):
        pass
    with refused, open_root(tmp_path / "no.net"):
        pass


def test_a_file_of_another_kind_is_refused_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.nir").write_bytes(b"no HDF5")
    kind = FileKind("NIR", ".nir", DataError, "A NIR file is HDF5.")
    with (
        pytest.raises(DataError, match="A NIR file is HDF5"),
        tried_apart(tmp_path / "a.nir", kind),
    ):
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


def test_a_tree_that_hdf5_searches_for_ever(tmp_path: Path) -> None:
    refused = pytest.raises(NetxError, match=r"took longer than 1\.\d+ s|cannot be read")
    with refused:
        read(damaged(tmp_path))
    for command in ("inspect", "fit"):
        outcome = CliRunner().invoke(make_app(), [command, str(tmp_path / "a.net")])
        with refused:
            raise outcome.exception or AssertionError(outcome.output)


def test_one_trial_is_for_one_reader_of_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ANY, tmp_path / "a.net")
    with tried_apart(tmp_path / "a.net"):
        pass
    with monkeypatch.context() as patch:
        patch.setattr(hdf5, "run_apart", None)
        read(tmp_path / "a.net")
        with pytest.raises(TypeError):
            read(tmp_path / "a.net")
    with tried_apart(tmp_path / "a.net"):
        pass
    with pytest.raises(NetxError, match=r"took longer than 1\.\d+ s|cannot be read"):
        read(damaged(tmp_path))  # has replaced the file that was tried


def test_a_damaged_file_is_refused_before_a_command_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ANY, tmp_path / "a.net")
    isolation.stop_idle()
    monkeypatch.setattr(isolation, "_PROGRAM", "import os; os.abort()")
    monkeypatch.setattr("neurodeploy.cli.options.read", None)
    outcome = CliRunner().invoke(make_app(), ["inspect", str(tmp_path / "a.net")])
    assert "crashed with signal 6" in str(outcome.exception)
