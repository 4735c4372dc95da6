from __future__ import annotations

import pytest

import neurodeploy as nd
from neurodeploy.reports.certified_facts import CertifiedRecording


def test_the_example_gives_the_recording_that_its_certificate_names() -> None:
    example = nd.load_example()
    assert example.net.stat().st_size + example.samples.stat().st_size < 50_000
    certificate = example.certificate
    assert certificate.compare_network(example.net) == ()
    assert certificate.compare_input(example.inputs) == ()
    recording = nd.EventSimulator(example.graph).run(example.inputs)
    assert CertifiedRecording.of(recording) == certificate.recording
    assert (certificate.result.compared_with, certificate.result.differing) == ("real Lava", 0)
    assert int((recording.prediction == example.labels).sum()) == 29


@pytest.mark.lava
def test_real_lava_confirms_the_certificate_of_the_example() -> None:
    example = nd.load_example()
    assert example.certificate.check(example.net, example.samples).differences == ()
