"""The documentation site, from the pages of the repository and the docstrings.

``sphinx-build -W -c docs . build/site`` from the repository's root; open build/site/index.html.
"""

import re
import shutil
from pathlib import Path

import d3_plugin

project, author = "d3_plugin", "The d3_plugin developers"
version = release = d3_plugin.__version__
html_title = f"d3_plugin {version}"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_copy_source = False

root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "docs/*.rst", "examples/*.md", "examples/**/*.md"]
exclude_patterns = [".*", "build", "dist", "runs", "*.egg-info", "tests"]
CONTENTS = """
:::{toctree}
:hidden:
:caption: Use

Start <self>
examples/loops
examples/benchmarks/README
docs/scaling
:::
:::{toctree}
:hidden:
:glob:
:caption: Public code with D³

examples/hosts/*
:::
:::{toctree}
:hidden:
:caption: Results

docs/results
docs/defaults
docs/performance
:::
:::{toctree}
:hidden:
:caption: Reference

docs/api
CONTRIBUTING
examples/third_party_plugin/README
CHANGELOG
:::
"""

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_use_ivar = True
napoleon_use_rtype = False


def adapt(app, docname, source):
    """Pages are written for the repository: link what they name, unlink folders, add a menu."""
    text = re.sub(r" (?=±)|(?<=[±▼]) ", "\N{NO-BREAK SPACE}", source[0])
    if docname == root_doc:
        text = re.sub(r"`((?:(?:docs|examples)/[\w/]+|CONTRIBUTING)\.md)`", r"[`\1`](\1)", text)
        text += CONTENTS
    source[0] = re.sub(r"\[([^]\n]+)\]\((?!http)[\w/]*/?\)", r"\1", text)


def join_names(app, what, name, thing, options, lines):
    """Napoleon takes ``a, b: meaning`` on one line only."""
    lines[:] = re.sub(r",\n {8}(?=\w+[,:])", ", ", "\n".join(lines)).split("\n")


def add_index(app, error):
    if error is None:
        shutil.copy(Path(app.outdir, f"{root_doc}.html"), Path(app.outdir, "index.html"))


def setup(app):
    app.connect("source-read", adapt)
    app.connect("autodoc-process-docstring", join_names, priority=400)  # before napoleon
    app.connect("build-finished", add_index)
