"""A first recipe for samples of one's own: what a file holds, and settings that fit it."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy.data.dataset import require_integers
from neurodeploy.data.loading import load_data, read_labelled
from neurodeploy.errors import DataError
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.recipes.recipe_keys import list_recipe_keys
from neurodeploy.samples.array_files import listed, load_array, member_names
from neurodeploy.strict_tables import toml_text

STILL_STEPS = 4
"""Steps that an image is shown for."""
_BITS_MAX = 16
_CHANNELS_OF_COLOUR = range(1, 5)
_EPOCHS = (10, 40)
_SAMPLES_SEEN = 60_000
"""Samples that a training goes through, epochs together, within the limits above."""

_FOLDER = """\
{folder}: a folder, an archive is required. Of recordings of an event camera, in a folder for each \
class, these lines of Python make one; `steps` and `port`, the camera's polarities, rows and \
columns, are yours to set:
    import numpy as np
    import neurodeploy as nd
    found = nd.open_samples({text}, steps=8, port=(2, 34, 34))
    names = [file.parent.name for file in found.files]
    np.savez("recordings.npz", input=found.read(0, found.count), label=np.unique(names, \
return_inverse=True)[1])"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeDraft:
    """A first recipe for a file of samples.

    Attributes:
        text: The recipe as commented TOML.
        found: The content of the file, in words.
        chosen: The suggested network, in words.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (60, 1, 12, 12))
        >>> np.savez("mine.npz", input=images, label=np.arange(60) % 3)
        >>> draft = nd.draft_recipe("mine.npz", name="mine")
        >>> draft.chosen
        'conv 16, conv 32, linear read-out; 4 steps, 40 epochs'
        >>> nd.Recipe.parse(draft.text).recipe.name
        'mine'
    """

    text: str
    found: str
    chosen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Findings:
    """The content of a file: `steps` is None for images that stay the same."""

    path: str
    samples: int
    steps: int | None
    shape: tuple[int, ...]
    values: tuple[int, int]
    counts: npt.NDArray[np.int64]

    @property
    def input_bits(self) -> int:
        """Fewest bits that hold the largest value; 0 for spikes, with or without a sign."""
        return (max(1, *map(abs, self.values)) - 1).bit_length()

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        kind = f"{self.steps} steps of {shape}" if self.steps else f"still inputs of {shape}"
        low, high = self.counts.min(), self.counts.max()
        counts = f"{low}" if low == high else f"{low} to {high}"
        return (
            f"{self.samples} samples, {kind}, values from {self.values[0]} to {self.values[1]}; "
            f"{len(self.counts)} classes of {counts} samples"
        )


def draft_recipe(
    path: Path | str, *, name: str | None = None, is_event: bool = False
) -> RecipeDraft:
    """Write a first recipe for samples of one's own, with settings that fit them.

    The recipe has been checked with the samples: it trains and deploys as it is.

    Args:
        path: A `.npz` archive with the integer arrays `input` and `label`: images
            (samples, C, H, W), vectors (samples, N), or spikes over time (samples, T, C, H, W)
            or, with `is_event`, (samples, T, N).
        name: Of the recipe; by default that of the file.
        is_event: The second axis of three is time.

    Raises:
        DataError: If the file is missing or damaged, or its arrays cannot be trained on as they
            are; the error names every misfit, and shows the lines of Python that mend all of them.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (60, 1, 12, 12))
        >>> np.savez("mine.npz", input=images, label=np.arange(60) % 3)
        >>> nd.draft_recipe("mine.npz").found
        '60 samples, still inputs of 1x12x12, values from 0 to 255; 3 classes of 20 samples'
    """
    found = _inspect(str(path), is_event=is_event)
    layers = _suggest_layers(found.shape)
    name = Path(path).stem if name is None else name
    text = "\n".join(_lines(found, layers, name)) + "\n"
    recipe = Recipe.parse(text, where=f"recipe for {path}")
    load_data(recipe)  # every class must reach every part
    words = [f"{layer['type']} {layer.get('channels') or layer['neurons']}" for layer in layers]
    return RecipeDraft(
        text=text,
        found=str(found),
        chosen=f"{', '.join(words)}, linear read-out; {recipe.network.steps} steps, "
        f"{recipe.training.epochs} epochs",
    )


