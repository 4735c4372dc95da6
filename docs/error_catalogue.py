"""The page of errors: exit codes, classes, errors as they are raised, and every message."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import os
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from page_texts import table

import neurodeploy as nd
from neurodeploy import errors
from neurodeploy.cli.app import TERMINATED
from neurodeploy.cli.endings import INTERRUPTED
from neurodeploy.cli.options import INCOMPLETE

PACKAGE = Path(nd.__file__).parent
EXIT_CODES: Mapping[int, str] = {
    0: "Success.",
    1: "An error, in one line on standard error; a difference (`verify`, `convert`), a limit that "
    "is exceeded (`fit`), or a check that failed (`doctor`, `lava doctor`).",
    2: "Wrong usage: an unknown option, or a value that it does not take.",
    INCOMPLETE: "An incomplete count of MACs (`macs`, `report --ann`); `--allow-incomplete` "
    "accepts it.",
    INTERRUPTED: "Interrupted, by Ctrl-C; files that were being written are as they were.",
    TERMINATED: "Terminated, by SIGTERM; likewise.",
}
SETUP = """\
from pathlib import Path

import numpy as np
import torch
from torch import nn

import neurodeploy as nd

example = nd.load_example()
plain = {"shortcut.method": "vanilla", "shortcut.after": "[]"}
network = nd.SpikingNetwork.from_recipe(nd.Recipe.load("digits", overrides=plain))
Path("notes.txt").write_text("not what it seems")
"""
SAMPLES: Mapping[str, str] = {
    "A misspelt key of a recipe": 'nd.Recipe.load("digits", overrides={"training.epoch": "3"})',
    "A value out of range": 'nd.Recipe.load("digits", overrides={"training.epochs": "-1"})',
    "A recipe that is not there": 'nd.Recipe.load("digitz")',
    "Arrays that are no samples": 'np.savez("mine.npz", input=np.random.rand(9, 8, 8))\n'
    'nd.draft_recipe("mine.npz")',
    "Samples of another shape": "nd.EventSimulator(example.graph).run(example.inputs[:, :, :, :4])",
    "Samples that are not there": 'nd.open_samples("nosuch.npz")',
    "A layer that is not there": "nd.EventSimulator(example.graph).run(example.inputs)"
    '.spikes_of("conv9")',
    "A feed that the file does not have": "nd.EventSimulator(example.graph).run(example.inputs, "
    'feed="neuron")',
    "A file that is no network": 'nd.netx.read("notes.txt")',
    "A network with skips, written": "skips = nd.SpikingNetwork.from_recipe("
    'nd.Recipe.load("digits_residual"))\n'
    "graph = nd.pipeline.lower(nd.remove_branches(skips))\n"
    'nd.netx.write(nd.quantize(graph, nd.Target.load("loihi2"), steps=4), "skips.net")',
    "A chip that is not known": 'nd.Target.load("loihi3")',
    "A chip's limits": "nd.check_limits(example.graph, "
    'nd.Target.load("loihi2").with_weight_bits(4))',
    "Passes in the wrong order": "nd.quantize(nd.trace(network), "
    'nd.Target.load("loihi2"), steps=4)',
    "Branches that are still there": "nd.trace(nd.SpikingNetwork.from_recipe("
    'nd.Recipe.load("digits")))',
    "A file that is no checkpoint": 'nd.SpikingNetwork.load("notes.txt")',
    "A NIR file that is none": 'nd.import_nir("notes.txt")',
    "A layer that is not known": "nd.import_torch(nn.Sequential(nn.Linear(4, 3), nn.GELU()), "
    "np.ones((1, 2, 4)))",
    "An activation that is no ReLU": "model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), "
    "nn.Linear(8, 2))\n"
    "nd.convert(model.eval(), np.ones((1, 20, 4)))",
    "A model that is no ONNX": 'nd.count_onnx_macs("notes.txt")',
    "Lava that is not there": 'nd.LavaSimulator(example.net, python="nosuch/python")'
    ".run(example.inputs)",
    "A folder that is a file": "nd.write_markdown("
    'nd.RunSummary(title="digits"), "notes.txt/report.md")',
    "Training without samples": 'recipe = nd.Recipe.load("digits")\n'
    "train, validation, _ = nd.load_data(recipe)\n"
    "nd.Trainer(recipe.training).fit(network, train.subset(np.arange(0)), validation)",
}
"""Mistakes in Python; the message of a command is the same."""


_OTHERS = {
    "error": "of the file's kind",
    "_error": "of the file's kind",
    "refuse": "TraceError",
    "UnfitError": "DataError",
    "_RefusedError": "part of the error that lists refusals",
    "BadParameter": "wrong usage",
}
"""Makers of errors, and the class of what they make."""


class Message(NamedTuple):
    """A message of the code: its area, its class, and its text, with … for what is filled in."""

    area: str
    kind: str
    text: str


def kinds() -> dict[str, type[BaseException]]:
    """Return the classes that users meet, by name."""
    return {
        name: one
        for name, one in vars(errors).items()
        if inspect.isclass(one) and issubclass(one, (nd.NeurodeployError, nd.NeurodeployWarning))
    }


@cache
def raised() -> Mapping[str, Exception]:
    """Run the samples and return what each raises.

    Raises:
        AssertionError: If one raises nothing, or no error of neurodeploy's.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        begun: dict[str, object] = {}
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(SETUP, "setup", "exec"), begun)
        for title, code in SAMPLES.items():
            try:
                exec(compile(code, title, "exec"), dict(begun))
            except nd.NeurodeployError as error:
                found[title] = error
            assert title in found, f"{title}: nothing is raised"
    return found


