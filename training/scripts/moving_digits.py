"""Recognize digits that move before a background, frame by frame, with three kinds of network.

    python training/scripts/moving_digits.py --seeds 0 1 2 3 4

Frames of 16x16 pixels show a digit of scikit-learn's, at any place, before a grey pattern.
Sequences of 32 frames differ in how much changes: the digit rests, moves by a pixel every eighth
frame or every frame, or moves slowly under the noise of a sensor. An ordinary ReLU network of three
convolutions, its conversion to sigma-delta neurons, and a spiking network of the same layers
(moving_digits.toml beside this script, each frame on its own, four steps) name the digit of every
frame. Training and test parts have different digits. Seeds that are there are kept: the same
command goes on where it was stopped.

The tables go to training/results/moving_digits.md, every value beside it. `--runs` holds the
networks and a report of each scene, and `neurodeploy compare runs/moving_digits/0/*_*.json` puts
them side by side: training/results/moving_digits_compare.md, for the first seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import neurodeploy as nd
from neurodeploy.files import write_text
from neurodeploy.onnx_models.measured_zeros import read_baseline
from neurodeploy.pipeline.converted import verify_conversion
from neurodeploy.provenance import provenance

TRAINING = Path(__file__).parents[1]
RESULTS = TRAINING / "results" / "moving_digits.json"
COMPARISON = TRAINING / "results" / "moving_digits_compare.md"
RECIPE = TRAINING / "scripts" / "moving_digits.toml"
SIZE, DIGIT, WHITE = 16, 8, 16
FRAMES = 32
CLIPS = 64
"""Test digits, one a sequence."""
VARIANTS = 6
"""Frames of each training digit."""
NOISE = 0.5
"""Standard deviation of a sensor's noise, in levels of a pixel."""
SCENES = {"still": 0, "slow": 8, "fast": 1, "noisy": 8}
"""Frames a pixel takes; 0: the digit rests."""
PRESETS = {"cmos45_int8": "arithmetic", "sram45 + cmos45_int8": "with memory"}
EPOCHS = 12

Arrays = tuple[np.ndarray, np.ndarray]


def load_images() -> tuple[Arrays, Arrays]:
    """Return images (n, 8, 8), pixels 0 to 16, and labels, for training and test."""
    digits = load_digits()
    images, labels = digits.images.astype(np.int32), digits.target.astype(np.int64)
    train, test, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=0
    )
    return (train, train_labels), (test, test_labels)


def draw(image: np.ndarray, pattern: np.ndarray, row: int, column: int) -> np.ndarray:
    """Return a frame (1, 16, 16): an image before a pattern, the brighter of both in each pixel."""
    frame = pattern.copy()
    part = frame[row : row + DIGIT, column : column + DIGIT]
    np.maximum(part, image, out=part)
    return frame[None]


def draw_pattern(generator: np.random.Generator) -> np.ndarray:
    """Return a background (16, 16) of pixels from 0 to 3."""
    return generator.integers(0, 4, (SIZE, SIZE), dtype=np.int32)


