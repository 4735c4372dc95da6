"""Several networks side by side: accuracy, energy, and the Pareto front for every preset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from neurodeploy.energy.estimates import DEFAULT_PRESET
from neurodeploy.energy.presets import Tier
from neurodeploy.errors import DataError
from neurodeploy.files import DEPLOYMENT, RUN_FILES, SUMMARY, hash_file, real_path
from neurodeploy.reports.numbers import wilson_interval
from neurodeploy.untrusted.boundary import FileKind
from neurodeploy.untrusted.documents import read_json

_FILE = FileKind(
    "summary or report",
    ".json",
    DataError,
    "Give the directory of a whole run or of a tested deployment, or a file written from "
    "`neurodeploy report --json`.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Energy of one inference in pJ, by a model of one tier."""

    tier: Tier
    low: float
    nominal: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One network, as far as a comparison needs it.

    Attributes:
        name: Of its run or file.
        accuracy: Of the deployed network on its test set, a fraction; None if not known.
        stages: Accuracy by stage, the deployed network's last; empty if not known.
        sops: Synaptic operations of an answer: a sample, or a frame of a sequence.
        steps: T of an answer.
        frames: Answers of a sequence, of whose mean all figures are; None where a sample is one.
        energies: By preset.
        ann_energies: The same of the ANN it was reported with.
        ann_accuracy: Of that ANN on the same test set.
        test_samples: Samples that the accuracy was measured on; None if not known.
        test_digest: Digest of these samples.
        lava_samples: Samples that ran on real Lava as well; 0 if it is not known of any.
        lava_differing: Values in which these runs differ.
        source: The file behind all this, whose hash is `sha256`.
    """

    name: str
    accuracy: float | None
    sops: float
    steps: int | None
    energies: Mapping[str, Bounds]
    ann_energies: Mapping[str, Bounds]
    stages: Mapping[str, float] = field(default_factory=dict)
    ann_accuracy: float | None = None
    test_samples: int | None = None
    test_digest: str | None = None
    lava_samples: int = 0
    lava_differing: int = 0
    source: str = ""
    sha256: str = ""
    frames: int | None = None

    def describe_lava(self) -> str:
        """Return what the run on real Lava found: "equal (64)", samples in brackets."""
        if not self.lava_samples:
            return ""
        found = f"{self.lava_differing:,} differ" if self.lava_differing else "equal"
        return f"{found} ({self.lava_samples:,})"

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the accuracy; None where it or the number of samples is not known."""
        if self.accuracy is None or not self.test_samples:
            return None
        return wilson_interval(self.accuracy, self.test_samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One candidate, under a unique name, and the presets that have it on their Pareto front."""

    network: Candidate
    best_in: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkComparison:
    """Candidates, most accurate first.

    Attributes:
        preset: Constants that the comparison leads with.
        presets: Those that every candidate has, `preset` among them.
        entries: One a candidate.
        warnings: Reasons to doubt that the comparison is fair.
    """

    preset: str
    presets: tuple[str, ...]
    entries: tuple[Entry, ...]
    warnings: tuple[str, ...]

    def front(self, preset: str) -> tuple[Entry, ...]:
        """Return the Pareto front by a preset's nominal energies."""
        return tuple(entry for entry in self.entries if preset in entry.best_in)

    def tier(self, preset: str) -> Tier:
        """Return the model of energy that a preset belongs to."""
        return self.entries[0].network.energies[preset].tier

    def to_dict(self) -> dict[str, object]:
        """Return the same as plain values for JSON."""
        return {
            **self._preset_dict(self.preset),
            "warnings": list(self.warnings),
            "presets": [self._preset_dict(preset) for preset in self.presets],
        }

    def _preset_dict(self, preset: str) -> dict[str, object]:
        return {
            "preset": preset,
            "unit": "pJ per inference",
            "networks": [_network_dict(entry, preset) for entry in self.entries],
            "pareto_front": [entry.network.name for entry in self.front(preset)],
        }


def _network_dict(entry: Entry, preset: str) -> dict[str, object]:
    one = entry.network
    ann = one.ann_energies.get(preset)
    return {
        "name": one.name,
        "accuracy": one.accuracy,
        "accuracy_interval_95": one.interval,
        "test_samples": one.test_samples,
        "stages": dict(one.stages),
        "sops": one.sops,
        "steps": one.steps,
        "frames": one.frames,
        **asdict(one.energies[preset]),
        "lava": {"samples": one.lava_samples, "differing": one.lava_differing}
        if one.lava_samples
        else None,
        "is_best": preset in entry.best_in,
        "ann": None if ann is None else {**asdict(ann), "accuracy": one.ann_accuracy},
        "source": one.source,
        "sha256": one.sha256,
    }


def compare_networks(
    candidates: Sequence[Candidate], *, preset: str | None = None, tier: Tier | None = None
) -> NetworkComparison:
    """Put networks side by side.

    Args:
        candidates: At least one; names are made unique.
        preset: Whose energies lead; by default memory included where all have it, else arithmetic.
        tier: Take presets of this tier only.

    Raises:
        DataError: If there are no candidates, or they share no such preset.

    Example:
        >>> example = nd.load_example()
        >>> recording = nd.EventSimulator(example.graph).run(example.inputs)
        >>> report = nd.report(example.graph, example.inputs, recording)
        >>> _ = Path("digits.json").write_text(json.dumps(report.to_json()))
        >>> comparison = nd.compare_networks([nd.read_candidate("digits.json")], tier="A")
        >>> [entry.network.name for entry in comparison.entries]
        ['digits']
    """
    if not candidates:
        raise DataError("comparison: no networks. Name at least one.")
    tiers = {name: energy.tier for name, energy in candidates[0].energies.items()}
    everywhere = [name for name in tiers if all(name in one.energies for one in candidates)]
    shared = [name for name in everywhere if tier in (None, tiers[name])]
    chosen = preset
    if chosen is None:
        memory = [name for name in shared if tiers[name] is Tier.MEMORY]
        chosen = next(iter(memory or [n for n in shared if n == DEFAULT_PRESET] or shared), None)
    if chosen is None or chosen not in shared:
        named = "a preset" if preset is None else f"preset '{preset}'"
        named += "" if tier is None else f" of tier {tier.value}"
        raise DataError(
            f"comparison: {named} is not in every report; shared by all are "
            f"{', '.join(everywhere) or 'none'}. Name one of them, or report anew with the same "
            "presets."
        )
    networks = sorted(
        (
            replace(one, name=name)
            for name, one in zip(_unique([c.name for c in candidates]), candidates, strict=True)
        ),
        key=lambda one: (
            one.accuracy is None,
            -(one.accuracy or 0.0),
            one.energies[chosen].nominal,
        ),
    )
    entries = [
        Entry(network=one, best_in=tuple(name for name in shared if _is_best(one, networks, name)))
        for one in networks
    ]
    return NetworkComparison(
        preset=chosen,
        presets=tuple(shared),
        entries=tuple(entries),
        warnings=tuple(_warnings(networks)),
    )


def _is_best(network: Candidate, networks: Sequence[Candidate], preset: str) -> bool:
    """Return whether no other is at least as accurate for less energy, or better for the same."""
    accuracy, energy = network.accuracy, network.energies[preset].nominal
    if accuracy is None:
        return False
    return not any(
        other.accuracy is not None
        and other.accuracy >= accuracy
        and other.energies[preset].nominal <= energy
        and (other.accuracy > accuracy or other.energies[preset].nominal < energy)
        for other in networks
    )


def _warnings(networks: Sequence[Candidate]) -> list[str]:
    warnings = []
    known = [network for network in networks if network.accuracy is not None]
    sequences = [f"{one.name} ({one.frames} frames)" for one in networks if one.frames is not None]
    if sequences:
        warnings.append(
            f"One frame, the mean of a sequence, stands for {', '.join(sequences)}: what a frame "
            "costs depends on how much the input changes."
        )
    without = [network.name for network in networks if network.accuracy is None]
    if without:
        warnings.append(f"No accuracy is known of {', '.join(without)}: they are on no front.")
    digests = {network.test_digest for network in known}
    if len(known) > 1 and None in digests:
        unknown = [network.name for network in known if network.test_digest is None]
        warnings.append(f"Which test set was used is not known of {', '.join(unknown)}.")
    if len(digests - {None}) > 1:
        warnings.append("The accuracies are of different test sets: do not compare them.")
    ranges = [network.interval for network in known if network.interval is not None]
    if len(ranges) > 1 and max(low for low, _ in ranges) < min(high for _, high in ranges):
        warnings.append(
            "The 95 % intervals of all accuracies overlap: with this many test samples their order "
            "may be chance."
        )
    return warnings


def _unique(names: Sequence[str]) -> list[str]:
    """Number names that occur again; a number that is part of another name is passed over."""
    unique: list[str] = []
    for name in names:
        number, new = 2, name
        while new in unique or (new != name and new in names):
            new = f"{name} ({number})"
            number += 1
        unique.append(new)
    return unique


def read_candidate(path: Path | str) -> Candidate:
    """Read the directory of a run or a deployment, or what `report --json` printed.

    Args:
        path: Directory with `summary.json` or `deployment.json`, a file in it, or a JSON file.

    Raises:
        DataError: If it is missing or holds neither.

    Example:
        >>> example = nd.load_example()
        >>> recording = nd.EventSimulator(example.graph).run(example.inputs)
        >>> report = nd.report(example.graph, example.inputs, recording)
        >>> _ = Path("digits.json").write_text(json.dumps(report.to_json()))
        >>> nd.read_candidate("digits.json").sops
        7095.03125
    """
    path = Path(path)
    if path.name in RUN_FILES:
        path = path.absolute().parent
    file = path
    if path.is_dir():
        found = [path / name for name in (SUMMARY, DEPLOYMENT) if (path / name).exists()]
        if not found:
            raise DataError(
                f"{path}: holds neither {SUMMARY}, which `neurodeploy run` writes, nor "
                f"{DEPLOYMENT}, which `neurodeploy deploy` writes unless --no-test is given. Give "
                "the directory of one of them, or a file with the output of `neurodeploy report "
                "--json`."
            )
        file = found[0]
    document = read_json(file, _FILE)
    try:
        return _candidate(document, path, file)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        fault = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"{file}: neither the summary of a run nor a report ({fault}). Give the directory of a "
            "whole run or of a tested deployment, or the output of `neurodeploy report --json`, "
            "made with this version."
        ) from error


