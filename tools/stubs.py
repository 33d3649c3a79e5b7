"""Type stubs of what is made at run time: the operators, their methods on graphs, and what Cython compiled.

tools/generate.py writes them; `python tools/dev.py typecheck` holds them against what is imported.
"""

import importlib
import inspect
import math
import re
from pathlib import Path

import cnncore
from cnncore.checks import flag
from cnncore.nets.layers import graph_arrays, signature
from cnncore.operators.registry import GRIDS
from cnncore.operators.schema import REQUIRED

ROOT = Path(__file__).resolve().parent.parent
HEAD = "# Written by tools/generate.py from {source}.\n"
ARRAY = "NDArray[Any]"


def stubs():
    """Path → text of every stub."""
    package = ROOT / "cnncore"
    files = {package / "__init__.pyi": package_stub(), package / "nets" / "operator_methods.pyi": graph_stub()}
    for name, place in moved_modules().items():
        files[package / f"{name}.pyi"] = moved_stub(place)
    for path in sorted(package.rglob("*.pyx")):
        files[path.with_suffix(".pyi")] = compiled_stub(path)
    return files


# ── Settings ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def type_of(setting):
    """The type of a setting, read from its check; Any where the check does not tell."""
    check = setting.check
    kind, _, inner = getattr(check, "__qualname__", "").partition(".")
    if setting.name == "seed":
        text = "int | Generator"
    elif check is flag:
        text = "bool"
    elif kind == "choice" and inner:
        text = f"Literal[{', '.join(map(repr, inspect.getclosurevars(check).nonlocals['allowed']))}]"
    elif kind == "number" and inner:
        text = "float"
    elif kind == "whole" and inner:
        text = "int"
    else:
        return "Any"
    return f"{text} | None" if setting.default is None else text


def default_of(value):
    """A default value as a stub can say it."""
    plain = value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))
    return repr(value) if plain else "..."


def parameters_of(given, types):
    """Parameters of an ``inspect.Signature`` as source text, each with its type."""
    made, starred = [], False
    for parameter in given:
        if parameter.kind is parameter.VAR_POSITIONAL:
            made.append(f"*{parameter.name}: {types[parameter.name]}")
            starred = True
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            made.append("*")
            starred = True
        text = f"{parameter.name}: {types[parameter.name]}"
        if parameter.default is not parameter.empty:
            text += f" = {default_of(parameter.default)}"
        made.append(text)
    return made if starred else [*made, "*"]


def aliases_of(settings):
    """Other frameworks' spellings of settings, as further keywords."""
    return [f"{s.alias}: {type_of(s)} = ..." for s in settings if s.alias and s.default is not REQUIRED]


# ── Operators ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def returns_one_array(op):
    """Whether a call gives y alone, whatever its settings."""
    return op.returns == "array y" and not any(s.name.startswith("return_") for s in op.settings_list)


def operator_class(op):
    """A class per operator: its own call signature, and with_backward with the same one."""
    types = {s.name: type_of(s) for s in op.settings_list}
    for array in op.arrays:
        types[array.name] = "ArrayLike | Sequence[ArrayLike]" if array.variadic else "ArrayLike"
        types[array.name] += " | None" if array.optional else ""
    arguments = [*parameters_of(op.__signature__.parameters.values(), types), *aliases_of(op.settings_list)]
    arguments = ", ".join(["self", *arguments, f"out: {ARRAY} | None = None"])
    name = "_" + "".join(part.title() for part in op.name.split("_"))
    y = ARRAY if returns_one_array(op) else "Any"
    return (
        f"class {name}(Op):\n"
        f"    def __call__({arguments}) -> {y}: ...\n"
        f"    def with_backward({arguments}) -> tuple[{y}, Callable[..., Any]]: ...\n\n"
        f"{op.name}: {name}\n"
    )


def package_stub():
    """cnncore/__init__.pyi: the operators with their signatures; everything else is re-exported."""
    source = (ROOT / "cnncore" / "__init__.py").read_text(encoding="utf-8")
    lines = [
        HEAD.format(source="the registry"),
        '# mypy: disable-error-code="override"',  # each operator has arguments of its own
        "",
        "from collections.abc import Callable, Sequence",
        "from typing import Any, Literal",
        "",
        "from numpy.random import Generator",
        "from numpy.typing import ArrayLike, NDArray",
        "",
    ]
    for module, names in re.findall(r"^from (\.\S*) import (\([^)]*\)|[^\n(]+)", source, flags=re.MULTILINE):
        named = [name for name in re.split(r"[,\s]+", names.strip("()")) if name and name not in moved_modules()]
        lines += [f"from {module} import {name} as {name}" for name in named]
    lines += [f"from . import {name} as {name}" for name in moved_modules()]
    for name, place in cnncore.LAZY.items():
        if name not in moved_modules():
            lines.append(f"from .{place or ''} import {name} as {name}")
    lines += ["from .operators.operator import Op", ""]
    for name, grid in GRIDS.items():
        lines += [
            f"from {type(grid).__module__.removeprefix('cnncore')} import {type(grid).__name__}",
            "",
            f"{name}: {type(grid).__name__}",
        ]
    lines += ["", "__all__ = [", *(f'    "{name}",' for name in cnncore.__all__), "]", ""]
    return "\n".join(lines) + "\n" + "\n".join(operator_class(op) for op in cnncore.OPS.values())