def add_noise(frames: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return frames as a sensor with noise sees them."""
    noise = np.rint(generator.normal(0, NOISE, frames.shape)).astype(np.int32)
    return np.clip(frames + noise, 0, WHITE)


def make_frames(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return one frame of each image at a random place, every other one with noise."""
    free = SIZE - DIGIT + 1
    places = generator.integers(0, free, (len(images), 2))
    frames = np.stack(
        [
            draw(image, draw_pattern(generator), *place)
            for image, place in zip(images, places, strict=True)
        ]
    )
    frames[::2] = add_noise(frames[::2], generator)
    return frames


def make_clips(images: np.ndarray, scene: str, generator: np.random.Generator) -> np.ndarray:
    """Return sequences (n, 32, 1, 16, 16): a digit goes straight on, and back at the border."""
    free, pace = SIZE - DIGIT, SCENES[scene]
    clips = []
    for image in images:
        pattern = draw_pattern(generator)
        start = generator.integers(0, 2 * free, 2)
        speed = np.array([(1, 0), (0, 1), (1, 1)][generator.integers(3)])
        clip = []
        for frame in range(FRAMES):
            moved = frame // pace if pace else 0
            row, column = free - np.abs((start + speed * moved) % (2 * free) - free)
            clip.append(draw(image, pattern, row, column))
        clips.append(clip)
    found = np.array(clips)
    return add_noise(found, generator) if scene == "noisy" else found


def make_ann() -> nn.Module:
    """Return the ordinary network: the layers of the recipe, batch norms included, with ReLU."""
    layers: list[nn.Module] = []
    for before, after, stride in ((1, 8, 1), (8, 16, 2), (16, 32, 2)):
        convolution = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


def train_ann(frames: np.ndarray, labels: np.ndarray, seed: int) -> nn.Module:
    """Train on frames in units of white, as the recipe trains the spiking network."""
    torch.manual_seed(seed)
    network = make_ann()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    inputs = torch.from_numpy(frames).float() / WHITE
    targets = torch.from_numpy(labels)
    steps = -(-len(inputs) // 64)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(inputs)).split(64):
            loss = nn.functional.cross_entropy(network(inputs[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def train_spiking(frames: np.ndarray, labels: np.ndarray, seed: int, runs: Path) -> Path:
    """Run the recipe, verification on Lava for seed 0 alone; return the file."""
    np.savez_compressed(runs / "frames.npz", input=frames, label=labels)
    overrides = {"recipe.seed": str(seed), "data.path": json.dumps(str(runs / "frames.npz"))}
    if seed:
        overrides["verification.backend"] = '"none"'
    directory = runs / "spiking"
    if not (directory / "summary.json").exists():
        recipe = nd.Recipe.load(RECIPE, overrides=overrides)
        nd.pipeline.run(recipe, directory, resume=directory.exists())
    return directory / "network.net"


def convert(network: nn.Module, images: Arrays, seed: int) -> nd.Conversion:
    """Convert the network with sequences of training digits, scenes in turn."""
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(images[0]))[:16]
    clips = [
        make_clips(images[0][[one]], scene, generator)[0]
        for one, scene in zip(chosen, [*SCENES] * 4, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nd.NeurodeployWarning)  # its remarks are in the results
        return nd.convert(
            network, np.stack(clips) / WHITE, labels=images[1][chosen], target="loihi2"
        )


def export(network: nn.Module, path: Path) -> None:
    """Write the ordinary network as ONNX."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        frame = torch.zeros(1, 1, SIZE, SIZE)
        torch.onnx.export(network, (frame,), path, input_names=["frame"], dynamo=False)


def changes_of(clips: np.ndarray) -> dict[str, float]:
    """Return shares of frames and of pixels that differ from the frame before, in percent."""
    differs = clips[:, 1:] != clips[:, :-1]
    frames = differs.reshape(*differs.shape[:2], -1).any(axis=-1)
    return {"frames": 100 * float(frames.mean()), "pixels": 100 * float(differs.mean())}


def figures_of(report: nd.Report, frames: int, accuracy: float) -> dict[str, object]:
    """Return accuracy, operations and energies of one frame, in nJ as (low, nominal, high).

    Args:
        report: Of samples of so many frames.
        frames: Frames of a sample.
        accuracy: A share.
    """
    return {
        "accuracy": 100 * accuracy,
        "sops": report.sops_per_sample / frames,
        "nJ": {pair.network.preset: bounds_of(pair.network, frames) for pair in report.tiers},
    }


def bounds_of(energy: nd.Energy, frames: int = 1) -> list[float]:
    """Return an energy of one frame in nJ: low, nominal, high."""
    return [value / frames / 1000 for value in (energy.low, energy.nominal, energy.high)]


def run_scene(
    scene: str,
    network: nn.Module,
    conversion: nd.Conversion,
    spiking: nd.FixedPointGraph,
    test: Arrays,
    seed: int,
    runs: Path,
) -> dict[str, object]:
    """Run the three networks on the test sequences of a scene, and write a report of each."""
    images, labels = (part[:CLIPS] for part in test)
    clips = make_clips(images, scene, np.random.default_rng(1000 + seed))
    flat, truth = clips.reshape(-1, *clips.shape[2:]), np.repeat(labels, FRAMES)
    floats = (flat / WHITE).astype(np.float32)
    presets = [nd.EnergyPreset.load(name) for name in ("cmos45_int8", "sram45")]
    with torch.no_grad():
        expected = network(torch.from_numpy(floats)).numpy()
    accuracy = float(np.mean(expected.argmax(axis=1) == truth))
    baseline = read_baseline(runs / "ann.onnx", samples=floats, labels=truth)

    results = conversion.run(clips / WHITE).reshape(len(truth), -1)
    share = float(np.mean(results.argmax(axis=1) == truth))
    values = conversion.stream_of(clips / WHITE)
    run = nd.count_samples(conversion.graph, values, timing=nd.Stream(), feed=nd.Feed.NEURON)
    ours = nd.report_counts(
        conversion.graph, run, onnx=baseline, presets=presets, accuracy={"deployed": share}
    )
    windows = np.repeat(flat[:, None], 4, axis=1).astype(np.int32)
    spiking_run = nd.count_samples(spiking, windows)
    assert spiking_run.prediction is not None
    spiking_share = float(np.mean(spiking_run.prediction == truth))
    other = nd.report_counts(
        spiking, spiking_run, onnx=baseline, presets=presets, accuracy={"deployed": spiking_share}
    )
    for name, report in ((f"sigma_delta_{scene}", ours), (f"spiking_{scene}", other)):
        write_text(runs / f"{name}.json", json.dumps(report.to_json()))
    error = np.sqrt(np.mean((results - expected) ** 2)) / expected.std()
    return {
        "changed": changes_of(clips),
        "ANN": {
            "accuracy": 100 * accuracy,
            "macs": other.ann.macs_border_exact,
            "macs without zeros": other.ann.macs_effective,
            "nJ": {pair.network.preset: bounds_of(pair.ann) for pair in other.tiers},
        },
        "sigma-delta": {**figures_of(ours, FRAMES, share), "error": 100 * float(error)},
        "spiking": figures_of(other, 1, spiking_share),
    }


def run_seed(seed: int, runs: Path) -> dict[str, object]:
    """Train, convert and run everything for one seed."""
    start = time.perf_counter()
    runs.mkdir(parents=True, exist_ok=True)
    train, test = load_images()
    generator = np.random.default_rng(seed)
    frames = np.concatenate([make_frames(train[0], generator) for _ in range(VARIANTS)])
    labels = np.tile(train[1], VARIANTS)
    network = train_ann(frames, labels, seed)
    export(network, runs / "ann.onnx")
    conversion = convert(network, train, seed)
    conversion.write(runs / "sigma_delta.net")
    spiking = nd.netx.read(train_spiking(frames, labels, seed, runs))
    scenes = {
        scene: run_scene(scene, network, conversion, spiking, test, seed, runs) for scene in SCENES
    }
    clips = make_clips(test[0][:2], "noisy", np.random.default_rng(seed)) / WHITE
    comparison = verify_conversion(conversion, runs / "sigma_delta.net", clips).comparison
    return {
        "scenes": scenes,
        "thresholds": list(conversion.thresholds),
        "latency": {"sigma-delta": conversion.latency, "spiking": 4 + len(spiking.layers) - 1},
        "neurons": {
            "sigma-delta": sum(layer.neurons for layer in conversion.graph),
            "spiking": sum(layer.neurons for layer in spiking),
        },
        "remarks": list(conversion.remarks),
        "lava": {
            "frames": 2 * FRAMES,
            "values": sum(layer.compared for layer in comparison.layers),
            "differing": comparison.differing,
        },
        "seconds": time.perf_counter() - start,
    }


KINDS = ("ANN", "ANN, frames that repeat skipped", "sigma-delta", "spiking")


def rows_of(scene: dict[str, dict]) -> dict[str, tuple[float, float, dict[str, list[float]]]]:
    """Return accuracy, operations and energies of a frame, by kind of network."""
    ann, ours, spiking = scene["ANN"], scene["sigma-delta"], scene["spiking"]
    # The first frame of a sequence is new, whatever came before.
    new = (1 + (FRAMES - 1) * scene["changed"]["frames"] / 100) / FRAMES
    skipped = {name: [new * value for value in bounds] for name, bounds in ann["nJ"].items()}
    macs = ann["macs without zeros"]
    return {
        KINDS[0]: (ann["accuracy"], macs, ann["nJ"]),
        KINDS[1]: (ann["accuracy"], new * macs, skipped),
        KINDS[2]: (ours["accuracy"], ours["sops"], ours["nJ"]),
        KINDS[3]: (spiking["accuracy"], spiking["sops"], spiking["nJ"]),
    }


def spread(values: list[float], digits: int) -> str:
    """Return mean ± standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):,.{digits}f} ± {deviation:,.{digits}f}"


def table_of(seeds: dict[str, dict]) -> str:
    """Return the tables in Markdown."""
    found = list(seeds.values())
    first = found[0]
    lines = [
        f"Accuracy in percent and costs of one frame, mean ± standard deviation over {len(found)} "
        "seeds. Operations: MACs of the ANN without products with zero, SOPs of the others, first "
        "frames and pipeline fill included. Energies in nJ: mean nominal value, in brackets the "
        "mean bounds; arithmetic (preset `cmos45_int8`), and with memory (`sram45` added).",
        "",
        "| scene, pixels that change | network | accuracy | operations "
        "| arithmetic | with memory |",
        "|---|---|---|---|---|---|",
    ]
    least: dict[str, dict[str, list[str]]] = {}
    for scene in SCENES:
        rows = [rows_of(one["scenes"][scene]) for one in found]
        pixels = statistics.mean(one["scenes"][scene]["changed"]["pixels"] for one in found)
        for kind in KINDS:
            parts = [row[kind] for row in rows]
            cells = [
                f"{scene}, {pixels:.1f} %" if kind == KINDS[0] else "",
                kind,
                spread([part[0] for part in parts], 2),
                spread([part[1] for part in parts], 0),
            ]
            for preset in PRESETS:
                low, nominal, high = np.mean([part[2][preset] for part in parts], axis=0)
                cells.append(f"{nominal:,.1f} ({low:,.1f} to {high:,.1f})")
            lines.append(f"| {' | '.join(cells)} |")
        least[scene] = {
            preset: [min(KINDS, key=lambda kind: row[kind][2][preset][1]) for row in rows]
            for preset in PRESETS
        }
    lines += [
        "",
        "Least energy, nominal, in every seed unless a number of seeds is given:",
        "",
        f"| scene | {' | '.join(PRESETS.values())} |",
        "|---|---|---|",
    ]
    for scene, winners in least.items():
        cells = []
        for preset in PRESETS:
            names = winners[preset]
            counts = {kind: names.count(kind) for kind in KINDS if kind in names}
            cells.append(
                ", ".join(f"{kind} {number}" for kind, number in counts.items())
                if len(counts) > 1
                else names[0]
            )
        lines.append(f"| {scene} | {' | '.join(cells)} |")
    lava = [one["lava"] for one in found]
    latency = first["latency"]
    lines += [
        "",
        f"Latency: one pass of the ANN; {latency['sigma-delta']} steps of sigma-delta, with a new "
        f"frame at every step; {latency['spiking']} steps of the spiking network, with a new frame "
        "at every fourth. Neurons: "
        f"{first['neurons']['sigma-delta']:,} and {first['neurons']['spiking']:,}; those of "
        "sigma-delta are updated at every step, changed or not. Real Lava computed "
        f"{sum(one['values'] for one in lava):,} messages of {sum(one['frames'] for one in lava)} "
        f"noisy frames; {sum(one['differing'] for one in lava)} differ.",
    ]
    return "\n".join(lines) + "\n"


def stored() -> dict[str, dict]:
    """Return the seeds that are there."""
    found: dict[str, dict] = json.loads(RESULTS.read_text())["seeds"] if RESULTS.exists() else {}
    return found


def main() -> None:
    """Run what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--runs", type=Path, default=Path("runs/moving_digits"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in options.seeds:
        if str(seed) in stored():
            continue
        row = run_seed(seed, options.runs / str(seed))
        found = {**stored(), str(seed): row}  # read anew: others may have added theirs
        log = {
            "provenance": provenance(Path(__file__).parent),
            "seeds": {seed: found[seed] for seed in sorted(found)},
        }
        write_text(RESULTS, json.dumps(log, indent=2) + "\n")
    found = stored()
    write_text(RESULTS.with_suffix(".md"), table_of(found))
    reports = sorted((options.runs / str(options.seeds[0])).glob("*_*.json"))
    if reports:
        comparison = nd.compare_networks([nd.read_candidate(path) for path in reports])
        nd.write_comparison_markdown(comparison, COMPARISON)
    print(table_of(found))


if __name__ == "__main__":
    main()
