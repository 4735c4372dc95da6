"""Files on which a reader once failed, and a few new ones of each kind: none may fail again.

`make fuzz` searches for more of them.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import campaign
import numpy as np
import pytest
from hdf5_mutators import HDF5
from judging import Judge
from targets import TARGETS, NonsenseError, Target

from neurodeploy.errors import DataError, RecipeError

FOUND = sorted(campaign.CORPUS.glob("*__*"))
NUMBERS = range(12)


@pytest.fixture
def judge_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a maker of judges in a folder of their own; a judge moves into its folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    return lambda kind: Judge(TARGETS[kind], tmp_path / "folder")


def test_there_is_a_corpus() -> None:
    assert len(FOUND) > 20
    assert {path.name.split("__")[0] for path in FOUND} <= set(TARGETS)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_what_once_failed_is_refused_or_read(path: Path, judge_of) -> None:
    verdict = judge_of(path.name.split("__")[0]).judge(path.read_bytes())
    assert verdict.cause == "", verdict.detail


@pytest.mark.parametrize("kind", TARGETS)
def test_seeds_are_read_and_a_few_mutations_fail_nowhere(kind: str, judge_of) -> None:
    judge, files = judge_of(kind), TARGETS[kind].seeds()
    assert files
    for content in files[:3]:  # what is loaded or compiled on first use takes time
        judge.judge(content)
    for content in files[:6]:
        verdict = judge.judge(content)
        assert (verdict.cause, verdict.is_accepted) == ("", True), verdict.detail
    for number in NUMBERS:
        verdict = judge.judge(campaign.make_input(kind, number, files))
        assert verdict.cause == "", (number, verdict.detail)


def _raise(error: Exception, cause: Exception | None = None) -> None:
    raise error from cause


@pytest.mark.parametrize(
    ("read", "cause"),
    [
        (lambda path: _raise(KeyError("x")), "builtins.KeyError"),
        (lambda path: _raise(RecipeError("x")), "wrong class neurodeploy.errors.RecipeError"),
        (lambda path: _raise(DataError("x"), MemoryError()), "allocation"),
        (lambda path: _raise(NonsenseError("x")), "nonsense: x"),
        (lambda path: {"rates": (1.0, np.inf)}, "nonsense: inf"),
        (lambda path: [np.array([0, np.nan])], "nonsense: an array with nan"),
        (lambda path: np.ones(45 << 20).sum(), "memory"),
        (lambda path: warnings.warn("x", RuntimeWarning, stacklevel=1), "warning RuntimeWarning"),
        (lambda path: path.parent.joinpath("secret.bin").read_bytes(), "opens secret.bin"),
        (lambda path: sum(range(60_000_000)), "slow"),
        (lambda path: path.read_bytes(), ""),
    ],
)
def test_the_judge_sees_what_is_wrong(tmp_path: Path, monkeypatch, read, cause: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    target = Target(
        file="a.txt", seeds=tuple, mutators=(), read=read, errors=(DataError,), seconds=0.5
    )
    verdict = Judge(target, tmp_path / "folder").judge(b"content")
    assert verdict.cause.startswith(cause)
    assert bool(verdict.cause) == bool(cause)


_LOSSES = """
import os, signal, sys
sys.path[:0] = {paths!r}
import campaign
from pathlib import Path
from targets import Target

def read(path):
    content = path.read_bytes()
    if content.startswith(b"crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    while content.startswith(b"hang"):
        pass

if __name__ == "__main__":
    campaign.TARGETS["x"] = Target(
        file="a.txt", seeds=tuple, mutators=(), read=read, errors=(), seconds=0.2
    )
    reader = campaign.Reader("x", (b"seed",), Path("folder").resolve())
    inputs = [b"good", b"crash", b"better", b"hang", b"best"]
    for number, accepted, _, findings in reader.read(inputs):
        print(number, accepted, [verdict.cause for _, verdict in findings])
    reader.stop()
"""


@pytest.mark.slow
def test_the_process_that_reads_may_be_lost(tmp_path: Path) -> None:
    """An input that crashes or hangs it is found, and the next ones are read by another one."""
    paths = [str(Path(campaign.__file__).parent), str(Path(__file__).parents[2])]
    (tmp_path / "losses.py").write_text(_LOSSES.format(paths=paths), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "losses.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == [
        "2 0 ['signal 11']",
        "2 0 ['hang']",
        "1 1 []",
    ], done.stderr


@pytest.mark.parametrize("kind", TARGETS)
def test_an_input_is_a_function_of_its_number(kind: str) -> None:
    files = TARGETS[kind].seeds()
    twice = [[campaign.make_input(kind, number, files) for number in NUMBERS] for _ in range(2)]
    if TARGETS[kind].mutators is HDF5:  # it writes the time of day into some of its files
        assert [len(content) for content in twice[0]] == [len(content) for content in twice[1]]
    else:
        assert twice[0] == twice[1]
    assert len(set(twice[0])) > len(NUMBERS) // 2
