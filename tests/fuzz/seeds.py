"""Whole and valid files of every kind, from which mutations start.

Golden files of the other tests where there are some, else small files made by the package itself.
"""

from __future__ import annotations

import io
import json
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from pathlib import Path

import h5py
import numpy as np
from safetensors.torch import load as load_tensors

import neurodeploy as nd
from neurodeploy.energy.formulas import operations_of
from neurodeploy.errors import DataError
from neurodeploy.files import hardware_path, recipes_path
from neurodeploy.ir import (
    Connection,
    CubaNeuron,
    FixedDense,
    FixedInput,
    FixedLayer,
    FixedPointGraph,
)
from neurodeploy.ir.graphs import INPUT
from neurodeploy.learning.trainer import CHECKPOINT
from neurodeploy.nn import tensor_files
from neurodeploy.recipes.training_sections import TrainingSection
from neurodeploy.reports.certified_facts import CertifiedRun
from neurodeploy.samples.array_files import CutShortError
from neurodeploy.simulation import EventSimulator

TESTS = Path(__file__).parents[1]
SAMPLES, STEPS, PORT = 6, 5, (2, 4, 4)
Files = tuple[bytes, ...]


def from_files(*patterns: str, largest: int = 70_000) -> Callable[[], Files]:
    """Return a maker of seeds: the files of the tests that match, if they are not too large."""

    def seeds() -> Files:
        found = [path for pattern in patterns for path in sorted(TESTS.glob(pattern))]
        return tuple(path.read_bytes() for path in found if path.stat().st_size <= largest)

    return seeds


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _dense(name: str, source: str, outputs: int, inputs: int) -> FixedLayer:
    weight = np.random.default_rng(outputs).integers(-40, 60, (outputs, inputs), dtype=np.int32)
    decay, threshold = np.array(1024, np.int32), np.array(2, np.int32)
    return FixedLayer(
        name=name,
        shape=(outputs,),
        connections=(Connection(source=source, synapse=FixedDense(weight=weight)),),
        neuron=CubaNeuron(current_decay=decay, voltage_decay=decay, threshold=threshold),
        bias=np.array(0, np.int32),
    )


@cache
def network() -> FixedPointGraph:
    """Return a network of two layers that takes all samples made here."""
    layers = (_dense("hidden", INPUT, 7, 32), _dense("output", "hidden", 3, 7))
    return FixedPointGraph(input=FixedInput(shape=PORT), layers=layers)


@cache
def samples() -> np.ndarray:
    """Return its samples: (samples, T, C, H, W)."""
    random = np.random.default_rng(3)
    return (random.random((SAMPLES, STEPS, *PORT)) < 0.2).astype(np.int32)


@cache
def report() -> nd.Report:
    """Return what is counted of the network on the samples."""
    return nd.report(network(), samples(), EventSimulator(network()).run(samples()))


# --- samples --------------------------------------------------------------------------------------


def _columns() -> dict[str, np.ndarray]:
    flat = samples().reshape(SAMPLES, STEPS, -1)
    sample, step, address = np.nonzero(flat)
    return {
        "shape": np.array(samples().shape),
        "offset": np.concatenate([[0], np.cumsum(np.bincount(sample, minlength=SAMPLES))]),
        "step": step.astype(np.int32),
        "address": address.astype(np.int32),
        "payload": flat[sample, step, address].astype(np.int32),
    }


def _tables() -> list[dict[str, np.ndarray]]:
    """Return event tables with all columns, with sample numbers, and without payloads."""
    whole = _columns()
    numbered = {name: column for name, column in whole.items() if name != "offset"}
    numbered["sample"] = np.repeat(np.arange(SAMPLES), np.diff(whole["offset"]))
    bare = {name: column for name, column in whole.items() if name != "payload"}
    labels = np.arange(SAMPLES) % 3
    return [whole | {"label": labels}, numbered, bare]


def _arrays() -> list[dict[str, np.ndarray]]:
    labels = np.arange(SAMPLES) % 3
    small, wide = samples().astype(np.uint8), samples().astype(np.int64)
    return [{"input": small, "label": labels}, {"input": wide}, {"input": samples() > 0}]


def _hdf5(arrays: dict[str, np.ndarray], **options: object) -> bytes:
    with h5py.File.in_memory() as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **(options if array.ndim else {}))
        file.flush()
        return bytes(file.id.get_file_image())


def hdf5_samples() -> Files:
    tables = [_hdf5(one) for one in (*_tables(), *_arrays())]
    packed = [_hdf5(_tables()[0], compression="gzip"), _hdf5(_arrays()[0], compression="gzip")]
    return (*tables, *packed, _hdf5(_arrays()[1], chunks=True, shuffle=True))


def _npz(arrays: dict[str, np.ndarray], *, is_packed: bool) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if is_packed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def npz_samples() -> Files:
    return tuple(
        _npz(arrays, is_packed=is_packed)
        for arrays in (*_tables(), *_arrays())
        for is_packed in (False, True)
    )


