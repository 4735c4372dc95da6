"""Read one layer of a netx file: its weights, geometry, delays, bias and neurons."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from neurodeploy.errors import GraphError, NetxError, NeurodeployWarning
from neurodeploy.fixedpoint import BIAS_BITS, DELAY_MAX, wrap
from neurodeploy.ir.graphs import INPUT
from neurodeploy.ir.integer_layers import (
    Connection,
    CubaNeuron,
    DeltaNeuron,
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedInjection,
    FixedLayer,
    IntArray,
    Neuron,
    ResonateFireNeuron,
    Shape,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.netx.schema import (
    COMPLEX_WEIGHT,
    GEOMETRY_MAX,
    LAYERS,
    LIF_TYPES,
    NEURONS,
    REFUSED_LAYERS,
    RESONATOR_MARK,
    RESONATOR_PHASE_MARK,
    SIGMA_DELTA_TYPE,
    bias_bits,
)
from neurodeploy.untrusted.hdf5 import ELEMENTS_MAX, Field, UntrustedGroup

NO_NEURON = CubaNeuron(
    current_decay=np.array(0, np.int32),
    voltage_decay=np.array(4096, np.int32),
    threshold=np.array(1 << 17, np.int32),
)
"""Lava's neuron for a dense layer without a neuron group: its current integrates, no spikes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to read; see `neurodeploy.netx.reader.read`."""

    spike_exponent: int
    accept_silent_faults: bool


