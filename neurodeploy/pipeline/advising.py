"""Advise on a model before any work: obstacles, cores, costs of a frame, and which kind suits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from neurodeploy.chips.cores import ChipFit, estimate_cores
from neurodeploy.chips.layer_sizes import LayerSize, conv_instances, sizes_of, weight_bits_of
from neurodeploy.chips.target import Target
from neurodeploy.conversion.chain import Chain
from neurodeploy.conversion.chaining import lower_rectified
from neurodeploy.conversion.converting import as_sequences, choose_input_scale
from neurodeploy.conversion.scaling import WEIGHT_MAX
from neurodeploy.counting.fan_out import ann_macs, synapse_fan_out
from neurodeploy.energy.predicted_costs import (
    FrameEnergy,
    Interval,
    NetworkLoad,
    input_load,
    layer_load,
    ordinary_energy,
    spiking_energy,
)
from neurodeploy.errors import ConversionError, NeurodeployError, Obstacle, OnnxError
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.ir.float_layers import Dense
from neurodeploy.ir.integer_layers import FixedConv
from neurodeploy.onnx_models.macs import count_onnx_macs
from neurodeploy.pipeline.converted import ReluNetwork, examine, shape_of
from neurodeploy.pipeline.sampled_frames import (
    SampledRun,
    effective_macs,
    frame_facts,
    run_frames,
)
from neurodeploy.reports.advice import (
    RATES,
    STEPS,
    Advice,
    CoreNeed,
    Figures,
    FrameCost,
    FrameFacts,
    advice_of,
    advice_without_network,
)

if TYPE_CHECKING:
    from torch import nn

TARGETS = ("loihi1", "loihi2")
FRAMES_MOST = 256
"""Most frames that are looked at and converted with, so that advice stays quick."""
SHARES: Mapping[str, Interval] = {
    "still": Interval(0.0, 0.0),
    "moving": Interval(0.05, 0.5),
    "new": Interval(0.3, 1.0),
}
"""Shares of neurons that send for a frame, where nothing is known of frames.

A still frame sends nothing, exactly, and no frame can make more than all of them send. The others
are measured ones (a digit that moves by a pixel: 6 to 23 %, a first frame: 34 %), widened.
"""


def advise(
    model: str | Path | nn.Module,
    samples: npt.ArrayLike | None = None,
    *,
    shape: tuple[int, ...] | None = None,
    bindings: Mapping[str, int] | None = None,
) -> Advice:
    """Advise on a ReLU network before any work: can it be converted, and does that pay.

    Without samples, costs follow from the sizes of the network and from stated ranges of activity.

    Args:
        model: Path of an ONNX file, or a torch module in eval mode that torch.fx can follow.
        samples: Frames in the units of the model: (sequences, T, *shape) in order of time, or
            (n, *shape) without one. The network is converted with them and run on some.
        shape: Of a frame; a torch module without samples needs it.
        bindings: Sizes of an ONNX model's symbolic dimensions.

    Raises:
        OnnxError, TraceError: If the model is damaged, or cannot be followed.
        ConversionError: If the samples do not fit the model.

    Example:
        >>> advice = nd.advise(relu, shape=(1, 8, 8))
        >>> advice.is_convertible, advice.ann_macs
        (True, 1728)
    """
    values = None if samples is None else np.asarray(samples, np.float64)
    if shape is None and values is not None and not isinstance(model, str | Path):
        shape = shape_of(values)
    if shape is None and not isinstance(model, str | Path):
        raise ConversionError("advise: a torch module does not say its input. Give `shape`.")
    try:
        network = examine(model, shape, bindings=bindings)
    except NeurodeployError as error:
        if not error.obstacles:
            raise
        return advice_without_network(_name_of(model), error.obstacles, None)
    obstacles = network.obstacles
    forms: list[Chain] = []
    if network.graph is not None:
        try:
            forms = _possible_forms(network)
        except NeurodeployError as error:
            found = error.obstacles or (Obstacle("", "", str(error)),)
            obstacles += tuple(one for one in found if one not in obstacles)
    if not forms:
        return advice_without_network(_name_of(model), obstacles, _macs_of(model, bindings))
    return _Advising(network, obstacles, forms).advise(values)


def _name_of(model: str | Path | nn.Module) -> str:
    return Path(model).name if isinstance(model, str | Path) else type(model).__name__


def _possible_forms(network: ReluNetwork) -> list[Chain]:
    """Return the smallest and the largest chain that frames can make of a network."""
    assert network.graph is not None
    unreached = dict.fromkeys(network.graph.nodes, 0.0)
    return [
        lower_rectified(network.graph, peaks=unreached),
        lower_rectified(network.graph, is_signed=True),
    ]


def load_of_chain(chain: Chain) -> NetworkLoad:
    """Return the loads of a chain; once it is rounded, more of its weights may be zero."""
    layers, is_conv = [input_load(prod(chain.shape))], [False]
    for layer in chain.layers:
        layers.append(layer_load(synapse_fan_out(layer.synapse, layer.source), prod(layer.shape)))
        is_conv.append(not isinstance(layer.synapse, Dense))
    return NetworkLoad(layers=tuple(layers), is_conv=tuple(is_conv))


def sizes_of_chain(chain: Chain) -> tuple[LayerSize, ...]:
    """Return the sizes of a chain's layers once its weights are rounded, the input block first."""
    bits = weight_bits_of(WEIGHT_MAX)
    sizes = [LayerSize(name="frame", shape=chain.shape, weight_bits=1)]
    for layer in chain.layers:
        synapse = layer.synapse
        inputs = instances = 0
        if isinstance(synapse, Dense):
            inputs = synapse.weight.shape[1]
        else:
            shape = synapse.weight.shape
            integers = FixedConv(
                weight=np.broadcast_to(np.int32(0), shape),
                stride=synapse.stride,
                padding=synapse.padding,
                dilation=synapse.dilation,
                groups=synapse.groups,
            )
            instances = conv_instances(layer.source, layer.shape, integers)
        sizes.append(
            LayerSize(
                name=layer.name,
                shape=layer.shape,
                inputs=inputs,
                synapses=instances,
                weight_bits=bits,
            )
        )
    return tuple(sizes)


