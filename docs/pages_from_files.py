"""Pages of the site that are files of the repository: how networks were trained, results, rules.

One more is made from the cards of the zoo.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from page_texts import replace_page, table

import neurodeploy as nd
from neurodeploy.reports.numbers import format_bounds, format_count

ROOT = Path(__file__).parents[1]
FILES = {
    "training/README.md": "project/training.md",
    "training/results/ablation.md": "project/results/ablation.md",
    "training/results/ann_door.md": "project/results/ann_door.md",
    "training/results/deployed_seeds.md": "project/results/deployed_seeds.md",
    "training/results/deployment.md": "project/results/deployment.md",
    "training/results/digits_best.md": "project/results/digits_best.md",
    "training/results/gradient_flow.md": "project/results/gradient_flow.md",
    "training/results/moving_digits.md": "project/results/moving_digits.md",
    "training/results/moving_digits_compare.md": "project/results/moving_digits_compare.md",
    "training/results/sequences.md": "project/results/sequences.md",
    "tests/benchmarks/results/advice.md": "project/results/advice.md",
    "hardware/README.md": "project/hardware.md",
    "hardware/lava_runtime/README.md": "project/lava_runtime.md",
    "examples/README.md": "project/examples.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "CHANGELOG.md": "project/changelog.md",
}
"""Files that are pages, and the pages that they become."""
ZOO = "reference/zoo.md"
"""Page of the networks that come with neurodeploy."""
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def write(folder: Path) -> None:
    """Write all of these pages below `folder`, the site's."""
    for source, page in FILES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        parts = _LINK.split(text)
        parts[1::2] = [f"]({_target(link, source, page)})" for link in parts[1::2]]
        made = "".join(parts)
        if not made.startswith("# "):
            made = f"# {Path(source).stem.replace('_', ' ').capitalize()}\n\n{made}"
        replace_page(folder / page, [made.removesuffix("\n")])
    replace_page(folder / ZOO, _zoo())


def _target(link: str, source: str, page: str) -> str:
    """Return the address of a link on the page: pages of the site by their new place."""
    path, mark, anchor = link.partition("#")
    if re.match(r"\w+:", link) or not path:
        return link
    target = os.path.relpath((ROOT / source).parent / path, ROOT)
    if target in FILES:
        made = os.path.relpath(FILES[target], Path(page).parent)
    elif target.startswith("docs/"):
        made = os.path.relpath(target.removeprefix("docs/"), Path(page).parent)
    elif target == "README.md":
        made = os.path.relpath("index.md", Path(page).parent)
    else:
        made = os.path.relpath(f"../{target}", Path(page).parent)  # offered as a download
    return f"{made}{mark}{anchor}"


# --- the zoo ---------------------------------------------------------------------------------

_ABOUT_ZOO = """\
Small networks that come with every installation, each with test samples, the certificate of its
comparison with real Lava, and a card. `neurodeploy zoo list` and `nd.list_examples()` tell of them;
`neurodeploy zoo get NAME` copies one to a folder, and `nd.load_example(NAME)` reads one. None of
this needs torch.

```python
import neurodeploy as nd

example = nd.load_example("digits_residual")
recording = example.run()  # in the timing that the network needs
print((recording.prediction == example.labels).mean())
```

Accuracy is that of the deployed integers on the test part. Synaptic operations (SOPs) and energies
are of one sample, means over the samples beside the file; energies are estimates from low to high,
beside those of the ReLU twin. `python training/scripts/zoo.py` trains, deploys and verifies all of
them again. Tests run every file on our simulator and compare it with its certificate, and the first
samples of all files on real Lava.
"""


def _zoo() -> Iterator[str]:
    """Yield the lines of the page of the networks that come with neurodeploy."""
    cards = nd.list_examples()
    yield from ("# The zoo: verified networks", "", _ABOUT_ZOO)
    rows = (
        (
            f"[{card.name}](#{card.name.replace('_', '-')})",
            card.task,
            f"{100 * card.accuracy['deployed']:.2f} %",
            f"{card.sops_per_sample:,.0f}",
            f"{card.bytes / 1000:.0f} kB",
            card.shows,
        )
        for card in cards
    )
    yield from table(("name", "task", "accuracy", "SOPs", "size", "what it shows"), rows)
    for card in cards:
        yield from _card(card)


def _card(card: nd.ExampleCard) -> Iterator[str]:
    example = nd.load_example(card.name)
    known = example.certificate
    values = sum(array.values for array in known.recording.arrays)
    stages = ", ".join(f"{stage} {100 * share:.2f} %" for stage, share in card.accuracy.items())
    shape = "x".join(map(str, known.input.shape[2:]))
    rows = {
        "Task": f"{card.task}; input {shape}, {known.run.steps} steps",
        "Shows": card.shows,
        "Accuracy": f"{stages}, on the {card.test_samples:,} samples of the test part",
        "Samples": f"{card.correct} of the {len(example.labels)} beside the file are right",
        "Layers": ", ".join(f"{one.name} ({one.neurons:,})" for one in example.graph),
        "Real Lava": f"{known.result.differing} of {format_count(values)} spikes and states differ",
        "SOPs": f"{card.sops_per_sample:,.0f} a sample",
        **{
            f"Energy, {one.preset}": format_bounds(one.low, one.high)
            + (
                ""
                if one.twin_low is None or one.twin_high is None
                else f"; ReLU twin {format_bounds(one.twin_low, one.twin_high)}"
            )
            for one in card.energies
        },
        "Origin": f"{card.origin}, seed {card.seed}",
        "Made by": f"`{card.command}`",
        "Data": card.data,
        "Licence": f"{card.licence} for the network, that of the data for the samples",
        "Made with": ", ".join(f"{name} {number}" for name, number in card.versions.items()),
    }
    yield from (f"## {card.name}", "")
    yield from table(("", ""), rows.items())
