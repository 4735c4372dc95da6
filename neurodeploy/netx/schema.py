"""The contents of a netx file: one table, read by the reader and the writer alike.

Source: lava-dl 0.6.0 `lava/lib/dl/netx/hdf5.py:Network`, confirmed by running it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from neurodeploy.fixedpoint import GEOMETRY_MAX as GEOMETRY_MAX, STATE_EXPONENT
from neurodeploy.ir.integer_layers import (
    CubaNeuron,
    DeltaNeuron,
    Neuron,
    ResonateFireNeuron,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.untrusted.hdf5 import Field


def _by_name(*fields: Field) -> dict[str, Field]:
    return {field.name: field for field in fields}


_OUTPUT_SHAPE = Field("shape", "(C, H, W) or (N,)", "shape of the layer's output")
_GEOMETRY = "scalar, or (2,) in (H, W) order; at most 127"
_BIAS = "added to the voltage each step, times 2**6; held in 16 bits"
_DENSE = (
    _OUTPUT_SHAPE,
    Field(
        "weight",
        "(N, inputs)",
        "weights; columns in C order of (C, H, W) after a flatten",
        allows_floats=True,
    ),
    Field("bias", "scalar, (1,) or (N,)", _BIAS, is_required=False, allows_floats=True),
)

COMPLEX_WEIGHT = tuple(
    Field(name, "(N, inputs)", f"weights into the {part} part", allows_floats=True)
    for name, part in (("real", "real"), ("imag", "imaginary"))
)
"""Datasets of a dense layer's group `weight`, if its neurons are resonators."""

LAYERS: dict[str, dict[str, Field]] = {
    "input": _by_name(
        Field(
            "shape",
            "(C, H, W) or (N,)",
            "shape of the input; required with a neuron",
            is_required=False,
        ),
        *(
            Field(
                name,
                "scalar or (1,)",
                "left by Lava to whoever feeds a network with an input neuron",
                is_required=False,
                allows_floats=True,
            )
            for name in ("weight", "bias")
        ),
    ),
    "conv": _by_name(
        _OUTPUT_SHAPE,
        Field(
            "weight",
            "(out, in / groups, KH, KW) or the same with a trailing 1",
            "correlation kernel, used as it is",
            allows_floats=True,
        ),
        Field("stride", _GEOMETRY, "stride of the convolution"),
        Field("padding", _GEOMETRY, "padding of the convolution"),
        Field("dilation", _GEOMETRY, "dilation of the convolution"),
        Field("groups", "scalar; at most 127", "channel groups"),
        Field("bias", "(C,) or (W, H, C)", _BIAS, is_required=False, allows_floats=True),
        Field(
            "delay",
            "any",
            "ignored by Lava; only zeros are accepted",
            is_required=False,
            allows_floats=True,
        ),
    ),
    "dense": _by_name(
        *_DENSE,
        Field(
            "delay",
            "scalar, (N,) an output, (inputs,) an input, or (N, inputs)",
            "steps that an event is held back; at most 62",
            is_required=False,
            allows_floats=True,
        ),
    ),
    "dense_rec": _by_name(
        *_DENSE,
        Field(
            "weight_rec",
            "(N, N)",
            "weights of the layer's own events of the step before",
            allows_floats=True,
        ),
        Field(
            "delay",
            "any",
            "breaks Lava's weights in this layer; only zeros are accepted",
            is_required=False,
            allows_floats=True,
        ),
    ),
    "flatten": {},
}
"""Layer types that are read, with their datasets."""

LIF_TYPES = ("CUBA", "LOIHI")
"""`neuron/type` of leaky integrate-and-fire neurons; case-sensitive in Lava."""
SIGMA_DELTA_TYPE = "SDNN"
RESONATOR_MARK = "RF"
"""A `neuron/type` that contains this is a resonate-and-fire neuron."""
RESONATOR_PHASE_MARK = "PHASE"
"""If the type contains this too, the neuron fires by phase, else by level."""


