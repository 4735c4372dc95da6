"""The command that estimates cores: fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurodeploy.chips.cores import ChipFit, estimate_cores
from neurodeploy.chips.layer_sizes import parse_sketch, sizes_of
from neurodeploy.chips.limits import find_violations
from neurodeploy.chips.target import Target
from neurodeploy.cli import console
from neurodeploy.cli.options import AsJson, FileOptions
from neurodeploy.files import net_of


def fit(
    net: Annotated[
        str,
        typer.Argument(
            metavar="NET|SHAPES",
            help="A `.net` file, the directory of a run, or layer sizes in one line: 784-256-10, "
            "or 3x66x200-24c3s2-100-10 "
            "(24c3s2: 24 channels, kernel 3, stride 2; also p padding, d dilation, g groups; "
            "s2,1: rows and columns).",
        ),
    ],
    file: FileOptions,
    target: Annotated[
        str, typer.Option("--target", metavar="NAME|FILE", help="loihi1, loihi2, or a TOML file.")
    ] = "loihi2",
    cores_per_chip: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Cores that your system offers on each chip. Default: all."
        ),
    ] = None,
    weight_bits: Annotated[
        int,
        typer.Option(
            min=1, max=9, metavar="B", help="For SHAPES: bits of each weight, sign included."
        ),
    ] = 8,
    as_json: AsJson = False,
) -> None:
    """Estimate the neuro-cores that a network needs, and list every limit that it exceeds.

    The estimate comes from sizes: only the vendor's compiler can confirm that a network fits. Exits
    with 1 if a limit is exceeded.

    Example: `neurodeploy fit network.net --target loihi2`
    """
    chip = Target.load(target)
    if net.lower().endswith((".net", ".h5", ".hdf5")) or Path(net).exists():
        if weight_bits != 8:
            raise typer.BadParameter(
                f"--weight-bits {weight_bits}: {net} holds its own weights. Leave the option out."
            )
        graph = file.read(net_of(Path(net)))
        estimate = estimate_cores(sizes_of(graph), chip, cores_per_chip=cores_per_chip)
        violations = find_violations(graph, chip)
    else:
        if file != FileOptions():
            raise typer.BadParameter(
                f"{net}: sizes, not a file. Leave out --input-bits, --input-shape and "
                "--accept-silent-faults."
            )
        sizes = parse_sketch(net, weight_bits=weight_bits)
        estimate = estimate_cores(sizes, chip, cores_per_chip=cores_per_chip)
        violations = tuple(entry.problem for entry in estimate.layers if entry.problem)
    if as_json:
        console.print_json({**estimate.to_dict(), "violations": list(violations)})
    else:
        _print(estimate, violations)
    if violations:
        raise typer.Exit(1)


def _print(estimate: ChipFit, violations: tuple[str, ...]) -> None:
    columns = ("layer", "shape", ">neurons", ">cores", ">per core", "limited by")
    table = console.make_table(*columns, title=f"{estimate.target}: cores, estimated")
    for entry in estimate.layers:
        table.add_row(
            entry.layer.name,
            console.shape_text(entry.layer.shape),
            f"{entry.layer.neurons:,}",
            _range(entry.low, entry.high),
            f"{entry.neurons_per_core:,}" if entry.neurons_per_core else "-",
            entry.limiting_resource,
        )
    console.out.print(table)
    if estimate.cores_low is None:
        console.out.print(f"Does not fit {estimate.target}: see below. An estimate from sizes.")
    else:
        cores = _range(estimate.cores_low, estimate.cores_high)
        chips = _range(estimate.chips_low, estimate.chips_high)
        console.out.print(
            f"{cores} {'core' if cores == '1' else 'cores'}, {chips} "
            f"{'chip' if chips == '1' else 'chips'} of {estimate.cores_per_chip} cores. An "
            "estimate: only a compiler can tell."
        )
    for warning in (*estimate.warnings, *(v for v in violations if v not in estimate.warnings)):
        console.out.print(f"! {warning}", soft_wrap=True)


def _range(low: int | None, high: int | None) -> str:
    if low is None or high is None:
        return "does not fit"
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
