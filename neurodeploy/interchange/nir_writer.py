"""Write a network of ours as a NIR file, for other frameworks and simulators.

Neurons take the forms that most frameworks read alike: forward Euler with the step dt, which the
metadata name. Not every framework loads every file: snnTorch 1.0.0 no IF and no recurrence; norse
1.1.0 no average pools; SpikingJelly 2.0.0 no LIF without memory (tau = dt). Flatten begins at axis
0, so snnTorch and norse take single samples, SpikingJelly batches. sinabs 3.1.3 resets by
subtraction whatever the file says.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from neurodeploy._version import __version__
from neurodeploy.errors import GraphError, InterchangeError
from neurodeploy.files import replacing
from neurodeploy.fixedpoint import STATE_EXPONENT, FloatArray
from neurodeploy.interchange import nir_schema as schema
from neurodeploy.ir import float_layers as floats
from neurodeploy.ir.float_layers import Conv, Cuba, Dense, Flatten, Integrator, Layer, Shape
from neurodeploy.ir.graphs import FixedPointGraph, Graph
from neurodeploy.passes import fold_batchnorm, lower_max_pool, run_passes
from neurodeploy.passes.dequantization import dequantize
from neurodeploy.passes.linear_chains import flatten_explicitly, settle_biases, spread_groups

_TIE = 1e-6
"""Share by which a threshold that fires at equality is lowered: those of NIR fire above it only."""

Values = Mapping[str, float | tuple[int, ...] | FloatArray]
Metadata = dict[str, str | float | tuple[float, ...]]


def export_nir(network: Graph | FixedPointGraph, path: str | Path, *, dt: float = 1e-4) -> None:
    """Write a network as a NIR file, whole or not at all; `import_nir` and nir 1.0.8 read it.

    Neurons become LIF with r = 1, IF, or CubaLIF where their current lasts. A read-out without leak
    is left out: the graph ends in its weights, and the metadata `readout` say so. Of a float graph,
    batch norm is folded and a max pool becomes neurons; it reads x, which the metadata
    `input_scale`, `input_mean` and `input_deviation` relate to integers. Of an integer network,
    weights are those that act, and a threshold T is T + 1/128, between two states. Who runs the
    file does not round, wrap and clip as the chip does.

    Names stay, with "_" for "." and "/". Groups of a convolution, and missing taps of kernels that
    are not square, become zeros, since nir's shape rules know neither; a kernel of an even and an
    odd side is written as it is, and `nir.read` takes it with `type_check=False` only.

    Args:
        network: A float or an integer network.
        path: The `.nir` file to write.
        dt: Width of a time step in seconds; snnTorch and SpikingJelly take 1e-4 for granted.

    Raises:
        GraphError: If the float graph is inconsistent.
        InterchangeError: If NIR cannot say what a layer does; every such layer is listed.
        OutputError: If the file cannot be written.

    Example:
        >>> nd.export_nir(nd.load_example().graph, "digits.nir")
        >>> imported = nd.import_nir("digits.nir", convention="neurodeploy")
        >>> list(imported.thresholds)
        ['conv1', 'conv2']
    """
    if not (math.isfinite(dt) and dt > 0):
        raise InterchangeError(f"dt: {dt:g}, seconds above 0 are required.")
    about: Metadata = {"producer": "neurodeploy", "producer_version": __version__}
    about |= {"dt": dt, "scheme": "euler"}
    thresholds: Mapping[str, FloatArray] = {}
    refusals: list[str] = []
    if isinstance(network, FixedPointGraph):
        about |= {"state_exponent": STATE_EXPONENT, "input_bits": network.input.message_bits}
        integers = dequantize(network)
        graph, thresholds, refusals = integers.graph, integers.thresholds, integers.refusals
    else:
        graph, entry = network, network.input
        about |= {"input_scale": entry.scale} if entry.scale != 1 else {}
        if entry.mean:
            about |= {"input_mean": entry.mean, "input_deviation": entry.deviation}
    graph.check()
    try:
        graph = run_passes(graph, fold_batchnorm, lower_max_pool)
    except GraphError as error:
        refusals.append(str(error))
    graph, homeless = settle_biases(flatten_explicitly(graph))
    refusals += [f"{name}: a bias of its current that no weights can hold." for name in homeless]
    draft = _Draft(graph, thresholds, dt, refusals)
    if refusals:
        raise InterchangeError(
            f"{path}: NIR cannot say what this network does.\n"
            + "\n".join(f"  {refusal}" for refusal in refusals)
        )
    about |= {"readout": "sum over steps"} if draft.is_sum else {}
    content = io.BytesIO()  # HDF5 reports a full disk in many ways, a plain write in one
    with h5py.File(content, "w") as file:
        _store(file, draft, about)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())


class _Draft:
    """The nodes and edges of NIR; what has none is a refusal."""

    def __init__(
        self,
        graph: Graph,
        thresholds: Mapping[str, FloatArray],
        dt: float,
        refusals: list[str],
    ) -> None:
        self.graph, self.thresholds, self.dt = graph, thresholds, dt
        self.shapes = graph.shapes()
        self.nodes: dict[str, schema.NirNode] = {}
        self.is_sum = False
        names: dict[str, str] = {}
        for name, layer in graph.nodes.items():
            names[name] = _fresh(name.replace(".", "_").replace("/", "_"), names.values())
            try:
                kind, values = self._node(name, layer)
            except InterchangeError as error:
                refusals.append(f"{name}: {error}")
                continue
            arrays = {key: np.asarray(value) for key, value in values.items()}
            self.nodes[names[name]] = schema.NirNode(kind, arrays)
        self.edges = [(names[source], names[end]) for source, end in graph.edges]
        recurrent = {graph.recurrent_synapse(name) for name in graph.nodes}
        ends = [name for name in graph.nodes if not set(graph.destinations(name)) - recurrent]
        if len(ends) != 1:
            refusals.append(f"{', '.join(ends)}: nothing reads them; NIR has one output.")
        elif not self.is_sum:
            output = _fresh("output", names.values())
            shape = np.array(self.shapes[ends[0]])
            self.nodes[output] = schema.NirNode(schema.OUTPUT_NODE, {"shape": shape})
            self.edges.append((names[ends[0]], output))

    def _node(self, name: str, layer: Layer) -> tuple[str, Values]:
        """Return the kind of a layer's node and its fields, in seconds and units of the input."""
        sources = self.graph.sources(name)
        source = self.shapes[sources[0]] if sources else ()
        match layer:
            case floats.Input():
                return schema.INPUT_NODE, {"shape": layer.shape}
            case Dense() if name == self.graph.recurrent_synapse(sources[0]):
                return "Linear", {"weight": layer.weight}
            case Dense():
                bias = np.zeros(len(layer.weight)) if layer.bias is None else layer.bias
                return "Affine", {"weight": layer.weight, "bias": bias}
            case Conv():
                return "Conv2d", _square(layer, source)
            case Flatten():
                return "Flatten", {"input_type": source, "start_dim": 0, "end_dim": -1}
            case floats.AveragePool():
                window = {"kernel_size": layer.kernel, "padding": layer.padding}
                return "AvgPool2d", {**window, "stride": layer.stride}
            case Integrator() if self._is_sum(layer, sources):
                self.is_sum = True
                return schema.OUTPUT_NODE, {"shape": self.shapes[name]}
            case Integrator() if self.graph.destinations(name):
                raise InterchangeError("a read-out sends its voltage; only the last layer can.")
            case Cuba() | Integrator():
                threshold = self.thresholds.get(name)
                return _neuron(layer, threshold, self.shapes[name], self.dt)
        raise InterchangeError(f"{type(layer).__name__} has no counterpart in NIR.")

    def _is_sum(self, layer: Integrator, sources: Sequence[str]) -> bool:
        """Return whether a read-out only adds up what one layer of weights gives."""
        is_plain = np.all(np.asarray(layer.current_decay) == 1) and not np.any(layer.voltage_decay)
        follows = len(sources) == 1 and isinstance(self.graph.nodes[sources[0]], Conv | Dense)
        return bool(is_plain and follows and (layer.bias is None or not layer.bias.any()))


