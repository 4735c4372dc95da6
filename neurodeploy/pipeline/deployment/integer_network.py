"""A network that trains in the chip's integers: backward, surrogates stand for its spikes.

The forward pass *is* the integer arithmetic of `neurodeploy.simulation`: the same rounded
weights, the same wraps, the same neurons, so the spikes that training sees are those that the
deployed file makes. Rounding, wrapping and clipping count as identity in the backward pass
(straight-through), the spike as the surrogate.

Weights are kept in float units; the integers of a population with scale s are
round(W · s / 2) · 2 for weights and round(b · s) for biases, as `neurodeploy.passes.quantization`
makes them.

A channel that fires at every step, to carry biases through decaying currents, keeps its incoming
weights at zero and its own bias; the weights that read it are those biases, and train.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurodeploy.chips.target import Target
from neurodeploy.errors import DataError, QuantizationError, TraceError
from neurodeploy.fixedpoint import (
    CURRENT_LIMIT,
    DECAY_UNITY,
    STATE_EXPONENT,
    FloatArray,
    Int64Array,
    round_half_even,
    round_to_even_integer,
    wrap,
)
from neurodeploy.ir.float_layers import Conv, Cuba, Dense, Integrator, Layer
from neurodeploy.ir.graphs import INPUT, FixedPointGraph, Graph
from neurodeploy.ir.integer_layers import CubaNeuron, FixedLayer
from neurodeploy.nn.functional.surrogate import Surrogate, Triangular
from neurodeploy.passes import Carried
from neurodeploy.passes.quantization import Population, Scales, find_populations, quantize
from neurodeploy.simulation.neurons import LifDynamics

_EXACT_FLOAT32 = float(1 << 24)


class IntegerNetwork(nn.Module):
    """A trainable network whose forward pass is the deployed network's, spike for spike.

    Made from a float graph and the scales of its quantization; gives the fine-tuned integers
    back with `to_fixed_point`.
    """

    def __init__(
        self,
        graph: Graph,
        target: Target,
        scales: Scales,
        *,
        steps: int,
        surrogate: Surrogate | None = None,
        carried: Carried | None = None,
    ) -> None:
        """Take over the weights of `graph`.

        Args:
            graph: Float graph, batch norm and pooling folded.
            target: The chip.
            scales: Integer units per float unit, by population.
            steps: T.
            surrogate: Stands in for the derivative of the spike. None: a triangle of area 1 from
                0 to twice the threshold of each population, whatever unit its weights have.
            carried: How biases pass through decaying currents in `graph`; None if none do.

        Raises:
            QuantizationError: If the graph cannot be quantized with these scales.
        """
        super().__init__()
        late = [b.node for p in find_populations(graph) for b in p.branches if b.delay is not None]
        if late:
            raise QuantizationError(
                f"{', '.join(late)}: reads delayed spikes, which are not trained in integers. "
                "Leave the fine-tune out."
            )
        fixed = quantize(graph, target, steps=steps, scales=scales)
        graph = _hold_thresholds(_separate_synapses(graph), fixed, scales)
        self._graph, self._target, self._steps = graph, target, steps
        self._scales = dict(scales)
        self.input_shape = fixed.input.shape
        self.classes = prod(fixed.layers[-1].shape)
        self._largest_input = graph.input.largest
        self.populations = nn.ModuleList(
            _TrainablePopulation(
                population, layer, scales[population.name], target, surrogate, carried
            )
            for population, layer in zip(find_populations(graph), fixed, strict=True)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Run integer samples.

        Args:
            inputs: (samples, T, C, H, W) or (samples, T, N), whole numbers of any dtype; or
                without the T axis, for images that stay the same in every step.

        Returns:
            (samples, T, classes) float32, whose mean over the steps is the score of each class.
            Of a read-out that sums: its input at each step, in the units of the float network's
            class scores. Of a last layer that spikes: T times its spikes, so that the mean is
            their number. Of a leaky read-out: its last voltage alone, as if T were 1.
        """
        return self._run(inputs)[0]

    def forward_with_spikes(self, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the class scores of `forward`, and every spiking layer's spikes by name.

        Returns:
            (samples, T, classes) float32, and (samples, T, ...) float32 of 0 and 1.
        """
        return self._run(inputs)

    def _run(self, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        shape = self.input_shape
        if inputs.shape[1:] == shape:
            inputs = inputs.unsqueeze(1)
        elif inputs.shape[1:] != (self._steps, *shape):
            raise DataError(
                f"input: shape {tuple(inputs.shape)}, (samples, {self._steps}, "
                f"{', '.join(map(str, shape))}) is required; the axis of steps may be left out."
            )
        # A static image is kept as one step: its first synapse is computed once for all T.
        known: dict[str, Tensor] = {INPUT: inputs.transpose(0, 1).to(torch.float32)}
        for module in self.populations:
            assert isinstance(module, _TrainablePopulation)
            current = module.current(known, largest_input=self._largest_input)
            current = current.expand(self._steps, *current.shape[1:])
            if module.is_sum:
                # Integers in, float class scores out: the scale of the last layer is a constant.
                scores = (current + module.integer_bias()) / module.scale
                continue
            spikes, potentials = module.integrate(current)
            if module.is_readout:
                scores = potentials[-1:]
            else:
                known[module.name] = spikes
                scores = spikes * self._steps
        del known[INPUT]
        return scores.flatten(2).transpose(0, 1), {
            name: spikes.transpose(0, 1) for name, spikes in known.items()
        }

    def to_graph(self) -> Graph:
        """Return the float graph with the weights as they are now.

        Quantizing it with the same scales gives `to_fixed_point()`.
        """
        nodes: dict[str, Layer] = dict(self._graph.nodes)
        for module in self.populations:
            assert isinstance(module, _TrainablePopulation)
            nodes.update(module.to_layers())
        return Graph(nodes=nodes, edges=self._graph.edges)

    def to_fixed_point(self) -> FixedPointGraph:
        """Return the integer network that the forward pass computes.

        Raises:
            QuantizationError: If training drove a whole layer to zero or to one sign.
        """
        return quantize(self.to_graph(), self._target, steps=self._steps, scales=self._scales)


class _TrainablePopulation(nn.Module):
    """One population: float weights as parameters, integer dynamics."""

    def __init__(
        self,
        population: Population,
        layer: FixedLayer,
        scale: float,
        target: Target,
        surrogate: Surrogate | None,
        carried: Carried | None,
    ) -> None:
        super().__init__()
        self.name, self.scale = population.name, scale
        neuron = layer.neuron
        if not isinstance(neuron, CubaNeuron):
            raise TraceError(
                f"{self.name}: {neuron.label} neurons, of which no gradient is known here; LIF "
                "neurons can be fine-tuned. Set quantization.fine_tune_epochs = 0."
            )
        assert isinstance(population.neuron, Cuba | Integrator)
        self._neuron = population.neuron
        self.is_readout = isinstance(population.neuron, Integrator)
        keeps_current = neuron.current_decay != DECAY_UNITY
        self.is_sum = self.is_readout and not np.any(keeps_current | (neuron.voltage_decay != 0))
        self._branches = population.branches
        self._limits = (float(target.weight_min), float(target.weight_max))
        self._bias_limit = float(target.bias_max)
        self._shape = layer.shape
        self.weights = nn.ParameterList(
            nn.Parameter(
                torch.from_numpy(branch.layer.weight.astype(np.float32)),
                requires_grad=not branch.is_identity,
            )
            for branch in population.branches
        )
        self.bias = nn.Parameter(torch.from_numpy(population.bias.astype(np.float32)))
        self._kept: dict[int | str, tuple[Tensor, Tensor]] = {}
        if carried is not None:
            self._keep(carried)
        threshold = max(float(neuron.threshold), 1.0) / scale
        if surrogate is None:
            surrogate = Triangular(height=1 / threshold)
        self._model = _DifferentiableNeuron(
            neuron=neuron, scale=scale, threshold=threshold, surrogate=surrogate
        )

    def _keep(self, carried: Carried) -> None:
        """Keep what carries biases as it is, whatever an optimizer does to the parameters."""
        for index, branch in enumerate(self._branches):
            if branch.node in carried.trainable:
                mask = torch.from_numpy(carried.trainable[branch.node])
                self._kept[index] = mask, self.weights[index].detach().clone()
        own = carried.channels[self.name]
        if own < len(self.bias):
            mask = torch.ones_like(self.bias, dtype=torch.bool)
            mask[own:] = False
            self._kept["bias"] = mask, self.bias.detach().clone()

    def _trained(self, key: int | str, parameter: Tensor) -> Tensor:
        """Return a parameter with the values that stay; no gradient reaches what they replace."""
        if key not in self._kept:
            return parameter
        mask, kept = self._kept[key]
        return torch.where(mask, parameter, kept)

    def current(self, known: Mapping[str, Tensor], *, largest_input: int) -> Tensor:
        """Sum over the synapses of others: (T, samples, ...) float32 holding integers."""
        total: Tensor | None = None
        for index, branch in enumerate(self._branches):
            if branch.source == self.name:
                continue
            integers = self._integers(index)
            largest = largest_input if branch.source == INPUT else 1
            reach = integers.detach().abs().flatten(1).sum(1).max() * largest
            dtype = torch.float32 if float(reach) < _EXACT_FLOAT32 else torch.float64
            sent = _apply_layer(branch.layer, known[branch.source].to(dtype), integers.to(dtype))
            if isinstance(branch.layer, Conv) and float(reach) >= CURRENT_LIMIT:
                sent = _Wrap24.apply(sent)
            total = sent if total is None else total + sent
        assert total is not None
        return total.reshape(*total.shape[:2], *self._shape)

    def _integers(self, index: int) -> Tensor:
        """Return the weights of a synapse as integers."""
        rounded: Tensor = _Round.apply(
            self._trained(index, self.weights[index]),
            self.scale * self._branches[index].unit,
            round_to_even_integer,
            *self._limits,
        )
        return rounded

    def integer_bias(self) -> Tensor:
        """round(b · s), shaped to broadcast over the layer."""
        limit = self._bias_limit
        bias = self._trained("bias", self.bias)
        rounded: Tensor = _Round.apply(bias, self.scale, round_half_even, -limit, limit)
        if rounded.ndim > 1:
            return rounded
        return rounded.reshape(-1, *(1,) * (len(self._shape) - 1))

    def integrate(self, current: Tensor) -> tuple[Tensor, Tensor]:
        """Return spikes and potentials in float units for the arriving integers.

        Both are (T, samples, ...) float32; the potentials are those before a spike resets them.
        """
        back = [i for i, branch in enumerate(self._branches) if branch.source == self.name]
        recurrent = self._integers(back[0]) if back else None
        spikes, potentials = _IntegerLif.apply(current, self.integer_bias(), recurrent, self._model)
        return spikes, potentials

    def to_layers(self) -> dict[str, Layer]:
        """The float layers with the weights as they are now, within the target's range.

        All of the bias drives the voltage.
        """
        limit = self._bias_limit / self.scale
        bias = self._trained("bias", self.bias).detach().double().clamp(-limit, limit).numpy()
        drive = bias.reshape(-1, *(1,) * (len(self._shape) - 1)) if bias.ndim == 1 else bias
        layers: dict[str, Layer] = {self.name: dataclasses.replace(self._neuron, bias=drive)}
        for index, branch in enumerate(self._branches):
            if branch.is_identity:
                continue
            low, high = (bound / (self.scale * branch.unit) for bound in self._limits)
            weight = self._trained(index, self.weights[index]).detach().double()
            layers[branch.node] = dataclasses.replace(
                branch.layer, weight=weight.clamp(low, high).numpy(), bias=None
            )
        return layers


def _separate_synapses(graph: Graph) -> Graph:
    """Copy each synapse that several populations read, so that each of them trains its own."""
    nodes: dict[str, Layer] = {}
    edges: list[tuple[str, str]] = list(graph.edges)
    for name, layer in graph.nodes.items():
        nodes[name] = layer
        readers = graph.destinations(name)
        if not isinstance(layer, Conv | Dense):
            continue
        for reader in readers[1:]:
            copy = f"{name}@{reader}"
            while copy in graph.nodes:
                copy += "_"
            nodes[copy] = layer
            edges[edges.index((name, reader))] = (copy, reader)
            edges += [(source, copy) for source in graph.sources(name)]
    return Graph(nodes=nodes, edges=tuple(edges))


def _hold_thresholds(graph: Graph, fixed: FixedPointGraph, scales: Scales) -> Graph:
    """Let neurons that fire at their threshold fire above the one that the integers have.

    Which integer that is depends on whether all weights are whole, which training changes.
    """
    changed: dict[str, Layer] = {
        layer.name: dataclasses.replace(
            neuron,
            threshold=float(layer.neuron.threshold) / scales[layer.name],
            fires_at_threshold=False,
        )
        for layer in fixed
        if isinstance(neuron := graph.nodes[layer.name], Cuba)
        and neuron.fires_at_threshold
        and isinstance(layer.neuron, CubaNeuron)
    }
    return graph.replace_nodes(changed=changed) if changed else graph


def _apply_layer(layer: Conv | Dense, events: Tensor, weight: Tensor) -> Tensor:
    steps, samples = events.shape[:2]
    folded = events.flatten(0, 1)
    if isinstance(layer, Dense):
        return nn.functional.linear(folded.flatten(1), weight).view(steps, samples, -1)
    sent = nn.functional.conv2d(
        folded,
        weight,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
    )
    return sent.view(steps, samples, *sent.shape[1:])


class _Round(torch.autograd.Function):
    """round(x · factor) by a rule of `fixedpoint`, clamped to [low, high].

    Gradient `factor` inside the range, 0 outside. The product is taken in float64, as in
    `neurodeploy.passes.quantization`, so both round alike.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        factor: float,
        rule: Callable[[FloatArray], Int64Array],
        low: float,
        high: float,
    ) -> Tensor:
        product = values.detach().double() * factor
        # Far outside, a value need only stay outside: the rule gives int64.
        rounded = torch.from_numpy(rule(product.clamp(low - 2, high + 2).numpy()))
        ctx.save_for_backward((rounded >= low) & (rounded <= high))
        ctx.factor = factor
        return rounded.clamp(low, high).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside * ctx.factor, None, None, None, None


