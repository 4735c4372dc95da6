"""The page of errors: its samples raise what they should, and every class has its messages."""

from __future__ import annotations

import error_catalogue

from neurodeploy.errors import NeurodeployError, NeurodeployWarning


def test_every_sample_raises_an_error_that_names_its_place() -> None:
    raised = error_catalogue.raised()
    assert list(raised) == list(error_catalogue.SAMPLES)
    assert [title for title, error in raised.items() if ": " not in str(error)] == []
    assert len({type(error) for error in raised.values()}) >= 13


def test_every_class_has_messages() -> None:
    found = list(error_catalogue.messages())
    raised = {one.kind for one in found}
    bases = {NeurodeployError.__name__, NeurodeployWarning.__name__}
    warnings = {name for name, one in error_catalogue.kinds().items() if issubclass(one, Warning)}
    assert set(error_catalogue.kinds()) - raised - bases - warnings == set()
    assert len({one.text for one in found}) >= 750
    assert {"untrusted", "netx", "cli", "samples", "recipes"} <= {one.area for one in found}


def test_exit_codes_are_those_of_commands() -> None:
    assert list(error_catalogue.EXIT_CODES) == [0, 1, 2, 3, 130, 143]
