"""Read a netx file into a `FixedPointGraph`, or say exactly why it cannot be trusted.

Lava's own reader fails silently in several ways: it skips layer types it does not know, turns
some weight matrices into zeros, ignores delays of conv layers, and hangs on float neuron
parameters. Here each of these is an error or, where Lava's result is well defined and only
surprising, a `NeurodeployWarning`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from neurodeploy.errors import GraphError, NetxError, NeurodeployWarning
from neurodeploy.fixedpoint import BIAS_BITS, DELAY_MAX, wrap
from neurodeploy.ir.fixed_layers import (
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
from neurodeploy.ir.graph import INPUT, FixedInput, FixedPointGraph
from neurodeploy.netx.neurons import default_neuron, from_lava_order, read_neuron
from neurodeploy.netx.schema import (
    COMPLEX_WEIGHT,
    ELEMENTS_MAX,
    GEOMETRY_MAX,
    LAYERS,
    LAYERS_MAX,
    REFUSED_LAYERS,
    Field,
)
from neurodeploy.netx.store import Section, check_file, open_root
from neurodeploy.netx.trial import find_trouble

SPIKE_EXPONENT = 6
"""Default of `spike_exp` in Lava's `Network`."""

TRIAL_SECONDS = 20.0
"""How long a file may take to be read, beside the time that its size explains."""
TRIAL_BYTES_PER_SECOND = 1e6


