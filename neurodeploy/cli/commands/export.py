"""The command that writes networks in other formats: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurodeploy.cli import console
from neurodeploy.cli.option_groups import Writes
from neurodeploy.cli.options import AsJson, FileOptions
from neurodeploy.files import net_of
from neurodeploy.ir.graphs import Graph


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|NET", help="Directory of `neurodeploy train` or `run`, or a `.net` file."
        ),
    ],
    file: FileOptions,
    ann: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.onnx",
            help="Write the ReLU twin: the same layers and weights in one pass, with ReLU in place "
            "of spiking neurons, in floats. From a RUN, the twin of the trained network; from a "
            "NET, that of its layers as stored, with the channels that relay skip connections and "
            "with pools turned into convolutions.",
        ),
        Writes((".onnx",)),
    ] = None,
    step: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.onnx",
            help="Write one step of the deployed network, in integers: states in, states out. From "
            "a RUN, that of its network.net.",
        ),
        Writes((".onnx",)),
    ] = None,
    nir: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.nir",
            help="Write the spiking network for other frameworks, with a step of 0.1 ms. From a "
            "RUN, the trained network in floats; from a NET, its integers, with thresholds between "
            "two states.",
        ),
        Writes((".nir",)),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a network as ONNX, its ReLU twin or one step in the chip's integers, or as NIR.

    Example: `neurodeploy export runs/digits-1 --ann twin.onnx --step step.onnx`

    `neurodeploy macs` counts both ONNX models; `neurodeploy report --ann` compares with the twin;
    snnTorch, norse and SpikingJelly load NIR files.
    """
    from neurodeploy.interchange.nir_writer import export_nir
    from neurodeploy.onnx_models.step_export import export_step
    from neurodeploy.onnx_models.twin_export import export_twin

    if ann is None and step is None and nir is None:
        raise typer.BadParameter("nothing to write. Give --ann, --step or --nir FILE, or several.")
    is_file = source.suffix.lower() in (".net", ".h5", ".hdf5")
    if ann is not None:
        export_twin(file.read(source) if is_file else _trained(source), ann)
        if not as_json:
            of = " of the layers as stored, for the trained network's export its RUN"
            text = f"{console.relative(ann)}: the ReLU twin{of if is_file else ''}"
            console.out.print(text)
    if step is not None:
        export_step(file.read(net_of(source)), step)
    if nir is not None:
        export_nir(file.read(source) if is_file else _trained(source), nir)
    if as_json:
        written = {"ann": ann, "step": step, "nir": nir}
        console.print_json(
            {key: None if path is None else str(path) for key, path in written.items()},
            wrote=written.values(),
        )


def _trained(run: Path) -> Graph:
    """Return the trained network of a run; needs torch."""
    from neurodeploy.nn.tracing import trace
    from neurodeploy.pipeline.directory import load_model

    return trace(load_model(run)[0])
