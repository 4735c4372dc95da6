"""What is public is there, and what only runs files never loads torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

import neurodeploy as nd


def test_every_public_name_can_be_had() -> None:
    for name in nd.__all__:
        assert getattr(nd, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        _ = nd.simulat  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "--help"],
        ["verify", "--help"],
        ["report", "--help"],
        ["inspect", "--help"],
        ["lava", "doctor", "--help"],
        ["recipes"],
    ],
    ids=" ".join,
)
def test_commands_without_training_never_load_torch(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from neurodeploy.cli import main\n"
        f"sys.argv = ['neurodeploy', *{arguments!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "loaded = {'torch', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