class LayerReader:
    """Reads one /layer/<i> group; every complaint starts with `where`.

    Each method raises `NetxError` where the group is not what Lava reads without a fault.

    Attributes:
        where: File and group.
        kind: The layer's type, a key of `LAYERS`.
    """

    def __init__(self, group: UntrustedGroup, options: Options, index: int) -> None:
        """Read the type of `group`, the `index`-th layer of the file."""
        self.where = group.where
        self.kind = group.text("type")
        self._group = group
        self._options = options
        self._index = index
        self._weight: IntArray | None = None
        if self.kind in REFUSED_LAYERS:
            raise NetxError(f"{self.where}: layer type '{self.kind}'. {REFUSED_LAYERS[self.kind]}")
        if self.kind not in LAYERS:
            raise NetxError(
                f"{self.where}: unknown layer type '{self.kind}', allowed are {', '.join(LAYERS)}. "
                "Lava would skip the layer silently."
            )

    def input_shape(self) -> Shape | None:
        """Return the shape that an input layer states, if it does."""
        shape = self._shape()
        if shape is not None and len(shape) not in (1, 3):
            raise NetxError(f"{self.where}/shape: {shape}, (C, H, W) or (N,) is required.")
        return shape

    def input_block(self, shape: Shape | None) -> FixedLayer:
        """Read an input layer with neurons."""
        if shape is None:
            raise NetxError(
                f"{self.where}: required dataset 'shape' is missing; an input block with neurons "
                "needs it."
            )
        for name, neutral in (("weight", 64), ("bias", 0)):
            values = self._optional(name)
            if values is not None and np.any(values != neutral):
                _warn(
                    f"{self.where}/{name}: {values.max()}; Lava leaves this to whoever feeds the "
                    "network, and so do we: samples are taken as they are."
                )
        return self._layer(shape, Connection(source=INPUT, synapse=FixedInjection()))

    def conv(self, source: str, source_shape: Shape) -> FixedLayer:
        """Read a conv layer that reads the layer `source`."""
        weight = self._required("weight")
        if weight.ndim == 5 and weight.shape[-1] == 1:
            weight = weight[..., 0]
        if weight.ndim != 4 or 0 in weight.shape:
            raise NetxError(
                f"{self.where}/weight: shape {weight.shape}, {LAYERS['conv']['weight'].shapes} is "
                "required."
            )
        if max(weight.shape[2:]) > GEOMETRY_MAX:
            raise NetxError(
                f"{self.where}/weight: kernel {weight.shape[2:]}, Lava allows {GEOMETRY_MAX} "
                "at most. Use several layers."
            )
        self._refuse("delay", "ignores delays of conv layers", is_defined=True)
        shape = self._shape()
        try:
            synapse = FixedConv(
                weight=weight,
                stride=self._pair("stride", smallest=1),
                padding=self._pair("padding", smallest=0),
                dilation=self._pair("dilation", smallest=1),
                groups=self._groups(),
            )
            computed = synapse.output_shape(source_shape)
        except GraphError as error:
            raise NetxError(f"{self.where}: {error}") from error
        if computed != shape:
            raise NetxError(
                f"{self.where}/shape: {shape}, but the convolution of a {source_shape} source "
                f"gives {computed}."
            )
        bias = self._optional("bias")
        if bias is not None and bias.shape not in ((computed[0],), computed[::-1]):
            raise NetxError(
                f"{self.where}/bias: shape {bias.shape}, one a channel ({computed[0]},) or one a "
                f"neuron in Lava's order {computed[::-1]} is required."
            )
        return self._layer(computed, Connection(source=source, synapse=synapse), bias=bias)

    def dense_inputs(self) -> int:
        """Return how many values a dense layer reads."""
        return int(self._forward_weight().shape[1])

    def dense(self, source: str, inputs: int) -> FixedLayer:
        """Read a dense layer, plain, recurrent or complex, that reads the layer `source`."""
        weight = self._forward_weight()
        shape = (weight.shape[0],)
        if self._group.subgroup("weight") is not None:
            return self._complex_dense(source, weight)
        if self.kind == "dense":
            forward = FixedDense(weight=weight, delay=self._delay(shape[0], inputs))
            connections = [Connection(source=source, synapse=forward)]
        else:
            self._refuse("delay", "scales the weights of a delayed recurrent layer wrongly")
            recurrent = self._dense_weight(self._group, LAYERS["dense_rec"]["weight_rec"])
            if recurrent.shape != (shape[0], shape[0]):
                raise NetxError(
                    f"{self.where}/weight_rec: shape {recurrent.shape}, "
                    f"({shape[0]}, {shape[0]}) is required."
                )
            forward = FixedDense(weight=weight, partner=recurrent)
            backward = FixedDense(weight=recurrent, partner=weight)
            connections = [
                Connection(source=source, synapse=forward),
                Connection(source=self._name(), synapse=backward),
            ]
            self._check_effect(backward, "weight_rec")
        self._check_effect(forward, "weight")
        return self._layer(shape, *connections, bias=self._optional("bias"))

    def _complex_dense(self, source: str, real: IntArray) -> FixedLayer:
        if self.kind != "dense":
            raise NetxError(
                f"{self.where}: a recurrent layer with complex weights; Lava drops the recurrence. "
                "Use type 'dense'."
            )
        for name in ("bias", "delay"):
            self._refuse(name, f"ignores the {name} of complex layers", is_defined=True)
        weights = self._group.subgroup("weight")
        assert weights is not None
        imaginary = self._dense_weight(weights, COMPLEX_WEIGHT[1])
        try:
            synapse = FixedComplexDense(
                real=FixedDense(weight=real), imaginary=FixedDense(weight=imaginary)
            )
        except GraphError as error:
            raise NetxError(f"{self.where}: {error}") from error
        self._check_effect(synapse.real, "weight/real")
        self._check_effect(synapse.imaginary, "weight/imag")
        return self._layer((real.shape[0],), Connection(source=source, synapse=synapse))

    def _layer(
        self, shape: Shape, *connections: Connection, bias: IntArray | None = None
    ) -> FixedLayer:
        neuron = self._neuron(shape)
        is_complex = isinstance(connections[0].synapse, FixedComplexDense)
        if isinstance(neuron, ResonateFireNeuron) != is_complex:
            raise NetxError(
                f"{self.where}: resonate-and-fire neurons need complex weights (weight/real and "
                "weight/imag) and complex weights need such neurons; Lava fails otherwise."
            )
        if bias is None:
            bias = np.zeros((), np.int32)
        elif isinstance(neuron, SigmaNeuron):
            raise NetxError(
                f"{self.where}/bias: Lava fails on a bias with sigma_output. Remove either."
            )
        else:
            bias = self._wrapped(bias, neuron)
        return FixedLayer(
            name=self._name(),
            shape=shape,
            connections=connections,
            neuron=neuron,
            bias=_from_lava_order(bias, shape, f"{self.where}/bias"),
        )

    def _name(self) -> str:
        name = self._group.attribute_text("name")
        return name if name and name != INPUT else f"{self.kind}_{self._index}"

    def _neuron(self, shape: Shape) -> Neuron:
        group = self._group.subgroup("neuron")
        if group is None:
            if "neuron" in self._group:
                raise NetxError(f"{self.where}/neuron: a dataset, a group is required.")
            if self.kind == "conv":
                raise NetxError(
                    f"{self.where}: no group 'neuron'; conv layers need one with type, iDecay, "
                    "vDecay and vThMant."
                )
            return NO_NEURON
        try:
            return _read_neuron(
                group,
                shape,
                is_input=self.kind == "input",
                spike_exponent=self._options.spike_exponent,
            )
        except GraphError as error:
            raise NetxError(f"{self.where}: {error}") from error

    def _required(self, name: str) -> IntArray:
        return self._group.required_integers(LAYERS[self.kind][name])

    def _optional(self, name: str) -> IntArray | None:
        return self._group.integers(LAYERS[self.kind][name])

    def _shape(self) -> Shape | None:
        is_required = LAYERS[self.kind]["shape"].is_required
        values = self._required("shape") if is_required else self._optional("shape")
        if values is None:
            return None
        shape = tuple(int(extent) for extent in np.atleast_1d(values).ravel())
        if min(shape) < 1:
            raise NetxError(f"{self.where}/shape: {shape}; every extent must be at least 1.")
        if prod(shape) > ELEMENTS_MAX:
            raise NetxError(f"{self.where}/shape: {shape} has over {ELEMENTS_MAX} neurons.")
        return shape

    def _forward_weight(self) -> IntArray:
        """Return the weight of a dense layer, or its real part; read once."""
        if self._weight is None:
            weights = self._group.subgroup("weight")
            if weights is None:
                self._weight = self._dense_weight(self._group, LAYERS["dense"]["weight"])
            else:
                self._weight = self._dense_weight(weights, COMPLEX_WEIGHT[0])
        return self._weight

    def _dense_weight(self, group: UntrustedGroup, field: Field) -> IntArray:
        weight = group.required_integers(field)
        neurons = prod(self._shape() or ())
        if weight.ndim == 1 and weight.size % neurons == 0:
            weight = weight.reshape(neurons, -1)
        if weight.ndim != 2 or weight.shape[0] != neurons:
            raise NetxError(
                f"{group.where}/{field.name}: shape {weight.shape}, ({neurons}, inputs) is "
                "required."
            )
        return weight

    def _check_effect(self, synapse: FixedDense, key: str) -> None:
        try:
            effective = synapse.effective
        except GraphError as error:
            raise NetxError(f"{self.where}: {error}") from error
        if effective.is_exact:
            return
        low, high = int(synapse.weight.min()), int(synapse.weight.max())
        if effective.mantissa.any():
            _warn(
                f"{self.where}/{key}: weights from {low} to {high} do not fit Lava's 8 bits; some "
                "act with other values. Both simulators do the same. Keep weights even and within "
                "[-256, 254] for an exact layer."
            )
            return
        message = (
            f"{self.where}/{key}: weights from {low} to {high}: Lava turns this matrix into "
            "zeros. Keep weights within [-256, 254] with at least one positive and one negative"
        )
        if not self._options.accept_silent_faults:
            raise NetxError(f"{message}, or pass accept_silent_faults (--accept-silent-faults).")
        _warn(f"{message}.")

    def _delay(self, outputs: int, inputs: int) -> IntArray | None:
        delay = self._optional("delay")
        if delay is None or not delay.any():
            return None
        if delay.min() < 0:
            raise NetxError(f"{self.where}/delay: smallest value {delay.min()}, 0 is the least.")
        if delay.max() > DELAY_MAX:
            _warn(
                f"{self.where}/delay: largest value {delay.max()}, Lava clamps it to {DELAY_MAX}, "
                "and so do we."
            )
            delay = np.minimum(delay, np.int32(DELAY_MAX))
        if delay.size == 1:
            delay = delay.reshape(1, 1)
        elif delay.shape == (outputs,):
            delay = delay[:, None]
        elif delay.shape == (inputs,):
            delay = delay[None, :]
        elif delay.shape != (outputs, inputs):
            raise NetxError(
                f"{self.where}/delay: shape {delay.shape}; a scalar, ({outputs},), ({inputs},) or "
                f"({outputs}, {inputs}) is allowed."
            )
        return np.broadcast_to(delay, (outputs, inputs)).astype(np.int32)

    def _refuse(self, name: str, fault: str, *, is_defined: bool = False) -> None:
        """Refuse a dataset that Lava drops or gets wrong; `is_defined`: it may be accepted."""
        values = self._optional(name)
        if values is None or not values.any():
            return
        message = f"{self.where}/{name}: values up to {values.max()}, but Lava {fault}"
        if is_defined and self._options.accept_silent_faults:
            _warn(f"{message}; so do we.")
            return
        way_out = ", or pass accept_silent_faults (--accept-silent-faults)" * is_defined
        raise NetxError(f"{message}. Write the layer without{way_out}.")

    def _groups(self) -> int:
        values = self._required("groups")
        if values.shape != ():
            raise NetxError(
                f"{self.where}/groups: shape {values.shape}, a scalar dataset is required; Lava "
                "fails on arrays."
            )
        groups = int(values)
        if not 1 <= groups <= GEOMETRY_MAX:
            raise NetxError(
                f"{self.where}/groups: {groups}, 1 to {GEOMETRY_MAX} are allowed; beyond, Lava "
                "gives zeros or hangs. Use several layers, or a dense kernel with zeros."
            )
        return groups

    def _pair(self, name: str, *, smallest: int) -> tuple[int, int]:
        values = self._required(name)
        if values.shape not in ((), (2,)):
            raise NetxError(
                f"{self.where}/{name}: shape {values.shape}, a scalar or (2,) is required."
            )
        pair = np.broadcast_to(values, (2,))
        if pair.min() < smallest or pair.max() > GEOMETRY_MAX:
            raise NetxError(
                f"{self.where}/{name}: {pair.tolist()}, {smallest} to {GEOMETRY_MAX} are allowed "
                "(Lava holds it in 8 bits)."
            )
        return (int(pair[0]), int(pair[1]))

    def _wrapped(self, bias: IntArray, neuron: Neuron) -> IntArray:
        bits = bias_bits(neuron)
        wrapped = wrap(bias, bits)
        if np.any(wrapped != bias):
            holder = "the chip" if bits == BIAS_BITS else "Lava, beside the exponent of spikes,"
            _warn(
                f"{self.where}/bias: values from {bias.min()} to {bias.max()} wrap, since {holder} "
                f"holds {bits} bits. Both simulators do the same; scale the layer down."
            )
        return wrapped.astype(np.int32)


