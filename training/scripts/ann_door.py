"""Convert three networks of torchvision's blocks to sigma-delta neurons, and measure the results.

    python training/scripts/ann_door.py --seeds 0 1 2
    python training/scripts/ann_door.py residual --seeds 0

Residual blocks, inverted residuals with depthwise layers, and a plain network with max pools are
trained on scikit-learn's digits, enlarged to 12x12 pixels, on a field of 16x16. The same images,
at rest and moving by a pixel a frame, then go through the network in floats, through int8
(onnxruntime's static quantization, QDQ), and through sigma-delta neurons, whose messages real Lava
computes as well. Rows that are there are kept: the same command goes on where it was stopped. The
table goes to training/results/ann_door.md, and every value beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock
from torchvision.ops import Conv2dNormActivation

import neurodeploy as nd
from neurodeploy.conversion.assembly import run_answers
from neurodeploy.files import write_text
from neurodeploy.pipeline.converted import verify_conversion
from neurodeploy.provenance import provenance

RESULTS = Path(__file__).parents[1] / "results" / "ann_door.json"
SIZE = 16
DIGIT = 12
EPOCHS = 15
BATCH = 64
FRAMES = 129
AT = (1, 32, 128)
"""Frames after which the error is shown."""
CALIBRATION = 48
"""Training images that integers are chosen with, each for 8 frames."""
SEQUENCES = 8
"""Test images that move."""
LAVA_FRAMES = 24


def residual() -> nn.Module:
    """ResNet's basic blocks: an identity, a projection with a stride, an identity."""
    down = nn.Sequential(nn.Conv2d(16, 32, 1, 2, bias=False), nn.BatchNorm2d(32))
    return nn.Sequential(
        Conv2dNormActivation(1, 16, 3),
        BasicBlock(16, 16),
        BasicBlock(16, 32, 2, down),
        BasicBlock(32, 32),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def depthwise() -> nn.Module:
    """MobileNetV2's inverted residuals: ReLU6, depthwise layers, linear bottlenecks."""
    return nn.Sequential(
        Conv2dNormActivation(1, 16, 3, 2, activation_layer=nn.ReLU6),
        InvertedResidual(16, 16, 1, 2),
        InvertedResidual(16, 24, 2, 3),
        InvertedResidual(24, 24, 1, 3),
        Conv2dNormActivation(24, 96, 1, activation_layer=nn.ReLU6),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, 10),
    )


