"""Neuro-cores of a network: an estimate from the sizes of its layers, not a compilation.

Neurons of a layer are independent of each other within a step, so a layer that is too large for
one core is split over several by its outputs, with exactly the same result; only the needs of a
single neuron cannot be split. Nothing here claims that a network fits: only a compiler can.

`loihi1` counts memory as nengo-loihi does. Unshared convolutions, which it does not describe, get
a range: neurons alone at the low end, every synapse stored at the high end.

`loihi2` is a fit to two public compile logs (see `hardware/targets/loihi2.toml`): spatial layers
are cut along their width, dense ones by their outputs; that compiler doubled the number of cores
until a layer fitted, which is the high end. A layer whose single columns are too large is cut by
channels as well, which is as exact but in no log; a remark tells the user.

Source: nengo-loihi `nengo_loihi/block.py` (MAX_*, bits_per_axon); lava-dl 0.6.0
`tutorials/lava/lib/dl/netx/pilotnet_{sdnn,snn}/benchmark.ipynb`, outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypedDict

from neurodeploy.chips.layer_sizes import LayerSize
from neurodeploy.chips.target import Target
from neurodeploy.errors import TargetError

WORD = 64
"""Bits of a word of synaptic memory."""
_BLOCK = 64
"""Weights that share a header, and bits of that header: nengo-loihi, `bits_per_axon`."""
_HEADER = 10
_ENTRY_BITS = 11
"""Bits beside the weight of each entry of a dense axon, from the fit to the compile logs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCores:
    """Cores of one layer, as an estimate.

    Attributes:
        layer: The layer.
        limiting_resource: Decides the number: "neurons", "synapse memory", "input axons",
            "output axons", or "slice" (of a spatial layer).
        low: Fewest cores; None if no number of cores can hold it.
        high: Most cores that the estimate allows for; None likewise.
        neurons_per_core: Neurons that share a core at the low end; 0 if none can hold them.
        problem: Why it cannot be held; empty otherwise.
        remark: A reservation about the estimate.
    """

    layer: LayerSize
    limiting_resource: str
    low: int | None = None
    high: int | None = None
    neurons_per_core: int = 0
    problem: str = ""
    remark: str = ""


class LayerFitJson(TypedDict):
    """Estimated cores of a layer."""

    name: str
    shape: list[int]
    neurons: int
    weight_bits: int
    cores_low: int | None
    cores_high: int | None
    limiting_resource: str
    neurons_per_core: int


class FitJson(TypedDict):
    """Estimated cores of the network on one chip."""

    target: str
    is_estimate: bool
    cores_per_chip: int
    cores_low: int | None
    cores_high: int | None
    chips_low: int | None
    chips_high: int | None
    limiting_resource: str
    layers: list[LayerFitJson]
    warnings: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipFit:
    """Cores of a whole network, as an estimate: on `target`, a chip of `cores_per_chip`."""

    target: str
    cores_per_chip: int
    layers: tuple[LayerCores, ...]

    @property
    def cores_low(self) -> int | None:
        """Fewest cores; None if a layer cannot be held."""
        return _sum([layer.low for layer in self.layers])

    @property
    def cores_high(self) -> int | None:
        """Most cores; None if a layer cannot be held."""
        return _sum([layer.high for layer in self.layers])

    @property
    def chips_low(self) -> int | None:
        """Chips for the fewest cores."""
        return None if self.cores_low is None else ceil(self.cores_low / self.cores_per_chip)

    @property
    def chips_high(self) -> int | None:
        """Chips for the most cores."""
        return None if self.cores_high is None else ceil(self.cores_high / self.cores_per_chip)

    @property
    def cores_text(self) -> str:
        """The cores as people write them: "7 to 12"."""
        if self.cores_low is None or self.cores_low == self.cores_high:
            return str(self.cores_low)
        return f"{self.cores_low} to {self.cores_high}"

    @property
    def limiting_resource(self) -> str:
        """The resource that decides the cores of the largest layer."""
        largest = max(self.layers, key=lambda layer: (layer.low is None, layer.low or 0))
        return largest.limiting_resource

    @property
    def warnings(self) -> tuple[str, ...]:
        """Layers that no core can hold, that alone exceed a chip, or whose estimate is a guess."""
        found = [layer.problem for layer in self.layers if layer.problem]
        found += [layer.remark for layer in self.layers if layer.remark]
        found += [
            f"{layer.layer.name}: {layer.low} cores or more, a chip of '{self.target}' has "
            f"{self.cores_per_chip}. Use fewer channels, a stride, or several chips."
            for layer in self.layers
            if layer.low is not None and layer.low > self.cores_per_chip
        ]
        return tuple(found)

    def to_dict(self) -> FitJson:
        """Return the same as plain values for JSON."""
        return {
            "target": self.target,
            "is_estimate": True,
            "cores_per_chip": self.cores_per_chip,
            "cores_low": self.cores_low,
            "cores_high": self.cores_high,
            "chips_low": self.chips_low,
            "chips_high": self.chips_high,
            "limiting_resource": self.limiting_resource,
            "layers": [
                {
                    "name": entry.layer.name,
                    "shape": list(entry.layer.shape),
                    "neurons": entry.layer.neurons,
                    "weight_bits": entry.layer.weight_bits,
                    "cores_low": entry.low,
                    "cores_high": entry.high,
                    "limiting_resource": entry.limiting_resource,
                    "neurons_per_core": entry.neurons_per_core,
                }
                for entry in self.layers
            ],
            "warnings": list(self.warnings),
        }


