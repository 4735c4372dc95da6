"""Which pixels of a map a layer holds, its own or relayed, and in which of its channels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from neurodeploy.ir.float_layers import Shape

Span = tuple[int, int]
"""The first and the last row (or column) that is read through one tap."""
Origin = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Where a layer's output holds the spikes of a source, its own or relayed.

    The channels of row r and column c hold the source's pixel (r + i · stride, c + j · stride) at
    (i, j). Behind layers that stride there are channels for every r and c below the stride that
    is read later; behind layers that crop, others that begin further down or to the right.

    Attributes:
        first: First channel (or neuron).
        shape: Of the source: (C, H, W), or (N,); (C·H·W,) behind a dense layer that relays a map.
        stride: Rows and columns of the source from one held pixel to the next.
        starts: For rows and for columns: how many are held from each start on, in the order in
            which the channels lie.
        origins: By start: that in the layer before which was relayed, and the offset of the tap.
    """

    first: int
    shape: Shape
    stride: tuple[int, int] = (1, 1)
    starts: tuple[Mapping[int, int], Mapping[int, int]]
    origins: tuple[Mapping[int, Origin], Mapping[int, Origin]] = ({}, {})

    @classmethod
    def of(cls, shape: Shape, first: int = 0) -> Held:
        """Return a block that holds all of a source."""
        rows, columns = (shape[1], shape[2]) if len(shape) == 3 else (1, 1)
        return cls(first=first, shape=shape, starts=({0: rows}, {0: columns}))

    @property
    def channels(self) -> int:
        """Number of channels (or neurons) in which the source is held."""
        return self.shape[0] * len(self.starts[0]) * len(self.starts[1])

    def __iter__(self) -> Iterator[tuple[tuple[int, int], slice]]:
        """Yield each start (row, column) with its channels."""
        first = self.first
        for row in self.starts[0]:
            for column in self.starts[1]:
                yield (row, column), slice(first, first + self.shape[0])
                first += self.shape[0]

    def size(self, axis: int) -> int:
        """Return the rows (axis 0) or columns of the source."""
        return self.shape[axis + 1] if len(self.shape) == 3 else 1

    def start_for(self, axis: int, span: Span) -> int | None:
        """Return the start of channels that hold a whole span, the last one if there are more."""
        every = self.stride[axis]
        fitting = (
            start
            for start, held in self.starts[axis].items()
            if start <= span[0]
            and (span[0] - start) % every == 0
            and (span[1] - start) // every < held
        )
        return max(fitting, default=None)

    def relayed(
        self,
        first: int,
        stride: tuple[int, int],
        output: Sequence[int],
        spans: tuple[Iterable[Span], Iterable[Span]],
    ) -> Held:
        """Return what the next layer holds if it relays what is read later, in few channels.

        Args:
            first: First channel of the relays.
            stride: Of that layer.
            output: Its rows and columns.
            spans: What is read later, of rows and of columns. A span that no channels can hold is
                left out.
        """
        starts: list[dict[int, int]] = []
        origins: list[dict[int, Origin]] = []
        for axis in (0, 1):
            every = self.stride[axis] * stride[axis]
            by_phase: dict[int, list[Span]] = {}
            for span in sorted(set(spans[axis])):
                by_phase.setdefault(span[0] % every, []).append(span)
            found: dict[int, int] = {}
            for phase, read in by_phase.items():
                found |= self._starts_of(axis, phase, read, every, output[axis])
            taps = {
                start: (origin, (start - origin) // self.stride[axis])
                for start, origin in sorted(found.items())
            }
            starts.append({})
            for start, (origin, tap) in taps.items():
                rest = -(-(self.starts[axis][origin] - tap) // stride[axis])
                starts[axis][start] = max(0, min(output[axis], rest))
            origins.append(taps)
        return Held(
            first=first,
            shape=self.shape,
            stride=(self.stride[0] * stride[0], self.stride[1] * stride[1]),
            starts=(starts[0], starts[1]),
            origins=(origins[0], origins[1]),
        )

    def _starts_of(
        self, axis: int, phase: int, spans: Sequence[Span], every: int, room: int
    ) -> dict[int, int]:
        """Return starts that hold all spans of a phase, with their starts in the layer before."""

        def origin_of(span: Span) -> int | None:
            return self.start_for(axis, span) if (span[1] - span[0]) // every < room else None

        found: dict[int, int] = {}

        def settle(group: Span) -> None:
            """Begin as early as all of a group has room, so that the relay's tap is near."""
            earliest = max(phase, group[1] - (room - 1) * every)
            for start in range(min(earliest, group[0]), group[0] + 1, every):
                origin = origin_of((start, group[1]))
                if origin is not None:
                    found[start] = origin
                    return

        group = spans[0]
        for span in spans[1:]:  # in the order of their first pixels
            joined = (group[0], max(group[1], span[1]))
            if origin_of(joined) is None:
                settle(group)
                group = span
            else:
                group = joined
        settle(group)
        return found


def span_of(offset: int, stride: int, outputs: int, size: int) -> Span | None:
    """Return what one tap reads of a map, padding left out; None if that is nothing."""
    first = max(0, -(offset // stride))
    last = min(outputs - 1, (size - 1 - offset) // stride)
    return None if last < first else (offset + first * stride, offset + last * stride)