def plain() -> nn.Module:
    """VGG's layers: convolutions, max pools, linear layers."""
    return nn.Sequential(
        Conv2dNormActivation(1, 16, 3),
        nn.MaxPool2d(2),
        Conv2dNormActivation(16, 32, 3),
        nn.MaxPool2d(2),
        Conv2dNormActivation(32, 32, 3),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


NETWORKS = {"residual": residual, "depthwise": depthwise, "plain": plain}


def load_images() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return pixels of 8 bits as floats, (n, 1, 12, 12), and labels, for training and test."""
    digits = load_digits()
    small = torch.from_numpy(digits.images[:, None] / 16).float()
    large = (
        nn.functional.interpolate(small, DIGIT, mode="bilinear").mul(255).round().div(255).numpy()
    )
    train, test, train_labels, test_labels = train_test_split(
        large, digits.target, test_size=0.2, stratify=digits.target, random_state=0
    )
    return train, test, train_labels, test_labels


def place(images: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return images on an empty field, each with its corner at a row and a column."""
    field = np.zeros((len(images), 1, SIZE, SIZE), np.float32)
    for one, image, row, column in zip(field, images, rows, columns, strict=True):
        one[:, row : row + DIGIT, column : column + DIGIT] = image
    return field


def move(images: np.ndarray, frames: int, generator: np.random.Generator) -> np.ndarray:
    """Return (n, frames, 1, 16, 16): digits that move by a pixel a frame, from border to border."""
    free = SIZE - DIGIT
    there_and_back = np.concatenate([np.arange(free), np.arange(free, 0, -1)])
    start, is_row = generator.integers(0, 2 * free, len(images)), generator.random(len(images))
    across = generator.integers(0, free + 1, len(images))
    found = []
    for frame in range(frames):
        along = there_and_back[(start + frame) % (2 * free)]
        rows = np.where(is_row < 0.5, along, across)
        found.append(place(images, rows, np.where(is_row < 0.5, across, along)))
    return np.stack(found, axis=1)


def train(network: nn.Module, images: np.ndarray, labels: np.ndarray, seed: int) -> None:
    """Train on images at random places."""
    generator = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-3)
    steps = -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=EPOCHS * steps)
    network.train()
    for _ in range(EPOCHS):
        order = generator.permutation(len(images))
        for batch in np.array_split(order, steps):
            corners = generator.integers(0, SIZE - DIGIT + 1, (2, len(batch)))
            frames = torch.from_numpy(place(images[batch], *corners))
            loss = nn.functional.cross_entropy(network(frames), torch.from_numpy(labels[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


def run_floats(network: nn.Module, frames: np.ndarray) -> np.ndarray:
    """Return the results for (n, T, 1, 16, 16) frames, (n, T, 10)."""
    with torch.no_grad():
        parts = torch.from_numpy(frames).flatten(0, 1).split(512)
        results = torch.cat([network(part) for part in parts])
    return results.numpy().reshape(*frames.shape[:2], -1)


class Calibration(CalibrationDataReader):
    """Frames for onnxruntime's quantization."""

    def __init__(self, frames: np.ndarray) -> None:
        """Give them one by one."""
        self._batches = iter(frames[:, None])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next one."""
        batch = next(self._batches, None)
        return None if batch is None else {"frame": batch}


def run_int8(network: nn.Module, calibration: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Return the results in int8, weights with a scale a channel, for (n, T, ...) frames."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        paths = [str(Path(folder) / f"{name}.onnx") for name in ("floats", "prepared", "int8")]
        torch.onnx.export(
            network,
            (torch.from_numpy(calibration[:1]),),
            paths[0],
            input_names=["frame"],
            dynamic_axes={"frame": {0: "n"}},
            dynamo=False,
        )
        quant_pre_process(paths[0], paths[1])
        quantize_static(
            paths[1],
            paths[2],
            Calibration(calibration),
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
        session = ort.InferenceSession(paths[2], providers=["CPUExecutionProvider"])
        flat = frames.reshape(-1, *frames.shape[2:])
        results = [session.run(None, {"frame": part})[0] for part in np.array_split(flat, 16)]
    return np.concatenate(results).reshape(*frames.shape[:2], -1)


def operations(conversion: nd.Conversion, frames: np.ndarray) -> tuple[float, float]:
    """Return the synaptic operations of a sequence's first frame, fill included, and of later ones.

    The first frame's are those of a sequence that ends there.
    """
    totals = []
    for part in (frames[:, :1], frames):
        values = conversion.stream_of(part)
        _, recording = run_answers(conversion.graph, values, counts=True)
        counts = nd.count(conversion.graph, values, recording, feed=nd.Feed.NEURON)
        totals.append(sum(layer.sops for layer in counts.layers) / len(frames))
    return totals[0], (totals[1] - totals[0]) / (frames.shape[1] - 1)


def error_of(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the rms error in percent of the deviation of the network's results."""
    return 100 * float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())


def run(name: str, seed: int) -> dict[str, object]:
    """Train a network, convert it, and return all figures."""
    start = time.perf_counter()
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    network = NETWORKS[name]()
    images, test_images, labels, test_labels = load_images()
    train(network, images, labels, seed)
    trained = time.perf_counter()
    # The integers are chosen on training images that move.
    chosen = generator.permutation(len(images))[:CALIBRATION]
    calibration = move(images[chosen], 8, generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nd.NeurodeployWarning)  # all remarks are in the results
        conversion = nd.convert(network, calibration, labels=labels[chosen], target="loihi2")
    converted = time.perf_counter()
    # Judged on test images: all of them at rest, and some that move.
    middle = np.full(len(test_images), (SIZE - DIGIT) // 2)
    still = place(test_images, middle, middle)[:, None]
    exact, moving = run_floats(network, still), move(test_images[:SEQUENCES], FRAMES, generator)
    expected = run_floats(network, moving)
    flat = calibration.reshape(-1, *calibration.shape[2:])
    whole = np.concatenate([still, moving.reshape(-1, 1, *moving.shape[2:])])
    int8 = run_int8(network, flat, whole)
    int8_moving = int8[len(still) :].reshape(expected.shape)
    ours, ours_moving = conversion.run(still), conversion.run(moving)
    at_rest = np.repeat(still[:SEQUENCES], 32, axis=1)
    (first, moved), (_, rested) = operations(conversion, moving), operations(conversion, at_rest)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.net"
        conversion.write(path)
        comparison = verify_conversion(conversion, path, moving[:1, :LAVA_FRAMES]).comparison
    assert conversion.graph.relu_twin is not None
    rounded = conversion.rounded, conversion.final
    shares = {
        key: 100 * float(np.mean(results[:, 0].argmax(axis=1) == test_labels))
        for key, results in (("floats", exact), ("int8", int8[: len(still)]), ("ours", ours))
    }
    row = {
        "accuracy": shares,
        "same answers, moving": 100
        * float(np.mean(ours_moving.argmax(axis=-1) == expected.argmax(axis=-1))),
        "int8 error": error_of(int8_moving, expected),
        "errors": {at: error_of(ours_moving[:, at - 1], expected[:, at - 1]) for at in AT},
        "calibration errors": [100 * trial.error for trial in rounded],
        "sops": {"first": first, "moving": moved, "still": rested},
        "macs": conversion.graph.relu_twin.macs_standard,
        "layers": len(conversion.graph.layers) - 1,
        "latency": conversion.latency,
        "margin": min(layer.margin for layer in conversion.margins),
        "thresholds": list(conversion.thresholds),
        "lava": {
            "frames": LAVA_FRAMES,
            "values": sum(layer.compared for layer in comparison.layers),
            "differing": comparison.differing,
        },
        "remarks": list(conversion.remarks),
        "seconds": {
            "training": trained - start,
            "conversion": converted - trained,
            "all": time.perf_counter() - start,
        },
    }
    return row


def table_of(rows: dict[str, dict[str, dict]]) -> str:
    """Return the table in Markdown."""
    lines = [
        "Test accuracy and errors in percent, mean ± standard deviation over seeds; errors are "
        "rms, in deviations of the network's own results, on digits that move by a pixel a frame. "
        "SOPs and MACs are of one frame. The margin is the smallest of all layers and seeds.",
        "",
        "| network | seeds | accuracy: floats | int8 | sigma-delta | error of int8 "
        "| sigma-delta, frame 1 | 32 | 128 | MACs | SOPs: first frame | moving | still | latency "
        "| margin | differing on Lava |",
        "|" + "---|" * 16,
    ]
    for name, seeds in rows.items():
        found = list(seeds.values())
        if not found:
            continue

        def spread(*keys: str, digits: int = 1, found: list[dict] = found) -> str:
            values = []
            for row in found:
                for key in keys:
                    row = row[key]
                values.append(float(row))
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            return f"{statistics.mean(values):,.{digits}f} ± {deviation:,.{digits}f}"

        cells = [
            name,
            str(len(found)),
            *(spread("accuracy", key, digits=2) for key in ("floats", "int8", "ours")),
            spread("int8 error"),
            *(spread("errors", str(at)) for at in AT),
            f"{found[0]['macs']:,}",
            *(spread("sops", key, digits=0) for key in ("first", "moving", "still")),
            str(found[0]["latency"]),
            f"{min(row['margin'] for row in found):.1f}",
            f"{sum(row['lava']['differing'] for row in found)} of "
            f"{sum(row['lava']['values'] for row in found):,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def stored() -> dict[str, dict[str, dict]]:
    """Return the rows that are there, by network and seed."""
    found = json.loads(RESULTS.read_text())["networks"] if RESULTS.exists() else {}
    return {name: found.get(name, {}) for name in NETWORKS}


def main() -> None:
    """Run what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.networks:
        for seed in options.seeds:
            if str(seed) in stored()[name]:
                continue
            found = json.loads(json.dumps(run(name, seed)))
            print(name, seed, json.dumps(found), flush=True)
            rows = stored()  # read anew: others may have added theirs
            rows[name] = dict(sorted({**rows[name], str(seed): found}.items()))
            log = {"provenance": provenance(Path(__file__).parent), "networks": rows}
            write_text(RESULTS, json.dumps(log, indent=2) + "\n")
    write_text(RESULTS.with_suffix(".md"), table_of(stored()))
    print(table_of(stored()))


if __name__ == "__main__":
    main()
