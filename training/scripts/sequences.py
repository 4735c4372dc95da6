"""Sequences that packages carry: spiking networks, what their memory is worth, plain classifiers.

    python training/scripts/sequences.py run pen_digits_recurrent --seeds 0 1 2 3 4
    python training/scripts/sequences.py plain pen_digits
    python training/scripts/sequences.py table

`run` trains, deploys and tests a row of `ROWS`; all seeds of the first rows run on real Lava as
well. `plain` fits ordinary classifiers on the numbers themselves, in the same three parts: their
settings are chosen on the validation part. `table` writes training/results/sequences.md of all that
is in `--runs`, and the values beside it. Finished runs are taken as they are.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

import neurodeploy as nd
from neurodeploy import netx
from neurodeploy.counting.counted_run import count_samples
from neurodeploy.data import load_data
from neurodeploy.data.sequences import read_japanese_vowels, read_pen_digits
from neurodeploy.files import SUMMARY, write_text
from neurodeploy.onnx_models.measured_zeros import read_baseline
from neurodeploy.pipeline.prediction import DatasetSamples
from neurodeploy.provenance import provenance
from neurodeploy.recipes.recipe import Recipe, load_named
from neurodeploy.reports.report_builder import report_counts

RESULTS = Path(__file__).parents[1] / "results" / "sequences.json"
SEEDS = (0, 1, 2, 3, 4)
PLAIN_LAYERS = 'network.layers=[{type="dense",neurons=128},{type="dense",neurons=128}]'
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pen_digits_recurrent": ("pen_digits_recurrent", ()),
    "pen_digits_delays": ("pen_digits_delays", ()),
    "pen_digits_slayer": ("pen_digits_slayer", ()),
    "japanese_vowels": ("japanese_vowels", ()),
    "pen, recurrent, without recurrence": (
        "pen_digits_recurrent",
        ("network.layers.0.recurrent=false",),
    ),
    "pen, recurrent, points shuffled": ("pen_digits_recurrent", ("data.order=shuffled",)),
    "pen, delays, without delays": ("pen_digits_delays", (PLAIN_LAYERS,)),
    "pen, slayer, without recurrence": (
        "pen_digits_slayer",
        ("network.layers.0.recurrent=false",),
    ),
    "vowels, frames shuffled": ("japanese_vowels", ("data.order=shuffled",)),
    "vowels, with recurrence": ("japanese_vowels", ("network.layers.0.recurrent=true",)),
}
"""Rows of the table: a recipe, and what differs from it."""
ON_LAVA = tuple(name for name, (recipe, _) in ROWS.items() if name == recipe)
STAGES = {"float": "floats", "quantized": "quantized", "integer": "deployed"}
TIERS = {"cmos45_int8": "arithmetic", "sram45 + cmos45_int8": "with memory"}
HIDDEN = {"pen_digits": 192, "japanese_vowels": 64}


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/sequences"))
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("row", choices=ROWS)
    run.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    plain = commands.add_parser("plain")
    plain.add_argument("set", choices=HIDDEN)
    commands.add_parser("table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.command == "run":
        for seed in options.seeds:
            run_row(options.row, seed, options.runs)
    elif options.command == "plain":
        run_plain(options.set, options.runs)
    else:
        write_tables(options.runs)


def recipe_of(row: str, seed: int) -> Recipe:
    """Return the recipe of a row."""
    name, changes = ROWS[row]
    overrides = dict(change.split("=", 1) for change in changes) | {"recipe.seed": str(seed)}
    if row not in ON_LAVA:
        overrides["verification.backend"] = '"none"'
    return load_named(name, overrides=overrides)


def directory_of(row: str, seed: int, runs: Path) -> Path:
    """Return where a run lies."""
    return runs / f"{row.replace(', ', '_').replace(' ', '_')}_{seed}"


# --- spiking networks -----------------------------------------------------------------------


def run_row(row: str, seed: int, runs: Path) -> None:
    """Run one seed of a row if it has not run, and price it against ordinary networks."""
    recipe, directory = recipe_of(row, seed), directory_of(row, seed, runs)
    if not (directory / SUMMARY).exists():
        nd.pipeline.run(recipe, directory, resume=directory.exists())
    costs = directory / "against.json"
    if not costs.exists():
        write_text(costs, json.dumps(price(recipe, directory)) + "\n")


def price(recipe: Recipe, directory: Path) -> dict[str, dict[str, object]]:
    """Return MACs of the ordinary networks, and energies of both sides."""
    name = recipe.data.source
    graph = netx.read(directory / "network.net")
    counted = count_samples(graph, DatasetSamples(load_data(recipe)[2], recipe.network.steps))
    results: dict[str, dict[str, object]] = {}
    for kind, model in ordinary_networks(name).items():
        path = directory / f"{kind}.onnx"
        onnx.save(model, path)
        costs = report_counts(graph, counted, onnx=read_baseline(path))
        tiers = {
            TIERS[tier["preset"]]: tier
            for tier in costs.to_json()["tiers"]
            if tier["preset"] in TIERS
        }
        results[kind] = {
            "macs": costs.ann.macs_border_exact,
            **{
                label: {
                    "network": [tier["low"], tier["high"]],
                    "ordinary": [tier["ann"]["low"], tier["ann"]["high"]],
                }
                for label, tier in tiers.items()
            },
        }
    return results


def ordinary_networks(name: str) -> dict[str, onnx.ModelProto]:
    """Return a recurrent ReLU network, a step a point, and a perceptron of all numbers at once.

    They are as wide as the spiking layers; their weights, of which only sizes count here, are
    random.
    """
    steps, coordinates, classes = sizes_of(name)
    hidden = HIDDEN[name]
    rng = np.random.default_rng(0)

    def model(nodes: list[onnx.NodeProto], shape: Sequence[int], **weights: tuple[int, ...]):
        stored = [
            numpy_helper.from_array(rng.standard_normal(size).astype(np.float32), key)
            for key, size in weights.items()
        ]
        graph = helper.make_graph(
            nodes,
            "ordinary",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, classes])],
            stored,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])
        made.ir_version = 8
        onnx.checker.check_model(made)
        return made

    node = helper.make_node
    rnn = model(
        [
            node(
                "RNN", ["input", "w", "r"], ["", "last"], activations=["Relu"], hidden_size=hidden
            ),
            node("Squeeze", ["last", "axis"], ["state"]),
            node("Gemm", ["state", "v"], ["output"], transB=1),
        ],
        [steps, 1, coordinates],
        w=(1, hidden, coordinates),
        r=(1, hidden, hidden),
        v=(classes, hidden),
        axis=(1,),
    )
    axis = next(each for each in rnn.graph.initializer if each.name == "axis")
    axis.CopyFrom(numpy_helper.from_array(np.array([0], np.int64), "axis"))
    numbers = steps * coordinates
    perceptron = model(
        [
            node("Gemm", ["input", "w"], ["sum"], transB=1),
            node("Relu", ["sum"], ["state"]),
            node("Gemm", ["state", "v"], ["output"], transB=1),
        ],
        [1, numbers],
        w=(hidden, numbers),
        v=(classes, hidden),
    )
    return {"recurrent ReLU": rnn, "perceptron": perceptron}


# --- plain classifiers ----------------------------------------------------------------------


def sizes_of(name: str) -> tuple[int, int, int]:
    """Return steps, coordinates and classes of a set."""
    return (8, 2, 10) if name == "pen_digits" else (29, 12, 9)


def numbers_of(name: str, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (samples, steps, coordinates) and classes of the parts that a recipe trains on."""
    row = next(row for row in ON_LAVA if row.startswith(name))
    recipe = recipe_of(row, seed)
    if name == "pen_digits":
        points, labels = read_pen_digits()
        series = points / 100 - 0.5
        parts = [np.arange(len(series))]
    else:
        found = [read_japanese_vowels(part) for part in ("TRAIN", "TEST")]
        series = np.zeros((640, 29, 12))
        for place, frames in enumerate([*found[0][0], *found[1][0]]):
            series[place, : len(frames)] = frames
        labels = np.concatenate([each[1] for each in found])
        parts = [np.arange(270), np.arange(270, 640)]
    # The same split as the recipe's: numbers stand where the spikes stood.
    marked = _with_places(recipe, len(series), parts)
    return [(series[places], labels[places]) for places in marked]


