"""The files of a release agree with each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import neurodeploy as nd

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_one_version_stands_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert first is not None
    assert citation["version"] == first.group(1) == nd.__version__


def test_the_citation_names_software_and_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors", "type"} <= set(citation)
    (paper,) = citation["references"]
    assert paper["url"].endswith("2401.04486")
    assert len(paper["authors"]) == 8


def test_badges_say_what_the_project_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    readme = (ROOT / "README.md").read_text("utf-8")
    python = re.search(r"!\[Python (\S+) to 3\.(\d+)\]", readme)
    assert python is not None
    lowest, last = python.groups()
    assert project["requires-python"] == f">={lowest},<3.{int(last) + 1}"
    assert f"![License: {project['license']}]" in readme


@pytest.mark.parametrize("name", ["fault", "difference", "wish"])
def test_issue_templates_are_forms(name: str) -> None:
    path = ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml"
    form = yaml.safe_load(path.read_text("utf-8"))
    assert {"name", "description", "body"} <= set(form)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) >= 2


def test_the_page_for_language_models_leads_to_pages() -> None:
    links = re.findall(r"\]\(([^)]+)\.html\)", (DOCS / "llms.txt").read_text("utf-8"))
    made = {"commands", "recipe_keys", "net_files", "report_schema", "certificate_schema"}
    missing = [
        link
        for link in links
        if not (DOCS / f"{link}.md").exists()
        and link.removeprefix("reference/") not in {*made, "api/index"}
    ]
    assert len(links) > 10
    assert missing == []
