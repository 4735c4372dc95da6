"""Files on which the HDF5 library hangs or crashes end in an error as well."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from neurodeploy.errors import NetxError
from neurodeploy.netx import read, reader
from neurodeploy.netx.forked_trial import find_trouble

GOLDEN = Path(__file__).parents[2] / "golden"


def fail() -> None:
    raise ValueError("met again by whoever tries it here")


def test_what_ends_is_no_trouble() -> None:
    assert find_trouble(lambda: 5, seconds=20) is None
    assert find_trouble(fail, seconds=20) is None


def test_what_hangs_is_given_up() -> None:
    start = time.monotonic()
    assert find_trouble(lambda: time.sleep(60), seconds=0.2) == "took longer than 0.2 s"
    assert time.monotonic() - start < 30


def test_what_crashes_is_survived() -> None:
    assert find_trouble(os.abort, seconds=20) == "crashed with signal 6"


def test_no_copy_is_left_behind() -> None:
    find_trouble(lambda: time.sleep(60), seconds=0.01)
    find_trouble(os.abort, seconds=20)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_tree_that_hdf5_searches_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handful of changed bytes on which HDF5 2.0 hangs; other versions may just fail."""
    monkeypatch.setattr(reader, "TRIAL_SECONDS", 1.0)
    content = bytearray((GOLDEN / "12_conv_grouped.net").read_bytes())
    content[28144:28145] = bytes.fromhex("80")
    (tmp_path / "a.net").write_bytes(content)
    with pytest.raises(NetxError, match=r"took longer than 1\.\d+ s|cannot be read"):
        read(tmp_path / "a.net")
