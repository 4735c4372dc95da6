"""Small networks of other frameworks, trained on scikit-learn's digits for the zoo.

norse and snnTorch have scripts of their own in `examples/`, which the zoo runs. Each function
here returns a trained network, its test samples (samples, T, ...) and their labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

Samples = tuple[np.ndarray, np.ndarray]
Trained = tuple[nn.Module, np.ndarray, np.ndarray]


def split(samples: np.ndarray) -> tuple[Samples, Samples]:
    """Return samples and labels of the training part and of the test part."""
    train, test, train_labels, test_labels = train_test_split(
        samples, load_digits().target, test_size=0.2, stratify=load_digits().target, random_state=0
    )
    return (train, train_labels), (test, test_labels)


def train(
    network: nn.Module,
    scores_of: Callable[[torch.Tensor], torch.Tensor],
    samples: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int,
    learning_rate: float,
) -> None:
    """Train with Adam and a cosine schedule on scores (batch, classes) of (batch, T, ...)."""
    inputs, targets = torch.from_numpy(samples).float(), torch.from_numpy(labels)
    parameters = nn.Module.parameters(network)  # Rockpool's own `parameters` gives names
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    network.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).split(64):
            loss = nn.functional.cross_entropy(scores_of(inputs[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    network.eval()


def train_spikingjelly() -> tuple[Trained, float]:
    """Train two convolutions with batch norm in SpikingJelly; the read-out adds up its input."""
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    torch.manual_seed(0)
    images = load_digits().images.astype(np.uint8)[:, None, None]
    (samples, labels), (test, test_labels) = split(np.repeat(images, 4, axis=1))
    network = nn.Sequential(
        layer.Conv2d(1, 8, 3, padding=1, bias=False),
        layer.BatchNorm2d(8),
        neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan()),
        layer.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
        layer.BatchNorm2d(16),
        neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan()),
        layer.Flatten(),
        layer.Linear(256, 10, bias=False),
    )
    functional.set_step_mode(network, "m")

    def scores_of(inputs: torch.Tensor) -> torch.Tensor:
        functional.reset_net(network)
        return network(inputs.movedim(1, 0)).sum(0)

    train(network, scores_of, samples, labels, epochs=15, learning_rate=4e-3)
    return (network, test, test_labels), measure(scores_of, test, test_labels)


def train_sinabs() -> tuple[Trained, float]:
    """Train recurrent neurons in sinabs that read an image row by row; most spikes win."""
    from sinabs.activation import MembraneReset, SingleExponential, SingleSpike
    from sinabs.layers import LIF, LIFRecurrent

    torch.manual_seed(0)
    (samples, labels), (test, test_labels) = split(load_digits().images.astype(np.uint8))
    options = {
        "spike_fn": SingleSpike,
        "reset_fn": MembraneReset(),
        "surrogate_grad_fn": SingleExponential(),
        "norm_input": False,
    }
    recurrent = nn.Linear(128, 128, bias=False)
    nn.init.normal_(recurrent.weight, std=0.05)
    network = nn.Sequential(
        nn.Linear(8, 128),
        LIFRecurrent(tau_mem=6.0, rec_connect=recurrent, **options),
        nn.Linear(128, 10),
        LIF(tau_mem=10.0, **options),
    )
    nn.init.normal_(network[0].weight, std=0.1)

    def scores_of(inputs: torch.Tensor) -> torch.Tensor:
        for part in network:
            if isinstance(part, LIF):
                part.reset_states()
        return network(inputs).sum(1)

    train(network, scores_of, samples, labels, epochs=50, learning_rate=4e-3)
    return (network, test, test_labels), measure(scores_of, test, test_labels)


def train_rockpool() -> tuple[Trained, Samples, float]:
    """Train neurons in Rockpool, whose reset subtracts; the read-out is an exponential filter.

    Also returns the training part, to train further on in integers.
    """
    from rockpool.nn.combinators import Sequential
    from rockpool.nn.modules import ExpSynTorch, LIFTorch, LinearTorch
    from rockpool.parameters import Constant

    torch.manual_seed(0)
    images = load_digits().images.astype(np.uint8).reshape(-1, 1, 64)
    (samples, labels), (test, test_labels) = split(np.repeat(images, 6, axis=1))
    fixed = {"tau_mem": 3e-3, "tau_syn": 1e-3, "threshold": 1.0, "bias": 0.0}
    constants = {name: Constant(value) for name, value in fixed.items()}
    network = Sequential(
        LinearTorch((64, 64), has_bias=False),
        LIFTorch(64, dt=1e-3, max_spikes_per_dt=1, **constants),
        LinearTorch((64, 10), has_bias=False),
        ExpSynTorch(10, tau=Constant(8e-3), dt=1e-3),
    )
    with torch.no_grad():
        network[0].weight.mul_(0.15)  # for inputs of up to 16

    def scores_of(inputs: torch.Tensor) -> torch.Tensor:
        network.reset_state()
        return network(inputs)[0][:, -1]

    train(network, scores_of, samples, labels, epochs=25, learning_rate=4e-3)
    accuracy = measure(scores_of, test, test_labels)
    return (network, test, test_labels), (samples, labels), accuracy


def measure(
    scores_of: Callable[[torch.Tensor], torch.Tensor], samples: np.ndarray, labels: np.ndarray
) -> float:
    """Return the accuracy in the framework."""
    with torch.no_grad():
        scores = scores_of(torch.from_numpy(samples).float())
    return float(np.mean(scores.argmax(1).numpy() == labels))
