"""Compare floats, integers, file and real Lava on the calibration samples, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import QuantizationError, VerificationError
from neurodeploy.reports.certified_facts import TRAINED_FURTHER, SourceAgreement, SourceLayer
from neurodeploy.simulation.recording import Recording
from neurodeploy.testing import Comparison

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCheck:
    """One layer on the calibration samples.

    A channel that fires at every step to carry biases belongs to no trained layer: it counts in
    what the file and Lava make, and in nothing else.

    Attributes:
        name: Of the layer.
        values: Neurons times steps times samples.
        rate: Spikes per neuron and step of the deployed network.
        quantized: Share of values in which the network right after quantization spikes as the
            float network does; None where the float network has no such layer (pools, pruned
            channels, read-outs).
        deployed: The same of the deployed network, fine-tuned weights included.
        file_differing: Values in which the file read back differs from the network with skip
            connections that it was made from; anything but 0 is an error.
        lava_differing: Values in which real Lava differs from the file in our simulator, relay
            channels and the read-out's states included, on the samples that it ran; None if it
            ran none.
        current_wraps: How often a current left 24 bits.
        voltage_clips: How often a voltage was clipped.

    Example:
        >>> [(layer.name, layer.file_differing) for layer in run.deployment.agreement]
        [('conv1', 0), ('readout', 0)]
    """

    name: str
    values: int
    rate: float
    quantized: float | None
    deployed: float | None
    file_differing: int
    lava_differing: int | None
    current_wraps: int
    voltage_clips: int


def compare_layers(
    floats: Mapping[str, BoolArray],
    quantized: Recording,
    deployed: Recording,
    written: Recording,
    channels: Mapping[str, int],
    *,
    trained: Mapping[str, int] | None = None,
    lava: Comparison | None = None,
) -> tuple[LayerCheck, ...]:
    """Compare a network's stages on the same samples, layer by layer.

    Args:
        floats: Spikes of the float network by layer, (samples, T, ...).
        quantized: Of the integers right after quantization.
        deployed: Of the integers to deploy, skip connections still in place.
        written: Of the file read back, skip connections lowered to relay channels.
        channels: Channels that each layer has without relays, the first ones in the file.
        trained: Channels that each layer has without those that carry biases, the first ones;
            None for `channels`.
        lava: The file in our simulator against real Lava, on some of the samples.
    """
    assert written.health is not None
    entries = []
    for index, name in enumerate(deployed.layers):
        spikes = deployed.spikes_of(index)
        from_file = written.spikes_of(index)[:, :, : channels[name]].reshape(spikes.shape)
        own = spikes[:, :, : (trained or channels)[name]]
        before = quantized.spikes_of(index)[:, :, : own.shape[2]]
        in_states = 0
        if lava is not None and name == deployed.layers[-1]:
            in_states = sum(state.differing for state in lava.states)
        entries.append(
            LayerCheck(
                name=name,
                values=int(own.size),
                rate=float(np.mean(own != 0)),
                quantized=_equal_share(floats.get(name), before),
                deployed=_equal_share(floats.get(name), own),
                file_differing=int(np.count_nonzero(spikes != from_file)),
                lava_differing=None if lava is None else lava.layers[index].differing + in_states,
                current_wraps=written.health[index].current_wraps,
                voltage_clips=written.health[index].voltage_clips,
            )
        )
    return tuple(entries)


def certify_layers(
    agreement: tuple[LayerCheck, ...],
    source: str,
    *,
    samples: int,
    lava_samples: int,
    approximations: Iterable[str] = (),
    is_trained_further: bool = False,
) -> SourceAgreement:
    """Return the agreement with `source` as a certificate holds it."""
    return SourceAgreement(
        source=source,
        comparison=TRAINED_FURTHER if is_trained_further else "spikes",
        samples=samples,
        lava_samples=min(lava_samples, samples),
        approximations=tuple(sorted(approximations)),
        layers=tuple(
            SourceLayer(
                name=layer.name, equal_share=layer.deployed, lava_differing=layer.lava_differing
            )
            for layer in agreement
        ),
    )


def first_difference(agreement: tuple[LayerCheck, ...]) -> str | None:
    """Return the first layer in which the deployed integers part from the floats.

    Example:
        >>> nd.pipeline.first_difference(run.deployment.agreement)
        'conv1'
    """
    return next(
        (layer.name for layer in agreement if layer.deployed is not None and layer.deployed < 1),
        None,
    )


def check_accuracy(
    accuracy: Mapping[str, float],
    samples: int,
    limit: float,
    *,
    floats: Mapping[str, BoolArray],
    deployed: Recording,
    trained: Mapping[str, int] | None = None,
) -> None:
    """Refuse integers that classify far worse than the floats they were made from.

    The loss counts as too large where even its lower confidence bound, three standard errors
    below it, exceeds the limit: a few samples that change sides by chance refuse nothing.

    Args:
        accuracy: "float", "deployed" and the stages between, all on the same samples.
        samples: Number of those samples.
        limit: Largest loss allowed, as a share.
        floats: Spikes of the float network by layer, on the calibration samples.
        deployed: Recording of the integers on the calibration samples.
        trained: See `compare_layers`; None for all.

    Raises:
        QuantizationError: If the loss is too large, with the layers in which spikes differ.

    Source: Agresti and Caffo, "Simple and Effective Confidence Intervals for Proportions and
    Differences of Proportions", The American Statistician 54 (2000): one success and one failure
    added to each sample. Both networks see the same samples, which makes the bound cautious.
    """
    before, after = (
        (accuracy[stage] * samples + 1) / (samples + 2) for stage in ("float", "deployed")
    )
    error = sqrt((before * (1 - before) + after * (1 - after)) / (samples + 2))
    if before - after - 3 * error <= limit:
        return

    def spikes_of(index: int, name: str) -> npt.NDArray[np.integer]:
        return deployed.spikes_of(index)[:, :, : None if trained is None else trained[name]]

    equal = {
        name: share
        for index, name in enumerate(deployed.layers)
        if (share := _equal_share(floats.get(name), spikes_of(index, name))) is not None
    }
    stages = ", ".join(f"{stage} {value:.2%}" for stage, value in accuracy.items())
    layers = ", ".join(f"{name} {share:.1%}" for name, share in equal.items())
    raise QuantizationError(
        f"validation accuracy on the same {samples} samples: {stages}. A loss of "
        f"{100 * (accuracy['float'] - accuracy['deployed']):.1f} points, at most {100 * limit:g} "
        "are allowed by quantization.accuracy_loss_limit; nothing was deployed. Share of spikes as "
        f"in the floats, by layer: {layers or 'not comparable'}. Use more weight bits, less "
        "pruning or a fine-tune (quantization.fine_tune_epochs); or raise the limit to accept the "
        "loss."
    )


def check_file(agreement: tuple[LayerCheck, ...], deployed: Recording, written: Recording) -> None:
    """Refuse a file that differs from the network it was made from.

    The states of the read-out are compared as well.

    Raises:
        VerificationError: Naming the first layer that differs; a fault of ours.
    """
    on_lava = next((layer for layer in agreement if layer.lava_differing), None)
    if on_lava is not None:
        raise VerificationError(
            f"{on_lava.name}: {on_lava.lava_differing} values on real Lava differ from our "
            "simulator's. Please report this with the model; nothing was deployed."
        )
    differing = next((layer for layer in agreement if layer.file_differing), None)
    if differing is None:
        name, quantity = deployed.layers[-1], "states"
    else:
        name, quantity = differing.name, "spikes"
    is_equal = all(
        np.array_equal(trace, written.traces[key].reshape(trace.shape))
        for key, trace in deployed.traces.items()
    )
    if differing is not None or not is_equal:
        raise VerificationError(
            f"{name}: {quantity} of the file differ from the network that it was made from. Please "
            "report this with the model; nothing was deployed."
        )


def _equal_share(reference: BoolArray | None, spikes: npt.NDArray[np.integer]) -> float | None:
    if reference is None or reference.shape != spikes.shape:
        return None
    return float(np.mean(reference == (spikes != 0)))
