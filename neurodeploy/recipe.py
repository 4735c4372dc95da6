"""A recipe: everything that a run depends on, read from TOML and checked once.

Keys are strict. What a section may hold can depend on one of its keys (`data.source`,
`neuron.model`, a layer's `type`); a key that would have no effect is refused as unknown.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from neurodeploy.architectures import NetworkSection, layout_of, shapes_of
from neurodeploy.errors import RecipeError
from neurodeploy.ranges import (
    ABOVE_ZERO as _ABOVE_ZERO,
    NOT_EMPTY as _NOT_EMPTY,
    NOT_NEGATIVE as _NOT_NEGATIVE,
    POSITIVE as _POSITIVE,
    UNIT as _UNIT,
    Range as _Range,
)
from neurodeploy.sources import (
    Cifar10Data as Cifar10Data,
    Cifar10DvsData as Cifar10DvsData,
    Cifar100Data as Cifar100Data,
    DataSection as DataSection,
    DigitsData as DigitsData,
    DvsGestureData as DvsGestureData,
    EventData as EventData,
    FashionMnistData as FashionMnistData,
    ImageData as ImageData,
    ImageNetData as ImageNetData,
    MnistData as MnistData,
    NmnistData as NmnistData,
    NpzData as NpzData,
    ShdData as ShdData,
)

Table = dict[str, object]
"""A TOML table as `tomllib` gives it."""
Section = TypeVar("Section")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSection:
    """Name and seed: [recipe].

    Attributes:
        name: Names the run's directory.
        description: One line for lists of recipes.
        seed: Start of every random number of the run: validation split, initial weights, order
            of the samples, augmentation.
    """

    name: str = field(metadata=_NOT_EMPTY)
    description: str = ""
    seed: int = field(default=0, metadata=_NOT_NEGATIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RectangularSurrogate:
    """1 / width within width / 2 of the threshold: [neuron.surrogate].

    Attributes:
        name: "rectangular".
        width: The paper's a.
    """

    name: Literal["rectangular"] = "rectangular"
    width: float = field(default=1.0, metadata=_ABOVE_ZERO)


@dataclass(frozen=True, slots=True, kw_only=True)
class TriangularSurrogate:
    """A triangle from 0 to twice the threshold: [neuron.surrogate].

    Attributes:
        name: "triangular".
        height: The paper's gamma.
    """

    name: Literal["triangular"]
    height: float = field(default=1.0, metadata=_ABOVE_ZERO)


@dataclass(frozen=True, slots=True, kw_only=True)
class TanhSurrogate:
    """The derivative of a tanh step: [neuron.surrogate].

    Attributes:
        name: "tanh".
        height: The paper's k.
        slope: Steepness.
    """

    name: Literal["tanh"]
    height: float = field(default=1.0, metadata=_ABOVE_ZERO)
    slope: float = field(default=2.0, metadata=_ABOVE_ZERO)


@dataclass(frozen=True, slots=True, kw_only=True)
class TanhPrintedSurrogate:
    """The paper's third formula exactly as printed, for comparison: [neuron.surrogate].

    Attributes:
        name: "tanh_printed".
        height: The paper's k.
    """

    name: Literal["tanh_printed"]
    height: float = field(default=1.0, metadata=_ABOVE_ZERO)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialSurrogate:
    """SLAYER's surrogate: [neuron.surrogate].

    Attributes:
        name: "exponential".
        tau_grad: Width, in hundreds of thresholds.
        scale_grad: Height, in tenths.
    """

    name: Literal["exponential"]
    tau_grad: float = field(default=1.0, metadata=_ABOVE_ZERO)
    scale_grad: float = field(default=1.0, metadata=_ABOVE_ZERO)


SurrogateSection = (
    RectangularSurrogate
    | TriangularSurrogate
    | TanhSurrogate
    | TanhPrintedSurrogate
    | ExponentialSurrogate
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LifNeuron:
    """The paper's neuron: u ← τu + Wx, a spike where u > V_th, reset to zero: [neuron].

    Attributes:
        model: "lif".
        tau: τ, what is left of the potential after a step.
        threshold: V_th.
        surrogate: What stands in for the derivative of the spike.
    """

    model: Literal["lif"] = "lif"
    tau: float = field(default=0.5, metadata=_UNIT)
    threshold: float = field(default=0.5, metadata=_ABOVE_ZERO)
    surrogate: SurrogateSection = field(default_factory=RectangularSurrogate)


@dataclass(frozen=True, slots=True, kw_only=True)
class CubaNeuron:
    """Current-based leaky integrate-and-fire with SLAYER's `neuron_params`: [neuron].

    Attributes:
        model: "cuba".
        threshold: In SLAYER's units.
        current_decay: 0 to 1.
        voltage_decay: 0 to 1.
        tau_grad: Width of the exponential surrogate.
        scale_grad: Height of the exponential surrogate.
        scale: Integer weight units in one unit of weight.
    """

    model: Literal["cuba"]
    threshold: float = field(metadata=_ABOVE_ZERO)
    current_decay: float = field(metadata=_UNIT)
    voltage_decay: float = field(metadata=_UNIT)
    tau_grad: float = field(default=1.0, metadata=_ABOVE_ZERO)
    scale_grad: float = field(default=1.0, metadata=_ABOVE_ZERO)
    scale: int = field(default=64, metadata=_POSITIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortcutSection:
    """Branches during training: [shortcut].

    Attributes:
        method: "vanilla": no branches. "shortcut": the branches are added with a constant
            weight. "evolutionary": with a weight that falls linearly to zero.
        weight: λ. By default 1 for "shortcut" (eq. 6 of the paper) and 0.25 for "evolutionary".
        schedule: How λ runs through the iterations: a name that
            `neurodeploy.learning.schedules` knows, such as "constant", "linear" or "cosine". By
            default that of the method.
        after: Blocks that get a branch: "stage": the last of each stage, "block": each one,
            both without the last of the network; or a list of names. Has no effect for
            "vanilla".
    """

    method: Literal["vanilla", "shortcut", "evolutionary"] = "vanilla"
    weight: float | None = field(default=None, metadata=_NOT_NEGATIVE)
    schedule: str | None = field(default=None, metadata=_NOT_EMPTY)
    after: Literal["stage", "block"] | tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEntropyLoss:
    """Cross-entropy of the output's mean over time: [training.loss].

    Attributes:
        name: "cross_entropy".
    """

    name: Literal["cross_entropy"] = "cross_entropy"


@dataclass(frozen=True, slots=True, kw_only=True)
class TetLoss:
    """Temporal efficient training: the mean of each step's cross-entropy: [training.loss].

    Attributes:
        name: "tet".
        weight: λ of TET: share of the regulariser, the squared distance of each step's output
            to `target`.
        target: φ of TET.
    """

    name: Literal["tet"]
    weight: float = field(default=0.05, metadata=_UNIT)
    target: float = 1.0


LossSection = CrossEntropyLoss | TetLoss


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSection:
    """Optimisation: [training].

    Attributes:
        epochs: Passes over the training part.
        batch_size: Largest number of samples in a batch; an epoch's batches differ by one.
        optimizer: "sgd" or "adamw".
        learning_rate: At the first iteration.
        momentum: Of SGD; the first beta of AdamW.
        weight_decay: On weights, never on biases, thresholds or batch norm.
        schedule: "cosine": from `learning_rate` to zero, iteration by iteration. "constant".
        loss: What is made small.
        label_smoothing: 0 for none.
        keep: Which weights go on to deployment: "best" on the validation part, or "last".
        threads: For torch; 0 leaves torch's own choice.
    """

    epochs: int = field(metadata=_NOT_NEGATIVE)
    batch_size: int = field(default=32, metadata=_POSITIVE)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = field(default=0.1, metadata=_ABOVE_ZERO)
    momentum: float = field(default=0.9, metadata={"range": _Range(minimum=0, below=1)})
    weight_decay: float = field(default=1e-4, metadata=_NOT_NEGATIVE)
    schedule: Literal["cosine", "constant"] = "cosine"
    loss: LossSection = field(default_factory=CrossEntropyLoss)
    label_smoothing: float = field(default=0.0, metadata={"range": _Range(minimum=0, below=1)})
    keep: Literal["best", "last"] = "best"
    threads: int = field(default=0, metadata=_NOT_NEGATIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationSection:
    """From floats to integers: [quantization].

    Attributes:
        target: Name of the chip in `hardware/targets`, or the path of a target's TOML file.
        margin: How many times larger than on the calibration samples a state may become before
            it wraps or clips.
        calibration_samples: Training samples from which each layer's scale is chosen.
        fine_tune_epochs: Epochs of training with the integer arithmetic as forward pass.
        fine_tune_learning_rate: Its learning rate.
    """

    target: str = field(default="loihi2", metadata=_NOT_EMPTY)
    margin: float = field(default=1.5, metadata={"range": _Range(minimum=1)})
    calibration_samples: int = field(default=256, metadata=_POSITIVE)
    fine_tune_epochs: int = field(default=0, metadata=_NOT_NEGATIVE)
    fine_tune_learning_rate: float = field(default=0.001, metadata=_ABOVE_ZERO)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationSection:
    """Comparison with Lava: [verification].

    Attributes:
        backend: "lava": compare every spike with real Lava. "none".
        lava_samples: Test samples that run on Lava too.
        lava_python: Interpreter that has Lava; by default the runtime of
            `neurodeploy lava install`.
    """

    backend: Literal["lava", "none"] = "lava"
    lava_samples: int = field(default=64, metadata=_POSITIVE)
    lava_python: str | None = field(default=None, metadata=_NOT_EMPTY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that a run depends on.

    Attributes:
        recipe: Name and seed.
        data: Where samples come from.
        network: Its layers.
        neuron: Its neurons.
        shortcut: Branches during training.
        training: Optimisation.
        quantization: From floats to integers.
        verification: Against Lava.
    """

    recipe: RunSection
    data: DataSection
    network: NetworkSection
    neuron: LifNeuron | CubaNeuron
    shortcut: ShortcutSection = field(default_factory=ShortcutSection)
    training: TrainingSection
    quantization: QuantizationSection = field(default_factory=QuantizationSection)
    verification: VerificationSection = field(default_factory=VerificationSection)

    @classmethod
    def load(cls, path: Path | str, *, overrides: Mapping[str, str] | None = None) -> Recipe:
        """Read a recipe from a TOML file.

        Args:
            path: The file.
            overrides: Values by dotted key, each written as in TOML; what is not TOML is a
                string. Entries of lists have numbers: `network.layers.0.channels`.

        Raises:
            RecipeError: If the file cannot be read, or anything in it is not allowed.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise RecipeError(
                f"{path}: cannot be read ({reason}). Give the path of a recipe in TOML."
            ) from error
        return cls.parse(text, where=str(path), overrides=overrides)

    @classmethod
    def parse(
        cls, text: str, *, where: str = "recipe", overrides: Mapping[str, str] | None = None
    ) -> Recipe:
        """Read a recipe from TOML text.

        Args:
            text: TOML.
            where: What to call it in errors.
            overrides: As in `load`.

        Raises:
            RecipeError: If anything in it is not allowed.
        """
        try:
            table: Table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{where}: not valid TOML: {error}.") from error
        for key, value in (overrides or {}).items():
            _override(table, key, _toml_value(value), where=where)
        return cls.from_dict(table, where=where)

    @classmethod
    def from_dict(cls, table: Mapping[str, object], *, where: str = "recipe") -> Recipe:
        """Check a table of tables, such as `to_dict` gives.

        Raises:
            RecipeError: If anything in it is not allowed.
        """
        recipe = read_section(cls, table, where=where)
        check_network(recipe.network, recipe.data.shape, where=where)
        check_branches(recipe.shortcut, recipe.network, where=where)
        if isinstance(recipe.data, DigitsData) and recipe.data.input_bits < 4:
            raise RecipeError(
                f"{where} [data]: input_bits = {recipe.data.input_bits}, the digits have pixels "
                "up to 16 = 2**4. Use input_bits = 4."
            )
        return recipe

    def to_dict(self) -> Table:
        """Give the effective recipe, defaults included, as plain tables."""
        return section_table(self)

    def to_toml(self) -> str:
        """Give the effective recipe, defaults included, as TOML that `parse` reads back."""
        return "\n".join(_toml_lines(self.to_dict())) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What must be known to build a network: that part of a recipe, and its input and output.

    Attributes:
        shape: (C, H, W) or (N,) of one step of one sample.
        classes: Number of outputs.
        input_bits: The network sees x / 2**input_bits for an integer x, |x| <= 2**input_bits.
        network: The layers, or an architecture by its name.
        neuron: Their neurons.
        branches: Names of the blocks that have a shortcut branch.
    """

    shape: tuple[int, ...] = field(metadata={**_POSITIVE, "lengths": (1, 3)})
    classes: int = field(metadata={"range": _Range(minimum=2)})
    input_bits: int = field(metadata={"range": _Range(minimum=0, maximum=16)})
    network: NetworkSection
    neuron: LifNeuron | CubaNeuron
    branches: tuple[str, ...] = ()

    @classmethod
    def of(cls, recipe: Recipe) -> Architecture:
        """Give the architecture that a recipe trains."""
        return cls(
            shape=recipe.data.shape,
            classes=recipe.data.classes,
            input_bits=recipe.data.input_bits,
            network=recipe.network,
            neuron=recipe.neuron,
            branches=(
                ()
                if recipe.shortcut.method == "vanilla"
                else layout_of(recipe.network).branches(recipe.shortcut.after)
            ),
        )

    @classmethod
    def from_dict(cls, table: Mapping[str, object], *, where: str) -> Architecture:
        """Check a table such as `to_dict` gives.

        Raises:
            RecipeError: If anything in it is not allowed.
        """
        architecture = read_section(cls, table, where=where)
        check_network(architecture.network, architecture.shape, where=where)
        shortcut = ShortcutSection(after=architecture.branches)
        check_branches(shortcut, architecture.network, where=where)
        return architecture

    def to_dict(self) -> Table:
        """Give plain tables, defaults included."""
        return section_table(self)


