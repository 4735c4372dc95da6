"""A target: the limits of one chip or simulator, every number with its source.

Targets are TOML files in `hardware/targets`; a user's own file works alike.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from neurodeploy.errors import TargetError
from neurodeploy.files import hardware_path

EVIDENCE = ("source", "abstract", "secondary", "unverified", "inferred")
"""How a number is known: read in source code; in an abstract; in a secondary text that quotes the
primary one; from memory; our inference."""

REQUIRED = (
    "weight_min",
    "weight_max",
    "threshold_max",
    "bias_max",
    "decay_max",
    "delay_max",
)
"""Limits that every target states."""

CORE_MODELS = ("loihi1", "loihi2")
"""Rules by which layers share out neuro-cores; see `neurodeploy.chips.cores`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One number about a chip.

    Attributes:
        value: The number.
        unit: What it counts.
        source: Where it can be looked up.
        evidence: One of `EVIDENCE`.
    """

    value: int
    unit: str
    source: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Limits of one chip.

    Attributes:
        name: Short name, such as "loihi2".
        description: One sentence.
        limits: By name; `REQUIRED` ones are always there.
        core_model: One of `CORE_MODELS`; None for a target without cores, such as a simulator.
    """

    name: str
    description: str
    limits: Mapping[str, Limit]
    core_model: str | None = None

    @classmethod
    def load(cls, name_or_path: str | Path) -> Target:
        """Read a target by the name of a file in `hardware/targets`, or by its path.

        Raises:
            TargetError: If there is none, or the file is malformed.
        """
        given = Path(name_or_path)
        if given.suffix == ".toml":
            path = given
        else:
            path = hardware_path() / "targets" / f"{name_or_path}.toml"
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            known = ", ".join(list_targets())
            raise TargetError(
                f"target '{name_or_path}': no such target, there are {known}. "
                "A path to a TOML file is allowed too."
            ) from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise TargetError(f"{path}: not a readable TOML file ({error}).") from error
        return cls._from_table(table, where=str(path))

    @classmethod
    def _from_table(cls, table: Mapping[str, object], *, where: str) -> Target:
        unknown = sorted(table.keys() - {"name", "description", "limits", "core_model"})
        if unknown:
            raise TargetError(
                f"{where}: unknown key '{unknown[0]}', allowed are name, description, core_model, "
                "limits."
            )
        core_model = table.get("core_model")
        if core_model is not None and core_model not in CORE_MODELS:
            raise TargetError(
                f"{where}: core_model {core_model!r}, one of {', '.join(CORE_MODELS)} is allowed. "
                "Leave it out for a target without cores."
            )
        name, description, entries = (table.get(k) for k in ("name", "description", "limits"))
        if not (isinstance(name, str) and isinstance(description, str)):
            raise TargetError(f"{where}: name and description must be strings.")
        if not isinstance(entries, dict):
            raise TargetError(f"{where}: table [limits] is missing.")
        limits = {
            key: _read_limit(entry, f"{where} [limits.{key}]") for key, entry in entries.items()
        }
        missing = [key for key in REQUIRED if key not in limits]
        if missing:
            raise TargetError(f"{where}: limits {', '.join(missing)} are missing.")
        return cls(
            name=name,
            description=description,
            limits=MappingProxyType(limits),
            core_model=None if core_model is None else str(core_model),
        )

    def limit(self, name: str) -> int:
        """Return the value of a limit.

        Raises:
            TargetError: If this target does not state it.
        """
        if name not in self.limits:
            raise TargetError(
                f"target '{self.name}': no limit '{name}', there are {', '.join(self.limits)}."
            )
        return self.limits[name].value

    def with_weight_bits(self, bits: int) -> Target:
        """Return the same chip with narrower weights: even ones in [-2**bits, 2**bits - 2].

        Args:
            bits: 2 to 8; mixed-sign weights of 8 bits are those of the chip.

        Raises:
            TargetError: If there are no such weights, or the chip has none so wide.
        """
        low, high = -(1 << bits), (1 << bits) - 2
        if not 2 <= bits <= 8 or low < self.weight_min or high > self.weight_max:
            raise TargetError(
                f"target '{self.name}': weights of {bits} bits, 2 to 8 within {self.weight_min} to "
                f"{self.weight_max} are possible."
            )
        narrowed = {"weight_min": low, "weight_max": high}
        limits = {
            name: replace(limit, value=narrowed.get(name, limit.value))
            for name, limit in self.limits.items()
        }
        return replace(self, limits=MappingProxyType(limits))

    @property
    def weight_min(self) -> int:
        """Smallest mixed-sign weight."""
        return self.limit("weight_min")

    @property
    def weight_max(self) -> int:
        """Largest mixed-sign weight."""
        return self.limit("weight_max")

    @property
    def threshold_max(self) -> int:
        """Largest threshold mantissa."""
        return self.limit("threshold_max")

    @property
    def bias_max(self) -> int:
        """Largest magnitude of a bias mantissa."""
        return self.limit("bias_max")


def list_targets() -> tuple[str, ...]:
    """Return the names of the targets that come with neurodeploy."""
    return tuple(sorted(path.stem for path in (hardware_path() / "targets").glob("*.toml")))


def _read_limit(entry: object, where: str) -> Limit:
    fields = ("value", "unit", "source", "evidence")
    if not isinstance(entry, dict) or sorted(entry) != sorted(fields):
        raise TargetError(f"{where}: exactly the keys {', '.join(fields)} are required.")
    value, unit, source, evidence = (entry[field] for field in fields)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TargetError(f"{where}: value {value!r}, a whole number is required.")
    if not (isinstance(unit, str) and isinstance(source, str) and source):
        raise TargetError(f"{where}: unit and source must be strings; every number has a source.")
    if evidence not in EVIDENCE:
        raise TargetError(
            f"{where}: evidence '{evidence}', one of {', '.join(EVIDENCE)} is allowed."
        )
    return Limit(value=value, unit=unit, source=source, evidence=str(evidence))
