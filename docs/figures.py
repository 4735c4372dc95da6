"""Drawings of the pages that explain, in the style of reports: light and dark, made from data."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import neurodeploy as nd
from neurodeploy import fixedpoint
from neurodeploy.reports.plots.drawing import FAINT, FIRST, INK, SECOND, new_figure, to_svg
from neurodeploy.reports.plots.report_plots import plot_energy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]
SCALE = 160
"""Integers for a weight of 1, in the drawing of one neuron."""


def write(folder: Path) -> None:
    """Write all drawings into `folder`/_figures, as elements for a page."""
    drawings = {"energy": plot_example()}
    for draw in DRAWINGS:
        name = draw.__name__.removeprefix("draw_")
        with new_figure(HEIGHTS[name], name) as (figure, axes):
            draw(axes)
            drawings[name] = to_svg(figure, name)
    for name, svg in drawings.items():
        path = folder / "_figures" / f"{name}.svg"
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != svg:
            path.write_text(svg, encoding="utf-8")


def plot_example() -> str:
    """Return the energies of the example network, as its report draws them."""
    example = nd.load_example()
    recording = nd.EventSimulator(example.graph).run(example.inputs)
    return plot_energy(nd.report(example.graph, example.inputs, recording))


def run_neuron(
    steps: int = 40, seed: int = 13
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Run one neuron in floats and in the chip's integers: voltages and spikes of both.

    Voltages are those before the reset; of the integers, in units of the floats.
    """
    rng = np.random.default_rng(seed)
    weights = rng.normal(0.12, 0.25, 12)
    arrivals = rng.random((steps, 12)) < 0.25
    integers = fixedpoint.round_to_even_integer(weights * SCALE)
    decay_mantissa = fixedpoint.round_half_even(0.15 * 4096)
    threshold = fixedpoint.scale_up(SCALE)
    voltage, state = 0.0, np.int64(0)
    floats, rounded = np.zeros((2, steps)), np.zeros((2, steps))
    for step, arrived in enumerate(arrivals):
        voltage = 0.85 * voltage + weights @ arrived
        state = fixedpoint.decay(state, decay_mantissa) + fixedpoint.scale_up(integers @ arrived)
        floats[:, step] = voltage, voltage > 1
        rounded[:, step] = state / threshold, state > threshold
        voltage, state = (0.0 if voltage > 1 else voltage), state * (state <= threshold)
    return floats[0], rounded[0], floats[1] > 0, rounded[1] > 0


def draw_neuron(axes: Axes) -> None:
    """Draw the voltage of one neuron in floats and in integers, whose spikes part somewhere."""
    float_voltage, voltage, float_spikes, spikes = run_neuron()
    steps = np.arange(1, len(voltage) + 1)
    axes.axhline(1, color=INK, linewidth=0.8, linestyle="--")
    axes.plot(steps, float_voltage, color=SECOND, label="floats")
    axes.plot(steps, voltage, color=FIRST, label="integers of the chip")
    for place, color, fired in ((2.7, SECOND, float_spikes), (2.45, FIRST, spikes)):
        axes.plot(steps[fired], np.full(fired.sum(), place), color=color, marker="|", ls="none")
    axes.set(xlabel="step", ylabel="voltage, of the threshold", ylim=(-1.4, 2.9))
    axes.legend(loc="lower left", frameon=False, ncols=2)


def draw_time(axes: Axes) -> None:
    """Draw which step of which sample each layer computes: windows on top, a stream below."""
    layers, length = 3, 4
    for row in range(layers):
        for step in range(2 * length):
            sample, own = divmod(step, length)
            _box(axes, step, 4.6 - row, f"{own + 1}", (FIRST, SECOND)[sample])
            _box(axes, step + row, -row, f"{own + 1}", (FIRST, SECOND)[sample])
    axes.set(
        xlim=(-0.6, 10.6),
        ylim=(-2.6, 5.9),
        xticks=range(2 * length + layers - 1),
        xticklabels=range(1, 2 * length + layers),
        yticks=[4.6, 3.6, 2.6, 0, -1, -2],
        yticklabels=["layer 1", "layer 2", "layer 3"] * 2,
        xlabel="time step",
    )
    axes.text(-0.5, 5.4, "window: all layers within a step", va="center")
    axes.text(-0.5, 0.8, "stream: each layer a step later", va="center")
    axes.grid(visible=False)


