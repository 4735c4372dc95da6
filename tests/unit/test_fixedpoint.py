"""Every rounding, shifting, clipping and decay rule, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.fixedpoint import (
    clip_voltage,
    decay,
    effective_dense_weight,
    resonator_decay,
    round_half_even,
    round_to_even_integer,
    scale_down,
    scale_up,
    shift_towards_zero,
    truncate,
    wrap,
    wrap_current,
)


@pytest.mark.parametrize(
    ("value", "bits", "expected"),
    [
        (127, 8, 127),
        (128, 8, -128),
        (-128, 8, -128),
        (-129, 8, 127),
        (2**24 + 5, 24, 5),
        (2**23, 24, -(2**23)),
        (-(2**31) - 1, 32, 2**31 - 1),
        (2**32, 32, 0),
        (40000, 16, 40000 - 65536),
    ],
)
def test_wrap_keeps_the_low_bits(value: int, bits: int, expected: int) -> None:
    assert wrap(value, bits) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2**23, 2**23),  # the upper end belongs to the range ...
        (2**23 + 1, 2**23 + 1 - 2**24),
        (-(2**23), 2**23),  # ... the lower end does not
        (-(2**23) + 1, -(2**23) + 1),
        (3 * 2**24, 2 * 2**24),  # one turn only, not modulo
        (-3 * 2**24, -2 * 2**24),
    ],
)
def test_a_current_is_wrapped_by_one_turn(value: int, expected: int) -> None:
    assert wrap_current(value) == expected


def test_a_voltage_is_clipped_symmetrically() -> None:
    limit = 2**23 - 1
    values = [limit, limit + 1, -limit, -limit - 1, 5]
    assert clip_voltage(values).tolist() == [limit, limit, -limit, -limit, 5]


@pytest.mark.parametrize(
    ("state", "mantissa", "expected"),
    [
        (1000, 0, 1000),
        (-1000, 4096, 0),
        (3, 2048, 1),  # 3/2 towards zero
        (-3, 2048, -1),  # a plain shift would give -2
        (-1, 1, 0),
        (100, -4096, 200),  # outside the range: computed as written
        (100, 8192, -100),
    ],
)
def test_decay_rounds_towards_zero(state: int, mantissa: int, expected: int) -> None:
    assert decay(state, mantissa) == expected
    assert decay([state, state], [mantissa, mantissa]).tolist() == [expected, expected]


def test_the_two_shifts_differ_on_negative_values() -> None:
    assert shift_towards_zero([-1, -64, -65, 65], 6).tolist() == [0, -1, -1, 1]
    assert scale_down([-1, -64, -65, 65]).tolist() == [-1, -1, -2, 1]
    assert scale_up([-1, 3]).tolist() == [-64, 192]
    assert scale_up([-1, 3], 9).tolist() == [-512, 1536]


def test_rounding() -> None:
    assert round_half_even([0.5, 1.5, 2.5, -0.5]).tolist() == [0, 2, 2, 0]
    assert round_to_even_integer([0.9, 1.0, 1.1, 3.0, -2.9]).tolist() == [0, 0, 2, 4, -2]
    assert truncate([1.7, -1.7, 3]).tolist() == [1, -1, 3]


@pytest.mark.parametrize(
    ("sine", "cosine", "expected"),
    [
        (0, 4096, (0, 4096)),
        (0, 0, (0, 0)),
        (4096, 0, (4096, 0)),
        (-1000, 3000, (-1000, 3000)),
        (1000, 3000, (1000, 3000)),
    ],
)
def test_a_resonator_keeps_its_rotation_up_to_one(
    sine: int, cosine: int, expected: tuple[int, int]
) -> None:
    """Lava goes through a period in float64 and truncates: equal, or one nearer to zero."""
    for found, stored in zip(resonator_decay(sine, cosine), expected, strict=True):
        assert abs(stored) - 1 <= abs(found) <= abs(stored)
        assert found * stored >= 0


def test_a_resonator_can_lose_one() -> None:
    """The loss is real, so the formula must not be replaced by the stored values."""
    pairs = [(s, c) for s in range(100, 2000, 37) for c in range(1000, 4000, 111)]
    assert any(resonator_decay(*pair) != pair for pair in pairs)


def test_a_resonator_turns_the_same_on_every_processor() -> None:
    """As recorded in golden case 25; NumPy's arctangent with AVX-512 would give 920 for 919."""
    assert resonator_decay(920, 2644) == (919, 2644)
    assert resonator_decay(1103, 3413) == (1103, 3413)


