"""Advice before work: can a network be converted, at which cost, and which kind suits the data.

Every figure is a range, and the verdict follows from ranges that do not overlap; where they do, it
is open. What was assumed is said, and which assumption carries the verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from neurodeploy.chips.cores import ChipFit
from neurodeploy.energy.predicted_costs import FrameEnergy, Interval
from neurodeploy.errors import Obstacle
from neurodeploy.reports.numbers import format_count, format_energy, format_factor

Suited = Literal["sigma-delta", "spiking", "ann", "open", "none"]
RATES = Interval(0.02, 0.10)
"""Share of LIF neurons that spike in a step, where it is not known."""
STEPS = Interval(4, 16)
"""Steps that a frame is shown to LIF neurons, where it is no frame of events."""
MUCH_CHANGED = 0.5
"""Share of values that change from frame to frame above which sigma-delta neurons save little."""
EVENTS_SHARE = 0.2
"""Largest share of values other than zero in frames of events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreNeed:
    """Cores on one chip, an estimate: the fewest and the most, None where a layer does not fit.

    Attributes:
        chips: Chips for them.
        problem: Why it does not fit; else empty.
    """

    target: str
    cores_per_chip: int
    cores: Interval | None
    chips: Interval | None
    problem: str = ""

    @classmethod
    def of_fits(cls, fits: Sequence[ChipFit]) -> CoreNeed:
        """Return the need of a network of which several forms are possible."""
        first = fits[0]
        problems = [layer.problem for fit in fits for layer in fit.layers if layer.problem]
        lows = [fit.cores_low for fit in fits]
        highs = [fit.cores_high for fit in fits]
        known = [value for value in (*lows, *highs) if value is not None]
        if problems or len(known) < 2 * len(fits):
            return cls(
                target=first.target,
                cores_per_chip=first.cores_per_chip,
                cores=None,
                chips=None,
                problem=problems[0] if problems else "",
            )
        cores = Interval(min(known), max(known))
        return cls(
            target=first.target,
            cores_per_chip=first.cores_per_chip,
            cores=cores,
            chips=Interval(*(-(-value // first.cores_per_chip) for value in cores)),
        )

    @property
    def text(self) -> str:
        """The need in words."""
        if self.cores is None or self.chips is None:
            return "does not fit"
        cores, chips = span_text(self.cores), span_text(self.chips)
        return f"{cores} cores, {chips} {'chip' if chips == '1' else 'chips'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCost:
    """Costs of one frame to a sigma-delta network.

    Attributes:
        kind: "still" (as the one before), "moving", or "new" (as after a cut).
        sops: Synaptic operations.
        arithmetic: Energy of additions and multiplications, pJ.
        memory: Energy with memory accesses, pJ.
        packed: The same, charged packed bits at both ends.
        share: Of the operations of a frame in which every neuron sends.
        is_measured: Whether frames were run; else the share is assumed.
    """

    kind: str
    sops: Interval
    arithmetic: Interval
    memory: Interval
    packed: Interval
    share: Interval
    is_measured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFacts:
    """Frames as they were given, in integers of the input.

    Attributes:
        sequences: Sequences of `frames` frames each.
        changed: Mean share of values that differ from the frame before; None without an order.
        changed_much: The same by four units or more, which sensor noise rarely reaches.
        repeated: Share of frames that equal the one before; None without an order.
        nonzero: Mean share of values other than zero.
        levels: Different values, at most three are counted.
    """

    sequences: int
    frames: int
    changed: float | None
    changed_much: float | None
    repeated: float | None
    nonzero: float
    levels: int

    @property
    def are_events(self) -> bool:
        """True if they look like spikes: three values at most, mostly zero."""
        return self.levels <= 3 and self.nonzero <= EVENTS_SHARE


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures behind advice on one network.

    Attributes:
        is_supposed: Whether it is the network that is left if rectifiers take the places of what
            cannot be converted.
        cores: By chip.
        latency: Steps between a frame and its answer.
        neurons: Sigma-delta neurons, each updated for every frame.
        frames: Costs of still, moving and new frames.
        kind: Of the frames that decide: "moving", or "new" where they have no order in time.
        ann_macs: MACs of one pass of the ordinary network.
        ann: Energy of one pass in int8.
        spiking: Energy in pJ of a frame of a LIF network of the same layers, once it is trained.
        spiking_sops: Its operations.
        spiking_steps: Steps that it is shown a frame for.
        break_even: Share of senders below which a frame costs less than a pass: surely, at best.
        chip_energy: Dynamic energy of a frame of the kind that decides, on Loihi 1, pJ.
        facts: The frames; None without samples.
        errors: Rms errors of the network that was run, with thresholds 1 and 4.
    """

    name: str
    is_supposed: bool
    cores: tuple[CoreNeed, ...]
    latency: Interval
    neurons: Interval
    frames: tuple[FrameCost, ...]
    kind: str
    ann_macs: int
    ann: FrameEnergy
    spiking: Interval
    spiking_sops: Interval
    spiking_steps: Interval
    break_even: Interval
    chip_energy: Interval
    facts: FrameFacts | None
    errors: Interval | None

    @property
    def deciding(self) -> FrameCost:
        """The cost of the frames that decide."""
        return self.cost_of(self.kind)

    def cost_of(self, kind: str) -> FrameCost:
        """Return the cost of one kind of frame."""
        return next(one for one in self.frames if one.kind == kind)

    def cheapest(self) -> Suited:
        """Return the kind that is cheaper than all others at both ends of its range, or "open"."""
        ranges: dict[Suited, Interval] = {
            "sigma-delta": self.deciding.memory,
            "ann": self.ann.memory,
        }
        if self.facts is not None and self.facts.are_events:
            ranges["spiking"] = self.spiking
        for name, own in ranges.items():
            if all(own.high < other.low for key, other in ranges.items() if key != name):
                return name
        return "open"

    def swings(self) -> list[tuple[str, Interval]]:
        """Return, by assumption, the energy at its two ends over a pass's; the widest first."""
        cost, ann = self.deciding, self.ann
        middle, words = sum(cost.packed) / 2, cost.memory.high / max(cost.packed.high, 1e-12)
        ratio = middle / ann.packed
        plain = sum(cost.arithmetic) / 2 / max(ann.arithmetic, 1e-12)
        activity = "the thresholds" if cost.is_measured else "how many neurons send"
        ends = {
            activity: (cost.packed.low / ann.packed, cost.packed.high / ann.packed),
            "whether the ordinary network reads a weight once or at every use": (
                middle / ann.memory.high,
                ratio,
            ),
            "whether a sigma-delta neuron's access moves packed bits or a 64-bit word": (
                ratio,
                words * ratio,
            ),
            "whether memory is counted at all": (plain, ratio),
        }
        found = [(name, Interval(min(pair), max(pair))) for name, pair in ends.items()]
        return sorted(found, key=lambda one: -one[1].high / max(one[1].low, 1e-12))


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Advice on one model.

    Attributes:
        model: Its name.
        suits: The kind of deployment that the figures speak for; "open" where ranges overlap,
            "none" where it cannot be converted as it is.
        verdict: One sentence.
        obstacles: Nodes that stand in the way.
        figures: Costs and cores; None where no network is left.
        ann_macs: MACs of one pass of the ordinary network; None if not known.
        assumptions: Whatever was assumed.
        doubts: What a sceptic would say; of figures, the first is about the assumption that
            carries the verdict.

    Example:
        >>> advice = nd.advise(relu, shape=(1, 8, 8))
        >>> advice.suits, len(advice.doubts) > 0, advice.to_dict()["ann_macs"]
        ('ann', True, 1728)
    """

    model: str
    suits: Suited
    verdict: str
    obstacles: tuple[Obstacle, ...]
    figures: Figures | None
    ann_macs: int | None
    assumptions: tuple[str, ...]
    doubts: tuple[str, ...]

    @property
    def is_convertible(self) -> bool:
        """True if nothing stands in the way."""
        return not self.obstacles

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values; ranges are pairs, energies in pJ."""
        found = asdict(self)
        found["obstacles"] = [one._asdict() for one in self.obstacles]
        return {"is_convertible": self.is_convertible, **found}


def span_text(interval: Interval) -> str:
    """Write a range of counts: "7 to 12", or one number where both ends are equal."""
    low, high = (format_count(round(end)) for end in interval)
    return low if low == high else f"{low} to {high}"


def energy_text(interval: Interval) -> str:
    """Write a range of energies, its unit once where both ends have it."""
    (low, unit), (high, other) = (format_energy(end).split() for end in interval)
    if (low, unit) == (high, other):
        return f"{low} {unit}"
    return f"{low} to {high} {unit}" if unit == other else f"{low} {unit} to {high} {other}"


def share_text(interval: Interval) -> str:
    """Write a range of shares: "5 to 50 %"."""
    low, high = (f"{100 * end:.2g}" if end < 1 else f"{100 * end:.0f}" for end in interval)
    return f"{low} %" if low == high else f"{low} to {high} %"


def obstacle_kinds(obstacles: Sequence[Obstacle]) -> dict[tuple[str, str], list[str]]:
    """Return the nodes by operator and way out, those with most nodes first."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for node, operator, reason in obstacles:
        kinds.setdefault((operator, reason), []).append(node)
    return dict(sorted(kinds.items(), key=lambda one: -len(one[1])))


def obstacle_words(name: str, obstacles: Sequence[Obstacle]) -> str:
    """Return how many nodes of which kinds stand in the way of a model."""
    counts: dict[str, int] = {}
    for one in obstacles:
        counts[one.operator] = counts.get(one.operator, 0) + 1
    counts.pop("", None)
    kinds = sorted(counts, key=lambda kind: -counts[kind])
    named = [f"{counts[kind]} {kind}" for kind in kinds[:4]]
    if len(kinds) > 4:
        named.append(f"{sum(counts[kind] for kind in kinds[4:])} of {len(kinds) - 4} more kinds")
    number = sum(counts.values())
    nodes = "1 node stands" if number == 1 else f"{number} nodes stand"
    text = f"{name} cannot be converted as it is"
    return f"{text}: {nodes} in the way ({', '.join(named)})" if named else text


def advice_without_network(
    name: str, obstacles: tuple[Obstacle, ...], ann_macs: int | None
) -> Advice:
    """Return the advice on a model of which no network of rectified layers is left."""
    return Advice(
        model=name,
        suits="none",
        verdict=f"{obstacle_words(name, obstacles)}.",
        obstacles=obstacles,
        figures=None,
        ann_macs=ann_macs,
        assumptions=(),
        doubts=(
            "Another network for the same task may do: convolutions, batch norm, ReLU, pools and "
            "additions, trained anew. Nothing here says how accurate it would be.",
        ),
    )


def advice_of(figures: Figures, obstacles: tuple[Obstacle, ...]) -> Advice:
    """Return the advice that follows from figures."""
    lead = f"{figures.name} can be converted ({_cores_words(figures.cores)})"
    if obstacles:
        lead = obstacle_words(figures.name, obstacles)
    return Advice(
        model=figures.name,
        suits="none" if obstacles else figures.cheapest(),
        verdict=f"{lead}; {_answer(figures)}.",
        obstacles=obstacles,
        figures=figures,
        ann_macs=figures.ann_macs,
        assumptions=tuple(_assumptions(figures)),
        doubts=tuple(_doubts(figures)),
    )


def _cores_words(cores: Sequence[CoreNeed]) -> str:
    last = cores[-1]
    return f"{last.text} of {last.target}" if last.cores else f"but no core of {last.target} fits"


def _answer(figures: Figures) -> str:
    """Return the second half of the verdict: the answer to whether it pays."""
    cost, ann, facts = figures.deciding, figures.ann, figures.facts
    own, other = energy_text(cost.memory), energy_text(ann.memory)
    supposed = "with ReLU in their places, trained anew, " if figures.is_supposed else ""
    answer = figures.cheapest()
    if facts is not None and facts.are_events:
        costs = (
            f"{supposed}frames are sparse events ({_percent(facts.nonzero)} of values), and one "
            f"costs LIF neurons {energy_text(figures.spiking)}, sigma-delta neurons {own}, an int8 "
            f"pass {other}"
        )
        return f"{costs}: {_SUITED[answer]}"
    if not cost.is_measured and answer == "open":
        surely, best = figures.break_even
        if best <= 0:
            return f"{supposed}it does not pay: neuron updates alone cost more than an int8 pass"
        below = f"below {_percent(surely)} it surely does"
        if surely <= 0:
            below = "" if best >= 1 else f"below {_percent(best)} it may"
        above = f"above {_percent(best)} it surely does not" if best < 1 else ""
        either = ", ".join(filter(None, (below, above))) or "at any share it may"
        return (
            f"{supposed}whether that pays hangs on how many neurons send for a frame: {either} "
            f"(by models of 45 nm, in which an int8 pass costs {other})"
        )
    frame = f"a {cost.kind} frame costs {own} and an int8 pass {other}"
    if cost.is_measured:
        return f"on the frames given {frame}: {_SUITED[answer]}"
    share = share_text(cost.share)
    return (
        f"{supposed}if {share} of its neurons send for a frame, as is assumed, {frame}: "
        f"{_SUITED[answer]}"
    )


_SUITED: dict[Suited, str] = {
    "sigma-delta": "that speaks for sigma-delta neurons",
    "spiking": "that speaks for a spiking network, trained anew",
    "ann": "that speaks for the ordinary network",
    "open": "the ranges overlap, so that none is shown to be cheaper",
}


def _percent(share: float) -> str:
    return share_text(Interval(share, share))


def _assumptions(figures: Figures) -> Iterator[str]:
    """Yield whatever was assumed."""
    shares = [
        f"{share_text(one.share)} for a {one.kind} frame"
        for one in figures.frames
        if not one.is_measured and one.share.high
    ]
    if shares:
        yield (
            f"Neurons that send: {' and '.join(shares)}, wider than measured on other networks; "
            "all of them is the most that is possible."
        )
    if figures.facts is None or figures.is_supposed:
        yield (
            "Frames may be signed, and ceilings (ReLU6) reached or not: cores and costs range over "
            "both."
        )
    yield (
        "Energy: models of 45 nm, 8-bit weights in SRAM on the chip. Low: packed bits, an int8 "
        "pass that reads each weight once; high: a 64-bit word an access, a weight read at every "
        "use."
    )
    if figures.spiking_steps.high > 1:
        yield (
            f"A LIF network: the same layers, {span_text(figures.spiking_steps)} steps a frame, "
            f"{share_text(RATES)} of neurons spiking in a step."
        )
    else:
        yield f"A LIF network: the same layers, a step a frame, {share_text(RATES)} spiking."


def _doubts(figures: Figures) -> Iterator[str]:
    """Yield what a sceptic would say."""
    yield _carrying_doubt(figures)
    still = figures.cost_of("still")
    share = Interval(still.packed.low / figures.ann.packed, still.packed.high / figures.ann.packed)
    yield (
        f"A still frame is not free: its {span_text(figures.neurons)} neuron updates cost "
        f"{share_text(share)} of an int8 pass; an ordinary network that skips frames pays none."
    )
    facts = figures.facts
    if facts is None:
        yield (
            "No frame was looked at. Sensor noise alone may make most neurons send: give --samples."
        )
    elif facts.changed is not None and facts.changed_much is not None:
        yield (
            f"{_percent(facts.changed)} of the input changes from frame to frame, "
            f"{_percent(facts.changed_much)} by four units or more; {_percent(facts.repeated or 0)}"
            " of frames repeat. Other scenes change otherwise."
        )
    else:
        yield "The frames have no order in time; each was taken as a new one."
    if figures.errors is not None:
        yield (
            f"8-bit weights cost an rms error of {_percent(figures.errors.low)}, thresholds of 4 "
            f"{_percent(figures.errors.high)}, on frames that the network was calibrated with."
        )
    else:
        yield "Whether 8-bit weights keep the accuracy is not known before a conversion."
    yield (
        "No energy of an operation is published for Loihi 2. By those of Loihi 1, without static "
        f"power, a {figures.kind} frame costs {energy_text(figures.chip_energy)} at the most."
    )
    if any(need.chips is not None and need.chips.high > 1 for need in figures.cores):
        yield "Several chips: no figure here counts the messages between them."


def _carrying_doubt(figures: Figures) -> str:
    """Return the sentence about the assumption on which the answer hangs most."""
    swings = figures.swings()
    turning = [one for one in swings if one[1].low < 1 < one[1].high]
    name, ratio = (turning or swings)[0]
    ends = f"{format_factor(ratio.low)} to {format_factor(ratio.high)} times that of an int8 pass"
    if turning:
        return f"The answer hangs on {name}: that alone moves the energy of a frame from {ends}."
    return f"The widest guess is {name}: from {ends}; that alone does not turn the answer."


def data_words(figures: Figures) -> str:
    """Return whether LIF or sigma-delta neurons suit the frames."""
    facts = figures.facts
    if facts is None:
        return (
            "LIF or sigma-delta: sparse events suit LIF neurons, frames of which little changes "
            "sigma-delta neurons; no frames were given."
        )
    if facts.are_events:
        return (
            f"LIF or sigma-delta: LIF; {_percent(facts.nonzero)} of the values are events, which "
            "LIF neurons take as they are, a step a frame."
        )
    several = f"LIF neurons would need each for {span_text(figures.spiking_steps)} steps"
    if facts.changed is None:
        return f"LIF or sigma-delta: neither; the frames have no order in time, and {several}."
    found = f"{_percent(facts.changed)} of the values change from frame to frame, and {several}."
    suited = "sigma-delta" if facts.changed <= MUCH_CHANGED else "neither"
    return f"LIF or sigma-delta: {suited}; {found}"
