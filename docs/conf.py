"""The documentation site: `nox -s docs` builds it into build/site.

The source folder is the project's root, not docs/. So links between pages and to source files work both in the repository and
on the site, where a link to a source file is a download.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import latex2mathml.converter
from docutils import nodes

import fastlenet

project = "fastlenet"
author = "The fastlenet authors"
copyright = author
version = release = fastlenet.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/**.md",
    "benchmarks/README.md",
    "cuda/ptxas.md",
]
root_doc = "docs/index"
nitpicky = False

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

highlight_language = "none"  # a block without a language is output, or a command

html_theme = "furo"
html_title = f"fastlenet {release}"
html_extra_path = ["redirect"]  # index.html, which leads to docs/index.html
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {"top_of_page_buttons": []}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_type_aliases = {"Array": "Array", "Pair": "Pair", "Gradients": "Gradients", "DeviceArray": "DeviceArray"}
autodoc_preserve_defaults = True

BACKENDS = ("fastlenet.reference.", "fastlenet.cuda.")
# The beginnings of a new item in a docstring: "Returns ...", "Source: ...", or "x: (n, c, h, w)".
ITEM = re.compile(r"(Returns?|Raises|Source)\b|[a-z_]\w*((, | and )\w+)*: ")


def write_docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Convert a docstring, which is plain text with `backticks` around code, to reStructuredText.

    The docstring of a backend's op refers to the op in fastlenet.ops.
    """
    op = name.removeprefix(next((backend for backend in BACKENDS if name.startswith(backend)), name))
    if op in fastlenet.ops.__all__:
        lines[:] = [*lines, "", f"The contract is that of :func:`fastlenet.ops.{op}`."]
        if len(lines) > 3:
            lines[:] = [*map(plain, lines[:-2]), *lines[-2:]]
        return
    written: list[str] = []
    for line in lines:
        indented = line.startswith(" ")
        if indented and not (written and written[-1].startswith(" ")):
            written += ["", "::", ""]
        elif written and written[-1] and ((written[-1].startswith(" ") and not indented) or ITEM.match(line)):
            written.append("")
        written.append(line if indented else plain(line))
    lines[:] = [*written, *fields_of(thing)]


def fields_of(thing: Any) -> list[str]:
    """The fields of a dataclass that have a help text, as a list."""
    fields = dataclasses.fields(thing) if dataclasses.is_dataclass(thing) and isinstance(thing, type) else ()
    helped = [field for field in fields if field.metadata.get("help")]
    return ["", *(f"- ``{field.name}`` (default {field.default!r}): {plain(field.metadata['help'])}" for field in helped), ""]


def write_signature(app: Any, what: str, name: str, thing: Any, options: Any, signature: str, returns: str) -> tuple[str, str]:
    """Write a type alias by its name."""
    return tuple(text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text) for text in (signature, returns))


def plain(line: str) -> str:
    """Escape everything in a line except `code`."""
    parts = line.split("`")
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([\\*_|])", r"\\\1", parts[i])
    return "``".join(parts)


def math_inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(latex2mathml.converter.convert(node.astext()))
    raise nodes.SkipNode


def math_block(writer: Any, node: nodes.math_block) -> None:
    formula = node.astext().replace("aligned}", "align*}")  # the name that the converter knows
    writer.body.append(f'<div class="math">{latex2mathml.converter.convert(formula, display="block")}</div>\n')
    raise nodes.SkipNode


def write_live_page(app: Any, error: Exception | None) -> None:
    """Export the package's network as a page to draw on, beside docs/live.html, which shows it."""
    if error is None and app.builder.format == "html":
        fastlenet.export(fastlenet.LeNet.pretrained(), Path(app.outdir) / "docs" / "draw.html")


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", write_docstring)
    app.connect("autodoc-process-signature", write_signature)
    app.connect("build-finished", write_live_page)
    # Formulas become MathML, which browsers show by themselves: no script, no other host.
    app.add_html_math_renderer("mathml", (math_inline, None), (math_block, None))
    app.config.html_math_renderer = "mathml"
