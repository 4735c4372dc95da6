"""Compiled neurons and batch norm against the torch operations they stand for."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neurodeploy.nn.functional import dynamics, parallel
from neurodeploy.nn.functional.cuba_loops import CubaConstants
from neurodeploy.nn.functional.dynamics import (
    cuba_spikes,
    lif_spikes,
)
from neurodeploy.nn.functional.surrogate import (
    Exponential,
    Rectangular,
    Surrogate,
    Tanh,
    TanhPrinted,
    Triangular,
    exponentials,
)
from neurodeploy.nn.fused import is_fusable, normalized_spikes
from neurodeploy.nn.neuron import LIF
from neurodeploy.nn.spiking_block import shift_in_time

SURROGATES = (Triangular(0.7), Rectangular(0.8), Tanh(1.1, 2.5), TanhPrinted(), Exponential(0.01))
STEPS = 4


@pytest.fixture
def torch_loops(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let `torch_loops.setattr` turn compiled loops off."""
    return monkeypatch


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def images(steps: int = STEPS, channels: int = 24) -> Tensor:
    z = drawn(steps * 6, channels, 5, 7) * 2 + 0.6
    return z.contiguous(memory_format=torch.channels_last).view(steps, 6, channels, 5, 7)


def norm_of(z: Tensor) -> nn.BatchNorm1d | nn.BatchNorm2d:
    norm = (nn.BatchNorm2d if z.dim() == 5 else nn.BatchNorm1d)(z.shape[2])
    with torch.no_grad():
        norm.weight.copy_(drawn(z.shape[2], seed=3) * 0.1 + 0.5)
        norm.bias.copy_(drawn(z.shape[2], seed=4) * 0.1 + 0.1)
        assert norm.running_mean is not None
        norm.running_mean.copy_(drawn(z.shape[2], seed=5))
    return norm


