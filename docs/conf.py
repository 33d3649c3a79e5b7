"""The documentation as a site: ``python tools/dev.py docs`` builds it into build/site."""

import json
import re
import shutil
from pathlib import Path

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

project = "cnncore"
author = "The cnncore founders"
extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_dmath_allow_digits = True
source_suffix = {".md": "markdown"}
root_doc = "index"
myst_heading_anchors = 3  # links to headings, as in a repository's view of the pages
html_theme = "furo"
html_title = "cnncore"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_math_renderer = "mathml"
html_favicon = "site/favicon.svg"
html_static_path = ["site", "../cnncore/explorers/scripts"]
html_css_files = ["site.css", "explorers.css"]
html_js_files = [("site.js", {"defer": "defer"})]
# Contrast of at least 4.5 : 1 in both.
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

GROUPS = {"convolution", "pooling", "activation", "layers", "arrays"}
BESIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+[A-Z]+\.md\)")  # links to pages beside docs/, such as CONTRIBUTING.md


def names_without_links(app, docname, source):
    """Pages beside docs/ are no part of the site: of their links the names remain."""
    source[0] = BESIDE.sub(r"\1", source[0])


def mathml(tex, display):
    """A formula as MathML, which browsers set without a script, without a font, and without a network."""
    made = convert(" ".join(tex.split()), display=display)
    if "&#x0005C;" in made.replace(r"\_", "_"):
        raise ValueError(f"TeX that is not understood: {tex}")
    return made.replace(r"\_", "_")


def visit_inline(writer, node):
    """Write an inline formula."""
    writer.body.append(mathml(node.astext(), "inline"))
    raise SkipNode


def visit_display(writer, node):
    """Write a formula on a line of its own."""
    writer.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>')
    raise SkipNode


NAVIGATION: dict[str, str] = {}


def pages_of_operators(app, doctree):
    """Pages of operators are in no table of contents: with 220 entries on every page a build would take minutes.

    They are reached from the pages of their families, and by the search.
    """
    if is_operator(app.env.docname):
        app.env.metadata[app.env.docname]["orphan"] = True


def same_navigation(app, pagename, templatename, context, doctree):
    """The pages of operators, which lie in one folder, share one navigation."""
    if is_operator(pagename):
        whole = context["toctree"]
        context["toctree"] = lambda **options: NAVIGATION.get("") or NAVIGATION.setdefault("", whole(**options))


def is_operator(docname):
    """Whether a page is one of an operator."""
    return docname.startswith("operators/") and docname.partition("/")[2] not in GROUPS


# What `python tools/dev.py browser` built. With it the site, when it is served, computes in the page.
BUILT = Path(__file__).resolve().parent.parent / "build" / "browser"
WHEELS = [*sorted(BUILT.glob("numpy-*.whl")), *sorted(BUILT.glob("cnncore-*.whl"))]
MODEL = BUILT / "digits.safetensors"
RUNTIME = ("pyodide.mjs", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
LIVE = len(WHEELS) == 2 and MODEL.exists()


def copy_engine(app, exception):
    """Put the engine beside the scripts of the site."""
    if LIVE and exception is None and app.builder.name == "html":
        folder = Path(app.outdir) / "_static" / "engine"
        folder.mkdir(parents=True, exist_ok=True)
        for file in (*WHEELS, MODEL, *(BUILT / "node_modules" / "pyodide" / name for name in RUNTIME)):
            shutil.copyfile(file, folder / file.name)
        files = {"wheels": [file.name for file in WHEELS], "model": MODEL.name}
        (folder / "files.json").write_text(json.dumps(files), encoding="utf-8")


def setup(app):
    """Called by Sphinx."""
    if LIVE:
        app.add_js_file(None, body="window.live = true;")
    app.connect("build-finished", copy_engine)
    app.connect("source-read", names_without_links)
    app.connect("doctree-read", pages_of_operators)
    app.connect("html-page-context", same_navigation, priority=100)  # before the theme asks for it
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_display, None))
