"""What `neurodeploy doctor` finds out."""

from __future__ import annotations

import os
import sys

import pytest

from neurodeploy.cli.commands.doctor import (
    Diagnosis,
    examine,
    run_small_network,
)


@pytest.fixture(scope="module")
def found() -> Diagnosis:
    return examine()


def test_versions_and_cores_are_those_of_this_process(found: Diagnosis) -> None:
    import numpy as np

    assert found.versions["numpy"] == np.__version__
    assert found.versions["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert found.cores == len(os.sched_getaffinity(0))


def test_a_missing_package_is_named_with_its_purpose(found: Diagnosis) -> None:
    from importlib.util import find_spec

    ray = next(one for one in found.packages if one.name == "ray")
    assert (ray.version is None) == (find_spec("ray") is None)
    assert ray.purpose == "`--engine ray`"
    assert ray.install == "pip install 'neurodeploy[ray]'"


def test_the_small_network_runs() -> None:
    run_small_network()