def in_torch(z: Tensor, norm: nn.Module, neuron: LIF, steps: int, skip: Tensor | None) -> Tensor:
    """What `normalized_spikes` stands for."""
    z = z.expand(steps, *z.shape[1:])
    current = norm(z.flatten(0, 1)).view(z.shape)
    spikes: Tensor = neuron(current if skip is None else current + skip)
    return spikes


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda surrogate: surrogate.name)
@pytest.mark.parametrize("has_skip", [False, True])
@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("kind", ["images", "rows", "static"])
def test_norm_and_neurons_in_one(
    surrogate: Surrogate, has_skip: bool, is_training: bool, kind: str
) -> None:
    """Spikes are equal, gradients and running statistics equal to float32's rounding."""
    z = {"images": images, "rows": lambda: drawn(STEPS, 16, 40), "static": lambda: images(1)}[
        kind
    ]()
    skip = drawn(STEPS, *z.shape[1:], seed=1) * 0.3 if has_skip else None
    upstream = drawn(STEPS, *z.shape[1:], seed=2)
    results = []
    for function in (normalized_spikes, None):
        norm, neuron = norm_of(z).train(is_training), LIF(0.5, 0.25, surrogate)
        assert is_fusable(z, norm, neuron)
        inputs = z.clone().requires_grad_()
        other = None if skip is None else skip.clone().requires_grad_()
        spikes = (
            in_torch(inputs, norm, neuron, STEPS, other)
            if function is None
            else function(inputs, norm, neuron, steps=STEPS, skip=other)
        )
        spikes.backward(upstream)
        results.append((spikes, inputs.grad, norm, None if other is None else other.grad))
    (mine, dz, norm, dskip), (theirs, want_dz, want_norm, want_dskip) = results
    assert torch.equal(mine, theirs)
    assert 0.02 < float(mine.detach().mean()) < 0.9
    close(dz, want_dz)
    if has_skip:
        close(dskip, want_dskip)
    close(norm.weight.grad, want_norm.weight.grad)
    close(norm.bias.grad, want_norm.bias.grad)
    for found, wanted in zip(norm.buffers(), want_norm.buffers(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def close(found: Tensor | None, wanted: Tensor | None) -> None:
    """Sums of some thousand float32 terms, in another order."""
    assert found is not None
    assert wanted is not None
    assert float((found - wanted).abs().max()) <= 3e-6 * float(wanted.abs().max())


def test_the_reset_can_be_left_out_of_the_gradient() -> None:
    z, upstream = images(), drawn(*images().shape, seed=2)
    gradients = []
    for compute in (normalized_spikes, in_torch):
        neuron = LIF(0.5, 0.25, Tanh(), reset_gradient=False)
        inputs = z.clone().requires_grad_()
        if compute is normalized_spikes:
            normalized_spikes(inputs, norm_of(z), neuron).backward(upstream)
        else:
            in_torch(inputs, norm_of(z), neuron, STEPS, None).backward(upstream)
        gradients.append(inputs.grad)
    close(*gradients)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over spans do not depend on who makes them: equal to the bit."""
    monkeypatch.setattr(parallel, "ENOUGH", 1 << 15)
    z = drawn(STEPS * 32, 32, 16, 16).contiguous(memory_format=torch.channels_last)
    z = z.view(STEPS, 32, 32, 16, 16)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            norm, inputs = norm_of(z), z.clone().requires_grad_()
            spikes = normalized_spikes(inputs, norm, LIF(0.5, 0.25, Tanh()))
            spikes.backward(drawn(*z.shape, seed=2))
            results.append((spikes, inputs.grad, norm.weight.grad, norm.running_var))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for mine, theirs in zip(results[0], other, strict=True):
            assert mine is not None
            assert theirs is not None
            assert torch.equal(mine, theirs)


def test_spikes_may_be_changed_in_place() -> None:
    gradients = []
    for is_in_place in (True, False):
        inputs = drawn(STEPS, 16, 40).requires_grad_()
        spikes = normalized_spikes(inputs, norm_of(inputs), LIF(0.5, 0.25, Tanh()))
        (spikes.mul_(0.5) if is_in_place else spikes * 0.5).square().sum().backward()
        gradients.append(inputs.grad)
    assert gradients[0] is not None
    assert gradients[1] is not None
    assert torch.equal(*gradients)


def test_networks_may_run_in_several_threads_at_once() -> None:
    z = images(channels=64)
    wanted = normalized_spikes(z, norm_of(z), LIF(0.5, 0.25, Tanh()))
    found: list[Tensor] = []

    def run() -> None:
        for _ in range(5):
            found.append(normalized_spikes(z, norm_of(z), LIF(0.5, 0.25, Tanh())))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 15
    assert all(torch.equal(spikes, wanted) for spikes in found)


def test_half_precision_sums_are_normalised_in_float32() -> None:
    z = images()
    half = normalized_spikes(z.bfloat16(), norm_of(z), LIF(0.5, 0.25, Tanh()))
    assert half.dtype == torch.float32
    assert torch.equal(
        half, normalized_spikes(z.bfloat16().float(), norm_of(z), LIF(0.5, 0.25, Tanh()))
    )


def test_what_is_not_fused_goes_through_torch() -> None:
    z = images().double()
    norm, neuron = norm_of(z).double(), LIF(0.5, 0.25, Tanh())
    assert not is_fusable(z, norm, neuron)
    assert torch.equal(
        normalized_spikes(z, copy.deepcopy(norm), neuron), in_torch(z, norm, neuron, STEPS, None)
    )


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda surrogate: surrogate.name)
@pytest.mark.parametrize("reset_gradient", [False, True])
def test_compiled_lif_against_torch(
    surrogate: Surrogate, reset_gradient: bool, torch_loops: pytest.MonkeyPatch
) -> None:
    gradients, spikes = [], []
    for is_compiled in (True, False):
        if not is_compiled:
            torch_loops.setattr(dynamics, "is_compilable", lambda _: False)
        inputs = drawn(STEPS, 3000).requires_grad_()
        fired = lif_spikes(
            inputs, tau=0.25, threshold=0.5, surrogate=surrogate, reset_gradient=reset_gradient
        )
        fired.backward(drawn(STEPS, 3000, seed=1))
        gradients.append(inputs.grad)
        spikes.append(fired)
    assert torch.equal(*spikes)
    close(*gradients)


@pytest.mark.parametrize(("steps", "columns"), [(1, 1), (1, 1100), (3, 63), (70, 1225)])
def test_any_number_of_steps_and_columns(
    steps: int, columns: int, torch_loops: pytest.MonkeyPatch
) -> None:
    """Whole vectors and what is left over at the end of a tile, few steps and many."""
    results = []
    for is_compiled in (True, False):
        if not is_compiled:
            torch_loops.setattr(dynamics, "is_compilable", lambda _: False)
        inputs = drawn(steps, columns).requires_grad_()
        fired = lif_spikes(
            inputs, tau=0.7, threshold=0.5, surrogate=Triangular(), reset_gradient=True
        )
        fired.backward(drawn(steps, columns, seed=1))
        results.append((fired, inputs.grad))
    assert torch.equal(results[0][0], results[1][0])
    close(results[0][1], results[1][1])


@pytest.mark.parametrize("is_graded", [False, True])
@pytest.mark.parametrize("scale", [4096, 6400])
@pytest.mark.parametrize("columns", [1, 2500])
def test_compiled_cuba_against_torch(
    is_graded: bool, scale: int, columns: int, torch_loops: pytest.MonkeyPatch
) -> None:
    """States, spikes and voltages to the bit, from any state and for decays of their own."""
    constants = CubaConstants(
        state_scale=scale,
        level=scale * 3 // 4,
        threshold=0.75,
        margin=0.01 / scale,
        surrogate=Exponential(0.02, 5.0),
        is_graded=is_graded,
    )
    decays = [(drawn(columns, seed=seed).abs() * 1000).clamp(max=4096) for seed in (5, 6)]
    states = [(drawn(2500, seed=seed) * 3000).to(torch.int32) for seed in (7, 8)]
    results = []
    for is_compiled in (True, False):
        if not is_compiled:
            torch_loops.setattr(dynamics, "is_compilable", lambda _: False)
        inputs = drawn(6, 2500).requires_grad_()
        spikes, current, voltage = cuba_spikes(
            inputs, *decays, constants, current=states[0], voltage=states[1]
        )
        spikes.backward(drawn(6, 2500, seed=9))
        results.append((spikes, current, voltage, inputs.grad))
    assert all(torch.equal(*pair) for pair in list(zip(*results, strict=True))[:3])
    close(results[0][3], results[1][3])


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("learns_decay", [False, True])
def test_late_spikes_are_those_shifted_by_a_step(
    steps: int, is_compiled: bool, learns_decay: bool, torch_loops: pytest.MonkeyPatch
) -> None:
    """Spikes, last states and gradients, to the bit."""
    if not is_compiled:
        torch_loops.setattr(dynamics, "is_compilable", lambda _: False)
    constants = CubaConstants(
        state_scale=4096, level=3072, threshold=0.75, margin=0.0, surrogate=Exponential(0.02, 5.0)
    )
    results = []
    for is_late in (True, False):
        leaves = [drawn(steps, 1100), torch.tensor([900.0]), torch.tensor([400.0])]
        for leaf in leaves[: 3 if learns_decay else 1]:
            leaf.requires_grad_()
        spikes, current, voltage = cuba_spikes(*leaves, constants, is_late=is_late)
        sent = spikes if is_late else shift_in_time(spikes)
        sent.backward(drawn(steps, 1100, seed=9))
        results.append((sent, current, voltage, *(leaf.grad for leaf in leaves)))
    for found, wanted in zip(*results, strict=True):
        assert (found is None) == (wanted is None)
        assert found is None or torch.equal(found, wanted)


def test_the_exponential() -> None:
    values = np.linspace(-87, 0, 100_001, dtype=np.float32)
    found = values.copy()
    exponentials(found, np.empty(found.shape, np.int32))
    wanted = np.exp(values.astype(np.float64))
    assert float(np.abs(found / wanted - 1).max()) < 2.5e-7
    small = np.array([-1e30, -1000, -88], np.float32)
    exponentials(small, np.empty(3, np.int32))
    assert float(small.max()) < 1e-38
