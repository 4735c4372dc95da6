"""What other machines would take by published figures: context, never a default.

The figures are in `hardware/context`; each is all that is published, so nothing is added to it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from neurodeploy.energy.operations import Operations
from neurodeploy.errors import TargetError
from neurodeploy.files import hardware_path

NOTE = (
    "For context only: published figures times the counts of this report, each from its own "
    "technology and conditions. They do not rank machines."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformFigure:
    """One machine.

    Attributes:
        name: Of the machine.
        energy: pJ an inference: of the spiking network, or of the ANN where the figure is per MAC.
        is_ann: Whether it is the ANN's.
        formula: What was multiplied.
        technology: Process and voltage.
        note: What the figure is.
        source: Where it can be looked up.
        evidence: One of `neurodeploy.chips.target.EVIDENCE`.
    """

    name: str
    energy: float
    is_ann: bool
    formula: str
    technology: str
    note: str
    source: str
    evidence: str


def platform_figures(operations: Operations, macs: int) -> tuple[PlatformFigure, ...]:
    """Multiply published figures with counts.

    Args:
        operations: Of the spiking network.
        macs: Of the ANN, one pass.

    Raises:
        TargetError: If the file of figures is malformed.
    """
    return tuple(
        _figure(entry, operations, macs) for entry in _tables("platforms.toml", "platforms")
    )


def measured_runs() -> tuple[dict[str, object], ...]:
    """Return the published measurements of Loihi 2, as they are in their file.

    Raises:
        TargetError: If it is malformed.
    """
    return tuple(dict(entry) for entry in _tables("loihi2_measured.toml", "runs"))


def _tables(name: str, key: str) -> list[Mapping[str, object]]:
    path = hardware_path() / "context" / name
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))[key]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise TargetError(f"{path}: not a readable table [[{key}]] ({error}).") from error
    return list(entries)


def _figure(entry: Mapping[str, object], operations: Operations, macs: int) -> PlatformFigure:
    sops = operations.sops_ac + operations.sops_mac
    numbers = {"per_sop": sops, "per_update": operations.updates_dense, "per_mac": float(macs)}
    words = {"per_sop": "SOPs", "per_update": "neuron updates", "per_mac": "MACs"}
    energy, parts = 0.0, []
    for key, number in numbers.items():
        value = entry.get(key)
        if isinstance(value, float):
            energy += value * number
            parts.append(f"{value:g} pJ · {words[key]}")
    if not parts:
        raise TargetError(f"platform '{entry.get('name')}': one of {', '.join(numbers)} is needed.")
    name, technology, note, source, evidence = (
        str(entry.get(key, "")) for key in ("name", "technology", "note", "source", "evidence")
    )
    return PlatformFigure(
        name=name,
        energy=energy,
        is_ann="per_mac" in entry,
        formula=" + ".join(parts),
        technology=technology,
        note=note,
        source=source,
        evidence=evidence,
    )
