"""Certificates of verification in `verify` and `report`."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from neurodeploy.cli import console
from neurodeploy.cli.option_groups import Panel
from neurodeploy.cli.options import LavaOptions, RunOptions
from neurodeploy.errors import DataError, NeurodeployWarning
from neurodeploy.files import CERTIFICATE as FILE
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.simulation.recording import IntArray, Recording
from neurodeploy.untrusted.hdf5 import tried_apart

if TYPE_CHECKING:
    from neurodeploy.reports.certificate import Certificate
    from neurodeploy.reports.certified_facts import CertifiedConversion

CERTIFICATE = Panel("Certificate of verification")


def print_certificate_schema(is_given: bool) -> None:
    """Print the schema and end, if the option is given."""
    if is_given:
        from neurodeploy.reports.json_form import certificate_schema

        console.print_json(certificate_schema())
        raise typer.Exit


@dataclass(frozen=True, kw_only=True)
class CertificateOptions:
    """A certificate to check, or to write."""

    certificate: Path | None = CERTIFICATE.option(
        None,
        "Check this certificate: hash file and samples, run them again, and say what differs. Real "
        "Lava runs only if the certificate says that it did.",
        metavar="FILE.json",
    )
    without_lava: bool = CERTIFICATE.option(
        False,
        "With --certificate: run our simulator only, and compare its recording with the one that "
        "was compared with Lava.",
    )
    write_certificate: Path | None = CERTIFICATE.option(
        None,
        "Write a certificate: hashes of file, samples and recording, all versions, what was "
        "compared, and the result. What `certificate.json` beside a converted file says of the "
        "network it came from is taken over.",
        metavar="FILE.json",
        writes=(".json",),
    )


def certificate_beside(net: Path) -> Certificate | None:
    """Return the certificate in the folder of a file, if there is one about this very file."""
    from neurodeploy.reports.certificate import Certificate

    path = net.parent / FILE
    if not path.is_file():
        return None
    try:
        found = Certificate.load(path)
        problems = found.compare_network(net)
    except DataError as error:
        problems = (str(error),)
    if problems:
        message = f"{path}: not shown, it does not certify {net.name}. {' '.join(problems)}"
        warnings.warn(message, NeurodeployWarning, stacklevel=2)
        return None
    return found


def write_certificate(
    path: Path,
    run: RunOptions,
    graph: FixedPointGraph,
    samples: IntArray,
    ours: Recording,
    theirs: Recording,
) -> None:
    """Certify both simulators' runs."""
    from neurodeploy.reports.certificate import Certificate
    from neurodeploy.reports.certified_facts import CertifiedRun

    options = CertifiedRun.of(
        graph,
        ours.steps,
        run.timing(graph),
        run.entry(graph),
        key=run.key,
        spike_exponent=graph.spike_exponent,
        accepts_silent_faults=run.accept_silent_faults,
    )
    origin = origin_of(run.net)
    found = Certificate.of(
        run.net, run.input, samples, ours, options, lava=theirs, conversion=origin
    )
    found.save(path)


def origin_of(net: Path) -> CertifiedConversion | None:
    """Return what a certificate in the folder of a file says of its conversion, if it had one."""
    from neurodeploy.reports.certificate import Certificate

    with suppress(DataError), warnings.catch_warnings():
        warnings.simplefilter("ignore", NeurodeployWarning)  # nothing is concluded from its age
        known = Certificate.load(net.parent / FILE)
        if not known.compare_network(net):
            return known.conversion
    return None


def check_certificate(
    path: Path,
    run: RunOptions,
    lava: LavaOptions,
    certificates: CertificateOptions,
    *,
    as_json: bool,
) -> None:
    """Repeat what a certificate says; exit with 1 if it is not so, or says that values differ."""
    from neurodeploy.reports.certificate import Certificate

    known = Certificate.load(path)
    if run != RunOptions(net=run.net, input=run.input) or certificates.write_certificate:
        raise typer.BadParameter(
            "--certificate says itself how the file was run, and is only read. Leave "
            "--write-certificate and the options of time and of the file out."
        )
    if not known.needs_lava and (lava != LavaOptions() or certificates.without_lava):
        raise typer.BadParameter(
            "--lava-python, --timeout and --without-lava are about Lava, which did not run for "
            f"{path}. Leave them out."
        )
    if certificates.without_lava and lava != LavaOptions():
        raise typer.BadParameter(
            "--without-lava excludes --lava-python and --timeout. Choose one side."
        )
    if not known.compare_network(run.net):  # else it is not read
        with tried_apart(run.net):
            import_module("neurodeploy.simulation.kernels.layer_records")
    with console.progress_by_name(quiet=as_json) as advance:
        check = known.check(
            run.net,
            run.input,
            lava_python=lava.lava_python,
            timeout=lava.timeout,
            with_lava=not certificates.without_lava,
            progress=advance,
        )
    if as_json:
        console.print_json(
            {
                "certificate": str(path),
                "is_equal": check.holds,
                "stopped_at": check.stopped_at,
                "differences": list(check.differences),
                "lava_ran_again": known.needs_lava and not certificates.without_lava,
                "other_versions": list(check.versions),
                "differing": known.result.differing,
                "describes": known.describe(),
            }
        )
    elif check.versions:
        console.err.print(f"other versions: {'; '.join(check.versions)}")
    if check.stopped_at is not None:
        others = {
            "file": ("of another file", run.net, known.network.file),
            "samples": ("on other samples", run.input, known.input.file),
        }
        other, given, certified = others[check.stopped_at]
        raise _finding(
            f"{console.relative(path)}: made {other} than {console.relative(given)}; nothing was "
            f"run. {'; '.join(check.differences)}. Give what was certified ('{certified}'), or "
            "write a certificate of your own with --write-certificate."
        )
    if not check.holds:
        raise _finding(f"{console.relative(path)}: does not hold. {'; '.join(check.differences)}.")
    if known.result.first_difference is not None:
        raise _finding(
            f"{console.relative(path)}: holds, and says that values differ. "
            f"{known.result.first_difference}."
        )
    if not as_json:
        console.out.print("holds", end=": ", style="bold green")
        console.out.print(known.describe())
        if certificates.without_lava:
            console.out.print(
                "Lava was not run again: our simulator's recording is the one that was compared."
            )


def _finding(message: str) -> typer.Exit:
    console.print_error(message)
    return typer.Exit(1)
