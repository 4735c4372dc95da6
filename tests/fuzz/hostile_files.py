"""Files of strangers that a test names by their numbers, and how a command must answer them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "golden"
HOSTILE = GOLDEN / "hostile"
NET = GOLDEN / "01_dense_basic.net"  # takes (T, 24)


def hostile(number: str) -> Path:
    """Return the hostile file of a number."""
    (path,) = HOSTILE.glob(f"{number}_*")
    return path


def refusal_of(neurodeploy: Callable[..., Any], *words: object) -> str:
    """Return what a command prints that must refuse soon, in one error."""
    begin = time.process_time()
    outcome = neurodeploy(*words)
    assert time.process_time() - begin < 2
    assert outcome.code == 1
    assert len(outcome.errors) == 1
    return " ".join(outcome.err.split())
