"""Follow whole networks to real Lava: accuracy and spikes at every stage, and what it costs.

    python training/scripts/deployment.py                    all networks, all ways to deploy them
    python training/scripts/deployment.py digits_resnet18 --ways PTQ --lava 360
    python training/scripts/deployment.py --list             what would run
    python training/scripts/deployment.py --tables           tables of what is finished

Each network of training/recipes/digits_deployment.toml is trained once and deployed several ways:

    PTQ     quantized after training
    QAT     fine-tuned in the chip's integers; deployed where that is better on the validation part
    pruned  as QAT, 80 % of the weights taken out before a longer fine-tune (ResNet-18 alone)

Then all test samples run on the integer network with its skip connections and on the file, and the
first ones on stock Lava. Interrupt it whenever you like: the same command goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import neurodeploy as nd
from neurodeploy.files import write_text
from neurodeploy.provenance import provenance

RECIPES = Path(__file__).parents[1] / "recipes" / "digits_deployment.toml"
RESULTS = Path(__file__).parents[1] / "results"
CODE = ("neurodeploy", "training/recipes", "training/scripts")
COMMAND = shlex.join(["python", "training/scripts/deployment.py", *sys.argv[1:]])
Result = dict[str, object]

PRUNED = {
    "pruning.sparsity": "0.8",
    "pruning.schedule": '"one_shot"',
    "quantization.fine_tune_epochs": "10",
    "quantization.fine_tune_learning_rate": "1e-3",
}
WAYS = {"PTQ": {"quantization.fine_tune_epochs": "0"}, "QAT": {}, "pruned": PRUNED}
PRUNED_NETWORKS = ("digits_resnet18",)


# --- what to run ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One network, deployed one way.

    Attributes:
        network: Name of a variant of the recipes.
        way: Key of `WAYS`.
        seed: Of the training.
        settings: Keys of the recipe that the command line changes.
    """

    network: str
    way: str
    seed: int
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Name of its result."""
        return f"{self.network}-{self.way}-seed{self.seed}"

    def recipe(self) -> nd.Recipe:
        """Return the recipe of the deployment; its training is the same for every way."""
        overrides = {"recipe.seed": str(self.seed), **dict(self.settings), **WAYS[self.way]}
        return nd.Recipe.load(f"{RECIPES}#{self.network}", overrides=overrides)

    def digest(self) -> str:
        """Return a short name of all that the result depends on, but the code."""
        return hashlib.sha256(self.recipe().to_toml().encode()).hexdigest()[:16]


def plan(
    networks: Sequence[str],
    *,
    ways: Sequence[str] = tuple(WAYS),
    seed: int = 0,
    settings: tuple[tuple[str, str], ...] = (),
) -> list[Job]:
    """Return the ways to deploy every network."""
    return [
        Job(network=network, way=way, seed=seed, settings=settings)
        for network in networks
        for way in ways
        if way != "pruned" or network in PRUNED_NETWORKS
    ]


# --- running --------------------------------------------------------------------------------


def trained(job: Job, folder: Path) -> nd.SpikingNetwork:
    """Train the job's network, go on with its training, or load it."""
    directory = folder / f"{job.network}-seed{job.seed}"
    if not (directory / nd.pipeline.MODEL).exists():
        overrides = {"recipe.seed": str(job.seed), **dict(job.settings)}
        recipe = nd.Recipe.load(f"{RECIPES}#{job.network}", overrides=overrides)
        nd.pipeline.train(recipe, directory, resume=(directory / nd.pipeline.RECIPE).exists())
    return nd.pipeline.load_model(directory)[0]


def deploy(job: Job, folder: Path, *, lava_samples: int) -> Result:
    """Deploy one network one way and follow the test samples through every stage."""
    network = trained(job, folder)
    recipe = job.recipe()
    directory = folder / f"{job.network}-seed{job.seed}" / job.way
    started = time.perf_counter()
    deployment = nd.pipeline.deploy(network, recipe, directory)
    seconds = time.perf_counter() - started
    test = nd.load_data(recipe)[2]
    inputs = test.windows(recipe.network.steps)
    ours = nd.EventSimulator(deployment.graph).run(inputs)
    accuracy = {
        "float": nd.evaluate(network, test).accuracy,
        "integers": float(np.mean(nd.pipeline.predict(ours) == test.labels)),
    }
    direct = nd.EventSimulator(deployment.direct).run(inputs)
    result: Result = {
        "job": job.name,
        "network": job.network,
        "way": job.way,
        "seed": job.seed,
        "recipe": job.digest(),
        "epochs": recipe.training.epochs,
        "deployed": deployment.choice,
        "is_fine_tuned": deployment.fine_tuning is not None,
        "test_samples": len(test),
        "accuracy": accuracy,
        "validation_accuracy": deployment.validation_accuracy,
        "file_against_graph": compared(direct, ours, deployment.lowered.channels),
        "sops": float(nd.count(deployment.graph, inputs, ours).sops_by_sample.mean()),
        "relaying": relaying_of(deployment),
        "skip_bits": deployment.calibration.skip_bits,
        "agreement": {entry.name: entry.deployed for entry in deployment.agreement},
        "file_bytes": deployment.path.stat().st_size,
        "zero_weights": None if deployment.pruning is None else deployment.pruning.zero_share,
        "seconds_to_deploy": round(seconds, 1),
        "lava": None,
    }
    if lava_samples:
        result["lava"] = on_lava(deployment, ours, inputs, test.labels, samples=lava_samples)
    return result


