"""Long runs: the result of any division is that of one run, and nothing finished is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from neurodeploy import netx
from neurodeploy.errors import (
    DataError,
    NeurodeployWarning,
    OutputError,
    SimulationError,
)
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.simulation import (
    EventSimulator,
    Record,
    Recording,
    Stream,
)
from neurodeploy.simulation.long_runs import long_run, pieces as pieces_module
from neurodeploy.simulation.long_runs.engines import Crew, WorkerPool
from neurodeploy.simulation.long_runs.long_run import (
    LongRun,
    parts_folder,
    run_samples,
)
from neurodeploy.simulation.long_runs.memory import Portion
from neurodeploy.simulation.long_runs.parts import (
    PartStore,
    SampleDigest,
    digest_graph,
    seal_part,
)
from neurodeploy.simulation.long_runs.pieces import Piece, PiecePlan
from neurodeploy.simulation.recording_files import save_recording

GOLDEN = Path(__file__).parents[3] / "golden"
COUNT = 30


@pytest.fixture(scope="module")
def graph() -> FixedPointGraph:
    return netx.read(GOLDEN / "10_conv_flatten_dense.net")


@pytest.fixture(scope="module")
def inputs() -> npt.NDArray[np.uint8]:
    return (np.random.default_rng(0).random((COUNT, 4, 3, 8, 8)) < 0.3).astype(np.uint8)


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have runs take so many samples at a time."""

    def choose(size: int) -> None:
        portion = Portion(samples=size, working_bytes=2**24, peak_bytes=0)
        monkeypatch.setattr(long_run, "divide_memory", lambda *_, **__: portion)

    return choose


@pytest.fixture
def whole(graph, inputs, tmp_path: Path) -> bytes:
    """What one run over all samples writes."""
    path = tmp_path / "whole.npz"
    save_recording(path, EventSimulator(graph).run(inputs))
    return path.read_bytes()


def interrupt_after(pieces: int) -> Callable[[int, int], None]:
    """Make a progress callback that behaves like Ctrl-C."""
    calls = iter(range(pieces - 1))

    def progress(done: int, total: int) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("size", [1, 7, 29, 30, 1000])
def test_pieces_give_the_bytes_of_one_run(graph, inputs, tmp_path, in_pieces, whole, size) -> None:
    in_pieces(size)
    done = run_samples(graph, inputs, tmp_path / "out.npz")
    assert (tmp_path / "out.npz").read_bytes() == whole
    assert not parts_folder(tmp_path / "out.npz").exists()
    recording = EventSimulator(graph).run(inputs)
    assert done.facts.spikes == recording.spike_totals()
    assert done.facts.health == recording.health
    assert (done.facts.samples, done.facts.steps, done.resumed) == (COUNT, 4, 0)


