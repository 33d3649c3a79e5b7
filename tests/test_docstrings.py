"""What a public docstring says: every parameter by name and type, and what comes back, in the sections of numpydoc."""

import dataclasses
import inspect
import re

import pytest
from support.documented import documented

NAMES = re.compile(r"((?:\*{0,2}\w+)(?:, \*{0,2}\w+)*)( : .+)?")


def sections(text):
    """Title → lines of every section of a docstring."""
    lines = inspect.cleandoc(text or "").splitlines()
    heads = [i for i in range(len(lines) - 1) if lines[i] and re.fullmatch("-{3,}", lines[i + 1])]
    return {lines[i]: lines[i + 2 : end] for i, end in zip(heads, [*heads, len(lines)][1:], strict=True)}


def named(text):
    """The parameters in a docstring's section, one by one; only starred ones may go without a type."""
    found = set()
    for line in sections(text).get("Parameters", []):
        match = NAMES.fullmatch(line.replace("\\", ""))
        if match and not line.startswith(" "):
            found |= {name for name in match[1].split(", ") if match[2] or name.startswith("*")}
    return found


def parameters(thing):
    """Names of the parameters as a docstring has them, with their stars."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    given = inspect.signature(thing).parameters.values()
    return [stars.get(p.kind, "") + p.name for p in given if p.name not in ("self", "cls")]


def fields(thing):
    """The fields of a record, which its class docstring says; None for another class."""
    if dataclasses.is_dataclass(thing):
        return [field.name for field in dataclasses.fields(thing) if field.init]
    return list(thing._fields) if issubclass(thing, tuple) and hasattr(thing, "_fields") else None


def missing_of_class(thing):
    """What the docstring of a class lacks."""
    text = thing.__doc__ or ""
    names = fields(thing)
    if names is not None:
        return [f"field {name}" for name in names if not re.search(rf"\b{name}\b", text)]
    if thing.__init__ is object.__init__ and thing.__new__ is object.__new__:
        return []
    known = named(text) | named(thing.__init__.__doc__)
    for base in thing.__mro__[1:]:  # a class that is made as its base is
        if base.__init__ is thing.__init__:
            known |= named(base.__doc__)
    return [f"parameter {name}" for name in parameters(thing) if name not in known]


def missing(thing):
    """What a docstring lacks."""
    text = inspect.getdoc(thing)  # of a method without one, that of the method that it replaces
    if not text:
        return ["a docstring"]
    if inspect.isclass(thing):
        return missing_of_class(thing)
    lacking = [f"parameter {name}" for name in parameters(thing) if name not in named(text)]
    returned = inspect.signature(thing).return_annotation
    if returned not in (inspect.Signature.empty, None, "None") and not {"Returns", "Yields"} & sections(text).keys():
        lacking.append("Returns")
    return lacking


@pytest.mark.parametrize("path", DOCUMENTED := documented())
def test_docstring_names_parameters_and_result(path):
    lacking = missing(DOCUMENTED[path])
    assert not lacking, f"{path} has no {', no '.join(lacking)}"


def test_the_walk_meets_what_it_should():
    assert {"Net.tune", "Graph.build", "Graph.from_description", "load", "threads", "cpu.peak"} <= DOCUMENTED.keys()
    assert not DOCUMENTED.keys() & {"conv", "pool", "CnnError", "testing.GradientError", "Net.state"}


def test_the_reader_finds_what_is_missing():
    def good(a: int, b: int, *rest: int, **settings: int) -> int:
        """Sum.

        Parameters
        ----------
        a, b : int
            Numbers.
        *rest : int
            More numbers.
        **settings
            Named ones.

        Returns
        -------
        int
            The sum.
        """

    def bad(a: int, b: int) -> int:
        """Sum of a and b.

        Parameters
        ----------
        a
            Has no type.
            b : int, which is indented.
        """

    def silent(): ...

    assert missing(good) == []
    assert missing(bad) == ["parameter a", "parameter b", "Returns"]
    assert missing(silent) == ["a docstring"]
