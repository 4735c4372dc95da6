"""The networks that come with neurodeploy, from the shell."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

import neurodeploy as nd


def test_the_list_names_every_network(neurodeploy) -> None:
    shown = neurodeploy("zoo", "list")
    cards = json.loads(neurodeploy("zoo", "list", "--json").out)
    assert [card["name"] for card in cards] == [card.name for card in nd.list_examples()]
    for card in cards:
        assert card["name"] in shown.out
        assert f"{100 * card['accuracy']['deployed']:.1f} %" in shown.out


def test_the_commands_that_get_prints_run(
    neurodeploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    got = neurodeploy("zoo", "get", "digits_small")
    assert got.code == 0
    assert sorted(path.name for path in Path("digits_small").iterdir()) == [
        *("card.json", "certificate.json", "network.net", "samples.npz")
    ]
    commands = [
        shlex.split(line.removeprefix("next: neurodeploy "))
        for line in got.out.splitlines()
        if line.startswith("next: neurodeploy ")
    ]
    assert [words[0] for words in commands] == ["simulate", "verify", "report"]
    for words in commands:
        if words[0] != "verify":  # which starts Lava: tests/unit/test_example.py
            assert neurodeploy(*words).code == 0
    card = nd.load_example().card
    assert f"accuracy {100 * card.correct / 32:.2f}%" in neurodeploy(*commands[0]).out


def test_get_names_what_there_is_and_writes_over_nothing(
    neurodeploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    unknown = neurodeploy("zoo", "get", "digit")
    assert unknown.code == 1
    assert "Did you mean 'digits'? There are digits, " in unknown.err
    assert neurodeploy("zoo", "get", "digits_small", "--output", "mine").code == 0
    again = neurodeploy("zoo", "get", "digits_small", "-o", "mine")
    assert again.code == 1
    assert "nothing is written over" in again.err
