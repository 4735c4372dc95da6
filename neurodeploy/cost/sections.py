"""What a report page consists of: cards, plots, tables, sections."""

from __future__ import annotations

from dataclasses import dataclass

from neurodeploy.cost.tables import Rows


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
    """A table with its caption; the first `text_columns` columns are text."""

    caption: str
    columns: tuple[str, ...]
    rows: Rows
    text_columns: int
    has_total: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page."""

    anchor: str
    title: str
    lead: str = ""
    plots: tuple[Plot, ...] = ()
    tables: tuple[PageTable, ...] = ()
    items: tuple[str, ...] = ()
    code: str = ""
