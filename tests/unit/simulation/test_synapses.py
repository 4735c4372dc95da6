"""What synapses send, by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from neurodeploy.errors import SimulationError
from neurodeploy.ir import (
    FixedComplexDense,
    FixedConv,
    FixedDense,
)
from neurodeploy.ir.integer_layers import FixedInjection
from neurodeploy.simulation.synapses import apply_synapse, arrivals, multiply_exactly


def integers(*values: object) -> npt.NDArray[np.int32]:
    return np.array(*values, dtype=np.int32)


def one_image(image: object) -> npt.NDArray[np.int32]:
    """(C, H, W) as one sample of one step."""
    return integers(image)[None, None]


def test_conv_is_a_correlation() -> None:
    """The kernel is not flipped: the pixel to the right is weighted by the right tap."""
    conv = FixedConv(weight=integers([[[[1, 10]]]]))
    assert apply_synapse(conv, one_image([[[1, 0, 1]]])).tolist() == [[[[[1, 10]]]]]


def test_conv_pads_with_zeros_strides_and_dilates_by_axis() -> None:
    image = one_image([[[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]])
    conv = FixedConv(
        weight=integers([[[[1, 100], [10000, 1000000]]]]),
        stride=(2, 1),
        padding=(1, 0),
        dilation=(1, 3),
    )
    # Rows -1|0 and 1|2 of the image, columns 0 and 3.
    assert apply_synapse(conv, image)[0, 0, 0].tolist() == [
        [10000 * 1 + 1000000 * 4],
        [5 + 100 * 8 + 10000 * 9 + wrap24(1000000 * 12)],
    ]


def wrap24(value: int) -> int:
    return (value + 2**23) % 2**24 - 2**23


def test_conv_groups_see_their_own_channels() -> None:
    conv = FixedConv(weight=integers([[[[1]]], [[[2]]], [[[3]]], [[[4]]]]), groups=2)
    assert apply_synapse(conv, one_image([[[1]], [[10]]])).ravel().tolist() == [1, 2, 30, 40]


@pytest.mark.parametrize(
    ("weight", "value", "expected"),
    [
        (2**22, 1, 2**22),
        (2**23 - 1, 1, 2**23 - 1),
        (2**23, 1, -(2**23)),
        (2**15, 2**15, 2**30 % 2**24),
        (-(2**30), 2, None),  # -2**31 is beyond what is defined
        (2**31 - 1, 2**31 - 1, None),
    ],
)
def test_conv_wraps_at_24_bits_and_stops_at_32(
    weight: int, value: int, expected: int | None
) -> None:
    conv = FixedConv(weight=integers([[[[weight]]]]))
    if expected is None:
        with pytest.raises(SimulationError, match="exceeds 32 bits"):
            apply_synapse(conv, one_image([[[value]]]))
    else:
        assert apply_synapse(conv, one_image([[[value]]])).ravel().tolist() == [expected]


def test_conv_sums_that_cancel_are_exact() -> None:
    """Bounds say 64 bits might overflow, the sum itself is 32 bits away from it: refused."""
    conv = FixedConv(weight=integers([[[[2**30]], [[-(2**30)]], [[1]]]]))
    assert apply_synapse(conv, one_image([[[1]], [[1]], [[5]]])).ravel().tolist() == [5]
    huge = FixedConv(weight=integers([[[[2**31 - 1]]] * 3]))
    with pytest.raises(SimulationError):
        apply_synapse(huge, one_image([[[2**31 - 1]]] * 3))


def test_dense_multiplies_by_effective_weights() -> None:
    """255 beside a negative weight acts as 254."""
    dense = FixedDense(weight=integers([[255, -1], [3, 2]]))
    events = integers([[[1, 0], [1, 1]]])
    assert apply_synapse(dense, events).tolist() == [[[254, 3], [253, 5]]]


def test_dense_floors_after_the_sum() -> None:
    """max = 0, min = -4: entries -4 act as -3.5; one gives -4, two together -7."""
    dense = FixedDense(weight=integers([[-4, -4, -1, 0]]))
    assert dense.effective.mantissa[0, 0] / 2**dense.effective.shift == -3.5
    events = integers([[[1, 0, 0, 0], [1, 1, 0, 0]]])
    assert apply_synapse(dense, events).ravel().tolist() == [-4, -7]


def test_dense_wraps_graded_sums_at_32_bits_before_the_shift() -> None:
    """Weight 1 beside -1 is held at shift 7: 2**25 · 2**7 wraps to zero."""
    dense = FixedDense(weight=integers([[1, -1]]))
    events = integers([[[2**25, 0], [2**24, 0], [2**23, 0], [-(2**25) + 1, 0]]])
    assert apply_synapse(dense, events).ravel().tolist() == [0, -(2**24), 2**23, 1]


def test_a_dense_synapse_reads_a_spatial_source_channel_first() -> None:
    dense = FixedDense(weight=integers([[1, -2, 4, -8, 16, -32, 64, -128]]))
    image = integers(np.zeros((1, 1, 2, 2, 2)))
    image[0, 0, 1, 0, 1] = 1  # (c · H + y) · W + x = (1 · 2 + 0) · 2 + 1 = 5
    assert apply_synapse(dense, image).ravel().tolist() == [-32]


def test_delays_shift_each_synapse_by_itself() -> None:
    dense = FixedDense(weight=integers([[1, -10]]), delay=integers([[2, 0]]))
    events = integers([[[1, 1], [0, 0], [0, 0], [1, 0], [0, 0]]])
    assert apply_synapse(dense, events).ravel().tolist() == [-10, 0, 1, 0, 0]


def test_a_delay_longer_than_the_run_has_no_effect() -> None:
    dense = FixedDense(weight=integers([[1, -10]]), delay=integers([[62, 3]]))
    events = integers([[[1, 1], [1, 1], [0, 0]]])
    assert apply_synapse(dense, events).ravel().tolist() == [0, 0, 0]


def test_each_delay_is_floored_by_itself() -> None:
    """-3.5 twice gives -7 when both arrive together through one delay, -4 and -4 through two."""
    weight = integers([[-4, -4, -1, 0]])
    events = integers([[[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]])
    together = FixedDense(weight=weight, delay=integers([[1, 1, 0, 0]]))
    assert apply_synapse(together, events).ravel().tolist() == [0, -7, 0]
    apart = FixedDense(weight=weight, delay=integers([[0, 1, 0, 0]]))
    assert apply_synapse(apart, events).ravel().tolist() == [-4, -4, 0]
    late = integers([[[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]])
    late[0, 1, 1] = 1
    crossing = FixedDense(weight=weight, delay=integers([[1, 0, 0, 0]]))
    assert apply_synapse(crossing, late).ravel().tolist() == [0, -8, 0]


def test_complex_weights_give_two_values() -> None:
    synapse = FixedComplexDense(
        real=FixedDense(weight=integers([[1, -2]])),
        imaginary=FixedDense(weight=integers([[3, -4]])),
    )
    assert apply_synapse(synapse, integers([[[1, 0], [1, 1]]])).tolist() == [[[[1, 3]], [[-1, -1]]]]


def test_injection_passes_values_on() -> None:
    values = integers([[[5, -7]]])
    assert apply_synapse(FixedInjection(), values).tolist() == [[[5, -7]]]


@pytest.mark.parametrize("function", [apply_synapse, arrivals])
def test_a_synapse_of_an_unknown_kind_is_refused(function) -> None:
    """An injection passes values on; nothing else may do so for want of a rule."""

    class StrangeSynapse:
        pass

    with pytest.raises(SimulationError, match=f"StrangeSynapse .*synapses.{function.__name__} has"):
        function(StrangeSynapse(), integers([[[5, -7]]]))


@pytest.mark.parametrize("size", [2**11, 2**12, 2**25, 2**26 + 1, 2**31 - 1])
def test_products_are_exact_on_every_path(size: int) -> None:
    """float32, float64 and int64: beside a large product, a difference of 1 must survive."""
    left = integers([[size, -size, 1]])
    right = integers([[size], [size], [1]])
    assert multiply_exactly(left, right).tolist() == [[1]]
    assert multiply_exactly(left[:, ::2], right[::2]).tolist() == [[size * size + 1]]


def test_a_product_with_nothing_is_zero() -> None:
    assert multiply_exactly(integers(np.zeros((2, 3))), integers(np.ones((3, 1)))).tolist() == [
        [0],
        [0],
    ]
