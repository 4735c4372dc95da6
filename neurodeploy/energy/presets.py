"""Energy presets: constants of one technology, each with unit, source and evidence.

Presets are TOML files in `hardware/targets/energy`; a user's own file works alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from neurodeploy.chips.target import EVIDENCE, Evidence, Source
from neurodeploy.errors import TargetError
from neurodeploy.files import hardware_path, is_there
from neurodeploy.strict_tables import Range, read_table
from neurodeploy.untrusted.boundary import FileKind
from neurodeploy.untrusted.documents import read_toml

_FILE = FileKind("preset", ".toml", TargetError, "Give a preset's TOML file, or a preset's name.")


class Tier(StrEnum):
    """How much of a machine a model of energy covers."""

    ARITHMETIC = "A"
    """Additions and multiplications only."""
    MEMORY = "B"
    """Arithmetic and memory accesses."""
    CHIP = "C"
    """Per-operation energies of a neuromorphic chip."""


REQUIRED: Mapping[Tier, tuple[str, ...]] = {
    Tier.ARITHMETIC: ("mac", "ac"),
    Tier.MEMORY: (
        "access_8_kib",
        "access_32_kib",
        "access_1_mib",
        "access_dram",
        "weight_bits",
        "accumulator_bits",
        "state_bits",
        "activation_bits",
    ),
    Tier.CHIP: ("message", "hop_east_west", "hop_north_south", "static_power", "step_time"),
}
"""Constants that a preset of each tier states, at the least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A number that is not negative, its unit, and where it can be looked up."""

    value: Annotated[float, Range(minimum=0, maximum=1e30)]
    unit: str
    source: Source
    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyPreset:
    """Constants of one technology (process and voltage) for the model of energy of one tier.

    Example:
        >>> preset = nd.EnergyPreset.load("cmos45_int8")
        >>> preset.value("mac"), str(preset.evidence)
        (0.3, 'secondary')
    """

    name: str
    tier: Tier
    description: str
    technology: str
    constants: Mapping[str, Constant]

    @classmethod
    def load(cls, name_or_path: str | Path) -> EnergyPreset:
        """Read a preset by the name of a file in `hardware/targets/energy`, or by its path.

        Raises:
            TargetError: If there is none, or the file is malformed.
        """
        path = Path(name_or_path)
        if path.suffix != ".toml":
            path = _folder() / f"{name_or_path}.toml"
        if not is_there(path):
            raise TargetError(
                f"energy preset '{name_or_path}': no such preset, there are "
                f"{', '.join(list_presets())}. A path to a TOML file is allowed too."
            )
        table = read_toml(path, _FILE)
        preset = read_table(cls, table, where=str(path), error=TargetError)
        missing = [name for name in REQUIRED[preset.tier] if name not in preset.constants]
        if missing:
            raise TargetError(f"{path}: constants {', '.join(missing)} are missing.")
        return preset

    def value(self, name: str) -> float:
        """Return a constant; a TargetError names those that there are."""
        if name not in self.constants:
            raise TargetError(
                f"energy preset '{self.name}': no constant '{name}', there are "
                f"{', '.join(self.constants)}."
            )
        return self.constants[name].value

    @property
    def evidence(self) -> Evidence:
        """The weakest evidence of any of its energies; widths and times are assumptions."""
        grades = [entry.evidence for entry in self.constants.values() if entry.unit[:2] == "pJ"]
        return max(grades, key=EVIDENCE.index, default=EVIDENCE[-1])


def list_presets() -> tuple[str, ...]:
    """Return the names of the presets that come with neurodeploy."""
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def _folder() -> Path:
    return hardware_path() / "targets" / "energy"
