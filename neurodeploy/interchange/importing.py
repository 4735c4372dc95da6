"""Take a network of another framework in: its graph, how exact it is, and a float64 run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import GraphError, InterchangeError
from neurodeploy.interchange.canonical_neuron import APPROXIMATIONS
from neurodeploy.interchange.convention import Convention, choose_convention
from neurodeploy.interchange.draft import draft_graph
from neurodeploy.interchange.floating import FloatRun, run_graph
from neurodeploy.interchange.nir_reader import read_nir, take_nir
from neurodeploy.interchange.run_agreement import RunAgreement, compare_runs
from neurodeploy.ir.float_layers import Cuba, Shape
from neurodeploy.ir.graphs import Graph

Reset = Literal["zero", "subtract"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Imported:
    """A network of another framework as a float graph.

    Attributes:
        graph: The network; a population is called as its node in the other framework.
        convention: How its time constants were read.
        notes: By population: "exact", or the approximation taken.
        shapes: By population: the shape of its output in the other framework.
        rests: By read-out: its voltage in the other framework where ours is 0; `run` adds it. As
            one number for all scores, it decides no class.
        agreement: With what the other framework recorded; None if nothing was compared.

    Example:
        >>> imported = nd.import_torch(network, spikes)
        >>> recorded = imported.run(spikes)
        >>> {name: values.shape for name, values in recorded.items()}
        {'1': (40, 10, 32), '3': (40, 10, 3)}
        >>> print(imported.compare(spikes, recorded).agreement.describe())
        1: 12800 of 12800 values equal
        3: 1200 of 1200 values equal
    """

    graph: Graph
    convention: Convention
    notes: Mapping[str, str]
    shapes: Mapping[str, Shape]
    agreement: RunAgreement | None = None
    rests: Mapping[str, float] = field(default_factory=dict)

    @property
    def thresholds(self) -> dict[str, float]:
        """Threshold of each population that fires, in units of the float weights."""
        return {
            name: layer.threshold
            for name, layer in self.graph.nodes.items()
            if isinstance(layer, Cuba)
        }

    def run(self, inputs: npt.ArrayLike) -> dict[str, npt.NDArray[np.generic]]:
        """Run the network in float64, each sample from rest.

        Args:
            inputs: (samples, T, ...) numbers.

        Returns:
            By population: spikes (samples, T, ...) uint8, or the voltages of a read-out, float64.

        Raises:
            InterchangeError: If the inputs do not fit.
        """
        return self._run(inputs).values

    def compare(
        self, inputs: npt.ArrayLike, recorded: Mapping[str, npt.NDArray[np.generic]]
    ) -> Imported:
        """Return the same network with its agreement with recorded spikes or voltages.

        Args:
            inputs: (samples, T, ...) numbers.
            recorded: By population, as `run` returns them.

        Raises:
            InterchangeError: If names or shapes do not fit.
        """
        run = self._run(inputs)
        agreement = compare_runs(run.values, recorded, run.margins, self.thresholds)
        return replace(self, agreement=agreement)

    def _run(self, inputs: npt.ArrayLike) -> FloatRun:
        array = np.asarray(inputs)
        if array.dtype.kind not in "biuf":
            raise InterchangeError(f"inputs of type {array.dtype}; numbers are required.")
        try:
            run = run_graph(self.graph, array)
        except GraphError as error:
            raise InterchangeError(str(error)) from error
        values = {
            name: value.reshape(*value.shape[:2], *self.shapes[name])
            for name, value in run.values.items()
        }
        for name, rest in self.rests.items():
            values[name] = values[name] + rest
        return FloatRun(values, run.margins)


def check_approximations(approximate: Collection[str]) -> set[str]:
    """Return the names of allowed departures.

    Raises:
        InterchangeError: If one is not known.
    """
    allowed = {approximate} if isinstance(approximate, str) else set(approximate)
    unknown = sorted(allowed - APPROXIMATIONS.keys())
    if unknown:
        raise InterchangeError(
            f"approximate: {', '.join(unknown)}; allowed are {', '.join(APPROXIMATIONS)}."
        )
    return allowed


def import_nir(
    path_or_graph: str | Path | object,
    *,
    convention: str | None = None,
    dt: float | None = None,
    reset: Reset | None = None,
    approximate: Collection[str] = (),
) -> Imported:
    """Take in a NIR graph.

    Args:
        path_or_graph: Path of a `.nir` file, a `nir.NIRGraph`, or its dictionary.
        convention: How the exporter turned time into steps: "euler", "exponential", "snntorch",
            "spikingjelly", "norse", "sinabs", "sinabs-plain-input", "rockpool", "neurodeploy".
            None: forward Euler.
        dt: Width of a time step in seconds. None: that of the convention, else the one that the
            file gives away.
        reset: "subtract" if the neurons subtract their threshold after a spike, which a NIR file
            cannot say. None: as the convention has it, to v_reset.
        approximate: Names of departures that are allowed, such as "soft-reset".

    Returns:
        The network.

    Raises:
        InterchangeError: If the graph is malformed, its step width is not known, or something in
            it has no exact counterpart; all refusals are in one error.

    Example:
        >>> imported = nd.import_nir("model.nir", convention="neurodeploy")
        >>> imported.notes
        {'1': 'exact', '3': 'exact'}
        >>> imported.run(spikes)["1"].shape
        (40, 10, 32)
    """
    allowed = check_approximations(approximate)
    if reset not in (None, "zero", "subtract"):
        raise InterchangeError(f"reset: '{reset}'; 'zero' or 'subtract' is required.")
    if isinstance(path_or_graph, str | Path):
        source, place = read_nir(path_or_graph), f"{path_or_graph}: "
    else:
        source, place = take_nir(path_or_graph), ""
    try:
        chosen = choose_convention(source, convention, dt)
        drafted = draft_graph(
            source, chosen, subtracts_threshold=reset == "subtract", approximate=allowed
        )
    except InterchangeError as error:
        raise InterchangeError(f"{place}{error}") from error
    return Imported(
        graph=drafted.graph,
        convention=chosen,
        notes=drafted.notes,
        shapes=drafted.shapes,
        rests=drafted.rests,
    )
