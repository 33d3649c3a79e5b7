"""Write what is derived from the catalogue: type stubs and docs/operators.md.

    python tools/generate.py            write the files
    python tools/generate.py --check    write nothing; exit 1 when a file is not what would be written

The installed cnncore is asked, so that the stubs say what really runs.
"""

import argparse
import inspect
import re
import sys
from pathlib import Path

import cnncore
from cnncore.catalog import FAMILIES
from cnncore.operator import REQUIRED

ROOT = Path(__file__).resolve().parent.parent

TITLES = {
    "convolution": "Convolution",
    "pooling": "Pooling",
    "activation": "Activations",
    "layers": "Other layers",
}


# ── Type stubs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def operator_class(op):
    """A stub class per operator: its own call signature, and with_backward with the same one."""
    parameters = []
    for parameter in op.__signature__.parameters.values():
        text = f"{parameter.name}: Any"
        if parameter.name in {a.name for a in op.arrays}:
            text = f"{parameter.name}: ArrayLike" + (" | None" if parameter.default is None else "")
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            parameters.append(f"*{parameter.name}: ArrayLike")
            continue
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not any(p.startswith("*") for p in parameters):
            parameters.append("*")
        if parameter.default is not inspect.Parameter.empty:
            text += f" = {parameter.default!r}"
        parameters.append(text)
    if not any(p.startswith("*") for p in parameters):
        parameters.append("*")
    arguments = ", ".join(["self", *parameters, "out: NDArray[Any] | None = ..."])
    name = "_" + "".join(part.title() for part in op.name.split("_"))
    return (
        f"class {name}(Op):\n"
        f"    def __call__({arguments}) -> Any: ...\n"
        f"    def with_backward({arguments}) -> tuple[Any, Callable[..., Any]]: ...\n\n"
        f"{op.name}: {name}\n"
    )


def package_stub():
    """cnncore/__init__.pyi: the operators with their signatures; everything else is re-exported."""
    source = (ROOT / "cnncore" / "__init__.py").read_text()
    imports = re.findall(r"^from \.\S* import (?:\([^)]*\)|[^\n(]+)", source, flags=re.MULTILINE)
    lines = ["# Written by tools/generate.py from the catalogue.", "from collections.abc import Callable"]
    lines += ["from typing import Any", "", "from numpy.typing import ArrayLike, NDArray", ""]
    for statement in imports:
        module = re.match(r"from (\S+) import", statement)[1]
        names = re.split(r"[,\s]+", statement.split("import", 1)[1].strip("() \n,"))
        lines += [f"from {module} import {name} as {name}" for name in names if name]
    for name, module in cnncore.LAZY.items():
        lines.append(f"from .{module or ''} import {name} as {name}")
    lines += ["from .operator import Op", ""]
    return "\n".join(lines) + "\n" + "\n".join(operator_class(op) for op in cnncore.OPS.values())


def module_stub(path):
    """The Python-visible names of a Cython module: classes, functions, and the objects the rows refer to."""
    source = path.read_text()
    lines = ["# Written by tools/generate.py from the Cython source.", "from typing import Any", ""]
    for match in re.finditer(
        r"^(?:cdef class (?P<cls>\w+)(?:\([\w.]+\))?:|(?:cp)?def (?P<function>[a-z]\w*)\((?P<arguments>[^)]*)\):"
        r"|(?P<constant>[A-Z][A-Z0-9_]*) = \w)",
        source,
        flags=re.MULTILINE,
    ):
        if match["cls"]:
            lines.append(f"class {match['cls']}:\n    def __init__(self, *args: Any, **kwargs: Any) -> None: ...\n")
        elif match["function"]:
            arguments = []
            for argument in filter(None, (a.strip() for a in match["arguments"].replace("\n", " ").split(","))):
                name, equals, _ = argument.partition("=")
                word = name.split()[-1]
                arguments.append(word if word.startswith("*") else f"{word}: Any" + (" = ..." if equals else ""))
            lines.append(f"def {match['function']}({', '.join(arguments)}) -> Any: ...\n")
        else:
            lines.append(f"{match['constant']}: Any\n")
    return "\n".join(lines)


# ── Documentation ──────────────────────────────────────────────────────────────────────────────────────────────────────


def operators_page():
    """docs/operators.md: a table of contents, then every operator's docstring as a section."""
    lines = [
        "# Operators",
        "",
        f"{len(cnncore.OPS)} operators, each with its formula, its gradient, what happens at the edges, and its source. "
        "This page is written from the catalogue by `python tools/generate.py`; `python -m cnncore ops NAME` prints the "
        "same in a terminal.",
        "",
    ]
    for family, rows in FAMILIES.items():
        links = " · ".join(f"[{op.name}](#{op.name})" for op in rows)
        lines += [f"**{TITLES[family]}**: {links}", ""]
    for family, rows in FAMILIES.items():
        lines += [f"## {TITLES[family]}", ""]
        for op in rows:
            lines += operator_section(op)
    return "\n".join(lines).rstrip() + "\n"


def operator_section(op):
    def block(text):
        return ["```text", *inspect.cleandoc(text).splitlines(), "```", ""]

    lines = [f"### {op.name}", "", f"{op.summary} *Catalogue: {', '.join(op.catalogue)}.*", ""]
    lines += [f"`cnncore.{op.name}{op.__signature__}`", ""]
    lines += [*block(op.formula), "Gradients, with dy = ∂L/∂y:", "", *block(op.gradient)]
    lines += ["| argument | default | meaning |", "|---|---|---|"]
    for array in op.arrays:
        lines.append(f"| `{array.name}` | {'None' if array.optional else 'array'} | {cell(array.meaning)} |")
    for setting in op.settings_list:
        default = "required" if setting.default is REQUIRED else f"`{setting.default!r}`"
        alias = f" (also `{setting.alias}`)" if setting.alias else ""
        lines.append(f"| `{setting.name}` | {default} | {cell(setting.meaning)}{alias} |")
    lines += ["", f"**Shape** {cell(op.shape)}", "", f"**Accumulates** {op.accumulates}.", ""]
    if op.edges:
        lines += ["**Edges**", "", *(f"* {edge}" for edge in op.edges), ""]
    lines += [f"**Source** {op.paper}", "", "```python", *inspect.cleandoc(op.example).splitlines(), "```", ""]
    return lines


def cell(text):
    """Text that may stand in a table."""
    return text.replace("|", "\\|").replace("\n", " ")


# ── Files ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def generated_files():
    """Path → text of every generated file."""
    files = {ROOT / "cnncore" / "__init__.pyi": package_stub(), ROOT / "docs" / "operators.md": operators_page()}
    for path in sorted((ROOT / "cnncore" / "ops").glob("*.pyx")):
        files[path.with_suffix(".pyi")] = module_stub(path)
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 when a file is out of date")
    options = parser.parse_args()
    stale = []
    for path, text in generated_files().items():
        if path.exists() and path.read_text() == text:
            continue
        stale.append(path.relative_to(ROOT).as_posix())
        if not options.check:
            path.write_text(text)
    if options.check and stale:
        sys.exit(f"out of date: {', '.join(stale)}; run python tools/generate.py")
    print(f"{'current' if not stale else 'written: ' + ', '.join(stale)}")


if __name__ == "__main__":
    main()
