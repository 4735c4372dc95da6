"""Comparisons: files that are read, Pareto fronts, and files that are refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import pytest
from small_sigma_delta import FRAMES, small_network
from typer.testing import CliRunner

import neurodeploy as nd
from neurodeploy.cli.app import make_app
from neurodeploy.energy.presets import Tier
from neurodeploy.errors import DataError
from neurodeploy.reports.comparison import (
    Bounds,
    Candidate,
    compare_networks,
    read_candidate,
)
from neurodeploy.reports.pages.comparison_page import outline_of_comparison
from neurodeploy.reports.pages.elements import render_html
from neurodeploy.reports.report_builder import report
from neurodeploy.simulation import EventSimulator, Feed, Stream


def candidate(name: str, accuracy: float | None, energy: float, **presets: float) -> Candidate:
    energies = {"cmos45_int8": energy, **presets}
    return Candidate(
        name=name,
        accuracy=accuracy,
        sops=1000.0,
        steps=4,
        energies={
            key: Bounds(tier=TIERS[key], low=value / 2, nominal=value, high=value * 2)
            for key, value in energies.items()
        },
        ann_energies={},
    )


TIERS = {
    "cmos45_int8": Tier.ARITHMETIC,
    "cmos45_fp32": Tier.ARITHMETIC,
    "sram45 + cmos45_int8": Tier.MEMORY,
}


def best(*candidates: Candidate) -> list[str]:
    found = compare_networks(candidates)
    return [entry.network.name for entry in found.front(found.preset)]


def test_the_front_holds_those_that_none_beats() -> None:
    a, b, c = candidate("a", 0.9, 10), candidate("b", 0.8, 5), candidate("c", 0.85, 12)
    assert best(a, b, c) == ["a", "b"]
    assert best(a, candidate("twin", 0.9, 10)) == ["a", "twin"]
    assert best(a, candidate("cheaper", 0.9, 9)) == ["cheaper"]
    assert best(candidate("unknown", None, 1), a) == ["a"]


def test_most_accurate_first_and_names_are_unique() -> None:
    found = compare_networks([candidate("x", 0.5, 1), candidate("x", 0.9, 2)])
    networks = [entry.network for entry in found.entries]
    assert [(one.name, one.accuracy) for one in networks] == [("x (2)", 0.9), ("x", 0.5)]
    energy = networks[0].energies[found.preset]
    assert (energy.low, energy.high) == (1, 4)
    names = [candidate(name, 0.5, 1) for name in ("x", "x (2)", "x", "x")]
    assert {e.network.name for e in compare_networks(names).entries} == {
        "x", "x (2)", "x (3)", "x (4)",
    }  # fmt: skip


def test_a_tier_may_be_chosen() -> None:
    pair = [candidate(n, 0.9, 1, **{"sram45 + cmos45_int8": 7}) for n in "ab"]
    found = compare_networks(pair, tier=Tier.ARITHMETIC)
    assert (found.preset, found.presets) == ("cmos45_int8", ("cmos45_int8",))
    with pytest.raises(DataError, match="a preset of tier C is not in every report"):
        compare_networks(pair, tier=Tier.CHIP)
    with pytest.raises(DataError, match="'cmos45_int8' of tier B"):
        compare_networks(pair, preset="cmos45_int8", tier=Tier.MEMORY)


def test_every_preset_has_a_front_of_its_own() -> None:
    a = candidate("a", 0.9, 10, **{"sram45 + cmos45_int8": 5})
    b = candidate("b", 0.9, 5, **{"sram45 + cmos45_int8": 10})
    found = compare_networks([a, b])
    assert {e.network.name: e.best_in for e in found.entries} == {
        "a": ("sram45 + cmos45_int8",),
        "b": ("cmos45_int8",),
    }
    document = found.to_dict()
    assert document["preset"] == "sram45 + cmos45_int8"
    assert [one["pareto_front"] for one in document["presets"]] == [["b"], ["a"]]


def test_what_makes_it_unfair_is_said() -> None:
    def tested(name: str, accuracy: float, digest: str | None, samples: int = 100) -> Candidate:
        plain = candidate(name, accuracy, 1)
        return dataclasses.replace(plain, test_digest=digest, test_samples=samples)

    def warnings(*networks: Candidate) -> str:
        return " ".join(compare_networks(networks).warnings)

    assert "different test sets" in warnings(tested("a", 0.5, "x"), tested("b", 0.9, "y"))
    assert "not known of b." in warnings(tested("a", 0.5, "x"), tested("b", 0.9, None))
    assert "order may be chance" in warnings(tested("a", 0.90, "x"), tested("b", 0.91, "x"))
    assert warnings(tested("a", 0.5, "x"), tested("b", 0.9, "x")) == ""
    assert "No accuracy is known of b" in warnings(tested("a", 0.5, "x"), candidate("b", None, 1))


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
    assert found.energies[tier.network.preset].nominal == tier.network.nominal
    assert found.ann_energies[tier.network.preset].nominal == tier.ann.nominal
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.test_samples is None
    document = report.to_json()
    document["ann"]["is_comparable"] = False  # layers as stored are no ANN to be drawn beside it
    path.write_text(json.dumps(document))
    assert read_candidate(path).ann_energies == {}


def test_sequences_are_compared_by_frame(tmp_path: Path) -> None:
    """Beside networks that answer once a sample, whatever the length of the sequence."""
    graph = small_network()
    recording = EventSimulator(graph).run(FRAMES, timing=Stream(), feed=Feed.NEURON)
    result = report(graph, FRAMES, recording, feed=Feed.NEURON)
    path = tmp_path / "frames.json"
    for document in (result.to_json(), {"report": result.to_json()}):
        path.write_text(json.dumps(document))
        found = read_candidate(path)
        assert (found.frames, found.steps, found.sops) == (3, 1, pytest.approx(10 / 3))
        energy = result.tiers[0].network
        assert found.energies[energy.preset].nominal == pytest.approx(energy.nominal / 3)
    (warning,) = compare_networks([dataclasses.replace(found, accuracy=0.9)]).warnings
    assert warning.startswith("One frame, the mean of a sequence, stands for frames (3 frames)")


def test_comparisons_are_written_by_public_names(make_report, tmp_path: Path) -> None:
    report, page, text = (f"{tmp_path}/{name}" for name in ("mlp.json", "a.html", "a.md"))
    Path(report).write_text(json.dumps(make_report().to_json()))
    found = nd.compare_networks([nd.read_candidate(report)])
    nd.write_comparison(found, page)
    nd.write_comparison_markdown(found, text)
    assert all("mlp" in Path(path).read_text() for path in (page, text))


def test_the_command(make_report, tmp_path: Path) -> None:
    paths = []
    for name, accuracy in (("good", 0.98), ("better", 0.99)):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(make_report(accuracy={"x": accuracy}).to_json()))
    page, text = tmp_path / "c.html", tmp_path / "c.md"
    result = CliRunner().invoke(
        make_app(),
        ["compare", *map(str, paths), "--html", str(page), "--markdown", str(text), "--json"],
    )
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["pareto_front"] == ["better"]
    assert "Accuracy against energy" in page.read_text(encoding="utf-8")
    assert "| 1 | better |" in text.read_text(encoding="utf-8")
    text = CliRunner().invoke(make_app(), ["compare", *map(str, paths)]).stdout
    assert "99.00%" in text
    assert "! Which test set was used is not known of better, good." in text
    assert max(map(len, text.splitlines())) <= 80


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    for name, content in (("a.json", "{"), ("b.json", "[]"), ("c.json", '{"tiers": []}')):
        (tmp_path / name).write_text(content)
    for name in ("a.json", "b.json", "c.json", "missing", ""):
        with pytest.raises(DataError):
            read_candidate(tmp_path / name)


def test_names_are_escaped() -> None:
    evil = "<script>alert(1)</script>"
    html = render_html(outline_of_comparison(compare_networks([candidate(evil, 0.5, 1)])))
    assert evil not in html
    assert html.count("<script>") == 1


def plotted(count: int, **options: object) -> str:
    """The page of `count` networks that lie close together."""
    networks = [
        dataclasses.replace(
            candidate(f"network-{n:02d}", 0.98 + 0.0005 * n, 1000 + 3 * n), **options
        )
        for n in range(count)
    ]
    return render_html(outline_of_comparison(compare_networks(networks)))


def boxes(html: str, labels: list[str]) -> list[tuple[float, float]]:
    """Where the plot writes labels, in its own units."""
    plot = html[html.index("<svg") : html.index("</svg>")]
    found = []
    for label in labels:
        text = re.search(rf'x="([\d.]+)" y="([\d.]+)"[^>]*>{label}<', plot)
        assert text is not None, label
        found.append((float(text[1]), float(text[2])))
    return found


def test_labels_of_close_points_do_not_overlap() -> None:
    names = [f"network-{n:02d}" for n in range(6)]
    places = boxes(plotted(6), names)
    for number, (x, y) in enumerate(places):
        for other, below in places[number + 1 :]:
            assert abs(y - below) >= 9 or abs(x - other) >= 55


def test_labels_hide_no_ordinary_network() -> None:
    """A square lies left of a point, where the label would fit: it goes elsewhere."""
    networks = [
        dataclasses.replace(
            candidate(name, accuracy, energy),
            ann_accuracy=ann_accuracy,
            ann_energies={
                "cmos45_int8": Bounds(tier=Tier.ARITHMETIC, low=ann, nominal=ann, high=ann)
            },
        )
        for name, accuracy, energy, ann, ann_accuracy in (
            ("final", 0.986, 5.24e6, 2.95e5, 0.986),
            ("digits_pruned_by_half", 0.981, 1.33e6, 1.75e5, 0.914),
            ("plain", 0.981, 2.92e6, 1.75e5, 0.77),
        )
    ]
    html = render_html(outline_of_comparison(compare_networks(networks)))
    plot = html[html.index("<svg") : html.index("</svg>")]
    square = r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="fill[^"]*stroke: var\(--series-2\)'
    squares = [(float(x), float(y)) for x, y in re.findall(square, plot)]
    assert len(squares) == 3
    names = ["final", "digits_pr…d_by_half", "plain"]
    for name, (left, bottom) in zip(names, boxes(html, names), strict=True):
        for x, y in squares:
            assert not (left - 3 < x < left + 5 * len(name) and bottom - 12 < y < bottom + 3)


def test_many_networks_are_labelled_by_the_numbers_of_the_table() -> None:
    html = plotted(12)
    plot = html[html.index("<svg") : html.index("</svg>")]
    assert "network-03" not in plot
    assert ">12</text>" in plot
    assert "Numbers are those of the table" in html


def test_ordinary_networks_are_shown_with_and_without_an_accuracy() -> None:
    ann = {"cmos45_int8": Bounds(tier=Tier.ARITHMETIC, low=80.0, nominal=100.0, high=200.0)}
    without, known = plotted(2, ann_energies=ann), plotted(2, ann_energies=ann, ann_accuracy=0.99)
    assert without.count("stroke-dasharray") > known.count("stroke-dasharray")
    assert "80.0 pJ" in known


def test_networks_without_accuracy_have_a_page_too() -> None:
    html = render_html(
        outline_of_comparison(compare_networks([candidate(n, None, 5) for n in "ab"]))
    )
    assert "front-cmos45" not in html
    assert "Energy of each network" in html
    assert "on no front" in html


def test_the_run_on_real_lava_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {"equal": {"samples": 64, "differing_spikes": 0}, "other": None}
    for name, lava in runs.items():
        energies = [{"preset": "cmos45_int8", "tier": "A", "low": 1, "nominal": 2, "high": 3}]
        summary = {
            "sops_per_sample": 10,
            "energy": energies,
            "recipe": {"network": {"steps": 4}},
            "accuracy": {"integer": 0.5},
            "lava": lava,
        }
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(summary))
    monkeypatch.chdir(tmp_path)
    table = CliRunner().invoke(make_app(), ["compare", "equal", "other"])
    assert table.exit_code == 0, table.output
    row = next(line for line in table.output.splitlines() if "equal (64)" in line)
    assert "2.00 pJ" in row
    found = compare_networks([read_candidate(tmp_path / name) for name in runs])
    one, other = found.to_dict()["networks"]
    assert (one["lava"], other["lava"]) == ({"samples": 64, "differing": 0}, None)
    assert "equal (64)" in render_html(outline_of_comparison(found))
    differs = dataclasses.replace(found.entries[0].network, lava_differing=3)
    assert differs.describe_lava() == "3 differ (64)"
