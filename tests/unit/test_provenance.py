from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import neurodeploy
from neurodeploy.provenance import processor, provenance, versions


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_the_commit_is_named_and_changes_to_the_code_are_owned_up_to(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("1\n")
    (tmp_path / "note").write_text("1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "--short", "HEAD")

    (tmp_path / "note").write_text("2\n")
    assert provenance(tmp_path / "code", code=("code",))["commit"] == commit
    (tmp_path / "code" / "a.py").write_text("2\n")
    assert provenance(tmp_path / "code", code=("code",))["commit"] == f"{commit}+changes"


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    found = provenance(tmp_path, packages=("numpy", "no_such_distribution"))
    assert found["commit"] == "unknown"
    assert found["no_such_distribution"] == "none"
    assert found["numpy"][0].isdecimal()
    assert found["python"] == platform.python_version()
    assert found["device"] == processor() != ""


def test_versions_name_the_commit_of_this_very_code() -> None:
    found = versions("numpy", "no_such_distribution")
    assert found["neurodeploy"] == neurodeploy.__version__
    assert "no_such_distribution" not in found
    here = Path(neurodeploy.__file__).parent
    tracked = subprocess.run(
        ["git", "-C", str(here), "ls-files", "provenance.py"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    assert ("commit" in found) == bool(tracked)
    if tracked:
        assert found["commit"].partition("+")[0] == git(here, "rev-parse", "--short", "HEAD")
