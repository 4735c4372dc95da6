"""Samples from strangers: one clear error, soon, in bounded memory, whatever is in the file."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hostile_files import GOLDEN, NET, hostile, refusal_of

from neurodeploy.errors import DataError
from neurodeploy.samples.camera_recordings import read_recording
from neurodeploy.samples.sources import open_samples, read_labels

ANSWERS = {
    "08": "/shape: cannot be read",
    "09": "/input: cannot be read",
    "10": "/input: cannot be read",
    "11": ": cannot be read (",
    "12": "no data set 'input'",
    "13": "/input: cannot be read (No NumPy equivalent",
    "14": "has a name that is not UTF-8",
    "15": "/address: cannot be read",
    "16": "crashed with signal 11",
    "17": "/shape: a link to somewhere else",
    "18": "/input: a link to somewhere else",
    "19": "'offset' must rise from 0 and have 3 entries",
    "20": "'sample' must have one axis",
    "21": "/offset: 18446744073709551616 bytes are declared, the file holds 0",
    "22": "'offset' must rise from 0 and have 5 entries",
    "23": "-128 samples; 0 to 33554432 are allowed",
    "24": "'sample' must have one axis",
    "25": "/payload: a link to somewhere else",
    "26": "/shape: 4398046511104 bytes are declared",
    "27": "/shape: its values are in another file",
    "33": "is cut short, which leaves no sample whole",
    "34": "an event table without 'offset'",
    "35": "cut short or damaged",
    "70": "cannot be read (PanicException: range start index",
    "71": "cannot be read (PanicException: assertion failed",
    "72": "crashed with signal 6",
    "76": "'offset' must rise from 0 and have 5 entries",
    "77": "'sample' must have one axis",
    "78": "shape must be (samples, T, ...)",
    "79": "-31 samples",
    "80": "'sample' must have one axis",
    "81": "'sample' must rise from 0 to 1",
    "82": "'step' has shape ()",
}
"""By number; where foreign code fails in its own way from version to version, our part of it."""
VERSIONS = ("16", "72")
"""Crashes of compiled code, which another version may report or survive."""


@pytest.mark.parametrize("number", ANSWERS)
def test_hostile_samples_are_refused(neurodeploy, tmp_path: Path, number: str) -> None:
    path = hostile(number)
    if path.suffix == ".aedat4":
        pytest.importorskip("aedat")
        (tmp_path / "in").mkdir()
        source = Path(shutil.copy(path, tmp_path / "in")).parent
        words = ("simulate", GOLDEN.parent / "unit" / "samples" / "reported" / "conv.net")
        words += ("-i", source, "--window", 4)
    else:
        words = ("simulate", NET, "-i", path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = refusal_of(neurodeploy, *words, "-o", tmp_path / "out.npz")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    assert path.name in text
    if number in VERSIONS:
        assert "crashed with signal" in text or "cannot be read" in text
    else:
        assert ANSWERS[number] in text
    assert not list(tmp_path.glob("out*")), text


def test_a_recording_whose_bytes_look_odd_but_are_valid_is_read() -> None:
    assert open_samples(hostile("73"), steps=4, port=(2, 34, 34)).read(0, 1).sum() == 8


# --- nothing but the file that was named ----------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of someone else, as bytes and as HDF5."""
    (tmp_path / "bytes").write_bytes(bytes(range(96)) * 2)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["input"] = np.ones((2, 4, 24), np.uint8)
        file["label"] = np.zeros(2, int)
    return tmp_path / "secret.h5"


def link_out(file: h5py.File, name: str) -> None:
    file[name] = h5py.ExternalLink("secret.h5", f"/{name}")


def link_softly(file: h5py.File, name: str) -> None:
    file["away"] = h5py.ExternalLink("secret.h5", "/")
    file[name] = h5py.SoftLink(f"/away/{name}")


def link_nowhere(file: h5py.File, name: str) -> None:
    file[name] = h5py.SoftLink("/nowhere")


def link_to_itself(file: h5py.File, name: str) -> None:
    file[name] = h5py.SoftLink(f"/{name}")


def store_outside(file: h5py.File, name: str) -> None:
    shape = (2,) if name == "label" else (2, 4, 24)
    file.create_dataset(name, shape, np.uint8, external=[("bytes", 0, h5py.h5f.UNLIMITED)])


def map_others(file: h5py.File, name: str) -> None:
    shape = (2,) if name == "label" else (2, 4, 24)
    layout = h5py.VirtualLayout(shape, np.uint8)
    layout[...] = h5py.VirtualSource("secret.h5", name, shape)
    file.create_virtual_dataset(name, layout)


