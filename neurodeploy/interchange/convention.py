"""Conventions: how a framework turns the continuous time of a NIR file into steps.

NIR fixes neither a step width nor a discretisation, and each exporter has its own. So a file is
read by a named convention, or by forward Euler with a step width that the file itself gives away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from neurodeploy.errors import InterchangeError
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.interchange.nir_schema import NirGraph


class Scheme(Enum):
    """How a decay over one step comes of a time constant."""

    EULER = "dt / tau"
    EXPONENTIAL = "1 - exp(-dt / tau)"
    NORSE = "dt² / tau, as norse stores dt · tau"


class Gain(Enum):
    """How an input is scaled before it is added to the voltage."""

    FILE = "r · decay, and w_in · decay of the current"
    DECAY = "decay of the voltage"
    UNITY = "1"
    CURRENT = "1 - decay of the current"


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """How one exporter's files are to be read.

    Attributes:
        name: Its name.
        dt: Step width in seconds; None: from the file.
        scheme: How decays come of time constants.
        gain: How inputs are scaled.
        fires_at_threshold: Whether a voltage equal to the threshold fires.
        always_subtracts: Whether its neurons only ever subtract the threshold after a spike.
    """

    name: str
    dt: float | None = None
    scheme: Scheme = Scheme.EULER
    gain: Gain = Gain.FILE
    fires_at_threshold: bool = False
    always_subtracts: bool = False

    def decay(self, tau: FloatArray) -> FloatArray:
        """Return the decay over one step for time constants in seconds."""
        assert self.dt is not None
        match self.scheme:
            case Scheme.EULER:
                return np.asarray(self.dt / tau)
            case Scheme.EXPONENTIAL:
                return np.asarray(-np.expm1(-self.dt / tau))
            case Scheme.NORSE:
                return np.asarray(self.dt * self.dt / tau)


CONVENTIONS: dict[str, Convention] = {
    convention.name: convention
    for convention in (
        Convention(name="euler"),
        Convention(name="exponential", scheme=Scheme.EXPONENTIAL),
        Convention(name="snntorch", dt=1e-4),
        Convention(name="spikingjelly", dt=1e-4, fires_at_threshold=True),
        Convention(name="norse", dt=1e-3, scheme=Scheme.NORSE, gain=Gain.DECAY),
        Convention(
            name="sinabs", dt=1.0, scheme=Scheme.EXPONENTIAL, gain=Gain.DECAY,
            fires_at_threshold=True,
        ),
        Convention(
            name="sinabs-plain-input", dt=1.0, scheme=Scheme.EXPONENTIAL, gain=Gain.UNITY,
            fires_at_threshold=True,
        ),
        Convention(
            name="rockpool", scheme=Scheme.EXPONENTIAL, gain=Gain.CURRENT,
            fires_at_threshold=True, always_subtracts=True,
        ),
        Convention(name="neurodeploy"),
    )
}  # fmt: skip
"""A file of sinabs does not tell whether its LIF has `norm_input=True`, the default, which
`sinabs` takes for granted; `sinabs-plain-input` is for `norm_input=False`."""


def choose_convention(graph: NirGraph, name: str | None, dt: float | None) -> Convention:
    """Return the convention to read a graph by, its step width filled in.

    Args:
        graph: The graph.
        name: Name of a convention; None: forward Euler.
        dt: Step width in seconds; None: that of the convention, else the one that the file gives
            away, else the one that its metadata name, which "neurodeploy" believes first.

    Raises:
        InterchangeError: If the name is not known, or no step width can be found.
    """
    if name is not None and name not in CONVENTIONS:
        raise InterchangeError(f"convention '{name}': allowed are {', '.join(CONVENTIONS)}.")
    convention = CONVENTIONS[name or "euler"]
    if dt is not None and not (math.isfinite(dt) and dt > 0):
        raise InterchangeError(f"dt: {dt:g}, seconds above 0 are required.")
    needs_width = any(
        key in node.values for node in graph.nodes.values() for key in ("tau", "tau_mem", "r")
    )
    told = graph.dt if name == "neurodeploy" else None
    width = dt or convention.dt or told or infer_dt(graph) or graph.dt
    width = width or (None if needs_width else 1.0)
    if width is None:
        raise InterchangeError(
            "NIR: the graph does not tell the width of a time step. Give "
            f"convention= ({', '.join(CONVENTIONS)}) or dt= in seconds."
        )
    return replace(convention, dt=width)


def infer_dt(graph: NirGraph) -> float | None:
    """Return the step width that gains give away, or None.

    Exporters whose neurons have a gain of 1 a step write r = tau / dt and w_in = tau_syn / dt, or
    r = 1 / dt without a leak. A width is believed if all agree within 0.1 % on 1, 2 or 5 times a
    power of ten.
    """
    empty = np.empty(0)
    values = np.concatenate([empty, *map(np.ravel, _widths_of_leaks(graph))])
    if not values.size:
        values = np.concatenate([empty, *map(np.ravel, _widths_of_integrators(graph))])
    if not values.size or not np.isfinite(values).all() or values.min() <= 0:
        return None
    width = float(np.median(values))
    exponent = math.floor(math.log10(width))
    rounds = [step * 10.0**power for power in (exponent, exponent + 1) for step in (1, 2, 5)]
    nearest = min(rounds, key=lambda candidate: abs(candidate - width))
    is_round = np.abs(values - nearest).max() <= 1e-3 * nearest
    return float(f"{nearest:.6g}") if is_round else None


def _widths_of_leaks(graph: NirGraph) -> Iterator[FloatArray]:
    for node in graph.nodes.values():
        if node.kind in ("LIF", "LI"):
            yield _ratio(node.array("tau"), node.array("r"))
        elif node.kind in ("CubaLIF", "CubaLI"):
            yield _ratio(node.array("tau_mem"), node.array("r"))
            yield _ratio(node.array("tau_syn"), node.array("w_in"))


def _widths_of_integrators(graph: NirGraph) -> Iterator[FloatArray]:
    for node in graph.nodes.values():
        if node.kind in ("IF", "I"):
            yield np.asarray(1.0 / _positive(node.array("r")))


def _ratio(tau: FloatArray, gain: FloatArray) -> FloatArray:
    """Return tau / gain where the gain is not 1."""
    try:
        taus, gains = np.broadcast_arrays(tau, gain)
    except ValueError:
        return np.empty(0)
    is_given = gains != 1
    return np.asarray(taus[is_given] / _positive(gains[is_given]))


def _positive(values: FloatArray) -> FloatArray:
    """Replace values that cannot be divided by; they are refused later, by name."""
    return np.where(values > 0, values, np.nan)