def _macs_of(model: str | Path | nn.Module, bindings: Mapping[str, int] | None) -> int | None:
    """Return the MACs of a pass of a model that is no network of rectified layers."""
    if not isinstance(model, str | Path):
        return None
    try:
        counts = count_onnx_macs(model, bindings=bindings, bind_batch=True)
    except OnnxError:  # it is in the verdict already
        return None
    return None if counts.uncounted_ops else counts.macs_standard


class _Advising:
    """Works out the advice on a network that is left, or supposed."""

    def __init__(
        self, network: ReluNetwork, obstacles: tuple[Obstacle, ...], forms: Sequence[Chain]
    ) -> None:
        assert network.graph is not None
        self.network, self.graph, self.obstacles = network, network.graph, obstacles
        self.name = Path(network.name).name
        self.is_supposed = bool(obstacles)
        self.macs = ann_macs(network.graph)
        self.facts: FrameFacts | None = None
        self.run: SampledRun | None = None
        self.loads = [load_of_chain(chain) for chain in forms]
        self.sizes = [sizes_of_chain(chain) for chain in forms]
        depths = [len(chain.layers) for chain in forms]
        self.latency = Interval(min(depths), max(depths))

    def advise(self, samples: FloatArray | None) -> Advice:
        """Return the advice."""
        if samples is not None:
            self._look_at(as_sequences(samples, self.graph.input.shape))
        costs = {kind: self._assumed(kind) for kind in SHARES}
        if self.run is not None:
            costs |= self.run.costs()
        steps = Interval(1, 1) if self.facts is not None and self.facts.are_events else STEPS
        low, high = (
            spiking_energy(self.macs, steps=step, rate=rate)
            for step, rate in zip(steps, RATES, strict=True)
        )
        need = [CoreNeed.of_fits(self._fits(name)) for name in TARGETS]
        ann = ordinary_energy(self.macs)
        has_order = self.facts is None or self.facts.frames > 1
        kind = "moving" if has_order else "new"
        figures = Figures(
            name=self.name,
            is_supposed=self.is_supposed,
            cores=tuple(need),
            latency=self.latency,
            neurons=Interval(*sorted((self.loads[0].neurons, self.loads[-1].neurons))),
            frames=tuple(costs[one] for one in SHARES),
            ann_macs=self.macs.macs_border_exact,
            ann=ann,
            spiking_sops=Interval(low[0], high[0]),
            spiking=Interval(low[1].memory.low, high[1].memory.high),
            spiking_steps=steps,
            break_even=break_even(self.loads, ann),
            chip_energy=self.loads[-1].chip_energy(costs[kind].share.high),
            kind=kind,
            facts=self.facts,
            errors=None if self.run is None else Interval(*self.run.errors),
        )
        return advice_of(figures, self.obstacles)

    def _look_at(self, sequences: FloatArray) -> None:
        """Take in the facts about frames, and what a network that is converted with them does."""
        some = sequences[: max(1, FRAMES_MOST // sequences.shape[1]), :FRAMES_MOST]
        frames = self.network.prepare(some)
        self.facts = frame_facts(np.rint(frames * choose_input_scale(frames)))
        effective = effective_macs(self.graph, frames.reshape(-1, *frames.shape[2:]))
        self.macs = replace(self.macs, macs_effective=effective)
        if self.obstacles:  # the weights of a network that is supposed say nothing
            return
        try:
            self.run = run_frames(self.graph, frames)
        except ConversionError as error:
            self.obstacles = error.obstacles or (Obstacle("", "", str(error)),)
            return
        self.loads, self.sizes = [self.run.load], [sizes_of(self.run.graph)]
        depth = len(self.run.graph.layers) - 1
        self.latency = Interval(depth, depth)

    def _fits(self, name: str) -> list[ChipFit]:
        target = Target.load(name)
        return [estimate_cores(sizes, target) for sizes in self.sizes]

    def _assumed(self, kind: str) -> FrameCost:
        share = SHARES[kind]
        smallest, largest = self.loads[0], self.loads[-1]
        least, most = smallest.energy(share.low), largest.energy(share.high)
        return FrameCost(
            kind=kind,
            sops=Interval(share.low * smallest.most_sops, share.high * largest.most_sops),
            arithmetic=Interval(least.arithmetic, most.arithmetic),
            memory=Interval(least.memory.low, most.memory.high),
            packed=Interval(least.packed, most.packed),
            share=share,
            is_measured=False,
        )


def break_even(loads: Sequence[NetworkLoad], ann: FrameEnergy) -> Interval:
    """Return the share of senders below which a frame costs less than a pass: surely, at best.

    Shares below 0 mean that neuron updates alone cost more.
    """
    smallest, largest = loads[0], loads[-1]
    still, all_send = largest.energy(0.0).memory.high, largest.energy(1.0).memory.high
    surely = (ann.memory.low - still) / (all_send - still)
    still, all_send = smallest.energy(0.0).memory.low, smallest.energy(1.0).memory.low
    return Interval(surely, (ann.memory.high - still) / (all_send - still))
