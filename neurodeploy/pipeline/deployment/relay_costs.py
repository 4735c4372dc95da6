"""Measure the price of relaying skip connections: neurons, operations, bytes."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy import netx
from neurodeploy.ir.graphs import INPUT, FixedPointGraph
from neurodeploy.pipeline.prediction import mean_sops
from neurodeploy.simulation.recording import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaying:
    """Sizes without relays and with them.

    Attributes:
        neurons_before: Of the network with its skip connections.
        neurons: Of the file.
        sops_before: Synaptic operations a sample, mean over the calibration samples, of the
            network with its skip connections, those of the skips included.
        sops: Of the file.
        bytes_before: Size of a netx file of the same layers without skip connections: no file can
            hold them.
        bytes: Of the file.
    """

    neurons_before: int
    neurons: int
    sops_before: float
    sops: float
    bytes_before: int
    bytes: int

    def describe(self) -> str:
        """Return the cost of the relays in one line."""
        return (
            f"neurons {self.neurons_before:,} -> {self.neurons:,} "
            f"({_percent(self.neurons_before, self.neurons)}), SOPs a sample "
            f"{self.sops_before:,.0f} -> {self.sops:,.0f} "
            f"({_percent(self.sops_before, self.sops)}), file "
            f"{self.bytes_before / 1024:,.0f} -> {self.bytes / 1024:,.0f} KiB "
            f"({_percent(self.bytes_before, self.bytes)})"
        )


def measure_relays(
    direct: FixedPointGraph,
    chain: FixedPointGraph,
    inputs: npt.NDArray[np.int32],
    direct_run: Recording,
    chain_run: Recording,
    path: Path,
) -> Relaying:
    """Count `direct`, a network with skip connections, and `chain`, the content of its file.

    Both recordings are of `inputs`, (samples, T, ...).
    """
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.net"
        netx.write(without_skips(direct), plain)
        bytes_before = plain.stat().st_size
    return Relaying(
        neurons_before=sum(layer.neurons for layer in direct),
        neurons=sum(layer.neurons for layer in chain),
        sops_before=mean_sops(direct, inputs, direct_run),
        sops=mean_sops(chain, inputs, chain_run),
        bytes_before=bytes_before,
        bytes=path.stat().st_size,
    )


def without_skips(graph: FixedPointGraph) -> FixedPointGraph:
    """Return the chain of a network's layers, each reading only the one before it."""
    before = (INPUT, *graph.names)
    layers = tuple(
        dataclasses.replace(
            layer, connections=tuple(c for c in layer.connections if c.source == previous)
        )
        for previous, layer in zip(before, graph, strict=False)
    )
    return FixedPointGraph(input=graph.input, layers=layers)


def _percent(before: float, after: float) -> str:
    return f"{100 * (after / before - 1):+.1f} %"
