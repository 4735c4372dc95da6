"""The HTML page: complete, self-contained, escaped, and one that a browser opens."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from neurodeploy.energy.fairness import Headline, Rule
from neurodeploy.energy.presets import EnergyPreset
from neurodeploy.files import hardware_path
from neurodeploy.reports.activity import raster_of
from neurodeploy.reports.pages.elements import render_html
from neurodeploy.reports.pages.outline import outline_of, write_page
from neurodeploy.reports.report import (
    AccuracyPoint,
    Agreement,
    Rounding,
    RunSummary,
)
from neurodeploy.simulation.recording import Recording
from neurodeploy.testing import Comparison, LayerComparison

VOID = {"meta", "br", "link", "img", "hr", "input", "wbr"}
SECTIONS = [
    "verdict", "accuracy", "agreement", "counts", "neurobench", "energy", "fairness", "sensitivity",
    "fit", "raster", "training", "context", "assumptions", "sources", "making", "recipe",
]  # fmt: skip


PLOTS = 12
CHROMIUM = [
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
    "--allow-file-access-from-files", "--virtual-time-budget=5000",
]  # fmt: skip
needs_chromium = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="chromium is not installed"
)


def render_run(summary):
    """The page of a run as HTML."""
    return render_html(outline_of(summary))


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


def compared(name, *, values=10, spikes=0, differing=0):
    """A comparison of one layer with Lava."""
    layer = LayerComparison(
        name=name,
        compared=values,
        spikes_first=spikes,
        spikes_second=spikes,
        differing=differing,
        difference=None,
    )
    return Comparison(layers=(layer,), states=())


def history(epochs):
    return tuple(
        SimpleNamespace(
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
            AccuracyPoint(stage="integer", value=0.984, samples=64),
            AccuracyPoint(stage="Lava", value=0.984, samples=64),
        ),
        rounding=Rounding(
            samples=256, layers=(("hidden", 0.9961, 0.99614), ("output", 0.95, 0.9531))
        ),
        agreement=Agreement(
            samples=64,
            comparison=compared("hidden", values=163_840, spikes=128),
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
    return render_run(summary)


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


def test_the_page_begins_with_the_verdict_in_words(summary):
    outline = outline_of(summary)
    first = outline.cards[0]
    assert (first.label, first.value) == ("Does it pay?", "no: needs more energy")
    verdict = "The spiking network needs more energy than the ReLU twin, memory included."
    assert outline.verdict == verdict
    assert all(verdict not in (one.lead, *one.items) for one in outline.sections)
    below = render_run(summary).split("<h1", 1)[1].partition('<dl class="cards"')[0]
    assert verdict in below


def test_no_more_is_promised_than_was_shown(page, summary):
    """Floats and integers differ in part; integers and Lava nowhere."""
    assert (
        "The deployed integers spike as the trained floats do in 95.3 % to 99.6 % of a layer's "
        "neurons and steps (256 calibration samples)"
    ) in page.text
    assert "Every spike of every layer was the same: what was deployed is what runs." in page.text
    assert {"99.61 %", "95.00 %", "95.31 %"} <= set(page.cells)
    without = dataclasses.replace(summary, agreement=None)
    assert "what runs" not in Page(render_run(without)).text
    assert "what was trained" not in page.text


def test_words_are_explained_where_they_are_met(summary):
    words = {section.anchor: dict(section.words) for section in outline_of(summary).sections}
    assert {"ReLU twin", "SOP", "95 % interval", "break-even", "Lava"} <= set(words["verdict"])
    assert "ANN" in words["neurobench"]
    assert words["fairness"]["point"] == "one hundredth: 97 % and 98 % differ by 1 point"
    assert all("point" not in words[anchor] for anchor in words.keys() - {"fairness"})


def test_tables_hold_the_values(page):
    for cell in ("163,840", "21.3 nJ", "98.6 %", "912", "71.4 s", "2.4.0", "0.3 pJ", "cmos45_fp32"):
        assert cell in page.cells, cell


def test_plots_follow_the_colour_scheme_and_keep_text_as_text(html, page):
    assert page.tags.count("svg") == PLOTS
    assert "prefers-color-scheme: dark" in html
    assert "var(--series-1)" in html
    assert not re.search(r"(fill|stroke): #", html)
    assert "spiking network" in page.text


def test_what_is_left_out_is_said(page):
    assert "Left out of tier A (arithmetic only): memory accesses" in page.text
    assert "not measurements" in page.text


def test_the_page_is_the_same_every_time(summary, html):
    assert render_run(summary) == html


def test_absent_parts_do_not_appear():
    page = Page(render_run(RunSummary(title="nothing")))
    assert page.sections == []
    assert "svg" not in page.tags


def test_disagreement_is_not_overlooked(page):
    agreement = Agreement(samples=1, comparison=compared("conv1", spikes=5, differing=2))
    shown = Page(render_run(RunSummary(title="x", agreement=agreement)))
    assert "DIFFERS" in shown.cells
    assert "do not trust" in shown.text
    assert "do not trust" not in page.text


def test_everything_from_a_user_is_escaped():
    evil = '<script>alert("1")</script>$\\frac{1}{2}$&'
    recording = Recording.from_spikes(
        (evil, "last"),
        (np.ones((1, 2, 3), dtype=np.uint8), np.zeros((1, 2, 1), dtype=np.uint8)),
    )
    html = render_run(
        RunSummary(
            title=evil,
            description=evil,
            accuracy=(AccuracyPoint(stage=evil, value=0.5, note=evil),),
            agreement=Agreement(samples=1, comparison=compared(evil)),
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
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_run(summary)


@pytest.mark.parametrize("depth", [3, 130])
def test_plots_of_deep_networks_are_no_taller_than_others(make_deep_report, depth):
    recording = Recording.from_spikes(
        tuple(f"layer{n}" for n in range(1, depth + 1)),
        (np.ones((1, 4, 8), dtype=np.int32),) * depth,
    )
    html = render_run(
        RunSummary(title="deep", report=make_deep_report(depth), raster=raster_of(recording))
    )
    heights = [float(one) for one in re.findall(r'viewBox="0 0 [\d.]+ ([\d.]+)"', html)]
    assert max(heights) < 750  # points; 4.9 inches wide
    page = Page(html)
    assert f"layer{depth}" in page.cells
    assert ("Largest: layer" in page.text) == (depth > 30)
    assert ("12 of 130 layers are drawn" in page.text) == (depth > 12)
    assert ("1 to 130 in the table's order" in page.text) == (depth > 30)


def test_every_constant_of_a_users_own_preset_is_listed(make_report, tmp_path):
    text = hardware_path().joinpath("targets/energy/cmos45_int8.toml").read_text()
    own = tmp_path / "mine.toml"
    own.write_text(re.sub('name = "cmos45_int8"', 'name = "mine"', text))
    page = Page(
        render_run(RunSummary(title="x", report=make_report(presets=[EnergyPreset.load(own)])))
    )
    assert page.cells.count("mine") == 1 + 1 + 1 + 2  # energy, breakdown, presets, its constants


def test_measured_counters_stand_beside_the_counts(make_report):
    counters = {"syn_ops": {"measured": 1234.0, "counted": 1230.0}}
    measured = {"file": "chip.json", "source": "a profiler", "samples": 7, "counters": counters,
                "static_energy": None, "total_energy": 2.5e6}  # fmt: skip
    report = dataclasses.replace(make_report(), measured=measured)
    page = Page(render_run(RunSummary(title="x", report=report)))
    assert "measured" in page.sections
    assert {"syn_ops", "1,234", "1,230", "2.50 µJ"} <= set(page.cells)
    assert "chip.json (a profiler), 7 samples" in page.text


def test_other_machines_are_context_and_no_result(page):
    assert "They do not rank machines." in page.text
    # 201,984 SOPs of 26 pJ, all in: nothing is added.
    assert "5.25 µJ" in page.cells
    assert "16.34 mJ" in page.cells


def test_one_ratio_is_stated_only_if_every_rule_holds(make_report):
    page = Page(render_run(RunSummary(title="x", report=make_report())))
    assert "Does it pay?\n      no: needs more energy" in page.text
    assert "No factor is stated: 3 of 7 rules" in page.text
    fair = dataclasses.replace(
        make_report(),
        rules=(Rule(name="r", holds=True, found="f"),),
        headline=Headline(preset="sram45", ratio=2.5, low=1.5, high=3.5),
    )
    page = Page(render_run(RunSummary(title="x", report=fair)))
    assert "Does it pay?\n      no: needs 1.5 to 3.5 times more energy" in page.text
    assert "needs 1.5 to 3.5 times more energy than the ReLU twin, memory included." in page.text


def test_accuracy_has_its_interval(page):
    assert "95 % interval 96.4 % to 99.2 %" in page.text  # 354 of 360, by Wilson's formula
    assert "94.7 to 99.6 %" not in page.text


def test_a_small_sample_on_lava_stands_beside_the_integers_on_the_same_images(page):
    assert page.text.count("on 64") == 2
    assert "Hollow: on fewer samples; compare them with each other only." in page.text


def probed(html, script, tmp_path, *, width=1280, scheme="light"):
    """What `script` (an expression) gives in a page of that width, and what the console said."""
    probe = (
        "<script>addEventListener('load', () => setTimeout(() => {"
        f"const result = ({script});"
        "parent.postMessage(JSON.stringify(result), '*');}, 50))</script>"
    )
    (tmp_path / "inner.html").write_text(
        html.replace("</body>", probe + "</body>"), encoding="utf-8"
    )
    outer = tmp_path / "outer.html"
    outer.write_text(
        f"<body><iframe style='width:{width}px;height:900px;border:0' src='inner.html'></iframe>"
        "<script>addEventListener('message', one => { const p = document.createElement('pre');"
        "p.id = 'answer'; p.textContent = one.data; document.body.append(p); })</script></body>",
        encoding="utf-8",
    )
    command = [
        *CHROMIUM, f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
        "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1400,1000", "--dump-dom", outer.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    answer = re.search(r'<pre id="answer">(.*?)</pre>', shown.stdout, flags=re.DOTALL)
    assert answer is not None, shown.stderr[-2000:]
    console = [line for line in shown.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(unescape(answer[1])), console


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_a_browser_shows_it_whole_and_asks_nobody(html, tmp_path, width, scheme):
    """The browser itself reports: no page scrolls sideways, nothing is said or loaded."""
    script = """{
        width: document.documentElement.scrollWidth,
        plots: document.querySelectorAll('svg').length,
        loaded: performance.getEntriesByType('resource').map(one => one.name),
        tiny: [...document.querySelectorAll('svg text')].filter(
            one => one.getBoundingClientRect().height < 6).length,
        paper: getComputedStyle(document.body).backgroundColor,
        cut: [...document.querySelectorAll('p, li, h1, h2, .card, figure')].filter(
            one => one.getBoundingClientRect().right > innerWidth + 1).length}"""
    found, console = probed(html, script, tmp_path, width=width, scheme=scheme)
    assert (found["width"], found["plots"], found["loaded"]) == (width, PLOTS, [])
    assert (found["tiny"], found["cut"]) == (0, 0)
    assert found["paper"] == ("rgb(18, 21, 28)" if scheme == "dark" else "rgb(255, 255, 255)")
    assert console == []


@pytest.mark.slow
@needs_chromium
def test_a_wide_screen_is_used(html, tmp_path):
    """At 1,440 px the page fills the window; the rules of fairness stand beside their plot."""
    script = """(() => {
        const top = node => node.getBoundingClientRect().top;
        const [plot, rules] = document.querySelector('#fairness .body').children;
        const cards = [...document.querySelectorAll('.card')].map(top);
        return {
            content: document.querySelector('section').clientWidth,
            beside: Math.abs(top(plot) - top(rules)) < 30,
            rows: new Set(cards).size}; })()"""
    found, _ = probed(html, script, tmp_path, width=1440)
    assert found["content"] > 1380
    assert found["beside"]
    assert found["rows"] == 2  # six cards: three a row


@pytest.mark.slow
@needs_chromium
def test_even_a_page_that_was_tampered_with_may_load_nothing(html, tmp_path):
    """The page's own policy forbids it; this also shows that the console is listened to."""
    image = "<img src='http://127.0.0.1:9/pixel.png'>"
    found, console = probed(
        html.replace("</main>", image + "</main>"),
        "document.querySelector('img').naturalWidth",
        tmp_path,
    )
    assert found == 0
    assert any("Content Security Policy" in line for line in console)


