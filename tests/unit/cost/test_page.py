"""The HTML page: complete, self-contained, escaped, and one that a browser opens."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from neurodeploy.cost.page import render_page, write_page
from neurodeploy.cost.run_summary import (
    AccuracyPoint,
    Agreement,
    EpochPoint,
    LayerAgreement,
    RunSummary,
    raster_of,
)
from neurodeploy.simulation.base import Recording

VOID = {"meta", "br", "link", "img", "hr", "input"}
SECTIONS = [
    "accuracy", "agreement", "counts", "energy", "fairness", "sensitivity", "fit", "raster",
    "training", "assumptions", "sources", "making", "recipe",
]  # fmt: skip


class Page(HTMLParser):
    """Collects what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.sections: list[str] = []
        self.captions: list[str] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "section":
            self.sections.append(values["id"])
        self.references += [
            value
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "srcset", "action")
        ]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] == "caption":
            self.captions.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


def history(epochs):
    return tuple(
        EpochPoint(
            epoch=number,
            iterations=10 * number,
            loss=1 / number,
            train_accuracy=0.9,
            validation_accuracy=0.8,
            branch_weight=0.25 / number,
            learning_rate=0.1 / number,
        )
        for number in range(1, epochs + 1)
    )


@pytest.fixture(scope="module")
def summary(make_report, mlp_run, tmp_path_factory):
    inputs, recording = mlp_run
    net = tmp_path_factory.mktemp("page") / "network.net"
    net.write_bytes(b"x")
    return RunSummary(
        title="digits",
        description="A small network",
        accuracy=(
            AccuracyPoint(stage="float", value=0.9861, samples=360),
            AccuracyPoint(stage="integer", value=0.9833, samples=360),
            AccuracyPoint(stage="Lava", value=0.984, samples=64),
        ),
        agreement=Agreement(
            samples=64,
            differing_spikes=0,
            layers=(LayerAgreement(name="hidden", compared=163_840, spikes=128, differing=0),),
            seconds=21.4,
        ),
        report=make_report(network_file=net),
        raster=raster_of(recording, inputs=inputs, title="Test sample 7"),
        history=history(3),
        fine_tuning=history(1),
        seconds={"train": 50.0, "lava": 21.4},
        versions={"numpy": "2.4.0"},
        recipe='[recipe]\nname = "digits"\n',
        command="neurodeploy run digits",
        created="2026-01-01",
    )


@pytest.fixture(scope="module")
def html(summary):
    return render_page(summary)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_every_section_is_there_and_tags_are_balanced(page):
    assert page.sections == SECTIONS
    assert page.open == []


def test_nothing_is_loaded_and_only_tables_are_sorted(html, page):
    assert all(reference.startswith("#") for reference in page.references)
    assert not {"link", "img", "iframe", "object"} & set(page.tags)
    assert page.tags.count("script") == 1  # the one that sorts tables
    script = html[html.index("<script>") : html.index("</script>")]
    assert not any(word in script for word in ("fetch", "import", "XMLHttp", "http", "innerHTML"))
    assert "@import" not in html
    assert "url(http" not in html.replace("url(#", "")
    addresses = {part.split('"')[0] for part in html.split('="http')[1:]}
    assert addresses <= {"://www.w3.org/2000/svg", "://www.w3.org/1999/xlink"}


def test_ids_are_unique_and_every_reference_has_its_target(page):
    assert len(page.ids) == len(set(page.ids))
    assert {reference[1:] for reference in page.references} <= set(page.ids)


def test_headline_figures(page):
    for figure in ("98.3 %", "identical", "201,984", "203,264"):
        assert figure in page.text


def test_tables_hold_the_values(page):
    for cell in ("163,840", "21.3 nJ", "98.6 %", "912", "71.4 s", "2.4.0", "0.3 pJ", "cmos45_fp32"):
        assert cell in page.cells, cell


def test_plots_follow_the_colour_scheme_and_keep_text_as_text(html, page):
    assert page.tags.count("svg") == 10
    assert "prefers-color-scheme: dark" in html
    assert "var(--series-1)" in html
    assert "#010101" not in html
    assert "spiking network" in page.text