def read(
    path: str | Path,
    *,
    input_shape: Sequence[int] | None = None,
    input_bits: int | None = None,
    spike_exponent: int = SPIKE_EXPONENT,
    accept_silent_faults: bool = False,
) -> FixedPointGraph:
    """Read a netx file.

    Args:
        path: The `.net` file.
        input_shape: (C, H, W) or (N,) where the file has no input layer.
        input_bits: `input_message_bits` of Lava's `Network`: 0 means that every input value
            other than 0 is one spike, more that values count. None: what the file was written
            with if neurodeploy wrote it, else 0, Lava's default.
        spike_exponent: `spike_exp` of Lava's `Network`; matters to sigma-delta neurons only.
        accept_silent_faults: Do as Lava does where it silently drops what the file says: delays
            of conv layers, bias and delays of complex layers, and weight matrices that it turns
            into zeros.

    Returns:
        The network, one layer for each process that Lava would create.

    Raises:
        NetxError: If the file is missing, truncated or malformed, holds something that Lava
            would drop, hang on or fail on, or something that is not simulated.
    """
    path = Path(path)
    shape = tuple(input_shape) if input_shape is not None else None
    if shape is not None and (len(shape) not in (1, 3) or min(shape) < 1):
        raise NetxError(f"{path}: input shape {shape}, (C, H, W) or (N,) is required.")
    options = _Options(spike_exponent=spike_exponent, accept_silent_faults=accept_silent_faults)

    def read_once() -> FixedPointGraph:
        with open_root(path) as root:
            return _read_network(root, options, input_shape=shape, input_bits=input_bits)

    check_file(path)
    limit = TRIAL_SECONDS + path.stat().st_size / TRIAL_BYTES_PER_SECOND
    trouble = find_trouble(read_once, seconds=limit)
    if trouble is not None:
        raise NetxError(
            f"{path}: reading it {trouble}. The file is damaged. Write or copy it again."
        )
    try:
        return read_once()
    except GraphError as error:
        raise NetxError(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    spike_exponent: int
    accept_silent_faults: bool


@dataclass(slots=True)
class _State:
    """What is known while the layers are read one by one."""

    shape: Shape | None
    source: str = INPUT
    is_flat: bool = False


def _read_network(
    root: Section,
    options: _Options,
    *,
    input_shape: Shape | None,
    input_bits: int | None,
) -> FixedPointGraph:
    if input_bits is None:
        # An attribute in a file from elsewhere may mean anything; only a sane one is taken.
        written = root.attribute_integer("message_bits") or 0
        input_bits = written if 0 <= written <= 32 else 0
    state = _State(shape=input_shape)
    port: Shape | None = None
    layers: list[FixedLayer] = []
    for index, section in enumerate(_layer_sections(root)):
        reader = _LayerReader(section, options, index)
        kind = reader.kind()
        if kind == "input":
            if index > 0:
                raise NetxError(f"{reader.where}: an input layer must be the first layer.")
            shape = reader.input_shape()
            state.shape = shape or state.shape
            if "neuron" in section:
                layers.append(reader.input_block(shape))
                state.source = layers[-1].name
                port = layers[-1].shape
        elif kind == "flatten":
            if layers and len(layers[-1].shape) == 1:
                raise NetxError(
                    f"{reader.where}: a flatten layer after a flat layer; Lava fails on it. "
                    "Remove it."
                )
            state.is_flat = True
        else:
            if kind == "conv":
                source = _conv_source(state, reader.where)
                layer = reader.conv(state.source, source)
            else:
                source = _dense_source(state, reader, is_first=not layers)
                layer = reader.dense(state.source, prod(source), is_recurrent=kind != "dense")
            port = port or source
            layers.append(layer)
            state = _State(shape=layer.shape, source=layer.name)
    if not layers or port is None:
        raise NetxError(
            f"{root.where}: no conv, dense or input neuron layer; there is nothing to run."
        )
    return FixedPointGraph(
        input=FixedInput(shape=port, message_bits=max(input_bits, 0)), layers=tuple(layers)
    )


def _layer_sections(root: Section) -> list[Section]:
    layers = root.section("layer")
    if layers is None:
        raise NetxError(
            f"{root.where}: no group '/layer'. This is an HDF5 file, but not one for lava-dl's "
            "netx."
        )
    count = len(layers)
    if not 0 < count <= LAYERS_MAX:
        raise NetxError(f"{layers.where}: {count} layers, 1 to {LAYERS_MAX} are read.")
    sections = []
    for index in range(count):
        section = layers.section(str(index))
        if section is None:
            raise NetxError(
                f"{layers.where}: {count} entries, but no group '{index}'. "
                "Layers must be numbered 0, 1, 2, ... without a gap."
            )
        sections.append(section)
    return sections


def _conv_source(state: _State, where: str) -> Shape:
    if state.shape is None:
        raise NetxError(
            f"{where}: the file does not say the shape of its input. Give it: "
            "input_shape=(C, H, W), or --input-shape C,H,W."
        )
    if state.is_flat or len(state.shape) != 3:
        raise NetxError(
            f"{where}: a conv layer after a flat layer of shape {state.shape}. "
            "A conv layer needs a (C, H, W) source, and no flatten before it."
        )
    return state.shape


def _dense_source(state: _State, reader: _LayerReader, *, is_first: bool) -> Shape:
    inputs = reader.dense_inputs()
    if state.shape is None:
        return (inputs,)
    if len(state.shape) == 3 and not state.is_flat and not is_first:
        raise NetxError(
            f"{reader.where}: a dense layer directly after a spatial layer of shape "
            f"{state.shape}. Put a flatten layer between them."
        )
    if prod(state.shape) != inputs:
        raise NetxError(
            f"{reader.where}: the weight reads {inputs} values, the layer before it has "
            f"{prod(state.shape)}."
        )
    return (inputs,) if is_first else state.shape


class _LayerReader:
    """Reads one /layer/<i> group; every complaint starts with where."""

    def __init__(self, section: Section, options: _Options, index: int) -> None:
        self.where = section.where
        self._section = section
        self._options = options
        self._index = index
        self._weight: IntArray | None = None

    def kind(self) -> str:
        kind = self._section.text("type")
        if kind in LAYERS:
            return kind
        if kind in REFUSED_LAYERS:
            raise NetxError(f"{self.where}: layer type '{kind}'. {REFUSED_LAYERS[kind]}")
        raise NetxError(
            f"{self.where}: unknown layer type '{kind}', allowed are {', '.join(LAYERS)}. "
            "Lava would skip the layer silently."
        )

    def input_shape(self) -> Shape | None:
        shape = self._extents(_field("input", "shape"))
        if shape is not None and len(shape) not in (1, 3):
            raise NetxError(f"{self.where}/shape: {shape}, (C, H, W) or (N,) is required.")
        return shape

    def input_block(self, shape: Shape | None) -> FixedLayer:
        if shape is None:
            raise NetxError(
                f"{self.where}: required dataset 'shape' is missing; an input block with neurons "
                "needs it."
            )
        return self._layer(
            "input", shape, (Connection(source=INPUT, synapse=FixedInjection()),), bias=None
        )

    def conv(self, source: str, source_shape: Shape) -> FixedLayer:
        field = _field("conv", "weight")
        weight = self._section.required_integers(field)
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
            given = synapse.output_shape(source_shape)
        except GraphError as error:
            raise NetxError(f"{self.where}: {error}") from error
        if given != shape:
            raise NetxError(
                f"{self.where}/shape: {shape}, but the convolution of a {source_shape} source "
                f"gives {given}."
            )
        bias = self._section.integers(_field("conv", "bias"))
        if bias is not None and bias.shape not in ((given[0],), given[::-1]):
            raise NetxError(
                f"{self.where}/bias: shape {bias.shape}, one a channel ({given[0]},) or one a "
                f"neuron in Lava's order {given[::-1]} is required."
            )
        return self._layer("conv", given, (Connection(source=source, synapse=synapse),), bias=bias)

    def dense_inputs(self) -> int:
        return int(self._forward_weight().shape[1])

    def dense(self, source: str, inputs: int, *, is_recurrent: bool) -> FixedLayer:
        kind = "dense_rec" if is_recurrent else "dense"
        weight = self._forward_weight()
        shape = (weight.shape[0],)
        name = self._name(kind)
        if self._is_complex():
            return self._complex_dense(source, weight, kind)
        connections: tuple[Connection, ...]
        if is_recurrent:
            self._refuse(
                _field("dense_rec", "delay"),
                "scales the weights of a delayed recurrent layer wrongly",
                is_defined=False,
            )
            recurrent = self._dense_weight(self._section, _field("dense_rec", "weight_rec"))
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
        bias = self._section.integers(_field(kind, "bias"))
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
        weights = self._section.section("weight")
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
        name = self._section.attribute_text("name")
        return name if name and name != INPUT else f"{kind}_{self._index}"

    def _neuron(self, kind: str, shape: Shape) -> Neuron:
        section = self._section.section("neuron")
        if section is None:
            if "neuron" in self._section:
                raise NetxError(f"{self.where}/neuron: a dataset, a group is required.")
            if kind == "conv":
                raise NetxError(
                    f"{self.where}: no group 'neuron'; conv layers need one with type, iDecay, "
                    "vDecay and vThMant."
                )
            return default_neuron()
        try:
            return read_neuron(
                section,
                shape,
                is_input=kind == "input",
                spike_exponent=self._options.spike_exponent,
            )
        except GraphError as error:
            raise NetxError(f"{self.where}: {error}") from error

    def _extents(self, field: Field) -> Shape | None:
        read = self._section.required_integers if field.is_required else self._section.integers
        values = read(field)
        if values is None:
            return None
        shape = tuple(int(extent) for extent in np.atleast_1d(values).ravel())
        if min(shape) < 1:
            raise NetxError(f"{self.where}/shape: {shape}; every extent must be at least 1.")
        if prod(shape) > ELEMENTS_MAX:
            raise NetxError(f"{self.where}/shape: {shape} has over {ELEMENTS_MAX} neurons.")
        return shape

    def _is_complex(self) -> bool:
        return self._section.section("weight") is not None

    def _forward_weight(self) -> IntArray:
        """Weight of a dense layer, or its real part; read once."""
        if self._weight is None:
            weights = self._section.section("weight")
            if weights is None:
                self._weight = self._dense_weight(self._section, _field("dense", "weight"))
            else:
                self._weight = self._dense_weight(weights, COMPLEX_WEIGHT[0])
        return self._weight

    def _dense_weight(self, section: Section, field: Field) -> IntArray:
        weight = section.required_integers(field)
        neurons = prod(self._extents(_field("dense", "shape")) or ())
        if weight.ndim == 1 and weight.size % neurons == 0:
            weight = weight.reshape(neurons, -1)
        if weight.ndim != 2 or weight.shape[0] != neurons:
            raise NetxError(
                f"{section.where}/{field.name}: shape {weight.shape}, ({neurons}, inputs) is "
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
        delay = self._section.integers(_field("dense", "delay"))
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
        values = self._section.integers(field)
        if values is None or not values.any():
            return
        message = f"{self.where}/{field.name}: values up to {values.max()}, but Lava {fault}"
        if is_defined and self._options.accept_silent_faults:
            _warn(f"{message}; so do we.")
            return
        way_out = ", or pass accept_silent_faults (--accept-silent-faults)" * is_defined
        raise NetxError(f"{message}. Remove '{field.name}'{way_out}.")

    def _groups(self) -> int:
        values = self._section.required_integers(_field("conv", "groups"))
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
        values = self._section.required_integers(_field("conv", key))
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
