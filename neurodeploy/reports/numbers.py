"""Numbers as people read them, and the interval of a share that was measured on samples."""

from __future__ import annotations

from math import sqrt

from neurodeploy.energy.estimates import Energy

_PREFIXES = ((1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))


def format_count(value: float | None) -> str:
    """Write a count: whole numbers with separators, means with one decimal if below 100."""
    if value is None:
        return "not known"
    if float(value).is_integer() or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.1f}"


def format_energy(picojoules: float) -> str:
    """Write an energy with three digits and a prefix: "21.3 nJ"."""
    scale, unit = next((entry for entry in _PREFIXES if picojoules >= entry[0]), (1.0, "pJ"))
    value = picojoules / scale
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {unit}"


def format_range(energy: Energy) -> str:
    """Write the bounds of an energy, or one value where they are equal."""
    return format_bounds(energy.low, energy.high)


def format_bounds(lowest: float, highest: float) -> str:
    """Write two energies in pJ as a range, or one value where they look the same."""
    low, high = format_energy(lowest), format_energy(highest)
    return low if low == high else f"{low} – {high}"  # noqa: RUF001 - a range wants an en dash


def format_percent(fraction: float) -> str:
    """Write a fraction as a percentage with one decimal."""
    return f"{100 * fraction:.1f} %"


def format_interval(interval: tuple[float, float] | None) -> str:
    """Write an interval of fractions: "94.7 to 99.6 %", or nothing where there is none."""
    return "" if interval is None else f"{100 * interval[0]:.1f} to {format_percent(interval[1])}"


def format_factor(value: float) -> str:
    """Write a ratio with three digits and no exponent: "0.0789", "17.7", "5,880"."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


NORMAL_95 = 1.959963984540054
"""The standard normal distribution's quantile at 97.5 %."""


def wilson_interval(share: float, samples: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, such as accuracy on test samples.

    Source: Wilson, Journal of the American Statistical Association 22(158):209-212, 1927. Unlike
    the usual ± it stays within 0 and 1, and is no point where every sample was right.
    """
    assert samples >= 1
    z2 = NORMAL_95 * NORMAL_95 / samples
    middle = (share + z2 / 2) / (1 + z2)
    half = NORMAL_95 * sqrt(share * (1 - share) / samples + z2 / (4 * samples)) / (1 + z2)
    return max(middle - half, 0.0), min(middle + half, 1.0)
