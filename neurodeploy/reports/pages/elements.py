"""The elements of a page: cards, plots, tables, sections; words explained; HTML and Markdown.

An HTML page loads nothing: styles, plots and the script that sorts tables are inside it. Markdown
has the same sections and tables, without the plots. Everything that a user supplied is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from neurodeploy.reports.plots.drawing import DARK, LIGHT, css_variables

Rows = list[tuple[str, ...]]

LONG = frozenset({
    "source", "bounds", "measurement", "facts", "rule", "assumption", "meaning", "file", "SHA-256",
    "nominal value",
})  # fmt: skip
TEXT = frozenset(
    {"verdict", "evidence", "weakest evidence", "limited by", "changes the winner", "holds for"}
)


@dataclass(frozen=True, slots=True)
class Card:
    """A headline figure."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with its caption."""

    svg: str
    title: str
    caption: str
    is_wide: bool = False


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table with its caption; the first `text_columns` columns are text.

    Columns named in `LONG` hold sentences and those in `TEXT` words, wherever they stand. A page
    folds long tables, unless one `stays_open`.
    """

    caption: str
    columns: tuple[str, ...]
    rows: Rows
    text_columns: int = 1
    has_total: bool = False
    stays_open: bool = False

    @property
    def width(self) -> str:
        """The width: "whole" where sentences need the page, "wraps" where they bend, or ""."""
        sentences = sum(name in LONG for name in self.columns)
        if sentences > 1 or (sentences and len(self.columns) >= 6):
            return "whole"
        return "wraps" if sentences else ""

    def style(self, column: int) -> str:
        """Return how a column is set: "long", "text" or "number"."""
        name = self.columns[column]
        if name in LONG:
            return "long"
        return "text" if column < self.text_columns or name in TEXT else "number"


@dataclass(frozen=True, slots=True)
class PageSection:
    """A part of the page; `words` are those met here first, with their meanings."""

    anchor: str
    title: str
    lead: str = ""
    words: tuple[tuple[str, str], ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[PageTable, ...] = ()
    items: tuple[str, ...] = ()
    code: str = ""


@dataclass(frozen=True, slots=True)
class Outline:
    """A whole page; its verdict is one sentence, shown before all else."""

    title: str
    description: str = ""
    cards: tuple[Card, ...] = ()
    sections: tuple[PageSection, ...] = ()
    verdict: str = ""


_WORDS: tuple[tuple[str, str, str], ...] = (
    ("ReLU twin", r"ReLU twin",
     "an ordinary network with the layers and weights of the trained one, one pass an inference"),
    ("ANN", r"ANN", "artificial neural network, an ordinary one without spikes, to compare with"),
    ("SOP", r"(?<!stored )SOPs?|[Ss]ynaptic operations",
     "synaptic operation: one event through one synapse with a weight other than zero"),
    ("MAC", r"MACs?", "multiply-accumulate, the operation of an ordinary network"),
    ("event", r"[Ee]vents?", "a value other than zero that a layer receives in one step"),
    ("stored SOP", r"[Ss]tored SOPs?", "a SOP, or an event through a weight of zero"),
    ("dense MACs", r"dense MACs",
     "multiply-accumulates of one pass of an ordinary layer of the same shape"),
    ("spikes per synapse", r"spikes (?:pass each|per) synapse",
     "stored SOPs of an inference over dense MACs (sigma)"),
    ("sigma-delta", r"[Ss]igma-delta",
     "neurons that send the change of their value, once it reaches a threshold"),
    ("fill", r"fill of the pipeline|[Ff]ill",
     "steps in which later layers have not seen a frame, and send what their biases make"),
    ("unanswered", r"unanswered", "frames at the end of a sequence, whose answer comes after it"),
    ("preset", r"presets?",
     "constants of one technology, such as energies of operations in a 45 nm process"),
    ("tier", r"[Tt]iers?",
     "scope of an estimate: A arithmetic, B memory accesses as well, C Loihi 1 by operation"),
    ("low, nominal, high", r"[Nn]ominal", "lower bound, value and upper bound of the model"),
    ("break-even", r"break-evens?", "where both sides need the same energy"),
    ("point", r"\d points?", "one hundredth: 97 % and 98 % differ by 1 point"),
    ("95 % interval", r"95 % intervals?",
     "range that, in 95 of 100 such tests, holds the accuracy on endless samples"),
    ("Lava", r"Lava", "Intel's software for Loihi chips, which computes in the chip's integers"),
    ("relay", r"[Rr]elays?", "neurons that hand the spikes of a skip connection on"),
    ("rate", r"rate", "share of all neurons and steps in which a neuron sent something"),
    ("active", r"active", "share of neuron updates with a potential, an input or a bias"),
    ("±", r"±", "standard deviation over the samples"),
    ("Pareto front", r"Pareto front",
     "the networks of which no other is at least as accurate for less energy"),
    ("λ", r"λ", "share of the shortcut branches in the loss"),
)  # fmt: skip
"""(word, pattern of its forms, meaning)."""


def explain_words(
    cards: Sequence[Card], sections: Sequence[PageSection], *, verdict: str = ""
) -> Iterator[PageSection]:
    """Yield the sections, each with the words that no section before it has.

    The words of verdict and cards, which come first on a page, are explained in the first section.
    """
    waiting = list(_WORDS)
    above = " ".join((verdict, *(f"{card.label} {card.value} {card.note}" for card in cards)))
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


def render_html(outline: Outline) -> str:
    """Return a page of any content as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("neurodeploy.reports", "pages"), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("report.html.j2").render(
        page=outline, light=css_variables(LIGHT), dark=css_variables(DARK)
    )


def render_markdown(outline: Outline) -> str:
    """Return a page of any content as Markdown; what a user supplied is escaped."""
    lines = [f"# {_escape(outline.title)}", ""]
    if outline.verdict:
        lines += [f"**{_escape(outline.verdict)}**", ""]
    if outline.description:
        lines += [_escape(outline.description), ""]
    for card in outline.cards:
        note = f" ({_escape(card.note)})" if card.note else ""
        lines.append(f"- {_escape(card.label)}: **{_escape(card.value)}**{note}")
    for section in outline.sections:
        lines += _section(section)
    return "\n".join(lines).rstrip() + "\n"


def _section(section: PageSection) -> Iterator[str]:
    yield from ("", f"## {_escape(section.title)}", "")
    if section.lead:
        yield from (_escape(section.lead), "")
    if section.words:
        yield from (f"*{_escape(word)}*: {_escape(meaning)}.  " for word, meaning in section.words)
        yield ""
    for table in section.tables:
        if table.caption != section.title:
            yield from (f"### {_escape(table.caption)}", "")
        yield from _table(table)
        yield ""
    yield from (f"- {_escape(item)}" for item in section.items)
    if section.code:
        # Indented, not fenced: no text can end the block.
        yield from (f"    {line}" for line in section.code.strip("\n").split("\n"))


def _table(table: PageTable) -> Iterator[str]:
    sides = [
        "---:" if table.style(column) == "number" else "---" for column in range(len(table.columns))
    ]
    for cells in (table.columns, sides, *table.rows):
        yield "| " + " | ".join(map(_escape, cells)) + " |"


def _escape(text: str) -> str:
    """Leave only characters that stand for themselves; underscores inside words do."""
    text = re.sub(r"([\\`*\[\]<|]|(?<!\w)_|_(?!\w)|^[#>])", r"\\\1", text)
    return " ".join(text.split())
