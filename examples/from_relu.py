"""An ordinary ReLU network, trained in torch: as sigma-delta neurons, run on real Lava."""

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import neurodeploy as nd
from neurodeploy.pipeline.converted import verify_conversion

EPOCHS = 30
LAVA_SEQUENCES = 2  # 0 without the runtime that `neurodeploy lava install` makes
FRAMES = 20

# Digits of 8x8 pixels from 0 to 1, in a field of 12x12.
torch.manual_seed(0)
torch.set_num_threads(1)  # layers this small lose time with more
digits = load_digits()
images = (digits.images / 16).astype(np.float32)
train, test, train_labels, test_labels = train_test_split(
    images, digits.target, test_size=360, stratify=digits.target, random_state=0
)


def place(image: np.ndarray, row: int, column: int) -> np.ndarray:
    """Return a frame (1, 12, 12) with the image at a row and a column from 0 to 4."""
    return np.pad(image, ((row, 4 - row), (column, 4 - column)))[None]


def move(image: np.ndarray) -> np.ndarray:
    """Return a sequence of frames: the digit rests, and goes on by a pixel every fourth frame."""
    return np.stack([place(image, 2, abs(frame // 4 % 8 - 4)) for frame in range(FRAMES)])


# A network as any other: convolutions, batch norm, ReLU, pools. Nothing in it knows of spikes.
network = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 3, stride=2, padding=1),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(288, 10),
)
optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
for _ in range(EPOCHS):
    corners = torch.randint(5, (len(train), 2)).tolist()
    frames = torch.from_numpy(np.stack([place(i, *c) for i, c in zip(train, corners, strict=True)]))
    for batch in torch.randperm(len(train)).split(64):
        labels = torch.from_numpy(train_labels[batch.numpy()])
        loss = nn.functional.cross_entropy(network(frames[batch]), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
network.eval()

# Scales, integer weights and thresholds are chosen on sequences as they will come: here 32 of
# training digits. Rounding and thresholds may add an error of 5 %, and cost 1 % of the answers.
sequences = np.stack([move(image) for image in train[:32]])
conversion = nd.convert(network, sequences, labels=train_labels[:32], target="loihi2")
conversion.write("runs/from_relu/network.net")

# Judged on sequences of digits that neither training nor conversion has seen.
shown = np.stack([move(image) for image in test])
with torch.no_grad():
    exact = network(torch.from_numpy(shown.reshape(-1, 1, 12, 12))).numpy()
exact = exact.reshape(len(test), FRAMES, 10)
results = conversion.run(shown)
accuracy = float(np.mean(exact.argmax(axis=2) == test_labels[:, None]))
converted_accuracy = float(np.mean(results.argmax(axis=2) == test_labels[:, None]))
error = float(np.sqrt(np.mean((results - exact) ** 2)) / exact.std())
print(f"accuracy on {len(test)} sequences, torch: {accuracy:.2%}", end="; ")
print(f"sigma-delta: {converted_accuracy:.2%}; rms error {error:.1%}")

# Counted on 32 of them, in Lava's own time: means of all frames, the first ones included.
values = conversion.stream_of(shown[:32])
np.savez("runs/from_relu/samples.npz", input=values, label=test_labels[:32])
run = nd.count_samples(conversion.graph, values, timing=nd.Stream(), feed=nd.Feed.NEURON)
presets = [nd.EnergyPreset.load("cmos45_int8"), nd.EnergyPreset.load("sram45")]
report = nd.report_counts(conversion.graph, run, presets=presets)
print(f"SOPs a frame: {report.sops_per_sample / FRAMES:,.0f}", end="; ")
print(f"MACs of the ReLU network: {report.ann.macs_border_exact // FRAMES:,}")
unit = 1e3 * FRAMES  # pJ of a sequence to nJ of a frame
for pair in report.tiers:
    ours, twin = pair.network, pair.ann
    print(f"{ours.preset}, a frame: {ours.low / unit:.1f} to {ours.high / unit:.1f} nJ", end="; ")
    print(f"ReLU network {twin.low / unit:.1f} to {twin.high / unit:.1f} nJ")

if LAVA_SEQUENCES:
    sequences = shown[:LAVA_SEQUENCES]
    checked = verify_conversion(conversion, Path("runs/from_relu/network.net"), sequences)
    comparison = checked.comparison
    messages = sum(layer.compared for layer in comparison.layers)
    print(f"real Lava: {comparison.differing} of {messages:,} messages differ")