class _Wrap24(torch.autograd.Function):
    """Wrap a convolution's sums to 24 bits, as Lava's does; gradient 1."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return torch.from_numpy(wrap(values.detach().to(torch.int64).numpy(), 24)).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _DifferentiableNeuron:
    """The integer neuron of one population, its threshold in float units, and its surrogate."""

    neuron: CubaNeuron
    scale: float
    threshold: float
    surrogate: Surrogate

    def kept(self) -> tuple[Tensor, Tensor]:
        """Return the shares of current and voltage that a step keeps, to broadcast over neurons."""
        shares = (
            1 - torch.from_numpy(np.asarray(decay, np.float32)) / DECAY_UNITY
            for decay in (self.neuron.current_decay, self.neuron.voltage_decay)
        )
        current, voltage = shares
        return current, voltage


class _IntegerLif(torch.autograd.Function):
    """LIF over all steps; the forward pass runs its definition, `simulation.neurons.LifDynamics`.

    A recurrent synapse adds W · s[t-1] to what arrives at t. Backward, with h the surrogate in
    float units, g and p the incoming gradients of spikes and potentials, and the voltage measured
    in float units (v / (64 s)):

        gs[t] = g[t] + Wᵀ · gu[t+1]
        gv[t] = gs[t] · h(v[t]) + p[t] + (1 - s[t]) · (1 - dv / 4096) · gv[t+1]
        gu[t] = gv[t] + (1 - du / 4096) · gu[t+1]

    The gradient does not flow through the reset's dependence on the spike.
    """

    @staticmethod
    def forward(
        ctx: Any,
        arriving: Tensor,
        bias: Tensor,
        recurrent: Tensor | None,
        model: _DifferentiableNeuron,
    ) -> tuple[Tensor, Tensor]:
        neurons = LifDynamics(
            model.neuron, bias.detach().to(torch.int32).numpy(), tuple(arriving.shape[1:])
        )
        spikes = torch.empty(arriving.shape, dtype=torch.float32)
        potentials = torch.empty(arriving.shape, dtype=torch.float32)
        unit = 1.0 / (model.scale * (1 << STATE_EXPONENT))
        back = None if recurrent is None else recurrent.detach().double()
        for step, sums in enumerate(arriving.detach()):
            if back is not None and step:
                sums = sums + spikes[step - 1].double() @ back.T
            voltage = neurons.integrate(sums.to(torch.int64).numpy())
            potentials[step] = torch.from_numpy(voltage) * unit  # before firing resets it
            spikes[step] = torch.from_numpy(neurons.fire())
        ctx.save_for_backward(potentials, spikes, recurrent)
        ctx.model = model
        ctx.bias_shape = bias.shape
        return spikes, potentials

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        potentials, spikes, recurrent = ctx.saved_tensors
        of_spikes, of_potentials = gradients
        model: _DifferentiableNeuron = ctx.model
        # Arriving integers and biases are `scale` times as large as float units.
        slope = model.surrogate.derivative(potentials, model.threshold) / model.scale
        keep_current, keep_voltage = model.kept()
        into_current = torch.empty_like(potentials)
        into_voltage = torch.empty_like(potentials)
        later_voltage = torch.zeros_like(potentials[0])
        later_current = torch.zeros_like(potentials[0])
        for step in reversed(range(potentials.shape[0])):
            of_step = of_spikes[step]
            if recurrent is not None and step + 1 < potentials.shape[0]:
                of_step = of_step + later_current @ recurrent
            later_voltage = (
                of_step * slope[step]
                + of_potentials[step] / model.scale
                + later_voltage * ((1 - spikes[step]) * keep_voltage)
            )
            later_current = later_voltage + later_current * keep_current
            into_voltage[step] = later_voltage
            into_current[step] = later_current
        shape: torch.Size = ctx.bias_shape
        summed = into_voltage.sum((0, 1))
        extra = tuple(axis for axis in range(summed.ndim) if shape[axis] == 1)
        into_bias = summed.sum(extra, keepdim=True) if extra else summed
        into_back = None
        if recurrent is not None:
            into_back = into_current[1:].flatten(0, 1).T @ spikes[:-1].flatten(0, 1)
        return into_current, into_bias, into_back, None
