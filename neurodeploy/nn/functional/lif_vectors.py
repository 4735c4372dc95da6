"""LIF neurons over all steps, many side by side in registers.

A call takes some neighbouring columns of (T, M) through all steps: states stay in registers, and
calls in a row read and write T streams of memory that run on without a gap, which the processor
fetches ahead. Row after row of a tile in the first-level cache took up to four times as long.

No product is fused with a sum, so states are those of the torch loops in `functional.dynamics`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from neurodeploy.compiled_code import intrinsic
from neurodeploy.llvm_vectors import Memory, Vector, branch, fold_all, vector_function, where

WIDE: Final = 64
"""Columns at once: four registers of AVX-512. At the end of a tile it is one."""


def _make_runner(*, fires: bool) -> Callable[..., Any]:
    @intrinsic
    @vector_function()
    def run(
        inputs: Memory, at: Vector, pitch: Vector, skip: Memory, skip_at: Vector,
        skip_pitch: Vector, scale: Memory, shift: Memory, lane: Vector, tau: Vector,
        threshold: Vector, steps: Vector, result: Memory, place: Vector, result_pitch: Vector,
        is_wide: Vector,
    ) -> None:  # fmt: skip
        """Run neurons on the currents scale[lane :] · inputs + shift[lane :] + skip.

        In step t, inputs and skip are read from [at + t · pitch :], and to
        result[place + t · result_pitch :] go spikes, or membranes before the reset.
        """

        def run_some(lanes: int) -> Vector:
            factor, offset = scale.at(lane).load(lanes), shift.at(lane).load(lanes)
            zero = inputs.zeros(lanes)

            def step(number: Vector, state: Vector) -> list[Vector]:
                row = inputs.at(number * pitch + at).load(lanes)
                other = skip.at(number * skip_pitch + skip_at).load(lanes)
                membrane = state * tau + (row * factor + offset + other)
                is_firing = membrane > threshold
                written = where(is_firing, 1, zero) if fires else membrane
                result.at(number * result_pitch + place).store(written)
                return [where(is_firing, zero, membrane)]

            fold_all(steps.full(0), steps, [zero], step)
            return steps

        branch(is_wide, lambda: run_some(WIDE), lambda: run_some(0))

    return run


fire = _make_runner(fires=True)
charge = _make_runner(fires=False)


@intrinsic
@vector_function()
def differentiate(
    inputs: Memory, at: Vector, pitch: Vector, gradients: Memory, gradient_pitch: Vector,
    membranes: Memory, slopes: Memory, place: Vector, place_pitch: Vector, mean: Memory,
    inverse: Memory, lane: Vector, tau: Vector, reset: Vector, threshold: Vector, steps: Vector,
    result: Memory, first: Memory, second: Memory, is_wide: Vector, has_norm: Vector,
) -> None:  # fmt: skip
    """Differentiate neurons: d[t] = g[t] · h + (tau · (1 - o[t]) - reset · u[t] · h) · d[t+1].

    Inputs and result have `pitch` between their steps; with 0, the result is the sum over the
    steps. Membranes and slopes are at [place + t · place_pitch :]. With a norm, the sums over the
    steps of d and of d · (inputs - mean) · inverse are added to first[lane :] and second[lane :].
    """

    def run(lanes: int, *, has_norm: bool) -> Vector:
        zero = gradients.zeros(lanes)
        decay, is_static = zero.spread(tau), pitch.equals(0)

        def step(back: Vector, state: Vector, total: Vector, product: Vector) -> list[Vector]:
            number = steps - 1 - back
            kept = number * place_pitch + place
            slope, membrane = slopes.at(kept).load(lanes), membranes.at(kept).load(lanes)
            upstream = gradients.at(number * gradient_pitch + at).load(lanes)
            passed = where(membrane > threshold, zero, decay) - membrane * slope * reset
            state = slope * upstream + passed * state
            total = total + state
            row = number * pitch + at
            if has_norm:
                centred = inputs.at(row).load(lanes) - mean.at(lane).load(lanes)
                product = product + state * (centred * inverse.at(lane).load(lanes))
            result.at(row).store(where(is_static, total, state))
            return [state, total, product]

        _, total, product = fold_all(steps.full(0), steps, [zero, zero, zero], step)
        if has_norm:
            for sums, summand in ((first, total), (second, product)):
                target = sums.at(lane)
                target.store(target.load(lanes) + summand)
        return steps

    def run_some(lanes: int) -> Vector:
        return branch(
            has_norm, lambda: run(lanes, has_norm=True), lambda: run(lanes, has_norm=False)
        )

    branch(is_wide, lambda: run_some(WIDE), lambda: run_some(0))