class _Mending:
    """Misfits of a file, and the line of Python that writes one without them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._misfits: list[str] = []
        self._expressions = {"input": 'old["input"]', "label": 'old["label"]'}

    def read(self) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]:
        """Read samples and classes, under the names that they have where these are unmistakable."""
        if self._path.is_dir():
            raise DataError(_FOLDER.format(folder=self._path, text=json.dumps(str(self._path))))
        held = member_names(self._path) if self._path.exists() else []
        arrays = {}
        if held and not {"input", "label"} <= set(held):
            arrays = {name: load_array(self._path, key=name) for name in held}
        pairs = [
            (samples, classes)
            for samples, values in arrays.items()
            for classes, numbers in arrays.items()
            if values.ndim > 1 and numbers.ndim == 1 and len(values) == len(numbers)
        ]
        if len(pairs) != 1:
            return read_labelled(self._path)
        (pair,) = pairs
        self._misfits.append(f"the arrays {listed(list(pair))} must be called 'input' and 'label'")
        self._expressions = {
            key: f"old[{json.dumps(name)}]"
            for key, name in zip(self._expressions, pair, strict=True)
        }
        return arrays[pair[0]], arrays[pair[1]]

    def note(self, misfit: str, key: str, expression: str) -> None:
        """Note a misfit of `key`; `expression` mends it, with `{}` for the array so far."""
        self._misfits.append(misfit)
        self._expressions[key] = expression.format(self._expressions[key])

    def refuse_misfits(self) -> None:
        """Raise an error that names all misfits and the lines that mend them, if there are some."""
        if self._misfits:
            mended = self._path.with_name(f"{self._path.stem}_integers.npz")
            raise DataError(
                f"{self._path}: cannot be trained on as it is: {'; '.join(self._misfits)}. These "
                "lines of Python write a file that can:\n"
                f"    import numpy as np\n"
                f"    old = np.load({json.dumps(str(self._path))})\n"
                f"    np.savez({json.dumps(str(mended))}, input={self._expressions['input']}, "
                f"label={self._expressions['label']})"
            )


def _inspect(path: str, *, is_event: bool) -> _Findings:
    mending = _Mending(Path(path).expanduser())
    inputs, labels = mending.read()
    inputs = _mend_values(inputs, mending, path)
    inputs = _mend_shape(inputs, mending, path, is_event=is_event)
    counts = _count_classes(labels, inputs.shape[0], mending, path)
    mending.refuse_misfits()
    has_time = inputs.ndim == 5 or is_event
    return _Findings(
        path=path,
        samples=inputs.shape[0],
        steps=inputs.shape[1] if has_time else None,
        shape=inputs.shape[2:] if has_time else inputs.shape[1:],
        values=(int(inputs.min()), int(inputs.max())),
        counts=counts,
    )


def _mend_values(
    inputs: npt.NDArray[np.generic], mending: _Mending, path: str
) -> npt.NDArray[np.generic]:
    """Return the values as whole numbers of at most 16 bits."""
    if inputs.dtype.kind != "f" or not inputs.size or not np.isfinite(inputs).all():
        require_integers(inputs, where=f"{path}: input")
    if inputs.dtype.kind == "f" and (inputs == inputs.round()).all():
        mending.note(f"input is {inputs.dtype} of whole numbers", "input", "{}.astype(np.int32)")
        inputs = inputs.astype(np.int64)
    elif inputs.dtype.kind == "f":
        low, high = float(inputs.min()), float(inputs.max())
        is_share = low >= 0 and high <= 1
        mending.note(
            f"input is {inputs.dtype} from {low:.4g} to {high:.4g}, and a chip reads integers",
            "input",
            "np.round({0} * 255).astype(np.uint8)"
            if is_share
            else "np.round({0} * (127 / np.abs({0}).max())).astype(np.int16)",
        )
        numbers = inputs.astype(np.float64)
        return np.round(numbers * (255 if is_share else 127 / np.abs(numbers).max())).astype(int)
    numbers = inputs.astype(np.float64)
    largest = int(np.abs(numbers).max(initial=0))
    if largest > 2**_BITS_MAX:
        mending.note(
            f"input has values of up to {largest}, at most {2**_BITS_MAX} is allowed",
            "input",
            f"np.round({{}} * (255 / {largest})).astype(np.int16)",
        )
        inputs = np.round(numbers * (255 / largest)).astype(int)
    return inputs


def _mend_shape(
    inputs: npt.NDArray[np.generic], mending: _Mending, path: str, *, is_event: bool
) -> npt.NDArray[np.generic]:
    """Return images with their channels before height and width."""
    shape = inputs.shape
    if len(shape) == 3 and not is_event:
        mending.note(
            f"input has shape {shape}, without an axis of channels (if these are {shape[1]} steps "
            f"of {shape[2]} values, say --encoding events instead, in Python is_event=True)",
            "input",
            "{}[:, None]",
        )
        inputs = inputs[:, None]
    has_time = len(shape) == 5 or (len(shape) == 3 and is_event)
    if len(shape) not in (2, 3, 4, 5) or 0 in shape or (is_event and not has_time):
        raise DataError(
            f"{path}: input has shape {shape}. Allowed are images (samples, C, H, W), vectors "
            "(samples, N), and spikes over time (samples, T, C, H, W) or (samples, T, N), none of "
            "them empty."
        )
    *_, rows, columns, last = (0, 0, *shape)
    is_square = rows == columns and rows not in _CHANNELS_OF_COLOUR
    if len(shape) >= 4 and is_square and last in _CHANNELS_OF_COLOUR:
        axes = list(range(len(shape)))
        order = (*axes[:-3], axes[-1], axes[-3], axes[-2])
        mending.note(
            f"input has shape {shape}: its channels seem to come last, and come before height and "
            "width here",
            "input",
            f"{{}}.transpose{order}",
        )
        inputs = inputs.transpose(order)
    return inputs


def _count_classes(
    labels: npt.NDArray[np.generic], samples: int, mending: _Mending, path: str
) -> npt.NDArray[np.int64]:
    """Return the number of samples of each class."""
    if labels.ndim == 2 and len(labels) == samples and labels.dtype.kind in "biuf":
        mending.note(
            f"label has shape {labels.shape}, one number a sample is required",
            "label",
            "{}.argmax(1)",
        )
        labels = labels.argmax(1)
    if labels.shape != (samples,):
        raise DataError(
            f"{path}: label has shape {labels.shape}, ({samples},) is required: the number of a "
            "class for each sample."
        )
    if labels.dtype.kind == "f":
        require_integers(labels, where=f"{path}: label")
    classes, numbers = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise DataError(
            f"{path}: label holds the class {classes[0]} only. Two classes or more can be told "
            "apart."
        )
    if labels.dtype.kind not in "biu" or not np.array_equal(classes, np.arange(len(classes))):
        mending.note(
            f"label holds {len(classes)} classes from {classes[0]} to {classes[-1]}, and they must "
            "be numbered from 0 without gaps",
            "label",
            "np.unique({}, return_inverse=True)[1]",
        )
    return np.bincount(numbers)


def _suggest_layers(shape: tuple[int, ...]) -> list[dict[str, object]]:
    """Return convolutions that halve an image down to about 7 pixels, or two dense layers."""
    extent = min(shape[1:], default=0)
    if extent < 4:
        return [{"type": "dense", "neurons": 128}, {"type": "dense", "neurons": 64}]
    layers: list[dict[str, object]] = []
    channels = 16
    if extent <= 16:
        layers.append({"type": "conv", "channels": channels})
        channels *= 2
    while extent > 7 or len(layers) < 2:
        layers.append({"type": "conv", "channels": channels, "stride": 2})
        channels = min(64, 2 * channels)
        extent = -(-extent // 2)
    return layers


def _lines(found: _Findings, layers: list[dict[str, object]], name: str) -> Iterator[str]:
    """Yield the lines of the recipe."""
    low, high = _EPOCHS
    epochs = min(high, max(low, _SAMPLES_SEEN // found.samples))
    steps = found.steps or STILL_STEPS
    why_steps = (
        "As many as a sample of the file has."
        if found.steps
        else "A still input is shown in each of them."
    )
    yield from _comment(f"A first recipe for {found.path}: {found}.")
    yield from _comment(
        "`neurodeploy run` with this file trains, deploys, verifies and reports. Keys that are not "
        "here have their defaults; `neurodeploy recipes --keys` lists all of them."
    )
    sections: dict[str, dict[str, tuple[object, str]]] = {
        "recipe": {"name": (name, ""), "seed": (0, "")},
        "data.npz": {
            "source": ("npz", ""),
            "path": (found.path, ""),
            "shape": (list(found.shape), ""),
            "classes": (len(found.counts), ""),
            "encoding": ("events" if found.steps else "direct", ""),
            "input_bits": (found.input_bits, f"Values reach {max(map(abs, found.values))}."),
            "test_fraction": (0.2, ""),
            "validation_fraction": (0.15, ""),
        },
        "network.sequential": {
            "steps": (steps, why_steps),
            "layers": (layers, "A linear read-out with one neuron a class is added."),
        },
        "neuron.lif": {"model": ("lif", ""), "tau": (0.5, ""), "threshold": (0.5, "")},
        "training": {
            "epochs": (epochs, "Fewer for many samples, more for few."),
            "batch_size": (32, ""),
            "optimizer": ("sgd", ""),
            "learning_rate": (0.1, ""),
        },
        "quantization": {
            "target": ("loihi2", ""),
            "weight_bits": (8, ""),
            "fine_tune_epochs": (0, "A few help where the integers lose accuracy."),
        },
        "verification": {"backend": ("lava", ""), "lava_samples": (64, "")},
    }
    for address, keys in sections.items():
        table = list_recipe_keys(address)[0]
        meanings = {key.name: key.meaning for key in table.keys}
        yield from ("", f"[{table.section}]")
        for key, (value, why) in keys.items():
            yield from _comment(f"{meanings[key]} {why}".strip())
            yield f"{key} = {_value(value)}"


def _comment(text: str) -> list[str]:
    plain = re.sub(r"[\x00-\x1f\x7f]", "?", text)  # TOML allows none in comments
    return [f"# {line}" for line in textwrap.wrap(plain, 98, break_on_hyphens=False)]


def _value(value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        rows = (", ".join(f"{k} = {toml_text(v)}" for k, v in one.items()) for one in value)
        return "[\n" + "".join(f"    {{ {row} }},\n" for row in rows) + "]"
    return toml_text(value)
