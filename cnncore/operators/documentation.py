"""An operator's signature and documentation, derived from its schema.

Schemas hold plain text. :func:`docstring` makes reStructuredText of it, :func:`plain_text` what a terminal shows; both come
from the same sections.
"""

import inspect
import re
import textwrap

from .schema import REQUIRED, ROLE_DTYPES

__all__ = ["SYMBOLS", "docstring", "plain_text", "signature", "symbols"]

DOCUMENTED_ROLES = {
    "index": "array of integers",
    "mask": "array of booleans",
    "either": "array of integers, or of the same dtype as the others",
    "any": "array of real numbers, integers or booleans",
}

# What the letters of shape formulas mean unless the operator's own ``symbols`` say otherwise.
SYMBOLS = {
    "N": "batch size",
    "C": "input channels",
    "K": "output channels",
    "G": "groups",
    "D": "depth",
    "H": "height",
    "W": "width",
    "L": "length",
    "spatial": "spatial extents: (L), (H, W) or (D, H, W)",
    "output": "spatial extents of y",
    "output_size": "spatial extents of y",
    "k": "extent of the window along the axis",
    "s": "stride along the axis",
    "d": "dilation along the axis",
    "lo": "padding at the low end of the axis",
    "hi": "padding at the high end of the axis",
    "T": "taps of the kernel, the product of its extents",
    "M": "channel multiplier",
    "O": "extent of y along the axis",
    "R": "number of regions",
    "r": "upscale or downscale factor",
}
# A letter or a name, but not its exponent, nor the s of "x's".
SYMBOL = re.compile(r"#\w|(?<!')[^\W\d²³][^\W²³]*")
# The letters that a formula "per axis" uses for any of the spatial axes.
PER_AXIS = {"H": "extent of x along the axis"}


class Derived:
    """An attribute of an operator that is derived from its schema on first access, which keeps imports fast."""

    def __init__(self, name, make, of_class=None):
        self.name, self.make, self.of_class = name, make, of_class

    def __get__(self, op, owner=None):
        if op is None:
            return self.of_class
        value = vars(op)[self.name] = self.make(op)
        return value


def signature(op):
    """How the operator is called, for help() and error messages: arrays and settings by position or by name."""
    several = op.variadic
    names = [(a.name, None if a.optional else REQUIRED) for a in op.arrays if not a.variadic]
    names += [(s.name, s.default) for s in op.settings_list if not several]
    # By position or by name, as long as Python's order (required ones first) allows it; then by name only.
    kind, ended = inspect.Parameter.POSITIONAL_OR_KEYWORD, False
    parameters = []
    for name, default in names:
        if default is REQUIRED and ended:
            kind = inspect.Parameter.KEYWORD_ONLY
        ended = ended or default is not REQUIRED
        parameters.append(
            inspect.Parameter(name, kind, default=inspect.Parameter.empty if default is REQUIRED else default)
        )
    if several:
        parameters = [p.replace(kind=inspect.Parameter.POSITIONAL_ONLY) for p in parameters]
        parameters.append(inspect.Parameter(op.arrays[-1].name, inspect.Parameter.VAR_POSITIONAL))
        for s in op.settings_list:
            default = inspect.Parameter.empty if s.default is REQUIRED else s.default
            parameters.append(inspect.Parameter(s.name, inspect.Parameter.KEYWORD_ONLY, default=default))
    return inspect.Signature(parameters)


def symbols(op):
    """The letters and names in the operator's shape formula, in order of appearance, and what each stands for."""
    known = SYMBOLS | (PER_AXIS if "spatial" in op.shape else {})
    known |= {s.name: s.meaning for s in op.settings_list} | dict(op.symbols)
    words = re.findall(SYMBOL, op.shape)
    return {word: known[word] for word in dict.fromkeys(words) if word in known}


# ── Sections ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def sections(op, code):
    """(title, entries) of every section; an entry is (term, text), the term None or "*" for a paragraph or a list's item.

    ``code`` writes a name of the language in the middle of a sentence.
    """
    arrays = []
    for array in op.arrays:
        term = f"{'*' * array.variadic}{array.name} : {DOCUMENTED_ROLES.get(array.role, 'array')}"
        arrays.append((term + ", one or more" * array.variadic + ", optional" * array.optional, array.meaning))
    settings = [
        (
            f"{s.name} : {'required' if s.default is REQUIRED else f'default {s.default!r}'}",
            f"{s.meaning.rstrip('.')}. Also spelled {code(s.alias)}." if s.alias else s.meaning,
        )
        for s in op.settings_list
    ]
    yields = ROLE_DTYPES.get(op.yields)
    same = "all arrays and the result" if yields is None else f"all arrays of real numbers; the result is {yields}"
    return (
        ("Parameters", arrays + settings),
        (
            "Returns",
            [(None, f"{op.returns}; {code('with_backward')} also returns the function that maps dy to the gradients.")],
        ),
        ("Shape", [(None, op.shape), *(("*", f"{name}: {meaning}") for name, meaning in symbols(op).items())]),
        ("Dtype", [(None, f"float32 or float64, the same for {same}. Accumulation: {op.accumulates}.")]),
        ("Edges", [("*", edge) for edge in op.edges] or [("*", "none: the formula holds for every input")]),
        (
            "Raises",
            [
                ("ShapeError, DtypeError", "An array has the wrong rank, extents or dtype."),
                ("SettingError", "A setting is unknown, missing or out of range."),
            ],
        ),
        ("References", [(None, op.paper)]),
    )


def indented(text):
    """A formula, set off from the text around it."""
    return textwrap.indent(textwrap.dedent(text).strip("\n"), "    ")


def docstring(op):
    """The operator's docstring, put together from its schema: the sections a reader finds under every operator."""

    def escaped(text):
        return text.replace("*", "\\*")

    text = f"{op.summary}\n\n::\n\n{indented(op.formula)}\n\nGradients, with dy = ∂L/∂y::\n\n{indented(op.gradient)}\n"
    for title, entries in sections(op, "``{}``".format):
        text += f"\n{title}\n{'-' * len(title)}\n"
        lines = [
            escaped(body) if term is None else f"* {escaped(body)}" if term == "*" else f"{term}\n    {escaped(body)}"
            for term, body in entries
        ]
        # A list needs an empty line after the paragraph before it.
        if title == "Shape" and len(lines) > 1:
            lines.insert(1, "")
        text += "\n".join(lines) + "\n"
    return text + f"\nExamples\n--------\n{textwrap.dedent(op.example).strip()}\n"


def plain_text(op, width=100):
    """The same for a terminal: no markup, paragraphs wrapped at ``width`` columns."""

    def wrapped(text, first, rest):
        return textwrap.fill(text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)

    lines = [op.summary, "", indented(op.formula), "", "Gradients, with dy = ∂L/∂y:", "", indented(op.gradient)]
    for title, entries in sections(op, str):
        lines += ["", title]
        for term, body in entries:
            if term is None:
                lines.append(wrapped(body, "    ", "    "))
            elif term == "*":
                lines.append(wrapped(body, "    - ", "      "))
            else:
                lines += [wrapped(term, "    ", "    "), wrapped(body, "        ", "        ")]
    return "\n".join([*lines, "", "Example", indented(op.example)]) + "\n"
