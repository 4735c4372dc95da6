"""What a report lets one say, how well accuracies are known, and the ANN in other numbers."""

from __future__ import annotations

import dataclasses

import pytest

from neurodeploy.energy.estimates import ann_energy
from neurodeploy.energy.fairness import Headline, Rule
from neurodeploy.energy.number_formats import ann_formats
from neurodeploy.energy.presets import EnergyPreset, Tier
from neurodeploy.energy.sensitivity import (
    CHIP,
    RATIO,
    Sensitivity,
)
from neurodeploy.reports.numbers import format_factor, wilson_interval
from neurodeploy.reports.statements import (
    changes_the_winner,
    standing,
    statements,
)

INT8, FP32 = EnergyPreset.load("cmos45_int8"), EnergyPreset.load("cmos45_fp32")
SRAM = EnergyPreset.load("sram45")


def energy(report, low, high):
    return dataclasses.replace(report.tiers[0].network, low=low, high=high)


@pytest.mark.parametrize(
    ("network", "ann", "expected"),
    [
        ((1, 2), (3, 4), "less"),
        ((5, 6), (3, 4), "more"),
        ((1, 3), (3, 4), "overlapping"),
        ((3.5, 3.6), (3, 4), "overlapping"),
    ],
)
def test_ranges_that_touch_decide_nothing(make_report, network, ann, expected):
    report = make_report()
    assert standing(energy(report, *network), energy(report, *ann)) == expected


def test_only_a_ratio_that_crosses_one_changes_the_winner():
    def one(quantity, low, high):
        return Sensitivity(assumption="a", quantity=quantity, low=low, high=high)

    assert changes_the_winner(one(RATIO, 0.5, 2))
    assert not changes_the_winner(one(RATIO, 1.5, 2))
    assert not changes_the_winner(one(RATIO, 0.5, 1))
    assert not changes_the_winner(one(CHIP, 0.5, 2))


def test_without_a_fair_comparison_no_ratio_is_said(make_report):
    text = " ".join(statements(make_report()))
    assert "No ratio is stated as a result: 2 of 4 rules" in text
    # 201,984 accumulates of 0.1 pJ against 203,264 MACs of 0.3 pJ; with memory it is 2.7 uJ.
    assert "Arithmetic alone: in all 7 presets less energy than the ReLU twin" in text
    assert "With memory accesses: more energy than the ReLU twin" in text
    assert "These change which side needs less: memory counted or not (sram45)" in text
    assert "loihi1: 2 cores of 128 a chip, an estimate" in text  # weights of one: few bits


def test_with_one_the_ratio_and_its_bounds_are_said(make_report):
    fair = dataclasses.replace(
        make_report(),
        rules=(Rule(name="r", holds=True, found="f"),) * 4,
        headline=Headline(preset="sram45", ratio=0.5, low=0.25, high=1234.5),
    )
    assert statements(fair)[0] == (
        "Spiking network / ReLU twin, memory included (sram45): 0.5, between 0.25 and 1,234. "
        "All 4 rules of a fair comparison hold."
    )


def test_presets_that_disagree_are_counted(make_report):
    report = make_report()
    rows = list(report.tiers)
    assert rows[0].ann is not None
    rows[0] = dataclasses.replace(rows[0], network=rows[0].ann)  # ranges that touch
    text = " ".join(statements(dataclasses.replace(report, tiers=tuple(rows))))
    assert "7 presets: less energy than the ReLU twin in 6, ranges that overlap with" in text


def test_intervals_are_wilsons():
    """Values of the formula, worked by hand: n = 10, p = 1/2 and p = 1; z² = 3.8415."""
    low, high = wilson_interval(0.5, 10)
    assert low == pytest.approx(0.2366, abs=1e-4)
    assert high == pytest.approx(0.7634, abs=1e-4)
    low, high = wilson_interval(1.0, 10)
    assert low == pytest.approx(10 / (10 + 3.8415), abs=1e-4)
    assert high == pytest.approx(1.0, abs=1e-12)
    assert high <= 1
    assert wilson_interval(0.0, 10)[0] == 0.0


def test_the_ann_is_given_int8_narrow_activations_and_floats(make_report):
    report = make_report()
    narrow, int8, fp32 = ann_formats(report.ann, SRAM, arithmetic=INT8, steps=10)
    assert [one.name for one in (narrow, int8, fp32)] == ["int8, 4-bit activations", "int8", "fp32"]
    assert int8.arithmetic.nominal == pytest.approx(60_979.2)  # 203,264 · 0.3 pJ
    assert fp32.arithmetic.nominal == pytest.approx(935_014.4)  # 203,264 · 4.6 pJ
    assert int8.memory == ann_energy(report.ann, SRAM, arithmetic=INT8)
    assert narrow.memory == report.narrow_ann
    for term in ("activations read", "activations written"):
        assert fp32.memory.breakdown[term] > 4 * int8.memory.breakdown[term] * 0.999
    assert report.ann_formats == (narrow, int8, fp32)
    assert {one.tier for one in (fp32.arithmetic, fp32.memory)} == {Tier.ARITHMETIC, Tier.MEMORY}


def test_floats_need_a_preset_of_the_same_technology(make_report):
    own = dataclasses.replace(INT8, name="mine")
    formats = ann_formats(make_report().ann, SRAM, arithmetic=own, steps=4)
    assert [one.name for one in formats] == ["int8, 3-bit activations", "int8"]
    assert ann_formats(make_report().ann, SRAM, arithmetic=INT8, steps=255)[0].name == "int8"


def test_without_memory_there_are_no_formats(make_report):
    report = make_report(presets=[INT8])
    assert report.ann_formats == ()
    assert report.to_json()["ann"]["formats"] == []


@pytest.mark.parametrize(
    ("value", "text"), [(0.0789, "0.0789"), (1.5, "1.5"), (52.91, "52.9"), (5875.4, "5,875")]
)
def test_factors_have_no_exponent(value, text):
    assert format_factor(value) == text
