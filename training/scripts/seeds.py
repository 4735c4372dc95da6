"""Train one recipe with several seeds and print what training/README.md logs.

    python training/scripts/seeds.py training/recipes/digits.toml --seeds 0 1 2 [--set key=value]
    python training/scripts/seeds.py training/recipes/digits.toml --splits 0 1 2 --test
    python training/scripts/seeds.py cifar100_resnet18_t2_evolutionary --seeds 0 1 2 --test

A recipe is a file (FILE.toml, FILE.toml#VARIANT) or the name of one that `neurodeploy recipes`
lists. The test part is looked at only with --test: settings are chosen without it. `--splits` draws
another test part of the digits for each (`data.test_seed`), with the seed of the same number.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import neurodeploy as nd
from neurodeploy.learning.trainer import BEST
from neurodeploy.recipes.recipe import load_named


def main() -> None:
    """Train, and print one line a seed and one of means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seeds", type=int, nargs="+", default=[0])
    which.add_argument("--splits", type=int, nargs="+", help="test parts, each with its own seed")
    parser.add_argument("--set", dest="overrides", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--test", action="store_true", help="measure on the test part as well")
    options = parser.parse_args()
    overrides = dict(override.split("=", 1) for override in options.overrides)
    columns: dict[str, list[float]] = {}
    for seed in options.splits or options.seeds:
        chosen = {"recipe.seed": str(seed)}
        if options.splits:
            chosen["data.test_seed"] = str(seed)
        load = nd.Recipe.load if ".toml" in options.recipe else load_named
        recipe = load(options.recipe, overrides={**overrides, **chosen})
        row = run(recipe, has_test=options.test)
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
        print(f"seed {seed}:", *(f"{name} {value:.2f}" for name, value in row.items()), flush=True)
    for name, values in columns.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{name}: {statistics.mean(values):.2f} ± {spread:.2f}")
    for target in recipe.paper.targets if options.test and recipe.paper else ():
        print(f"paper, {recipe.paper.text}, {target.place}: {target}")


def run(recipe: nd.Recipe, *, has_test: bool) -> dict[str, float]:
    """Train one network; accuracies in percent, of the last and of the best epoch."""
    train, validation, test = nd.load_data(recipe)
    network = nd.SpikingNetwork.from_recipe(recipe)
    start, cpu_start = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as directory:
        # `fit` leaves the weights that the recipe keeps; the best ones are read from their file.
        history = nd.Trainer(
            recipe.training,
            seed=recipe.recipe.seed,
            shortcut=recipe.shortcut,
            shift=recipe.data.shift,
            directory=directory,
        ).fit(network, train, validation)
        best = nd.SpikingNetwork.load(Path(directory) / BEST)
    row = {
        "validation kept": 100 * history.epochs[history.kept_epoch - 1].validation_accuracy,
        "validation best": 100 * history.epochs[history.best_epoch - 1].validation_accuracy,
        "seconds": time.perf_counter() - start,
        "cpu seconds": time.process_time() - cpu_start,
    }
    if has_test:
        row["test kept"] = 100 * nd.evaluate(network, test).accuracy
        row["test best"] = 100 * nd.evaluate(best, test).accuracy
    return row


if __name__ == "__main__":
    main()
