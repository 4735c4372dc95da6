"""Several networks side by side: accuracy against energy, and which of them nobody beats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from neurodeploy.cost.energy import DEFAULT_PRESET
from neurodeploy.errors import DataError

SUMMARY = "summary.json"
"""What a run leaves in its directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One network, as far as a comparison needs it.

    Attributes:
        name: Of its run or file.
        accuracy: Of the deployed network on its test set, a fraction; None if not known.
        sops: Synaptic operations a sample.
        steps: T; None if not known.
        energies: (low, nominal, high) in pJ of one inference, by preset.
        ann_energies: The same of the ANN it was reported with.
    """

    name: str
    accuracy: float | None
    sops: float
    steps: int | None
    energies: Mapping[str, tuple[float, float, float]]
    ann_energies: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One candidate in a comparison.

    Attributes:
        name: As in `Candidate`, and so on below.
        accuracy: A fraction, or None.
        sops: A sample.
        steps: T, or None.
        low: Energy of one inference in pJ.
        nominal: The model's value.
        high: Upper bound.
        is_best: Whether no other is at least as accurate for less energy; False without accuracy.
    """

    name: str
    accuracy: float | None
    sops: float
    steps: int | None
    low: float
    nominal: float
    high: float
    is_best: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkComparison:
    """Candidates with one preset's energies, most accurate first.

    Attributes:
        preset: Constants of all of them.
        entries: One a candidate.
    """

    preset: str
    entries: tuple[Entry, ...]

    def to_dict(self) -> dict[str, object]:
        """Give the same as plain values for JSON."""
        return {
            "preset": self.preset,
            "unit": "pJ per inference",
            "networks": [asdict(entry) for entry in self.entries],
            "pareto_front": [entry.name for entry in self.entries if entry.is_best],
        }


def read_candidate(path: Path) -> Candidate:
    """Read a run's directory, or what `report --json` printed.

    Args:
        path: Directory with `summary.json`, or a JSON file.

    Raises:
        DataError: If it is missing or holds neither.
    """
    file = path / SUMMARY if path.is_dir() else path
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(
            f"{file}: cannot be read ({reason}). Give the directory of a whole run, or a file "
            "written from `neurodeploy report --json`."
        ) from error
    except json.JSONDecodeError as error:
        raise DataError(f"{file}: not JSON ({error}).") from error
    try:
        return _candidate(document, path)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{file}: neither the summary of a run nor a report ({error!r} is missing or wrong). "
            "Make it anew with this version."
        ) from error


def compare_networks(
    candidates: Sequence[Candidate], *, preset: str | None = None
) -> NetworkComparison:
    """Put networks side by side.

    Args:
        candidates: At least one; names are made unique.
        preset: Whose energies; by default memory included where all have it, else arithmetic.

    Raises:
        DataError: If there are no candidates, or one has no energy of that preset.
    """
    if not candidates:
        raise DataError("comparison: no networks. Name at least one.")
    shared = [
        name
        for name in candidates[0].energies
        if all(name in candidate.energies for candidate in candidates)
    ]
    chosen = preset
    if chosen is None:
        memory = [name for name in shared if " + " in name]
        chosen = next(iter(memory or [n for n in shared if n == DEFAULT_PRESET] or shared), None)
    if chosen not in shared:
        raise DataError(
            f"comparison: preset '{chosen}' is not in every report; shared by all are "
            f"{', '.join(shared) or 'none'}."
        )
    points = [(c.accuracy, c.energies[chosen][1]) for c in candidates]
    entries = [
        Entry(
            name=name,
            accuracy=candidate.accuracy,
            sops=candidate.sops,
            steps=candidate.steps,
            low=candidate.energies[chosen][0],
            nominal=candidate.energies[chosen][1],
            high=candidate.energies[chosen][2],
            is_best=_is_best(number, points),
        )
        for number, (name, candidate) in enumerate(
            zip(_unique([c.name for c in candidates]), candidates, strict=True)
        )
    ]
    entries.sort(key=lambda one: (-(one.accuracy if one.accuracy is not None else -1), one.nominal))
    return NetworkComparison(preset=chosen, entries=tuple(entries))


def _is_best(number: int, points: Sequence[tuple[float | None, float]]) -> bool:
    """Whether a point lies on the Pareto front of much accuracy and little energy."""
    accuracy, energy = points[number]
    if accuracy is None:
        return False
    return not any(
        other is not None
        and other >= accuracy
        and cost <= energy
        and (other > accuracy or cost < energy)
        for other, cost in points
    )


def _candidate(document: Mapping[str, object], path: Path) -> Candidate:
    def table(value: object) -> Mapping[str, object]:
        if not isinstance(value, Mapping):
            raise TypeError("a table")
        return value

    def number(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError("a number")
        return float(value)

    is_run = "sops_per_sample" in document
    tiers = document["energy"] if is_run else document["tiers"]
    if not isinstance(tiers, list):
        raise TypeError("tiers")
    energies: dict[str, tuple[float, float, float]] = {}
    ann: dict[str, tuple[float, float, float]] = {}
    for entry in map(table, tiers):
        name = str(entry["preset"])
        energies[name] = (number(entry["low"]), number(entry["nominal"]), number(entry["high"]))
        if entry.get("ann") is not None:
            other = table(entry["ann"])
            ann[name] = (number(other["low"]), number(other["nominal"]), number(other["high"]))
    stages = document.get("accuracy")
    values = list(table(stages).values()) if stages is not None else []
    if is_run:
        steps = table(table(document["recipe"])["network"])["steps"]
        sops = number(document["sops_per_sample"])
    else:
        steps = table(document["workload"])["T"]
        sops = number(table(document["per_sample"])["sops"])
    return Candidate(
        name=path.name if path.is_dir() else path.stem,
        accuracy=number(values[-1]) if values else None,
        sops=sops,
        steps=int(number(steps)),
        energies=energies,
        ann_energies=ann,
    )


def _unique(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result