def _candidate(document: object, path: Path, file: Path) -> Candidate:
    whole = _table(document)
    if "report" in whole:  # what `neurodeploy convert --json` prints
        whole = _table(whole["report"])
    is_run = "sops_per_sample" in whole
    tiers = whole["energy"] if is_run else whole["tiers"]
    if not isinstance(tiers, list):
        raise TypeError("tiers")
    # of layers as stored no ANN is known: relays and folded pools are in their counts
    is_comparable = is_run or _table(whole["ann"]).get("is_comparable", True)
    found = whole.get("frames")  # answered ones; all else answers once a sample
    frames = None if found is None else int(_number(_table(found)["frames"]))
    energies: dict[str, Bounds] = {}
    ann: dict[str, Bounds] = {}
    for entry in map(_table, tiers):
        name = str(entry["preset"])
        energies[name] = _bounds(entry, frames or 1)
        if entry.get("ann") is not None and is_comparable:
            ann[name] = _bounds(_table(entry["ann"]), frames or 1)
    stages = _table({} if whole.get("accuracy") is None else whole["accuracy"])
    accuracy = {name: _share(value) for name, value in stages.items()}
    if is_run:
        steps = _table(_table(whole["recipe"])["network"])["steps"]
        sops = _number(whole["sops_per_sample"])
    else:
        steps = _table(whole["workload"])["T"]
        sops = _number(_table(whole["per_sample"])["sops"])
    lava = _table({} if whole.get("lava") is None else whole["lava"])
    test = _table({} if whole.get("test") is None else whole["test"])
    ann_accuracy = whole.get("ann_accuracy") if is_run else _table(whole["ann"]).get("accuracy")
    return Candidate(
        name=real_path(path).name if path.is_dir() else path.stem,
        accuracy=list(accuracy.values())[-1] if accuracy else None,
        stages=accuracy,
        sops=sops / (frames or 1),
        steps=int(_number(steps)) if frames is None else 1,
        frames=frames,
        energies=energies,
        ann_energies=ann,
        ann_accuracy=None if ann_accuracy is None else _share(ann_accuracy),
        test_samples=int(_number(test["samples"])) if "samples" in test else None,
        test_digest=str(test["digest"]) if "digest" in test else None,
        lava_samples=int(_number(lava.get("samples", 0))),
        lava_differing=int(_number(lava.get("differing_spikes", 0))),
        source=str(file),
        sha256=hash_file(file),
    )


def _table(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError("a table")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e300:
        raise TypeError("a number of at least 0")
    return float(value)


def _share(value: object) -> float:
    number = _number(value)
    if number > 1:
        raise ValueError("an accuracy above 1")
    return number


def _bounds(entry: Mapping[str, object], answers: int) -> Bounds:
    low, nominal, high = (_number(entry[end]) / answers for end in ("low", "nominal", "high"))
    return Bounds(tier=Tier(str(entry["tier"])), low=low, nominal=nominal, high=high)