@pytest.mark.slow
@needs_chromium
def test_tables_sort_by_mouse_and_keyboard(html, tmp_path):
    """Up, down and back; the total stays last; energies sort by size, not by their digits."""
    script = """(() => {
        const named = start => [...document.querySelectorAll('table')].find(
            one => one.caption.textContent.startsWith(start));
        const order = (table, n) => [...table.tBodies[0].rows].map(r => r.cells[n].textContent);
        const counts = named('Counts by layer'), energy = named('Energy by preset');
        const heads = [...counts.tHead.rows[0].cells], button = heads[3].querySelector('button');
        const result = {counts: [order(counts, 0)], sorts: []};
        for (let n = 0; n < 3; n++) {
            button.focus();
            button.click();
            result.counts.push(order(counts, 0));
            result.sorts.push(heads[3].getAttribute('aria-sort'));
        }
        result.focused = document.activeElement === button && button.tabIndex === 0;
        energy.tHead.rows[0].cells[3].querySelector('button').click();
        result.energy = order(energy, 3);
        const ann = energy.tHead.rows[0].cells[5].querySelector('button');
        ann.click(); ann.click();
        result.ann = order(energy, 5);
        result.scopes = [...document.querySelectorAll('th')].every(one => one.scope);
        result.captions = [...document.querySelectorAll('table')].every(
            one => one.caption.textContent.trim());
        return result; })()"""
    found, console = probed(html, script, tmp_path)
    first, second = ["hidden", "output", "total"], ["output", "hidden", "total"]
    assert found["counts"] == [first, second, first, first]
    assert found["sorts"] == ["ascending", "descending", None]
    assert found["focused"]
    sizes = [picojoules(text) for text in found["energy"]]
    assert sizes == sorted(sizes)
    assert found["ann"][-2:] == ["", ""]  # Loihi runs no ordinary network: last either way
    assert found["scopes"]
    assert found["captions"]
    assert console == []


def picojoules(text):
    number, unit = text.split()
    return float(number) * {"pJ": 1, "nJ": 1e3, "µJ": 1e6, "mJ": 1e9}[unit]


@pytest.mark.slow
@needs_chromium
@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext is not installed")
def test_paper_shows_what_is_folded_on_the_screen(html, tmp_path):
    source, paper = tmp_path / "report.html", tmp_path / "report.pdf"
    source.write_text(html, encoding="utf-8")
    command = [*CHROMIUM, f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={paper}",
               "--no-pdf-header-footer", source.as_uri()]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=90, check=True)
    text = subprocess.run(
        ["pdftotext", "-layout", str(paper), "-"], capture_output=True, text=True, check=True
    ).stdout
    assert "access_1_mib" in text  # in a table of 41 rows, folded on the screen
    assert "1 / " in text  # page numbers
    assert "Skip to the content" not in text
