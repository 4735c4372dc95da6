"""The commands that look at a file without running it: inspect and fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from neurodeploy.chips.cores import ChipFit, estimate_cores
from neurodeploy.chips.layer_sizes import parse_sketch, sizes_of
from neurodeploy.chips.limits import find_violations
from neurodeploy.chips.target import Target
from neurodeploy.cli import console
from neurodeploy.cli.options import AsJson, FileOptions, NetFile
from neurodeploy.files import net_of
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.ir.integer_layers import (
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedInjection,
    FixedLayer,
)

_SYNAPSES: dict[type[object], str] = {
    FixedConv: "conv",
    FixedDense: "dense",
    FixedComplexDense: "complex dense",
    FixedInjection: "input",
}


def inspect(net: NetFile, file: FileOptions, as_json: AsJson = False) -> None:
    """Show the layers, weights and neurons of a `.net` file, or the nodes of a `.nir` file.

    Example: `neurodeploy inspect network.net`
    """
    if net.suffix == ".nir":
        from neurodeploy.cli.foreign_networks import inspect_nir  # seldom, and not quick to load

        inspect_nir(net, as_json=as_json)
        return
    graph = file.read(net)
    if as_json:
        console.print_json(
            {
                "input": {
                    "shape": list(graph.input.shape),
                    "message_bits": graph.input.message_bits,
                    "has_neuron": graph.has_input_neuron,
                },
                "sigma_delta": _describe_stream(graph),
                "layers": [_describe(layer) for layer in graph],
            }
        )
        return
    _print_tables(graph, title=console.relative(net))


def _print_tables(graph: FixedPointGraph, *, title: str) -> None:
    bits = graph.input.message_bits
    kind = f"graded, {bits} message bits" if bits else "binary"
    console.out.print(f"{title}: input {console.shape_text(graph.input.shape)}, {kind}")
    if graph.sends_changes:
        console.out.print(_stream_text(graph))
    columns = ("layer", "type", "shape", ">neurons", ">weights", ">range", ">zeros")
    layers = console.make_table(*columns, title="Layers")
    neurons = console.make_table("layer", "neuron", "parameters", "bias", title="Neurons")
    for layer in graph:
        weights = _weights(layer)
        layers.add_row(
            layer.name,
            _type(layer),
            console.shape_text(layer.shape),
            f"{layer.neurons:,}",
            f"{weights.size:,}",
            _span(weights),
            f"{np.mean(weights == 0):.1%}" if weights.size else "-",
        )
        parameters = ", ".join(
            f"{name.replace('_', ' ')} {_span(values)}"
            for name, values in _parameters(layer).items()
        )
        neurons.add_row(layer.name, layer.neuron.label, parameters, _span(layer.bias))
    console.out.print(layers)
    console.out.print(neurons)


def _describe_stream(graph: FixedPointGraph) -> dict[str, object] | None:
    """Return how frames enter and leave a sigma-delta network; None of other networks."""
    if not graph.sends_changes:
        return None
    scales = graph.frame_scales
    return {
        "spike_exponent": graph.spike_exponent,
        "latency": len(graph.layers) - 1 if graph.has_input_neuron else len(graph.layers),
        "refresh_interval": graph.refresh_interval,
        "input_scale": None if scales is None else scales.input,
        "output_scale": None if scales is None else scales.output,
    }


def _stream_text(graph: FixedPointGraph) -> str:
    about = _describe_stream(graph)
    assert about is not None
    refresh = about["refresh_interval"]
    parts = [
        f"sigma-delta neurons: spike exponent {about['spike_exponent']}",
        f"a frame is answered {about['latency']} steps later",
        "no refresh" if refresh is None else f"a refresh every {refresh} steps",
    ]
    if graph.frame_scales is not None:
        parts.append(
            f"integers are frames times {graph.frame_scales.input:g}, results are sums over "
            f"{graph.frame_scales.output:g}"
        )
    return ", ".join(parts)


def _describe(layer: FixedLayer) -> dict[str, object]:
    weights = _weights(layer)
    return {
        "name": layer.name,
        "type": _type(layer),
        "shape": list(layer.shape),
        "neurons": layer.neurons,
        "weights": int(weights.size),
        "weight_range": _range(weights),
        "zero_weight_fraction": float(np.mean(weights == 0)) if weights.size else None,
        "bias_range": _range(layer.bias),
        "neuron": {
            "type": layer.neuron.label,
            **{name: _range(values) for name, values in _parameters(layer).items()},
        },
    }


def _type(layer: FixedLayer) -> str:
    name = _SYNAPSES[type(layer.connections[0].synapse)]
    return f"{name}, recurrent" if layer.is_recurrent else name


def _weights(layer: FixedLayer) -> npt.NDArray[np.int32]:
    """Return all weights of a layer in one row."""
    rows: list[npt.NDArray[np.int32]] = [np.zeros(0, np.int32)]
    for connection in layer.connections:
        synapse = connection.synapse
        if isinstance(synapse, FixedComplexDense):
            rows += [synapse.real.weight.ravel(), synapse.imaginary.weight.ravel()]
        elif isinstance(synapse, FixedConv | FixedDense):
            rows.append(synapse.weight.ravel())
    return np.concatenate(rows)


def _parameters(layer: FixedLayer) -> dict[str, npt.NDArray[np.integer]]:
    """Return the numbers of a layer's neurons by name."""
    return {
        field.name: np.asarray(getattr(layer.neuron, field.name))
        for field in dataclasses.fields(layer.neuron)
    }


