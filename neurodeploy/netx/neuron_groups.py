"""Read the neuron group of a layer: leaky integrate-and-fire, sigma-delta, resonate-and-fire."""

from __future__ import annotations

import warnings

import numpy as np

from neurodeploy.errors import NetxError, NeurodeployWarning
from neurodeploy.ir.integer_layers import (
    CubaNeuron,
    DeltaNeuron,
    IntArray,
    Neuron,
    ResonateFireNeuron,
    Shape,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.netx.schema import (
    LIF_TYPES,
    NEURONS,
    NO_NEURON,
    RESONATOR_MARK,
    RESONATOR_PHASE_MARK,
    SIGMA_DELTA_TYPE,
    Field,
)
from neurodeploy.netx.untrusted_hdf5 import UntrustedGroup


def read_neuron(
    group: UntrustedGroup, shape: Shape, *, is_input: bool, spike_exponent: int
) -> Neuron:
    """Read `neuron/...`.

    Args:
        group: The neuron group.
        shape: Shape of the layer.
        is_input: Whether this is an input block, where sigma-delta neurons only send changes.
        spike_exponent: `spike_exp` of Lava's `Network`.

    Raises:
        NetxError: If a value is missing or wrong, Lava would hang on it, or it is not simulated.
    """
    kind = group.text("type")
    if "messageBits" in group:
        raise NetxError(
            f"{group.where}/messageBits: Lava hangs on this dataset. Remove it, and give "
            "the number with --input-bits instead."
        )
    if kind in LIF_TYPES:
        return _read_lif(group, shape)
    if kind == SIGMA_DELTA_TYPE:
        if not is_input and NEURONS[SigmaNeuron].mark in group:
            return SigmaNeuron()
        make = DeltaNeuron if is_input else SigmaDeltaNeuron
        return make(**_scalars(group, make), spike_exponent=spike_exponent)
    if RESONATOR_MARK in kind:
        return ResonateFireNeuron(
            **_scalars(group, ResonateFireNeuron), is_phase=RESONATOR_PHASE_MARK in kind
        )
    allowed = ", ".join((*LIF_TYPES, SIGMA_DELTA_TYPE))
    raise NetxError(
        f"{group.where}/type: '{kind}'; Lava runs {allowed} and those with '{RESONATOR_MARK}' in "
        "their name (case-sensitive)."
    )


def default_neuron() -> CubaNeuron:
    """Return Lava's neuron for a dense layer without a neuron group."""
    decay, leak, threshold = (np.array(value, np.int32) for value in NO_NEURON.values())
    return CubaNeuron(current_decay=decay, voltage_decay=leak, threshold=threshold)


def from_lava_order(values: IntArray, shape: Shape, where: str) -> IntArray:
    """Bring what broadcasts over Lava's (W, H, C) into our (C, H, W).

    Args:
        values: One value, (C,) or (N,), or (W, H, C).
        shape: (C, H, W) or (N,) of the layer.
        where: Start of the complaint.

    Returns:
        (), (C, 1, 1), (N,) or the full shape.

    Raises:
        NetxError: If the shape does not fit.
    """
    if values.size == 1:
        return values.reshape(())
    in_lava = shape[::-1]
    try:
        fits = np.broadcast_shapes(values.shape, in_lava) == in_lava
    except ValueError:
        fits = False
    if not fits:
        raise NetxError(
            f"{where}: shape {values.shape} does not fit the layer. One value, "
            f"one a channel or neuron ({shape[0]},), or the full shape {in_lava} is allowed."
        )
    full = values.reshape((1,) * (len(shape) - values.ndim) + values.shape)
    return np.ascontiguousarray(full.transpose())


def _read_lif(group: UntrustedGroup, shape: Shape) -> CubaNeuron:
    if group.is_true("gradedSpike"):
        warnings.warn(
            f"{group.where}/gradedSpike: true, but Lava's LIF neurons send plain spikes; "
            "so do ours.",
            NeurodeployWarning,
            stacklevel=2,
        )
    return CubaNeuron(
        **{
            attribute: from_lava_order(
                _parameter(group, field), shape, f"{group.where}/{field.name}"
            )
            for attribute, field in NEURONS[CubaNeuron].parameters.items()
        }
    )


def _parameter(group: UntrustedGroup, field: Field) -> IntArray:
    """Read a parameter whose arithmetic Lava does in the type that is stored."""
    values = group.required_integers(field)
    dtype = group.dtype(field.name)
    assert dtype is not None
    is_wide = dtype.kind == "i" and dtype.itemsize >= 4
    if not is_wide and (values.shape != () or dtype == np.uint64):
        raise NetxError(
            f"{group.where}/{field.name}: an array of {dtype} overflows inside Lava. "
            "Store int32 or int64."
        )
    return values


def _scalars(group: UntrustedGroup, neuron: type[Neuron]) -> dict[str, int]:
    fields = NEURONS[neuron].parameters.items()
    return {attribute: _scalar(group, field) for attribute, field in fields}


def _scalar(group: UntrustedGroup, field: Field) -> int:
    values = _parameter(group, field)
    if values.size != 1:
        raise NetxError(
            f"{group.where}/{field.name}: shape {values.shape}, one value is required; Lava's "
            "neurons of this kind share it."
        )
    return int(values.ravel()[0])
