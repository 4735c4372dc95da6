"""HDF5 files of strangers: strings read without the library, trials that leave nothing out."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

from neurodeploy.errors import NetxError
from neurodeploy.netx import read
from neurodeploy.untrusted_hdf5 import (
    ELEMENTS_MAX,
    NETX,
    HeapError,
    UntrustedFile,
    UntrustedGroup,
    open_root,
    read_strings,
)


def heap_file(
    path: Path,
    *,
    reference: tuple[int, int, int] = (4, 100, 2),
    signature: bytes = b"GCOL",
    version: int = 1,
    size: int = 96,
    objects: tuple[tuple[int, bytes], ...] = ((1, b"first one"), (2, b"CUBA")),
) -> Path:
    """A reference at byte 8, a heap at byte 100."""
    heap = struct.pack("<4sB3xQ", signature, version, size)
    heap += b"".join(
        struct.pack("<HH4xQ", index, 0, len(content)) + content + bytes(-len(content) % 8)
        for index, content in objects
    )
    start = struct.pack("<IQI", *reference)
    path.write_bytes(bytes(8) + start + bytes(100 - 8 - len(start)) + heap + bytes(64))
    return path


def test_a_string_is_found_by_its_index(tmp_path: Path) -> None:
    path = heap_file(tmp_path / "a")
    assert read_strings(path, 8, 1, base=0, longest=256) == [b"CUBA"]
    path = heap_file(tmp_path / "b", reference=(5, 100, 1))
    assert read_strings(path, 8, 1, base=0, longest=256) == [b"first"]


def test_addresses_count_from_the_user_block(tmp_path: Path) -> None:
    path = heap_file(tmp_path / "a", reference=(4, 60, 2))
    assert read_strings(path, 8, 1, base=40, longest=256) == [b"CUBA"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": (0, 100, 2)}, "0 bytes, 1 to 256"),
        ({"reference": (257, 100, 2)}, "257 bytes, 1 to 256"),
        ({"reference": (5, 100, 2)}, "5 bytes in a place of 4"),
        ({"reference": (4, 100, 3)}, "not in its heap"),
        ({"reference": (4, 100, 0)}, "not in its heap"),
        ({"reference": (4, 104, 2)}, "not a heap"),
        ({"reference": (4, 2**63, 2)}, "beyond the end"),
        ({"signature": b"COLG"}, "not a heap"),
        ({"version": 2}, "not a heap"),
        ({"size": 20}, "not in its heap"),
        ({"size": 40}, "not in its heap"),
        ({"size": 64}, "4 bytes in a place of 4"),
        ({"objects": ((0, b""), (2, b"CUBA"))}, "not in its heap"),
        ({"objects": ((1, b""),) * 3}, "not in its heap"),
    ],
)
def test_damaged_heaps(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(HeapError, match=message):
        read_strings(heap_file(tmp_path / "a", **options), 8, 1, base=0, longest=256)


def test_a_heap_without_an_end(tmp_path: Path) -> None:
    """A size beyond the file, and nothing but objects of size zero: the search still ends."""
    path = heap_file(tmp_path / "a", size=2**62, objects=((1, b""),) * 100_000)
    with pytest.raises(HeapError, match="not in its heap"):
        read_strings(path, 8, 1, base=0, longest=256)


def test_reading_at_the_very_end(tmp_path: Path) -> None:
    path = heap_file(tmp_path / "a")
    with pytest.raises(HeapError, match="beyond the end"):
        read_strings(path, path.stat().st_size - 3, 1, base=0, longest=256)


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
    monkeypatch.setattr("neurodeploy.untrusted_hdf5.FILE_ELEMENTS_MAX", 5)
    monkeypatch.setattr("neurodeploy.untrusted_hdf5.ENTRIES_MAX", 2)
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
