"""Settings of the documentation site; `make docs` builds it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import figures
import pages_from_code
import pages_from_files

from neurodeploy._version import __version__
from neurodeploy.reports.plots.drawing import DARK, LIGHT

# Tutorials call the commands of this environment, and import `plain_shell`.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["PYTHONPATH"] = f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
os.environ["COLUMNS"] = "100"

project = "neurodeploy"
author = "The neurodeploy developers"
copyright = author
version = release = __version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]

smartquotes = False  # texts of recipes and commands have straight ones


def _look(colors: dict[str, str], *, raised: str, quiet: str) -> dict[str, str]:
    """Return the variables of the theme for the colours of report pages."""
    paper, ink, faint, accent = (
        colors[name] for name in ("--paper", "--ink", "--faint", "--series-1")
    )
    names = {
        paper: "background-primary sidebar-background",
        raised: "background-secondary background-hover code-background",
        faint: "background-border sidebar-background-border table-border",
        ink: "foreground-primary content-foreground",
        quiet: "foreground-secondary foreground-muted sidebar-link-text",
        accent: "brand-primary brand-content brand-visited link",
    }
    theme = {f"color-{name}": value for value, group in names.items() for name in group.split()}
    return theme | {name.removeprefix("--"): value for name, value in colors.items()}


html_theme = "furo"
html_theme_options = {
    "light_css_variables": _look(LIGHT, raised="#f5f6f8", quiet="#566074"),
    "dark_css_variables": _look(DARK, raised="#1b202b", quiet="#a2abbd"),
}
pygments_dark_style = "a11y-dark"
html_title = f"neurodeploy {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["llms.txt"]
html_copy_source = False
html_show_sourcelink = False

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = ["myst.header"]  # a section of a file may be a page of its own

nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_number_source_lines = False

python_maximum_signature_line_length = 88
default_role = "code"  # docstrings set code in single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_use_ivar = True
napoleon_custom_sections = [("Yields", "returns_style")]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def _escape(
    app: object, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Escape what is markup in reStructuredText only: docstrings are plain text with `code`."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # napoleon takes words before a colon in the first line for a type
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(`[^`]*`)", line)
            parts[::2] = [re.sub(r"([*|]|\b_|_\b)", r"\\\1", part) for part in parts[::2]]
            lines[number] = "".join(parts)


def setup(app: object) -> None:
    """Write the pages that are made from code and other files, and the drawings."""
    pages_from_code.write(HERE)
    pages_from_files.write(HERE)
    figures.write(HERE)
    app.connect("autodoc-process-docstring", _escape, priority=100)  # before napoleon
