"""Fairness rules, the headline they allow, and what assumptions can do."""

from __future__ import annotations

import dataclasses
import json

import pytest

from neurodeploy.energy.estimates import ann_energy, network_energy
from neurodeploy.energy.fairness import ComparisonFacts, activation_bits, judge, narrow_ann_energy
from neurodeploy.energy.presets import EnergyPreset
from neurodeploy.energy.sensitivity import CHIP, RATIO, find_sensitivities

INT8, SRAM = EnergyPreset.load("cmos45_int8"), EnergyPreset.load("sram45")


def test_bits_of_an_activation_hold_the_spikes_of_all_steps():
    assert [activation_bits(steps) for steps in (1, 2, 3, 4, 7, 8, 10)] == [1, 2, 2, 3, 3, 4, 4]


def test_narrow_activations_cost_less_memory_and_the_same_arithmetic(make_report):
    report = make_report()
    whole = ann_energy(report.ann, SRAM, arithmetic=INT8)
    narrow = narrow_ann_energy(report.ann, SRAM, arithmetic=INT8, steps=10)
    assert narrow is not None
    assert whole is not None
    for term in ("activations read", "activations written"):
        assert narrow.breakdown[term] == pytest.approx(whole.breakdown[term] * 4 / 8)
    for term in ("weights", "multiply-accumulates"):
        assert narrow.breakdown[term] == whole.breakdown[term]
    assert narrow_ann_energy(report.ann, INT8, arithmetic=INT8, steps=10) is None


def test_a_report_without_accuracies_has_no_headline_and_says_why(make_report):
    report = make_report()
    assert report.headline is None
    failed = [rule for rule in report.rules if not rule.holds]
    assert "not known" in failed[0].found
    assert json.loads(json.dumps(report.to_json()))["fairness"]["headline"] is None


def judged(report, **changes):
    macs = dataclasses.replace(report.ann, macs_effective=changes.pop("macs_effective", 1000.0))
    facts = {
        "accuracy": 0.98,
        "ann_accuracy": 0.985,
        "ann_name": "the ReLU twin",
        "macs": macs,
        "is_as_trained": True,
    }
    options = {
        "narrow": report.narrow_ann,
        "sparse": ann_energy(report.ann, SRAM, arithmetic=INT8, skips_zeros=True),
        "steps": 10,
    }
    for name, value in changes.items():
        (options if name in options or name == "gap" else facts)[name] = value
    return judge(
        [(one.network, one.ann) for one in report.tiers], ComparisonFacts(**facts), **options
    )


def test_all_rules_together_allow_one_ratio_with_memory(make_report):
    report = make_report()
    rules, headline = judged(report)
    assert all(rule.holds for rule in rules)
    assert len(rules) == 7
    pair = next(one for one in report.tiers if one.network.preset.startswith("sram45"))
    assert headline.preset == "sram45 + cmos45_int8"
    assert headline.ratio == pair.network.nominal / pair.ann.nominal
    assert headline.low < headline.ratio < headline.high


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({"accuracy": 0.9}, 0),
        ({"ann_accuracy": None}, 0),
        ({"accuracy": 0.97, "gap": 0.01}, 0),
        ({"narrow": None}, 1),
        ({"macs_effective": None}, 2),
        ({"is_as_trained": False}, 5),
        ({"uncounted": ("Fancy",)}, 5),
        ({"changes_over_time": True, "accuracy": 1.0, "ann_accuracy": 0.792}, 6),
    ],
)
def test_one_broken_rule_takes_the_headline_away(make_report, changes, broken):
    rules, headline = judged(make_report(), **changes)
    assert headline is None
    assert [number for number, rule in enumerate(rules) if not rule.holds] == [broken]


def test_a_network_that_is_better_than_the_ann_breaks_no_rule(make_report):
    rules, headline = judged(make_report(), accuracy=0.99, ann_accuracy=0.9)
    assert headline is not None
    assert rules[0].found == "9.00 points more accurate"
    assert rules[0].name.startswith("the network is at most 1 point less accurate")
    assert judged(make_report(), accuracy=0.97, gap=0.02)[0][0].name.startswith(
        "the network is at most 2 points less"
    )


@pytest.mark.parametrize(
    "facts", [{"ann_accuracy": 0.975}, {"ann_accuracy": 0.5, "has_own_input": True}]
)
def test_changing_input_is_fair_if_the_ann_can_do_the_task_with_its_own(make_report, facts):
    rules, headline = judged(make_report(), changes_over_time=True, **facts)
    assert all(rule.holds for rule in rules)
    assert headline is not None


def test_an_ann_whose_weights_were_not_looked_at_makes_no_headline(make_report):
    """The network skips its weights of zero; whether the ANN could skip some must be known."""
    report = make_report()
    unknown = tuple(dataclasses.replace(row, macs_nonzero=None) for row in report.ann.layers)
    macs = dataclasses.replace(report.ann, layers=unknown, macs_effective=1000.0)
    rules, headline = judged(report, macs=macs)
    assert headline is None
    assert [number for number, rule in enumerate(rules) if not rule.holds] == [4]


