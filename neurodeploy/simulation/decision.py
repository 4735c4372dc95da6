"""Name the rule by which the last layer of a network chooses a class."""

from __future__ import annotations

from enum import StrEnum
from math import prod

from neurodeploy.ir.graphs import FixedPointGraph


class Decision(StrEnum):
    """The neuron of the last layer that wins, one neuron a class; of equal ones the first."""

    VOLTAGE = "the highest voltage of the last layer after the last step"
    """For a read-out: neurons whose threshold is so high that they never spike."""
    SPIKES = "the most spikes of the last layer over all steps"
    """For neurons that spike."""

    @classmethod
    def of(cls, graph: FixedPointGraph) -> Decision | None:
        """Return the rule of a network; None where the last layer has no neuron for each class."""
        last = graph.layers[-1]
        if last.neuron.is_graded or last.shape[0] < 2 or prod(last.shape[1:]) != 1:
            return None
        if last.neuron.is_readout:
            return cls.VOLTAGE
        return cls.SPIKES
