"""CUBA neurons over all steps, many side by side in registers; see `lif_vectors`.

States are whole numbers in float64: products with a share of 4096 are exact there up to 2**41, and
truncation is one instruction for a vector of them.
"""

from __future__ import annotations

from typing import Final

from neurodeploy.compiled_code import intrinsic
from neurodeploy.llvm_vectors import WORD, Memory, Vector, branch, fold_all, vector_function, where
from neurodeploy.nn.functional.parallel import TILE

WIDE: Final = 32
"""Columns at once: their states fill eight registers of AVX-512. At the end of a tile it is one."""


FIELDS: Final = ("at", "lane", "pitch", "steps", "is_wide")
"""What a call reads of its places: where columns begin in a row and in the vectors of a tile, the
length of a row, the number of rows, and whether there are `WIDE` columns and not one."""


@intrinsic
@vector_function()
def fire(
    inputs: Memory, vectors: Memory, places: Memory, numbers: Memory, flags: Memory, spikes: Memory,
    voltages: Memory, currents: Memory,
) -> None:  # fmt: skip
    """Run neurons on inputs[at + t · pitch :].

    There, spikes and voltages before the reset are written, and currents if they are wanted.

    Args:
        inputs: (T, M) float32 in SLAYER units, as spikes, voltages and currents.
        vectors: (4, TILE) float64 of a tile: shares of current and voltage that are kept; states,
            which become those after the last step.
        places: `FIELDS`, int64.
        numbers: State units of one SLAYER unit, and the level that a spike exceeds, float64.
        flags: Whether the first of these is a power of two, the output graded, currents wanted;
            int64.
        spikes: Output.
        voltages: Output.
        currents: Output.
    """
    at, lane, pitch, steps, is_wide = (places.at(i).load() for i in range(len(FIELDS)))
    is_power_of_two, is_graded, has_currents = (flags.at(i).load().differs(0) for i in range(3))
    scale, level = numbers.at(0).load().as_float(32), numbers.at(1).load()

    def run(lanes: int, *, is_exact: bool) -> Vector:
        keep_u, keep_v, *starts = (vectors.at(lane + i * TILE).load(lanes) for i in range(4))
        zero, rest = inputs.zeros(lanes), vectors.zeros(lanes)
        one = zero.full(1)
        inverse = scale.full(1) / scale

        def in_units(state: Vector) -> Vector:
            single = state.as_float(32)
            return single * inverse if is_exact else single / scale

        def step(number: Vector, u: Vector, v: Vector) -> list[Vector]:
            place = number * pitch + at
            arriving = (inputs.at(place).load(lanes) * scale).truncated().as_float(WORD)
            u = (u * keep_u).truncated() + arriving
            handed = u if is_exact else (in_units(u) * scale).truncated().as_float(WORD)
            v = (v * keep_v).truncated() + handed
            before, is_firing = in_units(v), v > level
            voltages.at(place).store(before)
            spikes.at(place).store(where(is_firing, where(is_graded, before, one), zero))

            def keep() -> Vector:
                currents.at(place).store(in_units(u))
                return steps

            branch(has_currents, keep, lambda: steps)
            return [u, where(is_firing, rest, v)]

        for i, last in enumerate(fold_all(steps.full(0), steps, starts, step)):
            vectors.at(lane + (2 + i) * TILE).store(last)
        return steps

    def run_some(lanes: int) -> Vector:
        return branch(
            is_power_of_two, lambda: run(lanes, is_exact=True), lambda: run(lanes, is_exact=False)
        )

    branch(is_wide.differs(0), lambda: run_some(WIDE), lambda: run_some(0))


@intrinsic
@vector_function()
def filter_back(
    slopes: Memory, gradients: Memory, keeps: Memory, places: Memory, result: Memory
) -> None:
    """Write gx[t] = gv[t] + a_u · gx[t+1] with gv[t] = g[t] · h[t] + a_v · gv[t+1].

    Args:
        slopes: h, float32, whose rows are as long as the last of `places` says.
        gradients: g, (T, M) float32, as the result.
        keeps: (2, TILE) float32 of a tile: a_u and a_v.
        places: `FIELDS` and the length of a row of slopes, int64.
        result: gx.
    """
    at, lane, pitch, steps, is_wide, length = (places.at(i).load() for i in range(len(FIELDS) + 1))

    def run(lanes: int) -> Vector:
        zero = gradients.zeros(lanes)
        keep_u, keep_v = (keeps.at(lane + i * TILE).load(lanes) for i in range(2))

        def step(back: Vector, into_v: Vector, into_u: Vector) -> list[Vector]:
            number = steps - 1 - back
            place = number * pitch + at
            slope = slopes.at(number * length + lane).load(lanes)
            into_v = slope * gradients.at(place).load(lanes) + keep_v * into_v
            into_u = into_v + keep_u * into_u
            result.at(place).store(into_u)
            return [into_v, into_u]

        fold_all(steps.full(0), steps, [zero, zero], step)
        return steps

    branch(is_wide.differs(0), lambda: run(WIDE), lambda: run(0))
