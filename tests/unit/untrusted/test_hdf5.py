"""HDF5 files of strangers: what h5py writes is read, trials leave nothing out."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from neurodeploy.errors import NetxError
from neurodeploy.netx import read
from neurodeploy.untrusted.hdf5 import (
    ELEMENTS_MAX,
    NETX,
    UntrustedFile,
    UntrustedGroup,
    open_root,
)


@pytest.mark.parametrize("user_block", [0, 512, 4096])
@pytest.mark.filterwarnings("ignore:.*Lava does not read 'note0'")
def test_what_h5py_writes_is_read(tmp_path: Path, user_block: int) -> None:
    with h5py.File(tmp_path / "a.net", "w", userblock_size=user_block) as file:
        group = file.create_group("layer/0")
        group["type"] = "dense"
        group["shape"] = 2
        group["weight"] = np.array([[2, -4], [6, 8]])
        for index in range(300):  # more strings than one heap holds
            group[f"note{index}"] = f"{index}" * 50
        group["neuron/type"] = "LOIHI"
        for key in ("iDecay", "vDecay", "vThMant"):
            group[f"neuron/{key}"] = 1
    assert read(tmp_path / "a.net").names == ("dense_0",)


def test_an_object_of_size_zero_does_not_hang(tmp_path: Path) -> None:
    """The very damage on which HDF5 2.0 loops for ever."""
    with h5py.File(tmp_path / "a.net", "w") as file:
        group = file.create_group("layer/0")
        group["note"] = "first in the heap"
        group["type"] = "dense"
        group["shape"] = 1
    content = bytearray((tmp_path / "a.net").read_bytes())
    first = content.index(b"GCOL") + 16
    content[first : first + 2] = (9).to_bytes(2, "little")
    content[first + 8 : first + 16] = bytes(8)
    (tmp_path / "a.net").write_bytes(content)
    with pytest.raises(NetxError, match="type: the string is not in its heap"):
        read(tmp_path / "a.net")


def test_a_trial_passes_over_what_is_refused_and_leaves_nothing_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurodeploy.untrusted.hdf5.FILE_ELEMENTS_MAX", 5)
    monkeypatch.setattr("neurodeploy.untrusted.hdf5.ENTRIES_MAX", 2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/too_large"] = np.zeros(6)
        file["a/complex"] = np.zeros(2, complex)
        file["a/link"] = h5py.SoftLink("/nowhere")
        file["a/nothing"] = h5py.Empty("f4")
        file["a/large"] = np.zeros(4)
        file["b/again"] = np.zeros(4)
        file["b/c/d/text"] = "CUBA"
    touched = []
    values = UntrustedGroup._values

    def noted(group: UntrustedGroup, node: h5py.Dataset, name: str) -> object:
        found = values(group, node, name)
        touched.append(name)
        return found

    monkeypatch.setattr(UntrustedGroup, "_values", noted)
    with open_root(tmp_path / "a.h5") as root:
        root.touch()
    assert touched == ["complex", "large", "nothing", "again", "text"]


def test_a_file_may_hold_two_datasets_of_the_largest_size(tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    with h5py.File(path, "w") as file:
        source = UntrustedFile(file, path, NETX)
        for _ in range(2):
            source.spend(ELEMENTS_MAX, "here")
        with pytest.raises(NetxError, match="here: the file's datasets have over 268435456"):
            source.spend(1, "here")
