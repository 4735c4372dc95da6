"""Accuracy of a run, by the labels of its samples."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from neurodeploy.cli.options import RunOptions
from neurodeploy.counting.frame_counts import find_answers
from neurodeploy.errors import DataError, NeurodeployWarning
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.samples.sources import IntegerArray, read_labels
from neurodeploy.simulation.recording import Decision


@dataclass(frozen=True, slots=True)
class Score:
    """Share of the samples that `decision`, the last layer's rule, classifies as labelled.

    Of sigma-delta networks, it is the share of the frames that are answered.

    Attributes:
        origin: Of the classes, a word: labels, or folders.
        labels: (samples,) the classes, or (samples, frames).
    """

    accuracy: float
    samples: int
    decision: str
    origin: str
    labels: IntegerArray = field(repr=False)

    @classmethod
    def of(
        cls,
        run: RunOptions,
        graph: FixedPointGraph,
        prediction: npt.NDArray[np.integer] | None,
        *,
        samples: int,
    ) -> Score | None:
        """Compare predictions with the labels in the file of samples.

        The result is None without labels or, with a warning, where they cannot be used; one reason
        is a `prediction` of None: the quantity that decides was not recorded.
        """
        decision, frames = Decision.of(graph), None
        if decision is Decision.SUMS and prediction is not None:
            answers = find_answers(graph, run.timing(graph), prediction.shape[1])
            prediction, frames = prediction[:, answers], len(answers)
        try:
            classes = graph.layers[-1].shape[0]
            labels = read_labels(run.input, samples=samples, classes=classes, frames=frames)
            if labels is None:
                return None
            if decision is None:
                raise DataError(f"{graph.layers[-1].name}: the last layer chooses no class.")
            if prediction is None:
                raise DataError(f"{decision}: not recorded. Record outputs (--record outputs).")
        except DataError as error:
            message = f"no accuracy, though there are labels. {error}"
            warnings.warn(message, NeurodeployWarning, stacklevel=2)
            return None
        accuracy = float(np.mean(prediction == labels))
        origin = "folders" if run.input.is_dir() else "labels"
        return cls(accuracy, samples, decision, origin, labels)

    def to_dict(self) -> dict[str, object]:
        """Return all but the classes as plain values for JSON."""
        names = ("accuracy", "samples", "decision", "origin")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        number, unit = self.labels.size, "samples" if self.labels.ndim == 1 else "frames"
        return (
            f"accuracy {self.accuracy:.2%} of {number} {unit}, by their {self.origin}; the class "
            f"is the neuron with {self.decision}"
        )
