"""Advice fits on one page of a terminal, whatever it has to say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from neurodeploy.errors import Obstacle
from neurodeploy.reports.advice import advice_of, advice_without_network
from neurodeploy.reports.pages.advice_page import (
    advice_text,
    write_advice,
    write_advice_markdown,
)
from tests.unit.reports.test_advice import figures

OBSTACLES = tuple(
    Obstacle(f"/blocks/{index}/a_rather_long_name_of_a_node", f"Operator{index % 12}", "Why. " * 9)
    for index in range(100)
)


def test_one_page() -> None:
    longest = replace(figures(30, 300), is_supposed=True)
    for advice in (
        advice_of(figures(30, 45), ()),
        advice_of(figures(30, 300, facts=None), ()),
        advice_of(longest, OBSTACLES[:7]),
        advice_without_network("model.onnx", OBSTACLES, 1234),
    ):
        lines = advice_text(advice).splitlines()
        assert len(lines) <= 45
        assert max(map(len, lines)) <= 100
        assert " ".join(lines).startswith(advice.verdict[:200])


def test_kinds_beyond_a_page_are_counted() -> None:
    text = advice_text(advice_without_network("model.onnx", OBSTACLES, 1234))
    assert "and 6 more): Why." in text
    assert "4 more kinds of nodes; --json lists every node." in text
    assert "One pass of it: 1,234 MACs." in text


def test_pages_hold_every_node_and_escape_names(tmp_path: Path) -> None:
    strange = Obstacle("<script>", "Mul", "Leave out.")
    advice = advice_of(replace(figures(30, 45), is_supposed=True), (*OBSTACLES, strange))
    write_advice(advice, tmp_path / "page.html")
    write_advice_markdown(advice, tmp_path / "page.md")
    page, markdown = (tmp_path / "page.html").read_text(), (tmp_path / "page.md").read_text()
    assert "<script>" not in page.split("</style>")[1].split("<script")[0]
    assert "&lt;script&gt;" in page
    for text in (page, markdown):
        assert all(one.node in text for one in OBSTACLES)
        assert "A sceptic would say" in text
        assert "100 to 200 cores" in text