def messages() -> Iterator[Message]:
    """Yield every message that the code makes an error of, module by module."""
    names = {**{name: name for name in kinds()}, **_OTHERS}
    for path in sorted(PACKAGE.rglob("*.py")):
        area = path.relative_to(PACKAGE).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                kind = names.get(ast.unparse(node.func).rpartition(".")[2])
                texts = [" ".join(_text(one).split()) for one in node.args] if kind else []
                text = next((one for one in texts if one.strip(" …")), "")
                if kind and text:
                    yield Message(area, kind, text)


def _text(node: ast.expr) -> str:
    """Return the text of a message, with … for every value."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) for part in parts)
        case ast.BinOp(left=left, right=right, op=ast.Add()):
            return _text(left) + _text(right)
    return "…"


def write() -> Iterator[str]:
    """Yield the lines of the page."""
    yield from ("# Errors", "", _ABOUT, "", "## Exit codes", "")
    yield from table(("code", "meaning"), ((str(c), meaning) for c, meaning in EXIT_CODES.items()))
    yield from ("## Classes", "")
    classes = (
        (
            f"`{name}`",
            f"`{next(base for base in one.__mro__ if base.__module__ == 'builtins').__name__}`",
            (one.__doc__ or "").splitlines()[0],
        )
        for name, one in kinds().items()
    )
    yield from table(("class", "also a", "meaning"), classes)
    yield from ("## Errors as they are raised", "", _ABOUT_SAMPLES, "")
    yield from ("```python", SETUP.rstrip(), "```", "")
    for title, error in raised().items():
        shown = str(error).replace(f"{PACKAGE.parent}{os.sep}", "")
        yield from (f"### {title}", "", "```python", SAMPLES[title], "```", "")
        yield from (f"`{type(error).__name__}`", "", "```text", shown, "```", "")
    yield from ("## Every message", "", _ABOUT_MESSAGES, "")
    yield from _every_message()


def _every_message() -> Iterator[str]:
    by_area: dict[str, dict[str, set[str]]] = {}
    for one in messages():
        by_area.setdefault(one.area, {}).setdefault(one.kind, set()).add(one.text)
    for area, by_kind in by_area.items():
        number = sum(map(len, by_kind.values()))
        yield from (f":::{{dropdown}} {area.removesuffix('.py')}: {number}", "")
        for kind, texts in sorted(by_kind.items()):
            name = f"`{kind}`" if kind in kinds() else kind.capitalize()
            yield from (name, "", "```text", *sorted(texts), "```", "")
        yield from (":::", "")


_ABOUT = """\
Every error that neurodeploy raises on purpose is a `NeurodeployError`, and also the built-in that a
caller would expect. Messages read: *where: found, allowed. Remedy.* A command prints the message in
one line. Anything else, with a traceback, is a fault of ours: please report it."""
_ABOUT_SAMPLES = """\
These are raised when this page is built. They begin with"""
_ABOUT_MESSAGES = """\
All messages of the code by the folder of `neurodeploy` that they come from, with … for what is
filled in. Search this page for the words that do not change."""
