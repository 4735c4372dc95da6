"""Kinds of files: where their seeds come from, how they are mutated and read, what they may raise.

A kind is read as the command or function does that a user gives such a file to, up to the point at
which its content is in the program: nothing is trained, and no more is simulated than that needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from math import prod
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
import seeds
from archive_mutators import NPY, NPZ, TENSORS
from byte_mutators import BYTES
from hdf5_mutators import HDF5
from onnx_mutators import ONNX
from seeds import Files
from text_mutators import JSON, TOML

import neurodeploy as nd
from neurodeploy.errors import (
    CheckpointError,
    DataError,
    InterchangeError,
    NetxError,
    NeurodeployError,
    OnnxError,
    RecipeError,
    SimulationError,
    TargetError,
    TrainingError,
)
from neurodeploy.learning.checkpoints import read_checkpoint
from neurodeploy.learning.trainer import CHECKPOINT
from neurodeploy.onnx_models.measured_zeros import read_baseline
from neurodeploy.recipes.data_sections import NpzData
from neurodeploy.recipes.layouts import count_weights, layout_of, shapes_of
from neurodeploy.samples.sources import open_samples, read_labels
from neurodeploy.simulation import Feed, Record
from neurodeploy.simulation.event_simulator import require_fit
from neurodeploy.simulation.long_runs.memory import divide_memory, resident_bytes
from neurodeploy.simulation.long_runs.parts import PartStore, seal_part

Mutator = Callable[[Random, bytes], bytes]
MEMORY = 256 << 20
"""Bytes that reading a small file may take."""


class NonsenseError(Exception):
    """Something was accepted that must not be."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A kind of file.

    Attributes:
        file: Where it is put, below a folder of its own.
        mutators: By structure; bytes of any kind are mutated as well.
        read: Reads the file at a path.
        errors: The errors that reading may end with.
        finish: What is done to the mutated bytes, such as sealing them anew.
        beside: Further files that reading needs, by path below the folder.
        seconds: Processor time that a file of no great size may take.
        weight: Share of a campaign over all kinds.
    """

    file: str
    seeds: Callable[[], Files]
    mutators: tuple[Mutator, ...]
    read: Callable[[Path], object]
    errors: tuple[type[NeurodeployError], ...]
    finish: Callable[[bytes], bytes] = bytes
    beside: Callable[[], Mapping[str, bytes]] = field(default=dict)
    seconds: float = 2.0
    weight: float = 1.0

    def mutate(self, rng: Random, files: Files) -> bytes:
        """Return a mutated seed: by structure first, then bytes."""
        data, steps = rng.choice(files), rng.choice((1, 1, 1, 2, 3))
        share = 0.9 if self.mutators in (TOML, JSON) else 0.7
        structural = sum(rng.random() < share for _ in range(steps)) if self.mutators else 0
        for step in range(steps):
            if step < structural:
                try:
                    data = rng.choice(self.mutators)(rng, data)
                    continue
                except Exception:  # it does not apply, or another step has left nothing to change
                    structural = 0
            if data:
                data = rng.choice(BYTES)(rng, data)
        return self.finish(data)


# --- how files are read ---------------------------------------------------------------------------


def _read_samples(path: Path) -> object:
    """Read samples and labels piece by piece, as `simulate` does."""
    graph = seeds.network()
    source = open_samples(path, steps=seeds.STEPS, port=seeds.PORT)
    require_fit((source.count or 1, *source.shape), graph, feed=Feed.PORT, where=source.name)
    portion = divide_memory(
        graph,
        memory=resident_bytes() + MEMORY,
        processes=1,
        steps=source.shape[0],
        input_shape=source.shape,
        input_dtype=source.dtype,
        record=Record(),
    )
    count = source.count or 0
    found = [
        source.read(first, min(first + portion.samples, count))
        for first in _firsts(count, portion.samples)
    ]
    if any(piece.dtype.kind not in "iu" for piece in found):
        raise NonsenseError(f"samples of {[piece.dtype for piece in found]}")
    return found, read_labels(path, samples=count, classes=3) if count else None


def _firsts(count: int, step: int) -> list[int]:
    """Return where a few pieces begin: the first ones and the last one."""
    return sorted(
        {*range(0, min(count, 3 * step), step), *([(count - 1) // step * step] if count else [])}
    )


def _read_network(path: Path) -> object:
    accepts = path.stat().st_size % 2 == 0
    graph = nd.netx.read(path, accept_silent_faults=accepts)
    return graph, nd.sizes_of(graph)


def _read_nir(path: Path) -> object:
    return nd.import_nir(path, dt=1e-6)


def _count_onnx(path: Path) -> object:
    macs = nd.count_onnx_macs(path, bind_batch=True)
    return json.dumps(macs.to_json(), allow_nan=False)


def _run_onnx(path: Path) -> object:
    macs = nd.count_onnx_macs(path, bind_batch=True)
    shape = next(iter(macs.inputs.values()), ())
    size = prod(shape) // max(1, macs.samples)
    if size > 1 << 20:
        return macs
    found = read_baseline(path, samples=np.ones((macs.samples, size), np.float32))
    return json.dumps(found.to_json(), allow_nan=False), found.to_ann()


def _read_recipe(path: Path) -> object:
    variants = nd.Recipe.variants(path)
    recipe = nd.Recipe.load(f"{path}#{variants[-1]}" if variants else path)
    name = recipe.recipe.name
    if Path(name).name != name or name in ("", ".", "..") or not name.isprintable():
        raise NonsenseError(f"a run of the name {name!r}")
    if nd.Recipe.parse(recipe.to_toml()) != recipe:
        raise NonsenseError("a recipe that is another one when it is written and read again")
    return recipe


def _build_recipe(path: Path) -> object:
    """Build the recipe's network and train it for a step, as `train` does, if it is a small one."""
    recipe = nd.Recipe.load(path)
    layout, shape = layout_of(recipe.network), recipe.data.shape
    shapes = shapes_of(layout, shape, where=str(path))
    values = sum(map(prod, shapes.values())) * recipe.network.steps
    if max(count_weights(layout, shape, shapes, recipe.data.classes), values) > 1 << 20:
        return recipe
    network = nd.SpikingNetwork.from_recipe(recipe)
    if recipe.data.shape != (1, 8, 8) or recipe.network.steps > 16 or recipe.training.epochs < 1:
        return recipe
    images = seeds.digits()[0]
    trainer = nd.Trainer(seeds.one_step(recipe.training), shortcut=recipe.shortcut)
    trainer.fit(network, images, images)
    return dict(network.state_dict())


