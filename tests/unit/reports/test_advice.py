"""The verdict follows from ranges that do not overlap, and says what it hangs on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from neurodeploy.energy.predicted_costs import FrameEnergy, Interval
from neurodeploy.errors import Obstacle
from neurodeploy.reports.advice import (
    CoreNeed,
    Figures,
    FrameCost,
    FrameFacts,
    advice_of,
    advice_without_network,
    data_words,
    energy_text,
    obstacle_words,
    share_text,
)


def cost(kind: str, low: float, high: float, *, is_measured: bool = True) -> FrameCost:
    return FrameCost(
        kind=kind,
        sops=Interval(low, high),
        arithmetic=Interval(low / 10, high / 10),
        memory=Interval(low, 2 * high),
        packed=Interval(low, high),
        share=Interval(low / 1000, high / 1000),
        is_measured=is_measured,
    )


MOVING = FrameFacts(
    sequences=2, frames=9, changed=0.1, changed_much=0.05, repeated=0.25, nonzero=0.6, levels=4
)
EVENTS = replace(MOVING, nonzero=0.03, levels=2)


def figures(
    low: float, high: float, *, facts: FrameFacts | None = MOVING, is_supposed: bool = False
) -> Figures:
    """Return figures of a network beside an ordinary one of 100 to 200 pJ a pass."""
    is_measured = facts is not None
    return Figures(
        name="net.onnx",
        is_supposed=is_supposed,
        cores=(
            CoreNeed(target="loihi1", cores_per_chip=128, cores=None, chips=None, problem="wide"),
            CoreNeed(
                target="loihi2",
                cores_per_chip=128,
                cores=Interval(100, 200),
                chips=Interval(1, 2),
            ),
        ),
        latency=Interval(4, 4),
        neurons=Interval(500, 700),
        frames=(
            cost("still", 0, 0, is_measured=is_measured),
            cost("moving", low, high, is_measured=is_measured),
            cost("new", 400, 500, is_measured=is_measured),
        ),
        kind="moving",
        ann_macs=1000,
        ann=FrameEnergy(arithmetic=30, memory=Interval(100, 200), packed=120),
        spiking=Interval(5, 20),
        spiking_sops=Interval(10, 20),
        spiking_steps=Interval(1, 1) if facts is EVENTS else Interval(4, 16),
        break_even=Interval(0.1, 0.4),
        chip_energy=Interval(50, 60),
        facts=facts,
        errors=Interval(0.01, 0.03) if is_measured else None,
    )


@pytest.mark.parametrize(
    ("low", "high", "suits", "words"),
    [
        (30, 45, "sigma-delta", "speaks for sigma-delta neurons"),
        (210, 300, "ann", "speaks for the ordinary network"),
        (30, 60, "open", "the ranges overlap"),  # 120 with whole words
        (150, 300, "open", "the ranges overlap"),
    ],
)
def test_verdict_of_measured_frames(low: float, high: float, suits: str, words: str) -> None:
    advice = advice_of(figures(low, high), ())
    assert advice.suits == suits
    assert advice.verdict.startswith("net.onnx can be converted (100 to 200 cores, 1 to 2 chips of")
    assert words in advice.verdict
    assert "on the frames given a moving frame costs" in advice.verdict
    assert ". " not in advice.verdict  # one sentence


def test_without_samples_the_assumption_is_in_the_verdict() -> None:
    advice = advice_of(figures(30, 45, facts=None), ())
    assert "if 3 to 4.5 % of its neurons send for a frame, as is assumed" in advice.verdict
    advice = advice_of(figures(30, 300, facts=None), ())
    assert advice.suits == "open"
    assert "below 10 % it surely does, above 40 % it surely does not" in advice.verdict
    assert any("3 to 30 % for a moving frame" in one for one in advice.assumptions)
    nowhere = replace(figures(30, 300, facts=None), break_even=Interval(-0.2, -0.1))
    assert "neuron updates alone cost more" in advice_of(nowhere, ()).verdict
    perhaps = replace(figures(30, 300, facts=None), break_even=Interval(-0.2, 0.3))
    assert "below 30 % it may, above 30 % it surely does not" in advice_of(perhaps, ()).verdict


def test_sparse_events_suit_spiking_neurons_where_these_are_cheaper_than_all() -> None:
    advice = advice_of(figures(30, 60, facts=EVENTS), ())
    assert advice.suits == "spiking"
    assert "frames are sparse events (3 % of values)" in advice.verdict
    assert "a step a frame" in data_words(figures(30, 60, facts=EVENTS))
    costly = replace(figures(30, 60, facts=EVENTS), spiking=Interval(5, 90))
    assert advice_of(costly, ()).suits == "open"


def test_words_about_the_data() -> None:
    assert "sigma-delta; 10 % of the values change" in data_words(figures(30, 60))
    wild = replace(MOVING, changed=0.8)
    assert "neither; 80 % of the values change" in data_words(figures(30, 60, facts=wild))
    alone = replace(MOVING, frames=1, changed=None, changed_much=None, repeated=None)
    assert "neither; the frames have no order" in data_words(figures(30, 60, facts=alone))
    assert "no frames were given" in data_words(figures(30, 60, facts=None))


def test_the_doubt_that_comes_first_turns_the_answer() -> None:
    # 30 to 250 packed over 120: the thresholds alone turn it, by more than anything else
    first = advice_of(figures(30, 250), ()).doubts[0]
    assert first == (
        "The answer hangs on the thresholds: that alone moves the energy of a frame from 0.25 to "
        "2.08 times that of an int8 pass."
    )
    calm = advice_of(figures(10, 11), ()).doubts[0]
    assert calm.startswith("The widest guess is whether memory is counted at all")
    assert calm.endswith("that alone does not turn the answer.")
    assert any("Several chips" in one for one in advice_of(figures(30, 45), ()).doubts)


def test_obstacles() -> None:
    obstacles = (
        Obstacle("a", "Sigmoid", "Retrain."),
        Obstacle("b", "Mul", "Leave out."),
        Obstacle("c", "Sigmoid", "Retrain."),
    )
    advice = advice_of(figures(30, 45, facts=None, is_supposed=True), obstacles)
    assert (advice.suits, advice.is_convertible) == ("none", False)
    assert advice.verdict.startswith(
        "net.onnx cannot be converted as it is: 3 nodes stand in the way (2 Sigmoid, 1 Mul); with "
        "ReLU in their places, trained anew, if"
    )
    kinds = tuple(Obstacle(f"n{index}", f"Op{index}", "Why.") for index in range(7))
    assert obstacle_words("m", kinds).endswith("(1 Op0, 1 Op1, 1 Op2, 1 Op3, 3 of 3 more kinds)")
    assert obstacle_words("m", (Obstacle("", "", "open"),)) == "m cannot be converted as it is"
    without = advice_without_network("m", obstacles, 10)
    assert (without.suits, without.figures, without.ann_macs) == ("none", None, 10)
    assert without.to_dict()["obstacles"][1] == {
        "node": "b", "operator": "Mul", "reason": "Leave out.",
    }  # fmt: skip


def test_ranges_as_words() -> None:
    assert energy_text(Interval(1200, 3400)) == "1.20 to 3.40 nJ"
    assert energy_text(Interval(900, 3400)) == "900 pJ to 3.40 nJ"
    assert energy_text(Interval(900, 900.1)) == "900 pJ"
    assert share_text(Interval(0.05, 1.25)) == "5 to 125 %"
