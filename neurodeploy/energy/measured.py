"""Counters and powers that were measured on a chip, in place of counted ones.

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

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from types import MappingProxyType

from neurodeploy.energy.operations import Operations
from neurodeploy.errors import DataError

COUNTERS = ("syn_ops", "dendrite_updates", "spikes_in", "axon_out")
POWERS = ("static_power_w", "total_power_w", "seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a chip's profiler said, per inference.

    Attributes:
        path: The file.
        source: Which chip and tool, in the words of the file.
        samples: Inferences that were measured.
        counters: Per inference, by name; only those that the file has.
        static_pj: Static energy of an inference, pJ; None if not measured.
        total_pj: Whole energy of an inference, pJ; None if not measured.
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
        try:
            table = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: not a readable JSON file ({error}).") from error
        allowed = ("source", "samples", *COUNTERS, *POWERS)
        if not isinstance(table, dict) or (unknown := sorted(table.keys() - set(allowed))):
            found = f"unknown key '{unknown[0]}'" if isinstance(table, dict) else "no JSON object"
            raise DataError(f"{path}: {found}, allowed are {', '.join(allowed)}.")
        source, samples = table.get("source"), table.get("samples")
        if not isinstance(source, str) or not source:
            raise DataError(f"{path}: source is missing: say on what it was measured, and how.")
        if not isinstance(samples, int) or isinstance(samples, bool) or samples < 1:
            raise DataError(f"{path}: samples {samples!r}, a whole number of at least 1 is needed.")
        counters = {
            name: _total(table[name], f"{path}: {name}") / samples
            for name in COUNTERS
            if name in table
        }
        powers = {name: _total(table[name], f"{path}: {name}") for name in POWERS if name in table}
        if not counters and "total_power_w" not in powers:
            raise DataError(f"{path}: nothing measured; give {', '.join(COUNTERS)} or powers.")
        if any(name in powers for name in POWERS[:2]) and "seconds" not in powers:
            raise DataError(f"{path}: powers without the seconds that the samples took.")
        each = powers.get("seconds", 0.0) / samples * 1e12  # W · s = 10^12 pJ
        static, total = (powers.get(name) for name in POWERS[:2])
        return cls(
            path=str(path),
            source=source,
            samples=samples,
            counters=MappingProxyType(counters),
            static_pj=None if static is None else static * each,
            total_pj=None if total is None else total * each,
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

    def to_dict(self, operations: Operations) -> dict[str, object]:
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
    """Return what was counted under the profiler's names."""
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
        one = waiting.pop()
        if isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, int | float) and not isinstance(one, bool) and isfinite(one):
            if one < 0:
                raise DataError(f"{where}: {one}, at least 0 is required.")
            total += one
        else:
            raise DataError(f"{where}: {one!r}, a number or a list of numbers is required.")
    return total