@pytest.mark.parametrize(
    "record",
    [
        Record(spikes=(), states=(), counts=True),
        Record(spikes=("dense_4",), states=("conv_1",), final_states=True),
    ],
)
@pytest.mark.parametrize("timing", [None, Stream(steps=6, reset_interval=3)])
def test_all_that_can_be_recorded_is_joined(
    graph, inputs, tmp_path, in_pieces, record, timing
) -> None:
    options = {"record": record} | ({} if timing is None else {"timing": timing})
    save_recording(tmp_path / "whole.npz", EventSimulator(graph).run(inputs, **options))
    in_pieces(11)
    run_samples(graph, inputs, tmp_path / "out.npz", **options)
    assert (tmp_path / "out.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_graded_events_are_joined(tmp_path, in_pieces) -> None:
    sdnn = netx.read(GOLDEN / "22_sdnn.net")
    inputs = np.random.default_rng(0).integers(-60, 60, (9, 5, *sdnn.input.shape))
    options = {"feed": "neuron"} if sdnn.has_input_neuron else {}
    from neurodeploy.simulation import Feed

    options = {name: Feed(value) for name, value in options.items()}
    save_recording(tmp_path / "whole.npz", EventSimulator(sdnn).run(inputs, **options))
    in_pieces(4)
    run_samples(sdnn, inputs, tmp_path / "out.npz", **options)
    assert (tmp_path / "out.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_hdf5_holds_the_same_arrays(graph, inputs, tmp_path, in_pieces, whole) -> None:
    in_pieces(8)
    run_samples(graph, inputs, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file, np.load(tmp_path / "whole.npz") as expected:
        assert set(file) == set(expected.files)
        assert [name.decode() for name in file["layers"]] == list(expected["layers"])
        for name in set(file) - {"layers"}:
            assert file[name].dtype == expected[name].dtype
            assert np.array_equal(file[name], expected[name])


def test_samples_come_from_files_data_sets_and_generators(
    graph, inputs, tmp_path, in_pieces, whole
) -> None:
    in_pieces(8)
    np.save(tmp_path / "in.npy", inputs)
    pairs = [(sample, 1) for sample in inputs]
    for samples in (tmp_path / "in.npy", str(tmp_path / "in.npy"), pairs, iter(inputs)):
        run_samples(graph, samples, tmp_path / "out.npz")
        assert (tmp_path / "out.npz").read_bytes() == whole


# --- samples that workers read themselves -------------------------------------------------------


class PoolHere(WorkerPool[PiecePlan]):
    """Two workers that are this process; notes the pieces that they get."""

    def run(self, function, tasks, *, waiting=1):  # type: ignore[no-untyped-def]
        for task in tasks:
            self.shared.seen.append(task)
            yield function(self.shared.plan, task)


@dataclass
class Seen:
    plan: PiecePlan
    seen: list[Piece] = field(default_factory=list)


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> list[Piece]:
    """Have workers be this process; return the pieces that they get."""
    found: list[Piece] = []

    @contextmanager
    def open_here(crew: Crew, plan: PiecePlan) -> Iterator[WorkerPool[object]]:
        yield PoolHere(Seen(plan, found), 2)

    monkeypatch.setattr(long_run, "open_pool", open_here)
    return found


def test_workers_read_the_file_themselves(graph, inputs, tmp_path, pieces, whole) -> None:
    np.save(tmp_path / "in.npy", inputs)
    run_samples(graph, tmp_path / "in.npy", tmp_path / "out.npz", crew=Crew(workers=2))
    assert all(one.samples is None for one in pieces)
    sizes = [one.last - one.first for one in pieces]
    assert sizes == [7, 5, 4, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1]  # a quarter of what is left, at least 1
    assert [one.first for one in pieces] == [sum(sizes[:number]) for number in range(len(sizes))]
    assert (tmp_path / "out.npz").read_bytes() == whole


def test_large_clusters_get_few_pieces() -> None:
    assert [long_run.piece_number(workers) for workers in (2, 1600, 9000)] == [32, 4096, 9000]


def test_samples_are_sent_to_workers_that_do_not_find_the_file(
    graph, inputs, tmp_path, pieces, whole, monkeypatch
) -> None:
    np.save(tmp_path / "in.npy", inputs)
    monkeypatch.setattr(
        pieces_module,
        "read_located",
        lambda _, first, last: inputs[first:last] if first < 7 else None,
    )
    with pytest.warns(NeurodeployWarning, match="a worker does not find the same file"):
        run_samples(graph, tmp_path / "in.npy", tmp_path / "out.npz", crew=Crew(workers=2))
    assert [one.first for one in pieces if one.samples is None] == [0, 7]
    sent = [one for one in pieces if one.samples is not None]
    assert (sent[0].first, sent[-1].last) == (7, COUNT)
    assert (tmp_path / "out.npz").read_bytes() == whole


# --- interrupted runs ---------------------------------------------------------------------------


def test_an_interrupted_run_goes_on_where_it_was(graph, inputs, tmp_path, in_pieces, whole) -> None:
    output = tmp_path / "out.npz"
    in_pieces(4)
    with pytest.raises(KeyboardInterrupt):
        run_samples(graph, inputs, output, progress=interrupt_after(3))
    assert not output.exists()
    parts = {path: path.stat().st_mtime_ns for path in parts_folder(output).glob("part-*")}
    assert len(parts) == 3
    with pytest.raises(OutputError, match=r"12 finished samples.*--resume"):
        run_samples(graph, inputs, output)
    in_pieces(5)  # another division than before
    seen: list[tuple[int, int]] = []

    def watch(done: int, total: int) -> None:
        seen.append((done, total))
        assert {path: path.stat().st_mtime_ns for path in parts} == parts  # none is made again

    done = run_samples(graph, inputs, output, resume=True, progress=watch)
    assert (done.resumed, seen[0], seen[-1]) == (12, (17, COUNT), (COUNT, COUNT))
    assert output.read_bytes() == whole
    assert not parts_folder(output).exists()


def test_gaps_between_parts_are_filled(graph, inputs, tmp_path, in_pieces, whole) -> None:
    """Workers finish out of order, so that an interruption can leave any of the pieces out."""
    output = tmp_path / "out.npz"
    in_pieces(4)
    with pytest.raises(KeyboardInterrupt):
        run_samples(graph, inputs, output, progress=interrupt_after(6))
    for number in (0, 12):
        (parts_folder(output) / f"part-{number:012d}-{number + 4:012d}.npz").unlink()
    in_pieces(3)
    assert run_samples(graph, inputs, output, resume=True).resumed == 16
    assert output.read_bytes() == whole


def test_an_interruption_while_joining_costs_nothing(
    graph, inputs, tmp_path, in_pieces, whole, monkeypatch
) -> None:
    output = tmp_path / "out.npz"
    in_pieces(9)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(long_run, "write_arrays", stop)
        with pytest.raises(KeyboardInterrupt):
            run_samples(graph, inputs, output)
    assert run_samples(graph, inputs, output, resume=True).resumed == COUNT
    assert output.read_bytes() == whole


def interrupted(
    graph: FixedPointGraph, inputs: npt.NDArray[np.uint8], output: Path, **options: object
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_samples(graph, inputs, output, progress=interrupt_after(2), **options)


def test_other_networks_inputs_and_options_are_refused(
    graph, inputs, tmp_path, in_pieces, whole
) -> None:
    output = tmp_path / "out.npz"
    in_pieces(4)
    interrupted(graph, inputs, output)

    def refused(*arguments: object, **options: object) -> str:
        with pytest.raises(DataError) as error:
            run_samples(*arguments, output, resume=True, **options)
        return str(error.value)

    other = netx.read(GOLDEN / "10_conv_flatten_dense.net", input_bits=1)
    assert "different: network" in refused(other, inputs)
    assert "different: time" in refused(graph, inputs, timing=Stream())
    assert "different: what is recorded" in refused(graph, inputs, record=Record(states=()))
    assert "different: shape of a sample" in refused(graph, inputs[:, :3])
    changed = inputs.copy()
    changed[6, 3, 2, 7, 7] ^= 1
    assert "samples 4 to 7 are not those that" in refused(graph, changed)
    changed = inputs.copy()
    changed[9] ^= 1  # not answered yet: nothing is mixed
    run_samples(graph, changed, output, resume=True)
    save_recording(tmp_path / "changed.npz", EventSimulator(graph).run(changed))
    assert output.read_bytes() == (tmp_path / "changed.npz").read_bytes()


def test_two_processes_do_not_write_into_one_run(graph, inputs, tmp_path, in_pieces) -> None:
    in_pieces(4)
    output = tmp_path / "out.npz"
    interrupted(graph, inputs, output)

    def again(done: int, total: int) -> None:
        with pytest.raises(OutputError, match="another process"):
            run_samples(graph, inputs, output, resume=True)

    run_samples(graph, inputs, output, resume=True, progress=again)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.read_bytes()[:100],
        lambda path: b"",
        lambda path: path.read_bytes()[:-2] + b"no",
        lambda path: path.read_bytes().replace(b"spikes_0", b"spikes_1"),
        lambda path: path.read_bytes()[:-66] + b"\0\0",  # of an earlier version: no digest
        lambda path: seal_part(path.read_bytes()[:-64], 0, 4, "another run"),
        lambda path: path.with_name("part-000000000004-000000000008.npz").read_bytes(),
    ],
    ids=["cut", "empty", "digest", "bytes", "earlier version", "other run", "other samples"],
)
def test_a_changed_part_is_run_again(graph, inputs, tmp_path, in_pieces, whole, change) -> None:
    output = tmp_path / "out.npz"
    in_pieces(4)
    interrupted(graph, inputs, output)
    part = min(parts_folder(output).glob("part-*"))
    part.write_bytes(change(part))
    with pytest.warns(NeurodeployWarning, match=r"part-0+-0+4\.npz: deleted, and its samples"):
        run_samples(graph, inputs, output, resume=True)
    assert output.read_bytes() == whole


def test_a_part_changed_while_others_are_run_is_refused(
    graph, inputs, tmp_path, in_pieces, whole
) -> None:
    output = tmp_path / "out.npz"
    in_pieces(4)
    interrupted(graph, inputs, output)
    part = min(parts_folder(output).glob("part-*"))

    def change(done: int, total: int) -> None:
        part.write_bytes(part.read_bytes()[:-2] + b"no")

    with pytest.raises(DataError, match=r"part-0+-0+4\.npz: changed since it was written"):
        run_samples(graph, inputs, output, resume=True, progress=change)
    with pytest.warns(NeurodeployWarning, match="deleted"):
        run_samples(graph, inputs, output, resume=True)
    assert output.read_bytes() == whole


def test_parts_are_archives_that_numpy_reads(graph, inputs, tmp_path, in_pieces) -> None:
    in_pieces(4)
    interrupted(graph, inputs, tmp_path / "out.npz")
    part = min(parts_folder(tmp_path / "out.npz").glob("part-*"))
    with np.load(part) as archive:
        assert "facts" in archive.files


def test_other_files_beside_the_parts_are_left(graph, inputs, tmp_path, in_pieces, whole) -> None:
    output = tmp_path / "out.npz"
    in_pieces(4)
    interrupted(graph, inputs, output)
    folder = parts_folder(output)
    others = [folder / name for name in ("part-x-y.npz", "part-1-2-3.npz", "notes.txt")]
    for other in others:
        other.write_text("mine")
    run_samples(graph, inputs, output, resume=True)
    assert output.read_bytes() == whole
    assert all(other.read_text() == "mine" for other in others)


def test_resume_without_parts_begins(graph, inputs, tmp_path, in_pieces, whole) -> None:
    in_pieces(4)
    assert run_samples(graph, inputs, tmp_path / "out.npz", resume=True).resumed == 0
    assert (tmp_path / "out.npz").read_bytes() == whole


# --- inputs that end or do not fit --------------------------------------------------------------


@pytest.mark.parametrize("size", [4, 1000])
def test_of_a_cut_input_the_whole_samples_are_run_and_kept(
    graph, inputs, tmp_path, in_pieces, whole, size
) -> None:
    output, path = tmp_path / "out.npz", tmp_path / "in.npy"
    np.save(path, inputs)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    in_pieces(size)
    with pytest.raises(DataError, match=r"cut short: 19 of 30 samples are complete.*--resume"):
        run_samples(graph, path, output)
    assert not output.exists()
    path.write_bytes(data)
    assert run_samples(graph, path, output, resume=True).resumed == 19
    assert output.read_bytes() == whole


def test_a_value_that_does_not_fit_costs_nothing_before_it(graph, inputs, tmp_path, in_pieces):
    in_pieces(5)
    wrong = inputs.astype(np.int64)
    wrong[17, 0, 0, 0, 0] = 2**40
    wrong[2:10, 0, 0, 0, 0] = np.arange(2, 10)  # several pieces warn, each with other numbers
    with (
        pytest.warns(NeurodeployWarning) as warned,
        pytest.raises(DataError, match=r"samples 15 to 19: input: values .* 32 bits"),
    ):
        run_samples(graph, wrong, tmp_path / "out.npz")
    assert len([one for one in warned if "binary port" in str(one.message)]) == 1
    assert len(list(parts_folder(tmp_path / "out.npz").glob("part-*"))) == 3


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros((0, 4, 3, 8, 8), int), "no samples"),
        (np.zeros((2, 4, 3, 8, 9), int), "shape"),
        (np.zeros((2, 4, 3, 8, 8)), "float64"),
        (iter(()), "no samples"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    graph, tmp_path, samples, words
) -> None:
    with pytest.raises(DataError, match=words):
        run_samples(graph, samples, tmp_path / "out.npz")
    assert list(tmp_path.iterdir()) == []


def test_unknown_formats_of_output_are_refused(graph, inputs, tmp_path) -> None:
    with pytest.raises(OutputError, match=r"\.npz, \.h5, \.hdf5"):
        run_samples(graph, inputs, tmp_path / "out.csv")


def test_an_iterator_that_ends_is_no_error(graph, inputs, tmp_path, in_pieces) -> None:
    def some() -> Iterator[npt.NDArray[np.uint8]]:
        yield from inputs[:10]

    in_pieces(4)
    done: LongRun = run_samples(graph, some(), tmp_path / "out.npz")
    assert done.facts.samples == 10


# --- digests ------------------------------------------------------------------------------------


def test_digests_tell_samples_and_networks_apart(graph, inputs) -> None:
    def digest(*pieces: npt.NDArray[np.integer]) -> str:
        found = SampleDigest()
        for piece in pieces:
            found.add(piece.astype(np.int32))
        return found.hex()

    assert digest(inputs) == digest(inputs[:9], inputs[9:])
    for kind in (np.uint8, bool, np.int64, ">i2"):
        stored = SampleDigest()
        stored.add(inputs.astype(kind))
        assert stored.hex() == digest(inputs)
    signed = SampleDigest()
    signed.add(-inputs.astype(np.int8))
    assert signed.hex() == digest(-inputs.astype(np.int64)) != digest(inputs)
    assert digest(inputs) != digest(inputs[::-1])
    assert digest(inputs) != digest(inputs.reshape(COUNT, 4, 3, 64))
    again = netx.read(GOLDEN / "10_conv_flatten_dense.net")
    assert digest_graph(graph) == digest_graph(again)
    names = ("01_dense_basic", "05_dense_delay", "10_conv_flatten_dense", "22_sdnn")
    others = {digest_graph(netx.read(GOLDEN / f"{name}.net")) for name in names}
    assert len(others) == len(names)


def test_a_digest_leaves_nothing_out(graph) -> None:
    """The text of a mapping shortens its arrays: two networks would be one."""
    with pytest.raises(SimulationError, match=r"dict is of a kind for which .*digest_graph has no"):
        digest_graph((graph, {"weight": np.zeros(2000)}))


def test_a_folder_of_something_else_is_left_alone(tmp_path) -> None:
    (tmp_path / "keep.txt").write_text("mine")
    store = PartStore(tmp_path, {"network": "1"})
    with store.locked():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["keep.txt"]


def test_a_run_beside_a_running_one_is_not_told_to_delete_its_parts(
    graph, inputs, tmp_path
) -> None:
    store = PartStore(parts_folder(tmp_path / "out.npz"), {"network": "1"})
    with store.locked(), pytest.raises(OutputError, match="another process is writing there"):
        run_samples(graph, inputs, tmp_path / "out.npz")


def test_recordings_are_those_of_the_simulator(graph, inputs, tmp_path) -> None:
    """The reference of this file itself: arrays as recorded, under their names."""
    recording: Recording = EventSimulator(graph).run(inputs)
    save_recording(tmp_path / "a.npz", recording)
    with np.load(tmp_path / "a.npz") as file:
        assert np.array_equal(file["spikes_1"], recording.spikes[1])
        assert np.array_equal(file["voltage"], recording.voltage)


def test_too_little_memory_says_how_much_is_needed(graph, inputs, tmp_path) -> None:
    with pytest.raises(SimulationError, match=r"one sample at a time needs .*--memory"):
        run_samples(graph, inputs, tmp_path / "out.npz", memory=10**6)
