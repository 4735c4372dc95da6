"""Read one layer of a netx file."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import prod

import numpy as np

from neurodeploy.errors import (
    GraphError,
    NetxError,
    NeurodeployWarning,
)
from neurodeploy.fixedpoint import (
    BIAS_BITS,
    DELAY_MAX,
    wrap,
)
from neurodeploy.ir.graphs import INPUT
from neurodeploy.ir.integer_layers import (
    Connection,
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
from neurodeploy.netx.neuron_groups import (
    default_neuron,
    from_lava_order,
    read_neuron,
)
from neurodeploy.netx.schema import (
    COMPLEX_WEIGHT,
    ELEMENTS_MAX,
    GEOMETRY_MAX,
    LAYERS,
    REFUSED_LAYERS,
    Field,
)
from neurodeploy.netx.untrusted_hdf5 import UntrustedGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to read; see `neurodeploy.netx.reader.read`."""

    spike_exponent: int
    accept_silent_faults: bool


class LayerReader:
    """Reads one /layer/<i> group; every complaint starts with where.

    Each method raises `NetxError` where the group is not what Lava reads without a fault.
    """

    def __init__(self, group: UntrustedGroup, options: Options, index: int) -> None:
        """Prepare to read `group`, the `index`-th layer of the file."""
        self.where = group.where
        self._group = group
        self._options = options
        self._index = index
        self._weight: IntArray | None = None

    def kind(self) -> str:
        """Return the layer's type, a key of `LAYERS`."""
        kind = self._group.text("type")
        if kind in LAYERS:
            return kind
        if kind in REFUSED_LAYERS:
            raise NetxError(f"{self.where}: layer type '{kind}'. {REFUSED_LAYERS[kind]}")
        raise NetxError(
            f"{self.where}: unknown layer type '{kind}', allowed are {', '.join(LAYERS)}. "
            "Lava would skip the layer silently."
        )

    def input_shape(self) -> Shape | None:
        """Return the shape that an input layer states, if it does."""
        shape = self._extents(_field("input", "shape"))
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
        return self._layer(
            "input", shape, (Connection(source=INPUT, synapse=FixedInjection()),), bias=None
        )

    def conv(self, source: str, source_shape: Shape) -> FixedLayer:
        """Read a conv layer that reads the layer `source`."""
        field = _field("conv", "weight")
        weight = self._group.required_integers(field)
        if weight.ndim == 5 and weight.shape[-1] == 1:
            weight = weight[..., 0]
        if weight.ndim != 4 or 0 in weight.shape:
            raise NetxError(
                f"{self.where}/weight: shape {weight.shape}, {field.shapes} is required."
            )
        if max(weight.shape[2:]) > GEOMETRY_MAX:
            raise NetxError(
                f"{self.where}/weight: kernel {weight.shape[2:]}, Lava allows {GEOMETRY_MAX} "
                "at most. Use several layers."
            )
        self._refuse(_field("conv", "delay"), "ignores delays of conv layers", is_defined=True)
        shape = self._extents(_field("conv", "shape"))
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
        bias = self._group.integers(_field("conv", "bias"))
        if bias is not None and bias.shape not in ((computed[0],), computed[::-1]):
            raise NetxError(
                f"{self.where}/bias: shape {bias.shape}, one a channel ({computed[0]},) or one a "
                f"neuron in Lava's order {computed[::-1]} is required."
            )
        return self._layer(
            "conv", computed, (Connection(source=source, synapse=synapse),), bias=bias
        )

    def dense_inputs(self) -> int:
        """Return how many values a dense layer reads."""
        return int(self._forward_weight().shape[1])

    def dense(self, source: str, inputs: int, *, is_recurrent: bool) -> FixedLayer:
        """Read a dense layer, plain, recurrent or complex, that reads the layer `source`."""
        kind = "dense_rec" if is_recurrent else "dense"
        weight = self._forward_weight()
        shape = (weight.shape[0],)
        name = self._name(kind)
        if self._group.subgroup("weight") is not None:
            return self._complex_dense(source, weight, kind)
        connections: tuple[Connection, ...]
        if is_recurrent:
            self._refuse(
                _field("dense_rec", "delay"),
                "scales the weights of a delayed recurrent layer wrongly",
                is_defined=False,
            )
            recurrent = self._dense_weight(self._group, _field("dense_rec", "weight_rec"))
            if recurrent.shape != (shape[0], shape[0]):
                raise NetxError(
                    f"{self.where}/weight_rec: shape {recurrent.shape}, "
                    f"({shape[0]}, {shape[0]}) is required."
                )
            forward = FixedDense(weight=weight, partner=recurrent)
            backward = FixedDense(weight=recurrent, partner=weight)
            connections = (
                Connection(source=source, synapse=forward),
                Connection(source=name, synapse=backward),
            )
            self._check_effect(backward, "weight_rec")
        else:
            forward = FixedDense(weight=weight, delay=self._delay(shape[0], inputs))
            connections = (Connection(source=source, synapse=forward),)
        self._check_effect(forward, "weight")
        bias = self._group.integers(_field(kind, "bias"))
        return self._layer(kind, shape, connections, bias=bias)

    def _complex_dense(self, source: str, real: IntArray, kind: str) -> FixedLayer:
        if kind != "dense":
            raise NetxError(
                f"{self.where}: a recurrent layer with complex weights; Lava drops the recurrence. "
                "Use type 'dense'."
            )
        for name in ("bias", "delay"):
            self._refuse(
                _field("dense", name), f"ignores the {name} of complex layers", is_defined=True
            )
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
        connections = (Connection(source=source, synapse=synapse),)
        return self._layer(kind, (real.shape[0],), connections, bias=None)

    def _layer(
        self,
        kind: str,
        shape: Shape,
        connections: tuple[Connection, ...],
        *,
        bias: IntArray | None,
    ) -> FixedLayer:
        neuron = self._neuron(kind, shape)
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
        elif not isinstance(neuron, SigmaDeltaNeuron):
            bias = self._wrapped(bias)
        return FixedLayer(
            name=self._name(kind),
            shape=shape,
            connections=connections,
            neuron=neuron,
            bias=from_lava_order(bias, shape, f"{self.where}/bias"),
        )

    def _name(self, kind: str) -> str:
        name = self._group.attribute_text("name")
        return name if name and name != INPUT else f"{kind}_{self._index}"

    def _neuron(self, kind: str, shape: Shape) -> Neuron:
        group = self._group.subgroup("neuron")
        if group is None:
            if "neuron" in self._group:
                raise NetxError(f"{self.where}/neuron: a dataset, a group is required.")
            if kind == "conv":
                raise NetxError(
                    f"{self.where}: no group 'neuron'; conv layers need one with type, iDecay, "
                    "vDecay and vThMant."
                )
            return default_neuron()
        try:
            return read_neuron(
                group,
                shape,
                is_input=kind == "input",
                spike_exponent=self._options.spike_exponent,
            )
        except GraphError as error:
            raise NetxError(f"{self.where}: {error}") from error

    def _extents(self, field: Field) -> Shape | None:
        read = self._group.required_integers if field.is_required else self._group.integers
        values = read(field)
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
                self._weight = self._dense_weight(self._group, _field("dense", "weight"))
            else:
                self._weight = self._dense_weight(weights, COMPLEX_WEIGHT[0])
        return self._weight

    def _dense_weight(self, group: UntrustedGroup, field: Field) -> IntArray:
        weight = group.required_integers(field)
        neurons = prod(self._extents(_field("dense", "shape")) or ())
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
        delay = self._group.integers(_field("dense", "delay"))
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

    def _refuse(self, field: Field, fault: str, *, is_defined: bool) -> None:
        """Refuse a dataset that Lava drops or gets wrong; `is_defined`: it may be accepted."""
        values = self._group.integers(field)
        if values is None or not values.any():
            return
        message = f"{self.where}/{field.name}: values up to {values.max()}, but Lava {fault}"
        if is_defined and self._options.accept_silent_faults:
            _warn(f"{message}; so do we.")
            return
        way_out = ", or pass accept_silent_faults (--accept-silent-faults)" * is_defined
        raise NetxError(f"{message}. Remove '{field.name}'{way_out}.")

    def _groups(self) -> int:
        values = self._group.required_integers(_field("conv", "groups"))
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

    def _pair(self, key: str, *, smallest: int) -> tuple[int, int]:
        values = self._group.required_integers(_field("conv", key))
        if values.shape not in ((), (2,)):
            raise NetxError(
                f"{self.where}/{key}: shape {values.shape}, a scalar or (2,) is required."
            )
        pair = np.broadcast_to(values, (2,))
        if pair.min() < smallest or pair.max() > GEOMETRY_MAX:
            raise NetxError(
                f"{self.where}/{key}: {pair.tolist()}, {smallest} to {GEOMETRY_MAX} are allowed "
                "(Lava holds it in 8 bits)."
            )
        return (int(pair[0]), int(pair[1]))

    def _wrapped(self, bias: IntArray) -> IntArray:
        wrapped = wrap(bias, BIAS_BITS)
        if np.any(wrapped != bias):
            _warn(
                f"{self.where}/bias: values from {bias.min()} to {bias.max()} wrap, since the chip "
                "holds 16 bits. Both simulators do the same; scale the layer down."
            )
        return wrapped.astype(np.int32)


def _warn(message: str) -> None:
    warnings.warn(message, NeurodeployWarning, stacklevel=2)


def _field(kind: str, name: str) -> Field:
    return next(field for field in LAYERS[kind] if field.name == name)
