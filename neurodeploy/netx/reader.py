"""Read a netx file into a `FixedPointGraph`, or say exactly why it cannot be trusted.

Lava's own reader fails silently in several ways: it skips layer types it does not know, turns
some weight matrices into zeros, ignores delays of conv layers, does not look at datasets that it
does not know, and hangs on float neuron parameters. Here each of these is an error or, where
Lava's result is well defined and only surprising, a `NeurodeployWarning`.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from math import inf, prod
from pathlib import Path

import numpy as np

from neurodeploy.errors import GraphError, NetxError, NeurodeployWarning
from neurodeploy.ir.graphs import (
    INPUT,
    SPIKE_EXPONENT,
    AnnLayerMacs,
    AnnMacs,
    FixedInput,
    FixedPointGraph,
    FrameScales,
)
from neurodeploy.ir.integer_layers import (
    SPIKE_EXPONENT_MAX,
    FixedLayer,
    Shape,
    SigmaDeltaNeuron,
)
from neurodeploy.netx.layers import LayerReader, Options
from neurodeploy.netx.schema import (
    COMPLEX_WEIGHT,
    DROPPED,
    LAYERS,
    LAYERS_MAX,
    NEURONS,
    RELU_TWIN,
    RESTATED,
    TWIN_BYTES_MAX,
)
from neurodeploy.strict_tables import read_table
from neurodeploy.untrusted.boundary import FileKind, guarded
from neurodeploy.untrusted.documents import parse_json
from neurodeploy.untrusted.hdf5 import ENTRIES_MAX, UntrustedGroup, open_root

_TWIN = FileKind("counts of the ReLU twin", ".net", NetxError, "Deploy the network again.")


def read_network(
    path: Path,
    *,
    input_shape: Sequence[int] | None,
    input_bits: int | None,
    spike_exponent: int | None,
    accept_silent_faults: bool,
) -> FixedPointGraph:
    """Read a netx file; see `neurodeploy.netx.read`."""
    shape = tuple(input_shape) if input_shape is not None else None
    if shape is not None and (len(shape) not in (1, 3) or min(shape) < 1):
        raise NetxError(f"{path}: input shape {shape}, (C, H, W) or (N,) is required.")
    try:
        with open_root(path) as root:
            options = Options(
                spike_exponent=_exponent(root, spike_exponent),
                accept_silent_faults=accept_silent_faults,
            )
            return _read_layers(root, options, input_shape=shape, input_bits=input_bits)
    except GraphError as error:
        raise NetxError(f"{path}: {error}") from error


def _exponent(root: UntrustedGroup, given: int | None) -> int:
    """Return the spike exponent: the one that was asked for, or that of the file."""
    written = root.attribute_integer("spike_exponent")
    if written is None or not 0 <= written <= SPIKE_EXPONENT_MAX:
        return SPIKE_EXPONENT if given is None else given
    if given is not None and given != written:
        _warn(
            f"{root.where}: was written for spike exponent {written} and is read with {given}: its "
            "biases and thresholds change by a power of two."
        )
        return given
    return written


def _frame_scales(root: UntrustedGroup) -> FrameScales | None:
    scales = root.attribute_float("input_scale"), root.attribute_float("output_scale")
    found = [scale for scale in scales if scale is not None and 0 < scale < inf]
    return FrameScales(input=found[0], output=found[1]) if len(found) == 2 else None


def _refresh_interval(root: UntrustedGroup) -> int | None:
    written = root.attribute_integer("refresh")
    return written if written is not None and written > 0 else None


@dataclass(slots=True)
class _State:
    """The source of the next layer, while layers are read in order."""

    shape: Shape | None
    source: str = INPUT
    is_flat: bool = False


def _read_layers(
    root: UntrustedGroup, options: Options, *, input_shape: Shape | None, input_bits: int | None
) -> FixedPointGraph:
    if input_bits is None:
        # An attribute in a file from elsewhere may mean anything; only a sane one is taken.
        written = root.attribute_integer("message_bits") or 0
        input_bits = written if 0 <= written <= 32 else 0
    state = _State(shape=input_shape)
    port: Shape | None = None
    layers: list[FixedLayer] = []
    for index, group in enumerate(_layer_groups(root)):
        layer: FixedLayer | None = None
        reader = LayerReader(group, options, index)
        if reader.kind == "input":
            if index > 0:
                raise NetxError(f"{reader.where}: an input layer must be the first layer.")
            shape = reader.input_shape()
            state.shape = shape or state.shape
            if "neuron" in group:
                layer = reader.input_block(shape)
                layers.append(layer)
                state.source, port = layer.name, layer.shape
        elif reader.kind == "flatten":
            if layers and len(layers[-1].shape) == 1:
                raise NetxError(
                    f"{reader.where}: a flatten layer after a flat layer; Lava fails on it. "
                    "Remove it."
                )
            state.is_flat = True
        else:
            if reader.kind == "conv":
                source = _conv_source(state, reader.where)
                layer = reader.conv(state.source, source)
            else:
                source = _dense_source(state, reader, is_first=not layers)
                layer = reader.dense(state.source, prod(source))
            port = port or source
            layers.append(layer)
            state = _State(shape=layer.shape, source=layer.name)
        _check_unread(group, reader.kind, layer, options)
    if not layers or port is None:
        raise NetxError(
            f"{root.where}: no conv, dense or input neuron layer; there is nothing to run."
        )
    return FixedPointGraph(
        input=FixedInput(shape=port, message_bits=max(input_bits, 0)),
        layers=tuple(layers),
        relu_twin=_read_twin(root),
        frame_scales=_frame_scales(root),
        refresh_interval=_refresh_interval(root),
    )


def _check_unread(
    group: UntrustedGroup, kind: str, layer: FixedLayer | None, options: Options
) -> None:
    """Refuse or name each entry of a layer that Lava does not read."""
    fields = LAYERS[kind] if layer else {}  # an input layer without neurons is a shape
    _name_unread(group, {"type", "shape", "neuron", *fields}, RESTATED, options)
    weights, neurons = group.subgroup("weight"), group.subgroup("neuron")
    if weights is not None:
        _name_unread(weights, {field.name for field in COMPLEX_WEIGHT}, frozenset(), options)
    if neurons is None or layer is None:
        return
    own = NEURONS[type(layer.neuron)]
    read = {"type"}
    for one in NEURONS.values():
        if one.type == own.type:
            read |= {one.mark, *(field.name for field in one.parameters.values())}
    is_rectifying = isinstance(layer.neuron, SigmaDeltaNeuron)
    harmless = RESTATED if is_rectifying else RESTATED | {"activation"}
    _name_unread(neurons, read, harmless, options)


def _name_unread(
    group: UntrustedGroup, read: Collection[str], harmless: Collection[str], options: Options
) -> None:
    """Refuse entries that change what was trained, warn of others; Lava reads those in `read`."""
    ignored = []
    for name in group.names(ENTRIES_MAX):
        if name in read or name in harmless:
            continue
        meant = _misspelt(name, read)
        if name in DROPPED:
            found = group.beside(name, DROPPED[name].neutral)
            advice = f"It stands for {DROPPED[name].meaning}: train the network without"
        elif meant:
            found = group.beside(name, (0,))
            advice = f"Did you mean '{meant}'? Rename or remove it"
        else:
            ignored.append(f"{name!r:.40}")
            continue
        message = f"{group.where}/{name}: {found}; Lava does not read it"
        if found and not options.accept_silent_faults:
            raise NetxError(
                f"{message}. {advice}, or pass accept_silent_faults (--accept-silent-faults)."
            )
        if found:
            _warn(f"{message}, nor do we.")
    if ignored:
        more = f" and {len(ignored) - 8} more" if len(ignored) > 8 else ""
        _warn(f"{group.where}: Lava does not read {', '.join(ignored[:8])}{more}; nor do we.")


def _warn(message: str) -> None:
    warnings.warn(message, NeurodeployWarning, stacklevel=2)


def _misspelt(name: str, read: Collection[str]) -> str:
    """Return the name that was probably meant; not those that stand in every layer."""
    words = {word.lower(): word for word in read if word not in ("type", "shape", "")}
    begins = [word for word in words if name.lower().startswith(word)]
    close = begins or get_close_matches(name.lower(), words, n=1, cutoff=0.75)
    return words[close[0]] if close else ""


def _read_twin(root: UntrustedGroup) -> AnnMacs | None:
    """Return the counts of the ReLU twin, or None if the file has none."""
    stored = root.numbers(RELU_TWIN)
    if stored is None:
        return None
    where = f"{root.where}/{RELU_TWIN.name}"
    if stored.dtype != np.uint8 or stored.size > TWIN_BYTES_MAX:
        raise NetxError(
            f"{where}: {stored.size} numbers of {stored.dtype}, at most {TWIN_BYTES_MAX} bytes "
            "(uint8) are read. Deploy the network again."
        )
    with guarded(where, _TWIN):
        tables = parse_json(stored.tobytes().decode(), where=where, kind=_TWIN, most=TWIN_BYTES_MAX)
    if not isinstance(tables, list):
        raise NetxError(f"{where}: not a list of layers in JSON. {_TWIN.rule}")
    layers = []
    for number, table in enumerate(tables):
        place = f"{where}: layer {number}"
        layer = read_table(AnnLayerMacs, table, where=place, error=NetxError)
        counts = [value for value in asdict(layer).values() if isinstance(value, int)]
        if min(counts) < 0:
            raise NetxError(f"{place}: counts {counts}, at least 0 is required.")
        layers.append(layer)
    return AnnMacs(layers=tuple(layers))


def _layer_groups(root: UntrustedGroup) -> list[UntrustedGroup]:
    layers = root.subgroup("layer")
    if layers is None:
        raise NetxError(
            f"{root.where}: no group '/layer'. This is an HDF5 file, but not one for lava-dl's "
            "netx."
        )
    count = len(layers)
    if not 0 < count <= LAYERS_MAX:
        raise NetxError(f"{layers.where}: {count} layers, 1 to {LAYERS_MAX} are read.")
    groups = []
    for index in range(count):
        group = layers.subgroup(str(index))
        if group is None:
            raise NetxError(
                f"{layers.where}: {count} entries, but no group '{index}'. "
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
            f"{where}: a conv layer after a flat layer of shape {state.shape}. "
            "A conv layer needs a (C, H, W) source, and no flatten before it."
        )
    return state.shape


def _dense_source(state: _State, reader: LayerReader, *, is_first: bool) -> Shape:
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
