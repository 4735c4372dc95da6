"""A convolutional network trained in norse: deployed, run on real Lava, and counted."""

import norse.torch as norse
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import neurodeploy as nd

EPOCHS = 20
STEPS = 4
LAVA_SAMPLES = 32  # 0 without the runtime that `neurodeploy lava install` makes

# Pixels 0 to 16, the same at every step: integers, as a chip reads them.
torch.manual_seed(0)
torch.set_num_threads(1)  # layers this small lose time with more
digits = load_digits()
samples = np.repeat(digits.images.astype(np.uint8)[:, None, None], STEPS, axis=1)
train, test, train_labels, test_labels = train_test_split(
    samples, digits.target, test_size=360, stratify=digits.target, random_state=0
)

# Exact on the chip, because v_reset equals v_leak: both are 0 by default.
neuron = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(300.0), alpha=torch.tensor(10.0))
network = norse.SequentialState(
    nn.Conv2d(1, 8, 3, padding=1),
    norse.LIFBoxCell(neuron),
    nn.Conv2d(8, 32, 3, stride=2, padding=1),
    norse.LIFBoxCell(neuron),
    nn.Flatten(),
    nn.Linear(512, 10),
    norse.LIBoxCell(),
)


def last_voltage(inputs: np.ndarray) -> torch.Tensor:
    """Run norse on (samples, T, ...); the class is the read-out with the largest voltage."""
    state = None
    for step in torch.from_numpy(inputs).float().unbind(1):
        voltage, state = network(step, state)
    return voltage


optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
for _ in range(EPOCHS):
    for batch in torch.randperm(len(train)).split(64):
        labels = torch.from_numpy(train_labels[batch.numpy()])
        loss = nn.functional.cross_entropy(last_voltage(train[batch.numpy()]), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

network.eval()
with torch.no_grad():
    accuracy = float(np.mean(last_voltage(test).argmax(1).numpy() == test_labels))

# One call: import, quantize, write, read back, run. It raises if norse and float64, the integers
# and the file, or the file and real Lava differ in a spike where they must not.
result = nd.deploy(network, test, test_labels, out="runs/from_norse", lava_samples=LAVA_SAMPLES)
inputs = np.load(result.samples)["input"]
recording = nd.EventSimulator(result.graph).run(inputs)
scores = recording.voltage[:, -1].reshape(-1, 10)
print(f"accuracy of {len(test)} images, norse: {accuracy:.2%}")
print(result.describe())
if LAVA_SAMPLES:
    is_right = scores[:LAVA_SAMPLES].argmax(axis=1) == test_labels[:LAVA_SAMPLES]
    print(f"accuracy of the {LAVA_SAMPLES} images that real Lava ran: {is_right.mean():.2%}")

presets = [nd.EnergyPreset.load("cmos45_int8"), nd.EnergyPreset.load("sram45")]
report = nd.report(result.graph, inputs, recording, presets=presets)
print(f"SOPs a sample: {report.sops_per_sample:,.0f}", end="; ")
print(f"MACs of the ReLU twin: {report.ann.macs_border_exact:,}")
for pair in report.tiers:
    ours, twin = pair.network, pair.ann
    print(f"{ours.preset}: {ours.low / 1e3:.1f} to {ours.high / 1e3:.1f} nJ", end="; ")
    print(f"ReLU twin {twin.low / 1e3:.1f} to {twin.high / 1e3:.1f} nJ")