WAYS_OUT = (link_out, link_softly, link_nowhere, link_to_itself, store_outside, map_others)
refused = pytest.raises(DataError, match=r"a link to somewhere else|are in another file")


@pytest.mark.parametrize("lead_out", WAYS_OUT)
def test_samples_come_from_the_named_file_alone(secret, monkeypatch, lead_out) -> None:
    monkeypatch.chdir(secret.parent)
    path = secret.parent / "a.h5"
    with h5py.File(path, "w") as file:
        lead_out(file, "input")
    with refused:
        open_samples(path)


@pytest.mark.parametrize("lead_out", WAYS_OUT)
def test_labels_come_from_the_named_file_alone(secret, monkeypatch, lead_out) -> None:
    monkeypatch.chdir(secret.parent)
    path = secret.parent / "a.h5"
    with h5py.File(path, "w") as file:
        file["input"] = np.ones((2, 4, 24), np.uint8)
        lead_out(file, "label")
    open_samples(path)
    with refused:
        read_labels(path, samples=2, classes=9)


@pytest.mark.parametrize("lead_out", WAYS_OUT)
@pytest.mark.parametrize("column", ["shape", "offset", "step", "address", "payload"])
def test_columns_come_from_the_named_file_alone(secret, monkeypatch, lead_out, column) -> None:
    monkeypatch.chdir(secret.parent)
    path = secret.parent / "a.h5"
    columns = {"shape": [2, 4, 24], "offset": [0, 1, 2], "step": [0, 1], "address": [0, 1]}
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            if name != column:
                file[name] = np.array(values)
        lead_out(file, column)
    with refused:
        open_samples(path)


def test_a_group_of_another_file_is_not_entered(secret, monkeypatch) -> None:
    monkeypatch.chdir(secret.parent)
    path = secret.parent / "a.h5"
    with h5py.File(path, "w") as file:
        file["away"] = h5py.ExternalLink("secret.h5", "/")
        file["own/frames"] = np.ones((2, 4, 24), np.uint8)
    with refused:
        open_samples(path, key="away/input")
    with pytest.raises(DataError, match=r"it holds 'own/frames'\. Name"):
        open_samples(path)


# --- what a file may hold -------------------------------------------------------------------------


def test_a_file_that_changes_while_it_is_read_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    for count in (40, 41):
        with h5py.File(path, "w") as file:
            file["input"] = np.ones((count, 4, 24), np.uint8)
        if count == 40:
            samples = open_samples(path)
            assert samples.read(0, 40).all()
    with pytest.raises(DataError, match="was changed while it was read"):
        samples.read(0, 40)


@pytest.mark.parametrize(
    ("shape", "more", "words"),
    [
        ([2, 10**6, 10**6], {"offset": [0, 1, 2]}, "samples of shape (1000000, 1000000) have"),
        ([10**15, 4, 24], {"sample": [0, 1]}, "0 to 33554432 are allowed"),
        ([2, 4, 24], {"offset": [0, 2**62 + 5, -(2**63) + 10]}, "'offset' must rise"),
        ([2, 4, 24], {"sample": np.array([0, 2**63], np.uint64)}, "'sample' must rise"),
        ([2, 4, 24], {"sample": [0, -1]}, "'sample' must rise"),
        ([2, 1, 1], {"offset": [0, 2, 2]}, "a sample of 2 events; shape (1, 1) has room for 1"),
        ([2, 4, 24], {"offset": [0, 1, 2], "step": np.array([0, 2**63], np.uint64)}, "step from"),
    ],
)
def test_sizes_of_tables_are_bounded(tmp_path: Path, shape, more, words) -> None:
    columns = {"shape": shape, "step": [0, 1], "address": [0, 1]} | more
    arrays = {name: np.array(values) for name, values in columns.items()}
    np.savez(tmp_path / "a.npz", **arrays)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    for name in ("a.npz", "a.h5"):
        with pytest.raises(DataError) as error:
            open_samples(tmp_path / name).read(0, 2)
        assert words in str(error.value)


def test_an_entry_of_an_archive_declares_no_more_than_it_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, input=np.zeros((2, 4, 24), np.uint8))
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02") + 24  # the size in the list at the end
    content[place : place + 4] = (2**31).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match="2147483648 bytes, more than the file can hold"):
        open_samples(path)


def test_a_huge_recording_is_not_loaded(tmp_path: Path) -> None:
    with (tmp_path / "a.bin").open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(DataError, match="3221225472 bytes, at most 2147483648 are read"):
        read_recording(tmp_path / "a.bin")
