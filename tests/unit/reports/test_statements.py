"""What a report lets one say, how well accuracies are known, and the ANN in other numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from neurodeploy.energy.estimates import ann_energy
from neurodeploy.energy.fairness import Headline, Rule, ann_formats
from neurodeploy.energy.presets import EnergyPreset, Tier
from neurodeploy.energy.sensitivity import (
    CHIP,
    RATIO,
    Sensitivity,
)
from neurodeploy.reports.numbers import format_factor, wilson_interval
from neurodeploy.reports.report_builder import report as make_a_report
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
    sentences = statements(make_report())
    text = " ".join(sentences)
    assert sentences[0] == (
        "The spiking network needs more energy than the ReLU twin, memory included."
    )
    assert "No factor is stated: 3 of 7 rules" in text
    # 201,984 accumulates of 0.1 pJ against 203,264 MACs of 0.3 pJ; with memory it is 2.7 uJ.
    assert (
        "Arithmetic alone, memory left out: in all 7 presets less energy than the ReLU twin" in text
    )
    assert "With memory accesses: more energy than the ReLU twin" in text
    assert "These change which side needs less: memory counted or not (sram45)" in text
    assert "On the chip itself, by loihi1_davies2018 and loihi1_sanafe: " in text
    assert "loihi1: 2 cores of 128 a chip, an estimate" in text  # weights of one: few bits


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (2.4, 82, "The spiking network needs 2.4 to 82 times more energy than the ReLU twin"),
        (0.1, 0.5, "The spiking network needs 2 to 10 times less energy than the ReLU twin"),
        (0.25, 1234.5, "It is open which side needs less: the spiking network needs 0.25 to 1,234"),
    ],
)
def test_a_fair_comparison_begins_with_the_verdict_in_words(make_report, low, high, sentence):
    fair = dataclasses.replace(
        make_report(),
        rules=(Rule(name="r", holds=True, found="f"),) * 7,
        headline=Headline(preset="sram45", ratio=0.5, low=low, high=high),
    )
    first, second, *_ = statements(fair)
    assert first.startswith(sentence)
    assert first.endswith(", memory included.")
    assert second == (
        "Nominal ratio 0.5 (sram45), both sides without weights of zero. All 7 rules of a fair "
        "comparison hold."
    )


def test_of_layers_as_stored_nothing_is_concluded(mlp, mlp_run):
    """A file without the counts of its twin: no winner, no factor, no sensitivity of a ratio."""
    stored = make_a_report(dataclasses.replace(mlp, relu_twin=None), *mlp_run)
    assert stored.ann_label == stored.ann_source == "layers as stored"
    assert stored.to_json()["relu_twin"]["counted_from"] == "layers as stored"
    assert stored.headline is None
    sentences = statements(stored)
    assert sentences[0].startswith("No comparison: the counts at hand are those of the layers as")
    assert not any("than the" in sentence for sentence in sentences[1:])
    assert {entry.quantity for entry in stored.sensitivities} == {CHIP}


def test_the_twin_of_changing_input_is_shown_in_as_many_passes_as_steps(make_report):
    report = make_report()
    assert "may be unable to do the task" in report.warnings[0]
    assert "In 10 passes, one a step, it would need 2,032,640 MACs." in report.warnings[0]
    every_step = next(form for form in report.ann_formats if form.passes == 10)
    int8 = next(form for form in report.ann_formats if form.name == "int8")
    assert every_step.name == "int8, 10 passes (one a step)"
    assert every_step.memory.nominal == 10 * int8.memory.nominal
    assert every_step.arithmetic.high == 10 * int8.arithmetic.high


def test_a_still_image_needs_no_more_passes(mlp, mlp_run):
    inputs, recording = mlp_run
    still = make_a_report(mlp, np.repeat(inputs[:, :1], 10, axis=1), recording)
    assert not still.changes_over_time
    assert {form.passes for form in still.ann_formats} == {1}
    assert not any("steps" in warning for warning in still.warnings)


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
    assert [form for form in report.ann_formats if form.passes == 1] == [narrow, int8, fp32]
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
