"""The contents of a netx file: one table, read by the reader and the writer alike.

Source: lava-dl 0.6.0 `lava/lib/dl/netx/hdf5.py:Network`, confirmed by running it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from neurodeploy.fixedpoint import GEOMETRY_MAX as GEOMETRY_MAX
from neurodeploy.ir.integer_layers import (
    CubaNeuron,
    DeltaNeuron,
    Neuron,
    ResonateFireNeuron,
    SigmaDeltaNeuron,
    SigmaNeuron,
)


class Content(Enum):
    """Which numbers a dataset may hold."""

    INTEGER = "integers"
    """Integers only. Lava's neurons hang for ever on floats."""
    NUMBER = "numbers"
    """Integers, or finite floats, whose fraction Lava drops."""
    TEXT = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One dataset of a layer.

    Attributes:
        name: Path below the layer's group.
        content: What it may hold.
        is_required: Whether Lava fails without it.
        shapes: Allowed shapes, in words.
        meaning: What Lava does with it.
    """

    name: str
    content: Content
    is_required: bool
    shapes: str
    meaning: str


_SHAPE = Field(
    name="shape",
    content=Content.INTEGER,
    is_required=True,
    shapes="(C, H, W) or (N,)",
    meaning="shape of the layer's output",
)
_GEOMETRY = "scalar, or (2,) in (H, W) order; at most 127"
_DENSE = (
    _SHAPE,
    Field(
        name="weight",
        content=Content.NUMBER,
        is_required=True,
        shapes="(N, inputs)",
        meaning="weights; columns in C order of (C, H, W) after a flatten",
    ),
    Field(
        name="bias",
        content=Content.NUMBER,
        is_required=False,
        shapes="scalar, (1,) or (N,)",
        meaning="added to the voltage each step, times 2**6; held in 16 bits",
    ),
)

COMPLEX_WEIGHT = tuple(
    Field(
        name=name,
        content=Content.NUMBER,
        is_required=True,
        shapes="(N, inputs)",
        meaning=f"weights into the {meaning} part",
    )
    for name, meaning in (("real", "real"), ("imag", "imaginary"))
)
"""Datasets of a dense layer's group `weight`, if its neurons are resonators."""

LAYERS: dict[str, tuple[Field, ...]] = {
    "input": (
        Field(
            name="shape",
            content=Content.INTEGER,
            is_required=False,
            shapes="(C, H, W) or (N,)",
            meaning="shape of the input; required with a neuron",
        ),
    ),
    "conv": (
        _SHAPE,
        Field(
            name="weight",
            content=Content.NUMBER,
            is_required=True,
            shapes="(out, in / groups, KH, KW) or the same with a trailing 1",
            meaning="correlation kernel, used as it is",
        ),
        *(
            Field(
                name=name,
                content=Content.INTEGER,
                is_required=True,
                shapes=_GEOMETRY,
                meaning=f"{name} of the convolution",
            )
            for name in ("stride", "padding", "dilation")
        ),
        Field(
            name="groups",
            content=Content.INTEGER,
            is_required=True,
            shapes="scalar; at most 127",
            meaning="channel groups",
        ),
        Field(
            name="bias",
            content=Content.NUMBER,
            is_required=False,
            shapes="(C,) or (W, H, C)",
            meaning="added to the voltage each step, times 2**6; held in 16 bits",
        ),
        Field(
            name="delay",
            content=Content.NUMBER,
            is_required=False,
            shapes="any",
            meaning="ignored by Lava; only zeros are accepted",
        ),
    ),
    "dense": (
        *_DENSE,
        Field(
            name="delay",
            content=Content.NUMBER,
            is_required=False,
            shapes="scalar, (N,) an output, (inputs,) an input, or (N, inputs)",
            meaning="steps that an event is held back; at most 62",
        ),
    ),
    "dense_rec": (
        *_DENSE,
        Field(
            name="weight_rec",
            content=Content.NUMBER,
            is_required=True,
            shapes="(N, N)",
            meaning="weights of the layer's own events of the step before",
        ),
        Field(
            name="delay",
            content=Content.NUMBER,
            is_required=False,
            shapes="any",
            meaning="breaks Lava's weights in this layer; only zeros are accepted",
        ),
    ),
    "flatten": (),
}
"""Layer types that are read, with their datasets."""


def _parameters(shapes: str, **datasets: tuple[str, str]) -> dict[str, Field]:
    """Return the datasets of neurons by attribute, from their names and meanings."""
    return {
        attribute: Field(
            name=name, content=Content.INTEGER, is_required=True, shapes=shapes, meaning=meaning
        )
        for attribute, (name, meaning) in datasets.items()
    }


LIF_TYPES = ("CUBA", "LOIHI")
"""`neuron/type` of leaky integrate-and-fire neurons; case-sensitive in Lava."""

SIGMA_DELTA_TYPE = "SDNN"
RESONATOR_MARK = "RF"
"""A `neuron/type` that contains this is a resonate-and-fire neuron."""
RESONATOR_PHASE_MARK = "PHASE"
"""If the type contains this too, the neuron fires by phase, else by level."""


@dataclass(frozen=True, slots=True, kw_only=True)
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


_SIGMA_DELTA = NeuronFormat(
    type=SIGMA_DELTA_TYPE,
    parameters=_parameters("scalar or (1,)", threshold=("vThMant", "threshold of a change")),
)

NEURONS: dict[type[Neuron], NeuronFormat] = {
    CubaNeuron: NeuronFormat(
        type="CUBA",
        parameters=_parameters(
            "scalar, (1,), (C,) or (N,), or the layer's shape as (W, H, C)",
            current_decay=("iDecay", "decay of the current, 4096 for all in one step"),
            voltage_decay=("vDecay", "decay of the voltage, 0 for none"),
            threshold=("vThMant", "threshold, times 2**6"),
        ),
    ),
    DeltaNeuron: _SIGMA_DELTA,
    SigmaDeltaNeuron: _SIGMA_DELTA,
    SigmaNeuron: NeuronFormat(type=SIGMA_DELTA_TYPE, parameters={}, mark="sigma_output"),
    ResonateFireNeuron: NeuronFormat(
        type=RESONATOR_MARK,
        parameters=_parameters(
            "scalar or (1,)",
            sine_decay=("sinDecay", "sine of the turn in a step, times 2**12"),
            cosine_decay=("cosDecay", "cosine of the turn in a step, times 2**12"),
            threshold=("vThMant", "threshold, times 2**6"),
        ),
    ),
}
"""Every class of neurons as the file holds it."""

RELU_TWIN = Field(
    name="relu_twin",
    content=Content.INTEGER,
    is_required=False,
    shapes="(bytes,)",
    meaning="MACs of the trained network's ReLU twin: a list of layers in JSON, as UTF-8 bytes "
    "beside the group of layers; ignored by Lava",
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

ELEMENTS_MAX = 1 << 27
"""Largest dataset that is read: a bound on memory for files from strangers."""

FILE_ELEMENTS_MAX = 1 << 28
"""Most elements that are read from one file, each dataset counted as often as it is used."""

TWIN_BYTES_MAX = 1 << 22
"""Longest description of a ReLU twin that is read."""

LAYERS_MAX = 4096
"""Most layers that are read from one file."""

NO_NEURON = {"iDecay": 0, "vDecay": 4096, "vThMant": 1 << 17}
"""Lava's neuron for a dense layer without a neuron group: its current integrates, no spikes."""