def compared(
    direct: nd.Recording, file: nd.Recording, channels: dict[str, int]
) -> dict[str, object]:
    """Count where the file's original layers differ from the graph with skip connections."""
    values = differing = 0
    for index, name in enumerate(direct.layers):
        spikes = direct.spikes[index]
        own = file.spikes[index][:, :, : channels[name]].reshape(spikes.shape)
        values += spikes.size
        differing += int(np.count_nonzero(spikes != own))
    states = direct.voltage
    differing += int(np.count_nonzero(states != file.voltage.reshape(states.shape)))
    return {"layers": len(direct.layers), "values": values + states.size, "differing": differing}


def on_lava(
    deployment: nd.pipeline.Deployment,
    ours: nd.Recording,
    inputs: np.ndarray,
    labels: np.ndarray,
    *,
    samples: int,
) -> dict[str, object]:
    """Run the first samples on stock Lava and compare every layer, relays included."""
    chosen = inputs[:samples]
    lava = nd.LavaSimulator(
        deployment.path,
        input_bits=deployment.graph.input.message_bits,
        layer_names=deployment.graph.names,
    ).run(chosen)
    comparison = nd.testing.compare(nd.EventSimulator(deployment.graph).run(chosen), lava)
    entries = [*comparison.layers, *comparison.states]
    predicted = nd.pipeline.predict(lava)
    return {
        "samples": len(chosen),
        "layers": len(comparison.layers),
        "values": sum(entry.compared for entry in entries),
        "differing": sum(entry.differing for entry in entries),
        "accuracy": float(np.mean(predicted == labels[:samples])),
        "classes_differing": int(np.sum(predicted != nd.pipeline.predict(ours)[:samples])),
        "seconds": round(lava.seconds + lava.startup_seconds, 1),
    }


def relaying_of(deployment: nd.pipeline.Deployment) -> dict[str, float] | None:
    """Return what relays cost, as plain numbers."""
    relaying = deployment.relaying
    if relaying is None:
        return None
    return {name: getattr(relaying, name) for name in relaying.__slots__}


def finished(job: Job, folder: Path, *, lava_samples: int = 0) -> Result | None:
    """Return an earlier result, if its settings are those of today and Lava ran enough of it."""
    path = folder / f"{job.name}.json"
    if not path.is_file():
        return None
    result: Result = json.loads(path.read_text(encoding="utf-8"))
    lava = result["lava"]
    ran = lava["samples"] if isinstance(lava, dict) else 0
    wanted = min(lava_samples, int(str(result["test_samples"])))
    return result if result["recipe"] == job.digest() and ran >= wanted else None


def run_all(jobs: Sequence[Job], folder: Path, *, lava_samples: int) -> None:
    """Run what is missing, one after the other; keep every result as a file."""
    stamp = provenance(Path(__file__).parent, code=CODE, packages=("torch", "numpy"))
    for number, job in enumerate(jobs, 1):
        if finished(job, folder, lava_samples=lava_samples) is not None:
            continue
        print(f"{number} of {len(jobs)}: {job.network}, {job.way}", flush=True)
        result = deploy(job, folder, lava_samples=lava_samples) | stamp | {"command": COMMAND}
        write_text(folder / f"{job.name}.json", json.dumps(result, indent=1) + "\n")
        print(f"    {result['accuracy']}, {result['deployed']}", flush=True)


# --- tables ---------------------------------------------------------------------------------


def markdown(results: Sequence[Result]) -> str:
    """Return the tables."""
    lines = ["# Whole networks on their way to Lava", "", *_origin(results), ""]
    lines += ["## Accuracy and equality", "", *_accuracy(results), ""]
    relayed = [result for result in results if result["relaying"] is not None]
    if relayed:
        lines += ["## What relaying skip connections costs", "", *_relays(relayed), ""]
    pruned = [result for result in results if result["way"] == "pruned"]
    if pruned:
        lines += ["## Pruning", "", *_pruning(pruned, results), ""]
    return "\n".join(lines)


