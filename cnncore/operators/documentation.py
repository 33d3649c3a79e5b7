"""An operator's signature and docstring, derived from its schema."""

import inspect
import textwrap

from .schema import REQUIRED, ROLE_DTYPES

DOCUMENTED_ROLES = {
    "index": "array of integers",
    "mask": "array of booleans",
    "either": "array of integers, or of the same dtype as the others",
    "any": "array of real numbers, integers or booleans",
}


class Derived:
    """An attribute of an operator that is worked out from its row when first asked for: an import would pay for all."""

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


def docstring(op):
    """The operator's docstring, put together from its row: the sections a reader finds under every operator."""

    def section(title, body):
        return f"\n{title}\n{'-' * len(title)}\n{body.rstrip()}\n"

    def block(text):
        return textwrap.indent(textwrap.dedent(text).strip("\n"), "    ")

    arrays = "\n".join(
        f"{'*' * a.variadic}{a.name} : {DOCUMENTED_ROLES.get(a.role, 'array')}{', one or more' if a.variadic else ''}"
        f"{', optional' if a.optional else ''}\n    {a.meaning}"
        for a in op.arrays
    )
    settings = "\n".join(
        f"{s.name} : {'required' if s.default is REQUIRED else f'default {s.default!r}'}\n    {s.meaning}"
        + (f" Also spelled ``{s.alias}``." if s.alias else "")
        for s in op.settings_list
    )
    text = f"{op.summary}\n\n::\n\n{block(op.formula)}\n\nGradients, with dy = ∂L/∂y::\n\n{block(op.gradient)}\n"
    text += section("Parameters", arrays + ("\n" + settings if settings else ""))
    text += section(
        "Returns", f"{op.returns}; from ``with_backward`` also the function that takes dy to the gradients."
    )
    text += section("Shape", op.shape)
    yields = ROLE_DTYPES.get(op.yields)
    same = "all arrays and the result" if yields is None else f"all arrays of real numbers; the result is {yields}"
    text += section("Dtype", f"float32 or float64, the same for {same}; accumulates {op.accumulates}.")
    text += section("Edges", "\n".join(f"* {edge}" for edge in op.edges) or "* none: the formula holds for every input")
    text += section(
        "Raises",
        "ShapeError, DtypeError\n    Arrays of the wrong rank, extents or dtype.\n"
        "SettingError\n    Unknown, missing or impossible settings.",
    )
    text += section("References", op.paper)
    text += section("Examples", textwrap.dedent(op.example).strip("\n"))
    return text
