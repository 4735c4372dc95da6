"""Run a compiled loop over the columns of (T, M), in as many threads as torch uses.

Plain Python threads: compiled loops release the interpreter lock, and such threads neither hinder
a fork nor mind which other library computes in parallel.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

SPANS = 16
"""Most spans that a matrix is cut into. Fixed, so that sums do not depend on the threads."""
SMALLEST = 1 << 15
"""Columns times steps below which a span is not worth a thread of its own."""
ENOUGH = 1 << 18
"""Columns times steps for which one more thread is worth waking."""
TILE = 1024
"""Columns worked on at a time: their state stays in the first-level cache."""

Span = tuple[int, int]
Int64Array = npt.NDArray[np.int64]


class Share(NamedTuple):
    """Spans of columns that one call of a compiled loop works on: spans[first :: stride].

    Attributes:
        spans: (S, 2) int64, start and stop of all.
        first: Number of its first span.
        stride: From one of its spans to the next.
    """

    spans: Int64Array
    first: int
    stride: int


def is_compilable(values: Tensor) -> bool:
    """Return whether compiled loops can read a tensor: float32, on the CPU, not being traced."""
    return (
        values.device.type == "cpu"
        and values.dtype == torch.float32
        and not torch.compiler.is_compiling()
    )


def lanes_of(channels: int) -> int:
    """Return the period of channel values: whole channels, about a tile."""
    return channels * max(1, TILE // channels)


def cut_spans(steps: int, columns: int, lanes: int) -> list[Span]:
    """Cut columns into spans (start, stop) of whole lanes, without gaps, by the sizes alone."""
    tiles = -(-columns // lanes)
    count = max(1, min(SPANS, tiles, steps * columns // SMALLEST))
    edges = [tiles * i // count * lanes for i in range(count + 1)]
    edges[-1] = columns
    return list(itertools.pairwise(edges))


def cut_evenly(size: int, count: int) -> list[Span]:
    """Cut range(size) into `count` spans of about one length, or less where there is not enough."""
    count = max(1, min(size, count))
    return list(itertools.pairwise(size * number // count for number in range(count + 1)))


@lru_cache(maxsize=256)
def spans_of(steps: int, columns: int, lanes: int) -> Int64Array:
    """Return what `cut_spans` does as an array for compiled loops, (S, 2) int64."""
    return np.array(cut_spans(steps, columns, lanes), np.int64)


def run_spans(spans: list[Span], work: Callable[[int, Span], None]) -> None:
    """Call work(number, span) for every span, side by side."""
    threads = min(torch.get_num_threads(), len(spans))

    def share(first: int) -> None:
        for number in range(first, len(spans), threads):
            work(number, spans[number])

    _run_in_threads(threads, share)


def run_shares(spans: Int64Array, steps: int, work: Callable[[Share], object]) -> None:
    """Call work(share) for shares that together hold each of the spans once, side by side.

    A small matrix is one share: to wake a thread takes as long as a quarter of a million values.
    """
    enough = steps * int(spans[-1, 1]) // ENOUGH
    threads = min(torch.get_num_threads(), len(spans), max(1, enough))
    _run_in_threads(threads, lambda first: work(Share(spans, first, threads)))


def run_tiles(shape: tuple[int, ...], work: Callable[[Span], None]) -> None:
    """Call work(span) for spans of whole tiles of (T, M), side by side."""
    run_spans(cut_spans(shape[0], shape[1], TILE), lambda _, span: work(span))


def _run_in_threads(threads: int, work: Callable[[int], object]) -> None:
    """Call work(0) here, and work(1) to work(threads - 1) at the same time in other threads."""
    futures = [_pool(threads).submit(work, first) for first in range(1, threads)]
    work(0)
    for future in futures:
        future.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="neurodeploy")


if hasattr(os, "register_at_fork"):  # a forked process has the pool but none of its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