def check_branches(shortcut: ShortcutSection, network: NetworkSection, *, where: str) -> None:
    """Check that every branch starts at a block, and that a method with branches has some.

    Raises:
        RecipeError: If not.
    """
    layout = layout_of(network)
    names = layout.branch_points
    if shortcut.after == "stage" and not layout.stages:
        raise RecipeError(
            f"{where} [shortcut]: after = 'stage', but architecture = '{network.architecture}' "
            "has no stages. Use 'block', or name blocks."
        )
    after = layout.branches(shortcut.after)
    for name in after:
        if name not in names:
            raise RecipeError(
                f"{where} [shortcut]: after names '{name}', the blocks are {', '.join(names)}."
                + _suggestion(name, names)
            )
    if len(set(after)) < len(after):
        raise RecipeError(f"{where} [shortcut]: after names a block twice. Name each once.")
    if shortcut.method != "vanilla" and not after:
        raise RecipeError(
            f"{where} [shortcut]: method = '{shortcut.method}' without branches. "
            "Name the blocks that get one in after, or use method = 'vanilla'."
        )


def check_network(network: NetworkSection, shape: tuple[int, ...], *, where: str) -> None:
    """Check names, and that each layer fits the shape it gets.

    Args:
        network: What [network] says.
        shape: (C, H, W) or (N,) of the input.
        where: Start of errors.

    Raises:
        RecipeError: If not.
    """
    shapes_of(layout_of(network), shape, where=where)


