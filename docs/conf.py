"""The documentation as a site: ``python tools/dev.py docs`` builds it into build/site."""

import re

project = "cnncore"
author = "The cnncore founders"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
myst_heading_anchors = 3  # links to headings, as in a repository's view of the pages
html_theme = "furo"
html_title = "cnncore"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False

BESIDE = re.compile(r"\[([^\]]+)\]\(\.\./[A-Z]+\.md\)")  # links to pages beside docs/, such as CONTRIBUTING.md


def names_without_links(app, docname, source):
    """Pages beside docs/ are no part of the site: of their links the names remain."""
    source[0] = BESIDE.sub(r"\1", source[0])


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", names_without_links)
