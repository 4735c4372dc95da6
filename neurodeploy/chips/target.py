"""A target: the limits of one chip or simulator, every number with its source.

Targets are TOML files in `hardware/targets`; a user's own file works alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, get_args

from neurodeploy.errors import TargetError
from neurodeploy.files import hardware_path, is_there
from neurodeploy.strict_tables import NotEmpty, read_table
from neurodeploy.untrusted.boundary import FileKind
from neurodeploy.untrusted.documents import read_toml

_FILE = FileKind("target", ".toml", TargetError, "Give a target's TOML file, or a target's name.")

Evidence = Literal["source", "abstract", "secondary", "unverified", "inferred"]
"""How a number is known: read in source code; in an abstract; in a secondary text that quotes the
primary one; from memory; our inference."""
EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)

Source = Annotated[str, NotEmpty("every number has a source")]

LARGEST = 2**31 - 1
REQUIRED = ("weight_min", "weight_max", "threshold_max", "bias_max", "decay_max", "delay_max")
"""Limits that every target states."""

CoreModel = Literal["loihi1", "loihi2"]
"""Rule by which layers share out neuro-cores; see `neurodeploy.chips.cores`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One number about a chip, its unit, and where it can be looked up."""

    value: int
    unit: str
    source: Source
    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Limits of one chip.

    Attributes:
        name: Short name, such as "loihi2".
        description: One sentence.
        limits: By name; `REQUIRED` ones are always there.
        core_model: None for a target without cores, such as a simulator.

    Example:
        >>> loihi2.weight_min, loihi2.weight_max, loihi2.with_weight_bits(4).weight_max
        (-256, 254, 14)
        >>> loihi2.limit("delay_max")
        62
    """

    name: str
    description: str
    limits: Mapping[str, Limit]
    core_model: CoreModel | None = None

    @classmethod
    def load(cls, name_or_path: str | Path) -> Target:
        """Read a target by the name of a file in `hardware/targets`, or by its path.

        Raises:
            TargetError: If there is none, or the file is malformed.
        """
        path = Path(name_or_path)
        if path.suffix != ".toml" and is_there(path) and str(path) not in list_targets():
            raise TargetError(
                f"target '{path}': a TOML file, named *.toml, is required. Name one, or a target "
                f"that comes with neurodeploy: {', '.join(list_targets())}."
            )
        if path.suffix != ".toml":
            path = hardware_path() / "targets" / f"{name_or_path}.toml"
        if not is_there(path):
            known = ", ".join(list_targets())
            raise TargetError(
                f"target '{name_or_path}': no such target, there are {known}. "
                "A path to a TOML file is allowed too."
            )
        table = read_toml(path, _FILE)
        target = read_table(cls, table, where=str(path), error=TargetError)
        missing = [name for name in REQUIRED if name not in target.limits]
        if missing:
            raise TargetError(f"{path}: limits {', '.join(missing)} are missing.")
        for name, limit in target.limits.items():
            least, most = (-LARGEST, 0) if name.endswith("_min") else (1, LARGEST)
            least = 0 if name in ("bias_max", "delay_max") else least
            if not least <= limit.value <= most:
                raise TargetError(
                    f"{path} [limits.{name}]: value = {limit.value}, {least} to {most} are allowed."
                )
        return target

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

        Mixed-sign weights of 8 bits are those of the chip.

        Raises:
            TargetError: If `bits` is not 2 to 8, or the chip has no weights so wide.
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
