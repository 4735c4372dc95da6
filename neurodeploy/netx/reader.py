"""Read a netx file into a `FixedPointGraph`, or say exactly why it cannot be trusted.

Lava's own reader fails silently in several ways: it skips layer types it does not know, turns
some weight matrices into zeros, ignores delays of conv layers, and hangs on float neuron
parameters. Here each of these is an error or, where Lava's result is well defined and only
surprising, a `NeurodeployWarning`. Files are treated as untrusted input: no dataset is loaded
before its type and size are checked.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np
import numpy.typing as npt

from neurodeploy.errors import GraphError, NetxError, NeurodeployWarning
from neurodeploy.fixedpoint import BIAS_BITS, DELAY_MAX, truncate, wrap
from neurodeploy.ir.fixed_layers import (
    Connection,
    CubaNeuron,
    FixedConv,
    FixedDense,
    FixedInjection,
    FixedLayer,
    IntArray,
    Shape,
)
from neurodeploy.ir.graph import INPUT, FixedInput, FixedPointGraph
from neurodeploy.netx.schema import (
    ELEMENTS_MAX,
    GEOMETRY_MAX,
    LAYERS,
    LIF_TYPES,
    NEURON,
    NO_NEURON,
    REFUSED_LAYERS,
    Content,
    Field,
)

_INT32 = np.iinfo(np.int32)
_T = TypeVar("_T")


def read(
    path: str | Path,
    *,
    input_shape: Sequence[int] | None = None,
    input_bits: int | None = None,
    accept_silent_faults: bool = False,
) -> FixedPointGraph:
    """Read a netx file.

    Args:
        path: The `.net` file.
        input_shape: (C, H, W) or (N,) where the file has no input layer.
        input_bits: `input_message_bits` of Lava's `Network`: 0 means that every input value
            other than 0 is one spike, more that values count. None: what the file was written
            with if neurodeploy wrote it, else 0, Lava's default.
        accept_silent_faults: Do as Lava does where it silently drops what the file says: delays
            of conv layers and weight matrices that it turns into zeros.

    Returns:
        The network, one layer for each process that Lava would create.

    Raises:
        NetxError: If the file is missing, truncated or malformed, holds something that Lava
            would drop, hang on or fail on, or something that is not simulated.
    """
    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            return _read_network(
                file,
                path,
                input_shape=tuple(input_shape) if input_shape is not None else None,
                input_bits=input_bits,
                accept_silent_faults=accept_silent_faults,
            )
    except FileNotFoundError as error:
        raise NetxError(f"{path}: no such file.") from error
    except NetxError:
        raise
    except GraphError as error:
        raise NetxError(f"{path}: {error}") from error
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise NetxError(
            f"{path}: not a readable HDF5 file ({error}). A netx file is HDF5; this one is "
            "damaged, cut short or something else. Write or copy it again."
        ) from error


@dataclass(slots=True)
class _State:
    """What is known while the layers are read one by one."""

    shape: Shape | None
    source: str = INPUT
    is_flat: bool = False


def _read_network(
    file: h5py.File,
    path: Path,
    *,
    input_shape: Shape | None,
    input_bits: int | None,
    accept_silent_faults: bool,
) -> FixedPointGraph:
    groups = _layer_groups(file, path)
    if input_bits is None:
        input_bits = int(file.attrs.get("message_bits", 0))
    if input_shape is not None and (len(input_shape) not in (1, 3) or min(input_shape) < 1):
        raise NetxError(f"{path}: input shape {input_shape}, (C, H, W) or (N,) is required.")
    state = _State(shape=input_shape)
    port: Shape | None = None
    layers: list[FixedLayer] = []
    for index, group in enumerate(groups):
        reader = _LayerReader(group, f"{path} /layer/{index}", accept_silent_faults)
        kind = reader.kind()
        if kind == "input":
            if index > 0:
                raise NetxError(f"{reader.where}: an input layer must be the first layer.")
            shape = reader.shape(required="neuron" in group)
            state.shape = shape or state.shape
            if "neuron" in group:
                assert shape is not None
                port = shape
                layers.append(reader.input_block(index, shape))
                state.source = layers[-1].name
        elif kind == "flatten":
            state.is_flat = True
        else:
            if kind == "conv":
                source = _conv_source(state, reader.where)
            else:
                source = _dense_source(state, reader, is_first=not layers)
            port = port or source
            layer = (
                reader.conv(index, state.source, source)
                if kind == "conv"
                else reader.dense(index, state.source, prod(source), is_recurrent=kind != "dense")
            )
            layers.append(layer)
            state = _State(shape=layer.shape, source=layer.name)
    if not layers or port is None:
        raise NetxError(f"{path}: no conv, dense or input neuron layer; there is nothing to run.")
    names = [layer.name for layer in layers]
    if len(set(names)) < len(names):
        raise NetxError(f"{path}: two layers have the same name: {', '.join(names)}.")
    return FixedPointGraph(
        input=FixedInput(shape=port, message_bits=max(input_bits, 0)), layers=tuple(layers)
    )


def _layer_groups(file: h5py.File, path: Path) -> list[h5py.Group]:
    root = file.get("layer")
    if not isinstance(root, h5py.Group):
        raise NetxError(
            f"{path}: no group '/layer'. This is an HDF5 file, but not one for lava-dl's netx."
        )
    if not len(root):
        raise NetxError(f"{path}: '/layer' is empty; a network needs at least one layer.")
    groups = []
    for index in range(len(root)):
        group = root.get(str(index))
        if not isinstance(group, h5py.Group):
            raise NetxError(
                f"{path} /layer: {len(root)} entries, but no group '{index}'. "
                "Layers must be numbered 0, 1, 2, ... without a gap."
            )
        groups.append(group)
    return groups


def _conv_source(state: _State, where: str) -> Shape:
    if state.shape is None:
        raise NetxError(
            f"{where}: the file does not say the shape of its input. Give it: "
            "input_shape=(C, H, W), or --input-shape C,H,W."
        )
    if state.is_flat or len(state.shape) != 3:
        raise NetxError(
            f"{where}: a conv layer after a flat layer of shape {state.shape}; Lava cannot run "
            "that. A conv layer needs a (C, H, W) source."
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

    def __init__(self, group: h5py.Group, where: str, accept_silent_faults: bool) -> None:
        self.group = group
        self.where = where
        self._accept = accept_silent_faults

    def kind(self) -> str:
        kind = self._text("type")
        if kind in LAYERS:
            return kind
        allowed = ", ".join(LAYERS)
        if kind in REFUSED_LAYERS:
            raise NetxError(f"{self.where}: layer type '{kind}'. {REFUSED_LAYERS[kind]}")
        raise NetxError(
            f"{self.where}: unknown layer type '{kind}', allowed are {allowed}. Lava would skip "
            "the layer silently."
        )

    def name(self, index: int, kind: str) -> str:
        name = self.group.attrs.get("name")
        return name if isinstance(name, str) and name and name != INPUT else f"{kind}_{index}"

    def shape(self, *, required: bool = True) -> Shape | None:
        shape = self._extents("conv" if required else "input")
        if shape is not None and len(shape) not in (1, 3):
            raise NetxError(f"{self.where}: shape {shape}, (C, H, W) or (N,) is required.")
        return shape

    def _extents(self, kind: str) -> Shape | None:
        values = self._numbers(_field(kind, "shape"))
        if values is None:
            return None
        shape = tuple(int(extent) for extent in np.atleast_1d(values).ravel())
        if not shape or min(shape) < 1:
            raise NetxError(f"{self.where}: shape {shape}; every extent must be at least 1.")
        if prod(shape) > ELEMENTS_MAX:
            raise NetxError(f"{self.where}: shape {shape} has over {ELEMENTS_MAX} neurons.")
        return shape

    def input_block(self, index: int, shape: Shape) -> FixedLayer:
        return FixedLayer(
            name=self.name(index, "input"),
            shape=shape,
            connections=(Connection(source=INPUT, synapse=FixedInjection()),),
            neuron=self._neuron(shape, default=None),
            bias=np.zeros((), np.int32),
        )

    def conv(self, index: int, source: str, source_shape: Shape) -> FixedLayer:
        weight = self._integers("conv", "weight")
        if weight.ndim == 5 and weight.shape[-1] == 1:
            weight = weight[..., 0]
        if weight.ndim != 4 or 0 in weight.shape:
            raise NetxError(
                f"{self.where}/weight: shape {weight.shape}, (out, in / groups, KH, KW) is "
                "required, a trailing 1 is allowed."
            )
        if max(weight.shape[2:]) > GEOMETRY_MAX:
            raise NetxError(
                f"{self.where}/weight: kernel {weight.shape[2:]}, Lava allows {GEOMETRY_MAX} "
                "at most. Use several layers."
            )
        self._refuse_delay("conv", "ignores the delays of conv layers")
        synapse = FixedConv(
            weight=weight,
            stride=self._pair("stride", smallest=1),
            padding=self._pair("padding", smallest=0),
            dilation=self._pair("dilation", smallest=1),
            groups=self._groups(),
        )
        shape = self.shape()
        assert shape is not None
        given = self._place(synapse.output_shape, source_shape)
        if given != shape:
            raise NetxError(
                f"{self.where}/shape: {shape}, but the convolution of a {source_shape} source "
                f"gives {given}."
            )
        self._warn_if_fractions("weight", "bias")
        return FixedLayer(
            name=self.name(index, "conv"),
            shape=shape,
            connections=(Connection(source=source, synapse=synapse),),
            neuron=self._neuron(shape, default=None),
            bias=self._bias("conv", shape),
        )

    def dense_inputs(self) -> int:
        return int(self._dense_weight("weight").shape[1])

    def dense(self, index: int, source: str, inputs: int, *, is_recurrent: bool) -> FixedLayer:
        kind = "dense_rec" if is_recurrent else "dense"
        weight = self._dense_weight("weight")
        shape = (weight.shape[0],)
        name = self.name(index, kind)
        connections: tuple[Connection, ...]
        if is_recurrent:
            self._refuse_delay(
                "dense_rec", "scales the weights of a delayed recurrent layer wrongly"
            )
            recurrent = self._dense_weight("weight_rec")
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
        else:
            forward = FixedDense(weight=weight, delay=self._delay(shape[0], inputs))
            connections = (Connection(source=source, synapse=forward),)
        self._check_effect(forward)
        self._warn_if_fractions("weight", "bias", "weight_rec")
        return FixedLayer(
            name=name,
            shape=shape,
            connections=connections,
            neuron=self._neuron(shape, default=NO_NEURON),
            bias=self._bias(kind, shape),
        )

    def _check_effect(self, synapse: FixedDense) -> None:
        effective = self._place(lambda _: synapse.effective, ())
        if effective.is_exact:
            return
        low, high = int(synapse.weight.min()), int(synapse.weight.max())
        if not effective.mantissa.any():
            message = (
                f"{self.where}/weight: weights from {low} to {high}: Lava turns this matrix into "
                "zeros. Keep weights within [-256, 254] with at least one positive and one negative"
            )
            if not self._accept:
                raise NetxError(
                    f"{message}, or pass accept_silent_faults (--accept-silent-faults)."
                )
            self._warn(f"{message}.")
            return
        self._warn(
            f"{self.where}/weight: weights from {low} to {high} do not fit Lava's 8 bits; some act "
            "with other values. Both simulators do the same. Keep weights even and within "
            "[-256, 254] for an exact layer."
        )

    def _dense_weight(self, key: str) -> IntArray:
        kind = "dense_rec" if key == "weight_rec" else "dense"
        node = self.group.get(key)
        if isinstance(node, h5py.Group):
            raise NetxError(
                f"{self.where}/{key}: complex weights (resonate-and-fire) are not simulated. "
                "Conv and dense layers with CUBA neurons are."
            )
        weight = self._integers(kind, key)
        neurons = prod(self._extents("dense") or ())
        if weight.ndim == 1 and weight.size and weight.size % neurons == 0:
            weight = weight.reshape(neurons, -1)
        if weight.ndim != 2 or 0 in weight.shape or weight.shape[0] != neurons:
            raise NetxError(
                f"{self.where}/{key}: shape {weight.shape}, ({neurons}, inputs) is required."
            )
        return weight

    def _delay(self, outputs: int, inputs: int) -> IntArray | None:
        delay = self._optional_integers("dense", "delay")
        if delay is None or not delay.any():
            return None
        if delay.min() < 0:
            raise NetxError(f"{self.where}/delay: smallest value {delay.min()}, 0 is the least.")
        if delay.max() > DELAY_MAX:
            self._warn(
                f"{self.where}/delay: largest value {delay.max()}, Lava clamps it to {DELAY_MAX}, "
                "and so do we."
            )
            delay = np.minimum(delay, DELAY_MAX)
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

    def _refuse_delay(self, kind: str, fault: str) -> None:
        delay = self._optional_integers(kind, "delay")
        if delay is None or not delay.any():
            return
        message = f"{self.where}/delay: delays up to {delay.max()}, but Lava {fault}"
        if kind != "conv" or not self._accept:
            advice = " or pass accept_silent_faults (--accept-silent-faults)" * (kind == "conv")
            raise NetxError(f"{message}. Train without delays in this layer{advice}.")
        self._warn(f"{message}; so do we.")

    def _groups(self) -> int:
        values = self._numbers(_field("conv", "groups"))
        assert values is not None
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
        values = self._numbers(_field("conv", key))
        assert values is not None
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

    def _bias(self, kind: str, shape: Shape) -> IntArray:
        bias = self._optional_integers(kind, "bias")
        if bias is None:
            return np.zeros((), np.int32)
        if kind == "conv" and bias.size == 1 and shape[0] != 1:
            raise NetxError(
                f"{self.where}/bias: shape {bias.shape}, ({shape[0]},) is required; Lava fails on "
                "a single value in a conv layer."
            )
        wrapped = wrap(bias, BIAS_BITS)
        if np.any(wrapped != bias):
            self._warn(
                f"{self.where}/bias: values from {bias.min()} to {bias.max()} wrap, since the chip "
                "holds 16 bits. Both simulators do the same; scale the layer down."
            )
        return self._per_neuron("bias", wrapped.astype(np.int32), shape)

    def _neuron(self, shape: Shape, *, default: dict[str, int] | None) -> CubaNeuron:
        if "neuron" not in self.group:
            if default is None:
                raise NetxError(
                    f"{self.where}: no group 'neuron'; conv and input layers need one with "
                    "type, iDecay, vDecay and vThMant."
                )
            decay, leak, threshold = (np.array(value, np.int32) for value in default.values())
            return CubaNeuron(current_decay=decay, voltage_decay=leak, threshold=threshold)
        if not isinstance(self.group["neuron"], h5py.Group):
            raise NetxError(f"{self.where}/neuron: a dataset, a group is required.")
        kind = self._text("neuron/type")
        if kind not in LIF_TYPES:
            raise NetxError(
                f"{self.where}/neuron/type: '{kind}' is not simulated; {' and '.join(LIF_TYPES)} "
                "are (the name is case-sensitive)."
            )
        if "messageBits" in self.group["neuron"]:
            raise NetxError(
                f"{self.where}/neuron/messageBits: Lava hangs on this dataset. Remove it, and give "
                "the number with --input-bits instead."
            )
        if "gradedSpike" in self.group["neuron"] and np.any(
            self._scalar_bool("neuron/gradedSpike")
        ):
            self._warn(
                f"{self.where}/neuron/gradedSpike: true, but Lava's LIF neurons send plain spikes; "
                "so do ours."
            )
        values = []
        for field in NEURON:
            array = self._numbers(field)
            assert array is not None
            if array.size > 1 and array.dtype.itemsize < 4:
                raise NetxError(
                    f"{self.where}/{field.name}: an array of {array.dtype} overflows inside Lava. "
                    "Store int32 or int64."
                )
            values.append(self._per_neuron(field.name, self._to_int32(field.name, array), shape))
        return CubaNeuron(current_decay=values[0], voltage_decay=values[1], threshold=values[2])

    def _scalar_bool(self, key: str) -> npt.NDArray[np.generic]:
        dataset = self.group[key]
        if not isinstance(dataset, h5py.Dataset) or dataset.size != 1:
            raise NetxError(f"{self.where}/{key}: one true or false is required.")
        return np.asarray(dataset[()])

    def _per_neuron(self, key: str, values: IntArray, shape: Shape) -> IntArray:
        """Bring what broadcasts over Lava's (W, H, C) into our (C, H, W)."""
        if values.size == 1:
            return values.reshape(())
        in_lava = shape[::-1]
        try:
            fits = np.broadcast_shapes(values.shape, in_lava) == in_lava
        except ValueError:
            fits = False
        if not fits:
            raise NetxError(
                f"{self.where}/{key}: shape {values.shape} does not fit the layer. One value, "
                f"one a channel or neuron ({shape[0]},), or the full shape {in_lava} is allowed."
            )
        full = values.reshape((1,) * (len(shape) - values.ndim) + values.shape)
        return np.ascontiguousarray(full.transpose())

    def _integers(self, kind: str, key: str) -> IntArray:
        values = self._optional_integers(kind, key)
        if values is None:
            raise NetxError(f"{self.where}: required dataset '{key}' is missing.")
        return values

    def _optional_integers(self, kind: str, key: str) -> IntArray | None:
        values = self._numbers(_field(kind, key))
        return None if values is None else self._to_int32(key, values)

    def _to_int32(self, key: str, values: npt.NDArray[np.generic]) -> IntArray:
        if not values.size:
            raise NetxError(f"{self.where}/{key}: shape {values.shape} holds nothing.")
        whole = values if values.dtype.kind in "iu" else truncate(values)
        if int(whole.min()) < _INT32.min or int(whole.max()) > _INT32.max:
            raise NetxError(
                f"{self.where}/{key}: values from {whole.min()} to {whole.max()} exceed 32 bits."
            )
        return whole.astype(np.int32)

    def _numbers(self, field: Field) -> npt.NDArray[np.generic] | None:
        node = self.group.get(field.name)
        if node is None:
            if field.is_required:
                raise NetxError(
                    f"{self.where}: required dataset '{field.name}' is missing "
                    f"({field.meaning}; {field.shapes})."
                )
            return None
        where = f"{self.where}/{field.name}"
        if not isinstance(node, h5py.Dataset):
            raise NetxError(f"{where}: a group, a dataset is required ({field.shapes}).")
        if node.dtype.kind not in ("iu" if field.content is Content.INTEGER else "iuf"):
            raise NetxError(
                f"{where}: dtype {node.dtype}, {field.content.value} are required"
                + (" (Lava hangs on others)." if field.name.startswith("neuron/") else ".")
            )
        if node.size is None or node.size > ELEMENTS_MAX:
            raise NetxError(
                f"{where}: {node.size} elements, at most {ELEMENTS_MAX} are read. "
                "Is the file damaged?"
            )
        values = np.asarray(node[()])
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise NetxError(f"{where}: holds NaN or infinity; every value must be a finite number.")
        return values

    def _text(self, key: str) -> str:
        node = self.group.get(key)
        if not isinstance(node, h5py.Dataset):
            raise NetxError(f"{self.where}: required dataset '{key}' is missing (a string).")
        if node.size != 1 or node.dtype.kind not in "OSU":
            raise NetxError(f"{self.where}/{key}: one string is required, found {node.dtype}.")
        value = np.asarray(node[()]).ravel()[0]
        try:
            return value.decode() if isinstance(value, bytes) else str(value)
        except UnicodeDecodeError as error:
            raise NetxError(f"{self.where}/{key}: not a readable string.") from error

    def _warn_if_fractions(self, *keys: str) -> None:
        for key in keys:
            node = self.group.get(key)
            if not isinstance(node, h5py.Dataset) or node.dtype.kind != "f":
                continue
            values = np.asarray(node[()])
            if np.any(values != np.trunc(values)):
                self._warn(
                    f"{self.where}/{key}: fractions are dropped, as Lava does. Round the values "
                    "when you write the file."
                )

    @staticmethod
    def _warn(message: str) -> None:
        warnings.warn(message, NeurodeployWarning, stacklevel=2)

    def _place(self, compute: Callable[[Shape], _T], shape: Shape) -> _T:
        try:
            return compute(shape)
        except GraphError as error:
            raise NetxError(f"{self.where}: {error}") from error


def _field(kind: str, name: str) -> Field:
    return next(field for field in LAYERS[kind] if field.name == name)