# --- from tables to dataclasses -------------------------------------------------------------


def read_section(kind: type[Section], table: object, *, where: str, path: str = "") -> Section:
    """Build one dataclass from a table, strictly.

    Args:
        kind: A dataclass of this module, or one made of them.
        table: Keys and values.
        where: Start of errors.
        path: Dotted name of the section; empty for the whole.

    Raises:
        RecipeError: On an unknown or missing key, a wrong type or a value out of range.
    """
    place = f"{where} [{path}]" if path else where
    if not isinstance(table, Mapping):
        raise RecipeError(f"{place}: {_shown(table)}, a table is required.")
    known = _fields(kind)
    for key in table:
        if key not in known:
            what = "key" if path else "section"
            raise RecipeError(f"{place}: unknown {what} '{key}'." + _suggestion(str(key), known))
    types = get_type_hints(kind)
    values: Table = {}
    for name, spec in known.items():
        if name in table:
            values[name] = _read(types[name], table[name], spec, name, where=where, path=path)
        elif spec.default is MISSING and spec.default_factory is MISSING:
            what = "key" if path else "section"
            raise RecipeError(f"{place}: {what} '{name}' is missing.")
    return kind(**values)


def _fields(kind: type) -> dict[str, Field[object]]:
    return {spec.name: spec for spec in fields(kind)}


