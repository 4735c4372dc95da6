"""What is shown of a simulation: the right numbers, in plots that load nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import neurodeploy as nd
from neurodeploy import netx
from neurodeploy.errors import DataError, OutputError
from neurodeploy.fixedpoint import THRESHOLD_MAX
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.reports.activity import (
    Activity,
    layer_activity_of,
    observe,
)
from neurodeploy.reports.pages.outline import save_plot
from neurodeploy.reports.pages.run_sections import (
    maps_section,
    membranes_section,
    rates_section,
    readout_section,
)
from neurodeploy.reports.plots import run_plots
from neurodeploy.reports.plots.drawing import DARK, LIGHT
from neurodeploy.simulation import EventSimulator, Record

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def graph() -> FixedPointGraph:
    return netx.read(GOLDEN / "10_conv_flatten_dense.net")


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    return (np.random.default_rng(0).random((6, 9, 3, 8, 8)) < 0.2).astype(np.uint8)


@pytest.fixture(scope="module")
def shown(graph, inputs) -> Activity:
    recording = EventSimulator(graph).run(inputs, record=Record(counts=True))
    layers = layer_activity_of(recording)
    return observe(graph, layers, inputs[2:3], samples=6, traced=("conv_1",), title="sample 2")


def test_rates_are_those_of_all_samples(graph, inputs, shown) -> None:
    spikes = EventSimulator(graph).run(inputs).spikes
    assert [one.rate for one in shown.layers] == [one.mean() for one in spikes]
    assert [one.spikes for one in shown.layers] == [one.sum() for one in spikes]


def test_maps_add_up_channels_and_steps_of_the_sample(graph, inputs, shown) -> None:
    spikes = EventSimulator(graph).run(inputs).spikes
    assert [one.layer for one in shown.maps] == ["input", "conv_1", "conv_2"]
    expected = (inputs[2], spikes[0][2], spikes[1][2])
    for one, events in zip(shown.maps, expected, strict=True):
        assert np.array_equal(one.counts, events.sum((0, 1)))


def test_membranes_are_the_states_of_neurons_that_fire_at_times(graph, inputs, shown) -> None:
    whole = EventSimulator(graph).run(inputs, record=Record(states=("conv_1",)))
    voltage = whole.states["conv_1"]["voltage"][2].reshape(9, -1)
    fired = whole.spikes_of("conv_1")[2].reshape(9, -1)
    assert len(shown.membranes) == 4
    for one in shown.membranes:
        assert one.layer == "conv_1"
        assert np.array_equal(one.values * 64, voltage[:, one.neuron])
        assert np.array_equal(one.fired, fired[:, one.neuron] != 0)
        assert 0 < one.fired.sum() < 9
        threshold = graph.layers[0].neuron.threshold
        assert one.threshold == float(np.broadcast_to(threshold, (6, 8, 8)).flat[one.neuron])


def test_a_read_out_shows_every_class_and_marks_the_winner(graph, inputs) -> None:
    *others, last = graph.layers
    never = np.array(THRESHOLD_MAX, dtype=np.int32)
    last = replace(last, neuron=replace(last.neuron, threshold=never))
    silent = replace(graph, layers=(*others, last))
    recording = EventSimulator(silent).run(inputs)
    found = observe(silent, layer_activity_of(recording), inputs[1:2], samples=6)
    assert found.membranes == ()
    assert found.readout is not None
    assert np.array_equal(found.readout.values * 64, recording.voltage[1])
    assert found.readout.winner == recording.voltage[1, -1].argmax()
    section = readout_section(found)
    assert section is not None
    rows = section.tables[0].rows
    assert [number for number, *_ in rows] == [str(number) for number in range(10)]
    winners = [number for number, _, verdict in rows if verdict == "wins"]
    assert winners == [str(found.readout.winner)]
    assert f"class {winners[0]} wins" in section.plots[0].svg
    for number in set(range(10)) - {found.readout.winner}:
        assert f">{number}</text>" in section.plots[0].svg
    chosen = observe(silent, found.layers, inputs[1:2], samples=6, traced=("conv_1",))
    assert chosen.readout is None
    assert readout_section(chosen) is None
    assert observe(graph, found.layers, inputs[1:2], samples=6).readout is None  # it fires


def test_labels_of_a_read_out_do_not_overlap() -> None:
    places = run_plots._spread(np.array([0.0, 1.0, 1.0, 1.0, 50.0]), 5.0)
    assert np.diff(places).min() > 4.9
    assert places[4] == 50
    assert np.mean(places[:4]) == pytest.approx(0.75)


def test_neurons_can_be_named(graph, inputs) -> None:
    layers = layer_activity_of(EventSimulator(graph).run(inputs))
    found = observe(graph, layers, inputs[:1], samples=6, neurons=[3, 1])
    assert [(one.layer, one.neuron) for one in found.membranes] == [("dense_4", 3), ("dense_4", 1)]
    with pytest.raises(DataError, match="dense_4: no neuron 10; 0 to 9 are there"):
        observe(graph, layers, inputs[:1], samples=6, neurons=[10])


@pytest.mark.filterwarnings("ignore:.*bias. values from -40000")
def test_overflow_is_counted_and_warned_of(graph, inputs, shown) -> None:
    section = rates_section(shown)
    assert section is not None
    assert shown.overflows == 0
    assert "24 bits were enough everywhere" in section.lead
    wraps = netx.read(GOLDEN / "15_overflow_lif.net")
    with np.load(GOLDEN / "15_overflow_lif.npz") as golden:
        samples = golden["x"].T[np.newaxis].astype(np.int32)
    recording = EventSimulator(wraps).run(samples)
    layers = layer_activity_of(recording)
    found = observe(wraps, layers, samples, samples=1)
    assert recording.health is not None
    total = sum(one.current_wraps + one.voltage_clips for one in recording.health)
    assert found.overflows == total > 0
    section = rates_section(found)
    assert section is not None
    assert f"WARNING: 24 bits were not enough {total:,} times" in section.lead
    row = section.tables[0].rows[0]
    assert row[4] == f"{recording.health[0].current_wraps:,}"
    assert row[6] == f"{recording.health[0].voltage_clips:,}"
    assert found.layers[0].health is not None
    large = replace(found.layers[0].health, message_overflows=3)
    layers = (replace(found.layers[0], health=large), *found.layers[1:])
    section = rates_section(replace(found, layers=layers))
    assert section is not None
    assert f"or the 16 of messages, were not enough {total + 3:,} times" in section.lead


def test_sections_without_content_do_not_appear() -> None:
    assert rates_section(None) is None
    assert maps_section(None) is None
    assert membranes_section(None) is None
    bare = Activity(samples=1, steps=1, layers=())
    assert maps_section(bare) is None
    assert membranes_section(bare) is None


def test_a_report_draws_rates_once(shown) -> None:
    """Its section of operations has a plot of them."""
    alone, in_report = rates_section(shown), rates_section(shown, has_plot=False)
    assert alone is not None
    assert in_report is not None
    assert (len(alone.plots), len(in_report.plots)) == (1, 0)
    assert alone.tables == in_report.tables


def test_large_maps_are_averaged_in_blocks() -> None:
    counts = np.arange(100 * 50).reshape(100, 50)
    cells = run_plots._averaged(counts)
    assert cells.shape == (34, 17)
    assert cells[0, 0] == counts[:3, :3].mean()
    assert cells[-1, -1] == counts[99:, 48:].mean()
    small = np.arange(6).reshape(2, 3)
    assert np.array_equal(run_plots._averaged(small), small)


@pytest.mark.parametrize("suffix", [".html", ".svg", ".png"])
def test_plots_are_files_that_load_nothing(shown, tmp_path, suffix) -> None:
    path = tmp_path / f"plot{suffix}"
    save_plot(shown, path, title="network.net <b>")
    data = path.read_bytes()
    if suffix == ".png":
        assert data.startswith(b"\x89PNG")
        return
    text = data.decode()
    # every colour follows the reader's choice of light or dark
    assert not re.search(r"(fill|stroke): #", text)
    for address in re.findall(r"(?:href|src|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", text):
        assert address.startswith("#")
    if suffix == ".svg":
        ElementTree.fromstring(text)
        assert "prefers-color-scheme:dark" in text
        for words in ("Rate of each layer", "Spikes of sample 2", "conv_1", "threshold"):
            assert words in text
    else:
        assert "network.net &lt;b&gt;" in text
        for anchor in ("activity", "raster", "maps", "membranes"):
            assert f'id="{anchor}"' in text


def test_plots_are_made_by_public_names(graph, inputs, tmp_path) -> None:
    layers = nd.layer_activity_of(nd.EventSimulator(graph).run(inputs))
    path = f"{tmp_path}/plot.html"
    nd.save_plot(nd.observe(graph, layers, inputs[:1], samples=len(inputs)), path, title="six")
    assert "<h1>six</h1>" in Path(path).read_text()


def test_a_png_has_the_colours_of_the_page(shown, tmp_path) -> None:
    from matplotlib.image import imread

    save_plot(shown, tmp_path / "plot.png", title="")
    pixels = imread(tmp_path / "plot.png")
    found = {tuple(one) for one in (255 * pixels[..., :3]).round().astype(int).reshape(-1, 3)}

    def rgb(color: str) -> tuple[int, ...]:
        return tuple(bytes.fromhex(color[1:]))

    assert rgb(LIGHT["--series-1"]) in found
    assert rgb(LIGHT["--series-2"]) in found
    assert rgb(LIGHT["--ink"]) in found


def test_pages_and_drawings_have_the_same_colours(shown, tmp_path) -> None:
    for suffix in (".html", ".svg"):
        save_plot(shown, tmp_path / f"plot{suffix}", title="")
        text = (tmp_path / f"plot{suffix}").read_text()
        light, dark = re.findall(r":root ?\{(.*?)\}", text, flags=re.DOTALL)[:2]
        for colors, rules in ((LIGHT, light), (DARK, dark)):
            for name, value in colors.items():
                assert f"{name}: {value};" in rules


def test_unknown_formats_are_refused(shown, tmp_path) -> None:
    with pytest.raises(OutputError, match=r"\.html, \.svg, \.png"):
        save_plot(shown, tmp_path / "plot.gif", title="")
