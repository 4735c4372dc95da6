"""The page of capabilities: each cell is tried when the site is built, and names its tests."""

from __future__ import annotations

import json
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from page_texts import table

import neurodeploy as nd
from neurodeploy.interchange.canonical_neuron import APPROXIMATIONS
from neurodeploy.interchange.convention import CONVENTIONS
from neurodeploy.interchange.modules import (
    norse_neurons,
    rockpool_neurons,
    sinabs_neurons,
    slayer_blocks,
    snntorch_neurons,
    spikingjelly_neurons,
)
from neurodeploy.interchange.nir_schema import PRIMITIVES
from neurodeploy.ir.integer_layers import FixedLayer
from neurodeploy.netx import schema
from neurodeploy.onnx_models import rectified_nodes

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
STEPS = 4
_GOLDEN = "tests/unit/simulation/test_event_simulator_golden.py::test_golden_case[CASE]"
_LAVA = "tests/differential/test_golden_lava.py::test_recorded_numbers_are_equal[CASE]"
_COUNTS = "tests/property/test_reports.py::test_files_of_every_kind"
_RECIPES = "tests/integration/test_recipes_deploy.py::"
_PEERS = "tests/differential/test_nir_peers.py::"
_MODULES = "tests/differential/test_foreign_modules.py::"
_NIR_OUT = "tests/unit/interchange/test_nir_writer.py::"
_CONVERT = "tests/differential/test_sigma_delta_conversion.py::"

FILES: Mapping[str, str] = {
    "dense": "01_dense_basic",
    "dense, delays": "05_dense_delay",
    "dense, recurrent": "07_dense_rec",
    "dense, graded spikes as input": "09_dense_graded_signed",
    "convolution, dilated": "11_conv_rect_dilated",
    "convolution, grouped": "12_conv_grouped",
    "convolution, flatten, dense": "17_maxpool_or",
    "no leak behind a current that lasts": "10_conv_flatten_dense",
    "parameters by channel": "14_conv_per_channel_params",
    "relays in place of skips": "24_mini_resnet",
    "input block, LIF": "21_input_block_lif",
    "sigma-delta": "22_sdnn",
    "resonate-and-fire, complex weights": "25_complex_rf",
}
"""Layers of a file, each shown by a network that real Lava ran: `tests/golden`."""


class Stage(NamedTuple):
    """A column: what is tried, and the tests that hold it where it works and where it refuses."""

    attempt: Callable[[nd.FixedPointGraph, Path], object]
    works: tuple[str, ...]
    refuses: str = ""


class Cell(NamedTuple):
    """Outcome of an attempt: the reason of a refusal, or "" where it works."""

    reason: str

    def text(self, reasons: Sequence[str]) -> str:
        """Return yes, or no with the number of the reason."""
        return f"no ({reasons.index(self.reason) + 1})" if self.reason else "yes"


def _count(graph: nd.FixedPointGraph, folder: Path) -> object:
    feed = nd.Feed.NEURON if graph.has_input_neuron else nd.Feed.PORT
    inputs = np.zeros((1, STEPS, *graph.input.shape), np.int32)
    recording = nd.EventSimulator(graph, is_compiled=False).run(inputs, feed=feed)
    return nd.count(graph, inputs, recording, feed=feed)


def _rewrite(graph: nd.FixedPointGraph, folder: Path) -> None:
    nd.netx.write(graph, folder / "again.net")
    nd.netx.read(folder / "again.net")


FILE_STAGES: Mapping[str, Stage] = {
    "read and write": Stage(
        _rewrite, ("tests/property/test_netx_files.py::test_files_of_lava_come_back_the_same",)
    ),
    "simulate as Lava, count": Stage(_count, (_GOLDEN, _LAVA, _COUNTS)),
    "`export --step`": Stage(
        lambda graph, folder: nd.export_step(graph, folder / "step.onnx"),
        ("tests/property/test_onnx_files.py::test_steps_are_those_of_the_simulator",),
        "tests/property/test_onnx_files.py::test_what_has_no_counterpart_is_refused",
    ),
    "`export`, ReLU twin": Stage(
        lambda graph, folder: nd.export_twin(graph, folder / "twin.onnx"),
        ("tests/property/test_onnx_files.py::test_the_twin_of_a_deployed_network_has_its_macs",),
        "tests/property/test_onnx_files.py::test_what_has_no_counterpart_is_refused",
    ),
    "`export --nir`": Stage(
        lambda graph, folder: nd.export_nir(graph, folder / "graph.nir"),
        (f"{_NIR_OUT}test_integers_without_fractions_make_the_chips_spikes",),
        f"{_NIR_OUT}test_integer_layers_without_a_form_are_refused_by_name",
    ),
}
"""What is done with a file."""