def _box(axes: Axes, x: float, y: float, text: str, color: str) -> None:
    axes.text(
        x, y, text, ha="center", va="center", fontsize=8,
        bbox={"boxstyle": "square,pad=0.35", "facecolor": "none", "edgecolor": color},
    )  # fmt: skip


def draw_relays(axes: Axes) -> None:
    """Draw a skip, and the chain that a file holds in its place."""
    for x, name in enumerate(("S", "conv", "conv", "L")):
        _node(axes, 1.5 * x, 3, name, FIRST)
        _node(axes, 1.5 * x, 0.5, name, FIRST)
    for x in range(3):
        _arrow(axes, (1.5 * x, 3), (1.5 * x + 1.5, 3), INK)
        _arrow(axes, (1.5 * x, 0.5), (1.5 * x + 1.5, 0.5), INK)
    _arrow(axes, (0, 3), (4.5, 3), SECOND, curve=-0.25)
    for x in (1.5, 3.0):
        _node(axes, x, -0.6, "relay", SECOND)
    _arrow(axes, (0, 0.5), (1.5, -0.6), SECOND)
    _arrow(axes, (1.5, -0.6), (3, -0.6), SECOND)
    _arrow(axes, (3, -0.6), (4.5, 0.5), SECOND)
    axes.text(-0.5, 4.75, "the network: a skip from S to L", va="center")
    axes.text(-0.5, 1.35, "the file: a chain, with channels that repeat S", va="center")
    axes.set(xlim=(-0.6, 5.1), ylim=(-1.1, 5.1), xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)
    axes.grid(visible=False)


def _node(axes: Axes, x: float, y: float, name: str, color: str) -> None:
    axes.text(
        x, y, name, ha="center", va="center",
        bbox={"boxstyle": "round,pad=0.4", "facecolor": "none", "edgecolor": color},
    )  # fmt: skip


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str, curve: float = 0
) -> None:
    axes.annotate(
        "", end, start,
        arrowprops={
            "arrowstyle": "->", "color": color, "shrinkA": 20, "shrinkB": 20,
            "connectionstyle": f"arc3,rad={curve}",
        },
    )  # fmt: skip


def draw_branches(axes: Axes) -> None:
    """Draw the recorded accuracies with SGD: means of three seeds, and their spread."""
    recorded = json.loads((ROOT / "training/results/ablation.json").read_text(encoding="utf-8"))
    networks = ("p14", "r20", "p20", "r34")
    methods = {
        "vanilla": ("no branches", FAINT),
        "evolutionary, block": ("evolutionary, per block", FIRST),
        "separate losses cosine, block": ("separate losses (ours)", SECOND),
    }
    for number, (method, (name, color)) in enumerate(methods.items()):
        found = [
            [
                run["test"]
                for run in recorded["runs"]
                if (run["network"], run["optimizer"], run["method"]) == (network, "sgd", method)
            ]
            for network in networks
        ]
        places = [x + 0.27 * (number - 1) for x, values in enumerate(found) if values]
        means = [statistics.mean(values) for values in found if values]
        spreads = [statistics.stdev(values) for values in found if values]
        axes.bar(places, means, 0.24, yerr=spreads, color=color, ecolor=INK, label=name)
    axes.set_xticks(range(4), ["14 layers", "20 layers,\nskips", "20 layers", "34 layers,\nskips"])
    axes.set(ylabel="test accuracy, %", ylim=(0, 128), yticks=range(0, 101, 20))
    axes.grid(axis="x", visible=False)
    axes.legend(loc="upper left", frameon=False, ncols=2, fontsize=9)


DRAWINGS: tuple[Callable[[Axes], None], ...] = (
    draw_neuron, draw_time, draw_relays, draw_branches,
)  # fmt: skip
HEIGHTS = {"neuron": 2.6, "time": 3.0, "relays": 2.6, "branches": 2.8}
