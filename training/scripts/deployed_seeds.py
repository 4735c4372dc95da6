"""Run whole recipes with several seeds, and write a table of accuracies on the test part.

    python training/scripts/deployed_seeds.py digits digits_slayer --seeds 0 1 2 3 4
    python training/scripts/deployed_seeds.py digits_resnet18 digits_vgg_max

Each run trains, deploys and tests, in `--runs`/NAME_SEED; finished ones are taken as they are:
the same command goes on where it was stopped. Only the first seed's file runs on real Lava as well.
The table, with means and standard deviations, goes to training/results/deployed_seeds.md, and the
single values beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import neurodeploy as nd
from neurodeploy.files import SUMMARY, write_text
from neurodeploy.provenance import provenance
from neurodeploy.recipes.recipe import load_named

RESULTS = Path(__file__).parents[1] / "results" / "deployed_seeds.json"
STAGES = {"float": "floats", "quantized": "quantized", "integer": "deployed"}


def main() -> None:
    """Run what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--runs", type=Path, default=Path("runs/seeds"))
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text())["recipes"] if RESULTS.exists() else {}
    for recipe in options.recipes:
        name = Path(recipe.rsplit("#")[-1]).stem
        summaries = [
            run(recipe, options.runs / f"{name}_{seed}", seed, options.seeds[0])
            for seed in options.seeds
        ]
        results[name] = {"seeds": options.seeds, **row_of(summaries)}
    log = {"provenance": provenance(Path(__file__).parent), "recipes": results}
    write_text(RESULTS, json.dumps(log, indent=2) + "\n")
    write_text(RESULTS.with_suffix(".md"), table_of(results))
    print(table_of(results))


def run(name: str, directory: Path, seed: int, first: int) -> dict[str, object]:
    """Return the summary of one run, which is made if it is not there."""
    if not (directory / SUMMARY).exists():
        overrides = {"recipe.seed": str(seed)}
        if seed != first:
            overrides["verification.backend"] = '"none"'
        load = nd.Recipe.load if ".toml" in name else load_named
        nd.pipeline.run(load(name, overrides=overrides), directory, resume=directory.exists())
    summary: dict[str, object] = json.loads((directory / SUMMARY).read_text())
    return summary


def row_of(summaries: list[dict]) -> dict[str, object]:
    """Return accuracies in percent by stage, one a seed, and what ran on Lava."""
    return {
        "test_samples": summaries[0]["test"]["samples"],
        **{
            label: [round(100 * summary["accuracy"][stage], 2) for summary in summaries]
            for stage, label in STAGES.items()
        },
        "lava": summaries[0]["lava"],
        "commits": sorted({str(s["versions"].get("commit")) for s in summaries}),
    }


def table_of(results: dict[str, dict]) -> str:
    """Return the table in Markdown."""
    lines = [
        "Test accuracy in percent, mean ± standard deviation over seeds; the last column is the "
        "first seed's file on stock Lava.",
        "",
        "| recipe | seeds | floats | quantized | deployed | differing values on Lava | commit |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        cells = [
            f"{statistics.mean(row[label]):.2f} ± "
            f"{statistics.stdev(row[label]) if len(row[label]) > 1 else 0:.2f}"
            for label in STAGES.values()
        ]
        lava = row["lava"]
        shown = (
            "not run" if lava is None else f"{lava['differing_spikes']} ({lava['samples']} images)"
        )
        cells += [shown, ", ".join(commit[:7] for commit in row["commits"])]
        lines.append(f"| {name} | {len(row['seeds'])} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
