"""From an ordinary ReLU network, an ONNX file or a torch module, to a sigma-delta network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from neurodeploy.chips.limits import check_limits
from neurodeploy.chips.target import Target
from neurodeploy.conversion.assembly import timing_of
from neurodeploy.conversion.chaining import find_obstacles
from neurodeploy.conversion.converting import Conversion, Thresholds, convert_graph
from neurodeploy.counting.counted_run import CountedRun, count_samples
from neurodeploy.counting.frame_counts import FrameCounts, find_answered
from neurodeploy.errors import (
    ConversionError,
    NeurodeployError,
    Obstacle,
    OnnxError,
    TraceError,
    list_obstacles,
)
from neurodeploy.fixedpoint import FloatArray, Int64Array
from neurodeploy.ir.graphs import SPIKE_EXPONENT, FixedPointGraph, Graph
from neurodeploy.lava_bridge.lava_simulator import LavaSimulator
from neurodeploy.onnx_models.rectified_network import examine_model, run_reference
from neurodeploy.pipeline.frame_macs import count_frame_macs
from neurodeploy.reports.certificate import Certificate
from neurodeploy.reports.certified_facts import (
    CertifiedConversion,
    CertifiedMargin,
    CertifiedRun,
)
from neurodeploy.reports.report import Report
from neurodeploy.reports.report_builder import report_counts
from neurodeploy.samples.sources import open_samples
from neurodeploy.simulation import EventSimulator, Feed, Recording
from neurodeploy.simulation.event_simulator import conform_input
from neurodeploy.simulation.recording import Progress
from neurodeploy.testing import Comparison, compare

if TYPE_CHECKING:
    from torch import nn

REFERENCE_FRAMES = 32
"""Frames on which the network as it was read is compared with the framework's own results."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReluNetwork:
    """A model as a graph of rectified layers, with all that stands in the way of that.

    Attributes:
        name: Of the model.
        graph: With obstacles, what is left if rectifiers take their places; None if nothing is.
        obstacles: Layers that no sigma-delta network can hold.
        after: Operators that the host applies to the results.
        prepare: Returns frames as the first layer reads them.
        run: Returns the model's own results for frames, None where it has operators after.
    """

    name: str
    graph: Graph | None
    obstacles: tuple[Obstacle, ...]
    after: tuple[str, ...]
    prepare: Callable[[FloatArray], FloatArray]
    run: Callable[[FloatArray], FloatArray | None]
    kind: type[NeurodeployError]

    def require_convertible(self) -> None:
        """Raise one error that names every obstacle, if there are any."""
        if self.obstacles:
            raise list_obstacles(self.kind, f"{self.name}: ", self.obstacles)


def examine(
    model: str | Path | nn.Module,
    shape: tuple[int, ...] | None,
    *,
    bindings: Mapping[str, int] | None = None,
) -> ReluNetwork:
    """Read a model and find everything that stands in the way of a conversion.

    Args:
        model: Path of an ONNX file, or a torch module.
        shape: Of a frame, which a module does not say.
        bindings: Sizes of an ONNX model's symbolic dimensions.

    Raises:
        OnnxError, TraceError: If the model is damaged, or cannot be followed.
    """
    if isinstance(model, str | Path):
        return _examine_file(Path(model), bindings or {})
    import torch

    from neurodeploy.conversion.module_tracing import examine_module

    assert shape is not None
    examined = examine_module(model, shape)

    def run(frames: FloatArray) -> FloatArray | None:
        if examined.after:  # softmax and the like come after what is converted
            return None
        with torch.no_grad():
            results = model(torch.from_numpy(frames.astype(np.float32)))
        values: FloatArray = results.double().numpy()
        return values

    return ReluNetwork(
        name=type(model).__name__,
        graph=examined.graph,
        obstacles=_with_lowering(examined.obstacles, examined.graph),
        after=examined.after,
        prepare=lambda frames: frames,
        run=run,
        kind=TraceError,
    )


def _examine_file(path: Path, bindings: Mapping[str, int]) -> ReluNetwork:
    examined = examine_model(path, bindings=bindings)
    network = examined.network

    def run(frames: FloatArray) -> FloatArray | None:
        return run_reference(path, frames, bindings) if network and not network.after else None

    graph = None if network is None else network.graph
    return ReluNetwork(
        name=str(path),
        graph=graph,
        obstacles=_with_lowering(examined.obstacles, graph),
        after=() if network is None else network.after,
        prepare=lambda frames: frames if network is None else network.prepare(frames),
        run=run,
        kind=OnnxError,
    )


