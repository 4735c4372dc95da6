"""Comparisons: what is read, who is beaten, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neurodeploy.cli.app import app
from neurodeploy.cost.comparison import Candidate, compare_networks, read_candidate
from neurodeploy.cost.comparison_page import render_comparison
from neurodeploy.errors import DataError


def candidate(name: str, accuracy: float | None, energy: float, **presets: float) -> Candidate:
    energies = {"cmos45_int8": energy, **presets}
    return Candidate(
        name=name,
        accuracy=accuracy,
        sops=1000.0,
        steps=4,
        energies={key: (value / 2, value, value * 2) for key, value in energies.items()},
        ann_energies={},
    )


def best(*candidates: Candidate) -> list[str]:
    return [entry.name for entry in compare_networks(candidates).entries if entry.is_best]


def test_the_front_holds_those_that_none_beats() -> None:
    a, b, c = candidate("a", 0.9, 10), candidate("b", 0.8, 5), candidate("c", 0.85, 12)
    assert best(a, b, c) == ["a", "b"]
    assert best(a, candidate("twin", 0.9, 10)) == ["a", "twin"]
    assert best(a, candidate("cheaper", 0.9, 9)) == ["cheaper"]
    assert best(candidate("unknown", None, 1), a) == ["a"]


def test_most_accurate_first_and_names_are_unique() -> None:
    found = compare_networks([candidate("x", 0.5, 1), candidate("x", 0.9, 2)])
    assert [(e.name, e.accuracy) for e in found.entries] == [("x (2)", 0.9), ("x", 0.5)]
    assert (found.entries[0].low, found.entries[0].high) == (1, 4)


def test_energies_with_memory_come_first() -> None:
    pair = [candidate(n, 0.9, 1, **{"sram45 + cmos45_int8": 7}) for n in "ab"]
    assert compare_networks(pair).preset == "sram45 + cmos45_int8"
    assert compare_networks([*pair, candidate("c", 0.9, 1)]).preset == "cmos45_int8"
    with pytest.raises(DataError, match="preset 'loihi1_sanafe' is not in every report"):
        compare_networks(pair, preset="loihi1_sanafe")
    with pytest.raises(DataError, match="no networks"):
        compare_networks([])


def test_reports_are_read_back(make_report, tmp_path: Path) -> None:
    path = tmp_path / "mlp.json"
    report = make_report(accuracy={"float": 0.99, "deployed": 0.98})
    path.write_text(json.dumps(report.to_json()))
    found = read_candidate(path)
    assert (found.name, found.accuracy, found.steps, found.sops) == ("mlp", 0.98, 10, 201_984)
    tier = report.tiers[0]
    assert found.energies[tier.network.preset][1] == tier.network.nominal
    assert found.ann_energies[tier.network.preset][1] == tier.ann.nominal


def test_the_command(make_report, tmp_path: Path) -> None:
    paths = []
    for name, accuracy in (("good", 0.98), ("better", 0.99)):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(make_report(accuracy={"x": accuracy}).to_json()))
    page = tmp_path / "c.html"
    result = CliRunner().invoke(app, ["compare", *map(str, paths), "--html", str(page), "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["pareto_front"] == ["better"]
    assert "Accuracy against energy" in page.read_text(encoding="utf-8")
    text = CliRunner().invoke(app, ["compare", *map(str, paths)]).stdout
    assert "99.00%" in text


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    for name, content in (("a.json", "{"), ("b.json", "[]"), ("c.json", '{"tiers": []}')):
        (tmp_path / name).write_text(content)
    for name in ("a.json", "b.json", "c.json", "missing", ""):
        with pytest.raises(DataError):
            read_candidate(tmp_path / name)


def test_names_are_escaped() -> None:
    evil = "<script>alert(1)</script>"
    html = render_comparison(compare_networks([candidate(evil, 0.5, 1)]))
    assert evil not in html
    assert html.count("<script>") == 1
