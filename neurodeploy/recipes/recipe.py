"""A recipe: everything that a run depends on, read from TOML and checked once.

Keys are strict. The keys of a section can depend on one of them (`data.source`, `neuron.model`,
a layer's `type`); a key that would have no effect is refused as unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from neurodeploy.errors import RecipeError
from neurodeploy.files import is_there, recipes_path
from neurodeploy.recipes.data_sections import ClassCount, DataSection, DigitsData, PixelData
from neurodeploy.recipes.layouts import layout_of, require_size, shapes_of
from neurodeploy.recipes.network_sections import NetworkSection
from neurodeploy.recipes.training_sections import (
    NeuronSection,
    PaperSection,
    PruningSection,
    QuantizationSection,
    RunSection,
    ShortcutSection,
    TrainingSection,
    VerificationSection,
)
from neurodeploy.strict_tables import (
    FileName,
    Lengths,
    PositiveFloat,
    PositiveInt,
    Range,
    plain_table,
    read_table,
    suggestion,
    toml_lines,
)
from neurodeploy.untrusted.boundary import FileKind, read_text
from neurodeploy.untrusted.documents import TOML_BYTES, Table, parse_toml, read_toml

RECIPE = FileKind("recipe", ".toml", RecipeError, "Give the path of a recipe in TOML.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that a run depends on; `paper` is the published result to reproduce, if there is one.

    Example:
        >>> recipe = nd.Recipe.load("digits", overrides={"training.epochs": "2"})
        >>> recipe.training.epochs, recipe.network.steps
        (2, 4)
        >>> nd.Recipe.parse(recipe.to_toml()) == recipe
        True
    """

    recipe: RunSection
    data: DataSection
    network: NetworkSection
    neuron: NeuronSection
    shortcut: ShortcutSection = field(default_factory=ShortcutSection)
    training: TrainingSection
    pruning: PruningSection = field(default_factory=PruningSection)
    quantization: QuantizationSection = field(default_factory=QuantizationSection)
    verification: VerificationSection = field(default_factory=VerificationSection)
    paper: PaperSection | None = None

    @classmethod
    def load(cls, path: Path | str, *, overrides: Mapping[str, str] | None = None) -> Recipe:
        """Read a recipe from a TOML file, or one that comes with neurodeploy.

        Args:
            path: The file; `FILE.toml#VARIANT` for one of several that it holds; or the name of a
                recipe of neurodeploy, such as `digits`.
            overrides: Values by dotted key, each written as in TOML; any other text is a
                string. Entries of lists have numbers: `network.layers.0.channels`.

        Raises:
            RecipeError: If the file cannot be read, or anything in it is not allowed.
        """
        file, variant = split_variant(path)
        if file.suffix != ".toml" and not is_there(file):
            return load_named(str(path), overrides=overrides)
        return cls.parse(
            read_text(file, RECIPE, most=TOML_BYTES),
            variant=variant,
            where=str(file),
            overrides=overrides,
        )

    @staticmethod
    def variants(path: Path | str) -> tuple[str, ...]:
        """Return the names of a file's variants, in order; none for a file that is one recipe.

        Raises:
            RecipeError: If the file cannot be read.

        Example:
            >>> _ = Path("mine.toml").write_text(nd.Recipe.load("digits").to_toml())
            >>> nd.Recipe.variants("mine.toml")  # one recipe, no variants
            ()
        """
        return tuple(_variants(read_toml(Path(path), RECIPE), where=str(path)))

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        variant: str | None = None,
        where: str = "recipe",
        overrides: Mapping[str, str] | None = None,
    ) -> Recipe:
        """Read a recipe from TOML text.

        Args:
            text: One recipe, or several as [[variant]] entries: each has a `name`, which is that of
                the recipe, and sections whose keys are added to the common ones or replace them.
            variant: The one to read, if there are several.
            where: Start of errors.
            overrides: As in `load`.

        Raises:
            RecipeError: If anything in it is not allowed.
        """
        table = _variant(parse_toml(text, where=where, kind=RECIPE), variant, where=where)
        where = where if variant is None else f"{where}#{variant}"
        for key, value in (overrides or {}).items():
            _override(table, key, value, where=where)
        return cls.from_dict(table, where=where)

    @classmethod
    def from_dict(cls, table: Mapping[str, object], *, where: str = "recipe") -> Recipe:
        """Check a table of tables, such as `to_dict` gives.

        Raises:
            RecipeError: If anything in it is not allowed.

        Example:
            >>> table = nd.Recipe.load("digits").to_dict()
            >>> table["training"]["learning_rate"] = -1
            >>> nd.Recipe.from_dict(table)  # doctest: +ELLIPSIS
            Traceback (most recent call last):
                ...
            neurodeploy.errors.RecipeError: recipe [training]: learning_rate = -1.0, it must be ...
        """
        recipe = read_table(cls, table, where=where, noun="section")
        _check_network(recipe.network, recipe.data.shape, recipe.data.classes, where=where)
        _check_branches(recipe.shortcut, recipe.network, where=where)
        _check_pruning(recipe.pruning, where=where)
        if isinstance(recipe.data, DigitsData) and recipe.data.input_bits < 4:
            raise RecipeError(
                f"{where} [data]: input_bits = {recipe.data.input_bits}, the digits have pixels "
                "up to 16 = 2**4. Use input_bits = 4."
            )
        return recipe

    def to_dict(self) -> Table:
        """Return the effective recipe, defaults included, as plain tables."""
        return plain_table(self)

    def to_toml(self) -> str:
        """Return the effective recipe, defaults included, as TOML that `parse` reads back."""
        return "\n".join(toml_lines(self.to_dict())) + "\n"