def estimate_cores(
    layers: Sequence[LayerSize], target: Target, *, cores_per_chip: int | None = None
) -> ChipFit:
    """Estimate the cores of every layer.

    Layers never share a core. Where the target limits output axons, every layer is taken to lead
    into the one after it.

    Args:
        layers: From `sizes_of`, or made by hand.
        target: A chip with a core model.
        cores_per_chip: Instead of the target's number; some systems expose fewer.

    Raises:
        TargetError: If the target has no cores, or does not state what its model needs.

    Example:
        >>> fit = nd.estimate_cores(nd.sizes_of(nd.load_example().graph), loihi2)
        >>> [(layer.layer.name, layer.low, layer.high) for layer in fit.layers]
        [('conv1', 1, 1), ('conv2', 1, 1), ('readout', 1, 1)]
    """
    if target.core_model is None:
        raise TargetError(
            f"target '{target.name}': has no core_model, so there are no cores to count. Use "
            "'loihi1' or 'loihi2'."
        )
    rule = _loihi1 if target.core_model == "loihi1" else _loihi2
    return ChipFit(
        target=target.name,
        cores_per_chip=cores_per_chip or target.limit("cores_per_chip"),
        layers=_with_output_axons([rule(layer, target) for layer in layers], target),
    )


def axon_bits(neurons: int, weight_bits: int) -> int:
    """Return the bits of an input axon of a dense Loihi 1 synapse on a core with `neurons`."""
    whole, rest = divmod(neurons, _BLOCK)
    sizes = [_BLOCK] * whole + ([rest] if rest else [])
    return sum(WORD * ceil((size * weight_bits + _HEADER) / WORD) for size in sizes)


def axon_words(neurons: int, weight_bits: int) -> int:
    """Return the words of an input axon of a dense Loihi 2 synapse on a core with `neurons`.

    Zero weights are stored too; `weight_bits` includes the sign.
    """
    return ceil((neurons * (weight_bits + _ENTRY_BITS) + _HEADER) / WORD)


def _with_output_axons(entries: Sequence[LayerCores], target: Target) -> tuple[LayerCores, ...]:
    """Spread layers whose neurons, each with an axon to every core of a dense layer, are too many.

    Convolutions reach some of the cores after them only; which ones is not known here, so their
    axons are not counted.
    """
    if "output_axons_per_core" not in target.limits:
        return tuple(entries)
    axons = target.limit("output_axons_per_core")
    spread: list[LayerCores] = []
    for entry in reversed(entries):
        layer, low, high = entry.layer, entry.low, entry.high
        reached = spread[0].low if spread and spread[0].layer.inputs else None
        if low is not None and high is not None and reached:
            neurons = axons // reached
            if not neurons:
                problem = (
                    f"{layer.name}: leads into {reached} cores of '{spread[0].layer.name}', a "
                    f"neuron of '{target.name}' has {axons} output axons at most. Use fewer "
                    "neurons there, or a layer between."
                )
                entry = _impossible(layer, "output axons", problem)
            elif (cores := ceil(layer.neurons / neurons)) > low:
                high = max(cores, high)
                entry = _on_cores(layer, cores, high, "output axons", remark=entry.remark)
        spread.insert(0, entry)
    return tuple(spread)


