"""Steps of a sample, taken from the certificate beside a file, and compared with it."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

import neurodeploy as nd
from neurodeploy.cli.certified_steps import certified_steps, warn_of_other_steps
from neurodeploy.cli.options import RunOptions
from neurodeploy.errors import NeurodeployWarning
from neurodeploy.simulation import Window

EXAMPLE = nd.load_example()


def test_the_certificate_beside_a_file_names_its_steps(tmp_path: Path) -> None:
    net, certificate = tmp_path / "network.net", tmp_path / "certificate.json"
    shutil.copyfile(EXAMPLE.net, net)
    assert certified_steps(net) is None
    EXAMPLE.certificate.save(certificate)
    assert certified_steps(net) == EXAMPLE.inputs.shape[1]
    certificate.write_text(certificate.read_text().replace('"window"', '"stream"'))
    assert certified_steps(net) is None  # Lava's own time
    certificate.write_text("{")
    assert certified_steps(net) is None
    EXAMPLE.certificate.save(certificate)
    net.write_bytes(net.read_bytes() + b" ")
    assert certified_steps(net) is None  # of another file


def test_other_steps_are_warned_of(tmp_path: Path) -> None:
    net = tmp_path / "a.net"
    shutil.copyfile(EXAMPLE.net, net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_other_steps(net, "in.npz", 8)
    EXAMPLE.certificate.save(tmp_path / "certificate.json")
    with pytest.warns(NeurodeployWarning, match="samples of 8 steps, but a.net was .* with 4"):
        warn_of_other_steps(net, "in.npz", 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_other_steps(net, "in.npz", 4)
        net.write_bytes(net.read_bytes() + b" ")
        warn_of_other_steps(net, "in.npz", 8)  # of another file


def test_recordings_are_cut_into_the_certified_steps(tmp_path: Path) -> None:
    net = Path(__file__).parents[3] / "examples" / "zoo" / "motion_events" / "network.net"
    graph = nd.netx.read(net)
    recording = tmp_path / "one.bin"
    events = np.zeros((30, 5), np.uint8)
    events[:, :2], events[:, 3] = 3, np.arange(30)
    recording.write_bytes(events.tobytes())
    run = RunOptions(net=net, input=recording)
    steps = certified_steps(net)
    assert steps is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run.source(graph, Window()).shape == (steps, *graph.input.shape)
    with pytest.warns(NeurodeployWarning, match=f"of {steps + 1} steps"):
        assert run.source(graph, Window(steps=steps + 1)).shape[0] == steps + 1
