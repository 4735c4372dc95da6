"""What a number in a recipe may be: limits that stand beside a dataclass field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Range:
    """What a number may be; `None` means no limit on that side."""

    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None

    def allows(self, value: float) -> bool:
        """Tell whether `value` lies inside."""
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.above is None or value > self.above)
            and (self.maximum is None or value <= self.maximum)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        words = (
            ("at least", self.minimum),
            ("above", self.above),
            ("at most", self.maximum),
            ("below", self.below),
        )
        return " and ".join(f"{word} {limit:g}" for word, limit in words if limit is not None)


Metadata = Mapping[str, object]
"""What `dataclasses.field(metadata=...)` takes."""
POSITIVE: Metadata = {"range": Range(minimum=1)}
NOT_NEGATIVE: Metadata = {"range": Range(minimum=0)}
ABOVE_ZERO: Metadata = {"range": Range(above=0)}
FRACTION: Metadata = {"range": Range(above=0, below=1)}
UNIT: Metadata = {"range": Range(minimum=0, maximum=1)}
NOT_EMPTY: Metadata = {"not_empty": True}