def _neuron(
    layer: Cuba | Integrator, threshold: FloatArray | None, shape: Shape, dt: float
) -> tuple[str, Values]:
    fires = isinstance(layer, Cuba)
    du, dv = (np.broadcast_to(d, shape) for d in (layer.current_decay, layer.voltage_decay))
    if du.min() <= 0 or du.max() > 1 or dv.min() < 0 or dv.max() > 1:
        raise InterchangeError(
            f"decays of {du.min():g} to {du.max():g} (current) and {dv.min():g} to {dv.max():g} "
            "(voltage); 0 to 1 is possible, and a current must decay."
        )
    values: dict[str, FloatArray] = {}
    if isinstance(layer, Cuba):
        level = np.asarray(layer.threshold if threshold is None else threshold)
        if not level.min() > 0:
            raise InterchangeError(f"a threshold of {level.min():g}, above 0 is required.")
        level = level * (1 - _TIE if layer.fires_at_threshold else 1.0)
        values = {"v_threshold": level, "v_reset": np.zeros(())}
    drive = np.zeros(()) if layer.bias is None else layer.bias
    lasts = bool(np.any(du < 1))
    if not lasts and not dv.any():
        if drive.any():
            raise InterchangeError("a bias that no weights before it can hold, and no leak.")
        kind, values = "IF" if fires else "I", values | {"r": np.array(1 / dt)}
    elif not dv.all():
        raise InterchangeError(
            "a voltage without leak behind a current that lasts, which CubaLIF cannot say. Train "
            "with a voltage_decay above 0, or a current_decay of 1."
            if lasts
            else "neurons with and without leak side by side, which are two kinds in NIR."
        )
    else:
        tau, tau_syn = _single(dt / dv), _single(dt / du)
        values |= {"tau_mem" if lasts else "tau": tau, "r": tau / dt, "v_leak": drive * tau / dt}
        values |= {"tau_syn": tau_syn, "w_in": tau_syn / dt} if lasts else {}
        if fires and not lasts:  # with r = 1, the threshold takes the gain dt / tau
            values |= {"r": np.ones(()), "v_leak": drive, "v_threshold": level * dt / tau}
        kind = ("CubaLI" if lasts else "LI") + ("F" if fires else "")
    return kind, {key: np.broadcast_to(value, shape) for key, value in values.items()}


