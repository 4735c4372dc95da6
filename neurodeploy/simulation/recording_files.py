"""Recordings as arrays in files: their names, and writing them whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy.samples.array_files import (
    HDF5_SUFFIXES,
    ArrayStream,
    load_inputs,
    member_names,
    write_arrays,
)
from neurodeploy.samples.event_tables import find_hdf5
from neurodeploy.simulation.recording import Recording


def recording_arrays(recording: Recording) -> dict[str, npt.NDArray[np.generic]]:
    """Name what a recording holds, as it is stored.

    Returns:
        `layers`, the names of the layers; and of every layer k, as far as it was recorded:
        `spikes_<k>` (samples, T, ...); states of the last layer by their names (`voltage` and
        `current` for LIF neurons), those of others as `<state>_<k>`; `final_<state>_<k>`
        (samples, ...); `events_<k>`, of each neuron (samples, ...) int32; `active_<k>` and
        `membrane_<k>`, updates (samples,); `prediction`, the class of each sample (samples,)
        int64, or after each step (samples, T) where sigma-delta neurons sum, if the last layer
        chooses one and its grounds were recorded.
    """
    arrays: dict[str, npt.NDArray[np.generic]] = {"layers": np.array(recording.layers)}
    for k, name in enumerate(recording.layers):
        spikes = recording.spikes[k]
        if spikes is not None:
            arrays[f"spikes_{k}"] = spikes
        suffix = "" if name == recording.layers[-1] else f"_{k}"
        for state, trace in recording.states.get(name, {}).items():
            arrays[state + suffix] = trace
        if recording.final_states is not None:
            for state, values in recording.final_states[k].items():
                arrays[f"final_{state}_{k}"] = values
        if recording.events is not None:
            arrays[f"events_{k}"] = recording.events[k].total.astype(np.int32)
        if recording.updates is not None:
            updates = recording.updates[k]
            arrays[f"active_{k}"] = updates.active
            if updates.membrane is not None:
                arrays[f"membrane_{k}"] = updates.membrane
    prediction = recording.prediction
    if prediction is not None:
        arrays["prediction"] = prediction
    return arrays


def save_recording(path: str | Path, recording: Recording) -> None:
    """Write what `recording_arrays` names to a `.npz`, `.h5` or `.hdf5`, whole or not at all.

    Equal recordings give equal `.npz` files.

    Raises:
        OutputError: If the file cannot be written.
    """
    arrays = recording_arrays(recording)
    write_arrays(Path(path), {name: ArrayStream.of(array) for name, array in arrays.items()})


def load_prediction(path: Path) -> npt.NDArray[np.int64] | None:
    """Read the class of each sample, (samples,), from a file just written; None without one."""
    if path.suffix.lower() in HDF5_SUFFIXES:
        found = find_hdf5(path, key="prediction")
        return None if found is None else found.read(0, found.count).astype(np.int64)
    if "prediction" not in member_names(path):
        return None
    return load_inputs(path, key="prediction").astype(np.int64)
