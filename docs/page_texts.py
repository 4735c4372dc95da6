"""Pages of the site as text: tables, and files that are written only where they change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a table, and an empty one."""
    head = list(head)
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def replace_page(path: Path, lines: Iterable[str]) -> None:
    """Write a page, unless it has the same text already, which keeps the site's cache."""
    text = "\n".join(lines) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
