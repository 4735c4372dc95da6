"""A convolutional network trained in snnTorch: deployed, run on real Lava, and counted."""

import numpy as np
import snntorch as snn
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from snntorch import functional, spikegen, surrogate, utils
from torch import nn

import neurodeploy as nd

EPOCHS = 25
STEPS = 10
FINE_TUNE_EPOCHS = 6
LAVA_SAMPLES = 32  # 0 without the runtime that `neurodeploy lava install` makes

# Rate coding: a pixel spikes with a probability that is its brightness. Spikes are 0 and 1.
torch.manual_seed(0)
torch.set_num_threads(1)  # layers this small lose time with more
digits = load_digits()
pixels = torch.from_numpy(digits.images / 16).float().unsqueeze(1)
samples = spikegen.rate(pixels, num_steps=STEPS).movedim(0, 1)  # (samples, T, 1, 8, 8)
train, test, train_labels, test_labels = train_test_split(
    samples, digits.target, test_size=360, stratify=digits.target, random_state=0
)


def leaky() -> nn.Module:
    """Return neurons that are exact on the chip: snnTorch's default reset subtracts instead."""
    gradient = surrogate.fast_sigmoid(slope=10)
    return snn.Leaky(0.8, reset_mechanism="zero", init_hidden=True, spike_grad=gradient)


network = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1),
    leaky(),
    nn.Conv2d(8, 32, 3, stride=2, padding=1),
    leaky(),
    nn.Flatten(),
    nn.Linear(512, 10),
    leaky(),
)


def spikes_of(inputs: torch.Tensor) -> torch.Tensor:
    """Run snnTorch on (samples, T, ...); the class is the last neuron with the most spikes."""
    utils.reset(network)
    return torch.stack([network(step) for step in inputs.unbind(1)])


optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
loss_of = functional.ce_count_loss()
for _ in range(EPOCHS):
    for batch in torch.randperm(len(train)).split(64):
        loss = loss_of(spikes_of(train[batch]), torch.from_numpy(train_labels)[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

network.eval()
with torch.no_grad():
    accuracy = float(functional.accuracy_rate(spikes_of(test), torch.from_numpy(test_labels)))

# One call: import, quantize, write, read back, run. It raises if snnTorch and float64, the integers
# and the file, or the file and real Lava differ in a spike where they must not.
result = nd.deploy(network, test, test_labels, out="runs/from_snntorch", lava_samples=LAVA_SAMPLES)
inputs = np.load(result.samples)["input"]
recording = nd.EventSimulator(result.graph).run(inputs)
scores = recording.spikes_of(-1).reshape(-1, STEPS, 10).sum(axis=1)
print(f"accuracy of {len(test)} images, snnTorch: {accuracy:.2%}")
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

# Weights of 4 bits lose accuracy; training on in the chip's own integers wins it back.
tuning = nd.FineTuning(epochs=FINE_TUNE_EPOCHS, learning_rate=5e-3)
narrow = nd.deploy(
    network, train, train_labels, out="runs/from_snntorch_4_bits", weight_bits=4, fine_tune=tuning
)
for stage, graph in (("quantized", narrow.calibration.graph), ("deployed", narrow.graph)):
    spikes = nd.EventSimulator(graph).run(inputs).spikes_of(-1).reshape(-1, STEPS, 10)
    is_right = spikes.sum(axis=1).argmax(axis=1) == test_labels
    print(f"accuracy with 4-bit weights, {stage}: {is_right.mean():.2%}")
