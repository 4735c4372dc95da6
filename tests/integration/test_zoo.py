"""The networks that come with neurodeploy, from the shell."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
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
    said = [neurodeploy(*words) for words in commands]
    assert [one.code for one in said] == [0, 0, 0]
    card = nd.load_example().card
    assert f"accuracy {100 * card.correct / 32:.2f}%" in said[0].out
    assert said[1].out.startswith("holds: network.net")
    assert "Lava was not run again" in said[1].out


def test_a_check_without_lava_finds_another_recording(
    neurodeploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known = nd.load_example().certificate
    recording = replace(known.recording, sha256="0" * 64)
    replace(known, recording=recording).save("changed.json")
    net, words = nd.load_example().net, ("--certificate", "changed.json", "--without-lava")
    changed = neurodeploy("verify", net, "-i", net, *words)
    assert changed.code == 1
    assert "changed.json: does not hold. recording: sha256" in changed.err
    for wrong in (("--without-lava",), (*words, "--timeout", 9)):
        assert neurodeploy("verify", net, "-i", net, *wrong).code == 2


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