def _accuracy(results: Sequence[Result]) -> list[str]:
    lines = [
        "| network | deployed | float | integers | drop, points | file against graph with skips: "
        "values that differ | Lava against our simulator: values that differ | Lava's accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        accuracy, file, lava = result["accuracy"], result["file_against_graph"], result["lava"]
        assert isinstance(accuracy, dict)
        assert isinstance(file, dict)
        drop = 100 * (accuracy["float"] - accuracy["integers"])
        on_lava, lava_accuracy = "not run", "-"
        if isinstance(lava, dict):
            on_lava = (
                f"{lava['differing']} of {lava['values']:,} ({lava['samples']} samples, "
                f"{lava['layers']} layers)"
            )
            lava_accuracy = f"{lava['accuracy']:.2%} of {lava['samples']}"
        lines.append(
            f"| {result['network']} | {_way(result)} | {accuracy['float']:.2%} | "
            f"{accuracy['integers']:.2%} | {drop:.2f} | {file['differing']} of "
            f"{file['values']:,} ({result['test_samples']} samples) | {on_lava} | "
            f"{lava_accuracy} |"
        )
    return lines


def _way(result: Result) -> str:
    kept = "" if result["way"] == "PTQ" or result["is_fine_tuned"] else ", fine-tune not kept"
    return f"{result['way']}{kept}"


def _relays(results: Sequence[Result]) -> list[str]:
    lines = [
        "| network | deployed | neurons | SOPs a sample | file, KiB | bits of weight precision "
        "that skips cost: mean, most |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        cost, bits = result["relaying"], result["skip_bits"]
        assert isinstance(cost, dict)
        assert isinstance(bits, dict)
        worst = max(bits, key=lambda name: float(bits[name]))
        lines.append(
            f"| {result['network']} | {result['way']} | "
            f"{_change(cost['neurons_before'], cost['neurons'])} | "
            f"{_change(cost['sops_before'], cost['sops'])} | "
            f"{_change(cost['bytes_before'] / 1024, cost['bytes'] / 1024)} | "
            f"{sum(bits.values()) / len(bits):.2f}, {bits[worst]:.2f} ({worst}) |"
        )
    return lines


def _change(before: float, after: float) -> str:
    return f"{before:,.0f} → {after:,.0f} ({100 * (after / before - 1):+.1f} %)"


def _pruning(pruned: Sequence[Result], results: Sequence[Result]) -> list[str]:
    lines = [
        "| network | zero weights | SOPs a sample, PTQ → pruned | fewer by | integers, PTQ → "
        "pruned |",
        "|---|---|---|---|---|",
    ]
    for result in pruned:
        whole = next(
            (
                other
                for other in results
                if (other["network"], other["way"]) == (result["network"], "PTQ")
            ),
            None,
        )
        if whole is None:
            continue
        before, after = float(str(whole["sops"])), float(str(result["sops"]))
        accuracies = [entry["accuracy"] for entry in (whole, result)]
        shown = [f"{entry['integers']:.2%}" for entry in accuracies if isinstance(entry, dict)]
        lines.append(
            f"| {result['network']} | {float(str(result['zero_weights'])):.1%} | {before:,.0f} → "
            f"{after:,.0f} | {before / after:.2f} times | {' → '.join(shown)} |"
        )
    return lines


def _origin(results: Sequence[Result]) -> list[str]:
    def all_of(key: str) -> str:
        between = "`, `" if key == "command" else ", "
        return between.join(sorted({str(result[key]) for result in results}))

    return [
        f"Commands: `{all_of('command')}`. Commit {all_of('commit')}. {all_of('device')}, torch "
        f"{all_of('torch')}, Python {all_of('python')}, seed {all_of('seed')}.",
        "",
        "Accuracy on the test part. Graph with skips: the integer network executed directly. File: "
        "the netx file, relays in place of skips, on our simulator; compared in every spike of "
        "every original layer and the read-out's voltages. Lava: the same file on stock Lava, "
        "relays compared as well. One test sample is "
        f"{100 / float(str(results[0]['test_samples'])):.2f} points.",
    ]


def write_results(results: Sequence[Result], folder: Path) -> None:
    """Write JSON and Markdown."""
    text = markdown(results)
    content = {"results": list(results)}
    write_text(folder / "deployment.json", json.dumps(content, indent=1) + "\n")
    write_text(folder / "deployment.md", text)
    print(text)


# --- command line ---------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", help="variants of the recipes; all")
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=tuple(WAYS), help="all")
    parser.add_argument(
        "--lava", type=int, default=32, metavar="N", help="test samples on Lava; 32"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the trainings; 0")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/deployment"), help="finished runs; %(default)s"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="tables; training/results")
    parser.add_argument("--list", action="store_true", help="show what would run, run nothing")
    parser.add_argument("--tables", action="store_true", help="tables of finished runs only")
    return parser.parse_args()


def main() -> None:
    """Run what is missing, then write the tables."""
    options = parse()
    networks = options.networks or list(nd.Recipe.variants(RECIPES))
    pairs = [setting.partition("=") for setting in options.settings]
    settings = tuple((key, value) for key, _, value in pairs)
    jobs = plan(networks, ways=options.ways, seed=options.seed, settings=settings)
    if options.list:
        for job in jobs:
            is_done = finished(job, options.runs, lava_samples=options.lava) is not None
            print(f"{job.name}: {'finished' if is_done else 'to do'}")
        return
    if not options.tables:
        try:
            run_all(jobs, options.runs, lava_samples=options.lava)
        except KeyboardInterrupt:
            sys.exit("interrupted. Finished runs are kept; the same command goes on.")
    results = [result for job in jobs if (result := finished(job, options.runs))]
    if not results:
        sys.exit(f"{options.runs}: no finished run of these settings. Leave out --tables.")
    write_results(results, options.out)


if __name__ == "__main__":
    main()