def _read_neuron(
    group: UntrustedGroup, shape: Shape, *, is_input: bool, spike_exponent: int
) -> Neuron:
    """Read the neurons of a layer; in an input block, sigma-delta neurons only send changes."""
    kind = group.text("type")
    if "messageBits" in group:
        raise NetxError(
            f"{group.where}/messageBits: Lava hangs on this dataset. Remove it, and give "
            "the number with --input-bits instead."
        )
    if kind in LIF_TYPES:
        if group.beside("gradedSpike", (0,)):
            _warn(
                f"{group.where}/gradedSpike: true, but Lava's LIF neurons send plain spikes; "
                "so do ours."
            )
        return CubaNeuron(**_arrays(group, CubaNeuron, shape))
    if kind == SIGMA_DELTA_TYPE:
        if not is_input and NEURONS[SigmaNeuron].mark in group:
            return SigmaNeuron()
        make = DeltaNeuron if is_input else SigmaDeltaNeuron
        return make(**_scalars(group, make), spike_exponent=spike_exponent)
    if RESONATOR_MARK in kind:
        return ResonateFireNeuron(
            **_scalars(group, ResonateFireNeuron), is_phase=RESONATOR_PHASE_MARK in kind
        )
    for neuron, layout in NEURONS.items():
        if layout.type == kind:  # a kind that needs nothing of its own
            make_any: Callable[..., Neuron] = neuron
            return make_any(**_arrays(group, neuron, shape))
    allowed = ", ".join((*LIF_TYPES, SIGMA_DELTA_TYPE))
    raise NetxError(
        f"{group.where}/type: '{kind}'; Lava runs {allowed} and those with '{RESONATOR_MARK}' in "
        "their name (case-sensitive)."
    )


