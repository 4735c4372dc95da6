"""Random networks and weight matrices on real Lava: every layer type, delay, reset and neuron."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from strategies import Options, generators, graphs, random_input

from neurodeploy.errors import SimulationError
from neurodeploy.fixedpoint import effective_dense_weight
from neurodeploy.ir import (
    CubaNeuron,
    DeltaNeuron,
    FixedPointGraph,
    SigmaDeltaNeuron,
)
from neurodeploy.lava_bridge import LavaSimulator
from neurodeploy.netx import read, write
from neurodeploy.simulation import (
    EventSimulator,
    Feed,
    Record,
    Stream,
)
from neurodeploy.testing import assert_bit_exact

pytestmark = pytest.mark.lava

HEALTH = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]

EFFECTIVE = """
import importlib.util, sys, types
from pathlib import Path
import numpy as np
import lava
from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights

folders = [Path(folder) / "lib" / "dl" / "netx" / "utils.py" for folder in lava.__path__]
path = next(folder for folder in folders if folder.exists())
spec = importlib.util.spec_from_file_location("netx_utils", path)
utils = importlib.util.module_from_spec(spec)
spec.loader.exec_module(utils)

given = np.load(sys.argv[1])
result = {}
for name in given.files:
    weight, bits, exponent, _ = utils.optimize_weight_bits(given[name])
    weight = weight.astype(np.int32)
    mode = determine_sign_mode(weight)
    result[name] = truncate_weights(clip_weights(weight, mode, num_bits=8), mode, bits)
    result[name + "_exponent"] = np.array(exponent)
np.savez(sys.argv[2], **result)
"""


def test_effective_weights_are_those_of_the_library(lava: Path, tmp_path: Path) -> None:
    """The functions that Lava's dense synapse calls, on thousands of matrices."""
    rng = np.random.default_rng(7)
    limits = np.array(
        [-600, -257, -256, -255, -129, -128, -3, -1, 0, 1, 3, 127, 254, 255, 256, 600]
    )
    matrices: list[np.ndarray] = []
    while len(matrices) < 3000:
        low, high = sorted(rng.choice(limits, 2))
        factor = 2 ** int(rng.integers(0, 3))
        matrix = rng.integers(low, high + 1, rng.integers(1, 6, 2)) * factor
        if matrix.any():
            matrices.append(matrix)
    np.savez(tmp_path / "in.npz", **{f"m{k}": matrix for k, matrix in enumerate(matrices)})
    (tmp_path / "effective.py").write_text(EFFECTIVE)
    files = [tmp_path / name for name in ("effective.py", "in.npz", "out.npz")]
    command = [lava, "-W", "ignore", *files]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    with np.load(tmp_path / "out.npz") as found:
        for index, matrix in enumerate(matrices):
            (ours,) = effective_dense_weight(matrix)
            assert ours.mantissa.tolist() == found[f"m{index}"].tolist(), matrix
            assert ours.shift == max(-int(found[f"m{index}_exponent"]), 0), matrix


def spike_exponent(graph: FixedPointGraph) -> int:
    for layer in graph:
        if isinstance(layer.neuron, DeltaNeuron | SigmaDeltaNeuron):
            return layer.neuron.spike_exponent
    return 6


@pytest.mark.filterwarnings("ignore:simulation. .* cannot be reset")
@pytest.mark.usefixtures("lava")
@settings(max_examples=10, deadline=None, suppress_health_check=HEALTH)
@given(
    graphs(Options(is_chain=True, kinds=("lif", "sigma-delta", "resonator"))),
    generators,
    st.one_of(st.none(), st.integers(1, 6)),
    st.integers(0, 3),
)
def test_streams(
    graph: FixedPointGraph, rng: np.random.Generator, interval: int | None, offset: int
) -> None:
    if not any(isinstance(layer.neuron, CubaNeuron) for layer in graph):
        interval = None
    inputs = random_input(rng, graph, samples=2, steps=7)
    timing = Stream(steps=12, reset_interval=interval, reset_offset=offset)
    feed = Feed.NEURON if graph.has_input_neuron else Feed.PORT
    exponent = spike_exponent(graph)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.net"
        write(graph, path)
        try:
            ours = EventSimulator(read(path, spike_exponent=exponent)).run(
                inputs, timing=timing, feed=feed, record=Record(final_states=True)
            )
        except SimulationError as error:
            assume("exceeds 32 bits" not in str(error))
            raise
        theirs = LavaSimulator(
            path,
            input_bits=graph.input.message_bits,
            layer_names=graph.names,
            spike_exponent=exponent,
        ).run(inputs, timing=timing, feed=feed, record=Record(final_states=True))
    assert_bit_exact(ours, theirs)
    assert ours.final_states is not None
    assert theirs.final_states is not None
    for first, second in zip(ours.final_states, theirs.final_states, strict=True):
        assert set(first) == set(second)
        for name, state in first.items():
            np.testing.assert_array_equal(state, second[name])
