"""How much memory a run takes: sizes as users write them, and the formula against measurement."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from neurodeploy import netx
from neurodeploy.errors import SimulationError
from neurodeploy.ir import (
    Connection,
    CubaNeuron,
    FixedDense,
    FixedInput,
    FixedLayer,
    FixedPointGraph,
)
from neurodeploy.ir.graphs import INPUT
from neurodeploy.simulation import EventSimulator, Record
from neurodeploy.simulation.kernels.compiled_layer import compile_layer
from neurodeploy.simulation.long_runs.memory import (
    SAMPLES_MAX,
    WORKER_BYTES,
    default_memory,
    divide_memory,
    format_size,
    network_bytes,
    parse_size,
    resident_bytes,
    sample_bytes,
)

GOLDEN = Path(__file__).parents[3] / "golden"


@pytest.mark.parametrize(
    ("text", "size"),
    [("800MB", 800e6), ("1.5G", 1.5e9), ("2GiB", 2**31), ("64 kib", 2**16), ("4096", 4096)],
)
def test_sizes_are_read(text, size) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-3GB", "3XB", "GB", "1e9"])
def test_other_words_are_no_sizes(text) -> None:
    with pytest.raises(ValueError, match="800MB or 2GiB"):
        parse_size(text)


def test_sizes_are_written_for_people() -> None:
    assert [format_size(one) for one in (12, 3400, 2.5e6, 4e9)] == [
        "12 bytes",
        "3.4 kB",
        "2.5 MB",
        "4 GB",
    ]


def test_the_default_is_less_than_what_the_machine_has() -> None:
    assert 0 < resident_bytes() < default_memory() < resident_bytes() + 2**33


@pytest.mark.parametrize(
    "record",
    [
        Record(),
        Record(spikes=(), states=(), counts=True),
        Record(spikes=(), states=(), counts=True, updates=False),
        Record(spikes=(), states=("conv_1", "dense_4"), final_states=True),
    ],
)
def test_what_a_sample_takes_is_what_is_recorded_of_it(record) -> None:
    graph = netx.read(GOLDEN / "10_conv_flatten_dense.net")
    inputs = np.ones((7, 5, 3, 8, 8), np.uint8)
    recording = EventSimulator(graph).run(inputs, record=record)
    held = sum(one.nbytes for one in recording.spikes if one is not None)
    for states in (*recording.states.values(), *(recording.final_states or ())):
        held += sum(one.nbytes for one in states.values())
    for events in recording.events or ():
        held += events.total.nbytes + events.valued.nbytes
    counted = sum(
        one.active.nbytes + (0 if one.membrane is None else one.membrane.nbytes)
        for one in recording.updates or ()
    )
    inputs_held = 5 * 192 * (1 + 4 + 4)
    expected = inputs_held + (2 + 1 / 8) * (held + counted) / 7
    if recording.events is not None:  # written in 32 bits
        expected += 4 * sum(one.total[0].size for one in recording.events)
    found = sample_bytes(
        graph, steps=5, input_shape=(5, 3, 8, 8), input_dtype=inputs.dtype, record=record
    )
    assert abs(found - expected) <= 1  # an eighth is rounded down


def test_a_synapse_of_an_unknown_kind_is_refused() -> None:
    class StrangeSynapse:
        pass

    layer = SimpleNamespace(connections=(SimpleNamespace(synapse=StrangeSynapse()),))
    with pytest.raises(SimulationError, match=r"StrangeSynapse .*long_runs\.memory has no rule"):
        network_bytes(cast("FixedPointGraph", [layer]))


def test_a_sigma_output_holds_one_state() -> None:
    graph = netx.read(GOLDEN / "22_sdnn.net")
    port, steps = graph.input.shape, 4
    last = graph.layers[-1]

    def size(*states: str) -> int:
        return sample_bytes(
            graph,
            steps=steps,
            input_shape=(steps, *port),
            input_dtype=np.dtype(np.int32),
            record=Record(spikes=(), states=states),
        )

    held = 4 * steps * last.neurons
    assert size(last.name) - size() == 2 * held + held // 8


def test_a_compiled_layer_with_delays_stays_below_what_its_network_may_take() -> None:
    """Every delay has weights of its own, and none of them are held in 64 bits at the same time."""
    rng = np.random.default_rng(0)
    weight, delay = (
        rng.integers(low, high, (64, 1024), dtype=np.int32) for low, high in ((-99, 99), (0, 63))
    )
    layer = FixedLayer(
        name="dense",
        shape=(64,),
        connections=(Connection(source=INPUT, synapse=FixedDense(weight=weight, delay=delay)),),
        neuron=CubaNeuron(
            current_decay=np.array(4096, np.int32),
            voltage_decay=np.array(0, np.int32),
            threshold=np.array(100, np.int32),
        ),
        bias=np.array(0, np.int32),
    )
    graph = FixedPointGraph(input=FixedInput(shape=(1024,)), layers=(layer,))
    tracemalloc.start()
    try:
        compiled = compile_layer(graph, layer, largest_input=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert compiled is not None
    assert compiled.weights.rows.nbytes < peak < network_bytes(graph) == 8 * 63 * weight.size


def test_more_memory_gives_more_samples_up_to_what_an_interruption_may_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resident = 1_500_000_000  # fixed: the system may take pages back between two looks
    monkeypatch.setattr("neurodeploy.simulation.long_runs.memory.resident_bytes", lambda: resident)
    graph = netx.read(GOLDEN / "10_conv_flatten_dense.net")

    def samples(memory: float, processes: int = 1) -> int:
        """Allow so much beside what each process holds."""
        whole = int(memory) + resident + (processes > 1) * processes * WORKER_BYTES
        portion = divide_memory(
            graph,
            memory=whole,
            processes=processes,
            steps=400,
            input_shape=(400, 3, 8, 8),
            input_dtype=np.dtype(np.uint8),
            record=Record(),
        )
        assert portion.peak_bytes * processes + (processes > 1) * resident <= whole
        return portion.samples

    assert 1 < samples(0.3e9) < samples(0.6e9) < samples(8e9) == SAMPLES_MAX
    assert samples(0.9e9, processes=2) < samples(0.9e9)
    with pytest.raises(SimulationError, match="in 2 processes"):
        samples(0.2e9, processes=2)


PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from neurodeploy.ir import Connection, CubaNeuron, FixedConv, FixedDense, FixedInput, FixedLayer
from neurodeploy.ir import FixedPointGraph
from neurodeploy.ir.graphs import INPUT
from neurodeploy.simulation.long_runs.long_run import run_samples

random = np.random.default_rng(0)

def value(number):
    return np.array(number, np.int32)

def weights(*shape):
    return random.integers(-40, 60, shape).astype(np.int32)

def layer(name, source, synapse, *shape):
    neuron = CubaNeuron(current_decay=value(4096), voltage_decay=value(128), threshold=value(300))
    connection = Connection(source=source, synapse=synapse)
    return FixedLayer(
        name=name, shape=shape, connections=(connection,), neuron=neuron, bias=value(0)
    )

graph = FixedPointGraph(input=FixedInput(shape=(3, 224, 224)), layers=(
    layer("conv", INPUT, FixedConv(weight=weights(16, 3, 7, 7), stride=(4, 4), padding=(3, 3)),
          16, 56, 56),
    layer("dense", "conv", FixedDense(weight=weights(10, 16 * 56 * 56)), 10),
))
events = (random.random((2, 3, 224, 224)) < 0.05).astype(np.uint8)
count, memory = int(sys.argv[1]), int(sys.argv[2])
done = run_samples(
    graph, (np.roll(events, index, axis=3) for index in range(count)), Path(sys.argv[3]),
    memory=memory,
)
status = Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps({"samples": done.facts.samples, "at_once": done.portion.samples, "peak": peak}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_images_of_imagenet_size_stay_below_the_memory_that_is_allowed(tmp_path) -> None:
    """The peak is measured, by the system, in a process of its own."""
    memory = 400_000_000
    found = []
    for count in (40, 120):
        end = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(count), str(memory), str(tmp_path / "out.h5")],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found.append(json.loads(end.stdout))
        assert found[-1]["samples"] == count
        assert found[-1]["at_once"] < 40
        assert found[-1]["peak"] < memory
    assert found[1]["peak"] < 1.1 * found[0]["peak"]  # three times the samples, the same memory
