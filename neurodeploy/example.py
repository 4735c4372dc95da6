"""Small verified networks with samples, which come with neurodeploy and need no torch.

Each lies in a folder of its own, with a certificate of its comparison with real Lava and a card;
`training/scripts/zoo.py` makes them all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError, OutputError
from neurodeploy.files import (
    CERTIFICATE,
    NET,
    SAMPLES,
    locked,
    real_path,
    replacing_together,
    zoo_path,
)
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.netx import read
from neurodeploy.reports.certificate import Certificate
from neurodeploy.samples.array_files import load_inputs
from neurodeploy.simulation.event_simulator import EventSimulator
from neurodeploy.simulation.recording import Feed, Recording, Timing
from neurodeploy.strict_tables import (
    NotNegativeFloat,
    NotNegativeInt,
    PositiveInt,
    Share,
    Text,
    read_table,
)
from neurodeploy.untrusted.boundary import FileKind
from neurodeploy.untrusted.documents import read_json

CARD = "card.json"
EXAMPLE_FILES = (NET, SAMPLES, CERTIFICATE, CARD)
_FILE = FileKind("card of an example", ".json", DataError, "Install neurodeploy again.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleEnergy:
    """Energy of a sample as a range in pJ, beside that of the ReLU twin; None for chips alone."""

    tier: str
    preset: str
    low: NotNegativeFloat
    high: NotNegativeFloat
    twin_low: NotNegativeFloat | None
    twin_high: NotNegativeFloat | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleCard:
    """Facts about an example; operations and energies are means over the samples beside it.

    Attributes:
        name: Of the example.
        task: The inputs and the classes.
        shows: The network, and the reason why it is here.
        origin: Where and how it was trained.
        command: Makes it again.
        seed: Of the training.
        data: The data set, and its licence.
        licence: Of the network.
        test_samples: Those that the accuracies were measured on.
        accuracy: On the test part, by stage, in the order of the stages.
        correct: How many of the samples beside the file are classified right.
        sops_per_sample: Synaptic operations.
        energies: By tier and preset.
        versions: Of the software that made it.

    Example:
        >>> card = nd.load_example().card
        >>> card.name, card.correct, card.test_samples, round(card.sops_per_sample)
        ('digits_small', 29, 360, 7095)
    """

    name: Text
    task: Text
    shows: Text
    origin: Text
    command: Text
    seed: NotNegativeInt
    data: Text
    licence: Text
    test_samples: PositiveInt
    accuracy: Mapping[str, Share]
    correct: NotNegativeInt
    sops_per_sample: NotNegativeFloat
    energies: tuple[ExampleEnergy, ...]
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, object]:
        """Return the facts as plain values for JSON."""
        values = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        return values | {
            "accuracy": dict(self.accuracy),
            "energies": [asdict(energy) for energy in self.energies],
            "versions": dict(self.versions),
        }

    @property
    def folder(self) -> Path:
        """The example's folder."""
        return zoo_path() / self.name

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return sum((self.folder / name).stat().st_size for name in EXAMPLE_FILES)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """A deployed network, and test samples that it has not been trained on.

    Attributes:
        card: The task, accuracies and costs, the origin.
        net: The netx file, which lava-dl loads as well.
        samples: The archive of inputs and labels.
        graph: The network in the chip's integers.
        inputs: (samples, T, ...) int32, as the network takes them.
        labels: (samples,) int64, the classes.
        certificate: Of the comparison with real Lava on these samples.

    Example:
        >>> example = nd.load_example()
        >>> example.inputs.shape, str(example.inputs.dtype), example.labels[:5].tolist()
        ((32, 4, 1, 8, 8), 'int32', [7, 6, 3, 7, 7])
        >>> example.certificate.compare_input(example.inputs)  # no difference
        ()
    """

    card: ExampleCard
    net: Path
    samples: Path
    graph: FixedPointGraph
    inputs: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int64]
    certificate: Certificate

    @property
    def timing(self) -> Timing:
        """Windows of steps, or Lava's own time for sigma-delta neurons."""
        return self.certificate.run.to_timing()

    @property
    def feed(self) -> Feed:
        """The way in which the inputs enter."""
        return self.certificate.run.feed

    def run(self) -> Recording:
        """Return what our simulator makes of the inputs."""
        return EventSimulator(self.graph).run(self.inputs, timing=self.timing, feed=self.feed)


def classes_of(recording: Recording) -> npt.NDArray[np.int64]:
    """Return the class of each sample; where sigma-delta neurons sum, that of the last frame."""
    classes = recording.prediction
    assert classes is not None, "every example chooses a class"
    return classes if classes.ndim == 1 else classes[:, -1]


def load_example(name: str = "digits_small") -> Example:
    """Return a small verified network with samples.

    The default has two spiking convolutions and a read-out, trained on scikit-learn's digits, and
    runs with the default timing; `example.run()` takes the timing that an example needs.
    `list_examples` tells of the others. Each was compared with real Lava, and
    `certificate.check(net, samples)` repeats the comparison.

    Raises:
        DataError: If there is no example of this name.

    Example:
        >>> example = nd.load_example()
        >>> recording = nd.EventSimulator(example.graph).run(example.inputs)
        >>> int((recording.prediction == example.labels).sum()), len(example.labels)
        (29, 32)
    """
    card = _load_card(name)
    net, samples = card.folder / NET, card.folder / SAMPLES
    certificate = Certificate.load(card.folder / CERTIFICATE)
    run = certificate.run
    return Example(
        card=card,
        net=net,
        samples=samples,
        graph=read(
            net,
            input_shape=run.input_shape,
            input_bits=run.input_bits,
            spike_exponent=run.spike_exponent,
        ),
        inputs=load_inputs(samples).astype(np.int32),
        labels=load_inputs(samples, key="label").astype(np.int64),
        certificate=certificate,
    )


def list_examples() -> tuple[ExampleCard, ...]:
    """Return the cards of the verified networks that come with neurodeploy, by name.

    Example:
        >>> import neurodeploy as nd
        >>> {card.name: card.test_samples for card in nd.list_examples()}["digits"]
        360
    """
    return tuple(_load_card(name) for name in _names())


def copy_example(name: str, folder: Path) -> tuple[Path, ...]:
    """Copy the files of an example into a folder, all or none; return where they are.

    Raises:
        DataError: If there is no example of this name.
        OutputError: If one of the files exists already, or they cannot be written.
    """
    source = _load_card(name).folder
    with locked(folder):
        place = real_path(folder)
        existing = [one for one in EXAMPLE_FILES if os.path.lexists(place / one)]
        if existing:
            raise OutputError(
                f"{folder}: holds {', '.join(existing)} already; nothing is written over. Name "
                "another folder with --out."
            )
        with replacing_together(folder, EXAMPLE_FILES) as staging:
            for one in EXAMPLE_FILES:
                shutil.copyfile(source / one, staging / one)
    return tuple(folder / one for one in EXAMPLE_FILES)


def _names() -> list[str]:
    return sorted(path.parent.name for path in zoo_path().glob(f"*/{CARD}"))


def _load_card(name: str) -> ExampleCard:
    names = _names()
    if name not in names:
        close = get_close_matches(name, names, n=1)
        hint = f"Did you mean '{close[0]}'? " if close else ""
        raise DataError(f"no example '{name}'. {hint}There are {', '.join(names)}.")
    path = zoo_path() / name / CARD
    card = read_table(ExampleCard, read_json(path, _FILE), where=str(path), error=DataError)
    assert card.name == name, "the folder has the name of the example"
    return card