def _check_pruning(pruning: PruningSection, *, where: str) -> None:
    """Check the keys of [pruning] against each other."""
    if pruning.pattern:
        keep, mark, group = pruning.pattern.partition(":")
        is_pattern = bool(mark) and keep.isdecimal() and group.isdecimal()
        if not is_pattern or not 1 <= int(keep) <= int(group):
            raise RecipeError(
                f"{where} [pruning]: pattern '{pruning.pattern}', N:M with 1 ≤ N ≤ M is required, "
                "such as 2:4."
            )
        if pruning.sparsity:
            raise RecipeError(
                f"{where} [pruning]: sparsity and pattern exclude each other. Give one of them."
            )
    if pruning.begin > pruning.end:
        raise RecipeError(
            f"{where} [pruning]: begin = {pruning.begin} lies after end = {pruning.end}."
        )


def split_variant(path: Path | str) -> tuple[Path, str | None]:
    """Split `FILE.toml#VARIANT` into file and variant; None where no variant is named."""
    file, mark, variant = str(path).rpartition("#")
    if not mark or is_there(Path(path)):
        return Path(path), None
    return Path(file), variant


def _override(table: Table, key: str, text: str, *, where: str) -> None:
    """Set one dotted key in place; tables on the way are made, list entries must exist."""
    try:
        value = parse_toml(f"value = {text}", where="", kind=RECIPE)["value"]
    except RecipeError:
        value = text
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


def read_quantization(overrides: Mapping[str, str]) -> QuantizationSection:
    """Return [quantization] with overrides as in `Recipe.load`, for a network without a recipe.

    Raises:
        RecipeError: If a key of that section or its value is not allowed.
    """
    table: Table = {"quantization": {}}
    for key, value in overrides.items():
        _override(table, key, value, where="--set")
    return read_table(QuantizationSection, table["quantization"], where="[quantization]")


def _variant(table: Table, variant: str | None, *, where: str) -> Table:
    """Return the recipe of one variant of a file, or of a file without any."""
    variants = _variants(table, where=where)
    if variant is None:
        if variants:
            names = ", ".join(variants)
            raise RecipeError(
                f"{where}: holds {len(variants)} variants: {names}. Name one, as in "
                f"{where}#{next(iter(variants))}."
            )
        return table
    if variant not in variants:
        known = f" There are: {', '.join(variants)}." if variants else " The file has no variants."
        raise RecipeError(
            f"{where}: no variant '{variant}'.{suggestion(variant, variants) or known}"
        )
    common = {key: value for key, value in table.items() if key != "variant"}
    own = {key: value for key, value in variants[variant].items() if key != "name"}
    named = _merged({"recipe": {"name": variant}}, own)
    return _merged(common, named)


def _variants(table: Table, *, where: str) -> dict[str, Table]:
    entries = table.get("variant", [])
    if not isinstance(entries, list):
        raise RecipeError(f"{where} [variant]: a list is required: write [[variant]].")
    variants: dict[str, Table] = {}
    for number, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name or "#" in name:
            raise RecipeError(
                f"{where} [[variant]] {number}: a name without '#' is required, as in "
                'name = "resnet18_t2".'
            )
        if problem := FileName().problem(name):
            raise RecipeError(f"{where} [[variant]] {number}: name{problem}.")
        if name in variants:
            raise RecipeError(f"{where}: a second variant '{name}'. Names must differ.")
        variants[name] = entry
    return variants


