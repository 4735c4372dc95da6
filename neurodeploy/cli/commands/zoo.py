"""Commands around the verified networks that come with neurodeploy: list, get."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from neurodeploy.cli import console
from neurodeploy.cli.options import AsJson
from neurodeploy.example import copy_example, list_examples
from neurodeploy.files import CERTIFICATE

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Verified networks with samples, certificates and cards, which come with neurodeploy.",
)


@app.command("list")
def list_networks(as_json: AsJson = False) -> None:
    """List the verified networks that come with neurodeploy.

    The accuracy is that of the deployed integers on the test part. `--json` prints the whole cards.

    Example: `neurodeploy zoo list`
    """
    cards = list_examples()
    if as_json:
        console.print_json([{**card.to_dict(), "bytes": card.bytes} for card in cards])
        return
    table = console.make_table("name", "task", ">accuracy", ">size", "what it shows")
    table.columns[0].no_wrap = True  # it is typed again
    for card in cards:
        accuracy = f"{100 * card.accuracy['deployed']:.1f} %"
        size = f"{card.bytes / 1000:.0f} kB"
        table.add_row(card.name, card.task, accuracy, size, card.shows)
    console.out.print(table)
    console.out.print("next: neurodeploy zoo get NAME")


@app.command()
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of `neurodeploy zoo list`.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            "--output",
            metavar="DIR",
            help="Folder to copy the files to. Default: one with the name of the network, here.",
        ),
    ] = None,
) -> None:
    """Copy a verified network to a folder: file, samples, certificate and card.

    Nothing is written over. Then it prints the commands that run, check and count the network.

    Example: `neurodeploy zoo get digits`
    """
    folder = Path(name) if output is None else output
    console.print_written(copy_example(name, folder))
    place = shlex.quote(console.relative(folder))
    certificate = shlex.quote(console.relative(folder / CERTIFICATE))
    for words in (
        f"simulate {place} -i {place} -o spikes.npz",
        f"verify {place} -i {place} --certificate {certificate} --without-lava",
        f"report {place} -i {place}",
    ):
        console.out.print(f"next: neurodeploy {words}", soft_wrap=True)
