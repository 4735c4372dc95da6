"""The elements of a report page: cards, plots, tables, sections."""

from __future__ import annotations

from dataclasses import dataclass

Rows = list[tuple[str, ...]]

LONG = frozenset(
    {
        "source",
        "bounds",
        "measurement",
        "facts",
        "rule",
        "assumption",
        "meaning",
        "file",
        "SHA-256",
        "nominal value",
    }
)
TEXT = frozenset({"verdict", "evidence", "weakest evidence", "limited by", "changes the winner"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A headline figure."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A drawing with its caption."""

    svg: str
    title: str
    caption: str
    is_wide: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A whole page."""

    title: str
    description: str = ""
    cards: tuple[Card, ...] = ()
    sections: tuple[PageSection, ...] = ()
