"""Energies of other machines by published figures: context, never a default.

The figures are in `hardware/context`; each is all that is published, so nothing is added to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from neurodeploy.chips.target import Evidence, Source
from neurodeploy.energy.formulas import Operations
from neurodeploy.errors import TargetError
from neurodeploy.files import hardware_path
from neurodeploy.strict_tables import NotNegativeFloat, read_table
from neurodeploy.untrusted.boundary import FileKind
from neurodeploy.untrusted.documents import read_toml

_FILE = FileKind("figures", ".toml", TargetError, "Install neurodeploy again.")

NOTE = (
    "For context only: published figures times the counts of this report, each from its own "
    "technology and conditions. They do not rank machines."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformFigure:
    """The energy, in pJ, of an inference on one machine: the ANN's where the figure is per MAC.

    The formula names the published figures and the counts they are multiplied with, the note the
    conditions of the figures.
    """

    name: str
    energy: float
    is_ann: bool
    formula: str
    technology: str
    note: str
    source: str
    evidence: Evidence


def platform_figures(operations: Operations, macs: int) -> tuple[PlatformFigure, ...]:
    """Multiply published figures with the operations of a network and the MACs of an ANN's pass.

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
        entries = read_toml(path, _FILE)[key]
    except KeyError as error:
        raise TargetError(f"{path}: not a readable table [[{key}]] ({error}).") from error
    assert isinstance(entries, list)
    return entries


@dataclass(frozen=True, slots=True, kw_only=True)
class _Platform:
    """An entry of `platforms.toml`; energies in pJ."""

    name: str
    per_sop: NotNegativeFloat = 0.0
    per_update: NotNegativeFloat = 0.0
    per_mac: NotNegativeFloat = 0.0
    technology: str
    note: str
    source: Source
    evidence: Evidence


def _figure(table: Mapping[str, object], operations: Operations, macs: int) -> PlatformFigure:
    entry = read_table(_Platform, table, where="platforms.toml", error=TargetError)
    terms = (
        (entry.per_sop, operations.sops_ac + operations.sops_mac, "SOPs"),
        (entry.per_update, operations.updates_dense, "neuron updates"),
        (entry.per_mac, float(macs), "MACs"),
    )
    if not any(energy for energy, _, _ in terms):
        raise TargetError(f"platform '{entry.name}': per_sop, per_update or per_mac is needed.")
    return PlatformFigure(
        name=entry.name,
        energy=sum((energy * count for energy, count, _ in terms), 0.0),
        is_ann=entry.per_mac > 0,
        formula=" + ".join(f"{energy:g} pJ · {word}" for energy, _, word in terms if energy),
        technology=entry.technology,
        note=entry.note,
        source=entry.source,
        evidence=entry.evidence,
    )