def _parameter(group: UntrustedGroup, field: Field) -> IntArray:
    """Read a parameter whose arithmetic Lava does in the type that is stored."""
    values = group.required_integers(field)
    dtype = group.dtype(field.name)
    assert dtype is not None
    is_wide = dtype.kind == "i" and dtype.itemsize >= 4
    if not is_wide and (values.shape != () or dtype == np.uint64):
        raise NetxError(
            f"{group.where}/{field.name}: an array of {dtype} overflows inside Lava. "
            "Store int32 or int64."
        )
    return values


def _arrays(group: UntrustedGroup, neuron: type[Neuron], shape: Shape) -> dict[str, IntArray]:
    """Read parameters that can differ between the neurons of a layer."""
    return {
        attribute: _from_lava_order(_parameter(group, field), shape, f"{group.where}/{field.name}")
        for attribute, field in NEURONS[neuron].parameters.items()
    }


def _scalars(group: UntrustedGroup, neuron: type[Neuron]) -> dict[str, int]:
    """Read parameters that all neurons of a layer share."""
    found = {}
    for attribute, field in NEURONS[neuron].parameters.items():
        values = _parameter(group, field)
        if values.size != 1:
            raise NetxError(
                f"{group.where}/{field.name}: shape {values.shape}, one value is required; Lava's "
                "neurons of this kind share it."
            )
        found[attribute] = int(values.ravel()[0])
    return found


def _from_lava_order(values: IntArray, shape: Shape, where: str) -> IntArray:
    """Bring one value, (C,), (N,) or Lava's (W, H, C) to (), (C, 1, 1), (N,) or (C, H, W)."""
    if values.size == 1:
        return values.reshape(())
    in_lava = shape[::-1]
    try:
        fits = np.broadcast_shapes(values.shape, in_lava) == in_lava
    except ValueError:
        fits = False
    if not fits:
        raise NetxError(
            f"{where}: shape {values.shape} does not fit the layer. One value, "
            f"one a channel or neuron ({shape[0]},), or the full shape {in_lava} is allowed."
        )
    full = values.reshape((1,) * (len(shape) - values.ndim) + values.shape)
    return np.ascontiguousarray(full.transpose())


def _warn(message: str) -> None:
    warnings.warn(message, NeurodeployWarning, stacklevel=2)
