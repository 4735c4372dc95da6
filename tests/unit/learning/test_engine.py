"""What a training may use, and batches in parts; several processes are in tests/integration."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neurodeploy.data import (
    ArrayDataset,
    batches,
    smallest_part,
    training_batches,
)
from neurodeploy.errors import TrainingError
from neurodeploy.learning.engine import Hardware, TrainingEngine
from neurodeploy.learning.trainer import Trainer
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.recipes.recipe import Architecture
from neurodeploy.recipes.training_sections import TrainingSection


def numbered(samples: int) -> ArrayDataset:
    inputs = np.arange(samples, dtype=np.int32).reshape(-1, 1, 1, 1) * np.ones((1, 2, 2), np.int32)
    return ArrayDataset(
        inputs=inputs, labels=np.arange(samples) % 2, shape=(1, 2, 2), classes=2, scale=0.25
    )


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("processes", [1, 2])
def test_parts_make_up_the_batches(accumulate: int, processes: int) -> None:
    """All parts of all processes together are the batches of one process, in order."""
    data = numbered(50)
    wanted = list(batches(data, 16, generator=torch.Generator().manual_seed(4)))
    ranks = [
        list(
            training_batches(
                data,
                16,
                generator=torch.Generator().manual_seed(4),
                accumulate=accumulate,
                rank=rank,
                processes=processes,
            )
        )
        for rank in range(processes)
    ]
    for number, (inputs, labels) in enumerate(wanted):
        parts = [part for rank in ranks for part in rank[number]]
        assert len(parts) == accumulate * processes
        assert {part.size for part in parts} == {len(labels)}
        places = torch.cat([part.places for part in parts])
        assert places.tolist() == list(range(len(labels)))
        assert torch.equal(torch.cat([part.inputs for part in parts]), inputs)
        assert torch.equal(torch.cat([part.labels for part in parts]), labels)


@pytest.mark.parametrize("samples", [2, 3, 7, 50])
@pytest.mark.parametrize(
    ("batch_size", "processes"), [(1, 1), (2, 1), (3, 1), (16, 1), (5, 2), (16, 2)]
)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_smallest_part_is_foretold(
    samples: int, batch_size: int, processes: int, accumulate: int
) -> None:
    sizes = [
        len(part.labels)
        for rank in range(processes)
        for parts in training_batches(
            numbered(samples),
            batch_size,
            generator=torch.Generator(),
            accumulate=accumulate,
            rank=rank,
            processes=processes,
        )
        for part in parts
    ]
    assert min(sizes) == smallest_part(
        samples, batch_size, accumulate=accumulate, processes=processes
    )


def test_a_batch_must_give_every_process_a_sample() -> None:
    data = training_batches(numbered(10), 2, generator=torch.Generator(), rank=0, processes=3)
    with pytest.raises(TrainingError, match="batches of 2 samples for 3 processes"):
        next(data)


def network() -> SpikingNetwork:
    table = {
        "shape": [1, 2, 2],
        "classes": 2,
        "input_bits": 6,
        "network": {
            "steps": 2,
            "layers": [{"type": "dense", "neurons": 8, "batch_norm": False}],
        },
        "neuron": {},
        "branches": [],
    }
    return SpikingNetwork(Architecture.from_dict(table, where="test"), seed=1)


def section(**changes: object) -> TrainingSection:
    base = TrainingSection(epochs=2, batch_size=16, threads=1, keep="last")
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]  # known to be fields


def trained(training: TrainingSection, hardware: Hardware | None = None) -> dict[str, Tensor]:
    module: nn.Module = network()
    engine = None if hardware is None else TrainingEngine(hardware)
    Trainer(training, engine=engine).fit(module, numbered(48), numbered(8))
    return module.state_dict()


def test_accumulated_parts_are_the_whole_batch() -> None:
    """Without batch norm only the order of the sums differs."""
    whole, parts = trained(section()), trained(section(accumulate=3))
    start = network().state_dict()
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-5, atol=1e-6)
        assert not torch.equal(tensor, start[name])


def test_mixed_precision_learns_in_float32_weights() -> None:
    exact = trained(section())
    mixed = trained(section(), Hardware(accelerator="cpu", precision="bf16-mixed"))
    assert all(tensor.dtype == torch.float32 for tensor in mixed.values())
    assert any(not torch.equal(mixed[name], tensor) for name, tensor in exact.items())
    for name, tensor in exact.items():
        assert float((mixed[name] - tensor).abs().max()) < 0.2


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is refused without a GPU")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": 0}, "at least 1"),
        ({"nodes": 0}, "at least 1"),
        ({"accelerator": "gpu"}, "torch sees 0 GPUs"),
        ({"strategy": "fsdp"}, "strategy = 'fsdp', allowed: 'auto', 'ddp'"),
        ({"precision": "16-mixed"}, "Use 'bf16-mixed' or '32'"),
    ],
)
def test_what_the_machine_cannot_do_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        Hardware(**options)  # type: ignore[arg-type]  # known to be fields