def _with_places(recipe: Recipe, count: int, parts: list[np.ndarray]) -> list[np.ndarray]:
    """Return the places of the training, validation and test samples in the whole set."""
    from neurodeploy.data.dataset import TEST_SPLIT_SEED, split_places

    labels = read_pen_digits()[1] if len(parts) == 1 else read_japanese_vowels("TRAIN")[1]
    rest, test = parts[0], parts[-1]
    if len(parts) == 1:
        rest, test = split_places(labels, recipe.data.test_fraction, seed=TEST_SPLIT_SEED)
    seed = recipe.recipe.seed
    train, validation = split_places(labels[rest], recipe.data.validation_fraction, seed=seed)
    places = [rest[train], rest[validation], test]
    loaded = load_data(recipe)
    assert [len(each) for each in places] == [len(part) for part in loaded]
    return places


def run_plain(name: str, runs: Path) -> None:
    """Fit nearest neighbours, a support vector machine, a perceptron and a recurrent network."""
    results: dict[str, list[float]] = {}
    chosen: dict[str, list[str]] = {}
    for seed in SEEDS:
        train, validation, test = numbers_of(name, seed)
        flat = [(x.reshape(len(x), -1), y) for x, y in (train, validation, test)]
        mean, deviation = flat[0][0].mean(0), flat[0][0].std(0) + 1e-9
        flat = [((x - mean) / deviation, y) for x, y in flat]
        candidates = {
            "nearest neighbours": [KNeighborsClassifier(k) for k in (1, 3, 5)],
            "support vectors": [SVC(C=c, gamma="scale") for c in (1, 10, 100)],
            "perceptron": [
                MLPClassifier((HIDDEN[name],), alpha=alpha, max_iter=300, random_state=seed)
                for alpha in (1e-4, 1e-2, 1.0)
            ],
        }
        for label, models in candidates.items():
            scored = [(each.fit(*flat[0]).score(*flat[1]), each) for each in models]
            best = max(scored, key=lambda pair: pair[0])[1]
            results.setdefault(label, []).append(round(100 * best.score(*flat[2]), 2))
            chosen.setdefault(label, []).append(str(best))
        accuracy, rate = recurrent_accuracy(train, validation, test, HIDDEN[name], seed)
        results.setdefault("recurrent ReLU", []).append(round(100 * accuracy, 2))
        chosen.setdefault("recurrent ReLU", []).append(f"learning rate {rate:g}")
    runs.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"accuracy": results, "chosen": chosen}, indent=1)
    write_text(runs / f"plain_{name}.json", text + "\n")
    print(text)


