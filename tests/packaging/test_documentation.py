"""Every public name is documented, examples in docstrings run, and links lead somewhere."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import tomllib
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from urllib.parse import urlsplit

import capabilities
import error_catalogue
import pages_from_code
import pages_from_files
import pytest
import typer

import neurodeploy as nd
from neurodeploy.cli.app import make_app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_every_public_name_is_on_one_page_of_the_reference() -> None:
    names = pages_from_code.documented_names()
    undocumented = set(nd.__all__) - {"__version__", *names}
    assert undocumented == set(), "give them a page in API of docs/pages_from_code.py"
    assert sorted(names) == sorted(set(names) & set(nd.__all__))


def test_every_public_name_has_a_docstring() -> None:
    values = {name: getattr(nd, name) for name in nd.__all__ if name != "__version__"}
    assert [name for name, value in values.items() if not inspect.getdoc(value)] == []


def examples_of(page: pages_from_code.ApiPage) -> Iterator[doctest.DocTest]:
    """Yield the examples of a page: those of each name first, then those of its methods."""
    finder = doctest.DocTestFinder()
    for name, value in pages_from_code.documented_objects(page):
        found = finder.find(value, f"nd.{name}", globs={})
        yield from (one for one in found if one.examples)


def test_every_public_name_has_an_example() -> None:
    for page in pages_from_code.API.values():
        with_example = {one.name for one in examples_of(page)}
        names = {f"nd.{name}" for name, _ in pages_from_code.documented_objects(page)}
        assert names - with_example == set(), "write one into its docstring, under `Example:`"
        modules = {name for name in page.names.split() if inspect.ismodule(getattr(nd, name))}
        assert {name.removeprefix("nd.").partition(".")[0] for name in names} >= modules
        for one in examples_of(page):
            assert "+SKIP" not in one.docstring, one.name
            assert len(one.docstring.split(">>>")) <= 8, f"{one.name}: keep it short"


NEEDS_LAVA = ("nd.LavaSimulator",)


@pytest.mark.parametrize(
    ("name", "with_lava"),
    [
        *((name, False) for name in pages_from_code.API if name != "whole_runs"),
        pytest.param("run_files", True, marks=pytest.mark.lava),
        pytest.param("whole_runs", True, marks=pytest.mark.lava),
    ],
)
def test_the_examples_in_docstrings_run(
    name: str, with_lava: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = pages_from_code.API[name]
    begun: dict[str, object] = {}
    exec(compile(page.setup, name, "exec"), begun)
    runner = doctest.DocTestRunner()
    for one in examples_of(page):
        if name == "whole_runs" or (one.name in NEEDS_LAVA) == with_lava:
            one.globs = dict(begun)
            runner.run(one)
    assert runner.tries > 0
    assert runner.failures == 0


def test_the_code_on_the_first_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert "torch" not in block
    exec(compile(block, "index.md", "exec"), {})
    first, verified, sops = capsys.readouterr().out.splitlines()
    assert (first, sops) == (str(29 / 32), "7095.03125")
    assert "all 28,416 spikes and states equal to those of real Lava" in verified


def test_pages_are_made_from_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "try_files", dict)  # tried by tests of their own
    monkeypatch.setattr(capabilities, "try_recipes", dict)
    monkeypatch.setattr(error_catalogue, "raised", dict)
    pages_from_code.write(tmp_path)
    pages_from_files.write(tmp_path)
    keys = (tmp_path / "reference" / "recipe_keys.md").read_text(encoding="utf-8")
    assert "| `accuracy_budget` | number: at least 0 and below 1 | `0.0`" in keys.replace(
        "`0`", "`0.0`"
    )
    commands = (tmp_path / "reference" / "commands.md").read_text(encoding="utf-8")
    assert "## neurodeploy lava doctor" in commands
    assert "| `--data FILE.npz` | required | Your samples" in commands
    assert "`shape` | (C, H, W) or (N,)" in (tmp_path / "reference/net_files.md").read_text("utf-8")
    assert (tmp_path / "project" / "contributing.md").is_file()
    types = (tmp_path / "reference" / "api" / "types.md").read_text("utf-8")
    for name in ("counting.count_tables.Counts", "chips.cores.ChipFit", "passes.relays.Lowered"):
        assert f"autoclass:: neurodeploy.{name}\n" in types
    assert "autoclass:: neurodeploy.simulation.recording.Recording\n" not in types  # public
    made = {path.stem for path in (tmp_path / "reference").glob("*.md")}
    assert made >= set(MADE_FROM_CODE)
    zoo = (tmp_path / "reference" / "zoo.md").read_text(encoding="utf-8")
    assert all(f"\n## {card.name}\n" in zoo for card in nd.list_examples())


def pages() -> list[Path]:
    """Return the pages that are written by hand, and the READMEs."""
    made = {DOCS / page for page in pages_from_files.FILES.values()}
    made |= {DOCS / "reference" / f"{name}.md" for name in MADE_FROM_CODE}
    folders = ("*", "training/*", "hardware/*", "examples/*", "docs/*", "docs/*/*")
    return [path for one in folders for path in sorted(ROOT.glob(f"{one}.md")) if path not in made]


def test_the_page_about_installation_names_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (DOCS / "howto" / "install.md").read_text(encoding="utf-8")
    rows = [row.split("|")[1] for row in page.splitlines() if row.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == set(project["optional-dependencies"])


def test_links_lead_to_files() -> None:
    made = {f"docs/{page}" for page in pages_from_files.FILES.values()}
    made |= {f"docs/reference/{name}.md" for name in MADE_FROM_CODE}
    checked = 0
    for path in pages():
        text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)\s#]+)", text):
            if not re.match(r"\w+:", link):
                target = (path.parent / link).resolve().relative_to(ROOT).as_posix()
                assert target in made or (ROOT / target).exists(), (path, link)
                if target.endswith(".md") and path != ROOT / "README.md":
                    on_site = {*made, "README.md"}
                    if not path.is_relative_to(DOCS):
                        on_site |= set(pages_from_files.FILES)
                    assert target in on_site or target.startswith("docs/"), (path, link)
                checked += 1
    assert checked > 40


def slug(heading: str) -> str:
    """Return the anchor that GitHub and the site give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_anchors_of_links_are_headings() -> None:
    source_of = {page: source for source, page in pages_from_files.FILES.items()}
    checked = 0
    for path in pages():
        text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
        for link, anchor in re.findall(r"\]\(([^)\s#:]*)#([^)\s]+)\)", text):
            target = (path.parent / link).resolve() if link else path
            if target.is_relative_to(DOCS):
                name = target.relative_to(DOCS).as_posix()
                target = ROOT / source_of[name] if name in source_of else target
            found = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
            assert anchor in map(slug, found), (path, link, anchor)
            checked += 1
    assert checked >= 10


