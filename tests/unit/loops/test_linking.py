"""Compiled loops give what Python gives, or are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from neurodeploy import machine_code
from neurodeploy.loops.linking import linked
from neurodeploy.machine_code import Argument

PAIR = np.dtype([("low", np.int64), ("high", np.int64)])
NESTED = np.dtype([("pair", PAIR), ("sum", np.int64)])
FACTOR = np.int64(3)


def run(function: Any, *arguments: Argument) -> int:
    """Compile and call a function, without any file."""
    words = [0]
    kinds = tuple(machine_code._flatten(argument, words) for argument in arguments)
    code = function.machine_code(kinds, function.name)
    machine = machine_code.MachineFunction("", function.name, key="")
    machine._functions[kinds] = machine_code._link(function.name, code)
    return machine(*arguments)


@linked
def divide(left, right):
    return 1000 * (left // right) + left % right + (left % 16) * 1000000 + left // 8


@linked
def pick(number, other):
    larger = number if number > other else -other
    low, high = (number, 7) if 0 <= number < 10 and not other > 3 else (other, 8)
    return max(larger, -5) * 100 + min(low, high, 40) + abs(number)


@linked
def search(numbers, wanted):
    at, steps = np.uint64(0), 0
    while at < np.uint64(numbers.size):
        steps += 1
        if numbers[at] == wanted:
            break
        at += np.uint64(1)
        if numbers[at - np.uint64(1)] < 0:
            continue
        steps += 10
    for k in range(2, numbers.size, 3):
        steps += 100 * k
    return steps


@linked
def _first_negative(numbers):
    for k in range(numbers.size):
        if numbers[k] < 0:
            return k, numbers[k] < -5
    return -1, False


@linked
def find(table):
    total = 0
    for row in range(table.shape[0]):
        at, is_small = _first_negative(table[row])
        total = 10 * total + at + 5 * is_small
    return total


@linked
def fold_bits(numbers, count):
    bits = np.uint64(0)
    for k in range(np.uint64(count)):
        bits |= np.uint64(numbers[k] != 0) << k
    return np.int64(bits ^ (~bits >> np.uint64(60)))


@linked
def write(records, numbers, flags, number):
    pair = records[1].pair
    pair.low, records[0].sum = number, 5
    records[1].sum += pair.low * FACTOR
    numbers[1, 0] = 300  # cut to the array's type
    numbers[1, 1] += 200
    flags[0] = number
    return pair.high + numbers[1, 0] + flags[0] + flags[1]


@linked
def _working_arrays(size):
    return np.zeros((2, size), np.int32), np.empty(size, np.int64)


@linked
def work(size, first, second):
    table, more = _working_arrays(size)
    table[1, first] = -7
    more[first] = 9
    return table[1, second] + more[first] + table.size


def table_of_int8() -> np.ndarray:
    return np.array([[1, -2, 3], [4, 5, 6], [-9, 0, 0]], np.int8)


@pytest.mark.parametrize(
    ("function", "cases"),
    [
        (divide, [(7, 2), (-7, 2), (7, -2), (-7, -2), (-8, 2), (0, 5), (-1, 17)]),
        (pick, [(1, 2), (12, 3), (-4, 9), (5, 3), (9, 10)]),
        (search, [(np.array([4, -1, 6, 2, 0, 9, 9], np.int32), wanted) for wanted in (6, 9, 11)]),
        (find, [(table_of_int8(),)]),
        (fold_bits, [(np.array([0, 3, 0, 1, 1], np.uint8), 5)]),
        (work, [(8, 3, 3), (8, 3, 4), (1, 0, 0)]),
    ],
)
def test_loops_give_what_python_gives(function: Any, cases: list[tuple[Any, ...]]) -> None:
    for arguments in cases:
        assert run(function, *arguments) == int(function(*arguments))


def test_what_is_written_is_cut_to_the_type_of_its_place() -> None:
    records, flags = np.array([((1, 2), 3), ((4, 5), 6)], NESTED), np.zeros(2, np.bool_)
    numbers = np.full((2, 2), 100, np.int8)
    assert run(write, records, numbers, flags, 9) == 5 + 300 % 256 + 1
    assert numbers.tolist() == [[100, 100], [44, 44]]
    assert flags.tolist() == [True, False]
    assert records.tolist() == [((1, 2), 5), ((9, 5), 6 + 27)]


@pytest.mark.parametrize("size", [1 << 58, 1 << 61, -1])
def test_arrays_that_do_not_fit_are_an_error(size: int) -> None:
    with pytest.raises(MemoryError, match="work: no memory for its working arrays"):
        run(work, size, 3, 4)


@linked
def both_signs(number):
    return number + np.uint64(1)


@linked
def new_type(numbers):
    total = numbers[0]
    total += 1
    return total


@linked
def new_kind(numbers):
    total = 0
    total = numbers
    return total


@linked
def from_the_end(numbers):
    return numbers[-1]


@linked
def array_in_loop(numbers):
    for _ in range(3):
        numbers[0] = np.empty(3, np.int64)[0]


@linked
def ratio(numbers):
    return numbers[0] / 2


@linked
def foreign(numbers):
    return hash(numbers[0])


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (both_signs, "number + np.uint64(1): int64 with uint64"),
        (new_type, r"total += 1: is (64, True), was (32, True) before"),
        (new_kind, "total: is ('array', dtype('int32'), 1), was (64, True) before"),
        (from_the_end, "numbers[-1]: indices count from the front"),
        (array_in_loop, "arrays are made outside of loops"),
        (ratio, "numbers[0] / 2: loops know no such operation"),
        (foreign, "hash(numbers[0]): loops cannot call this"),
    ],
)
def test_what_loops_do_not_know_is_refused(function: Callable[..., Any], reason: str) -> None:
    argument = 1 if function is both_signs else np.zeros(3, np.int32)
    with pytest.raises(SyntaxError) as caught:
        run(function, argument)
    assert reason in str(caught.value)
    assert "test_linking.py:" in str(caught.value)
