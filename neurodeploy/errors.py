"""Every error a user of neurodeploy can meet.

All derive from `NeurodeployError`, so one `except` catches them; each is also the built-in
that a caller would expect. Messages read: *place: value found, values allowed. Remedy.*
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

MESSAGE_MAX = 8000
"""Characters of a message that are shown: what a file holds may be quoted, at any length."""


class Obstacle(NamedTuple):
    """A part of a model that stands in the way of its conversion; one without a node is general."""

    node: str
    operator: str
    reason: str


class NeurodeployError(Exception):
    """Base of all errors that neurodeploy raises on purpose.

    Example:
        >>> try:
        ...     nd.Recipe.load("digitz")  # doctest: +ELLIPSIS
        ... except nd.NeurodeployError as error:  # also a ValueError
        ...     print(error)
        digitz: no such recipe. Did you mean 'digits'? ...
    """

    obstacles: tuple[Obstacle, ...] = ()
    """Parts of a model, in the errors that list them."""

    def __str__(self) -> str:
        """Return the message; of a very long one, the beginning and the end."""
        text = super().__str__()
        if len(text) <= MESSAGE_MAX:
            return text
        half = MESSAGE_MAX // 2
        return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"


class RecipeError(NeurodeployError, ValueError):
    """A recipe has an unknown key, a wrong type or a value out of range."""


class DataError(NeurodeployError, ValueError):
    """Input data are missing, malformed, of the wrong shape or out of range."""


class GraphError(NeurodeployError, ValueError):
    """A graph is inconsistent: unknown source, mismatched shapes, a cycle."""


class TraceError(NeurodeployError, ValueError):
    """A torch network holds something that has no counterpart in the graph."""


class QuantizationError(NeurodeployError, ValueError):
    """A graph cannot be expressed in the target's integers."""


class TargetError(NeurodeployError, ValueError):
    """A target file is missing or malformed, or lacks a requested number."""


class TargetLimitError(NeurodeployError, ValueError):
    """A network exceeds the limits of a target; the message lists every one."""


class NetxError(NeurodeployError, ValueError):
    """A netx file is malformed, or holds what Lava would misread silently."""


class InterchangeError(NeurodeployError, ValueError):
    """A network of another framework is malformed, or cannot be computed exactly."""


class ConversionError(NeurodeployError, ValueError):
    """A ReLU network cannot become a sigma-delta network, or not within its budget."""


class OnnxError(NeurodeployError, ValueError):
    """An ONNX model is malformed, or leaves a dimension open that a count needs."""


class CheckpointError(NeurodeployError, ValueError):
    """A checkpoint is damaged, or belongs to another network or recipe."""


class PassError(NeurodeployError, RuntimeError):
    """A pass produced an inconsistent graph; a fault of ours, with the pass named."""


class TrainingError(NeurodeployError, RuntimeError):
    """Training cannot go on, for instance because the loss is no longer finite."""


class SimulationError(NeurodeployError, RuntimeError):
    """A simulation cannot be carried out as asked."""


class LavaRuntimeError(NeurodeployError, RuntimeError):
    """The Lava runtime is missing, broken, timed out or failed."""


class VerificationError(NeurodeployError, RuntimeError):
    """Two simulators disagree; the message names the first difference."""


class OutputError(NeurodeployError, OSError):
    """A result could not be written; nothing half-written is left behind."""


_Kind = TypeVar("_Kind", bound=NeurodeployError)


def list_obstacles(kind: type[_Kind], place: str, obstacles: Iterable[Obstacle]) -> _Kind:
    """Return an error that names every obstacle; nodes with the same trouble share a line."""
    found = tuple(obstacles)
    nodes: dict[tuple[str, str], list[str]] = {}
    for node, operator, reason in found:
        nodes.setdefault((operator, reason), []).append(node)
    lines = [
        f"\n- {', '.join(names)} ({operator}): {reason}" if any(names) else f"\n- {reason}"
        for (operator, reason), names in nodes.items()
    ]
    error = kind(f"{place}cannot be converted.{''.join(lines)}")
    error.obstacles = found
    return error


class NeurodeployWarning(UserWarning):
    """Something the user can act on; nothing is changed silently.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", nd.NeurodeployWarning)  # stop where one is shown
        ...     graph = nd.netx.read(nd.load_example().net)
    """


class FractionWarning(NeurodeployWarning):
    """A file for integers holds fractions, which Lava drops."""
