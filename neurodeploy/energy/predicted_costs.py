"""Costs of a frame before anything is deployed: sigma-delta, spiking, and the ordinary network.

The sizes of a chain bound the operations of a frame: a neuron sends one message a frame at most.
How many send is a share, measured on frames or assumed as a range; all that follows is a range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from neurodeploy.counting.fan_out import FanOut, synapse_fan_out
from neurodeploy.energy.estimates import DEFAULT_PRESET, Energy, ann_energy, estimate_energy
from neurodeploy.energy.formulas import LayerAccesses, Operations
from neurodeploy.energy.presets import EnergyPreset
from neurodeploy.ir.graphs import AnnMacs, FixedPointGraph
from neurodeploy.ir.integer_layers import FixedConv, FixedInjection, NeuronModel

MEMORY_PRESET = "sram45"
CHIP_PRESETS = ("loihi1_davies2018", "loihi1_sanafe")


class Interval(NamedTuple):
    """A range of values."""

    low: float
    high: float

    def scaled(self, factor: float) -> Interval:
        """Return it times a number."""
        return Interval(self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameEnergy:
    """Energy of one frame in pJ.

    Attributes:
        arithmetic: Additions and multiplications alone, in int8.
        memory: With memory accesses: packed bits, and a whole word an access; of an ordinary
            network, weights read once, and at every use.
        packed: The value between them that is charged packed bits.
    """

    arithmetic: float
    memory: Interval
    packed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkLoad:
    """Sizes of a sigma-delta network: its accesses if every neuron sends.

    Attributes:
        layers: One entry a layer, the input block first.
        is_conv: Whether each is a convolution, which a chip stores in another way.
    """

    layers: tuple[LayerAccesses, ...]
    is_conv: tuple[bool, ...]

    @property
    def neurons(self) -> int:
        """Neurons, each updated for every frame, changed or not."""
        return sum(layer.neurons for layer in self.layers)

    @property
    def most_sops(self) -> float:
        """Synaptic operations of a frame in which every neuron sends: there cannot be more."""
        return sum(layer.sops for layer in self.layers)

    def operations(self, shares: float | Sequence[float]) -> Operations:
        """Return the operations of a frame, for a share of all synapses or one for each layer."""
        each = [shares] * len(self.layers) if isinstance(shares, int | float) else list(shares)
        accesses = tuple(
            replace(layer, sops=layer.sops * share, events=layer.events * share)
            for layer, share in zip(self.layers, each, strict=True)
        )
        conv = sum(
            layer.sops for layer, is_conv in zip(accesses, self.is_conv, strict=True) if is_conv
        )
        events = sum(layer.events for layer in accesses)
        return Operations(
            steps=1,
            sops_mac=sum(layer.sops for layer in accesses),
            sops_conv=conv,
            updates={NeuronModel.SIGMA_DELTA: self.neurons},
            spikes=events,
            messages=events,
            accesses=accesses,
        )

    def energy(self, shares: float | Sequence[float]) -> FrameEnergy:
        """Return the energy of a frame."""
        return _energy_of(self.operations(shares))

    def chip_energy(self, shares: float | Sequence[float]) -> Interval:
        """Return the dynamic energy of a frame by the published figures of Loihi 1, pJ."""
        found = [
            estimate_energy(self.operations(shares), EnergyPreset.load(name)).nominal
            for name in CHIP_PRESETS
        ]
        return Interval(min(found), max(found))


def load_of_graph(graph: FixedPointGraph) -> NetworkLoad:
    """Return the sizes of a converted network."""
    layers, is_conv = [], []
    for layer in graph:
        (connection,) = layer.connections
        if isinstance(connection.synapse, FixedInjection):
            layers.append(input_load(layer.neurons))
        else:
            fan_out = synapse_fan_out(connection.synapse, graph.shape_of(connection.source))
            layers.append(layer_load(fan_out, layer.neurons))
        is_conv.append(isinstance(connection.synapse, FixedConv))
    return NetworkLoad(layers=tuple(layers), is_conv=tuple(is_conv))


def input_load(neurons: int) -> LayerAccesses:
    """Return the sizes of an input block, which has no synapses."""
    return LayerAccesses(
        sops=0,
        weights=0,
        events=0,
        source_neurons=1,
        neurons=neurons,
        updates=neurons,
        states=NeuronModel.SIGMA_DELTA.states,
    )


def layer_load(fan_out: FanOut, neurons: int) -> LayerAccesses:
    """Return the sizes of a layer that reads neurons with some fan-outs."""
    sources = int((fan_out.nonzero > 0).sum())
    return LayerAccesses(
        sops=int(fan_out.nonzero.sum()),
        weights=fan_out.weights,
        events=sources,
        source_neurons=max(1, sources),
        neurons=neurons,
        updates=neurons,
        states=NeuronModel.SIGMA_DELTA.states,
    )


def spiking_energy(macs: AnnMacs, steps: float, rate: float) -> tuple[float, FrameEnergy]:
    """Return the operations and the energy of a frame shown to LIF neurons for some steps.

    Args:
        macs: Of the ordinary network, whose layers it has.
        steps: Steps that a frame is shown for.
        rate: Share of neurons that spike in a step.
    """
    share = steps * rate
    accesses = tuple(
        LayerAccesses(
            sops=share * (row.macs_border_exact if row.macs_nonzero is None else row.macs_nonzero),
            weights=row.weights,
            events=share * row.inputs,
            source_neurons=row.inputs,
            neurons=row.outputs,
            updates=steps * row.outputs,
            states=NeuronModel.CUBA.states,
        )
        for row in macs.layers
    )
    sops = sum(layer.sops for layer in accesses)
    operations = Operations(
        steps=round(steps),
        sops_ac=sops,
        updates={NeuronModel.CUBA: sum(layer.updates for layer in accesses)},
        spikes=sum(layer.events for layer in accesses),
        accesses=accesses,
    )
    return sops, _energy_of(operations)


def ordinary_energy(macs: AnnMacs) -> FrameEnergy:
    """Return the energy of one pass of an ordinary network in int8."""
    arithmetic, memory = _presets()
    plain = ann_energy(macs, arithmetic)
    whole = ann_energy(macs, memory, arithmetic=arithmetic)
    assert plain is not None
    assert whole is not None
    return _joined(plain, whole)


@cache
def _presets() -> tuple[EnergyPreset, EnergyPreset]:
    return EnergyPreset.load(DEFAULT_PRESET), EnergyPreset.load(MEMORY_PRESET)


def _energy_of(operations: Operations) -> FrameEnergy:
    arithmetic, memory = _presets()
    plain = estimate_energy(operations, arithmetic)
    return _joined(plain, estimate_energy(operations, memory, arithmetic=arithmetic))


def _joined(plain: Energy, whole: Energy) -> FrameEnergy:
    return FrameEnergy(
        arithmetic=plain.nominal,
        memory=Interval(whole.low, whole.high),
        packed=whole.nominal,
    )
