"""Markdown that tools write, in lines of at most 100 columns."""

import re
import textwrap

# What would begin a list, a heading or a quotation at the start of a line: kept on the line of the word before.
MARKER = re.compile(r" (?=(?:[-+*>=#·]|\d+[.)]) )")
GLUE = "\0"


def wrapped(lines):
    """The lines of a page with long paragraphs and items wrapped; tables, pictures and code as they are."""
    code = False
    for line in lines:
        code ^= line.startswith("```")
        # Two spaces at the end of a line are a line break.
        if code or len(line) <= 100 or line.startswith(("|", "!")) or line.endswith("  "):
            yield line
            continue
        indent = "  " if line.startswith("* ") else ""
        glued = MARKER.sub(GLUE, line)
        filled = textwrap.fill(glued, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        yield filled.replace(GLUE, " ")
