"""Run one netx file on stock Lava, for all samples of one job."""

from __future__ import annotations

import gc
import json
import logging
import os
import threading
import time
from multiprocessing import connection

import numpy as np

BEAT_SECONDS = 1.0
"""Runs are cut into pieces of about this length, so that a hanging one is noticed."""

STATES = {
    "LIF": {"current": "u", "voltage": "v"},
    "LIFReset": {"current": "u", "voltage": "v"},
    "Sigma": {"sigma": "sigma"},
    "Delta": {"sigma": "sigma", "activation": "act", "residue": "residue"},
    "SigmaDelta": {"sigma": "sigma", "activation": "act", "residue": "residue"},
    "RF": {"real": "real", "imag": "imag"},
    "RF_IZ": {"real": "real", "imag": "imag"},
}
"""States of each of Lava's neuron processes: our name, and the name of Lava's variable."""

REFRESHED = ("Sigma", "Delta", "SigmaDelta")
"""Neuron processes of networks that are refreshed."""
BUFFERS = ("a_buf", "a_buff")
"""Variables in which Lava's synapses keep their sums for the next step."""

INPUT, PLAN, LAVA = "input", "plan", "lava"
"""Kinds of failure: the input does not fit, the job cannot be done as asked, Lava failed."""


class JobError(Exception):
    """A job cannot be done.

    Args:
        kind: `INPUT`, `PLAN` or `LAVA`.
        message: What was found, and what is allowed.
    """

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class NetworkRun:
    """One job: a file, its input, and what to record.

    Layer k (0-based) answers the first input at column `lead + k` of a sink (a column is a step
    minus 1); `lead` is 1 if the input passes a synapse before the first neuron, and 0 for a file
    with an input block of neurons.

    Windows of a purely feed-forward network of LIF neurons run back to back in one run of Lava,
    with Lava's own periodic resets. Delays, recurrence and other neurons remember across such
    resets; then every window is a run of its own, and biases stay zero until the first input
    arrives, so that every layer begins its window from zero state.

    Args:
        lava: Namespace of `stock_lava.import_lava`.
        job: Dictionary; see README.md.
        folder: Path of the folder that holds the input and gets the results.
        watch: `Watch` that reports progress and failures.
    """

    def __init__(self, lava, job, folder, watch):
        self.lava = lava
        self.job = job
        self.folder = folder
        self.watch = watch
        self.inputs = np.load(folder / job["input"], mmap_mode="r")
        self.samples = len(self.inputs)
        self.steps = job["steps"]
        self.seconds = 0.0
        self.is_window = job["timing"] == "window"
        self.has_input_block, is_forgetful = self._examine_file()
        self.lead = 0 if self.has_input_block else 1
        self.is_packed = self.is_window and is_forgetful
        self.runs = 1 if self.is_packed else self.samples
        self.layers = []
        self.states = []
        self.outputs = {}

    def run(self):
        """Run all samples.

        Returns:
            Dictionary: `layers` (shape and names of the states of each), `seconds` of stepping.
        """
        for run in range(self.runs):
            self._run_once(run)
        return {
            "layers": [
                {"shape": list(shape), "states": list(states)}
                for shape, states in zip(self.layers, self.states)  # noqa: B905 - Python 3.10
            ],
            "seconds": self.seconds,
        }

    def _examine_file(self):
        """Return whether the file has an input block of neurons, and whether resets clear it."""
        has_input_block, is_forgetful = False, True
        layers = self.lava.NetDict(self.job["net"])["layer"]
        for index in range(len(layers)):
            layer = layers[index]
            kind, keys = layer["type"], set(layer.keys())
            if kind == "input":
                has_input_block = has_input_block or "neuron" in keys
            if "neuron" in keys:
                is_forgetful = is_forgetful and layer["neuron"]["type"] in ("CUBA", "LOIHI")
            is_forgetful = is_forgetful and kind != "dense_rec" and "delay" not in keys
        is_fed_by_port = self.job["feed"] == "port"
        if is_fed_by_port and has_input_block:
            raise JobError(
                PLAN,
                "the file has an input neuron block, which Lava does not connect to the network's "
                "port. Use feed 'neuron' or 'bias'.",
            )
        if not is_fed_by_port and not has_input_block:
            raise JobError(
                PLAN,
                f"feed '{self.job['feed']}' needs an input block with neurons, which this file "
                "does not have. Use feed 'port'.",
            )
        return has_input_block, is_forgetful

    def _create(self):
        """Create Lava's network with the resets that the timing asks for."""
        job = self.job
        interval, offset = job["reset_interval"], job["reset_offset"]
        if self.is_packed:
            interval, offset = self.steps, self.lead
        return self.lava.Network(
            net_config=job["net"],
            input_message_bits=job["input_bits"],
            input_shape=tuple(job["input_shape"]) if job["input_shape"] else None,
            reset_interval=interval,
            reset_offset=offset,
            spike_exp=job["spike_exponent"],
            sparse_fc_layer=job["sparse_fc_layer"],
        )

    def _run_once(self, run):
        net = self._create()
        if not self.layers:
            self.layers = [tuple(int(n) for n in layer.out.shape) for layer in net.layers]
            self.states = [STATES[type(layer.neuron).__name__] for layer in net.layers]
            self._allocate()
        if self.job["refresh_interval"]:
            _require_refreshable(net.layers)
        quiet = {}
        if self.is_window and not self.is_packed:
            quiet = _silence(net.layers[1 - self.lead :])
        self._feed(net, run)
        self._connect_probes(net, run)
        config = self.lava.Loihi2SimCfg(select_tag="fixed_pt")
        net.create_runtime(run_cfg=config)
        self.watch.guard(net.runtime)
        begin = time.perf_counter()
        stepper = _Stepper(net, self.lava.RunSteps, config, self._report(run))
        if self.job["feed"] == "bias" and self.is_packed:
            image = net.in_layer.neuron.bias_mant
            for sample in range(1, self.samples):
                stepper.advance(sample * self.steps)
                image.set(self._sample(sample).astype(np.int16).astype(np.int32))
        for column, restore in sorted(quiet.items()):
            stepper.advance(column)
            for variable, value in restore:
                variable.set(value)
        for step in self._refresh_steps():
            stepper.advance(step)
            _refresh(net.layers)
        stepper.advance(self._total_steps())
        self.seconds += time.perf_counter() - begin
        self.watch.release()
        net.stop()
        if self.is_window and not self.is_packed:
            self._check_quiet()
        # Lava's registries would otherwise keep every network ever made alive.
        self.lava.ProcessServer().reset_server()
        self.lava.VarServer().reset_server()
        logging.getLogger().handlers.clear()
        del net, stepper
        gc.collect()

    def _total_steps(self):
        if not self.is_window:
            return self.steps
        windows = self.samples if self.is_packed else 1
        return windows * self.steps + self.lead + len(self.layers) - 1

    def _refresh_steps(self):
        """Return after which steps everything is set to zero."""
        interval = self.job["refresh_interval"]
        return range(interval, self._total_steps(), interval) if interval else ()

    def _report(self, run):
        """Return a function that turns steps done in this run into samples done."""

        def report(done):
            if self.is_packed:
                samples = max(0, done - (self._total_steps() - self.samples * self.steps))
                self.watch.progress(samples // self.steps)
            else:
                self.watch.progress(run + (done >= self._total_steps()))

        return report

    def _allocate(self):
        """Create the files that the probes write into; a full disk is noticed here."""
        rows = self.samples * self.steps
        self.outputs = {"early": self._map("early", (len(self.layers),), np.int64)}
        for index, (shape, states) in enumerate(
            zip(self.layers, self.states)  # noqa: B905 - Python 3.10
        ):
            shape = shape[::-1]
            self.outputs["spikes", index] = self._map(f"spikes_{index}", (rows, *shape))
            is_last = index == len(self.layers) - 1
            if is_last or self.job["record_all"]:
                kept = rows if is_last else self.samples
                self.outputs["states", index] = self._map(
                    f"states_{index}", (kept, len(states), *shape)
                )

    def _map(self, name, shape, dtype=np.int32):
        path = self.folder / f"{self.job['name']}_{name}.bin"
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        return np.memmap(path, dtype=dtype, mode="r+", shape=shape)

    def _connect_probes(self, net, run):
        probes = self.lava.probes
        windows = self.samples if self.is_packed else 1
        span = windows * self.steps
        for index, layer in enumerate(net.layers):
            first = self.lead + index if self.is_window else 0
            probe = probes.SpikeProbe(
                shape=self.layers[index],
                rows=self.outputs["spikes", index][run * span : (run + 1) * span],
                first=first,
                early=self.outputs["early"][index : index + 1],
            )
            layer.out.connect(probe.a_in)
            states = self.outputs.get(("states", index))
            if states is None:
                continue
            every, each = 1, span
            if index < len(net.layers) - 1:
                first, every, each = first + self.steps - 1, self.steps, windows
            names = self.states[index].values()
            probes.STATE_PROBES[len(names)](
                variables=[getattr(layer.neuron, name) for name in names],
                rows=states[run * each : (run + 1) * each],
                first=first,
                every=every,
            )

    def _feed(self, net, run):
        feed = self.job["feed"]
        if feed == "bias":
            neuron = net.in_layer.neuron
            if not hasattr(neuron, "bias_mant"):
                raise JobError(
                    PLAN,
                    f"feed 'bias' needs LIF neurons in the input block, this file's are "
                    f"{type(neuron).__name__}. Use feed 'neuron'.",
                )
            self._check_shape(neuron.a_in.shape)
            neuron.bias_mant.init = self._sample(run)
            return
        port = net.inp if feed == "port" else net.in_layer.neuron.a_in
        self._check_shape(port.shape)
        samples = self.inputs if self.is_packed else self.inputs[run : run + 1]
        data = samples.reshape((-1, *(int(n) for n in port.shape[::-1]))).astype(np.int32)
        source = self.lava.source.RingBuffer(data=data.T)  # Lava: (W, H, C, T)
        source.s_out.connect(port)

    def _sample(self, index):
        """Return the bias image of one sample in Lava's axes."""
        shape = self.layers[0][::-1]
        return np.ascontiguousarray(self.inputs[index].reshape(shape).T.astype(np.int32))

    def _check_shape(self, port):
        """Refuse input that the port cannot take; a flat port takes any axes, in C order."""
        port = tuple(int(n) for n in port[::-1])
        axes = ("samples",) if self.job["feed"] == "bias" else ("samples", "T")
        found = self.inputs.shape[len(axes) :]
        fits = found == port or (len(port) == 1 and found and np.prod(found) == port[0])
        if not fits:
            expected = ", ".join((*axes, *map(str, port)))
            raise JobError(
                INPUT, f"input: shape {self.inputs.shape}, ({expected}) is required by this file."
            )

    def _check_quiet(self):
        early = self.outputs["early"]
        for index in range(len(early)):
            if early[index]:
                raise JobError(
                    PLAN,
                    f"layer {index} sends spikes before its first input arrives (a threshold below "
                    "zero?), so stock Lava cannot give every window a start from zero state. "
                    "Use stream timing.",
                )


class _Stepper:
    """Advances a network in pieces short enough to be watched."""

    def __init__(self, net, run_steps, config, report):
        self._net = net
        self._run_steps = run_steps
        self._config = config
        self._report = report
        self._done = 0
        self._piece = 1

    def advance(self, target):
        """Run until `target` steps are done in all."""
        while self._done < target:
            steps = min(self._piece, target - self._done)
            begin = time.perf_counter()
            self._net.run(condition=self._run_steps(num_steps=steps), run_cfg=self._config)
            elapsed = time.perf_counter() - begin
            self._done += steps
            if elapsed > BEAT_SECONDS:
                self._piece = max(1, self._piece // 2)
            elif steps == self._piece and elapsed < BEAT_SECONDS / 2:
                self._piece *= 2
            self._report(self._done)


def _silence(layers):
    """Set the biases of `layers` to zero and say when to restore them.

    Args:
        layers: Blocks of a network that has not been compiled. The first one's window begins
            after one step, each further one's a step later.

    Returns:
        Steps to run -> list of (Lava variable, integers to set).
    """
    restore = {}
    for index, layer in enumerate(layers):
        variable = getattr(layer.neuron, "bias_mant", getattr(layer.neuron, "bias", None))
        if variable is None or not np.any(variable.init):
            continue
        width = np.int16 if hasattr(layer.neuron, "bias_mant") else np.int32
        value = np.broadcast_to(np.asarray(variable.init).astype(width), variable.shape)
        restore[1 + index] = [(variable, np.ascontiguousarray(value.astype(np.int32)))]
        variable.init = np.zeros(variable.shape, np.int32)
    return restore


def _require_refreshable(layers):
    """Refuse networks with neurons whose states are not known to start anew from zero."""
    kinds = sorted({type(layer.neuron).__name__ for layer in layers} - set(REFRESHED))
    if kinds:
        raise JobError(
            PLAN,
            f"neurons of kind {', '.join(kinds)} cannot be refreshed; sigma-delta neurons alone "
            "can. Leave the refresh interval out.",
        )


def _refresh(layers):
    """Set all states and the sums in flight to zero, as at step 1, while a network pauses."""
    for layer in layers:
        neuron = layer.neuron
        variables = [getattr(neuron, name) for name in STATES[type(neuron).__name__].values()]
        for synapse in (getattr(layer, name, None) for name in ("synapse", "synapse_rec")):
            variables += [getattr(synapse, name) for name in BUFFERS if hasattr(synapse, name)]
        for variable in variables:
            variable.set(np.zeros(variable.shape, np.int32))


class Watch:
    """Reports progress, and ends the worker when one of Lava's processes fails.

    Lava waits for ever for a process that raised an exception. While a network runs, a thread
    here waits for any of its processes to end; none should.

    Args:
        fail: Called with kind, message and details when a process has ended; does not return.
    """

    def __init__(self, fail):
        self._fail = fail
        self._thread = None
        self._stop, self._wake = connection.Pipe(duplex=False)

    def progress(self, samples):
        """Tell the parent how many samples of this job are done; also a sign of life."""
        print(json.dumps({"samples": samples}), flush=True)

    def guard(self, runtime):
        """Start to watch the processes of `runtime`."""
        # The only way to Lava's processes; private in lava-nc 0.10.0, which is frozen.
        actors = list(runtime._messaging_infrastructure.actors)
        self._thread = threading.Thread(target=self._wait, args=(actors,), daemon=True)
        self._thread.start()

    def release(self):
        """Stop watching; the processes may now end."""
        self._wake.send_bytes(b"stop")
        self._thread.join()
        self._stop.recv_bytes()

    def _wait(self, actors):
        ended = connection.wait([self._stop, *(actor.sentinel for actor in actors)])
        if self._stop in ended:
            return
        time.sleep(0.2)  # neighbours may fail as a consequence; the message must have arrived
        traces = [actor.exception[1] for actor in actors if actor.exception]
        last = traces[0].strip().splitlines()[-1] if traces else "killed from outside?"
        self._fail(LAVA, f"a process of the network ended: {last}", "\n".join(traces))