RECIPE_STAGES: Mapping[str, tuple[str, str]] = {
    "train": (f"{_RECIPES}test_a_recipe_trains_and_deploys_to_an_equal_file", ""),
    "deploy": (
        f"{_RECIPES}test_a_recipe_trains_and_deploys_to_an_equal_file",
        "tests/unit/nn/test_tracing.py::test_integer_spikes_are_refused",
    ),
}
RECIPE_LAYERS: Mapping[str, tuple[str, ...]] = {
    "conv": ('{type = "conv", channels = 8}',),
    "conv, groups": ('{type = "conv", channels = 8, groups = 4}',),
    "dense": ('{type = "dense", neurons = 8}',),
    "dense, recurrent": ('{type = "dense", neurons = 8, recurrent = true, batch_norm = false}',),
    "delay between dense layers": (
        '{type = "dense", neurons = 8, batch_norm = false}',
        '{type = "delay", longest = 2}',
        '{type = "dense", neurons = 8, batch_norm = false}',
    ),
    "max_pool": ('{type = "max_pool"}', '{type = "conv", channels = 8}'),
    "average_pool": ('{type = "average_pool"}', '{type = "conv", channels = 8}'),
    "global_average_pool": ('{type = "global_average_pool"}', '{type = "dense", neurons = 8}'),
    'residual = "standard"': ('{type = "residual", channels = 8, stride = 2}',),
    'residual = "ms", neuron': (
        '{type = "residual", channels = 8, stride = 2, residual = "ms"}',
        '{type = "neuron"}',
    ),
    'residual = "sew"': ('{type = "residual", channels = 8, stride = 2, residual = "sew"}',),
}
"""Entries of [[network.layers]] behind a first convolution."""
NEURONS = {"lif": "digits", "cuba": "digits_slayer"}

FRAMEWORKS: Mapping[str, tuple[Iterable[str], str, str, str]] = {
    "norse": (
        norse_neurons.KNOWN,
        "norse",
        f"{_MODULES}test_random_networks",
        f"{_PEERS}test_float_networks_make_the_same_spikes",
    ),
    "snnTorch": (
        snntorch_neurons.KNOWN,
        "snntorch",
        f"{_MODULES}test_random_networks",
        f"{_PEERS}test_float_networks_make_the_same_spikes",
    ),
    "SpikingJelly": (
        spikingjelly_neurons.KNOWN,
        "spikingjelly",
        f"{_MODULES}test_random_networks",
        f"{_PEERS}test_float_networks_make_the_same_spikes",
    ),
    "sinabs": (
        sinabs_neurons.KNOWN,
        "sinabs",
        f"{_MODULES}test_random_networks",
        f"{_PEERS}test_sinabs_makes_the_same_spikes_once_its_neurons_reset",
    ),
    "Rockpool": (
        rockpool_neurons.KNOWN,
        "rockpool",
        f"{_MODULES}test_neurons_of_rockpool_fire_first_at_the_same_step",
        "",
    ),
    "lava-dl": (
        slayer_blocks.KNOWN,
        "",
        "tests/differential/test_slayer_modules.py::test_random_networks",
        "",
    ),
}
"""Classes that come in as modules, convention of NIR files, tests of modules and of NIR out."""
NIR_IN = "tests/unit/interchange/test_importing.py::test_every_spike_is_the_frameworks"
RELU = f"{_CONVERT}test_own_conversion_is_within_the_tolerance"


@cache
def try_files() -> Mapping[str, Mapping[str, Cell]]:
    """Return each layer of a file, and what its stages make of it."""
    tried = {}
    for row, case in FILES.items():
        graph = _read(case)
        with tempfile.TemporaryDirectory() as folder:
            tried[row] = {
                name: _attempt(partial(stage.attempt, graph, Path(folder)))
                for name, stage in FILE_STAGES.items()
            }
    return tried


