"""Recurrent and delayed layers of a network: running, keeping, tracing, quantizing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from neurodeploy.chips.target import Target
from neurodeploy.errors import CheckpointError
from neurodeploy.interchange.floating import run_graph
from neurodeploy.ir.float_layers import SpikeDelay
from neurodeploy.nn import Dense, export_state_dict
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.nn.spiking_block import Delay
from neurodeploy.nn.tracing import trace
from neurodeploy.passes import fold_batchnorm, lower_current_biases, run_passes
from neurodeploy.passes.calibration import calibrate
from neurodeploy.recipes.recipe import Architecture
from neurodeploy.simulation import EventSimulator

STEPS = 9
LIF_NEURON: dict[str, object] = {"tau": 0.75, "threshold": 0.1}
CUBA_NEURON: dict[str, object] = {
    "model": "cuba",
    "threshold": 0.25,
    "current_decay": 0.5,
    "voltage_decay": 0.25,
}


def network(neuron: dict[str, object], *, batch_norm: bool = False) -> SpikingNetwork:
    dense = {"type": "dense", "batch_norm": batch_norm}
    layers = [
        {**dense, "name": "loop", "neurons": 12, "recurrent": True},
        {**dense, "name": "sender", "neurons": 10},
        {"type": "delay", "name": "late", "longest": 4},
        {**dense, "name": "reader", "neurons": 8},
        {"type": "delay", "name": "later", "longest": 3},
    ]
    made = SpikingNetwork(
        Architecture.from_dict(
            {
                "shape": [6],
                "classes": 3,
                "input_bits": 0,
                "network": {"steps": STEPS, "layers": layers},
                "neuron": neuron,
            },
            where="test",
        ),
        seed=1,
    )
    if batch_norm:
        made.train()
        for _ in range(40):  # running statistics
            made(spikes(64))
    return made.eval()


def spikes(samples: int = 20) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 2, (samples, STEPS, 6), generator=generator)


KINDS = {
    "lif": (LIF_NEURON, False),
    "normalized lif": (LIF_NEURON, True),
    "cuba": (CUBA_NEURON, False),
    "normalized cuba": (CUBA_NEURON, True),  # a channel that always fires carries each bias
}


@pytest.mark.parametrize("kind", KINDS)
def test_graph_and_integers_compute_what_the_network_computes(kind: str) -> None:
    made = network(KINDS[kind][0], batch_norm=KINDS[kind][1])
    with torch.no_grad():
        output, found = made.forward_with_spikes(spikes())
    assert set(found) == {"loop", "sender", "reader"}  # a delay has no neurons
    graph = run_passes(trace(made), fold_batchnorm)
    run = run_graph(graph, spikes().numpy().astype(np.float64))
    lowered = lower_current_biases(graph, steps=STEPS)
    assert lowered.is_exact
    samples = spikes().numpy().astype(np.int32)
    fixed = calibrate(lowered.graph, Target.load("loihi2"), samples).graph
    recording = EventSimulator(fixed).run(samples)
    assert [layer.name for layer in fixed if layer.is_recurrent] == ["loop"]
    for name, values in found.items():
        assert 0.02 < values.mean() < 0.9
        # A voltage within float32's rounding of the threshold may differ, and what follows from it.
        assert np.mean(run.values[name] == values.numpy()) > 0.99
        integers = recording.spikes_of(recording.layers.index(name))[:, :, : values.shape[2]]
        assert np.mean(integers == values.numpy()) > 0.9  # weights are rounded
        if kind == "cuba":  # weights are the chip's
            assert np.array_equal(run.values[name], values.numpy())
            assert np.array_equal(integers, values.numpy())
    if all(np.array_equal(run.values[name], values.numpy()) for name, values in found.items()):
        scores = run.values["readout"][:, -1]
        np.testing.assert_allclose(scores, output.sum(1).numpy(), atol=1e-5)


def test_delays_become_whole_steps_of_the_graph() -> None:
    """Those that the last step of an optimizer took out of their range are taken back."""
    made = network(LIF_NEURON)
    block = made.blocks["late"]
    assert isinstance(block, Delay)
    with torch.no_grad():
        block.delay.copy_(torch.tensor([-0.1, 0.9, 1, 1.9, 2.5, 3, 3.9, 4.2, 0.1, 2]))
    late = trace(made).nodes["late"]
    assert isinstance(late, SpikeDelay)
    assert late.steps.tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 0, 2]


def test_delays_begin_over_the_whole_range_and_are_learned() -> None:
    made = network(LIF_NEURON)
    block = made.blocks["late"]
    assert isinstance(block, Delay)
    assert set(block.delay.floor().tolist()) == {0, 1, 2, 3}
    made.train()
    made(spikes()).square().sum().backward()
    assert block.delay.grad is not None
    assert block.delay.grad.abs().max() > 0
    loop = made.blocks["loop"]
    assert loop.recurrent_synapse.weight.grad.abs().max() > 0


def test_a_file_keeps_recurrence_and_delays(tmp_path: Path) -> None:
    made = network(CUBA_NEURON)
    made.save(tmp_path / "network.safetensors")
    loaded = SpikingNetwork.load(tmp_path / "network.safetensors")
    with torch.no_grad():
        assert torch.equal(made(spikes()), loaded(spikes()))


def test_a_recurrent_layer_can_come_first_on_a_still_image() -> None:
    made = network(LIF_NEURON)
    still = spikes()[:, :1]
    with torch.no_grad():
        assert torch.equal(made(still[:, 0]), made(still.expand(-1, STEPS, -1)))


def test_recurrence_has_no_counterpart_among_slayer_dense_blocks() -> None:
    loop = network(CUBA_NEURON).blocks["loop"]
    assert isinstance(loop, Dense)
    with pytest.raises(CheckpointError, match=r"recurrent_synapse.weight: SLAYER's blocks have no"):
        export_state_dict(loop)