def _single(values: FloatArray) -> FloatArray:
    """Round to what a file holds, so that parameters worked out from it fit it."""
    return values.astype(np.float32).astype(np.float64)


def _fresh(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _square(conv: Conv, source: Shape) -> Values:
    """Return a convolution's fields, groups and missing taps of a square kernel as zeros."""
    if conv.bias is not None and conv.bias.ndim > 1:
        raise InterchangeError("a bias that differs between positions, and no neurons behind it.")
    weight, padding = spread_groups(conv), conv.padding
    height, width = weight.shape[2:]
    if (height + width) % 2 == 0:
        down, right = ((max(height, width) - size) // 2 for size in (height, width))
        weight = np.pad(weight, [(0, 0), (0, 0), (down, down), (right, right)])
        padding = padding[0] + conv.dilation[0] * down, padding[1] + conv.dilation[1] * right
    return {
        "weight": weight,
        "bias": np.zeros(len(weight)) if conv.bias is None else conv.bias,
        "stride": conv.stride,
        "padding": padding,
        "dilation": conv.dilation,
        "groups": 1,
        "input_shape": source[1:],
    }


def _store(file: h5py.File, draft: _Draft, about: Metadata) -> None:
    """Fill a file as `nir.write` does: numbers in float32, integers in 64 bits."""
    file["version"] = schema.VERSION
    top = file.create_group("node")
    top["type"] = schema.GRAPH_NODE
    top["edges"] = draft.edges
    for key, value in about.items():
        top[f"metadata/{key}"] = value
    for name, node in draft.nodes.items():
        group = top.create_group(f"nodes/{name}")
        group["type"] = node.kind
        for field in (*schema.PRIMITIVES[node.kind], *schema.STATED.get(node.kind, ())):
            is_real = field.kind is schema.FieldKind.NUMBERS
            values = node.array(field.name).astype(np.float32 if is_real else np.int64)
            compression = "gzip" if values.ndim else None
            group.create_dataset(field.name, data=values, compression=compression)