def effective(*rows: list[int]) -> tuple[list[list[int]], int, bool]:
    (weight,) = effective_dense_weight(np.array(rows))
    return weight.mantissa.tolist(), weight.shift, weight.is_exact


def test_mixed_weights_within_range_are_exact() -> None:
    """Any parity: -3 is held as -3 << shift."""
    mantissa, shift, is_exact = effective([1, -3], [7, 0])
    assert is_exact
    assert (np.array(mantissa) >> shift).tolist() == [[1, -3], [7, 0]]


@pytest.mark.parametrize("row", [[-256, 254], [0, 255], [255, 1], [-3, -5], [-200, 0]])
def test_the_ends_of_the_exact_ranges(row: list[int]) -> None:
    mantissa, shift, is_exact = effective(row)
    assert is_exact
    assert (np.array(mantissa) >> shift).tolist() == [row]


def test_a_mixed_255_becomes_254() -> None:
    mantissa, shift, is_exact = effective([255, -1])
    assert not is_exact
    assert (np.array(mantissa) >> shift).tolist() == [[254, -1]]


def test_mixed_weights_beyond_the_range_are_clipped() -> None:
    mantissa, shift, is_exact = effective([1000, -1000, 3])
    assert not is_exact
    assert (np.array(mantissa) >> shift).tolist() == [[254, -256, 3]]


@pytest.mark.parametrize(
    "row",
    [
        [256, 3],  # all positive, one above 255
        [-257, -1],  # all negative, one below -256
        [-8, -8],  # a constant negative power of two
        [-201, 0],  # max 0, -256 <= min <= -129, one odd
    ],
)
def test_matrices_that_lava_turns_into_zeros(row: list[int]) -> None:
    mantissa, _, is_exact = effective(row)
    assert mantissa == [[0, 0]]
    assert not is_exact


def test_negative_matrices_lose_their_largest_power_of_two() -> None:
    """-16 with odd company acts as -15; with multiples of 4 as -12."""
    mantissa, shift, _ = effective([-16, -3])
    assert (np.array(mantissa) >> shift).tolist() == [[-15, -3]]
    mantissa, shift, _ = effective([-16, -4])
    assert (np.array(mantissa) >> shift).tolist() == [[-12, -4]]


def test_recurrent_matrices_share_one_exponent() -> None:
    """Alone, [1, -1] is held at shift 7; beside 200 it takes 200's exponent."""
    forward, backward = effective_dense_weight(np.array([[200, -4]]), np.array([[1, -1]]))
    (alone,) = effective_dense_weight(np.array([[1, -1]]))
    assert (forward.shift, backward.shift, alone.shift) == (0, 0, 7)
    assert backward.mantissa.tolist() == [[1, -1]]


def test_a_positive_recurrent_matrix_beside_odd_mixed_weights_becomes_zero() -> None:
    """The number of bits is chosen for both, the sign mode for each: Lava shifts by -1."""
    forward, backward = effective_dense_weight(np.array([[201, -4]]), np.array([[1, 1]]))
    assert forward.is_exact
    assert backward.mantissa.tolist() == [[0, 0]]
    assert not backward.is_exact


def test_a_matrix_of_zeros_fails_as_in_lava() -> None:
    with pytest.raises(ZeroDivisionError):
        effective_dense_weight(np.zeros((2, 2), np.int64))


def test_a_zero_recurrent_matrix_beside_weights_is_fine() -> None:
    forward, backward = effective_dense_weight(np.array([[5, -4]]), np.zeros((1, 1), np.int64))
    assert forward.is_exact
    assert backward.is_exact
