"""Options that all tests share."""

from __future__ import annotations

import os
import random
import signal
import sys

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several processes test side by side: threads of one would only take another's processor.
    # Read when torch is loaded, here and in the processes that tests start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

_skipped: list[str] = []

# No example has a time limit: what it would find is a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--forbid-reference-skips",
        action="store_true",
        help="fail when a test against a reference (Lava, lava-dl, NeuroBench, SANA-FE, another "
        "framework) is skipped: then nothing was proven",
    )
    parser.addoption(
        "--lowering-examples",
        type=int,
        default=300,
        metavar="N",
        help="random networks that tests/property/test_lowering.py lowers; 300",
    )
    parser.addoption(
        "--report-examples",
        type=int,
        default=25,
        metavar="N",
        help="random files of each kind that tests/property/test_reports.py counts; 25",
    )
    parser.addoption(
        "--module-examples",
        type=int,
        default=3,
        metavar="N",
        help="random networks of each neuron of other frameworks; 3",
    )


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's background job ignores interrupts, and so would every process under test.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.register_profile("lowering", max_examples=config.getoption("--lowering-examples"))
    settings.register_profile("reports", max_examples=config.getoption("--report-examples"))


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Let every test draw the same numbers, whichever ran before it.

    Libraries under test, and layers of torch that a test does not seed, draw from global states.
    """
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002, TID251  # that of others
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    is_missing = "differential" in report.nodeid and "could not import" in str(report.longrepr)
    if report.skipped and (is_missing or {"lava", "slayer"} & set(report.keywords)):
        _skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A whole module that is skipped, because what it compares with cannot be imported."""
    if report.skipped and "differential" in report.nodeid:
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.getoption("--forbid-reference-skips") and _skipped and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.config.getoption("--forbid-reference-skips") and _skipped:
        terminalreporter.section("tests against the references must not be skipped here")
        for nodeid in _skipped:
            terminalreporter.line(nodeid)
