"""The documentation site, from the pages of the repository and the docstrings.

``sphinx-build -W -c docs . build/site`` from the repository's root; open build/site/index.html.
"""

import json
import re
import shutil
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from myst_parser.parsers.sphinx_ import MystParser

import d3_plugin

project, author = "d3_plugin", "The d3_plugin developers"
version = release = d3_plugin.__version__
html_title = f"d3_plugin {version}"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_static_path = html_css_files = ["site.css"]
html_copy_source = False
html_math_renderer = "mathml"  # what browsers show without a script from elsewhere

root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "docs/api/*.rst"]
include_patterns += ["examples/*.md", "examples/**/*.md", "examples/*.ipynb"]
exclude_patterns = [".*", "build", "dist", "runs", "*.egg-info", "tests"]
CONTENTS = """
:::{toctree}
:hidden:
:glob:
:caption: Use

Start <self>
docs/usage
docs/commands
docs/own_baseline
docs/own_loss_term
examples/*
examples/benchmarks/README
:::
:::{toctree}
:hidden:
:caption: Reference

docs/api/index
CONTRIBUTING
examples/third_party_plugin/README
CHANGELOG
:::
:::{toctree}
:hidden:
:glob:
:caption: Results and background

docs/results
docs/[d-np-t]*
:::
:::{toctree}
:hidden:
:glob:
:caption: Public code with D³

examples/hosts/*
:::
"""

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_custom_sections = [("Attributes", "params_style")]  # for names that share a meaning
napoleon_use_rtype = False


def adapt(app, docname, source):
    """Pages are written for the repository: link what they name, unlink folders, add a menu."""
    text = re.sub(r" (?=±|\\\*)|(?<=[±▼]) ", "\N{NO-BREAK SPACE}", source[0])
    if docname == root_doc:
        text = re.sub(r"`((?:(?:docs|examples)/[\w/]+|CONTRIBUTING)\.md)`", r"[`\1`](\1)", text)
        text += CONTENTS
    source[0] = re.sub(r"\[([^]\n]+)\]\((?!http)[\w/]*/?\)", r"\1", text)


def join_names(app, what, name, thing, options, lines):
    """Napoleon takes ``a, b: meaning`` on one line only."""
    lines[:] = re.sub(r",\n {8}(?=\w+[,:])", ", ", "\n".join(lines)).split("\n")


def show_math(writer, node):
    tex = node.astext().replace(r"\big", "")  # MathML's brackets grow by themselves
    writer.body.append(tex2mathml(tex, as_block=isinstance(node, nodes.math_block)))
    raise nodes.SkipNode


class NotebookParser(MystParser):
    """A notebook as the Markdown page that it is, with the outputs that were committed."""

    supported = ("ipynb",)

    def parse(self, inputstring, document):
        parts = []
        for cell in json.loads(inputstring)["cells"]:
            source = "".join(cell["source"])
            parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
            parts += map(as_markdown, cell.get("outputs", []))
        super().parse("\n\n".join(parts), document)


def as_markdown(output):
    data = {kind: "".join(lines) for kind, lines in output.get("data", {}).items()}
    if "image/png" in data:
        picture = data["image/png"].replace("\n", "")
        return f'<img alt="output" src="data:image/png;base64,{picture}">'
    if "text/html" in data:
        table = " ".join(data["text/html"].split()).replace("<table>", '<table class="docutils">')
        return f"<div>{table}</div>"
    text = data.get("text/plain") or "".join(output.get("text", ""))
    return f"```text\n{text.rstrip()}\n```"


def add_index(app, error):
    if error is None:
        shutil.copy(Path(app.outdir, f"{root_doc}.html"), Path(app.outdir, "index.html"))


def setup(app):
    app.add_source_suffix(".ipynb", "ipynb")
    app.add_source_parser(NotebookParser)
    app.connect("source-read", adapt)
    app.connect("autodoc-process-docstring", join_names, priority=400)  # before napoleon
    app.add_html_math_renderer("mathml", (show_math, None), (show_math, None))
    app.connect("build-finished", add_index)