def test_what_is_left_out_is_said(page):
    assert "Left out of tier A (arithmetic only): memory accesses" in page.text
    assert "not measurements" in page.text


def test_the_page_is_the_same_every_time(summary, html):
    assert render_page(summary) == html


def test_absent_parts_do_not_appear():
    page = Page(render_page(RunSummary(title="nothing")))
    assert page.sections == []
    assert "svg" not in page.tags


def test_disagreement_is_not_overlooked(page):
    layers = (LayerAgreement(name="conv1", compared=10, spikes=5, differing=2),)
    agreement = Agreement(samples=1, differing_spikes=2, layers=layers)
    shown = Page(render_page(RunSummary(title="x", agreement=agreement)))
    assert "DIFFERS" in shown.cells
    assert "do not trust" in shown.text
    assert "do not trust" not in page.text


def test_everything_from_a_user_is_escaped():
    evil = '<script>alert("1")</script>$\\frac{1}{2}$&'
    recording = Recording.from_spikes(
        (evil, "last"),
        (np.ones((1, 2, 3), dtype=np.uint8), np.zeros((1, 2, 1), dtype=np.uint8)),
    )
    html = render_page(
        RunSummary(
            title=evil,
            description=evil,
            accuracy=(AccuracyPoint(stage=evil, value=0.5, note=evil),),
            agreement=Agreement(
                samples=1,
                differing_spikes=0,
                layers=(LayerAgreement(name=evil, compared=1, spikes=0, differing=0),),
            ),
            raster=raster_of(recording, title=evil),
            versions={evil: evil},
            recipe=evil,
            command=evil,
        )
    )
    page = Page(html)
    assert page.tags.count("script") == 1
    assert "alert(" not in html[html.index("<script>") : html.index("</script>")]
    assert page.open == []
    assert evil in page.text


def test_is_written_as_rendered(tmp_path):
    summary = RunSummary(title="Übung", recipe="λ = 1")
    write_page(summary, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_page(summary)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_opens_it_and_nothing_overflows(html, tmp_path):
    """The browser itself reports widths: no page scrolls sideways on a phone."""
    probe = (
        "<script>addEventListener('load', () => {"
        "const d = document.documentElement;"
        "document.title = `width ${d.scrollWidth} of ${d.clientWidth}, "
        "${document.querySelectorAll('svg').length} plots`;})</script>"
    )
    inner = tmp_path / "inner.html"
    inner.write_text(html.replace("</body>", probe + "</body>"), encoding="utf-8")
    outer = tmp_path / "outer.html"
    outer.write_text(
        "<body><iframe style='width:390px;height:800px;border:0' src='inner.html'></iframe>"
        "<script>addEventListener('load', () => setTimeout(() => {"
        "const p = document.createElement('p');"
        "p.textContent = document.querySelector('iframe').contentDocument.title;"
        "document.body.append(p);}, 200))</script></body>",
        encoding="utf-8",
    )
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", "--hide-scrollbars", "--allow-file-access-from-files",
        "--virtual-time-budget=4000",
        f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", outer.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert "<p>width 390 of 390, 10 plots</p>" in shown.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_click_sorts_a_table_and_the_total_stays_last(html, tmp_path):
    probe = (
        "<script>addEventListener('load', () => {"
        "const table = [...document.querySelectorAll('table')].find("
        "t => t.caption.textContent.startsWith('Counts by layer'));"
        "const order = () => [...table.tBodies[0].rows].map(r => r.cells[0].textContent).join(' ');"
        "const button = table.tHead.querySelectorAll('button')[3];"
        "const p = document.createElement('p'); p.textContent = order();"
        "button.click(); p.textContent += ' / ' + order();"
        "button.click(); p.textContent += ' / ' + order(); document.body.append(p);})</script>"
    )
    path = tmp_path / "sorted.html"
    path.write_text(html.replace("</body>", probe + "</body>"), encoding="utf-8")
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--virtual-time-budget=2000", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
        path.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert "<p>hidden output total / output hidden total / hidden output total</p>" in shown.stdout