def _merged(common: Mapping[str, object], own: Mapping[str, object]) -> Table:
    """Return `common` with the keys of `own` added or in place; tables are merged key by key."""
    merged = {**common, **own}
    for key in common.keys() & own.keys():
        before, value = common[key], own[key]
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[key] = _merged(before, value)
    return merged


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The part of a recipe that a network is built from, and its input and output.

    Attributes:
        shape: (C, H, W) or (N,) of one step of one sample.
        input_bits: The network sees x / 2**input_bits for an integer x, |x| <= 2**input_bits.
        input_mean: Of each channel: the network sees (x - input_mean) / input_deviation instead;
            both are empty for none.
        branches: Names of the blocks that have a shortcut branch.
    """

    shape: Annotated[tuple[PositiveInt, ...], Lengths((1, 3))]
    classes: ClassCount
    input_bits: Annotated[int, Range(minimum=0, maximum=16)]
    network: NetworkSection
    neuron: NeuronSection
    branches: tuple[str, ...] = ()
    input_mean: tuple[float, ...] = ()
    input_deviation: tuple[PositiveFloat, ...] = ()

    @classmethod
    def of(cls, recipe: Recipe) -> Architecture:
        """Return the architecture that a recipe trains."""
        data = recipe.data
        mean: tuple[float, ...] = ()
        deviation: tuple[float, ...] = ()
        if isinstance(data, PixelData) and data.normalization == "mean_std":
            unit = 255 / 2 ** (8 - data.input_bits)
            mean = tuple(share * unit for share in data.mean)
            deviation = tuple(share * unit for share in data.deviation)
        return cls(
            shape=data.shape,
            classes=data.classes,
            input_bits=data.input_bits,
            input_mean=mean,
            input_deviation=deviation,
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
        architecture = read_table(cls, table, where=where, noun="section")
        given = {len(architecture.input_mean), len(architecture.input_deviation)}
        if given not in ({0}, {architecture.shape[0]}):
            raise RecipeError(
                f"{where}: input_mean and input_deviation have {sorted(given)} entries, "
                f"{architecture.shape[0]} of each are required, one a channel, or none."
            )
        _check_network(architecture.network, architecture.shape, architecture.classes, where=where)
        shortcut = ShortcutSection(after=architecture.branches)
        _check_branches(shortcut, architecture.network, where=where)
        return architecture

    def to_dict(self) -> Table:
        """Return plain tables, defaults included."""
        return plain_table(self)


def _check_network(
    network: NetworkSection, shape: tuple[int, ...], classes: int, *, where: str
) -> None:
    layout = layout_of(network)
    shapes = shapes_of(layout, shape, where=where)
    require_size(layout, shape, shapes, classes=classes, steps=network.steps, where=where)


def _check_branches(shortcut: ShortcutSection, network: NetworkSection, *, where: str) -> None:
    """Check that every branch starts at a block, and that a method with branches has some."""
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
                + suggestion(name, names)
            )
    if len(set(after)) < len(after):
        raise RecipeError(f"{where} [shortcut]: after names a block twice. Name each once.")
    if shortcut.method != "vanilla" and not after:
        raise RecipeError(
            f"{where} [shortcut]: method = '{shortcut.method}' without branches. "
            "Name the blocks that get one in after, or use method = 'vanilla'."
        )


# The recipes that come with neurodeploy, by name.


def recipe_sources() -> dict[str, str]:
    """Return the source of each recipe by name: `FILE.toml`, or `FILE.toml#VARIANT`.

    A file that is one recipe has the file's name; variants have names of their own.
    """
    sources: dict[str, str] = {}
    for path in sorted(recipes_path().glob("*.toml")):
        variants = Recipe.variants(path)
        found = {name: f"{path}#{name}" for name in variants} or {path.stem: str(path)}
        for name, source in found.items():
            if name in sources:
                raise RecipeError(f"{source}: {sources[name]} has the same name. Rename one.")
            sources[name] = source
    return sources


def load_named(name: str, *, overrides: Mapping[str, str] | None = None) -> Recipe:
    """Load a recipe by its name in `recipe_sources`, with overrides as in `Recipe.load`.

    Raises:
        RecipeError: If there is none, or anything in it is not allowed.
    """
    sources = recipe_sources()
    if name not in sources:
        close = get_close_matches(name, sources, n=3)
        meant = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise RecipeError(
            f"{name}: no such recipe.{meant} `neurodeploy recipes` lists all {len(sources)}; the "
            "path of a TOML file is allowed too."
        )
    return Recipe.load(sources[name], overrides=overrides)
