"""Markdown: the same sections and tables as the page, and nothing that a user can break out of."""

from __future__ import annotations

import re

from neurodeploy.reports.pages.elements import (
    Card,
    Outline,
    PageSection,
    PageTable,
    render_markdown,
)
from neurodeploy.reports.pages.outline import outline_of, write_markdown
from neurodeploy.reports.report import RunSummary


def test_it_has_every_section_table_row_and_remark_of_the_page(make_report):
    outline = outline_of(RunSummary(title="digits", report=make_report()))
    text = render_markdown(outline).replace("\\", "")
    headings = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert headings == [section.title for section in outline.sections]
    tables = [table for section in outline.sections for table in section.tables]
    assert text.count("\n| ") == sum(len(table.rows) + 2 for table in tables)
    assert "| hidden | dense | binary | 256 |" in text
    assert "Left out of tier A (arithmetic only): memory accesses" in text
    assert all(f"- {item}" in text for section in outline.sections for item in section.items)


def test_numbers_stand_on_the_right_and_words_on_the_left():
    table = PageTable(
        caption="t", columns=("name", "n", "verdict"), rows=[("a", "1", "good")], text_columns=1
    )
    lines = render_markdown(
        Outline(title="x", sections=(PageSection(anchor="s", title="S", tables=(table,)),))
    ).splitlines()
    assert lines[-3:] == ["| name | n | verdict |", "| --- | ---: | --- |", "| a | 1 | good |"]


def test_what_a_user_names_stays_text():
    evil = "a|b`<script>`\n# heading"
    table = PageTable(caption=evil, columns=(evil, "n"), rows=[(evil, "1")], text_columns=1)
    section = PageSection(
        anchor="s", title=evil, lead=evil, items=(evil,), tables=(table,), code=evil
    )
    outline = Outline(title=evil, description=evil, cards=(Card(label=evil, value="1"),))
    text = render_markdown(outline) + render_markdown(Outline(title="t", sections=(section,)))
    plain = [line for line in text.splitlines() if not line.startswith("    ")]
    assert not re.search(r"(?<!\\)<script", "\n".join(plain))
    assert [line for line in plain if line.startswith("# ")] == [
        "# a\\|b\\`\\<script>\\` # heading",
        "# t",
    ]
    rows = [line for line in plain if line.startswith("| ")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [3, 3, 3]


def test_is_written_as_rendered(tmp_path):
    summary = RunSummary(title="Übung", recipe="λ = 1")
    write_markdown(summary, tmp_path / "report.md")
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert written == render_markdown(outline_of(summary))
    assert written.startswith("# Übung\n")
    assert written.endswith("\n    λ = 1\n")
