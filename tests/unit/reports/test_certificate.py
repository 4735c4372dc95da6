"""Certificates: written, read strictly, checked, and every tampering found."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from jsonschema import Draft202012Validator, ValidationError

import neurodeploy as nd
from neurodeploy import netx
from neurodeploy.errors import DataError, NeurodeployWarning, OutputError
from neurodeploy.files import hash_file
from neurodeploy.reports.certificate import CertificateCheck
from neurodeploy.reports.certified_facts import CertifiedRun, hash_arrays
from neurodeploy.reports.json_form import certificate_schema
from neurodeploy.simulation.recording import Recording

GOLDEN = Path(__file__).parents[2] / "golden"


class Case:
    """A file, samples, and the certificate of their run in our simulator."""

    def __init__(self, folder: Path) -> None:
        self.net, self.samples = folder / "network.net", folder / "samples.npz"
        self.path = folder / "certificate.json"
        shutil.copy(GOLDEN / "01_dense_basic.net", self.net)
        self.inputs = np.random.default_rng(3).integers(0, 2, (2, 6, 24)).astype(np.int32)
        np.savez(self.samples, input=self.inputs)
        self.graph = netx.read(self.net)
        self.recording = nd.EventSimulator(self.graph).run(self.inputs)
        self.certificate = self.certify()
        self.certificate.save(self.path)

    def certify(self, lava: Recording | None = None) -> nd.Certificate:
        run = CertifiedRun.of(self.graph, self.recording.steps)
        return nd.Certificate.of(
            self.net, self.samples, self.inputs, self.recording, run, lava=lava
        )

    def tampered(self, change: Callable[[dict], object]) -> nd.Certificate:
        """Change the certificate as a forger does, who makes its own hash fit."""
        table = json.loads(self.path.read_text())
        del table["sha256"]
        change(table)
        text = json.dumps(table, sort_keys=True, separators=(",", ":"))
        table["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        self.path.write_text(json.dumps(table))
        return nd.Certificate.load(self.path)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


@pytest.mark.parametrize(
    "timing",
    [nd.Window(steps=6), nd.Stream(steps=6, refresh_interval=4), nd.Stream(steps=6)],
    ids=repr,
)
def test_time_is_kept_with_its_refreshes(case: Case, timing: nd.Window | nd.Stream) -> None:
    assert CertifiedRun.of(case.graph, 6, timing).to_timing() == timing


def test_certificates_without_refreshes_are_still_read(case: Case) -> None:
    certificate = case.tampered(lambda table: table["run"].pop("refresh_interval"))
    assert certificate.run.refresh_interval is None


def test_a_certificate_is_read_as_written_and_holds(case: Case) -> None:
    certificate = nd.Certificate.load(case.path)
    assert certificate == case.certificate
    assert certificate.check(case.net, case.samples) == CertificateCheck(
        differences=(), versions=()
    )
    arrays = certificate.recording.arrays
    assert [(one.layer, one.quantity) for one in arrays[:1]] == [("dense_0", "spikes")]
    assert [one.nonzero for one in arrays if one.quantity == "spikes"] == [
        int(np.count_nonzero(spikes)) for spikes in case.recording.spikes
    ]
    assert {"neurodeploy", "numpy", "llvmlite", "python", "processor"} <= set(certificate.versions)
    line = certificate.describe()
    for fact in (
        "network.net",
        certificate.network.sha256[:12],
        "2 samples of 6 steps",
        "llvmlite",
    ):
        assert fact in line


def test_a_file_changed_by_a_byte_is_found(case: Case) -> None:
    content = bytearray(case.net.read_bytes())
    content[-1] ^= 1
    case.net.write_bytes(content)
    check = case.certificate.check(case.net, case.samples)
    (difference,) = check.differences
    assert check.stopped_at == "file"
    assert not check.holds
    assert difference.startswith(f'network: sha256 "{case.certificate.network.sha256}"')


def test_one_changed_weight_is_found_even_with_a_forged_hash_of_the_file(case: Case) -> None:
    with h5py.File(case.net, "r+") as file:
        weight = file["layer/1/weight"]
        weight[...] = -np.asarray(weight)
    forged = hash_file(case.net)
    certificate = case.tampered(lambda table: table["network"].update(sha256=forged))
    check = certificate.check(case.net, case.samples)
    assert check.stopped_at is None
    found = check.differences
    assert found[0].startswith("recording: sha256")


def test_a_changed_sample_is_found(case: Case) -> None:
    case.inputs[1, 5, 23] ^= 1
    np.savez(case.samples, input=case.inputs)
    check = case.certificate.check(case.net, case.samples)
    (difference,) = check.differences
    assert check.stopped_at == "samples"
    assert difference.startswith("input: sha256")


def test_fewer_samples_are_found(case: Case) -> None:
    np.savez(case.samples, input=case.inputs[:1])
    found = case.certificate.check(case.net, case.samples).differences
    assert found == ("input: samples 2 in the certificate, 1 now",)


def test_other_numbers_of_steps_are_found(case: Case) -> None:
    np.savez(case.samples, input=case.inputs[:, :5])
    found = case.certificate.check(case.net, case.samples).differences
    assert [one.split(" ")[1] for one in found] == ["shape", "sha256"]
    assert "[2, 6, 24] in the certificate, [2, 5, 24] now" in found[0]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda t: t["recording"].update(sha256="0" * 64), "recording: sha256"),
        (lambda t: t["recording"]["arrays"][0].update(nonzero=10**6), "recording: arrays"),
        (lambda t: t["recording"]["arrays"].pop(), "recording: arrays"),
        (lambda t: t["input"].update(sha256="0" * 64), "input: sha256"),
        (lambda t: t["input"].update(dtype="int8"), "input: dtype"),
        (lambda t: t["network"].update(sha256="0" * 64), "network: sha256"),
        (
            lambda t: t["result"].update(differing=1, first_difference="dense_0: forged"),
            "result: differing",
        ),
    ],
)
def test_every_changed_fact_is_found(
    case: Case, change: Callable[[dict], object], place: str
) -> None:
    found = case.tampered(change).check(case.net, case.samples).differences
    assert found
    assert found[0].startswith(place)


def test_other_versions_are_named_and_are_no_difference(case: Case) -> None:
    def change(table: dict) -> None:
        table["network"]["file"] = "other.net"
        table["versions"]["numpy"] = "1.0"
        table["versions"]["Lava: lava-nc"] = "0.10.0"
        del table["versions"]["h5py"]

    certificate = case.tampered(change)
    check = certificate.check(case.net, case.samples)
    assert check.holds
    now = case.certificate.versions
    assert check.versions == (
        f"numpy: 1.0 in the certificate, {now['numpy']} now",
        "Lava: lava-nc: 0.10.0 in the certificate, none now",
        f"h5py: none in the certificate, {now['h5py']} now",
    )
    case.net.write_bytes(b"another")
    stopped = certificate.check(case.net, case.samples)
    assert stopped.versions == check.versions[::2], "Lava did not run"


def test_a_check_tells_how_far_it_is(case: Case) -> None:
    calls: list[tuple[str, int, int]] = []
    case.certificate.check(case.net, case.samples, progress=lambda *call: calls.append(call))
    assert calls[0] == ("event simulation", 0, 2)
    assert calls[-1] == ("event simulation", 2, 2)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda t: t["recording"].update(sha=1), r"\[recording\]: unknown key 'sha'. Did you mean"),
        (lambda t: t.pop("run"), "key 'run' is missing"),
        (lambda t: t["run"].pop("feed"), r"\[run\]: key 'feed' is missing"),
        (lambda t: t["run"].update(steps="6"), r"\[run\]: steps = \"6\", an integer is required"),
        (lambda t: t["run"].update(steps=None), r"steps = None, an integer is required"),
        (lambda t: t["run"].update(timing="windows"), "allowed: 'window', 'stream'"),
        (lambda t: t["run"].update(reset_offset=-1), "it must be at least 0"),
        (lambda t: t.update(format="neurodeploy certificate 3"), "allowed: 'neurodeploy cert"),
        (lambda t: t["input"].update(shape=[3, 6, 24]), "contradicts recording.samples = 2"),
        (lambda t: t["input"].update(shape=[]), "contradicts recording.samples = 2"),
        (lambda t: t["result"].update(differing=3), "differing = 3 contradicts first_difference"),
        (lambda t: t["versions"].update(numpy=1), r"\[versions\]: numpy = 1, a string"),
    ],
)
def test_reading_is_strict(case: Case, change: Callable[[dict], object], error: str) -> None:
    with pytest.raises(DataError, match=error):
        case.tampered(change)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b"null"])
def test_what_is_no_certificate_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "certificate.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"certificate\.json: "):
        nd.Certificate.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t["versions"].update(numpy="1.0"),
        lambda t: t["network"].update(file="other.net"),
        lambda t: t["result"].update(compared_with="real Lava"),
        lambda t: t.update(sha256="0" * 64),
    ],
)
def test_a_certificate_that_was_changed_is_refused(
    case: Case, change: Callable[[dict], object]
) -> None:
    table = json.loads(case.path.read_text())
    change(table)
    case.path.write_text(json.dumps(table))
    with pytest.raises(DataError, match="changed since it was written"):
        nd.Certificate.load(case.path)


def test_a_certificate_of_an_earlier_version_is_read_with_a_warning(case: Case) -> None:
    table = json.loads(case.path.read_text())
    del table["sha256"]
    case.path.write_text(json.dumps(table))
    with pytest.raises(DataError, match="contradicts sha256 = None"):
        nd.Certificate.load(case.path)
    table["format"] = "neurodeploy certificate 1"
    case.path.write_text(json.dumps(table))
    with pytest.warns(NeurodeployWarning, match="without a hash of itself"):
        found = nd.Certificate.load(case.path)
    assert found.recording == case.certificate.recording


def test_a_missing_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        nd.Certificate.load(tmp_path / "certificate.json")


def test_a_difference_from_lava_is_certified(case: Case) -> None:
    faulty = nd.EventSimulator(case.graph).run(case.inputs)
    faulty.spikes[1][1, 3, 2] ^= 1
    faulty.traces["voltage"][0, 2, 4] += 1
    result = case.certify(faulty).result
    assert (result.compared_with, result.differing) == ("real Lava", 2)
    assert "dense_1: spikes differ first at step 3, sample 1" in result.first_difference
    assert "2 of " in case.certify(faulty).describe()


def test_certificates_follow_their_published_schema(case: Case) -> None:
    Draft202012Validator.check_schema(certificate_schema())
    validator = Draft202012Validator(certificate_schema())
    table = json.loads(case.path.read_text())
    validator.validate(table)
    for change in (
        lambda t: t.update(more=1),
        lambda t: t.pop("versions"),
        lambda t: t["run"].update(steps=0),
        lambda t: t["result"].update(differing="0"),
    ):
        broken = json.loads(case.path.read_text())
        change(broken)
        with pytest.raises(ValidationError):
            validator.validate(broken)


def test_a_certificate_is_written_whole_or_not_at_all(case: Case, tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        case.certificate.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "network.net",
        "samples.npz",
        "certificate.json",
    }


def test_hashes_depend_on_values_shapes_and_names_not_on_the_width_of_integers() -> None:
    values = np.arange(12).reshape(2, 6)
    known = hash_arrays({"a": values.astype(np.uint8)})
    assert known == hash_arrays({"a": values.astype(np.int32)})
    assert known == hash_arrays({"a": np.asfortranarray(values.astype(np.int32))})
    others = ({"b": values}, {"a": values.reshape(3, 4)}, {"a": values.T}, {"a": values + 1})
    assert known not in [hash_arrays(other) for other in others]