def _read(
    kind: object, value: object, spec: Field[object], name: str, *, where: str, path: str
) -> object:
    """Check one value against its annotation and the limits beside it."""
    dotted = f"{path}.{name}" if path else name
    place = f"{where} [{path}]: {name}"
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    sections = [member for member in members if hasattr(member, "__dataclass_fields__")]
    if sections:
        chosen = sections[0] if len(sections) == 1 else _variant(sections, value, where, dotted)
        return read_section(chosen, value, where=where, path=dotted)
    plains = [member for member in members if member is not NoneType]
    literals = [member for member in plains if get_origin(member) is Literal]
    plain = plains[0]
    if len(plains) > 1:  # a choice of words, or something else
        others = (member for member in plains if member not in literals)
        plain = literals[0] if isinstance(value, str) else next(others)
    if get_origin(plain) is Literal:
        choices = get_args(plain)
        if value not in choices:
            allowed = ", ".join(f"'{choice}'" for choice in choices)
            if len(plains) > 1:
                allowed += ", or a list"
            raise RecipeError(
                f"{place} = {_shown(value)}, allowed: {allowed}."
                + _suggestion(str(value), map(str, choices))
            )
        return value
    if get_origin(plain) is tuple:
        if not isinstance(value, list | tuple):
            raise RecipeError(f"{place} = {_shown(value)}, a list is required.")
        if spec.metadata.get("not_empty") and not value:
            raise RecipeError(f"{place} is empty, at least one entry is required.")
        lengths = spec.metadata.get("lengths")
        if lengths and len(value) not in lengths:
            allowed = " or ".join(map(str, lengths))
            raise RecipeError(f"{place} = {_shown(value)}, {allowed} entries are required.")
        inner = get_args(plain)[0]
        return tuple(
            _read(inner, entry, spec, str(index), where=where, path=dotted)
            for index, entry in enumerate(value)
        )
    return _read_scalar(cast("type", plain), value, spec, place=place)


