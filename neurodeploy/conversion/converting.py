"""Convert a ReLU network to sigma-delta neurons, and measure what was made.

Steps: lower to a chain, choose scales, round, run in Lava's own time and make room where integers
came too close to their limits, choose thresholds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from neurodeploy import netx
from neurodeploy.conversion.assembly import (
    INPUT_MAX,
    StreamRun,
    assemble,
    in_a_row,
    run_answers,
    run_stream,
    with_latency,
)
from neurodeploy.conversion.chain import Chain
from neurodeploy.conversion.chaining import lower_rectified
from neurodeploy.conversion.judging import Drift, Judge, find_drift
from neurodeploy.conversion.proofs import (
    LayerMargin,
    Proofs,
    check_limits_of,
    measure_margins,
    prove_on,
)
from neurodeploy.conversion.rounding import Rounded, round_chain
from neurodeploy.conversion.scaling import Scales, choose_scales, find_peaks
from neurodeploy.conversion.thresholds import Trial, least_thresholds, search_thresholds
from neurodeploy.counting.fan_out import ann_macs
from neurodeploy.errors import ConversionError, NeurodeployWarning
from neurodeploy.fixedpoint import MESSAGE_MAX, STATE_MAX, FloatArray, Int64Array
from neurodeploy.interchange.floating import pass_frames
from neurodeploy.ir.float_layers import Rectifier
from neurodeploy.ir.graphs import SPIKE_EXPONENT, AnnMacs, FixedPointGraph, Graph

Thresholds = Literal["auto", "none"] | int
FRAMES_MAX = 512
"""Most calibration frames that scales and rounding look at."""
FRAMES_MIN = 100
SEARCH_FRAMES = 256
"""Most frames that thresholds are searched on."""
MEASURED_FRAMES = 16
MEASURED_MACS = 10**10
"""Frames without an order, and MACs of the float network on them, that errors are measured on."""
_FLOAT_ERROR = 1e-4
_ATTEMPTS = 6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conversion:
    """A sigma-delta network, and what it does on the frames it was made with.

    Attributes:
        graph: The integers; `latency` steps after a frame its answer comes.
        network: The float network as it was read.
        chain: The same, lowered.
        input_scale: Integer units of a frame per float unit.
        output_scale: Units of the read-out's sum per float unit.
        exponent: Lava's `spike_exp`.
        thresholds: Of the input block and of every hidden layer.
        margins: By layer, the input block first.
        rounded: Error, accuracy and operations with the smallest thresholds.
        final: The same with the chosen thresholds.
        drift: Errors after 1, 32, 128 and all frames without refreshes, and how often a refresh
            is needed.
        proofs: How sure each limit of the integers is.
        baseline: Accuracy of the float network; 1 without labels.
        remarks: Sentences for whoever uses it.
        prepare: Returns frames as the first layer reads them: what the model does first.

    Example:
        >>> conversion = nd.convert(relu, frames)
        >>> stream = conversion.stream_of(frames)  # integers, the last frame until it is answered
        >>> stream.shape, conversion.encode(frames).shape, conversion.run(frames).shape
        ((8, 22, 1, 8, 8), (8, 20, 1, 8, 8), (8, 20, 3))
        >>> conversion.final.error < 0.05  # of the answers, in deviations of the model's own
        True
    """

    graph: FixedPointGraph
    network: Graph
    chain: Chain
    input_scale: float
    output_scale: float
    exponent: int
    thresholds: tuple[int, ...]
    margins: tuple[LayerMargin, ...]
    rounded: Trial
    final: Trial
    drift: Drift
    proofs: Proofs
    baseline: float
    remarks: tuple[str, ...]
    prepare: Callable[[FloatArray], FloatArray] = lambda frames: frames

    @property
    def latency(self) -> int:
        """Steps between a frame and its answer."""
        return len(self.graph.layers) - 1

    def encode(self, frames: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Return the integers of frames in the model's own units.

        Raises:
            ConversionError: If one is out of range.
        """
        values = self.prepare(np.asarray(frames, np.float64))
        return encode_frames(values, self.input_scale, self.exponent)

    def decode(self, sums: npt.NDArray[np.integer]) -> FloatArray:
        """Return the network's results for sums of the read-out."""
        return np.asarray(sums / self.output_scale)

    def run(self, frames: npt.ArrayLike) -> FloatArray:
        """Return the results (sequences, T, classes) of sequences of frames."""
        values = with_latency(self.graph, self.encode(frames))
        return self.decode(run_answers(self.graph, values)[0])

    def sequences_of(self, frames: npt.ArrayLike) -> FloatArray:
        """Return frames as (sequences, T, ...); those without an order as sequences of one."""
        return as_sequences(frames, self.chain.shape)

    def stream_of(self, frames: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Return sequences as integers, the last frame repeated until it is answered.

        So is each last frame before a refresh.
        """
        return with_latency(self.graph, self.encode(self.sequences_of(frames)))

    def to_dict(self, *, has_labels: bool) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "has_labels": has_labels,
            "accuracy": self.baseline,
            "rounded": asdict(self.rounded),
            "final": asdict(self.final),
            "thresholds": list(self.thresholds),
            "input_scale": self.input_scale,
            "output_scale": self.output_scale,
            "spike_exponent": self.exponent,
            "latency": self.latency,
            "refresh_interval": self.graph.refresh_interval,
            "drift": asdict(self.drift),
            "proofs": {
                **asdict(self.proofs),
                "obligations": [
                    {**asdict(one), "margin": one.margin} for one in self.proofs.obligations
                ],
            },
            "layers": [{**asdict(row), "margin": row.margin} for row in self.margins],
            "remarks": list(self.remarks),
        }

    def write(self, path: str | Path) -> None:
        """Write a netx file.

        Raises:
            NetxError: If Lava would not run it exactly.
            OutputError: If it cannot be written.
        """
        netx.write(self.graph, path)


def encode_frames(frames: FloatArray, scale: float, exponent: int) -> npt.NDArray[np.int32]:
    """Return the integers of frames; ConversionError if one is out of range."""
    whole = np.rint(frames * scale)
    limit = (INPUT_MAX << 6) >> exponent
    largest = float(np.abs(whole).max(initial=0.0))
    if not np.isfinite(largest):
        raise ConversionError("frames: NaN or infinite values; every value must be a number.")
    if largest > limit:
        raise ConversionError(
            f"frames: a value of {largest / scale:g} is the integer {largest:g}; at spike exponent "
            f"{exponent}, {limit} are allowed. Give frames in the units of the calibration frames"
            + (f", or --spike-exp {exponent - 3}." if exponent >= 3 else ".")
        )
    return whole.astype(np.int32)


def choose_input_scale(frames: FloatArray) -> float:
    """Return integer units per float unit: exact for pixels, else 255 for the largest value."""
    for scale in (255.0, 1.0, 16.0, 128.0):
        whole = np.rint(frames * scale)
        if np.abs(whole - frames * scale).max() <= 1e-4 and np.abs(whole).max() <= INPUT_MAX:
            return scale
    return 255.0 / float(np.abs(frames).max())


def convert_graph(
    graph: Graph,
    samples: npt.ArrayLike,
    *,
    labels: npt.ArrayLike | None = None,
    reference: FloatArray | None = None,
    thresholds: Thresholds = "auto",
    error_budget: float = 0.05,
    accuracy_budget: float = 0.01,
    exponent: int = SPIKE_EXPONENT,
    refresh: int | None = None,
    tell: Callable[[str], None] | None = None,
) -> Conversion:
    """Convert a float graph.

    Args:
        graph: Convolutions, linear layers, pools, rectifiers.
        samples: (sequences, T, *shape) frames in order of time, or (n, *shape) frames without one.
        labels: (sequences,) or (n,) class of each.
        reference: Results of the network itself for the samples, to compare the graph with.
        thresholds: "auto" searches within the budgets; "none": the smallest; a number: for all.
        error_budget: Largest rms error in deviations of the network's results.
        accuracy_budget: Most accuracy that thresholds may cost, as a share.
        exponent: Lava's `spike_exp`.
        refresh: Steps from refresh to refresh; None: there are none.
        tell: Called with a line for each step.

    Raises:
        ConversionError: If the network cannot be converted, the frames do not fit, or a limit or
            budget cannot be held.
    """
    say = tell or (lambda line: None)
    sequences = as_sequences(samples, graph.input.shape)
    truth = _labels_of(labels, sequences)
    frames = sequences.reshape(-1, *graph.input.shape)
    chain, results = _lower(graph, frames, reference)
    say(f"lowered to {len(chain.layers)} layers; equal to the network on {len(frames)} frames")
    scale = choose_input_scale(frames)
    integers = encode_frames(sequences, scale, exponent)
    builder = _Fitting(chain, integers, scale, exponent, refresh)
    scales, rounded, run = builder.round()
    say("rounded: no sum, state or message reaches its limit")
    judge = Judge(results.reshape(*sequences.shape[:2], -1), truth, scales.output)
    least = least_thresholds(chain)

    def measure(values: Sequence[int], part: npt.NDArray[np.int32]) -> Trial:
        return judge.measure(builder.assemble(scales, rounded, values), part).trial

    measured = _measured(integers, macs := ann_macs(graph))
    made = builder.assemble(scales, rounded, least)
    final = judge.measure(made, measured)
    plain = final.trial
    if thresholds == "auto" and plain.error > error_budget:
        drift = find_drift(judge, made, measured, error_budget, final.squares)
        raise _out_of_budget(chain, rounded, plain.error, drift, len(frames))
    remarks = _remark(builder, plain, error_budget, measured)
    budgets = error_budget, accuracy_budget
    chosen = _choose_thresholds(thresholds, chain, measure, integers, budgets, say)
    if chosen != least:
        made = builder.assemble(scales, rounded, chosen)
        run = run_stream(made, builder.streams)
        check_limits_of(made, run)
        final = judge.measure(made, measured)
    return Conversion(
        graph=replace(made, relu_twin=macs),
        network=graph,
        chain=chain,
        input_scale=scale,
        output_scale=scales.output,
        exponent=exponent,
        thresholds=chosen,
        margins=measure_margins(made, rounded, chosen, run),
        rounded=plain,
        final=final.trial,
        drift=find_drift(judge, made, measured, error_budget, final.squares),
        proofs=prove_on(made, run, builder.streams),
        baseline=judge.baseline(),
        remarks=(*chain.notes, *remarks),
    )


def _lower(
    graph: Graph, frames: FloatArray, reference: FloatArray | None
) -> tuple[Chain, FloatArray]:
    """Return the chain of a graph, and the results of both for frames."""
    results, peaks = _run_floats(graph, frames)
    if reference is not None:
        _require_equal(results[: len(reference)], reference, "the network as it was read")
    chain = lower_rectified(graph, is_signed=bool((frames < 0).any()), peaks=peaks)
    _require_equal(chain.run(frames), results, "the lowered chain")
    return chain, results


def _out_of_budget(
    chain: Chain, rounded: Sequence[Rounded], error: float, drift: Drift, frames: int
) -> ConversionError:
    """Return the error of a budget that not even the smallest thresholds hold."""
    coarse = [
        one.error / (float(np.sqrt(np.mean(one.weight.astype(np.float64) ** 2))) or 1.0)
        for one in rounded
    ]
    place = int(np.argmax(coarse))
    more = "" if frames >= FRAMES_MIN else f" more calibration frames ({frames} were given),"
    found = (
        f"error budget {drift.budget:.1%}: the best that was found is {error:.1%}, with the "
        "smallest thresholds"
    )
    if drift.needs_refresh:
        return ConversionError(
            f"{found}: it grows with the frames from {drift.errors[0]:.1%}. Refresh after "
            f"{drift.frames_within} frames (--refresh {drift.interval}), which holds the budget, "
            "or give a larger one (--error-budget)."
        )
    return ConversionError(
        f"{found}: it is the error of 8-bit weights. They are coarsest in "
        f"'{chain.layers[place].name}', by {coarse[place]:.1%} of their size. Give{more} a larger "
        "budget (--error-budget), or a network with fewer inputs to a neuron there; thresholds "
        "'none' take what there is."
    )


def _choose_thresholds(
    wanted: Thresholds,
    chain: Chain,
    measure: Callable[[Sequence[int], npt.NDArray[np.int32]], Trial],
    integers: npt.NDArray[np.int32],
    budgets: tuple[float, float],
    say: Callable[[str], None],
) -> tuple[int, ...]:
    """Return the thresholds wanted; search on as many of the frames as are quick to run."""
    least = least_thresholds(chain)
    if isinstance(wanted, int):
        if wanted < 1:
            raise ConversionError(
                f"thresholds {wanted}: 1 or more, 'auto' or 'none' is allowed. With 0, changes of "
                "less than a message unit would be lost."
            )
        return (wanted,) * len(least)
    if wanted == "none" or integers.shape[1] == 1:
        return least
    steps = integers[:, :SEARCH_FRAMES]
    part = steps[: max(1, SEARCH_FRAMES // steps.shape[1])]

    def progress(values: Sequence[int], trial: Trial) -> None:
        say(
            f"thresholds {' '.join(map(str, values))}: error {trial.error:.1%}, "
            f"{trial.operations:,.0f} operations a frame"
        )

    error_budget, accuracy_budget = budgets
    return search_thresholds(
        chain,
        lambda values: measure(values, part),
        error_budget=error_budget,
        accuracy_budget=accuracy_budget,
        progress=progress,
    )


def _measured(integers: npt.NDArray[np.int32], macs: AnnMacs) -> npt.NDArray[np.int32]:
    """Return frames that errors are measured on.

    Of those without an order each fills the pipeline anew: as many as are quick to run.
    """
    if integers.shape[1] > 1:
        return integers
    each = max(1, sum(layer.macs_standard for layer in macs.layers))
    return integers[: max(MEASURED_FRAMES, MEASURED_MACS // each)]


def _remark(
    builder: _Fitting, plain: Trial, error_budget: float, measured: npt.NDArray[np.int32]
) -> list[str]:
    """Return sentences for whoever uses the result, and warn with them."""
    remarks = []
    if len(builder.frames) < FRAMES_MIN:
        remarks.append(
            f"{len(builder.frames)} calibration frames; {FRAMES_MIN} or more are better: other "
            "frames may come closer to the limits, and weights are rounded by what these show."
        )
    if measured.shape[1] == 1:
        remarks.append(
            "The frames have no order in time, so the smallest thresholds are used. Give "
            "sequences to have thresholds chosen."
        )
    if measured.shape[1] == 1 and len(measured) < builder.count:
        remarks.append(
            f"Errors, accuracy and operations are those of the first {len(measured)} frames, as "
            f"the network is large; limits are checked on all {builder.count}."
        )
    if plain.error > error_budget:
        remarks.append(
            f"Rounding alone gives an error of {plain.error:.1%}, above the budget of "
            f"{error_budget:.1%}."
        )
    for remark in remarks:
        warnings.warn(remark, NeurodeployWarning, stacklevel=3)
    return remarks


def as_sequences(samples: npt.ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Return samples as (sequences, T, ...); ConversionError if they are no frames of a shape."""
    values = np.asarray(samples)
    if values.dtype.kind not in "biuf":
        raise ConversionError(f"samples: {values.dtype}; numbers are required.")
    values = values.astype(np.float64)
    if values.ndim == len(shape) + 1 and values.shape[1:] == shape and len(values):
        values = values[:, None]
    if values.ndim != len(shape) + 2 or values.shape[2:] != shape or not values.size:
        raise ConversionError(
            f"samples: shape {values.shape}; frames of {shape} are required, as (sequences, T, "
            f"{', '.join(map(str, shape))}) or (n, {', '.join(map(str, shape))}), one at least."
        )
    if not np.isfinite(values).all():
        raise ConversionError("samples: NaN or infinite values; every value must be a number.")
    if values.min() == values.max():
        raise ConversionError(
            f"samples: every value is {values.min():g}; frames as the network will see them are "
            "needed to choose scales."
        )
    return values


def _labels_of(labels: npt.ArrayLike | None, sequences: FloatArray) -> Int64Array | None:
    if labels is None:
        return None
    found = np.asarray(labels)
    if found.shape == (len(sequences),):
        found = np.repeat(found[:, None], sequences.shape[1], axis=1)
    if found.shape != sequences.shape[:2] or found.dtype.kind not in "iu":
        raise ConversionError(
            f"labels: {found.dtype} of shape {found.shape}; one integer for each of "
            f"{len(sequences)} sequences, or for each frame, is required."
        )
    return found.astype(np.int64)


def _run_floats(graph: Graph, frames: FloatArray) -> tuple[FloatArray, dict[str, float]]:
    """Return the results of the graph, and the largest value that reaches each rectifier."""
    peaks: dict[str, float] = {}
    results = []
    largest = max(int(np.prod(shape)) for shape in graph.shapes().values())
    size = max(1, (1 << 20) // largest)
    for first in range(0, len(frames), size):
        for passed in pass_frames(graph, frames[first : first + size]):
            if isinstance(passed.layer, Rectifier):
                peak = float(passed.arriving.max())
                peaks[passed.name] = max(peaks.get(passed.name, -np.inf), peak)
        results.append(passed.sent[0].reshape(passed.sent.shape[1], -1))
    return np.concatenate(results), peaks


def _require_equal(found: FloatArray, expected: FloatArray, what: str) -> None:
    found = found.reshape(expected.shape)
    difference = float(np.abs(found - expected).max())
    largest = float(np.abs(expected).max())
    if difference > _FLOAT_ERROR * max(largest, 1e-12):
        raise ConversionError(
            f"{what} differs from the network by {difference:.3g} where its largest result is "
            f"{largest:.3g}. This is a fault of neurodeploy: report it with the model."
        )


class _Fitting:
    """Builds networks of one chain, and makes room where integers come too close to limits."""

    def __init__(
        self,
        chain: Chain,
        integers: npt.NDArray[np.int32],
        scale: float,
        exponent: int,
        refresh: int | None,
    ) -> None:
        latency = len(chain.layers)
        if refresh is not None and refresh <= latency:
            raise ConversionError(
                f"a refresh every {refresh} steps: a frame is answered {latency} steps after it "
                f"enters. Refresh after {latency + 1} or more."
            )
        self.chain, self.exponent, self.refresh = chain, exponent, refresh
        self.streams = integers if integers.shape[1] > 1 else in_a_row(integers)
        frames = integers.reshape(-1, *chain.shape)
        self.count = len(frames)
        self.frames = frames[:: max(1, -(-len(frames) // FRAMES_MAX))] / scale
        self.unit = 1 << exponent
        self.input_scale = scale * self.unit
        self.peaks = find_peaks(chain, self.frames)

    def assemble(
        self, scales: Scales, rounded: Sequence[Rounded], thresholds: Sequence[int]
    ) -> FixedPointGraph:
        """Return the network with some thresholds."""
        return assemble(
            self.chain,
            scales,
            rounded,
            exponent=self.exponent,
            thresholds=thresholds,
            refresh=self.refresh,
        )

    def round(self) -> tuple[Scales, list[Rounded], StreamRun]:
        """Round until nothing reaches a limit in Lava's own time; return the run that shows it."""
        limits: list[FloatArray] | None = None
        least = least_thresholds(self.chain)
        for _ in range(_ATTEMPTS):
            scales = choose_scales(self.chain, self.peaks, self.input_scale, limits)
            rounded = round_chain(self.chain, scales, self.frames, unit=self.unit, peaks=self.peaks)
            made = self.assemble(scales, rounded, least)
            run = run_stream(made, self.streams)
            factors = self._excess(run)
            if all((factor <= 1).all() for factor in factors):
                break
            limits = [
                scale / np.maximum(factor, 1) ** 1.05
                for scale, factor in zip(scales.layers, factors, strict=True)
            ]
        check_limits_of(made, run)
        return scales, rounded, run

    def _excess(self, run: StreamRun) -> list[FloatArray]:
        """Return by how much each channel's integers exceed their limits: (C,) by hidden layer."""
        factors = []
        for layer in self.chain.layers[:-1]:
            channels = layer.shape[0]
            messages = run.messages[layer.name][:channels] / MESSAGE_MAX
            sums = run.sums[layer.name][:channels] / STATE_MAX
            factors.append(np.maximum(messages, sums))
        return factors
