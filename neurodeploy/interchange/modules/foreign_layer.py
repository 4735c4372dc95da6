"""One module of another framework as nodes of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from neurodeploy.errors import TraceError
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.interchange.nir_schema import CANONICAL, CANONICAL_READ_OUT, NirNode

Departures = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForeignLayer:
    """A module that is not looked into.

    Attributes:
        node: The node that stands for it.
        before: Weights inside the module, on the way to `node`, or None.
        back: Weights inside the module from its spikes back to it, or None.
        output: Position of the tensor with its values among those that its forward returns.
    """

    node: NirNode
    before: NirNode | None = None
    back: NirNode | None = None
    output: int = 0


def class_of(module: nn.Module) -> str:
    """Return the qualified name of a module's class, without what parametrizations make of it."""
    kind = type(module)
    if is_parametrized(module):
        kind = kind.__mro__[1]
    return f"{kind.__module__}.{kind.__qualname__}"


def numbers(value: object) -> FloatArray:
    """Return a parameter of a module as float64."""
    if isinstance(value, Tensor):
        return value.detach().cpu().double().numpy()
    return np.asarray(value, np.float64)


def spiking(
    *,
    threshold: FloatArray,
    fires_at_threshold: bool,
    departures: Departures = (),
    **leaks: FloatArray | float,
) -> NirNode:
    """Return a spiking population in canonical form; `canonical_neuron` says what each number is.

    `leaks` are those of `read_out`.
    """
    node = read_out(departures=departures, **leaks)
    values = {
        **node.values,
        "threshold": np.asarray(threshold, np.float64),
        "fires_at_threshold": np.asarray(float(fires_at_threshold)),
    }
    return replace(node, kind=CANONICAL, values=values)


def read_out(
    *,
    voltage_decay: FloatArray | float,
    current_decay: FloatArray | float = 1.0,
    gain: FloatArray | float = 1.0,
    bias: FloatArray | float = 0.0,
    rest: FloatArray | float = 0.0,
    grid: FloatArray | float = 0.0,
    departures: Departures = (),
) -> NirNode:
    """Return a population that integrates and never fires; its voltages start at `rest`."""
    numbers_by_name = {
        "current_decay": current_decay,
        "voltage_decay": voltage_decay,
        "gain": gain,
        "bias": bias,
        "fires_at_threshold": 0.0,
        "rest": rest,
        "grid": grid,
    }
    return NirNode(
        CANONICAL_READ_OUT,
        {name: np.asarray(value, np.float64) for name, value in numbers_by_name.items()},
        tuple(departures),
    )


def linear(weight: FloatArray, bias: FloatArray | None = None) -> NirNode:
    """Return a dense layer."""
    if bias is None:
        return NirNode("Linear", {"weight": weight})
    return NirNode("Affine", {"weight": weight, "bias": bias})


def refuse(module: nn.Module, cause: str) -> TraceError:
    """Return the error for a module that has no exact counterpart."""
    return TraceError(f"{type(module).__name__} {cause}")