def _load_archive(path: Path) -> object:
    """Load an archive as the data of a recipe: as images, and else as events."""
    try:
        parts = nd.load_data(_recipe_of(path, "direct"))
    except DataError:
        parts = nd.load_data(_recipe_of(path, "events"))
    for part in parts:
        labels = np.asarray(part.labels)
        if not len(part) or labels.min() < 0 or labels.max() >= 3:
            raise NonsenseError(f"{len(part)} samples of classes {set(labels.tolist())}")
    return [(part.windows(seeds.STEPS), part.labels) for part in parts]


def _recipe_of(path: Path, encoding: Literal["direct", "events"]) -> nd.Recipe:
    recipe = nd.Recipe.parse(seeds.small_recipes()[0].decode())
    data = NpzData(
        source="npz",
        path=str(path),
        shape=seeds.PORT,
        classes=3,
        encoding=encoding,
        test_fraction=0.34,
        validation_fraction=0.34,
        input_bits=3,
    )
    return replace(recipe, data=data, network=replace(recipe.network, steps=seeds.STEPS))


def _read_target(path: Path) -> object:
    target = nd.Target.load(path)
    fit = None
    if target.core_model is not None:
        fit = nd.estimate_cores(nd.sizes_of(seeds.network()), target)
    return target, nd.find_violations(seeds.network(), target), fit


def _read_preset(path: Path) -> object:
    preset = nd.EnergyPreset.load(path)
    operations = seeds.operations()
    return preset, nd.estimate_energy(operations, preset)


def _read_measured(path: Path) -> object:
    measured = nd.Measured.load(path)
    operations = seeds.operations()
    found = json.dumps(measured.to_dict(operations), allow_nan=False)
    return measured, measured.apply(operations), found