def test_external_links_are_well_formed() -> None:
    files = [*pages(), *(ROOT / name for name in ("CITATION.cff", "pyproject.toml", "SECURITY.md"))]
    files += [*(ROOT / "neurodeploy").rglob("*.py"), *(ROOT / "training").rglob("*.toml")]
    links, papers = set(), set()
    for path in files:
        text = path.read_text(encoding="utf-8")
        links |= set(re.findall(r"https?://[^\s)\"'>`\]]+", text))
        papers |= set(re.findall(r"(?i)arxiv(?:\.org/abs/|[: ]+)(\d[\d.]*\d)", text))
    hosts = {urlsplit(link).hostname or "" for link in links if "{" not in link}
    misspelt = {host for host in hosts if not re.fullmatch(r"([\w-]+\.)+[a-z0-9]+|localhost", host)}
    assert misspelt == set()
    assert [one for one in papers if not re.fullmatch(r"\d\d(0[1-9]|1[0-2])\.\d{5}", one)] == []
    assert len(links) > 10


def test_python_on_pages_compiles_and_its_names_exist() -> None:
    blocks = 0
    for path in pages():
        text = path.read_text(encoding="utf-8")
        for block in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S):
            for node in ast.walk(ast.parse(block, filename=str(path))):
                called = node.func if isinstance(node, ast.Call) else node
                name = ast.unparse(called) if isinstance(called, ast.Attribute) else ""
                if re.fullmatch(r"nd(\.\w+)+", name):
                    found = attrgetter(name.removeprefix("nd."))(nd)
                    if isinstance(node, ast.Call):
                        keywords = {one.arg: None for one in node.keywords if one.arg}
                        inspect.signature(found).bind_partial(**keywords)
            blocks += 1
    assert blocks >= 12


def test_every_command_shows_an_example() -> None:
    app = typer.main.get_group(make_app())
    for name, command in app.commands.items():
        inner = getattr(command, "commands", None) or {"": command}
        for second, one in inner.items():
            called = f"neurodeploy {name} {second}".strip()
            assert f"Example: `{called}" in (one.help or ""), called


def test_commands_on_pages_have_the_options_that_they_are_given() -> None:
    app = typer.main.get_group(make_app())
    checked = 0
    for path in pages():
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        shell = "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S))
        shell += "\n".join(re.findall(r"^(?: {4}|!)(neurodeploy .*)", text, re.M))
        for line in re.findall(r"^(?:\.venv/bin/)?neurodeploy (\w[^#\n]*)", shell, re.M):
            words = line.split()
            command = app.commands[words[0]]
            if hasattr(command, "commands"):
                command = command.commands[words[1]]
            known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
            used = {word for word in words if re.match(r"--?[a-z]", word)}
            assert used <= known, (path, line)
            for one in command.params:  # a line that is pasted has all that it needs
                is_named = {*one.opts, *one.secondary_opts} & set(words)
                assert not one.required or one.param_type_name == "argument" or is_named, (
                    path,
                    line,
                )
            checked += 1
    assert checked > 30


MADE_FROM_CODE = (
    Path(pages_from_files.ZOO).stem,
    "commands", "recipe_keys", "net_files", "report_schema", "certificate_schema", "capabilities",
    "errors",
)  # fmt: skip
