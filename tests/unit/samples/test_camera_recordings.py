"""Recordings of event cameras as frames."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from neurodeploy.errors import DataError
from neurodeploy.netx import read
from neurodeploy.samples.array_files import CutShortError
from neurodeploy.samples.camera_recordings import read_recording
from neurodeploy.samples.sources import open_samples
from neurodeploy.simulation import EventSimulator

REPORTED = Path(__file__).parent / "reported"


def write_dat(path: Path, events: list[tuple[int, int, int, int]], *, kind: int = 12) -> None:
    """Two words of 32 bits an event: time; polarity from bit 28, row from 14, column from 0."""
    words = b"".join(struct.pack("<II", t, p << 28 | y << 14 | x) for t, x, y, p in events)
    path.write_bytes(b"% Data file containing CD events.\n% Version 2\n" + bytes([kind, 8]) + words)


def test_a_dat_file_becomes_frames(tmp_path) -> None:
    write_dat(tmp_path / "b.dat", [(0, 3, 1, 0), (1, 3, 1, 0), (10, 0, 2, 1), (21, 2, 2, 1)])
    samples = open_samples(tmp_path, steps=2, port=(2, 3, 4))
    expected = np.zeros((1, 2, 2, 3, 4), np.uint8)
    expected[0, 0, 0, 1, 3] = 2
    expected[0, 1, 1, 2, 0] = 1  # the event at 21 lies behind two bins of 10 microseconds
    assert np.array_equal(samples.read(0, 1), expected)
    joined = open_samples(tmp_path / "b.dat", steps=2, port=(1, 3, 4)).read(0, 1)
    assert np.array_equal(joined, expected.sum(2, keepdims=True))


def test_a_folder_of_recordings_is_read_in_order_of_paths(tmp_path) -> None:
    for name, x in (("b", 1), ("a", 0), ("c", 2)):
        (tmp_path / name).mkdir()
        write_dat(tmp_path / name / "1.dat", [(0, x, 0, 0), (9, 0, 0, 0)])
    found = open_samples(tmp_path, steps=1, port=(1, 1, 3)).read(0, 3)
    assert found[:, 0, 0, 0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_a_recording_that_ends_within_an_event_ends_the_samples(tmp_path) -> None:
    for index in range(3):
        write_dat(tmp_path / f"{index}.dat", [(0, 0, 0, 0), (9, 0, 0, 0)])
    last = tmp_path / "2.dat"
    last.write_bytes(last.read_bytes()[:-3])
    samples = open_samples(tmp_path, steps=1, port=(1, 1, 1))
    with pytest.raises(CutShortError, match=r"2\.dat is cut short.*recording 3 of 3") as error:
        samples.read(1, 3)
    assert error.value.complete == 2


@pytest.mark.parametrize(
    ("events", "kind", "words"),
    [
        ([(0, 5, 0, 0)], 12, "column 5"),
        ([(5, 0, 0, 0), (0, 0, 0, 0)], 12, "go backwards"),
        ([(0, 0, 0, 0)], 14, "not a DAT file of 2D or CD events"),
    ],
)
def test_recordings_that_do_not_fit_are_refused(tmp_path, events, kind, words) -> None:
    write_dat(tmp_path / "a.dat", events, kind=kind)
    with pytest.raises(DataError, match=words):
        open_samples(tmp_path, steps=1, port=(1, 2, 2)).read(0, 1)


@pytest.mark.parametrize("name", ["events_2d", "time_turns"])
def test_kinds_and_times_of_dat_events_make_the_same_frames(name) -> None:
    expected = open_samples(REPORTED / "events_cd.dat", steps=6, port=(2, 24, 30)).read(0, 1)
    found = open_samples(REPORTED / f"{name}.dat", steps=6, port=(2, 24, 30)).read(0, 1)
    assert found.any()
    assert np.array_equal(found, expected)


def test_events_2d_reach_a_network() -> None:
    graph = read(REPORTED / "conv.net", input_bits=8)
    frames = open_samples(REPORTED / "events_2d.dat", steps=6, port=(2, 24, 30)).read(0, 1)
    assert np.count_nonzero(EventSimulator(graph).run(frames).spikes_of(0)) == 542


@pytest.mark.parametrize("steps", [1, 6])
def test_a_recording_too_short_for_its_steps_is_refused(steps) -> None:
    """Its bins would last no time, and hold none of its events."""
    samples = open_samples(REPORTED / "one_event.bin", steps=steps, port=(2, 34, 34))
    with pytest.raises(DataError, match=f"lasts 0 microseconds, too short for {steps} steps"):
        samples.read(0, 1)


def test_a_recording_of_no_events_is_a_frame_of_none(tmp_path) -> None:
    write_dat(tmp_path / "a.dat", [])
    assert not open_samples(tmp_path, steps=1, port=(1, 1, 1)).read(0, 1).any()


def test_what_macos_leaves_beside_a_recording_is_none(tmp_path) -> None:
    write_dat(tmp_path / "0.dat", [(0, 0, 0, 0), (9, 0, 0, 0)])
    (tmp_path / "._0.dat").write_bytes(b"Mac OS X")
    assert open_samples(tmp_path, steps=1, port=(1, 1, 1)).count == 1


def test_an_overflow_of_time_is_no_event(tmp_path) -> None:
    """N-MNIST: row 240 means that 2**13 microseconds went by."""
    events = ((5, 6, 100), (0, 240, 0), (7, 8, 50))
    data = b"".join(bytes((x, y)) + (1 << 23 | t).to_bytes(3, "big") for x, y, t in events)
    (tmp_path / "a.bin").write_bytes(data)
    found = read_recording(tmp_path / "a.bin")
    assert found.time.tolist() == [100, 50 + 2**13]
    assert found.x.tolist() == [5, 7]


@pytest.mark.parametrize("port", [None, (10,), (3, 4, 4)])
def test_recordings_need_a_spatial_port(tmp_path, port) -> None:
    write_dat(tmp_path / "a.dat", [(0, 0, 0, 0)])
    with pytest.raises(DataError, match="input of shape"):
        open_samples(tmp_path, steps=1, port=port)


def test_a_folder_without_recordings_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="no event recordings"):
        open_samples(tmp_path, steps=1, port=(1, 1, 1))