def _read_scalar(kind: type, value: object, spec: Field[object], *, place: str) -> object:
    words = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise RecipeError(f"{place} = {_shown(value)}, {words[kind]} is required.")
    limits = spec.metadata.get("range")
    if isinstance(value, int | float) and limits and not limits.allows(value):
        raise RecipeError(f"{place} = {_shown(value)}, it must be {limits}.")
    if isinstance(value, float) and value - value != 0.0:
        raise RecipeError(f"{place} = {_shown(value)}, a finite number is required.")
    if spec.metadata.get("not_empty") and value == "":
        raise RecipeError(f"{place} is empty, text is required.")
    return value


def _variant(sections: list[type], value: object, where: str, path: str) -> type:
    """Choose the dataclass whose tag (its first field) has the table's value."""
    tag = fields(sections[0])[0].name
    kinds: dict[str, type] = {}
    default: str | None = None
    for section in sections:
        spec = fields(section)[0]
        for choice in get_args(get_type_hints(section)[spec.name]):
            kinds[choice] = section
        default = str(spec.default) if spec.default is not MISSING else default
    if not isinstance(value, Mapping):
        raise RecipeError(f"{where} [{path}]: {_shown(value)}, a table is required.")
    found = value.get(tag, default)
    if isinstance(found, str) and found in kinds:
        return kinds[found]
    allowed = ", ".join(f"'{kind}'" for kind in kinds)
    if found is None:
        raise RecipeError(f"{where} [{path}]: key '{tag}' is missing, allowed: {allowed}.")
    raise RecipeError(
        f"{where} [{path}]: {tag} = {_shown(found)}, allowed: {allowed}."
        + _suggestion(str(found), kinds)
    )


