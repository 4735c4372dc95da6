"""Options of training on several devices, and the engine they ask for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from neurodeploy.learning.engine import Engine

PANEL = "Devices"

AcceleratorOption = Annotated[
    Literal["auto", "cpu", "gpu"],
    typer.Option(
        "--accelerator", help="`auto` takes GPUs where there are any.", rich_help_panel=PANEL
    ),
]
DevicesOption = Annotated[
    int | None,
    typer.Option(
        "--devices",
        metavar="N",
        help="Processes on each node, one GPU each; started here unless torchrun or SLURM does "
        "it. By default what the launcher started, else 1.",
        rich_help_panel=PANEL,
    ),
]
NodesOption = Annotated[
    int | None,
    typer.Option(
        "--nodes",
        metavar="N",
        help="Machines; start the command on each with torchrun or SLURM. By default what the "
        "launcher started, else 1.",
        rich_help_panel=PANEL,
    ),
]
StrategyOption = Annotated[
    Literal["auto", "ddp", "fsdp"],
    typer.Option(
        "--strategy",
        help="`ddp`: each process holds the whole network. `fsdp`: it is spread over the GPUs.",
        rich_help_panel=PANEL,
    ),
]
PrecisionOption = Annotated[
    Literal["32", "bf16-mixed", "16-mixed"],
    typer.Option(
        "--precision",
        help="Of convolutions; neurons and batch norm always compute in float32.",
        rich_help_panel=PANEL,
    ),
]
AccumulateOption = Annotated[
    int | None,
    typer.Option(
        "--accumulate",
        metavar="N",
        help="Compute each batch in N parts, to save memory: `training.accumulate`.",
        rich_help_panel=PANEL,
    ),
]

CompileOption = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Run blocks through torch.compile, for GPUs: `training.compile`.",
        rich_help_panel=PANEL,
    ),
]


def start_engine(
    *,
    accelerator: Literal["auto", "cpu", "gpu"],
    devices: int | None,
    nodes: int | None,
    strategy: Literal["auto", "ddp", "fsdp"],
    precision: Literal["32", "bf16-mixed", "16-mixed"],
) -> Engine:
    """Start or join the processes that the options ask for.

    Raises:
        TrainingError: If they cannot be had.
    """
    from neurodeploy.learning.engine import Engine, Hardware

    # Set by torchrun. Processes that Fabric starts know WORLD_SIZE only, and the same options.
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    whole = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_WORLD_SIZE" in os.environ else 1
    return Engine(
        Hardware(
            accelerator=accelerator,
            devices=local if devices is None else devices,
            nodes=max(1, whole // local) if nodes is None else nodes,
            strategy=strategy,
            precision=precision,
        )
    )
