"""What a user gets from a wheel and from a source archive, and what runs from the wheel alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = {
    "hardware/": "neurodeploy/_hardware/",
    "training/recipes/": "neurodeploy/_recipes/",
    "examples/zoo/": "neurodeploy/_zoo/",
}
"""Folders of the checkout, and their places in the wheel."""


NOT_IN_SDIST = {"Makefile", "constraints.txt"}
"""Files for work in a checkout; hidden ones are left out as well."""


def tracked_files(*places: str) -> list[str]:
    """Return what git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *places]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_every_module_and_every_data_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        next((name.replace(old, new) for old, new in PLACES.items() if name.startswith(old)), name)
        for name in tracked_files("neurodeploy", *PLACES)
        if (ROOT / name).exists()
    }
    about = {name for name in names if name.startswith("neurodeploy-")}
    assert names - about == expected
    assert any(name.endswith("/licenses/LICENSE") for name in about)


BARE = """
import contextlib, io, os, sys
from pathlib import Path
# No package of an extra is there.
absent = "torch numba lightning_fabric safetensors sklearn onnx onnxruntime ray"
for name in absent.split():
    sys.modules[name] = None
import neurodeploy
from neurodeploy.cli import main
from neurodeploy.chips.target import Target
from neurodeploy.files import hardware_path, recipes_path, zoo_path

here = Path(neurodeploy.__file__).parent
assert here.parent == Path(sys.argv[1]), here
assert (hardware_path(), recipes_path()) == (here / "_hardware", here / "_recipes")
assert zoo_path() == here / "_zoo"
assert Target.load("loihi2").weight_max == 254

def run(words):
    sys.argv = ["neurodeploy", *words.split()]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as end:
            return end.code, said.getvalue()

for words in (
    "zoo list", "zoo get digits_small", "inspect digits_small",
    "simulate digits_small -i digits_small -o spikes.npz",
    "verify digits_small -i digits_small --certificate digits_small/certificate.json "
    "--without-lava",
    "report digits_small -i digits_small",
):
    code, said = run(words)
    assert code == 0, (words, said)
kept = sorted(Path().rglob("*"))
for words, extra in (
    ("run digits", "train"), ("train digits", "train"), ("deploy digits_small", "train"),
    ("init mine.toml --data digits_small/samples.npz", "train"), ("macs model.onnx", "onnx"),
    ("convert model.onnx --samples digits_small/samples.npz --out model.net", "onnx"),
    ("advise model.onnx", "onnx"), ("report digits_small -i digits_small --ann m.onnx", "onnx"),
    ("export digits_small --ann twin.onnx", "train"), ("simulate digits_small -i digits_small "
    "-o other.npz --engine ray", "ray"),
):
    code, said = run(words)
    assert (code, said.count("error:")) == (1, 1), (words, said)
    assert f"neurodeploy[{extra}]" in said.replace("\\n", ""), (words, said)
assert sorted(Path().rglob("*")) == kept
"""


def test_the_wheel_alone_runs_and_says_what_else_is_needed(wheel: Path, tmp_path: Path) -> None:
    """Outside of the checkout, with nothing installed that only an extra brings."""
    site, work = tmp_path / "site", tmp_path / "work"
    zipfile.ZipFile(wheel).extractall(site)
    work.mkdir()
    compiled = site / "neurodeploy" / "__pycache__"  # from the same sources: it saves half a minute
    compiled.mkdir()
    for path in (ROOT / "neurodeploy" / "__pycache__").glob("*.o"):
        shutil.copy(path, compiled)
    done = subprocess.run(
        [sys.executable, "-c", BARE, site],
        cwd=work,
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_source_archive_holds_what_is_tracked_and_no_more(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("sdist")
    command = ["-m", "build", "--sdist", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    (path,) = folder.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = {name for name in tracked_files() if (ROOT / name).exists()}
    assert names - tracked == {"PKG-INFO"}
    left_out = {name for name in tracked - names if not name.startswith(".")}
    assert left_out <= NOT_IN_SDIST


def test_the_checkout_uses_its_own_folders() -> None:
    from neurodeploy.files import hardware_path, recipes_path

    assert hardware_path() == ROOT / "hardware"
    assert recipes_path() == ROOT / "training" / "recipes"