def test_weights_of_zero_are_skipped_on_both_sides_of_the_headline(make_report):
    """A tenth of the weights is left: ten times fewer MACs and weights, the same activations."""
    report = make_report()
    pruned = dataclasses.replace(
        report.ann,
        layers=tuple(
            dataclasses.replace(
                row,
                macs_nonzero=row.macs_border_exact // 10,
                zero_weights=row.weights - row.weights // 10,
            )
            for row in report.ann.layers
        ),
    )
    whole, sparse = (
        ann_energy(pruned, SRAM, arithmetic=INT8, skips_zeros=skips) for skips in (False, True)
    )
    assert whole == dataclasses.replace(
        ann_energy(report.ann, SRAM, arithmetic=INT8), low=sparse.nominal, basis=whole.basis
    )
    for term in ("weights", "multiply-accumulates"):
        assert sparse.breakdown[term] == pytest.approx(whole.breakdown[term] / 10, rel=1e-3)
    assert sparse.breakdown["activations read"] == whole.breakdown["activations read"]
    assert "no products with zero" in whole.basis
    plain = ann_energy(pruned, INT8)
    assert (plain.low, plain.nominal) == (pytest.approx(20_326 * 0.3), pytest.approx(60_979.2))
    _, headline = judged(
        report, macs=dataclasses.replace(pruned, macs_effective=1000.0), sparse=sparse
    )
    network = next(one.network for one in report.tiers if one.network.preset.startswith("sram45"))
    assert headline.ratio == network.nominal / sparse.nominal


def test_arithmetic_alone_never_makes_a_headline(make_report):
    report = make_report(presets=[INT8])
    rules, headline = judged(report, sparse=None)
    assert headline is None
    assert [number for number, rule in enumerate(rules) if not rule.holds] == [1, 2, 3]


def test_assumptions_come_with_the_largest_first_and_can_be_recomputed(make_report):
    report = make_report()
    found = {one.assumption: one for one in report.sensitivities}
    factors = [one.factor for one in report.sensitivities]
    assert factors == sorted(factors, reverse=True)
    assert min(factors) > 1

    def ratio(preset):
        network = network_energy(report.counts, preset, arithmetic=INT8)
        return network.nominal / ann_energy(report.ann, preset, arithmetic=INT8).nominal

    memory = found["memory counted or not (sram45)"]
    assert (memory.low, memory.high) == (ratio(INT8), ratio(SRAM))
    assert memory.quantity == RATIO
    chip = found["static power: none, or one chip for 1 ms a step"]
    assert chip.quantity == CHIP
    assert chip.high - chip.low == pytest.approx(104e-3 * 1e-3 * 10 * 1e12)
    # Every stored weight is other than zero here: charging zeros changes nothing.
    assert not any(name.startswith("zero weights") for name in found)


def test_zero_weights_matter_where_there_are_some(make_report):
    report = make_report()
    rows = tuple(
        dataclasses.replace(
            row,
            sops=row.sops // 2,
            sops_cached=row.sops_cached // 2,
            synapses=tuple(dataclasses.replace(s, sops=s.sops // 2) for s in row.synapses),
        )
        for row in report.counts.layers
    )
    from neurodeploy.energy.sensitivity import find_sensitivities

    pruned = dataclasses.replace(report.counts, layers=rows)
    found = find_sensitivities(pruned, report.ann, [INT8, SRAM], arithmetic=INT8)
    zero = next(one for one in found if one.assumption.startswith("zero weights"))
    whole = network_energy(report.counts, SRAM, arithmetic=INT8).nominal
    half = network_energy(pruned, SRAM, arithmetic=INT8).nominal
    assert zero.factor == pytest.approx(whole / half)
    # Where the twin has the same zeros, both sides move, and the ratio does not follow one alone.
    twin = dataclasses.replace(
        report.ann,
        layers=tuple(
            dataclasses.replace(
                row, macs_nonzero=row.macs_border_exact // 2, zero_weights=row.weights // 2
            )
            for row in report.ann.layers
        ),
    )
    both = find_sensitivities(pruned, twin, [INT8, SRAM], arithmetic=INT8)
    zero = next(one for one in both if one.assumption.startswith("zero weights on both sides"))
    ann = {
        skips: ann_energy(twin, SRAM, arithmetic=INT8, skips_zeros=skips).nominal
        for skips in (False, True)
    }
    assert sorted((zero.low, zero.high)) == sorted((whole / ann[False], half / ann[True]))


def test_the_estimated_cores_of_both_chips_are_there(make_report):
    one, two = make_report().to_json()["fit"]
    assert (one["target"], one["cores_low"]) == ("loihi1", 2)  # weights of 2 bits
    assert two["target"] == "loihi2"
    assert one["is_estimate"] is True


def test_the_side_whose_accuracy_is_missing_is_named(make_report):
    report = make_report()
    found = [
        judged(report, **{side: None})[0][0].found.removesuffix(
            ": give samples with labels (--input, --ann-input), or both figures (--accuracy, "
            "--ann-accuracy)"
        )
        for side in ("accuracy", "ann_accuracy")
    ]
    assert found == [
        "the accuracy of the network is not known",
        "the accuracy of the ReLU twin is not known",
    ]


def test_without_energies_to_divide_by_there_is_no_headline(make_report):
    """All rules hold: only the ANN's energy is missing, or nothing."""
    report = make_report()
    rules, headline = judged(report, sparse=None)
    assert all(rule.holds for rule in rules)
    assert headline is None
    idle = dataclasses.replace(
        report,
        tiers=[
            one if one.ann is None
            else dataclasses.replace(one, ann=dataclasses.replace(one.ann, low=0.0))
            for one in report.tiers
        ],
    )  # fmt: skip
    assert judged(idle)[1] is None


def test_ratios_to_an_ann_of_free_products_are_none(make_report):
    report = make_report()
    mac = dataclasses.replace(INT8.constants["mac"], value=0.0)
    free = dataclasses.replace(INT8, constants={**INT8.constants, "mac": mac})
    found = find_sensitivities(report.counts, report.ann, [free, SRAM], arithmetic=free)
    (memory,) = [one for one in found if one.assumption.startswith("memory counted or not")]
    assert memory.low == 0
    assert memory.factor == float("inf")
