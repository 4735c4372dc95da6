from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
from numba.core.caching import CacheImpl

from neurodeploy.compiled_code import kept
from neurodeploy.errors import NeurodeployWarning


@pytest.fixture
def hits(tmp_path: Path) -> Callable[[], int]:
    """Compile and call a function as a new process would; give how often its code was found."""
    path = tmp_path / "loops.py"
    path.write_text("def add(a, b):\n    return a + b\n")

    def start() -> int:
        spec = importlib.util.spec_from_file_location("loops", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loop = kept(module.add)
        assert loop(1, 2) == 3
        return sum(loop.stats.cache_hits.values())

    return start


def test_compiled_code_is_found_by_the_next_start(hits: Callable[[], int]) -> None:
    assert [hits(), hits()] == [0, 1]


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_damaged_file_is_written_again(
    hits: Callable[[], int], tmp_path: Path, kind: str
) -> None:
    hits()
    (file,) = (tmp_path / "__pycache__").glob(f"*.{kind}")
    file.write_bytes(b"")  # as a power cut leaves it
    assert [hits(), hits()] == [0, 1]


def test_without_a_folder_each_start_compiles_and_says_so(
    hits: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    message = r"^compiled loops cannot be kept \(no folder .* NUMBA_CACHE_DIR name a folder"
    with pytest.warns(NeurodeployWarning, match=message):
        assert hits() == 0


def test_a_full_disk_costs_time_only(
    hits: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", fail)
    with pytest.warns(NeurodeployWarning, match="No space left on device"):
        assert hits() == 0
