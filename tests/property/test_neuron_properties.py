"""Neurons on arbitrary integers: against Python's unbounded ones, and against themselves."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings, strategies as st

from neurodeploy import fixedpoint
from neurodeploy.ir import CubaNeuron
from neurodeploy.nn import CubaLIF
from neurodeploy.nn.functional.dynamics import cuba_step, decay_towards_zero, reset
from neurodeploy.simulation.neurons import LifDynamics

STATES = st.integers(-(2**31) + 1, 2**31 - 1)
DECAYS = st.integers(0, 4096)
NAMES = ("current_decay", "voltage_decay", "threshold")
LOADS = st.lists(st.integers(-9000, 9000), min_size=1, max_size=30)


@given(states=st.lists(STATES, min_size=1, max_size=20), decay=DECAYS)
def test_int32_decay_is_exact(states, decay) -> None:
    """No product overflows for any int32 state; a shared and a per-neuron decay agree."""
    keep = 4096 - decay
    expected = [int(math.copysign(abs(state) * keep // 4096, state)) for state in states]
    tensor = torch.tensor(states, dtype=torch.int32)
    assert decay_towards_zero(tensor, keep).tolist() == expected
    by_neuron = torch.full_like(tensor, keep)
    assert decay_towards_zero(tensor, by_neuron).tolist() == expected
    assert fixedpoint.decay(np.array(states), decay).tolist() == expected


@given(
    loads=LOADS,
    current_decay=DECAYS,
    voltage_decay=DECAYS,
    threshold=st.integers(1, 300),
)
def test_neuron_equals_unbounded_integers(loads, current_decay, voltage_decay, threshold) -> None:
    """Spikes and voltages of one neuron for integer loads (multiples of 1/4096)."""
    u = v = 0
    voltages, spikes = [], []
    for load in loads:
        u = int(math.copysign(abs(u) * (4096 - current_decay) // 4096, u)) + load
        v = int(math.copysign(abs(v) * (4096 - voltage_decay) // 4096, v)) + u
        voltages.append(v)
        spikes.append(int(v > threshold * 64))
        v = 0 if spikes[-1] else v
    neuron = CubaLIF(threshold / 64, current_decay / 4096, voltage_decay / 4096)
    x = (torch.tensor(loads) / 4096).reshape(-1, 1, 1)
    assert neuron(x).flatten().tolist() == spikes
    assert (neuron.dynamics(x)[1] * 4096).flatten().tolist() == voltages


@given(
    loads=LOADS,
    current_decay=DECAYS,
    voltage_decay=DECAYS,
    threshold=st.integers(1, 300),
)
def test_training_takes_the_steps_of_the_definition(
    loads, current_decay, voltage_decay, threshold
) -> None:
    """`dynamics.cuba_step` equals `LifDynamics` in every state while neither wraps nor clips."""
    parameters = (np.array(value, np.int32) for value in (current_decay, voltage_decay, threshold))
    neuron = CubaNeuron(**dict(zip(NAMES, parameters, strict=True)))
    defined = LifDynamics(neuron, np.array(0, np.int32), (1,))
    current = voltage = torch.zeros(1, dtype=torch.int32)
    for load in loads:
        arriving = fixedpoint.scale_up(np.array([load // 64]))
        current, voltage, spikes = cuba_step(
            current,
            voltage,
            torch.from_numpy(arriving).int(),
            current_keep=4096 - current_decay,
            voltage_keep=4096 - voltage_decay,
            level=threshold << 6,
            scale=4096,
        )
        assert defined.integrate(np.array([load // 64])).tolist() == voltage.tolist()
        assert defined.states()["current"].tolist() == current.tolist()
        assert defined.fire().tolist() == spikes.tolist()
        voltage = reset(voltage, spikes)
    assert defined.health().current_wraps == defined.health().voltage_clips == 0


@given(loads=LOADS, cut=st.integers(0, 30), current_decay=DECAYS, voltage_decay=DECAYS)
def test_running_in_pieces_equals_running_as_a_whole(
    loads, cut, current_decay, voltage_decay
) -> None:
    arguments = (1.0, current_decay / 4096, voltage_decay / 4096)
    x = (torch.tensor(loads) / 4096).reshape(-1, 1, 1)
    pieces = CubaLIF(*arguments, persistent_state=True)
    joined = [pieces(piece) for piece in (x[:cut], x[cut:]) if len(piece)]
    assert torch.equal(torch.cat(joined), CubaLIF(*arguments)(x))


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 12), decay=st.floats(0, 1))
def test_the_future_does_not_reach_the_past(seed, steps, decay) -> None:
    """Spikes depend on earlier inputs only; gradients reach earlier inputs only."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(steps, 2, 3, generator=generator)
    step = int(torch.randint(steps, (), generator=generator))
    neuron = CubaLIF(0.5, decay, decay)
    changed = x.clone()
    changed[step] += 5.0
    assert torch.equal(neuron(x)[:step], neuron(changed)[:step])
    x.requires_grad_()
    neuron(x)[step].sum().backward()
    assert x.grad[step + 1 :].abs().sum() == 0
    assert (x.grad[step] > 0).all()


@given(u=STATES.map(lambda n: n // 4), v=STATES.map(lambda n: n // 4), x=st.integers(-99, 99))
def test_full_decay_forgets(u, v, x) -> None:
    """With both decays 4096 a step depends on its input alone."""
    states = [torch.tensor([n], dtype=torch.int32) for n in (u, v, x)]
    current, voltage, spikes = cuba_step(
        *states, current_keep=0, voltage_keep=0, level=50, scale=4096
    )
    assert (current.item(), voltage.item(), spikes.item()) == (x, x, x > 50)
