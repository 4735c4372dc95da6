"""The command that puts networks side by side: compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurodeploy.cli import console
from neurodeploy.cli.options import AsJson, PageOptions
from neurodeploy.energy.presets import Tier

if TYPE_CHECKING:
    from neurodeploy.reports.comparison import NetworkComparison


def compare(
    networks: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|REPORT.json...",
            help="Directories of `neurodeploy run` or `deploy`, or files with the output of "
            "`neurodeploy report --json`.",
        ),
    ],
    page: PageOptions,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Preset whose energies are shown first. Default: one that includes memory (tier "
            "B).",
        ),
    ] = None,
    tier: Annotated[
        Tier | None,
        typer.Option(
            help="Use only presets of this tier. A: arithmetic. B: arithmetic and memory. C: Loihi "
            "1."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare networks: accuracy against energy, and the Pareto front for each energy preset.

    Example: `neurodeploy compare runs/digits-1 runs/digits_pruned-1 --html compare.html`
    """
    from neurodeploy.reports.comparison import compare_networks, read_candidate
    from neurodeploy.reports.pages import comparison_page

    comparison = compare_networks(
        [read_candidate(path) for path in networks], preset=preset, tier=tier
    )
    if page.html is not None:
        comparison_page.write_comparison(comparison, page.html)
    if page.markdown_file is not None:
        comparison_page.write_comparison_markdown(comparison, page.markdown_file)
    if as_json:
        console.print_json(comparison.to_dict(), wrote=page.files)
    else:
        _print(comparison)


def _print(comparison: NetworkComparison) -> None:
    from neurodeploy.reports.numbers import format_bounds, format_count, format_energy
    from neurodeploy.reports.pages.tables import TIER_NAMES

    tier = comparison.tier(comparison.preset)
    columns = ["network", ">accuracy", ">T", ">SOPs", ">low – high", ">nominal", "Pareto"]  # noqa: RUF001 - a range
    has_lava = any(entry.network.lava_samples for entry in comparison.entries)
    columns += ["Lava"] * has_lava
    title = f"Energy of one inference, tier {tier.value} ({TIER_NAMES[tier]}), {comparison.preset}"
    table = console.make_table(*columns, title=title)
    table.columns[0].overflow = "fold"
    anns: dict[str, list[str]] = {}
    for entry in comparison.entries:
        network, energy = entry.network, entry.network.energies[comparison.preset]
        table.add_row(
            network.name,
            "-" if network.accuracy is None else f"{network.accuracy:.2%}",
            "-" if network.steps is None else str(network.steps),
            format_count(round(network.sops)),
            format_bounds(energy.low, energy.high),
            format_energy(energy.nominal),
            "yes" if comparison.preset in entry.best_in else "",
            *[network.describe_lava()] * has_lava,
        )
        ann = network.ann_energies.get(comparison.preset)
        if ann is not None:
            anns.setdefault(format_bounds(ann.low, ann.high), []).append(network.name)
    console.out.print(table)
    note = (
        "Pareto: on the Pareto front, where no other network is at least as accurate for less "
        "energy (nominal values). Estimates, not measurements."
    )
    if has_lava:
        note += " Lava: real Lava beside our simulator, and on how many samples."
    console.out.print(note)
    for bounds, names in anns.items():
        console.out.print(f"ANN reported with {', '.join(names)}: {bounds}")
    presets = len(comparison.presets)
    if presets > 1:
        always = [e.network.name for e in comparison.entries if len(e.best_in) == presets]
        best = ", ".join(always) or "none"
        console.out.print(f"on the Pareto front by each of {presets} presets: {best}")
    for warning in comparison.warnings:
        console.out.print(f"! {warning}")
