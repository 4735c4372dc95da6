"""Certificates of verification, which others can check."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError, NeurodeployWarning
from neurodeploy.files import hash_file, net_of, samples_of, write_text
from neurodeploy.lava_bridge.lava_simulator import LavaSimulator
from neurodeploy.netx import read
from neurodeploy.provenance import processor, versions
from neurodeploy.reports.certified_facts import (
    CertifiedConversion,
    CertifiedFile,
    CertifiedInput,
    CertifiedRecording,
    CertifiedResult,
    CertifiedRun,
    SourceAgreement,
    hash_arrays,
)
from neurodeploy.reports.numbers import format_count
from neurodeploy.samples.sources import open_samples
from neurodeploy.simulation.event_simulator import EventSimulator, conform_input
from neurodeploy.simulation.recording import Recording, Simulator
from neurodeploy.strict_tables import read_table
from neurodeploy.testing import compare
from neurodeploy.untrusted.boundary import FileKind
from neurodeploy.untrusted.documents import read_json

_FILE = FileKind(
    "certificate",
    ".json",
    DataError,
    "Write a certificate with `neurodeploy verify --write-certificate`.",
)
_LAVA = "Lava: "
"""Begins the names of versions of the Lava runtime, which are known once it has run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateCheck:
    """Result of checking a certificate.

    Attributes:
        differences: All in which file, samples and results differ from the certified ones; empty
            if the certificate holds.
        versions: Software and processor other than those recorded. They may differ where the
            certificate holds: the integers are the same everywhere.
        stopped_at: The part that is another one, so that nothing ran; None if the file ran.
    """

    differences: tuple[str, ...]
    versions: tuple[str, ...]
    stopped_at: Literal["file", "samples"] | None = None

    @property
    def holds(self) -> bool:
        """True if nothing differs."""
        return not self.differences


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Record of a verification: file, samples, options, result and versions; `certificate.json`.

    `deployment` and `conversion` are None for the verification of a finished file, and `sha256` for
    a certificate that an earlier version wrote.

    Example:
        >>> certificate = nd.load_example().certificate
        >>> certificate.result.compared_with, certificate.result.differing
        ('real Lava', 0)
        >>> certificate.compare_network(nd.load_example().net)  # no difference
        ()
    """

    format: Literal["neurodeploy certificate 1", "neurodeploy certificate 2"]
    created: str
    network: CertifiedFile
    input: CertifiedInput
    run: CertifiedRun
    recording: CertifiedRecording
    result: CertifiedResult
    deployment: SourceAgreement | None
    versions: Mapping[str, str]
    sha256: Annotated[str | None, "of the other keys as JSON, sorted and without spaces"] = field(
        default=None, compare=False
    )
    conversion: CertifiedConversion | None = None

    @classmethod
    def of(
        cls,
        net: Path,
        samples: Path,
        inputs: npt.NDArray[np.int32],
        recording: Recording,
        run: CertifiedRun,
        *,
        lava: Recording | None = None,
        deployment: SourceAgreement | None = None,
        conversion: CertifiedConversion | None = None,
    ) -> Certificate:
        """Certify what our simulator recorded on `inputs`, which `samples` holds.

        Without a recording of `lava`, it is equal to that of the integer network that `net` was
        made from; the caller has compared them.
        """
        comparison = None if lava is None else compare(recording, lava)
        differing = 0
        if comparison is not None:
            differing = sum(one.differing for one in comparison.layers)
            differing += sum(one.differing for one in comparison.states)
        first = None if comparison is None else comparison.difference
        runtime = {} if lava is None else lava.versions
        return cls(
            format="neurodeploy certificate 2",
            created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            network=CertifiedFile(file=net.name, sha256=hash_file(net)),
            input=CertifiedInput(
                file=samples.name,
                dtype=str(inputs.dtype),
                shape=inputs.shape,
                sha256=hash_arrays({"input": inputs}),
            ),
            run=run,
            recording=CertifiedRecording.of(recording),
            result=CertifiedResult(
                compared_with="integer network" if lava is None else "real Lava",
                differing=differing,
                first_difference=None if first is None else str(first),
            ),
            deployment=deployment,
            conversion=conversion,
            versions=_software() | {f"{_LAVA}{name}": value for name, value in runtime.items()},
        )

    @classmethod
    def load(cls, path: Path | str) -> Certificate:
        """Read a certificate, strictly.

        Raises:
            DataError: If it is missing, no certificate, or contradicts itself.

        Example:
            >>> example = nd.load_example()
            >>> example.certificate.save("certificate.json")
            >>> nd.Certificate.load("certificate.json") == example.certificate
            True
        """
        path = Path(path)
        table = read_json(path, _FILE)
        read_in = read_table(cls, table, where=str(path), error=DataError)
        if (read_in.sha256 is None) != read_in.format.endswith("1"):
            raise DataError(
                f"{path}: format = '{read_in.format}' contradicts sha256 = {read_in.sha256!r}. "
                "Write the certificate again."
            )
        if read_in.sha256 is None:
            warnings.warn(
                f"{path}: written by an earlier version, without a hash of itself, so that changes "
                "of it go unnoticed. Write it again.",
                NeurodeployWarning,
                stacklevel=2,
            )
        elif read_in.sha256 != _digest(table):
            raise DataError(
                f"{path}: changed since it was written: its sha256 is that of other content. Write "
                "the certificate again."
            )
        result, samples = read_in.result, read_in.recording.samples
        if (result.differing == 0) != (result.first_difference is None):
            raise DataError(
                f"{path} [result]: differing = {result.differing} contradicts first_difference = "
                f"{result.first_difference!r}. Write the certificate again."
            )
        if read_in.input.shape[:1] != (samples,):
            raise DataError(
                f"{path}: input.shape = {list(read_in.input.shape)} contradicts recording.samples "
                f"= {samples}. Write the certificate again."
            )
        return read_in

    def save(self, path: Path | str) -> None:
        """Write the certificate as JSON, whole or not at all.

        Raises:
            OutputError: If it cannot be written.
        """
        table = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        table["sha256"] = _digest(table)
        write_text(path, json.dumps(table, indent=2, default=_plain, ensure_ascii=False) + "\n")

    @property
    def needs_lava(self) -> bool:
        """True if a check runs real Lava as well."""
        return self.result.compared_with == "real Lava"

    def check(
        self,
        net: Path | str,
        samples: Path | str,
        *,
        lava_python: Path | str | None = None,
        timeout: float | None = None,
        with_lava: bool = True,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> CertificateCheck:
        """Hash file and samples, run them once more, and return all that differs.

        Nothing runs if file or samples are others. Real Lava runs where it ran before, with
        `lava_python` (by default the runtime of ours) and for at most `timeout` seconds; not
        `with_lava`, only our simulator does, and its recording has to be the one that was compared.
        `progress` is called with the simulator's name, samples done and samples in all.

        Raises:
            NeurodeployError: If file or samples cannot be read or run.
        """
        net, samples, run = net_of(Path(net)), samples_of(Path(samples)), self.run
        if found := self.compare_network(net):
            return self._stop("file", found)
        graph = read(
            net,
            input_shape=run.input_shape,
            input_bits=run.input_bits,
            spike_exponent=run.spike_exponent,
            accept_silent_faults=run.accepts_silent_faults,
        )
        timing, count = run.to_timing(), self.recording.samples
        source = open_samples(samples, key=run.key, steps=run.steps, port=graph.input.shape)
        if source.count != count:  # before so many of them are read
            return self._stop("samples", _differing("input", "samples", count, source.count))
        values = source.read(0, count)
        inputs = conform_input(values, graph, feed=run.feed, where=source.name)
        if found := self.compare_input(inputs):
            return self._stop("samples", found)

        def record(name: str, simulator: Simulator) -> Recording:
            if progress is None:
                return simulator.run(inputs, timing=timing, feed=run.feed)
            progress(name, 0, count)
            advance = partial(progress, name)
            return simulator.run(inputs, timing=timing, feed=run.feed, progress=advance)

        lava = None
        if self.needs_lava and with_lava:
            reference = LavaSimulator(
                net,
                python=lava_python,
                input_bits=graph.input.message_bits,
                input_shape=graph.input.shape,
                spike_exponent=run.spike_exponent,
                layer_names=graph.names,
                timeout=timeout,
            )
            lava = record("real Lava", reference)
        ours = record("event simulation", EventSimulator(graph))
        now = Certificate.of(net, samples, inputs, ours, run, lava=lava)
        if not with_lava:  # what was found is taken from the certificate, not compared
            now = replace(now, result=self.result)
        return CertificateCheck(
            differences=self.compare(now),
            versions=_other_versions(self._versions(with_lava=with_lava), now.versions),
        )

    def _stop(
        self, place: Literal["file", "samples"], differences: tuple[str, ...]
    ) -> CertificateCheck:
        other = _other_versions(self._versions(with_lava=False), _software())
        return CertificateCheck(differences=differences, versions=other, stopped_at=place)

    def _versions(self, *, with_lava: bool) -> Mapping[str, str]:
        """Return the recorded versions, those of Lava if it runs."""
        return {n: v for n, v in self.versions.items() if with_lava or not n.startswith(_LAVA)}

    def compare_network(self, net: Path) -> tuple[str, ...]:
        """Return the difference of a file from the one certified; empty if there is none."""
        return _differing("network", "sha256", self.network.sha256, hash_file(net))

    def compare_input(self, inputs: npt.NDArray[np.int32]) -> tuple[str, ...]:
        """Return the differences of samples from those certified; empty if there are none."""
        return (
            *_differing("input", "shape", self.input.shape, inputs.shape),
            *_differing("input", "dtype", self.input.dtype, str(inputs.dtype)),
            *_differing("input", "sha256", self.input.sha256, hash_arrays({"input": inputs})),
        )

    def compare(self, now: Certificate) -> tuple[str, ...]:
        """Return all in which a new certificate differs, but for names, times and versions."""
        return tuple(
            difference
            for section in ("network", "input", "run", "recording", "result")
            for spec in fields(getattr(self, section))
            if spec.name != "file"
            for difference in _differing(
                section, spec.name, *(getattr(getattr(c, section), spec.name) for c in (self, now))
            )
        )

    def describe(self) -> str:
        """Return one line: what was verified, on which samples, how, when, with what."""
        values = sum(array.values for array in self.recording.arrays)
        result = self.result
        verdict = f"all {format_count(values)} spikes and states equal to"
        if result.differing:
            verdict = (
                f"{format_count(result.differing)} of {format_count(values)} values differ from"
            )
        software = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        parts = (self.deployment, self.conversion)
        software += "".join(f"; {part.describe()}" for part in parts if part is not None)
        return (
            f"{self.network.file} (SHA-256 {self.network.sha256[:12]}) on {self.recording.samples} "
            f"samples of {self.recording.steps} steps ({self.input.file}): {verdict} those of "
            f"{'' if self.needs_lava else 'the '}{result.compared_with}, {self.created}; {software}"
        )


def _software() -> dict[str, str]:
    """Return the versions of all that computes here, but for Lava, and the processor."""
    return versions("numpy", "llvmlite", "h5py") | {"processor": processor()}


def _other_versions(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(
        f"{name}: {before.get(name, 'none')} in the certificate, {now.get(name, 'none')} now"
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name)
    )


def _differing(section: str, name: str, before: object, now: object) -> tuple[str, ...]:
    if before == now:
        return ()
    texts = (json.dumps(value, default=_plain) for value in (before, now))
    return ("{}: {} {} in the certificate, {} now".format(section, name, *texts),)


def _digest(table: object) -> str:
    """Return the SHA-256 of all keys of a certificate but `sha256`."""
    assert isinstance(table, dict)
    rest = {key: value for key, value in table.items() if key != "sha256"}
    text = json.dumps(rest, default=_plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    """Return a dataclass or a mapping as `json` takes it."""
    if isinstance(value, Mapping):
        return dict(value)
    return {spec.name: getattr(value, spec.name) for spec in fields(value)}  # type: ignore[arg-type]  # all else is a dataclass