def _read(case: str) -> nd.FixedPointGraph:
    """Read a network with what Lava was told about it."""
    with np.load(GOLDEN / f"{case}.npz") as archive:
        options = json.loads(str(archive["config"]))["kwargs"]
    shape = options.get("input_shape")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nd.NeurodeployWarning)  # of values that Lava leaves aside
        return nd.netx.read(
            GOLDEN / f"{case}.net",
            input_shape=shape and shape[::-1],
            input_bits=options.get("input_message_bits"),
            spike_exponent=options.get("spike_exp", 6),
        )


def _attempt(action: Callable[[], object]) -> Cell:
    try:
        action()
    except nd.NeurodeployError as error:
        return Cell(_short(str(error)))
    return Cell("")


def _short(message: str) -> str:
    """Return the cause of a refusal: the first sentence about the first layer, without its name."""
    lines = [line.strip(" -") for line in message.splitlines() if line.strip()]
    cause = lines[min(1, len(lines) - 1)]
    cause = re.sub(r"^[^:']*: ", "", cause)
    cause = re.sub(r"^'[^']*' (has|is) ", "", cause)
    return re.split(r"(?<=\.) (?=['A-Z])", cause)[0].removesuffix(".")


@cache
def try_recipes() -> Mapping[str, Mapping[str, Cell]]:
    """Return each layer of a recipe with each neuron, and what becomes of it."""
    return {
        f"{row} ({neuron})": _try_recipe(neuron, layers)
        for row, layers in RECIPE_LAYERS.items()
        for neuron in NEURONS
    }


def _try_recipe(neuron: str, layers: Iterable[str]) -> dict[str, Cell]:
    first = f'{{type = "conv", channels = 8, batch_norm = {str(neuron == "lif").lower()}}}'
    entries = ", ".join((first, *layers))
    settings = {"network.layers": f"[{entries}]", "shortcut.method": "vanilla"}
    recipe = nd.Recipe.load(NEURONS[neuron], overrides={**settings, "shortcut.after": "[]"})
    network = nd.SpikingNetwork.from_recipe(recipe)

    def train() -> None:
        network(torch.full((2, STEPS, 1, 8, 8), 8)).square().mean().backward()

    def deploy() -> None:
        graph = nd.pipeline.lower(network.eval())
        carried = nd.lower_current_biases(graph, steps=STEPS).graph
        target = nd.Target.load("loihi2")
        fixed = nd.quantize(carried, target, steps=STEPS)
        with tempfile.TemporaryDirectory() as folder:
            nd.netx.write(nd.lower_residuals(fixed, target).graph, Path(folder) / "made.net")

    return {"train": _attempt(train), "deploy": _attempt(deploy)}


def tests_named() -> set[str]:
    """Return every test that the page names."""
    named = {test for _, _, *tests in FRAMEWORKS.values() for test in tests if test}
    named |= {test for pair in RECIPE_STAGES.values() for test in pair if test}
    named |= {NIR_IN, RELU}
    for stage in FILE_STAGES.values():
        named |= {*stage.works, stage.refuses} - {""}
    return named


def layers_shown() -> Iterator[FixedLayer]:
    """Yield every layer of the networks that stand for the rows of files."""
    for case in FILES.values():
        yield from _read(case).layers


