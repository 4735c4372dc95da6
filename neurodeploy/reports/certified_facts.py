"""Facts in a certificate of verification: hashes and sizes, and the options of the run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import numpy as np
import numpy.typing as npt

from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.simulation.recording import Feed, Recording, Stream, Timing, Window
from neurodeploy.strict_tables import NotNegativeFloat, NotNegativeInt, PositiveInt, Share

TRAINED_FURTHER: Final = "no longer applies: weights were trained further"
"""Stands where integers are not compared with the network that they come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedFile:
    """The network's file; its name is for people, its hash decides."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedInput:
    """The samples as the network took them; the hash is of shape and values."""

    file: str
    dtype: str
    shape: tuple[PositiveInt, ...]
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedRun:
    """All options that spikes depend on."""

    timing: Literal["window", "stream"]
    steps: PositiveInt
    reset_interval: PositiveInt | None
    reset_offset: NotNegativeInt
    feed: Feed
    key: Annotated[str, "the array of the file of samples"]
    input_shape: tuple[PositiveInt, ...]
    input_bits: NotNegativeInt
    spike_exponent: NotNegativeInt
    accepts_silent_faults: bool
    refresh_interval: PositiveInt | None = None

    @classmethod
    def of(
        cls,
        graph: FixedPointGraph,
        steps: int,
        timing: Timing = Window(),  # noqa: B008 - a frozen value
        feed: Feed = Feed.PORT,
        *,
        key: str = "input",
        spike_exponent: int = 6,
        accepts_silent_faults: bool = False,
    ) -> CertifiedRun:
        """Return the options of a run of `steps` steps."""
        is_stream = isinstance(timing, Stream)
        return cls(
            timing="stream" if is_stream else "window",
            steps=steps,
            reset_interval=timing.reset_interval if isinstance(timing, Stream) else None,
            reset_offset=timing.reset_offset if isinstance(timing, Stream) else 0,
            feed=feed,
            key=key,
            input_shape=graph.input.shape,
            input_bits=graph.input.message_bits,
            spike_exponent=spike_exponent,
            accepts_silent_faults=accepts_silent_faults,
            refresh_interval=timing.refresh_interval if isinstance(timing, Stream) else None,
        )

    def to_timing(self) -> Timing:
        """Return the timing as a simulator takes it."""
        if self.timing == "window":
            return Window(steps=self.steps)
        return Stream(
            steps=self.steps,
            reset_interval=self.reset_interval,
            reset_offset=self.reset_offset,
            refresh_interval=self.refresh_interval,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedArray:
    """Values compared: the spikes of a layer, or a state of it after every step."""

    layer: str
    quantity: str
    values: NotNegativeInt
    nonzero: NotNegativeInt


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedRecording:
    """Result of our simulator; the hash is of all arrays as 32-bit integers."""

    sha256: str
    samples: PositiveInt
    steps: PositiveInt
    arrays: tuple[CertifiedArray, ...]

    @classmethod
    def of(cls, recording: Recording) -> CertifiedRecording:
        """Return the hash and the sizes of all arrays that a comparison looks at."""
        arrays = {
            (name, "spikes"): spikes
            for name, spikes in zip(recording.layers, recording.spikes, strict=True)
            if spikes is not None
        }
        for layer in recording.layers:
            for state, trace in sorted(recording.states.get(layer, {}).items()):
                arrays[layer, state] = trace
        return cls(
            sha256=hash_arrays({" ".join(name): values for name, values in arrays.items()}),
            samples=recording.samples,
            steps=recording.steps,
            arrays=tuple(
                CertifiedArray(
                    layer=layer,
                    quantity=quantity,
                    values=values.size,
                    nonzero=int(np.count_nonzero(values)),
                )
                for (layer, quantity), values in arrays.items()
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedResult:
    """Values of the recording that differ from those of the reference."""

    compared_with: Literal["real Lava", "integer network"]
    differing: NotNegativeInt
    first_difference: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLayer:
    """A layer beside that of the source framework, on the samples of the deployment."""

    name: str
    equal_share: Annotated[
        Share | None,
        "of neurons and steps; null where floats lack the layer, or nothing was compared",
    ]
    lava_differing: NotNegativeInt | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAgreement:
    """The checks of a deployment: integers beside the network they came from, and real Lava."""

    source: str
    samples: PositiveInt
    lava_samples: NotNegativeInt
    approximations: Annotated[tuple[str, ...], "departures that were allowed, by name"]
    layers: tuple[SourceLayer, ...]
    comparison: Annotated[
        Literal["spikes", "no longer applies: weights were trained further"],
        "of the integers with the source: spike by spike, or the reason why not",
    ] = "spikes"

    def describe(self) -> str:
        """Return one phrase."""
        found = [layer.lava_differing for layer in self.layers if layer.lava_differing is not None]
        text = "at deployment, real Lava did not run"
        if found:
            text = (
                f"at deployment, {sum(found)} values differing on real Lava in {self.lava_samples} "
                f"of {self.samples} samples"
            )
        if self.comparison != "spikes":
            text += f"; agreement with the {self.source} {TRAINED_FURTHER}"
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedMargin:
    """A layer's largest integers on the frames, and how often they would fit into their limits."""

    layer: str
    largest_sum: NotNegativeInt
    largest_state: NotNegativeInt
    largest_message: NotNegativeInt
    margin: NotNegativeFloat


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedConversion:
    """A conversion of an ordinary network: what it came from, and how close it is to that."""

    model: Annotated[str, "file or module that was converted"]
    sha256: Annotated[str | None, "of the file; null for a module"]
    sequences: PositiveInt
    frames: Annotated[PositiveInt, "of a sequence, that are answered"]
    rms_error: Annotated[NotNegativeFloat, "in deviations of the model's own results"]
    accuracy: Annotated[Share | None, "null without labels"]
    model_accuracy: Share | None
    thresholds: Annotated[tuple[NotNegativeInt, ...], "of the input block and every hidden layer"]
    margins: tuple[CertifiedMargin, ...]
    lava_sequences: Annotated[NotNegativeInt, "how many of the sequences, the first ones, Lava ran"]
    lava_differing: Annotated[NotNegativeInt | None, "messages that differ; null if none ran"]

    def describe(self) -> str:
        """Return one phrase."""
        digest = "" if self.sha256 is None else f" (SHA-256 {self.sha256[:12]})"
        least = min(row.margin for row in self.margins)
        text = (
            f"converted from {self.model}{digest}, rms error {self.rms_error:.1%} on "
            f"{self.sequences * self.frames} frames, limits {least:.1f} times the largest integers"
        )
        if self.accuracy is not None and self.model_accuracy is not None:
            text += f", accuracy {self.accuracy:.1%} ({self.model_accuracy:.1%} before)"
        if self.lava_differing is not None:
            text += f", {self.lava_differing} differing on real Lava in {self.lava_sequences} of "
            text += f"{self.sequences} sequences"
        return text


def hash_arrays(arrays: Mapping[str, npt.NDArray[np.integer]]) -> str:
    """Return the SHA-256 of names, shapes and values, these as little-endian 32-bit integers."""
    digest = hashlib.sha256()
    for name, values in arrays.items():
        digest.update(f"{name} {values.shape}\n".encode())
        for sample in values:
            digest.update(np.ascontiguousarray(sample, "<i4").tobytes())
    return digest.hexdigest()