@dataclass(frozen=True, slots=True)
class NeuronFormat:
    """The group `neuron` of one class of neurons.

    Attributes:
        type: Text of `neuron/type` as written.
        parameters: Datasets by the neuron's attribute, in the order in which they are read.
        mark: A dataset whose presence marks the class, if there is one.
    """

    type: str
    parameters: Mapping[str, Field]
    mark: str = ""


_LIF = "scalar, (1,), (C,) or (N,), or the layer's shape as (W, H, C)"
_ONE = "scalar or (1,)"
_SIGMA_DELTA = NeuronFormat(
    SIGMA_DELTA_TYPE, {"threshold": Field("vThMant", _ONE, "threshold of a change")}
)

NEURONS: dict[type[Neuron], NeuronFormat] = {
    CubaNeuron: NeuronFormat(
        "CUBA",
        {
            "current_decay": Field(
                "iDecay", _LIF, "decay of the current, 4096 for all in one step"
            ),
            "voltage_decay": Field("vDecay", _LIF, "decay of the voltage, 0 for none"),
            "threshold": Field("vThMant", _LIF, "threshold, times 2**6"),
        },
    ),
    DeltaNeuron: _SIGMA_DELTA,
    SigmaDeltaNeuron: _SIGMA_DELTA,
    SigmaNeuron: NeuronFormat(SIGMA_DELTA_TYPE, {}, mark="sigma_output"),
    ResonateFireNeuron: NeuronFormat(
        RESONATOR_MARK,
        {
            "sine_decay": Field("sinDecay", _ONE, "sine of the turn in a step, times 2**12"),
            "cosine_decay": Field("cosDecay", _ONE, "cosine of the turn in a step, times 2**12"),
            "threshold": Field("vThMant", _ONE, "threshold, times 2**6"),
        },
    ),
}
"""Every class of neurons as the file holds it."""

RESTATED = frozenset(
    ("inFeatures", "outFeatures", "inChannels", "outChannels", "kernelSize", "gradedSpike")
)
"""Datasets that exporters write and Lava does not read: other datasets hold the same."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A dataset that changes what was trained, and that Lava does not read.

    Attributes:
        meaning: What it stands for.
        neutral: Values with which it changes nothing.
    """

    meaning: str
    neutral: tuple[int | str, ...] = ()


DROPPED: dict[str, Dropped] = {
    "delay_rec": Dropped("delays of the recurrent connections", (0,)),
    "refDelay": Dropped("a rest after each spike", (0, 1)),
    "wgtExp": Dropped("an exponent of the weights", (0,)),
    "activation": Dropped("an activation other than ReLU", ("relu",)),
    "thDecay": Dropped("a threshold that adapts"),
    "vThStep": Dropped("a threshold that adapts"),
    "refDecay": Dropped("a refractory state"),
}
"""Names that lava-dl's SLAYER and mlGeNN write. Source: lava-dl 0.6.0 `device_params` of
`lava/lib/dl/slayer/neuron`, mlGeNN's exporter to netx."""

RELU_TWIN = Field(
    "relu_twin",
    "(bytes,)",
    "MACs of the trained network's ReLU twin: a list of layers in JSON, as UTF-8 bytes "
    "beside the group of layers; ignored by Lava",
    is_required=False,
)

REFUSED_LAYERS: dict[str, str] = {
    **dict.fromkeys(
        ("pool", "average", "concat", "convT", "unpool"),
        "Lava's reader does not implement it. Deploy the network with neurodeploy, which "
        "expresses such layers by conv and dense ones where that is exact.",
    ),
    "dense_comp": "Lava's reader fails on it. Write complex weights as a dense layer's "
    "weight/real and weight/imag.",
}
"""Layer types that Lava knows by name but cannot run, and what to do instead."""

TWIN_BYTES_MAX = 1 << 22
"""Longest description of a ReLU twin that is read."""
LAYERS_MAX = 4096
"""Most layers that are read from one file."""


def bias_bits(neuron: Neuron) -> int:
    """Return the width beyond which a bias wraps in Lava; 0 for neurons without one."""
    if isinstance(neuron, SigmaDeltaNeuron):  # held in 32 bits, shifted by both exponents
        return neuron.bias_bits - STATE_EXPONENT - neuron.spike_exponent
    return neuron.bias_bits