def _with_lowering(obstacles: tuple[Obstacle, ...], graph: Graph | None) -> tuple[Obstacle, ...]:
    """Return the obstacles of a model, with those that would be met once they are gone."""
    return obstacles + (find_obstacles(graph) if obstacles and graph is not None else ())


def convert(
    model: str | Path | nn.Module,
    samples: npt.ArrayLike,
    *,
    labels: npt.ArrayLike | None = None,
    target: Target | str | None = None,
    thresholds: Thresholds = "auto",
    error_budget: float = 0.05,
    accuracy_budget: float = 0.01,
    exponent: int = SPIKE_EXPONENT,
    refresh: int | None = None,
    bindings: Mapping[str, int] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Conversion:
    """Convert a trained ReLU network to sigma-delta neurons, whose work follows what changes.

    The network is compared with the model's own results in floats first; errors and margins are
    measured in Lava's own time on all samples.

    Args:
        model: Path of an ONNX file, or a torch module in eval mode that torch.fx can follow.
        samples: Frames in the units of the model: (sequences, T, *shape) in order of time, or
            (n, *shape) without one.
        labels: Integer class of each sequence, or of each frame (sequences, T).
        target: Chip whose limits must hold, such as "loihi2"; None: those of netx files alone.
        thresholds: "auto" chooses them within the budgets, "none" takes the smallest; a number is
            used for every layer, in units of 1/256 of a layer's range.
        error_budget: Largest rms error of a result, in deviations of the model's own results, that
            thresholds "auto" may come to.
        accuracy_budget: Share of right answers that thresholds may cost.
        exponent: `spike_exp` of Lava's `Network`; files of 6 need no argument there.
        refresh: Steps after which everything is set to zero, again and again, lest the bits that
            neurons drop with each message add up; None: never. The last `latency` steps of each
            interval answer its last frame.
        bindings: Sizes of an ONNX model's symbolic dimensions.
        tell: Called with a line for each step of the work.

    Raises:
        OnnxError, TraceError: Name every layer that cannot be converted, and the file's faults.
        ConversionError: If the samples do not fit, or a limit or the budget cannot be held.
        TargetError: If the target's limits are exceeded.

    Example:
        >>> conversion = nd.convert(relu, frames)
        >>> conversion.graph.sends_changes, conversion.latency
        (True, 2)
        >>> conversion.write("relu.net")
    """
    chip = Target.load(target) if isinstance(target, str) else target
    values = np.asarray(samples, np.float64)
    shape = None if isinstance(model, str | Path) else shape_of(values)
    source = examine(model, shape, bindings=bindings)
    source.require_convertible()
    assert source.graph is not None
    frames = _frames_of(values, source.graph.input.shape)
    conversion = convert_graph(
        source.graph,
        source.prepare(frames).reshape(values.shape),
        labels=labels,
        reference=source.run(frames[:REFERENCE_FRAMES]),
        thresholds=thresholds,
        error_budget=error_budget,
        accuracy_budget=accuracy_budget,
        exponent=exponent,
        refresh=refresh,
        tell=tell,
    )
    if chip is not None:
        check_limits(conversion.graph, chip)
    return replace(conversion, prepare=source.prepare)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CheckedConversion:
    """A conversion on our simulator and on real Lava; `comparison` is of both recordings."""

    values: npt.NDArray[np.int32]
    ours: Recording
    lava: Recording
    comparison: Comparison


def verify_conversion(
    conversion: Conversion,
    path: Path,
    frames: FloatArray,
    *,
    python: str | Path | None = None,
    timeout: float | None = None,
) -> CheckedConversion:
    """Run sequences (n, T, ...) on real Lava, from the file, and compare every message.

    Raises:
        LavaError: If Lava cannot run.
    """
    values = conversion.stream_of(frames)
    timing = timing_of(conversion.graph)
    ours = EventSimulator(conversion.graph).run(values, timing=timing, feed=Feed.NEURON)
    lava = LavaSimulator(
        path,
        python=python,
        input_bits=conversion.graph.input.message_bits,
        input_shape=conversion.graph.input.shape,
        spike_exponent=conversion.exponent,
        layer_names=conversion.graph.names,
        timeout=timeout,
    ).run(values, timing=timing, feed=Feed.NEURON)
    comparison = compare(ours, lava)
    return CheckedConversion(values=values, ours=ours, lava=lava, comparison=comparison)


def report_conversion(
    conversion: Conversion,
    path: Path,
    frames: FloatArray,
    *,
    has_labels: bool = False,
    memory: int | None = None,
    progress: Progress | None = None,
) -> tuple[Report, CountedRun]:
    """Count a conversion on sequences of frames, frame by frame, beside the network itself.

    Args:
        conversion: What was converted.
        path: Its file.
        frames: (sequences, T, ...) or (n, ...), in the model's own units.
        has_labels: Whether its accuracies are those by labels.
        memory: Bytes that may be taken; see `count_samples`.
        progress: Called with (sequences done, sequences in all).
    """
    values = conversion.stream_of(frames)
    counted = count_samples(
        conversion.graph,
        values,
        timing=timing_of(conversion.graph),
        feed=Feed.NEURON,
        memory=memory,
        progress=progress,
    )
    accuracy = {"float": conversion.baseline, "deployed": conversion.final.accuracy}
    found = report_counts(
        conversion.graph,
        counted,
        network_file=path,
        baseline=conversion.network,
        frame_macs=frame_macs_of(conversion.network, conversion.graph, values, counted.frames),
        accuracy=accuracy if has_labels else None,
        ann_accuracy=conversion.baseline if has_labels else None,
    )
    warning = "Thresholds and weights were chosen with these very frames: others may cost more."
    return replace(found, warnings=(*found.warnings, warning)), counted


def certify_conversion(
    conversion: Conversion,
    path: Path,
    samples: Path,
    *,
    model: str,
    sha256: str | None,
    has_labels: bool,
    checked: CheckedConversion | None,
) -> Certificate:
    """Certify a conversion on the sequences that `samples` holds, as integers.

    What Lava ran is compared with Lava; if these are not all sequences, the certificate says so and
    is otherwise about our simulator.

    Args:
        conversion: What was converted.
        path: Its file.
        samples: The file of integers.
        model: Name of the network that was converted.
        sha256: Of its file; None where it has none.
        has_labels: Whether the accuracies are those by labels.
        checked: Sequences that Lava ran, the first ones; None for none.
    """
    graph = conversion.graph
    timing = timing_of(graph)
    source = open_samples(samples, port=graph.input.shape)
    assert source.count is not None, "a file knows how many it holds"
    values = conform_input(source.read(0, source.count), graph, feed=Feed.NEURON)
    is_whole = checked is not None and len(checked.values) == len(values)
    ours = None if checked is None or not is_whole else checked.ours
    if ours is None:
        ours = EventSimulator(graph).run(values, timing=timing, feed=Feed.NEURON)
    trial = conversion.final
    facts = CertifiedConversion(
        model=model,
        sha256=sha256,
        sequences=len(values),
        frames=find_answered(graph, timing, values.shape[1]).size,
        rms_error=trial.error,
        accuracy=trial.accuracy if has_labels else None,
        model_accuracy=conversion.baseline if has_labels else None,
        thresholds=conversion.thresholds,
        margins=tuple(
            CertifiedMargin(
                layer=row.name,
                largest_sum=row.sum,
                largest_state=row.state,
                largest_message=row.message,
                margin=row.margin,
            )
            for row in conversion.margins
        ),
        lava_sequences=0 if checked is None else len(checked.values),
        lava_differing=None
        if checked is None
        else sum(one.differing for one in checked.comparison.layers),
    )
    run = CertifiedRun.of(
        graph, values.shape[1], timing, Feed.NEURON, spike_exponent=conversion.exponent
    )
    lava = checked.lava if checked is not None and is_whole else None
    return Certificate.of(path, samples, values, ours, run, lava=lava, conversion=facts)


def frame_macs_of(
    network: Graph,
    graph: FixedPointGraph,
    values: npt.NDArray[np.integer],
    frames: FrameCounts | None,
) -> Int64Array | None:
    """Return the MACs of the float network for each answered frame, without products with zero.

    The result is None where no frame is answered, or the file does not say what its integers mean.
    """
    scales = graph.frame_scales
    if frames is None or scales is None:
        return None
    answered = values[:, frames.places].reshape(-1, *graph.input.shape) / scales.input
    return count_frame_macs(network, answered).reshape(len(values), -1)


def _frames_of(values: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    if values.ndim <= len(shape) or values.shape[-len(shape) :] != shape:
        raise ConversionError(
            f"samples: shape {values.shape}; the model reads frames of {shape}, so (sequences, T, "
            f"{', '.join(map(str, shape))}) or (n, {', '.join(map(str, shape))}) is required."
        )
    return values.reshape(-1, *shape)


def shape_of(values: FloatArray) -> tuple[int, ...]:
    """Return the shape of a frame: a module does not say it."""
    if values.ndim in (4, 5):
        return values.shape[-3:]
    if values.ndim in (2, 3):
        return values.shape[-1:]
    raise ConversionError(
        f"samples: shape {values.shape}; (sequences, T, C, H, W), (n, C, H, W), (sequences, T, N) "
        "or (n, N) is required."
    )