def training_archives() -> Files:
    """Return images and sequences of events with their classes, as a recipe takes them."""
    images = np.arange(12 * prod(PORT)).reshape(12, *PORT) % 5
    events = np.tile(samples(), (2, 1, 1, 1, 1)) % 4
    return tuple(
        _npz({"input": inputs.astype(kind), "label": np.arange(12) % 3}, is_packed=is_packed)
        for inputs, kind in ((images, np.uint8), (images, np.int64), (events, np.uint8))
        for is_packed in (False, True)
    )


def npy_samples() -> Files:
    files = []
    for array in (
        samples().astype(np.uint8),
        samples(),
        np.asfortranarray(samples()),
        samples() > 0,
    ):
        np.save(buffer := io.BytesIO(), array)
        files.append(buffer.getvalue())
    return tuple(files)


def bin_recordings() -> Files:
    """Return recordings of N-MNIST's format: 40 events, some with an overflow of time between."""
    random = np.random.default_rng(5)
    times = np.sort(random.integers(0, 8000, 40))
    events = [(int(x), int(y), int(p)) for x, y, p in random.integers(0, (4, 4, 2), (40, 3))]
    rows = [
        bytes((x, y)) + (p << 23 | int(t)).to_bytes(3, "big")
        for t, (x, y, p) in zip(times, events, strict=True)
    ]
    turned = [*rows, bytes((0, 240, 0, 0, 0)), *rows]
    return b"".join(rows), b"".join(turned)


def dat_recordings() -> Files:
    random = np.random.default_rng(6)
    times = np.sort(random.integers(0, 8000, 40)).astype("<u4")
    x, y, polarity = random.integers(0, (4, 4, 2), (40, 3)).T
    words = np.stack([times, x | y << 14 | polarity << 28], axis=1).astype("<u4").tobytes()
    header = b"% Data file containing CD events.\n% Version 2\n% Height 4\n% Width 4\n"
    return header + b"\x0c\x08" + words, b"\x00\x08" + words