def recurrent_accuracy(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    hidden: int,
    seed: int,
) -> tuple[float, float]:
    """Return the test accuracy of a recurrent ReLU network, and its learning rate.

    Of two rates that is taken which is better on the validation part; the same iterations as the
    spiking networks have, at least a thousand.
    """
    mean, deviation = train[0].mean((0, 1)), train[0].std((0, 1))
    parts = [
        (torch.tensor((x - mean) / deviation, dtype=torch.float32), torch.tensor(y))
        for x, y in (train, validation, test)
    ]
    best = (-1.0, 0.0, 0.0)
    for rate in (1e-3, 3e-3):
        scores = _trained_recurrent(*parts[0], hidden=hidden, rate=rate, seed=seed)
        with torch.no_grad():
            found = [float((scores(x).argmax(1) == y).double().mean()) for x, y in parts[1:]]
        best = max(best, (found[0], found[1], rate))
    return best[1], best[2]


def _trained_recurrent(
    inputs: torch.Tensor, labels: torch.Tensor, *, hidden: int, rate: float, seed: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    torch.manual_seed(seed)
    cell = torch.nn.RNN(inputs.shape[2], hidden, nonlinearity="relu", batch_first=True)
    head = torch.nn.Linear(hidden, int(labels.max()) + 1)
    parameters = [*cell.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-2)
    size = 64 if len(inputs) > 1000 else 30
    batches = -(-len(inputs) // size)
    epochs = max(40, 1000 // batches)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)

    def scores(x: torch.Tensor) -> torch.Tensor:
        return head(cell(x)[0].mean(1))

    for _ in range(epochs):
        for places in torch.randperm(len(inputs)).split(size):
            loss = torch.nn.functional.cross_entropy(scores(inputs[places]), labels[places])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
    return scores


# --- tables ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Row:
    """The seeds of a row that have run."""

    seeds: list[int]
    summaries: list[dict]
    against: list[dict]

    @classmethod
    def read(cls, row: str, runs: Path) -> Row:
        """Read what is there."""
        found = [s for s in SEEDS if (directory_of(row, s, runs) / "against.json").exists()]
        folders = [directory_of(row, seed, runs) for seed in found]
        return cls(
            seeds=found,
            summaries=[json.loads((each / SUMMARY).read_text()) for each in folders],
            against=[json.loads((each / "against.json").read_text()) for each in folders],
        )

    def values(self) -> dict[str, object]:
        """Return what the table shows, one value a seed."""
        lava = [summary["lava"] for summary in self.summaries]
        return {
            "seeds": self.seeds,
            "test_samples": self.summaries[0]["test"]["samples"],
            **{
                label: [round(100 * s["accuracy"][stage], 2) for s in self.summaries]
                for stage, label in STAGES.items()
            },
            "sops": [round(s["sops_per_sample"]) for s in self.summaries],
            "train_seconds": [round(s["seconds"]["train"], 1) for s in self.summaries],
            "lava_samples": sum(run["samples"] for run in lava if run),
            "lava_differing": sum(run["differing_spikes"] for run in lava if run),
            "ordinary": {
                kind: {
                    "macs": self.against[0][kind]["macs"],
                    **{
                        label: {
                            side: [
                                min(each[kind][label][side][0] for each in self.against),
                                max(each[kind][label][side][1] for each in self.against),
                            ]
                            for side in ("network", "ordinary")
                        }
                        for label in TIERS.values()
                    },
                }
                for kind in self.against[0]
            },
        }


def write_tables(runs: Path) -> None:
    """Write the values of all finished runs, and their table."""
    rows = {name: Row.read(name, runs) for name in ROWS}
    values = {name: row.values() for name, row in rows.items() if row.seeds}
    plain = {
        name: json.loads((runs / f"plain_{name}.json").read_text())
        for name in HIDDEN
        if (runs / f"plain_{name}.json").exists()
    }
    log = {"provenance": provenance(Path(__file__).parent), "rows": values, "plain": plain}
    write_text(RESULTS, json.dumps(log, indent=1) + "\n")
    write_text(RESULTS.with_suffix(".md"), table_of(values, plain))
    print(table_of(values, plain))


def spread(values: Sequence[float]) -> str:
    """Return mean ± standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} ± {deviation:.2f}"


def extent(low: float, high: float) -> str:
    """Return a range of picojoules in nanojoules."""
    ends = [f"{end / 1e3:,.0f}" if end >= 1e5 else f"{end / 1e3:.3g}" for end in (low, high)]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def table_of(rows: dict[str, dict], plain: dict[str, dict]) -> str:
    """Return all tables in Markdown."""
    lines = [
        "Test accuracy in percent, mean ± standard deviation over seeds. Rows with a comma change "
        "one thing of the row that they name, to show what it is worth. Synaptic operations (SOPs) "
        "are means, training times on one thread medians with ranges, on a machine that other "
        "programs shared. Differing: spikes and read-out values of all seeds' files on stock Lava.",
        "",
        "| row | seeds | floats | quantized | deployed | SOPs a sample | training | differing on "
        "Lava |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        lava = f"{row['lava_differing']} ({row['lava_samples']} samples)"
        lines.append(
            f"| {name} | {len(row['seeds'])} | "
            + " | ".join(spread(row[label]) for label in STAGES.values())
            + f" | {statistics.mean(row['sops']):,.0f} | "
            f"{statistics.median(row['train_seconds']):.0f} "
            f"({min(row['train_seconds']):.0f} to {max(row['train_seconds']):.0f}) s | "
            f"{lava if row['lava_samples'] else 'not run'} |"
        )
    lines += [
        "",
        "Ordinary classifiers of the numbers themselves, the same parts, settings chosen on the "
        "validation part, those of the recurrent ReLU network among two learning rates of AdamW.",
        "",
        "| data | " + " | ".join(next(iter(plain.values()))["accuracy"] if plain else ()) + " |",
        "|---" * (1 + len(next(iter(plain.values()))["accuracy"] if plain else ())) + "|",
    ]
    for name, found in plain.items():
        cells = " | ".join(spread(values) for values in found["accuracy"].values())
        lines.append(f"| {name} | {cells} |")
    lines += [
        "",
        "Energy of one inference, estimates: lowest to highest of all seeds, 45 nm, int8.",
        "",
        "| row | ordinary network | its MACs | arithmetic: spiking / ordinary, nJ | "
        "with memory: spiking / ordinary, nJ |",
        "|---|---|---|---|---|",
    ]
    for name in ON_LAVA:
        for kind, cost in rows.get(name, {}).get("ordinary", {}).items():
            cells = [
                " / ".join(extent(*cost[label][side]) for side in ("network", "ordinary"))
                for label in TIERS.values()
            ]
            lines.append(f"| {name} | {kind} | {cost['macs']:,} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
