"""Words are explained once, in the section where a reader meets them."""

from __future__ import annotations

from neurodeploy.reports.pages.elements import (
    Card,
    PageSection,
    PageTable,
    Plot,
    explain_words,
)


def words_of(*sections: PageSection, cards: tuple[Card, ...] = ()) -> list[list[str]]:
    return [[word for word, _ in section.words] for section in explain_words(cards, sections)]


def test_a_word_is_explained_where_it_is_first_met() -> None:
    first = PageSection(anchor="a", title="A", lead="12 SOPs against the ReLU twin.")
    second = PageSection(anchor="b", title="B", items=("SOPs again, by one preset.",))
    assert words_of(first, second) == [["ReLU twin", "SOP"], ["preset"]]


def test_cards_come_before_the_first_section() -> None:
    cards = (Card(label="Synaptic operations", value="12"),)
    assert words_of(PageSection(anchor="a", title="A"), cards=cards) == [["SOP"]]


def test_words_are_met_in_plots_and_tables_too() -> None:
    table = PageTable(caption="Counts", columns=("layer", "stored SOPs"), rows=[("a", "3 ± 1")])
    plot = Plot(svg="<svg>tier</svg>", title="Loss", caption="Weight λ of the branches.")
    section = PageSection(anchor="a", title="A", plots=(plot,), tables=(table,))
    assert words_of(section) == [["stored SOP", "±", "λ"]]


def test_parts_of_words_are_no_words() -> None:
    section = PageSection(anchor="a", title="A", lead="Accurate and interactive, eventually.")
    assert words_of(section) == [[]]
