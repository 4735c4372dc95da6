"""Lava itself as a simulator: the reference that ours is compared with."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError, LavaRuntimeError, NetxError, SimulationError
from neurodeploy.lava_bridge.runtime import find_runtime, require_forks
from neurodeploy.lava_bridge.worker import Job, require_last_layer, run_jobs
from neurodeploy.simulation.recording import (
    Feed,
    IntArray,
    Progress,
    Record,
    Recording,
    Stream,
    Timing,
    Window,
    plan_steps,
)


class LavaSimulator:
    """Runs a netx file on stock Lava, in a process and a Python of its own.

    Windows of purely feed-forward networks of LIF neurons run back to back in one run of Lava.
    Delays, recurrence and other neurons carry over from one window to the next, so there, and with
    stream timing, every sample is a run of its own (about half a second each).

    Example:
        >>> example = nd.load_example()
        >>> bits, names = example.graph.input.message_bits, example.graph.names
        >>> lava = nd.LavaSimulator(example.net, input_bits=bits, layer_names=names)
        >>> theirs = lava.run(example.inputs[:2])  # takes some seconds
        >>> ours = nd.EventSimulator(example.graph).run(example.inputs[:2])
        >>> nd.testing.assert_bit_exact(ours, theirs)
    """

    def __init__(
        self,
        net_path: Path | str,
        *,
        python: Path | str | None = None,
        input_bits: int | None = None,
        input_shape: Sequence[int] | None = None,
        spike_exponent: int = 6,
        layer_names: Sequence[str] | None = None,
        timeout: float | None = None,
        sparse_fc_layer: bool = False,
    ) -> None:
        """Prepare to run a file.

        Args:
            net_path: The netx file.
            python: Interpreter that has Lava; None for the runtime that `neurodeploy lava install`
                makes.
            input_bits: Above 0, the first synapse uses the input's integer values; None or 0
                reduces the input to zero or not zero.
            input_shape: (C, H, W) or (N,), for files that have no input layer.
            spike_exponent: Position of the binary point in the spikes of sigma-delta neurons.
            layer_names: Names for the layers of the recording; numbers if None.
            timeout: Longest time for one call of `run`, in seconds. None: as long as the worker
                shows signs of life.
            sparse_fc_layer: Use Lava's sparse synapses for dense layers; the numbers are the same.

        Raises:
            NetxError: If the file does not exist.
            LavaRuntimeError: If there is no runtime, or `python` is not an interpreter.
            SimulationError: If an option is out of range.
        """
        self.net_path = Path(net_path)
        if not self.net_path.is_file():
            raise NetxError(f"{self.net_path}: no such file. Write or name a netx file.")
        if input_bits is not None and input_bits < 0:
            raise SimulationError(
                f"simulation: {input_bits} input bits, 0 or more are needed. 0 stands for binary."
            )
        if input_shape is not None and (len(input_shape) not in (1, 3) or min(input_shape) < 1):
            raise SimulationError(
                f"simulation: input shape {tuple(input_shape)}, (C, H, W) or (N,) of positive "
                "numbers is needed."
            )
        if timeout is not None and timeout <= 0:
            raise SimulationError(f"simulation: timeout {timeout} s, more than 0 is needed.")
        self.python, self._is_own_runtime = _interpreter(python)
        self._input_bits = input_bits or 0
        self._input_shape = None if input_shape is None else tuple(reversed(tuple(input_shape)))
        self._spike_exponent = spike_exponent
        self._layer_names = None if layer_names is None else tuple(layer_names)
        self._timeout = timeout
        self._sparse_fc_layer = sparse_fc_layer

    def run(
        self,
        inputs: npt.NDArray[np.integer],
        *,
        timing: Timing = Window(),  # noqa: B008 - a frozen value, not shared state
        feed: Feed = Feed.PORT,
        record: Record = Record(),  # noqa: B008 - likewise
        progress: Progress | None = None,
    ) -> Recording:
        """Run all samples; see `neurodeploy.simulation.recording.Simulator`.

        States of layers before the last cannot be recorded after every step, and updates not at
        all.

        Raises:
            DataError: If the input has the wrong shape, kind or range.
            SimulationError: If timing, feed or record do not fit the file.
            LavaRuntimeError: If Lava is broken, fails on this file, or takes too long.
        """
        job = self.job(inputs, timing=timing, feed=feed, record=record)
        recording = run_jobs(
            self.python,
            [job],
            is_isolated=self._is_own_runtime,
            timeout=self._timeout,
            progress=progress,
        )[0]
        return replace(recording, timing=timing)

    def job(
        self,
        inputs: npt.NDArray[np.integer],
        *,
        timing: Timing = Window(),  # noqa: B008 - a frozen value, not shared state
        feed: Feed = Feed.PORT,
        record: Record = Record(),  # noqa: B008 - likewise
    ) -> Job:
        """Describe a run without starting it; `worker.run_jobs` runs several in one process.

        Raises:
            DataError: If the input is not integer, empty, or beyond 32 bits.
            SimulationError: If the number of steps is not determined or not positive, or states
                are to be recorded that cannot be.
        """
        values = _conform(inputs, has_time=feed is not Feed.BIAS)
        steps = plan_steps(timing, None if feed is Feed.BIAS else int(values.shape[1]))
        if self._layer_names is not None:
            require_last_layer(record, self._layer_names)
        is_stream = isinstance(timing, Stream)
        return Job(
            net=self.net_path,
            inputs=values,
            layers=self._layer_names,
            timing="stream" if is_stream else "window",
            steps=steps,
            feed=str(feed),
            input_bits=self._input_bits,
            input_shape=self._input_shape,
            spike_exponent=self._spike_exponent,
            sparse_fc_layer=self._sparse_fc_layer,
            reset_interval=timing.reset_interval if isinstance(timing, Stream) else None,
            reset_offset=timing.reset_offset if isinstance(timing, Stream) else 0,
            refresh_interval=timing.refresh_interval if isinstance(timing, Stream) else None,
            record=record,
        )


def _interpreter(python: Path | str | None) -> tuple[Path, bool]:
    """Return the interpreter, and whether it is that of our own runtime."""
    require_forks()
    if python is None:
        return find_runtime(), True
    found = shutil.which(str(python))
    if found is None:
        raise LavaRuntimeError(
            f"{python}: not an executable. Name the Python interpreter of an environment that has "
            "Lava, or leave it out to use the runtime of `neurodeploy lava install`."
        )
    return Path(found), False


def _conform(inputs: npt.NDArray[np.integer], *, has_time: bool) -> IntArray:
    """Return the input as int32; refuse one that is malformed."""
    array = np.asarray(inputs)
    axes = "(samples, T, ...)" if has_time else "(samples, ...)"
    if array.dtype.kind not in "iub":
        raise DataError(
            f"input: dtype {array.dtype}, integers are required. Quantize the samples first."
        )
    if array.ndim < (3 if has_time else 2):
        raise DataError(f"input: shape {array.shape}, {axes} is required.")
    if 0 in array.shape:
        raise DataError(f"input: shape {array.shape}; at least one sample and one step needed.")
    low, high = int(array.min()), int(array.max())
    limits = np.iinfo(np.int32)
    if low < limits.min or high > limits.max:
        raise DataError(f"input: values from {low} to {high} exceed 32 bits.")
    return array.astype(np.int32)
