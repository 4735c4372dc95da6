"""Files on which a reader once failed, and a few new ones of each kind: none may fail again.

`make fuzz` searches for more of them.
"""

from __future__ import annotations

from pathlib import Path

import campaign
import pytest
from hdf5_mutators import HDF5
from judging import Judge
from targets import TARGETS

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


@pytest.mark.parametrize("kind", TARGETS)
def test_an_input_is_a_function_of_its_number(kind: str) -> None:
    files = TARGETS[kind].seeds()
    twice = [[campaign.make_input(kind, number, files) for number in NUMBERS] for _ in range(2)]
    if TARGETS[kind].mutators is HDF5:  # it writes the time of day into some of its files
        assert [len(content) for content in twice[0]] == [len(content) for content in twice[1]]
    else:
        assert twice[0] == twice[1]
    assert len(set(twice[0])) > len(NUMBERS) // 2
