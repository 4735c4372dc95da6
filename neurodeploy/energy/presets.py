"""Energy presets: constants of one technology, each with unit, source and evidence.

Presets are TOML files in `hardware/targets/energy`; a user's own file works alike.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from neurodeploy.chips.target import EVIDENCE
from neurodeploy.errors import TargetError
from neurodeploy.files import hardware_path


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
    """One constant.

    Attributes:
        value: The number; not negative.
        unit: Its unit.
        source: Where it can be looked up.
        evidence: One of `neurodeploy.chips.target.EVIDENCE`.
    """

    value: float
    unit: str
    source: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyPreset:
    """Constants of one technology.

    Attributes:
        name: Short name, such as "cmos45_int8".
        tier: Which model of energy they belong to.
        description: One sentence.
        technology: Process and voltage.
        constants: By name.
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
        given = Path(name_or_path)
        path = given if given.suffix == ".toml" else _folder() / f"{name_or_path}.toml"
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise TargetError(
                f"energy preset '{name_or_path}': no such preset, there are "
                f"{', '.join(list_presets())}. A path to a TOML file is allowed too."
            ) from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise TargetError(f"{path}: not a readable TOML file ({error}).") from error
        return _read_preset(table, where=str(path))

    def value(self, name: str) -> float:
        """Return the value of a constant.

        Raises:
            TargetError: If this preset does not state it.
        """
        if name not in self.constants:
            raise TargetError(
                f"energy preset '{self.name}': no constant '{name}', there are "
                f"{', '.join(self.constants)}."
            )
        return self.constants[name].value

    @property
    def evidence(self) -> str:
        """The weakest evidence of any of its energies; widths and times are assumptions."""
        energies = [one for one in self.constants.values() if one.unit.startswith("pJ")]
        return max((one.evidence for one in energies), key=EVIDENCE.index, default=EVIDENCE[-1])


def list_presets(tier: Tier | None = None) -> tuple[str, ...]:
    """Return the names of the presets that come with neurodeploy, of one tier or of all.

    Raises:
        TargetError: If one of the files is malformed.
    """
    names = sorted(path.stem for path in _folder().glob("*.toml"))
    if tier is None:
        return tuple(names)
    return tuple(name for name in names if EnergyPreset.load(name).tier is tier)


def _folder() -> Path:
    return hardware_path() / "targets" / "energy"


def _read_preset(table: Mapping[str, object], *, where: str) -> EnergyPreset:
    keys = ("name", "tier", "description", "technology", "constants")
    if sorted(table) != sorted(keys):
        raise TargetError(f"{where}: exactly the keys {', '.join(keys)} are required.")
    texts: dict[str, str] = {}
    for key in keys[:-1]:
        text = table[key]
        if not isinstance(text, str):
            raise TargetError(f"{where}: {key} must be a string.")
        texts[key] = text
    if texts["tier"] not in list(Tier):
        raise TargetError(f"{where}: tier '{texts['tier']}', one of {', '.join(Tier)} is allowed.")
    entries = table["constants"]
    if not isinstance(entries, dict):
        raise TargetError(f"{where}: table [constants] is missing.")
    constants = {
        key: _read_constant(entry, f"{where} [constants.{key}]") for key, entry in entries.items()
    }
    tier = Tier(texts["tier"])
    missing = [key for key in REQUIRED[tier] if key not in constants]
    if missing:
        raise TargetError(f"{where}: constants {', '.join(missing)} are missing.")
    return EnergyPreset(
        name=texts["name"],
        tier=tier,
        description=texts["description"],
        technology=texts["technology"],
        constants=MappingProxyType(constants),
    )


def _read_constant(entry: object, where: str) -> Constant:
    fields = ("value", "unit", "source", "evidence")
    if not isinstance(entry, dict) or sorted(entry) != sorted(fields):
        raise TargetError(f"{where}: exactly the keys {', '.join(fields)} are required.")
    value, unit, source, evidence = (entry[key] for key in fields)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value < float("inf"):
        raise TargetError(f"{where}: value {value!r}, a number of at least 0 is required.")
    if not (isinstance(unit, str) and isinstance(source, str) and source):
        raise TargetError(f"{where}: unit and source must be strings; every number has a source.")
    if evidence not in EVIDENCE:
        raise TargetError(
            f"{where}: evidence '{evidence}', one of {', '.join(EVIDENCE)} is allowed."
        )
    return Constant(value=float(value), unit=unit, source=source, evidence=str(evidence))
