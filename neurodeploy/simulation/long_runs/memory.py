"""How much memory a run takes, and how many samples at a time therefore fit.

A run over n samples at a time holds, at its peak, at most::

    process + working + n · (input + record)

process   what Python, its libraries and the network take, measured when the run begins;
          `LATER_BYTES`; and 8 bytes a weight, for each different delay of its synapse;
working   what the simulator uses beside its results: `working_bytes`, which the run chooses;
input     T · port · (bytes of a stored value + 4 + 4): as read, as int32, and one copy;
record    twice what is recorded of a sample (batches are joined), an eighth of its spikes (packed
          until they are written), and 4 bytes for each neuron whose events are counted.

With several processes on this machine, each takes that much, with `WORKER_BYTES` in place of what
was measured; the one that started them takes `process` and the packed results that wait.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from neurodeploy.errors import SimulationError
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.ir.integer_layers import (
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedInjection,
    Synapse,
)
from neurodeploy.simulation.kernels.layouts.spreading import FRAME_BYTES_MAX
from neurodeploy.simulation.recording import Record, count_type, unknown_kind
from neurodeploy.simulation.spike_bits import tiles_of

SAMPLES_MAX = 1024
"""Samples at a time at most: what an interruption can cost."""
WORKING_BYTES = 256 * 2**20
"""Memory of the simulator if there is enough: more makes it no faster."""
LATER_BYTES = 128 * 2**20
"""For numba's compiler and for libraries that are not loaded when a run begins, by trial."""
WORKER_BYTES = 192 * 2**20
"""Memory of a new process that can simulate and does nothing yet, by trial: 181 MB."""
DEFAULT_MAX = 4 * 2**30
"""Memory of a run at most if none is named, beside that of its process already."""
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """How a run divides its memory.

    Attributes:
        samples: At a time.
        working_bytes: For the simulator.
        peak_bytes: Of one process, by the formula.
    """

    samples: int
    working_bytes: int
    peak_bytes: int


def parse_size(text: str) -> int:
    """Read a size such as 800MB, 1.5G or 2GiB; a number alone is bytes.

    Raises:
        ValueError: If it is none.
    """
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]i?)?B?\s*", text, re.IGNORECASE)
    if found is None:
        raise ValueError(f"{text}: a size such as 800MB or 2GiB is required.")
    unit = (found[2] or "").capitalize()
    return int(float(found[1]) * (_UNITS | _BINARY_UNITS)[unit])


def format_size(number: float) -> str:
    """Write a number of bytes for people: "1.3 GB"."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:.0f} bytes"


def resident_bytes() -> int:
    """Return the memory that this process takes now; 0 where the system does not say."""
    return _own_bytes(1)


def _own_bytes(column: int) -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[column])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int:
    """Return the memory still available to the system, this process and its control group."""
    found = [DEFAULT_MAX * 2]
    with suppress(ImportError):  # Windows has no such limit
        import resource

        address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
        if address_space != resource.RLIM_INFINITY:
            found.append(address_space - _own_bytes(0))
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    groups = Path("/sys/fs/cgroup")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # no such group, or "max"
            most = int((groups / limit).read_text(encoding="ascii"))
            found.append(most - int((groups / used).read_text(encoding="ascii")))
    return max(0, min(found))


def default_memory() -> int:
    """Return what this process holds already, and half of what is available, at most 4 GiB."""
    return resident_bytes() + min(DEFAULT_MAX, available_bytes() // 2)


def divide_memory(
    graph: FixedPointGraph,
    *,
    memory: int,
    processes: int,
    steps: int,
    input_shape: tuple[int, ...],
    input_dtype: np.dtype[np.integer],
    record: Record,
) -> Portion:
    """Choose how many samples, of a shape and dtype as they are stored, are run at a time.

    `memory` is what all processes on this machine may take together, in bytes; `processes` of them
    simulate at once.

    Raises:
        SimulationError: If one sample does not fit.
    """
    process = resident_bytes() + LATER_BYTES + network_bytes(graph)
    waiting = 0
    if processes > 1:
        waiting, process = process, WORKER_BYTES + LATER_BYTES + network_bytes(graph)
    each = (memory - waiting) // processes - process
    sample = sample_bytes(
        graph, steps=steps, input_shape=input_shape, input_dtype=input_dtype, record=record
    )
    least = least_working_bytes(graph, steps=steps)
    working = max(least, min(WORKING_BYTES, each // 2))
    samples = (each - working) // sample
    if samples < 1:
        needed = waiting + processes * (process + least + sample)
        raise SimulationError(
            f"simulation: one sample at a time needs {format_size(needed)}: "
            f"{format_size(process)} for the program and the network, {format_size(least)} to "
            f"compute, {format_size(sample)} for its input and what is recorded"
            + (f", in {processes} processes" if processes > 1 else "")
            + f"; {format_size(memory)} are allowed. Give more (--memory), or record less "
            "(--record outputs)."
        )
    samples = min(samples, SAMPLES_MAX)
    peak = process + working + samples * sample
    return Portion(samples=samples, working_bytes=working, peak_bytes=peak)


def least_working_bytes(graph: FixedPointGraph, *, steps: int) -> int:
    """Return what the simulator needs to run one sample, beside results.

    For each value of the input and of every layer two int32 and one for each pixel, at most (lists
    of events), a bit for each channel of a pixel, padded to 16, 48 bytes for those of the largest
    layer (sums and states), and the frames of sums.
    """
    shapes = (graph.input.shape, *(layer.shape for layer in graph))
    listed = sum(2 * prod(shape) + prod(shape[1:]) + 1 for shape in shapes)
    bits = 2 * sum(map(tiles_of, shapes[1:]))
    return steps * (4 * listed + bits + 48 * max(map(prod, shapes))) + FRAME_BYTES_MAX


def network_bytes(graph: FixedPointGraph) -> int:
    """Return what the simulator may keep of a network's weights, in an order of its own."""
    return 8 * sum(_weights_of(one.synapse) for layer in graph for one in layer.connections)


def _weights_of(synapse: Synapse) -> int:
    match synapse:
        case FixedConv():
            return synapse.weight.size
        case FixedDense():
            delays = 1 if synapse.delay is None else np.unique(synapse.delay).size
            return synapse.weight.size * delays
        case FixedComplexDense():
            return synapse.real.weight.size + synapse.imaginary.weight.size
        case FixedInjection():
            return 0
    raise unknown_kind(synapse, "long_runs.memory")


def sample_bytes(
    graph: FixedPointGraph,
    *,
    steps: int,
    input_shape: tuple[int, ...],
    input_dtype: np.dtype[np.integer],
    record: Record,
) -> int:
    """Return what one sample takes: its input and what is recorded of it."""
    spikes, states = record.resolve(graph.names)
    values = prod(input_shape) * (input_dtype.itemsize + 4) + 4 * steps * prod(graph.input.shape)
    kept = written = 0
    counted = np.dtype(count_type(steps)).itemsize
    for layer in graph:
        if layer.name in spikes:
            kept += steps * layer.neurons * (4 if layer.neuron.is_graded else 1)
        if layer.name in states:
            kept += steps * layer.neurons * 4 * len(layer.neuron.states)
        if record.final_states:
            kept += layer.neurons * 4 * len(layer.neuron.states)
        if record.counts:
            kept += layer.neurons * 2 * counted * (1 + layer.is_recurrent) + 16 * record.updates
            written += 4 * layer.neurons
    return values + 2 * kept + kept // 8 + written
