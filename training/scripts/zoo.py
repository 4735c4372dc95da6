"""Train, deploy and verify the networks of the zoo, which come with neurodeploy.

    python training/scripts/zoo.py
    python training/scripts/zoo.py digits digits_norse

Each becomes a folder of `examples/zoo`: `network.net`; `samples.npz`, the first samples of the test
part with labels; `certificate.json`, of the comparison with real Lava on them; and `card.json`,
whose figures are all taken from the run. Recipes that ran, in `--runs`, are taken as they are. It
needs the extras `train` and `interop`, sinabs and the Lava runtime, and takes a quarter of an hour
on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import motion_events
import moving_digits
import numpy as np
import torch
import zoo_frameworks

import neurodeploy as nd
from neurodeploy.example import CARD, ExampleCard, ExampleEnergy, classes_of
from neurodeploy.files import CERTIFICATE, NET, SAMPLES, SUMMARY, replacing, write_text
from neurodeploy.pipeline.converted import certify_conversion
from neurodeploy.pipeline.directory import versions
from neurodeploy.provenance import installed_version
from neurodeploy.recipes.recipe import load_named
from neurodeploy.samples.array_files import save_samples

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "examples" / "zoo"
SCRIPTS = Path(__file__).parent
SHOWN = 32
"""Samples beside a file."""
CLIPS = 4
"""Sequences of 32 frames beside the sigma-delta network."""
PRESETS = ("cmos45_int8", "sram45", "loihi1_davies2018")
DIGITS = "digits, 8x8 pixels"
DATA = (
    "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak; UCI), as in scikit-learn; "
    "CC BY 4.0"
)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A network in a folder with its file and samples, and the accuracies on the test part."""

    folder: Path
    accuracy: Mapping[str, float]
    test_samples: int
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The words of a card, and the function that makes the network in a folder."""

    task: str = DIGITS
    shows: str
    origin: str
    data: str = DATA
    make: Callable[[Path], Made]


# --- how they are made -----------------------------------------------------------------------


def run_recipe(folder: Path, *, recipe: str, **settings: str) -> Made:
    """Train, deploy and verify a recipe, by name or of this folder, unless that was done."""
    if not (folder / SUMMARY).exists():
        is_file = recipe.endswith(".toml")
        load = partial(nd.Recipe.load, SCRIPTS / recipe) if is_file else partial(load_named, recipe)
        overrides = {"verification.lava_samples": str(SHOWN), **settings}
        nd.pipeline.run(load(overrides=overrides), folder, resume=folder.exists())
    summary = json.loads((folder / SUMMARY).read_text())
    stages = {"float": "float", "quantized": "quantized", "integer": "deployed"}
    return Made(
        folder=folder,
        accuracy={name: summary["accuracy"][stage] for stage, name in stages.items()},
        test_samples=summary["test"]["samples"],
    )


def run_motion(folder: Path) -> Made:
    """Make the recordings, and run their recipe."""
    path = folder.with_suffix(".npz")
    motion_events.write(path)
    return run_recipe(folder, recipe="motion_events.toml", **{"data.path": json.dumps(str(path))})


def convert_moving_digits(folder: Path) -> Made:
    """Train an ordinary network on moving digits, and convert it."""
    train, test = moving_digits.load_images()
    generator = np.random.default_rng(0)
    frames = [moving_digits.make_frames(train[0], generator) for _ in range(moving_digits.VARIANTS)]
    labels = np.tile(train[1], moving_digits.VARIANTS)
    network = moving_digits.train_ann(np.concatenate(frames), labels, 0)
    conversion = moving_digits.convert(network, train, 0)
    images, classes = (part[: moving_digits.CLIPS] for part in test)
    clips = moving_digits.make_clips(images, "slow", np.random.default_rng(1000))
    values = (clips / moving_digits.WHITE).astype(np.float32)
    truth = np.repeat(classes, clips.shape[1])
    with torch.no_grad():
        scores = network(torch.from_numpy(values.reshape(-1, *clips.shape[2:]))).numpy()
    results = conversion.run(values).reshape(len(truth), -1)
    folder.mkdir(parents=True, exist_ok=True)
    conversion.write(folder / NET)
    save_samples(folder / SAMPLES, conversion.stream_of(values[:CLIPS]), classes[:CLIPS])
    certify_conversion(
        conversion,
        folder / NET,
        folder / SAMPLES,
        model="a ReLU network of training/scripts/moving_digits.py",
        sha256=None,
        has_labels=True,
        checked=None,
    ).save(folder / CERTIFICATE)
    return Made(
        folder=folder,
        accuracy={
            "ReLU network": float(np.mean(scores.argmax(axis=1) == truth)),
            "deployed": float(np.mean(results.argmax(axis=1) == truth)),
        },
        test_samples=len(truth),
    )


def run_example(folder: Path, *, script: str, framework: str, package: str) -> Made:
    """Run a script of `examples/`, and take what it deployed."""
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in folder.glob("runs/*"):
        shutil.rmtree(earlier)
    with contextlib.chdir(folder):
        found = runpy.run_path(str(ROOT / "examples" / script))
        return imported(folder, found["result"], framework, package, found["accuracy"])


def import_network(folder: Path, *, framework: str, package: str, train: Callable) -> Made:
    """Train in another framework, and deploy exactly."""
    (network, test, labels), accuracy = train()
    shutil.rmtree(folder / "deployed", ignore_errors=True)
    result = nd.deploy(network, test, labels, out=folder / "deployed")
    return imported(folder, result, framework, package, accuracy)


def imported(
    folder: Path, result: nd.ImportedDeployment, framework: str, package: str, accuracy: float
) -> Made:
    """Return what was imported, with the first of its samples, which are the test part."""
    with np.load(result.samples) as archive:
        inputs, labels = archive["input"], archive["label"]
    shutil.copyfile(result.path, folder / NET)
    save_samples(folder / SAMPLES, inputs[:SHOWN], labels[:SHOWN])
    return Made(
        folder=folder,
        accuracy={framework: accuracy, **result.accuracy},
        test_samples=len(labels),
        packages=(package,),
    )


def tune_rockpool(folder: Path) -> Made:
    """Train in Rockpool, import with another reset, and train further on in integers."""
    (network, test, labels), training, accuracy = zoo_frameworks.train_rockpool()
    stages = {"Rockpool": accuracy}
    tuning = nd.FineTuning(epochs=10, learning_rate=5e-3)
    for stage, fine_tune in (("quantized", None), ("deployed", tuning)):
        shutil.rmtree(folder / stage, ignore_errors=True)
        result = nd.deploy(
            network,
            *training,
            out=folder / stage,
            approximate={"soft-reset"},
            fine_tune=fine_tune,
        )
        prediction = nd.EventSimulator(result.graph).run(test.astype(np.int32)).prediction
        stages[stage] = float(np.mean(prediction == labels))
    shutil.copyfile(result.path, folder / NET)
    save_samples(folder / SAMPLES, test[:SHOWN], labels[:SHOWN])
    return Made(folder=folder, accuracy=stages, test_samples=len(labels), packages=("rockpool",))


ENTRIES = {
    "digits_small": Entry(
        shows="the smallest: two LIF convolutions",
        origin="neurodeploy, training/scripts/zoo_digits_small.toml",
        make=partial(run_recipe, recipe="zoo_digits_small.toml"),
    ),
    "digits": Entry(
        shows="LIF, trained with shortcut branches",
        origin="neurodeploy, recipe digits",
        make=partial(run_recipe, recipe="digits"),
    ),
    "digits_slayer": Entry(
        shows="CUBA neurons, trained in 8 bits",
        origin="neurodeploy, recipe digits_slayer",
        make=partial(run_recipe, recipe="digits_slayer"),
    ),
    "digits_residual": Entry(
        shows="skip connections as relay channels",
        origin="neurodeploy, recipe digits_residual",
        make=partial(run_recipe, recipe="digits_residual"),
    ),
    "digits_pruned": Entry(
        shows="70 % pruned, 4-bit weights",
        origin="neurodeploy, recipe digits_pruned with quantization.weight_bits=4",
        make=partial(run_recipe, recipe="digits_pruned", **{"quantization.weight_bits": "4"}),
    ),
    "motion_events": Entry(
        task="direction of motion, 16x16 events",
        shows="camera events over 12 steps",
        origin="neurodeploy, training/scripts/motion_events.toml",
        data=f"{DATA}; made to move by training/scripts/motion_events.py",
        make=run_motion,
    ),
    "moving_digits": Entry(
        task="moving digits, 16x16 pixels",
        shows="a ReLU network as sigma-delta neurons",
        origin="torch, training/scripts/moving_digits.py; converted by neurodeploy",
        data=f"{DATA}; made to move by training/scripts/moving_digits.py",
        make=convert_moving_digits,
    ),
    "digits_norse": Entry(
        shows="exact import, leaky read-out",
        origin="norse, examples/from_norse.py",
        make=partial(run_example, script="from_norse.py", framework="norse", package="norse"),
    ),
    "digits_snntorch": Entry(
        shows="exact import, rate code",
        origin="snnTorch, examples/from_snntorch.py",
        make=partial(
            run_example, script="from_snntorch.py", framework="snnTorch", package="snntorch"
        ),
    ),
    "digits_spikingjelly": Entry(
        shows="exact import, batch norm",
        origin="SpikingJelly, training/scripts/zoo_frameworks.py",
        make=partial(
            import_network,
            framework="SpikingJelly",
            package="spikingjelly",
            train=zoo_frameworks.train_spikingjelly,
        ),
    ),
    "digits_sinabs": Entry(
        task="digits, a row of 8 pixels a step",
        shows="exact import, recurrent neurons",
        origin="sinabs, training/scripts/zoo_frameworks.py",
        make=partial(
            import_network,
            framework="sinabs",
            package="sinabs",
            train=zoo_frameworks.train_sinabs,
        ),
    ),
    "digits_rockpool": Entry(
        shows="import with another reset, fine-tuned",
        origin="Rockpool and neurodeploy, training/scripts/zoo_frameworks.py",
        make=tune_rockpool,
    ),
}


# --- what is written -------------------------------------------------------------------------


def finish(name: str, entry: Entry, made: Made) -> nd.ExampleCard:
    """Verify on real Lava, count, and move file, samples, certificate and card to the zoo."""
    place = ZOO / name
    place.mkdir(parents=True, exist_ok=True)
    certificate = made.folder / CERTIFICATE
    command = ["verify", made.folder / NET, "-i", made.folder / SAMPLES]
    subprocess.run(
        [sys.executable, "-m", "neurodeploy", *command, "--write-certificate", certificate],
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    known = nd.Certificate.load(certificate)
    assert (known.result.compared_with, known.result.differing) == ("real Lava", 0)
    run = known.run
    graph = nd.netx.read(made.folder / NET, input_shape=run.input_shape, input_bits=run.input_bits)
    with np.load(made.folder / SAMPLES) as archive:
        inputs, labels = archive["input"].astype(np.int32), archive["label"]
    counted = nd.count_samples(graph, inputs, timing=run.to_timing(), feed=run.feed)
    recording = nd.EventSimulator(graph).run(inputs, timing=run.to_timing(), feed=run.feed)
    report = nd.report_counts(
        graph,
        counted,
        network_file=made.folder / NET,
        presets=[nd.EnergyPreset.load(preset) for preset in PRESETS],
    )
    card = ExampleCard(
        name=name,
        task=entry.task,
        shows=entry.shows,
        origin=entry.origin,
        command=f"python training/scripts/zoo.py {name}",
        seed=0,
        data=entry.data,
        licence="Apache-2.0",
        test_samples=made.test_samples,
        accuracy=made.accuracy,
        correct=int(np.sum(classes_of(recording) == labels)),
        sops_per_sample=report.sops_per_sample,
        energies=tuple(
            ExampleEnergy(
                tier=pair.network.tier,
                preset=pair.network.preset,
                low=pair.network.low,
                high=pair.network.high,
                twin_low=None if pair.ann is None else pair.ann.low,
                twin_high=None if pair.ann is None else pair.ann.high,
            )
            for pair in report.tiers
        ),
        versions=versions() | {one: str(installed_version(one)) for one in made.packages},
    )
    for file in (NET, SAMPLES, CERTIFICATE):
        with replacing(place / file) as temporary:
            shutil.copyfile(made.folder / file, temporary)
    write_text(place / CARD, json.dumps(card.to_dict(), indent=2, ensure_ascii=False) + "\n")
    return card


def main() -> None:
    """Make all entries, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ENTRIES))
    parser.add_argument("--runs", type=Path, default=Path("runs/zoo"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.names or ENTRIES:
        made = ENTRIES[name].make((options.runs / name).resolve())
        card = finish(name, ENTRIES[name], made)
        print(name, {stage: f"{share:.2%}" for stage, share in card.accuracy.items()})


if __name__ == "__main__":
    main()