def _loihi1(layer: LayerSize, target: Target) -> LayerCores:
    memory = target.limit("synapse_words_per_core") * WORD
    bits = min(layer.weight_bits, target.limit("weight_bits"))
    least = ceil(layer.neurons / target.limit("neurons_per_core"))
    if not layer.inputs:
        stored = layer.synapses * (bits + target.limit("index_bits"))
        high = max(least, ceil(stored / memory))
        return _on_cores(layer, least, high, "neurons" if high == least else "synapse memory")
    axons = target.limit("input_axons_per_core")
    if layer.inputs > axons:
        return _impossible(
            layer,
            "input axons",
            f"{layer.name}: {layer.inputs} input axons, a core of '{target.name}' has {axons}. "
            "Put a stride, a pooling or a narrower layer before it; shared axons are not modelled.",
        )
    low = _fewest_cores(layer, least, lambda n: layer.inputs * axon_bits(n, bits) <= memory)
    if low is None:
        return _too_wide(layer, target)
    return _on_cores(layer, low, low, "neurons" if low == least else "synapse memory")


def _loihi2(layer: LayerSize, target: Target) -> LayerCores:
    return (_loihi2_spatial if len(layer.shape) == 3 else _loihi2_dense)(layer, target)


def _loihi2_spatial(layer: LayerSize, target: Target) -> LayerCores:
    channels, height, width = layer.shape
    column = channels * height
    largest = target.limit("neurons_per_slice")
    if height >= largest:
        return _impossible(
            layer,
            "slice",
            f"{layer.name}: {height} neurons in one column of one channel, slices of less than "
            f"{largest} are known. Use a stride.",
        )
    if column >= largest:
        parts = ceil(channels / ((largest - 1) // height))
        cores, neurons = width * parts, ceil(channels / parts) * height
        remark = (
            f"{layer.name}: {channels} channels x {height} rows are {column} neurons in one "
            f"column, slices of less than {largest} are known; counted as split by channels over "
            f"{parts} cores a column, which changes no spike, but no compile log shows it."
        )
        return _on_cores(layer, cores, cores, "slice", neurons=neurons, remark=remark)
    columns = 1
    while 2 * columns * column < largest:  # the compiler's slices are powers of two wide
        columns *= 2
    cores, neurons = ceil(width / columns), column * min(columns, width)
    return _on_cores(layer, cores, cores, "slice", neurons=neurons)


def _loihi2_dense(layer: LayerSize, target: Target) -> LayerCores:
    limit = target.limit("synapse_words_per_core")
    by_neurons = ceil(layer.neurons / target.limit("neurons_per_core"))

    def words(neurons: int) -> int:
        return layer.inputs * axon_words(neurons, layer.weight_bits)

    low = _fewest_cores(layer, by_neurons, lambda n: words(n) <= limit)
    if low is None:
        return _too_wide(layer, target)
    high = max(1, by_neurons, ceil(words(layer.neurons) / limit))
    while words(ceil(layer.neurons / high)) > limit:
        high *= 2
    resource = "neurons" if low == by_neurons else "synapse memory"
    return _on_cores(layer, low, max(low, high), resource)


def _fewest_cores(layer: LayerSize, least: int, fits: Callable[[int], bool]) -> int | None:
    """Return the fewest cores, `least` or more, whose share of the neurons fits on a core."""
    numbers = range(least, layer.neurons + 1)
    return next((cores for cores in numbers if fits(ceil(layer.neurons / cores))), None)


def _on_cores(
    layer: LayerSize,
    low: int,
    high: int,
    resource: str,
    *,
    neurons: int | None = None,
    remark: str = "",
) -> LayerCores:
    return LayerCores(
        layer=layer,
        limiting_resource=resource,
        low=low,
        high=high,
        neurons_per_core=ceil(layer.neurons / low) if neurons is None else neurons,
        remark=remark,
    )


def _impossible(layer: LayerSize, resource: str, problem: str) -> LayerCores:
    return LayerCores(layer=layer, limiting_resource=resource, problem=problem)


def _too_wide(layer: LayerSize, target: Target) -> LayerCores:
    return _impossible(
        layer,
        "synapse memory",
        f"{layer.name}: {layer.inputs} inputs of one neuron alone exceed the synaptic memory of a "
        f"core of '{target.name}', {target.limit('synapse_words_per_core')} words. Put a stride, a "
        "pooling or a narrower layer before it.",
    )


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
