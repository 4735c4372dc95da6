"""Advice before work: on convertible networks, on others, with frames and without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from neurodeploy.chips.cores import estimate_cores
from neurodeploy.chips.layer_sizes import sizes_of
from neurodeploy.chips.target import Target
from neurodeploy.errors import ConversionError, OnnxError
from neurodeploy.pipeline.advising import advise
from neurodeploy.pipeline.sampled_frames import effective_macs, frame_facts, run_frames

pytest.importorskip("onnxruntime")
GOLDEN = Path(__file__).parents[2] / "golden" / "sigma_delta"


def sequences_of(name: str) -> np.ndarray:
    with np.load(GOLDEN / f"{name}.npz") as found:
        frames = found["x"] / float(found["s_in"])
    return frames[None]


def test_without_samples_nothing_is_measured_and_all_is_a_range() -> None:
    advice = advise(GOLDEN / "07_relu6_leaky.onnx")
    figures = advice.figures
    assert advice.is_convertible
    assert figures is not None
    assert [one.is_measured for one in figures.frames] == [False] * 3
    assert figures.cost_of("still").sops == (0, 0)
    assert figures.cost_of("new").sops.high > figures.cost_of("moving").sops.high
    assert figures.neurons.low < figures.neurons.high  # ceilings are reached or not
    assert (figures.facts, figures.errors) == (None, None)
    assert "as is assumed" in advice.verdict


@pytest.mark.parametrize("name", ["04_residual_identity", "07_relu6_leaky"])
def test_measured_costs_lie_within_the_bounds_of_sizes(name: str) -> None:
    measured, assumed = advise(GOLDEN / f"{name}.onnx", sequences_of(name)), advise(
        GOLDEN / f"{name}.onnx"
    )  # fmt: skip
    own, wide = measured.figures, assumed.figures
    assert own is not None
    assert wide is not None
    assert all(one.is_measured for one in own.frames)
    assert own.cost_of("still").sops == (0, 0)
    most = wide.cost_of("new").sops.high
    for kind in ("moving", "new"):
        assert 0 < own.cost_of(kind).sops.low <= own.cost_of(kind).sops.high <= most
    assert own.ann_macs == wide.ann_macs
    assert own.ann.memory.low <= wide.ann.memory.low  # zero activations can be skipped
    for known, guessed in zip(own.cores, wide.cores, strict=True):
        assert known.cores is not None
        assert guessed.cores is not None
        # the constant neuron makes layers larger by a channel
        assert guessed.cores.low <= known.cores.low <= known.cores.high <= guessed.cores.high + 2


def test_cores_are_those_of_the_converted_network() -> None:
    with np.load(GOLDEN / "11_digits_trained.npz") as found:
        frames = (found["x"] / float(found["s_in"])).reshape(4, 40, 1, 8, 8)
    advice = advise(GOLDEN / "11_digits_trained.onnx", frames)
    figures = advice.figures
    assert figures is not None
    assert [need.text for need in figures.cores] == ["5 cores, 1 chip", "5 cores, 1 chip"]
    assert figures.latency == (4, 4)
    facts = figures.facts
    assert facts is not None
    # every digit is shown four times
    assert facts.repeated == pytest.approx(30 / 39, abs=1e-9)
    assert advice.suits == "ann"
    assert "that speaks for the ordinary network" in advice.verdict


def test_shares_of_a_run_are_those_of_its_messages() -> None:
    """Frame by frame and neuron by neuron, in plain loops."""
    from neurodeploy.conversion.assembly import with_latency
    from neurodeploy.onnx_models.rectified_network import read_rectified_network
    from neurodeploy.simulation import EventSimulator, Feed, Stream

    graph = read_rectified_network(GOLDEN / "02_mlp_signed.onnx").graph
    frames = sequences_of("02_mlp_signed")[:, :12]
    run = run_frames(graph, frames)
    assert run.graph.frame_scales is not None
    shown = np.concatenate([frames, frames[:, -1:]], axis=1) * run.graph.frame_scales.input
    integers = np.rint(shown).astype(np.int32)
    recording = EventSimulator(run.graph).run(
        with_latency(run.graph, integers), timing=Stream(), feed=Feed.NEURON
    )
    for index, layer in enumerate(run.graph.layers[1:], start=1):
        source = layer.connections[0].source
        weight = layer.connections[0].synapse.weight  # type: ignore[union-attr]
        sent = recording.spikes_of(source)[0]
        used = sum(
            int(np.count_nonzero(weight[:, neuron])) for neuron in np.flatnonzero(sent[index - 1])
        )  # the first frame is `index - 1` steps behind
        share = run.shares[0]["new"][index]
        assert share * run.load.layers[index].sops == pytest.approx(used)
    assert set(run.shares[0]["still"]) == {0.0}


def test_facts_of_frames() -> None:
    frames = np.zeros((1, 4, 5))
    frames[0, 1:, 0] = 9
    frames[0, 2:, 1] = 1
    facts = frame_facts(frames)
    assert facts.changed == pytest.approx(2 / 15)
    assert facts.changed_much == pytest.approx(1 / 15)
    assert facts.repeated == pytest.approx(1 / 3)
    assert facts.nonzero == pytest.approx(5 / 20)
    assert (facts.levels, facts.are_events) == (3, False)
    assert frame_facts(frames[:, :2]).are_events
    assert frame_facts(frames[:, :1]).changed is None


def test_effective_macs_leave_out_zeros() -> None:
    from neurodeploy.conversion.module_tracing import trace_rectified

    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    frames = torch.randn(7, 4)
    frames[:, 0] = 0
    with torch.no_grad():
        hidden = module[:2](frames)
    expected = 3 * 3 + 2 * float((hidden != 0).sum()) / 7
    graph = trace_rectified(module, (4,))
    assert effective_macs(graph, frames.double().numpy()) == pytest.approx(expected)


def test_sparse_events_of_a_module() -> None:
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)
    ).eval()  # fmt: skip
    events = np.random.default_rng(0).random((3, 20, 2, 8, 8)) < 0.02
    advice = advise(module, events.astype(np.float64))
    assert advice.figures is not None
    assert advice.figures.facts is not None
    assert advice.figures.facts.are_events
    assert advice.figures.spiking_steps == (1, 1)
    assert advice.verdict.startswith("Sequential can be converted")
    assert "frames are sparse events" in advice.verdict


def test_obstacles_and_what_is_left_once_they_are_gone() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(144, 3))
    advice = advise(module, shape=(1, 8, 8))
    assert (advice.suits, advice.is_convertible) == ("none", False)
    assert [one.node for one in advice.obstacles] == ["1"]
    assert advice.figures is not None
    assert advice.figures.is_supposed
    assert "with ReLU in their places, trained anew" in advice.verdict
    cut = advise(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Upsample(scale_factor=2)), shape=(1, 8, 8))
    assert cut.figures is None
    with pytest.raises(ConversionError, match="Give `shape`"):
        advise(module)


def test_refused_models_get_advice_not_errors() -> None:
    for path in sorted((GOLDEN / "refused").glob("*.onnx")):
        if path.stem == "dynamic_shape":
            with pytest.raises(OnnxError, match="--bind"):
                advise(path)
            continue
        advice = advise(path)
        assert advice.suits == "none"
        assert advice.obstacles
        assert "cannot be converted as it is" in advice.verdict


def test_a_network_that_frames_do_not_wake() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        module[0].bias.fill_(-100.0)
    frames = np.random.default_rng(0).random((1, 8, 4))
    advice = advise(module, frames)
    assert advice.suits == "none"
    assert "no calibration frame activates it" in advice.obstacles[0].reason
    assert advice.figures is not None
    assert not advice.figures.is_supposed


def test_cores_are_estimated_from_what_is_written() -> None:
    """The sizes of a chain give the cores of its integers, but for the constant neuron."""
    from neurodeploy import netx
    from neurodeploy.conversion.chaining import lower_rectified
    from neurodeploy.onnx_models.rectified_network import read_rectified_network
    from neurodeploy.pipeline.advising import sizes_of_chain

    chain = lower_rectified(read_rectified_network(GOLDEN / "05_residual_projection.onnx").graph)
    written = sizes_of(netx.read(GOLDEN / "05_residual_projection.net"))
    own = sizes_of_chain(chain)
    assert [len(one.shape) for one in own] == [len(one.shape) for one in written]
    target = Target.load("loihi2")
    assert estimate_cores(own, target).cores_text == estimate_cores(written, target).cores_text