def write() -> Iterator[str]:
    """Yield the lines of the page."""
    yield from ("# Capabilities", "", _ABOUT, "")
    yield from ("## Layers of a file", "", _ABOUT_FILES, "")
    yield from _cells("layer", FILE_STAGES, try_files())
    yield from ("Kinds that Lava knows by name, but cannot run, are refused:", "")
    by_reason: dict[str, list[str]] = {}
    for name, reason in schema.REFUSED_LAYERS.items():
        by_reason.setdefault(reason, []).append(f"`{name}`")
    yield from (f"- {', '.join(names)}: {reason}" for reason, names in by_reason.items())
    yield ""
    yield from ("## Layers of a recipe", "", _ABOUT_RECIPES, "")
    yield from _cells("layer (neuron)", RECIPE_STAGES, try_recipes())
    yield from ("## Frameworks", "", _ABOUT_FRAMEWORKS, "")
    rows = [
        (
            name,
            ", ".join(f"`{one.rsplit('.', 1)[-1]}`" for one in sorted(set(known))),
            f"`{convention}`" if convention else "no: it writes none",
            "yes" if tests[1] else "no" if convention else "no: it reads netx files",
        )
        for name, (known, convention, *tests) in FRAMEWORKS.items()
    ]
    yield from table(("framework", "in, as a module", "in, as NIR", "out, as NIR"), rows)
    others = ", ".join(f"`{name}`" for name in sorted(other_conventions()))
    yield from (f"Further conventions of NIR files: {others}.", "")
    yield from ("### Primitives of NIR", "", ", ".join(f"`{name}`" for name in PRIMITIVES), "")
    yield from ("### Departures", "", "Each is refused unless it is named in `--approximate`.", "")
    yield from table(("name", "meaning"), ((f"`{k}`", v) for k, v in APPROXIMATIONS.items()))
    yield from ("## ReLU networks", "", _ABOUT_RELU, "")
    yield from (", ".join(f"`{name}`" for name in sorted(rectified_nodes.KNOWN)), "")
    yield from ("## Tests", "", "CASE is the network of `tests/golden` that shows a layer:", "")
    yield from (f"- {row}: `{case}`" for row, case in FILES.items())
    yield ""
    yield from ("| what | held by |", "|---|---|")
    for name, stage in FILE_STAGES.items():
        yield f"| {name} | {' '.join(map(_code, stage.works))} |"
        if stage.refuses:
            yield f"| {name}, refusals | {_code(stage.refuses)} |"
    for name, (works, refuses) in RECIPE_STAGES.items():
        yield f"| {name} | {_code(works)}{' ' + _code(refuses) if refuses else ''} |"
    for name, (_, _, *tests) in FRAMEWORKS.items():
        yield f"| {name} | {' '.join(_code(test) for test in tests if test)} |"
    yield f"| NIR files in | {_code(NIR_IN)} |"
    yield f"| ReLU networks | {_code(RELU)} |"


def _cells(
    head: str, stages: Iterable[str], tried: Mapping[str, Mapping[str, Cell]]
) -> Iterator[str]:
    """Yield a table of yes and no, and the reasons below it."""
    refused = (cell.reason for cells in tried.values() for cell in cells.values() if cell.reason)
    reasons = list(dict.fromkeys(refused))
    rows = ((row, *(cell.text(reasons) for cell in cells.values())) for row, cells in tried.items())
    yield from table((head, *stages), rows)
    yield from (
        f"{number}. {reason[0].upper()}{reason[1:]}." for number, reason in enumerate(reasons, 1)
    )
    yield ""


def _code(test: str) -> str:
    return f"`{test}`"


def other_conventions() -> set[str]:
    """Return the conventions that no framework of the table has."""
    return set(CONVENTIONS) - {convention for _, convention, *_ in FRAMEWORKS.values()}


_ABOUT = """\
Made by trying each cell when this page is built. A test fails if a kind of layer or neuron has no
row, if a cell refuses that did not, or if a test that is named at the end does not exist."""
_ABOUT_FILES = """\
Each network was recorded on real Lava, and our simulator makes the same spikes and states."""
_ABOUT_RECIPES = """\
A small network with the layer behind a convolution of 8 channels: one step of training, then
lowered, quantized and written."""
_ABOUT_FRAMEWORKS = """\
Modules are run beside the float64 graph, and every spike must be equal. Layers of torch (`Linear`,
`Conv1d`, `Conv2d`, `BatchNorm`, `AvgPool2d`, `MaxPool2d`, `AdaptiveAvgPool2d`, `Flatten`,
`Dropout`) may stand between them. "In, as NIR" names the convention for `--convention`. Which NIR
files a framework loads, and on what terms, is in
[the table of readers](../project/examples.md#nir-files-in-other-frameworks)."""
_ABOUT_RELU = """\
`convert` takes an ONNX file, or a torch module, of these operators; any other is named with its
node and the reason."""