def _suggestion(word: str, known: Iterable[str]) -> str:
    known = list(known)
    close = get_close_matches(word, known, n=1)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" Known: {', '.join(known)}." if known else ""


def _shown(value: object) -> str:
    return _toml_text(value) if isinstance(value, str | bool | int | float) else repr(value)


# --- overrides ------------------------------------------------------------------------------


def _toml_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _override(table: Table, key: str, value: object, *, where: str) -> None:
    """Set one dotted key in place; tables on the way are made, list entries must exist."""
    parts = key.split(".")
    if len(parts) < 2 or not all(parts):
        raise RecipeError(
            f"{where}: override '{key}': section.key is required, such as training.epochs."
        )
    here: object = table
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        if isinstance(here, dict):
            if is_last:
                here[part] = value
            here = here.setdefault(part, {})
        elif isinstance(here, list) and part.isdecimal() and int(part) < len(here):
            if is_last:
                here[int(part)] = value
            here = here[int(part)]
        else:
            found = ".".join(parts[:index])
            what = f"has {len(here)} entries" if isinstance(here, list) else "is not a table"
            raise RecipeError(f"{where}: override '{key}': '{found}' {what}.")


# --- from dataclasses to TOML ---------------------------------------------------------------


def section_table(section: object) -> Table:
    """Give a dataclass of this module as plain tables; keys that are None are left out."""
    table: Table = {}
    for spec in fields(section):  # type: ignore[arg-type]  # every caller passes a dataclass
        value = _plain(getattr(section, spec.name))
        if value is not None:
            table[spec.name] = value
    return table


def _plain(value: object) -> object:
    if hasattr(value, "__dataclass_fields__"):
        return section_table(value)
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value


def _toml_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, except that TOML also forbids a bare DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(_toml_text(entry) for entry in value) + "]"
    return repr(value)


def _toml_lines(table: Table, path: str = "") -> Iterable[str]:
    """Give the plain keys of a table, then its tables, then its lists of tables."""
    nested = [(key, value) for key, value in table.items() if isinstance(value, dict)]
    lists = [
        (key, value)
        for key, value in table.items()
        if isinstance(value, list) and value and isinstance(value[0], dict)
    ]
    later = {key for key, _ in nested} | {key for key, _ in lists}
    for key, value in table.items():
        if key not in later:
            yield f"{key} = {_toml_text(value)}"
    for key, value in nested:
        name = f"{path}.{key}" if path else key
        yield ""
        yield f"[{name}]"
        yield from _toml_lines(value, name)
    for key, value in lists:
        name = f"{path}.{key}" if path else key
        for entry in value:
            yield ""
            yield f"[[{name}]]"
            yield from _toml_lines(entry, name)