def _read_summary(path: Path) -> object:
    candidate = nd.read_candidate(path)
    return nd.compare_networks([candidate, nd.read_candidate(path.parent / "other.json")])


def _read_certificate(path: Path) -> object:
    certificate = nd.Certificate.load(path)
    return certificate, certificate.describe(), certificate.compare_network(path.parent / "a.net")


def _read_model(path: Path) -> object:
    network = nd.SpikingNetwork.load(path)
    return _require_known(dict(network.state_dict()), _weights())


def _read_forged_model(path: Path) -> object:
    return dict(nd.SpikingNetwork.load(path).state_dict())


def _read_checkpoint(path: Path) -> object:
    return read_checkpoint(path)


def _resume_training(path: Path) -> object:
    return _require_known(_resume_forged_training(path), (_trained(),))


def _resume_forged_training(path: Path) -> dict[str, object]:
    _, network = seeds.resume_training(path.parent)
    return dict(network.state_dict())


def _resume_run(path: Path) -> object:
    if _resume_forged_run(path) != _whole_run():
        raise NonsenseError("a run whose result is another one than that of an uninterrupted run")
    return None


def _resume_forged_run(path: Path) -> bytes:
    return seeds.resume_run(path.parents[1] / "out.npz")


def _require_known(found: dict[str, object], known: tuple[dict[str, object], ...]) -> object:
    """Refuse weights that are those of no file which neurodeploy wrote."""
    for one in known:
        if one.keys() == found.keys() and all(one[key].equal(found[key]) for key in one):  # type: ignore[attr-defined]
            return found
    raise NonsenseError("weights that nobody trained")


@cache
def _weights() -> tuple[dict[str, object], ...]:
    recipes = [nd.Recipe.parse(text.decode()) for text in seeds.small_recipes()]
    return tuple(dict(nd.SpikingNetwork.from_recipe(one).state_dict()) for one in recipes)


@cache
def _trained() -> dict[str, object]:
    with seeds.folder() as here:
        return dict(seeds.resume_training(here)[1].state_dict())


@cache
def _whole_run() -> bytes:
    with seeds.folder() as here:
        return seeds.resume_run(here / "out.npz")


def _of_samples(
    file: str, seeds: Callable[[], Files], mutators: tuple[Mutator, ...], *, weight: float = 2
) -> Target:
    """Return the kind of a file of samples."""
    return Target(
        file=file,
        seeds=seeds,
        mutators=mutators,
        read=_read_samples,
        errors=(DataError, SimulationError),
        weight=weight,
    )


def _of_parts(
    chosen: str,
    mutators: tuple[Mutator, ...],
    read: Callable[[Path], object] = _resume_run,
    finish: Callable[[bytes], bytes] = bytes,
) -> Target:
    """Return the kind of one file of those that an interrupted run leaves."""

    def seed() -> Files:
        return (seeds.parts()[chosen],)

    def beside() -> Mapping[str, bytes]:
        others = {name: data for name, data in seeds.parts().items() if name != chosen}
        return {f"out.npz.parts/{name}": data for name, data in others.items()}

    return Target(
        file=f"out.npz.parts/{chosen}",
        seeds=seed,
        mutators=mutators,
        read=read,
        errors=(DataError, SimulationError),
        finish=finish,
        beside=beside,
        weight=0.5,
    )


def _seal_part(archive: bytes) -> bytes:
    """Seal a part as one who knows how: what lies behind the seal must bear anything as well."""
    run = PartStore(folder=Path(), about=json.loads(seeds.parts()["run.json"])).run
    return seal_part(archive, 0, 2, run)