def aedat4_recordings() -> Files:
    """Return an uncompressed file of AEDAT 4: a header with XML, then packets, all flatbuffers."""
    description = (
        b'<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">'
        b'<node name="0" path="/mainloop/Recorder/outInfo/0/">'
        b'<attr key="typeIdentifier" type="string">EVTS</attr><node name="info">'
        b'<attr key="sizeX" type="int">4</attr><attr key="sizeY" type="int">4</attr>'
        b"</node></node></node></dv>"
    )
    header = struct.pack("<I4s5H2x", 20, b"IOHE", 10, 8, 0, 0, 4)
    header += struct.pack("<iII", 12, 4, len(description)) + description + b"\0"
    content = b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(header)) + header
    for number in range(2):
        rows = [(number * 4000 + 90 * one, one % 4, one // 4 % 4, one % 2) for one in range(40)]
        packet = struct.pack("<I4s3H2x", 16, b"EVTS", 6, 8, 4) + struct.pack(
            "<iII", 8, 4, len(rows)
        )
        packet += b"".join(struct.pack("<qhh?3x", *row) for row in rows)
        packet = struct.pack("<I", len(packet)) + packet
        content += struct.pack("<II", 0, len(packet)) + packet
    return (content,)


# --- texts ----------------------------------------------------------------------------------------

_SMALL_RECIPE = """
[recipe]
name = "small"

[data]
source = "digits"
validation_fraction = 0.15
input_bits = 4

[network]
steps = 2
readout = "linear"

[[network.layers]]
type = "conv"
channels = 2
stride = 2

[[network.layers]]
type = "dense"
neurons = 5

[neuron]
model = "lif"
tau = 0.5
surrogate = { name = "rectangular", width = 1.0 }

[shortcut]
method = "evolutionary"
after = ["conv1"]

[training]
epochs = 1
batch_size = 8
threads = 1
"""


def small_recipes() -> Files:
    """Return recipes whose networks are built in a moment."""
    cuba = _SMALL_RECIPE.replace(
        'model = "lif"\ntau = 0.5\nsurrogate',
        'model = "cuba"\nthreshold = 0.5\ncurrent_decay = 0.5\nvoltage_decay = 0.25\n# ',
    )
    plain = _SMALL_RECIPE.split("[shortcut]", maxsplit=1)[0] + "[training]\nepochs = 1\n"
    return tuple(text.encode() for text in (_SMALL_RECIPE, cuba, plain))


def recipes() -> Files:
    return (
        *small_recipes(),
        *(path.read_bytes() for path in sorted(recipes_path().glob("*.toml"))),
    )


def targets() -> Files:
    return tuple(path.read_bytes() for path in sorted((hardware_path() / "targets").glob("*.toml")))


def presets() -> Files:
    found = (hardware_path() / "targets" / "energy").glob("*.toml")
    return tuple(path.read_bytes() for path in sorted(found))


def measured() -> Files:
    whole = {
        "source": "profiler of a chip",
        "samples": 6,
        "syn_ops": [10, 20, [30, 40.5]],
        "dendrite_updates": 120,
        "spikes_in": [[5], [6]],
        "axon_out": 12,
        "seconds": 0.25,
        "static_power_w": 0.1,
        "total_power_w": 0.3,
    }
    few = {"source": "x", "samples": 1, "syn_ops": 1000}
    return tuple(json.dumps(one, indent=1).encode() for one in (whole, few))


def summaries() -> Files:
    """Return reports, and a summary of a run with the keys that are compared."""
    whole = report().to_json()
    energy = [{key: value for key, value in one.items() if key != "ann"} for one in whole["tiers"]]
    summary = {
        "sops_per_sample": whole["per_sample"]["sops"],
        "energy": energy,
        "accuracy": {"trained": 0.9, "deployed": 0.88},
        "recipe": {"network": {"steps": STEPS}},
        "test": {"samples": 100, "digest": "a" * 64},
        "ann_accuracy": 0.93,
    }
    return tuple(json.dumps(one).encode() for one in (whole, summary))


def certificates() -> Files:
    with folder() as here:
        net, source = here / "a.net", here / "a.npz"
        nd.netx.write(network(), net)
        np.savez(source, input=samples())
        recording = EventSimulator(network()).run(samples())
        run = CertifiedRun.of(network(), recording.steps)
        certified = nd.Certificate.of(net, source, samples(), recording, run)
        certified.save(here / "certificate.json")
        other = nd.Certificate.of(net, source, samples(), recording, run, lava=recording)
        other.save(here / "lava.json")
        return tuple((here / name).read_bytes() for name in ("certificate.json", "lava.json"))


def unsealed_certificates() -> Files:
    """Return certificates as the first format had them, without a hash of themselves."""
    found = []
    for content in certificates():
        table = json.loads(content) | {"format": "neurodeploy certificate 1"}
        del table["sha256"]
        found.append(json.dumps(table).encode())
    return tuple(found)


# --- what training and long runs leave ------------------------------------------------------------


def models() -> Files:
    with folder() as here:
        for number, text in enumerate(small_recipes()):
            nd.SpikingNetwork.from_recipe(nd.Recipe.parse(text.decode())).save(here / f"{number}")
        return tuple(path.read_bytes() for path in sorted(here.iterdir()))


def sealed(content: bytes) -> bytes:
    """Return a file of tensors with a hash that fits, if there is something to hash."""
    try:
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        table = json.loads(header["__metadata__"]["neurodeploy"])
        table["sha256"] = tensor_files._digest(load_tensors(content), table)
        header["__metadata__"]["neurodeploy"] = json.dumps(table)
        text = json.dumps(header).encode()
    except Exception:  # damaged in another way, which is left to be found
        return content
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


@dataclass(frozen=True)
class _CutShort:
    """The samples, of which only the first `complete` ones are there."""

    complete: int
    name = "cut short"
    count = SAMPLES
    shape = (STEPS, *PORT)
    dtype = np.dtype(np.int32)

    def read(self, first: int, last: int) -> np.ndarray:
        if last > self.complete:
            raise CutShortError("cut short", complete=self.complete)
        return samples()[first:last]


def _trainer(directory: Path) -> nd.Trainer:
    training = nd.Recipe.parse(_SMALL_RECIPE).training
    return nd.Trainer(replace(training, epochs=1), directory=directory)


def small_network() -> nd.SpikingNetwork:
    return nd.SpikingNetwork.from_recipe(nd.Recipe.parse(_SMALL_RECIPE))


@cache
def digits() -> tuple[nd.ArrayDataset, nd.ArrayDataset]:
    """Return a few images to train and to validate with."""
    random = np.random.default_rng(7)
    inputs = random.integers(0, 16, (16, 1, 8, 8)).astype(np.int32)
    labels = np.arange(16, dtype=np.int64) % 10
    whole = nd.ArrayDataset(
        inputs=inputs, labels=labels, shape=(1, 8, 8), classes=10, scale=2.0**-4
    )
    return whole, whole


def resume_training(directory: Path) -> tuple[nd.Trainer, nd.SpikingNetwork]:
    """Go on with the training whose checkpoint is in a directory; without one, train."""
    trainer, trained = _trainer(directory), small_network()
    trainer.fit(trained, *digits(), resume=True)
    return trainer, trained


def checkpoints() -> Files:
    with folder() as here:
        resume_training(here)
        return ((here / CHECKPOINT).read_bytes(),)


def resume_run(out: Path) -> bytes:
    """Run the network on its samples into a file, going on with its parts; return the file."""
    nd.run_samples(network(), samples(), out, resume=True)
    return out.read_bytes()


@cache
def parts() -> dict[str, bytes]:
    """Return the files that two interrupted runs leave, by name: two parts and what they are of."""
    with folder() as here:
        for complete in (2, 4):
            with suppress(DataError):
                nd.run_samples(network(), _CutShort(complete), here / "out.npz", resume=True)
        found = sorted(here.glob("out.npz.parts/*"))
        return {path.name: path.read_bytes() for path in found}


def one_step(training: TrainingSection) -> TrainingSection:
    """Return the same training with one iteration on `digits`."""
    return replace(training, epochs=1, batch_size=16, threads=1)


@cache
def operations() -> nd.Operations:
    """Return what the network does to the samples, as estimates of energy take it."""
    recording = EventSimulator(network()).run(samples())
    return operations_of(nd.count(network(), samples(), recording))
