"""Pages of the site that are files of the repository: how networks were trained, results, rules."""

from __future__ import annotations

import os
import re
from pathlib import Path

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
    "tests/benchmarks/results/advice.md": "project/results/advice.md",
    "hardware/README.md": "project/hardware.md",
    "hardware/lava_runtime/README.md": "project/lava_runtime.md",
    "examples/README.md": "project/examples.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "CHANGELOG.md": "project/changelog.md",
}
"""Files that are pages, and the pages that they become."""
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
        path = folder / page
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != made:
            path.write_text(made, encoding="utf-8")


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
