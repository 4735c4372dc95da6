"""Counters and powers measured on a chip, in place of counted ones.

    {"source": "Loihi 2, Oheo Gulch, Lava profiler", "samples": 16,
     "syn_ops": 3.1e6, "dendrite_updates": [81920, 40960], "axon_out": 12400,
     "static_power_w": 0.232, "total_power_w": 0.679, "seconds": 0.04}

Counters are totals over the samples; a list (by core, by step) is added up. Names are those of
Lava's profiler: `syn_ops` are stored synaptic operations, `dendrite_updates` updates of every
neuron, `spikes_in` messages received, `axon_out` messages sent. Powers and the seconds that the
samples took give the measured energy.

Source: the counters of `lava/utils/profiler.py` in Intel's extension for Loihi 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, TypedDict

from neurodeploy.energy.formulas import Operations
from neurodeploy.errors import DataError
from neurodeploy.strict_tables import NotEmpty, PositiveInt, read_table
from neurodeploy.untrusted.boundary import FileKind
from neurodeploy.untrusted.documents import read_json

COUNTERS = ("syn_ops", "dendrite_updates", "spikes_in", "axon_out")
_FILE = FileKind("measurements", ".json", DataError, "Give a JSON file of measurements.")
LARGEST = 1e30
"""Of any total: beyond what a chip can count or draw, and far below where products overflow."""
_TOTALS = (*COUNTERS, "static_power_w", "total_power_w", "seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Profile:
    """The file; counters and powers are numbers or lists of them."""

    source: Annotated[str, NotEmpty("name the chip and the tool")]
    samples: PositiveInt
    syn_ops: object = None
    dendrite_updates: object = None
    spikes_in: object = None
    axon_out: object = None
    static_power_w: object = None
    total_power_w: object = None
    seconds: object = None


class CounterJson(TypedDict):
    """A counter of a chip's profiler beside ours."""

    measured: float
    counted: float


class MeasuredJson(TypedDict):
    """Measurements beside counts, an inference."""

    file: str
    source: str
    samples: int
    counters: dict[str, CounterJson]
    static_energy: float | None
    total_energy: float | None
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Those counters and energies of a chip's profiler that a file has, per inference.

    The source names chip and tool in the words of the file.

    Example:
        >>> profile = {"source": "Loihi 2, Lava profiler", "samples": 2, "syn_ops": [400, 200]}
        >>> _ = Path("measured.json").write_text(json.dumps(profile))
        >>> measured = nd.Measured.load("measured.json")
        >>> measured.apply(nd.Operations(steps=4, sops_ac=250)).sops_stored  # a sample
        300.0
        >>> measured.to_dict(nd.Operations(steps=4, sops_ac=250))["counters"]
        {'syn_ops': {'measured': 300.0, 'counted': 250.0}}
    """

    path: str
    source: str
    samples: int
    counters: Mapping[str, float]
    static_pj: float | None = None
    total_pj: float | None = None

    @classmethod
    def load(cls, path: str | Path) -> Measured:
        """Read a file of measurements.

        Raises:
            DataError: If it is missing or damaged, has unknown keys, or numbers that are none.
        """
        table = read_json(Path(path), _FILE)
        profile = read_table(_Profile, table, where=str(path), error=DataError)
        samples = profile.samples
        assert isinstance(table, dict)  # `read_table` refuses others
        totals = {key: _total(table[key], f"{path}: {key}") for key in _TOTALS if key in table}
        counters = {key: totals[key] / samples for key in COUNTERS if key in totals}
        if not counters and "total_power_w" not in totals:
            raise DataError(f"{path}: nothing measured; give {', '.join(COUNTERS)} or powers.")
        static, total = totals.get("static_power_w"), totals.get("total_power_w")
        if "seconds" not in totals and not (static is None and total is None):
            raise DataError(f"{path}: powers without the seconds that the samples took.")
        to_pj = totals.get("seconds", 0.0) / samples * 1e12  # W · s = 10^12 pJ
        return cls(
            path=str(path),
            source=profile.source,
            samples=samples,
            counters=MappingProxyType(counters),
            static_pj=None if static is None else static * to_pj,
            total_pj=None if total is None else total * to_pj,
        )

    def apply(self, operations: Operations) -> Operations:
        """Put the measured counters in the place of counted ones; shares stay as counted."""
        counted = counted_of(operations)
        changed = operations
        if "syn_ops" in self.counters:
            stored = self.counters["syn_ops"]
            share = (operations.sops_stored_conv or 0.0) / (counted["syn_ops"] or 1.0)
            changed = replace(changed, sops_stored=stored, sops_stored_conv=stored * share)
        if "dendrite_updates" in self.counters and counted["dendrite_updates"]:
            factor = self.counters["dendrite_updates"] / counted["dendrite_updates"]
            active = operations.updates_active
            changed = replace(
                changed,
                updates={model: n * factor for model, n in operations.updates.items()},
                updates_active=None if active is None else active * factor,
            )
        if "axon_out" in self.counters:
            changed = replace(changed, messages=self.counters["axon_out"])
        return changed

    def to_dict(self, operations: Operations) -> MeasuredJson:
        """Return the measurements beside the counts, as JSON values."""
        counted = counted_of(operations)
        return {
            "file": self.path,
            "source": self.source,
            "samples": self.samples,
            "counters": {
                name: {"measured": value, "counted": counted[name]}
                for name, value in self.counters.items()
            },
            "static_energy": self.static_pj,
            "total_energy": self.total_pj,
            "unit": "per inference; energies in pJ",
        }


def counted_of(operations: Operations) -> dict[str, float]:
    """Return counts under the profiler's names."""
    sops = operations.sops_ac + operations.sops_mac
    return {
        "syn_ops": sops if operations.sops_stored is None else operations.sops_stored,
        "dendrite_updates": operations.updates_dense,
        "spikes_in": operations.messages,
        "axon_out": operations.messages,
    }


def _total(value: object, where: str) -> float:
    """Add up a number, or lists of them to any depth."""
    waiting, total = [value], 0.0
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, list):
            waiting.extend(entry)
        elif isinstance(entry, bool) or not isinstance(entry, int | float) or not isfinite(entry):
            raise DataError(
                f"{where}: {str(entry)[:100]}, a number or a list of numbers is required."
            )
        elif entry < 0:
            raise DataError(f"{where}: {entry}, at least 0 is required.")
        else:
            total += entry
    if total > LARGEST:
        raise DataError(f"{where}: {total:.3g} in all, at most {LARGEST:g} is possible.")
    return total