def _range(values: npt.NDArray[np.integer]) -> list[int] | None:
    return [int(values.min()), int(values.max())] if values.size else None


def _span(values: npt.NDArray[np.integer]) -> str:
    limits = _range(values)
    if limits is None:
        return "-"
    low, high = limits
    return str(low) if low == high else f"{low} to {high}"


def fit(
    net: Annotated[
        str,
        typer.Argument(
            metavar="NET|SHAPES",
            help="A `.net` file, the directory of a run, or layer sizes in one line: 784-256-10, "
            "or 3x66x200-24c3s2-100-10 "
            "(24c3s2: 24 channels, kernel 3, stride 2; also p padding, d dilation, g groups; "
            "s2,1: rows and columns).",
        ),
    ],
    file: FileOptions,
    target: Annotated[
        str, typer.Option("--target", metavar="NAME|FILE", help="loihi1, loihi2, or a TOML file.")
    ] = "loihi2",
    cores_per_chip: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Cores that your system offers on each chip. Default: all."
        ),
    ] = None,
    weight_bits: Annotated[
        int,
        typer.Option(
            min=1, max=9, metavar="B", help="For SHAPES: bits of each weight, sign included."
        ),
    ] = 8,
    as_json: AsJson = False,
) -> None:
    """Estimate the neuro-cores that a network needs, and list every limit that it exceeds.

    The estimate comes from sizes: only the vendor's compiler can confirm that a network fits. Exits
    with 1 if a limit is exceeded.

    Example: `neurodeploy fit network.net --target loihi2`
    """
    chip = Target.load(target)
    if net.lower().endswith((".net", ".h5", ".hdf5")) or Path(net).exists():
        if weight_bits != 8:
            raise typer.BadParameter(
                f"--weight-bits {weight_bits}: {net} holds its own weights. Leave the option out."
            )
        graph = file.read(net_of(Path(net)))
        estimate = estimate_cores(sizes_of(graph), chip, cores_per_chip=cores_per_chip)
        violations = find_violations(graph, chip)
    else:
        if file != FileOptions():
            raise typer.BadParameter(
                f"{net}: sizes, not a file. Leave out --input-bits, --input-shape and "
                "--accept-silent-faults."
            )
        sizes = parse_sketch(net, weight_bits=weight_bits)
        estimate = estimate_cores(sizes, chip, cores_per_chip=cores_per_chip)
        violations = tuple(entry.problem for entry in estimate.layers if entry.problem)
    if as_json:
        console.print_json({**estimate.to_dict(), "violations": list(violations)})
    else:
        _print_fit(estimate, violations)
    if violations:
        raise typer.Exit(1)


def _print_fit(estimate: ChipFit, violations: tuple[str, ...]) -> None:
    columns = ("layer", "shape", ">neurons", ">cores", ">per core", "limited by")
    table = console.make_table(*columns, title=f"{estimate.target}: cores, estimated")
    for entry in estimate.layers:
        table.add_row(
            entry.layer.name,
            console.shape_text(entry.layer.shape),
            f"{entry.layer.neurons:,}",
            _between(entry.low, entry.high),
            f"{entry.neurons_per_core:,}" if entry.neurons_per_core else "-",
            entry.limiting_resource,
        )
    console.out.print(table)
    if estimate.cores_low is None:
        console.out.print(f"Does not fit {estimate.target}: see below. An estimate from sizes.")
    else:
        cores = _between(estimate.cores_low, estimate.cores_high)
        chips = _between(estimate.chips_low, estimate.chips_high)
        console.out.print(
            f"{cores} {'core' if cores == '1' else 'cores'}, {chips} "
            f"{'chip' if chips == '1' else 'chips'} of {estimate.cores_per_chip} cores. An "
            "estimate: only a compiler can tell."
        )
    for warning in (*estimate.warnings, *(v for v in violations if v not in estimate.warnings)):
        console.out.print(f"! {warning}", soft_wrap=True)


def _between(low: int | None, high: int | None) -> str:
    if low is None or high is None:
        return "does not fit"
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
