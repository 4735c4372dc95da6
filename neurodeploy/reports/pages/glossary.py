"""The words of a report, each explained in the section where a reader first meets it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from neurodeploy.reports.pages.elements import Card, PageSection

_WORDS: tuple[tuple[str, str, str], ...] = (
    (
        "ReLU twin",
        r"ReLU twin",
        "an ordinary network with the layers and weights of the trained one, one pass an inference",
    ),
    (
        "SOP",
        r"(?<!stored )SOPs?|[Ss]ynaptic operations",
        "synaptic operation: one event through one synapse with a weight other than zero",
    ),
    ("MAC", r"MACs?", "multiply-accumulate, the operation of an ordinary network"),
    ("event", r"[Ee]vents?", "a value other than zero that a layer receives in one step"),
    ("stored SOP", r"[Ss]tored SOPs?", "a SOP, or an event through a weight of zero"),
    (
        "dense MACs",
        r"dense MACs",
        "multiply-accumulates of one pass of an ordinary layer of the same shape",
    ),
    (
        "spikes per synapse",
        r"spikes (?:pass each|per) synapse",
        "stored SOPs of an inference over dense MACs (sigma)",
    ),
    (
        "preset",
        r"presets?",
        "constants of one technology, such as energies of operations in a 45 nm process",
    ),
    (
        "tier",
        r"[Tt]iers?",
        "scope of an estimate: A arithmetic, B memory accesses as well, C Loihi 1 by operation",
    ),
    ("low, nominal, high", r"nominal", "lower bound, value and upper bound of the model"),
    ("rate", r"rate", "share of all neurons and steps in which a neuron sent something"),
    ("active", r"active", "share of neuron updates with a potential, an input or a bias"),
    ("±", r"±", "standard deviation over the samples"),
    (
        "Pareto front",
        r"Pareto front",
        "the networks of which no other is at least as accurate for less energy",
    ),
    ("λ", r"λ", "share of the shortcut branches in the loss"),
)
"""(word, pattern of its forms, meaning)."""


def explain_words(cards: Sequence[Card], sections: Sequence[PageSection]) -> Iterator[PageSection]:
    """Yield the sections, each with the words that no section before it has.

    The words of cards, which come first on a page, are explained in the first section.
    """
    waiting = list(_WORDS)
    above = " ".join(f"{card.label} {card.value} {card.note}" for card in cards)
    for section in sections:
        text = f"{above} {_text_of(section)}"
        above = ""
        met = [entry for entry in waiting if re.search(rf"(?<!\w){entry[1]}(?!\w)", text)]
        waiting = [entry for entry in waiting if entry not in met]
        yield replace(section, words=tuple((word, meaning) for word, _, meaning in met))


def _text_of(section: PageSection) -> str:
    parts = [section.title, section.lead, *section.items]
    for plot in section.plots:
        parts += [plot.title, plot.caption]
    for table in section.tables:
        parts += [table.caption, *table.columns, *(cell for row in table.rows for cell in row)]
    return " ".join(parts)
