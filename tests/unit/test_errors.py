"""What a message of an error shows of what a file holds."""

from __future__ import annotations

from neurodeploy.errors import MESSAGE_MAX, DataError


def test_a_message_is_shown_as_it_is() -> None:
    text = "a.npz: 'input' holds nothing. Write it with numpy.savez."
    assert str(DataError(text)) == text
    assert str(DataError("x" * MESSAGE_MAX)) == "x" * MESSAGE_MAX
    assert str(DataError()) == ""


def test_of_a_very_long_message_beginning_and_end_are_shown() -> None:
    text = f"a.npz: {'x' * 100_000}. Write it with numpy.savez."
    shown = str(DataError(text))
    assert len(shown) < MESSAGE_MAX + 50
    assert shown.startswith("a.npz: xxx")
    assert shown.endswith("xxx. Write it with numpy.savez.")
    assert f"[... {len(text) - MESSAGE_MAX} characters ...]" in shown