def graph_stub():
    """cnncore/nets/operator_methods.pyi: a method of graphs per operator."""
    lines = [
        HEAD.format(source="the registry"),
        "from collections.abc import Mapping",
        "from typing import Any, Literal, overload",
        "",
        "from numpy.random import Generator",
        "",
        "from .value import SharedParameter, Value",
        "",
        '__all__ = ["OperatorMethods"]',
        "",
        "class OperatorMethods:",
        "    def __dir__(self) -> list[str]: ...",
    ]
    for op in cnncore.OPS.values():
        made = "Any" if "return_indices" in op.settings else "Value"
        forms = graph_forms(op)
        for arguments in forms:
            lines += ["    @overload"] * (len(forms) > 1)
            lines.append(f"    def {op.name}({', '.join(['self', *arguments])}) -> {made}: ...")
    for name in GRIDS:
        lines.append(f"    def {name}(self, *values: Value, name: str | None = None, **settings: Any) -> Any: ...")
    return "\n".join(lines) + "\n"


def graph_forms(op):
    """The parameters of an operator's method of graphs: settings follow the values, with or without the optional ones."""
    settings = (*op.layer.settings, *op.settings_list)
    types = {s.name: type_of(s) for s in settings} | {"name": "str | None", "activation": "str | None"}
    types["share"] = "Value | str | Mapping[str, SharedParameter | str] | None"
    types |= {
        a.name: "Value | SharedParameter | None" if a.optional else "Value | SharedParameter" for a in graph_arrays(op)
    }
    given = list(signature(op).parameters.values())
    optional = {a.name for a in graph_arrays(op) if a.optional}
    forms = [given]
    if optional:
        by_name = [p.replace(kind=p.KEYWORD_ONLY, default=None) for p in given if p.name in optional]
        forms.append([*(p for p in given if p.name not in optional), *by_name])
    return [[*parameters_of(form, types), *aliases_of(settings)] for form in forms]


# ── Modules ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def moved_modules():
    """Name of each public module that lies deeper in the package → its place there."""
    lazy = {name: place for name, place in cnncore.LAZY.items() if place and place.endswith(f".{name}")}
    return {**lazy, "cpu": "runtime.cpu"}


def moved_stub(place):
    """A module under its public name: that of its place re-exported."""
    module = importlib.import_module(f"cnncore.{place}")
    lines = [HEAD.format(source=f"cnncore.{place}")]
    lines += [f"from .{place} import {name} as {name}" for name in sorted(module.__all__)]
    lines += ["", f"__all__ = {sorted(module.__all__)!r}".replace("'", '"')]
    return "\n".join(lines) + "\n"


def compiled_stub(path):
    """What Python sees of a Cython module: its classes, functions and constants."""
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    lines = [HEAD.format(source="the compiled module"), "from typing import Any, Self", ""]
    lines += ["from typing_extensions import disjoint_base", ""]
    for name, value in vars(module).items():
        made_here = getattr(value, "__module__", "") == module.__name__
        if name.startswith("_") or inspect.ismodule(value):
            continue
        if inspect.isclass(value):
            lines += [*class_lines(value), ""] if made_here else []
        elif type(value).__name__ == "cython_function_or_method":
            lines += [f"def {name}({compiled_parameters(value)}) -> Any: ...", ""] if made_here else []
        else:
            lines += [f"{name}: Any", ""]
    return "\n".join(lines)


def class_lines(cls):
    """A class of a Cython module: attributes and methods."""
    lines = ["@disjoint_base"] if cls.__basicsize__ > cls.__base__.__basicsize__ else []
    base = "" if cls.__base__ is object else f"({cls.__base__.__name__})"
    lines.append(f"class {cls.__name__}{base}:")
    if "__init__" in vars(cls):
        lines.append("    def __init__(self, *args: Any, **kwargs: Any) -> None: ...")
    else:
        lines.append("    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...")
    for name, value in vars(cls).items():
        if name.startswith("_"):
            continue
        if type(value).__name__ == "cython_function_or_method":
            lines.append(f"    def {name}({compiled_parameters(value)}) -> Any: ...")
        elif inspect.isgetsetdescriptor(value) or inspect.ismemberdescriptor(value):
            lines.append(f"    {name}: Any")
    return lines


def compiled_parameters(function):
    made = []
    for parameter in inspect.signature(function).parameters.values():
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else " = ..."
        typed = "" if parameter.name == "self" else ": Any"
        made.append(f"{star}{parameter.name}{typed}{default}")
    return ", ".join(made)


# ── What differs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def differing():
    """Lines for stubtest's --allowlist: the names whose types are narrower in the stubs than they can be at run time."""
    lines = ["# Every operator is an Op at run time; its class in the stub has its own arguments."]
    lines += [rf"cnncore\.{name}" for name in cnncore.OPS]
    lines.append("# Graphs make these methods when they are asked for.")
    lines += [rf"cnncore\.nets\.operator_methods\.OperatorMethods\.{name}" for name in (*cnncore.OPS, *GRIDS)]
    return lines


if __name__ == "__main__":
    print(*differing(), sep="\n")
