"""The site: ``make docs`` builds it into docs/_build/html, warnings being errors."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path[:0] = [str(Path(__file__).parent / "_ext"), str(Path(__file__).parents[1])]

import qtrl_hpc  # noqa: E402

project = "qtrl_hpc"
copyright = "the authors of qtrl_hpc, Apache-2.0"
version = release = qtrl_hpc.__version__

extensions = ["myst_parser", "sphinx_copybutton", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "from_the_code"]
exclude_patterns = ["_build", "results/*.md"]
nitpicky = True
# Other packages' names, which would take their inventories, and so a network, to look up; and what Napoleon splits off.
nitpick_ignore_regex = [(r"py:.*", r"(?!qtrl_hpc\.).*"), (r"py:class", r"qtrl_hpc\..*\.T")]

# Formulas and what commands print stand in indented blocks, which say no language.
highlight_language = "text"
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "qtrl_hpc"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
copybutton_exclude = ".linenos, .gp, .go, .c1"

# Files above docs/ that are pages of the site too; links to them are written as a code-hosting site needs them.
PAGES_ABOVE = {"README.md": "readme.md", "CHANGELOG.md": "changelog.md"}


def link_pages_above(app: Sphinx, docname: str, source: list[str]) -> None:
    """Turn links to a file above docs/ into links to the page that includes it."""
    up = "../" * docname.count("/")
    for file, page in PAGES_ABOVE.items():
        source[0] = source[0].replace(f"]({up}../{file}", f"]({up}{page}")


class AttributesAsTheyAre:
    """Keep the docstrings of attributes from Napoleon, which takes all that stands before a colon for a type."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def before(self, app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
        """Remember the docstring."""
        self.lines = lines.copy()

    def after(self, app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
        """Put it back where it is an attribute's."""
        if what == "attribute":
            lines[:] = self.lines


def setup(app: Sphinx) -> None:
    """Connect what this file adds to Sphinx."""
    attributes = AttributesAsTheyAre()
    app.connect("source-read", link_pages_above)
    app.connect("autodoc-process-docstring", attributes.before, priority=400)
    app.connect("autodoc-process-docstring", attributes.after, priority=600)
