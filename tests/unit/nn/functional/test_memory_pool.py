"""Large arrays that are used again."""

from __future__ import annotations

import os

import pytest
import torch

from neurodeploy.nn.functional import memory_pool
from neurodeploy.nn.functional.memory_pool import KEPT, LEAST, reused, reused_tensor


@pytest.fixture(autouse=True)
def empty_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_pool, "_free", [])


def test_memory_is_used_again_once_nobody_holds_it() -> None:
    first = reused(LEAST)
    address = first.ctypes.data
    second = reused(LEAST)
    assert second.ctypes.data != address
    view = torch.from_numpy(first)[1:]
    del first
    third = reused(LEAST)
    assert third.ctypes.data != address  # the view still holds it
    del view
    assert reused(LEAST).ctypes.data == address


def test_few_blocks_are_kept() -> None:
    held = [reused(LEAST) for _ in range(KEPT + 3)]
    held.clear()
    assert len(memory_pool._free) == KEPT


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes that fork")
def test_what_a_forked_process_writes_stays_with_it() -> None:
    array = reused(LEAST)
    array[:] = 1
    child = os.fork()
    if child == 0:
        array[:] = 2
        os._exit(0)
    os.waitpid(child, 0)
    assert (array == 1).all()


def test_memory_that_is_lacking_is_an_error_of_memory() -> None:
    with pytest.raises(MemoryError):
        reused(1 << 46)


def test_tensors_have_the_layout_that_is_asked_for() -> None:
    made = reused_tensor((2, 4, 3), (12, 1, 4))
    large = reused_tensor((2, LEAST, 3), (3 * LEAST, 1, LEAST))
    assert large.stride() == (3 * LEAST, 1, LEAST)
    large.fill_(1)
    del large
    assert [len(block) for block in memory_pool._free] == [24 * LEAST]
    assert made.shape == (2, 4, 3)
    assert made.stride() == (12, 1, 4)