_PART = "part-000000000000-000000000002.npz"
TARGETS: Mapping[str, Target] = {
    "netx": Target(
        file="input.net",
        seeds=seeds.from_files("golden/*.net", "unit/netx/reported/*.net", largest=40_000),
        mutators=HDF5,
        read=_read_network,
        errors=(NetxError,),
    ),
    "nir": Target(
        file="input.nir",
        seeds=seeds.from_files("golden/interchange/*.nir"),
        mutators=HDF5,
        read=_read_nir,
        errors=(InterchangeError,),
    ),
    "hdf5": _of_samples("input.h5", seeds.hdf5_samples, HDF5, weight=1),
    "npz": _of_samples("input.npz", seeds.npz_samples, NPZ),
    "npz-train": Target(
        file="input.npz",
        seeds=seeds.training_archives,
        mutators=NPZ,
        read=_load_archive,
        errors=(DataError,),
    ),
    "npy": _of_samples("input.npy", seeds.npy_samples, NPY),
    "bin": _of_samples("input.bin", seeds.bin_recordings, ()),
    "dat": _of_samples("input.dat", seeds.dat_recordings, ()),
    "aedat4": _of_samples("input.aedat4", seeds.aedat4_recordings, (), weight=1),
    "onnx": Target(
        file="input.onnx",
        seeds=seeds.from_files("unit/onnx_models/models/*.onnx", largest=30_000),
        mutators=ONNX,
        read=_count_onnx,
        errors=(OnnxError,),
        seconds=8.0,
    ),
    "onnx-run": Target(
        file="input.onnx",
        seeds=seeds.from_files("unit/onnx_models/models/*.onnx", largest=5_000),
        mutators=ONNX,
        read=_run_onnx,
        errors=(OnnxError,),
        seconds=70.0,
        weight=0.5,
    ),
    "model": Target(
        file="input.safetensors",
        seeds=seeds.models,
        mutators=TENSORS,
        read=_read_model,
        errors=(CheckpointError,),
    ),
    "model-forged": Target(
        file="input.safetensors",
        seeds=seeds.models,
        mutators=TENSORS,
        read=_read_forged_model,
        finish=seeds.sealed,
        errors=(CheckpointError,),
    ),
    "checkpoint": Target(
        file=CHECKPOINT,
        seeds=seeds.checkpoints,
        mutators=TENSORS,
        read=_read_checkpoint,
        errors=(CheckpointError,),
    ),
    "resume": Target(
        file=CHECKPOINT,
        seeds=seeds.checkpoints,
        mutators=TENSORS,
        read=_resume_training,
        errors=(CheckpointError, TrainingError),
        weight=0.5,
    ),
    "resume-forged": Target(
        file=CHECKPOINT,
        seeds=seeds.checkpoints,
        mutators=TENSORS,
        read=_resume_forged_training,
        finish=seeds.sealed,
        errors=(CheckpointError, TrainingError),
        weight=0.5,
    ),
    "part": _of_parts(_PART, NPZ),
    "part-forged": _of_parts(_PART, NPZ, _resume_forged_run, _seal_part),
    "part-record": _of_parts("run.json", JSON),
    "recipe": Target(
        file="input.toml",
        seeds=seeds.recipes,
        mutators=TOML,
        read=_read_recipe,
        errors=(RecipeError,),
        weight=2,
    ),
    "recipe-build": Target(
        file="input.toml",
        seeds=seeds.small_recipes,
        mutators=TOML,
        read=_build_recipe,
        errors=(RecipeError, TrainingError, DataError),
        weight=0.5,
    ),
    "target": Target(
        file="input.toml",
        seeds=seeds.targets,
        mutators=TOML,
        read=_read_target,
        errors=(TargetError,),
        weight=2,
    ),
    "preset": Target(
        file="input.toml",
        seeds=seeds.presets,
        mutators=TOML,
        read=_read_preset,
        errors=(TargetError, DataError),
        weight=2,
    ),
    "measured": Target(
        file="input.json",
        seeds=seeds.measured,
        mutators=JSON,
        read=_read_measured,
        errors=(DataError,),
        weight=2,
    ),
    "summary": Target(
        file="input.json",
        seeds=seeds.summaries,
        mutators=JSON,
        read=_read_summary,
        errors=(DataError,),
        beside=lambda: {"other.json": seeds.summaries()[0]},
        weight=2,
    ),
    "certificate": Target(
        file="certificate.json",
        seeds=lambda: (*seeds.certificates(), *seeds.unsealed_certificates()),
        mutators=JSON,
        read=_read_certificate,
        errors=(DataError,),
        beside=lambda: {"a.net": b"none"},
        weight=2,
    ),
}
