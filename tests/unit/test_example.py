from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import neurodeploy as nd
from neurodeploy import example as examples
from neurodeploy.errors import DataError, OutputError
from neurodeploy.files import CERTIFICATE, NET, SAMPLES
from neurodeploy.lava_bridge.lava_simulator import LavaSimulator
from neurodeploy.lava_bridge.worker import run_jobs
from neurodeploy.reports.certified_facts import CertifiedRecording
from neurodeploy.simulation.recording import Recording

NAMES = [card.name for card in nd.list_examples()]


@pytest.mark.parametrize("name", NAMES)
def test_certificate_and_card_say_what_the_file_does(name: str) -> None:
    example = nd.load_example(name)
    known, card = example.certificate, example.card
    assert known.compare_network(example.net) == ()
    assert known.compare_input(example.inputs) == ()
    assert (known.result.compared_with, known.result.differing) == ("real Lava", 0)
    recording = example.run()
    assert CertifiedRecording.of(recording) == known.recording
    assert int((examples.classes_of(recording) == example.labels).sum()) == card.correct
    counted = nd.count_samples(
        example.graph, example.inputs, timing=example.timing, feed=example.feed
    )
    # All integers; the last digits of the mean depend on the order of the sums.
    report = nd.report_counts(example.graph, counted, network_file=example.net)
    assert report.sops_per_sample == pytest.approx(card.sops_per_sample, rel=1e-12)
    energies = {(pair.network.tier, pair.network.preset): pair for pair in report.tiers}
    for energy in card.energies:
        found = energies[energy.tier, energy.preset]
        assert (found.network.low, found.network.high) == pytest.approx((energy.low, energy.high))
        twin = None if found.ann is None else (found.ann.low, found.ann.high)
        assert twin == (
            None if energy.twin_low is None else pytest.approx((energy.twin_low, energy.twin_high))
        )


@pytest.mark.lava
def test_real_lava_makes_the_spikes_of_every_example() -> None:
    """Of the first samples: a certificate says it of all, and took a Lava of its own."""
    jobs, ours = [], []
    for name in NAMES:
        example = nd.load_example(name)
        run, inputs = example.certificate.run, example.inputs[:2]
        simulator = LavaSimulator(
            example.net,
            input_bits=run.input_bits,
            input_shape=run.input_shape,
            spike_exponent=run.spike_exponent,
            layer_names=example.graph.names,
        )
        jobs.append(simulator.job(inputs, timing=example.timing, feed=example.feed))
        ours.append(
            nd.EventSimulator(example.graph).run(inputs, timing=example.timing, feed=example.feed)
        )
    for name, expected, found in zip(NAMES, ours, run_jobs(simulator.python, jobs), strict=True):
        compared = nd.testing.compare(expected, found)
        assert compared.difference is None, (name, compared.difference)


def test_the_examples_are_small_and_of_every_kind() -> None:
    frameworks = ("norse", "rockpool", "sinabs", "snntorch", "spikingjelly")
    ours = ("digits", "digits_slayer", "digits_residual", "digits_pruned", "motion_events")
    assert {*ours, "moving_digits", *(f"digits_{one}" for one in frameworks)} < set(NAMES)
    assert sum(card.bytes for card in nd.list_examples()) < 2_000_000


def test_the_default_runs_with_default_timing() -> None:
    example = nd.load_example()
    recording = nd.EventSimulator(example.graph).run(example.inputs)
    assert isinstance(recording, Recording)
    assert int((recording.prediction == example.labels).sum()) == example.card.correct


def test_an_unknown_name_is_met_with_those_there_are() -> None:
    with pytest.raises(DataError, match=r"Did you mean 'digits_small'\? There are .*digits"):
        nd.load_example("digit_smal")
    with pytest.raises(DataError, match=r"no example '\.\./zoo/digits'\."):
        nd.load_example("../zoo/digits")


def test_a_copy_is_whole_and_replaces_nothing(tmp_path: Path) -> None:
    copied = examples.copy_example("digits_small", tmp_path / "new" / "place")
    assert [path.name for path in copied] == [NET, SAMPLES, CERTIFICATE, examples.CARD]
    source = nd.load_example().net.parent
    for path in copied:
        assert path.read_bytes() == (source / path.name).read_bytes()
    copied[0].write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"holds network\.net, .* nothing is written over"):
        examples.copy_example("digits_small", copied[0].parent)
    assert copied[0].read_bytes() == b"mine"


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, place: Path) -> None:
        if place.name == examples.CARD:
            raise OSError(28, "No space left on device")
        real(source, place)

    real = shutil.copyfile
    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(OutputError, match="No space left"):
        examples.copy_example("digits_small", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
