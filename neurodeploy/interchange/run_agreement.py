"""How far two runs of the same network agree, layer by layer, spike by spike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import InterchangeError
from neurodeploy.fixedpoint import FloatArray

TIE = 1e-5
"""Share of the threshold within which float32 rounding may decide a spike."""
VOLTAGE_TOLERANCE = 1e-5
"""Of the largest voltage of the population, and of 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAgreement:
    """One population.

    Attributes:
        name: Its name.
        values: Values compared.
        differing: Those that differ: spikes at all, voltages by more than rounding in float32.
        first: (sample, step) of the first difference in time order, or None.
        largest: Largest difference.
    """

    name: str
    values: int
    differing: int
    first: tuple[int, int] | None
    largest: float

    @property
    def share_equal(self) -> float:
        """Share of equal values, 0 to 1."""
        return 1.0 - self.differing / self.values


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAgreement:
    """All populations.

    Attributes:
        layers: In graph order.
        ties: Samples whose first difference is a tie that float32 rounding decided.
        unexplained: (sample, step, layer) of the first difference that no tie explains, or None.
    """

    layers: tuple[LayerAgreement, ...]
    ties: tuple[int, ...] = ()
    unexplained: tuple[int, int, str] | None = None

    @property
    def is_equal(self) -> bool:
        """True if nothing differs."""
        return not any(layer.differing for layer in self.layers)

    def describe(self) -> str:
        """Return one line a population."""
        lines = []
        for layer in self.layers:
            line = f"{layer.name}: {layer.values - layer.differing} of {layer.values} values equal"
            if layer.first is not None:
                sample, step = layer.first
                line += (
                    f" ({layer.share_equal:.2%}), first difference: sample {sample}, step {step}"
                )
            lines.append(line)
        return "\n".join(lines)


def compare_runs(
    ours: Mapping[str, npt.NDArray[np.generic]],
    theirs: Mapping[str, npt.NDArray[np.generic]],
    margins: Mapping[str, FloatArray],
    thresholds: Mapping[str, float],
) -> RunAgreement:
    """Compare the populations that both runs hold.

    A spike may differ where rounding in float32 decides: in each sample, the first difference (by
    step, then by layer) must lie where float64 is within 1e-5 of the threshold.

    Args:
        ours: Spikes or voltages by name, (samples, T, ...), in graph order.
        theirs: The same of the other framework.
        margins: Smallest |v - threshold| of ours by spiking population, (samples, T).
        thresholds: By spiking population.

    Raises:
        InterchangeError: If a name is unknown or shapes differ.
    """
    unknown = sorted(set(theirs) - set(ours))
    if unknown:
        raise InterchangeError(
            f"recorded: no population is called {', '.join(unknown)}. Populations: "
            f"{', '.join(ours)}."
        )
    layers = []
    steps_of_first: dict[int, tuple[int, int]] = {}
    names = [name for name in ours if name in theirs]
    for place, name in enumerate(names):
        a, b = np.asarray(ours[name]), np.asarray(theirs[name])
        if a.shape != b.shape:
            raise InterchangeError(f"{name}: recorded shape {b.shape}, {a.shape} is required.")
        difference = np.abs(a.astype(np.float64) - b)
        reach = max(1.0, float(np.abs(a.astype(np.float64)).max(initial=0.0)))
        wrong = difference > (0 if name in margins else VOLTAGE_TOLERANCE * reach)
        by_step = np.asarray(wrong.reshape(*wrong.shape[:2], -1).any(axis=2))
        for sample in map(int, np.flatnonzero(by_step.any(axis=1))):
            here = (int(by_step[sample].argmax()), place)
            steps_of_first[sample] = min(steps_of_first.get(sample, here), here)
        where = np.argwhere(by_step)
        layers.append(
            LayerAgreement(
                name=name,
                values=wrong.size,
                differing=int(wrong.sum()),
                first=(int(where[0][0]), int(where[0][1])) if len(where) else None,
                largest=float(difference.max(initial=0.0)),
            )
        )
    ties = []
    unexplained = None
    for sample, (step, place) in sorted(steps_of_first.items()):
        name = names[place]
        if name in margins and margins[name][sample, step] <= TIE * thresholds[name]:
            ties.append(sample)
        elif unexplained is None:
            unexplained = (sample, step, name)
    return RunAgreement(layers=tuple(layers), ties=tuple(ties), unexplained=unexplained)
