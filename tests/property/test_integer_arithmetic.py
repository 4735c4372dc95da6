"""Integer functions equal a restatement in Python's unbounded integers."""

from __future__ import annotations

import numpy as np
import restatement
from hypothesis import given, settings, strategies as st
from strategies import generators, int32s, weight_matrices

from neurodeploy.fixedpoint import (
    clip_voltage,
    decay,
    effective_dense_weight,
    resonator_decay,
    scale_down,
    scale_up,
    shift_towards_zero,
    wrap,
    wrap_current,
)
from neurodeploy.ir import ResonateFireNeuron
from neurodeploy.simulation.synapses import multiply_exactly

states = st.one_of(
    int32s,
    st.integers(-(2**23) - 3, -(2**23) + 3),
    st.integers(2**23 - 3, 2**23 + 3),
    st.integers(-100, 100),
)
decays = st.one_of(
    st.integers(0, 4096), st.sampled_from([0, 1, 4095, 4096]), st.integers(-(2**25), 2**25)
)


@given(st.integers(-(2**62), 2**62), st.integers(2, 62))
def test_wrap(value: int, bits: int) -> None:
    assert int(wrap(value, bits)) == restatement.wrap(value, bits)


@given(states)
def test_wrap_current(value: int) -> None:
    expected = value
    if value > 2**23:
        expected = value - 2**24
    elif value <= -(2**23):
        expected = value + 2**24
    assert int(wrap_current(value)) == expected


@given(states)
def test_clip_voltage(value: int) -> None:
    assert int(clip_voltage(value)) == restatement.clip(value)


@given(states, decays)
def test_decay(state: int, mantissa: int) -> None:
    expected = restatement.towards_zero(state * (4096 - mantissa), 12)
    assert int(decay(state, mantissa)) == expected
    assert decay([state, state], [mantissa, 0]).tolist() == [expected, state]


@given(st.integers(-(2**62), 2**62), st.integers(0, 40))
def test_shifts(value: int, bits: int) -> None:
    assert int(shift_towards_zero(value, bits)) == restatement.towards_zero(value, bits)
    assert int(scale_down(value, bits)) == value // 2**bits


@given(int32s, st.integers(0, 30))
def test_scale_up(value: int, exponent: int) -> None:
    assert int(scale_up(value, exponent)) == value * 2**exponent


@given(st.integers(-4096, 4096), st.integers(-4096, 4096))
def test_resonator_decay(sine: int, cosine: int) -> None:
    """Python's and NumPy's float64 agree on these operations here; the order is Lava's."""
    neuron = ResonateFireNeuron(sine_decay=sine, cosine_decay=cosine, threshold=1, is_phase=True)
    assert resonator_decay(sine, cosine) == restatement.rotation(neuron)


@settings(max_examples=400, deadline=None)
@given(weight_matrices())
def test_effective_weights(matrix: np.ndarray) -> None:
    if not matrix.any():
        return
    (found,) = effective_dense_weight(matrix)
    ((mantissa, shift),) = restatement.effective_weights(matrix.tolist())
    assert (found.mantissa.tolist(), found.shift) == (mantissa, shift)


@settings(max_examples=200, deadline=None)
@given(weight_matrices(), weight_matrices())
def test_effective_weights_of_two_matrices(first: np.ndarray, second: np.ndarray) -> None:
    """Of a recurrent layer: one exponent and one number of bits for both."""
    if not (first.any() or second.any()):
        return
    found = effective_dense_weight(first, second)
    expected = restatement.effective_weights(first.tolist(), second.tolist())
    assert [(weight.mantissa.tolist(), weight.shift) for weight in found] == expected


def test_thousands_of_random_matrices() -> None:
    """Ranges around every limit, and common factors, without Hypothesis' overhead."""
    rng = np.random.default_rng(20)
    limits = np.array(
        [-600, -257, -256, -255, -129, -128, -3, -1, 0, 1, 3, 127, 254, 255, 256, 600]
    )
    compared = 0
    for _ in range(4000):
        low, high = sorted(rng.choice(limits, 2))
        factor = 2 ** int(rng.integers(0, 3))
        matrix = rng.integers(low, high + 1, rng.integers(1, 6, 2)) * factor
        if matrix.any():
            (found,) = effective_dense_weight(matrix)
            ((mantissa, shift),) = restatement.effective_weights(matrix.tolist())
            assert (found.mantissa.tolist(), found.shift) == (mantissa, shift), matrix
            compared += 1
    assert compared > 3000


@settings(max_examples=200, deadline=None)
@given(weight_matrices())
def test_what_is_called_exact_acts_as_stored(matrix: np.ndarray) -> None:
    """`is_exact` means: mantissa >> shift is the stored matrix, without a remainder."""
    if not matrix.any():
        return
    (found,) = effective_dense_weight(matrix)
    mantissa = found.mantissa.tolist()
    stored = [[weight * 2**found.shift for weight in row] for row in matrix.tolist()]
    assert found.is_exact == (mantissa == stored)


@settings(max_examples=300, deadline=None)
@given(generators, st.integers(0, 31), st.integers(0, 31))
def test_exact_products(rng: np.random.Generator, left_bits: int, right_bits: int) -> None:
    m, k, n = rng.integers(1, 6, 3)
    bound, other = 2**left_bits, 2**right_bits
    left = rng.integers(-bound, bound, (m, k))
    right = rng.integers(-other, other, (k, n))
    expected = [
        [
            restatement.wrap(sum(int(left[i, j]) * int(right[j, o]) for j in range(k)), 64)
            for o in range(n)
        ]
        for i in range(m)
    ]
    assert multiply_exactly(left, right).tolist() == expected
