"""Progress where standard error is no terminal."""

from __future__ import annotations

import io
import json
import sys

import pytest
from rich.text import Text

from neurodeploy.cli import console


def test_every_epoch_is_a_line_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with console.draw_stages(quiet=False) as observer:
        observer.stage("train", "2 epochs")
        for done in range(1, 7):
            epoch = 1 if done <= 3 else 2
            observer.advance(done, 6, f"epoch {epoch}/2, loss 0.{done}")
        observer.stage("report")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "train 2 epochs",
        "train, 3 of 6, epoch 1/2, loss 0.3, 0:00:00 left",
        "train, 6 of 6, epoch 2/2, loss 0.6",
        "report ",
    ]


def test_a_long_step_is_a_line_every_half_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.progress("simulation", 20, quiet=False) as advance:
        for done in range(1, 21):
            advance(done, 20)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 6
    assert all(line.startswith("simulation, ") for line in lines)
    assert " left" in lines[0]
    assert lines[-1].startswith("simulation, 20 of 20")


def test_short_steps_and_quiet_ones_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("simulation", 20, quiet=False) as advance:
        advance(20, 20)
    with console.draw_stages(quiet=True) as observer:
        observer.stage("train")
        observer.advance(1, 2, "epoch 1/2, loss 1")
    assert capsys.readouterr().err == ""


def test_each_of_several_runs_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 40))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.progress_by_name(quiet=False) as advance:
        for name in ("real Lava", "event simulation"):
            advance(name, 0, 2)
            advance(name, 2, 2)
    lines = capsys.readouterr().err.splitlines()
    assert next(line for line in lines if "2 of 2" in line) == "real Lava, 2 of 2"
    assert lines[-1] == "event simulation, 2 of 2"


def test_names_of_strangers_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = console.make_table("[/b]", title="[bold]")
    table.add_row("a[/b]\x1b[2J")
    table.add_row(Text("\x9b2J\u202e"))
    console.out.print(table)
    console.out.print("[red] :smile:", "\udcff")
    shown = capsys.readouterr().out
    for text in ("[/b]", "[bold]", "a[/b]\\x1", "\\x9b2J", "[red] :smile: \\udcff"):
        assert text in shown
    assert "\x1b" not in shown
    console.print_error("[/b] \x1b]0;x")
    with console.draw_stages(quiet=False) as observer:
        observer.stage("[/a]", "note [/b]")
    assert capsys.readouterr().err == "error: [/b] \\x1b]0;x\n[/a] note [/b]\n"


def test_json_goes_to_streams_in_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have no encoding."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    console.print_json({"name": "häuser"})
    assert json.loads(sys.stdout.getvalue()) == {"name": "häuser"}


def test_a_clock_that_is_set_back_changes_no_progress(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time left comes from a clock that nobody sets."""
    jumps = iter([1e9, 2e9, 0.0, -1e9] * 99)
    monkeypatch.setattr("time.time", lambda: next(jumps))
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with console.progress("simulation", 4, quiet=False) as advance:
        now[0] = 40.0
        advance(1, 4)
    assert capsys.readouterr().err.splitlines()[0] == "simulation, 1 of 4, 0:02:00 left"
