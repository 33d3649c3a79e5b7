"""What a public docstring says, in the sections of numpydoc: parameters by name and type, what comes back, what is raised."""

import ast
import dataclasses
import functools
import inspect
import re
from pathlib import Path

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
    if (
        returned not in (inspect.Signature.empty, None, "None", "NoReturn")
        and not {"Returns", "Yields"} & sections(text).keys()
    ):
        lacking.append("Returns")
    return lacking


@pytest.mark.parametrize("path", DOCUMENTED := documented())
def test_docstring_names_parameters_and_result(path):
    lacking = missing(DOCUMENTED[path])
    assert not lacking, f"{path} has no {', no '.join(lacking)}"


# ── What is raised ─────────────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def source_of(file):
    """The functions and methods of a file by their qualified names, and the checks that it imports."""
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    found = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for owner in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        found |= {f"{owner.name}.{node.name}": node for node in owner.body if isinstance(node, ast.FunctionDef)}
    imports = (node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "checks")
    return found, {alias.asname or alias.name for node in imports for alias in node.names}


def called(node, name, known):
    """The functions of the same file that a call names: one by its name, a class, or methods of ``self``."""
    if isinstance(node.func, ast.Name):
        return [each for each in (node.func.id, f"{node.func.id}.__init__") if each in known]
    is_own = isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
    if is_own and node.func.value.id in ("self", "cls") and "." in name:
        return [each for each in known if each.endswith(f".{node.func.attr}")]
    return []


def raises(file, name, seen=frozenset()):
    """Whether a function raises an error itself, by a check, or by another function of its file."""
    known, checks = source_of(file)
    if name not in known or name in seen:
        return False
    for node in ast.walk(known[name]):
        if isinstance(node, ast.Raise) and node.exc is not None and "NotImplementedError" not in ast.unparse(node.exc):
            return True
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in checks:
                return True
            if any(raises(file, each, seen | {name}) for each in called(node, name, known)):
                return True
    return False


def can_raise(thing):
    """Whether a public function, or making an object of a public class, raises an error by what is in its file."""
    function = inspect.unwrap(getattr(thing, "__func__", thing))
    names = (
        [f"{thing.__qualname__}.{method}" for method in ("__init__", "__post_init__")]
        if inspect.isclass(thing)
        else [getattr(function, "__qualname__", "")]
    )
    try:
        file = inspect.getsourcefile(function)
    except TypeError:  # compiled
        return False
    return any(raises(file, name) for name in names)


CANNOT_RAISE = {"explorers.Switches.restart": "what is off has been checked when it was switched off"}


@pytest.mark.parametrize("path", DOCUMENTED)
def test_docstring_says_what_is_raised(path):
    documents = "Raises" in sections(inspect.getdoc(DOCUMENTED[path]))
    assert documents or path in CANNOT_RAISE or not can_raise(DOCUMENTED[path]), f"{path} has no Raises"


def test_what_is_raised_is_found(tmp_path):
    file = tmp_path / "module.py"
    file.write_text(
        "from .checks import integer\n"
        "def direct(): raise ValueError('no')\n"
        "def checked(n): return integer('f', 'n', n)\n"
        "def through(): return direct()\n"
        "def silent(): return len([])\n"
        "class Thing:\n"
        "    def __init__(self): self.fill()\n"
        "    def fill(self): through()\n"
        "    def later(self): raise NotImplementedError\n"
        "def made(): return Thing()\n"
    )
    found = [name for name in source_of(str(file))[0] if raises(str(file), name)]
    assert found == ["direct", "checked", "through", "made", "Thing.__init__", "Thing.fill"]


# ── Examples ───────────────────────────────────────────────────────────────────────────────────────────────────────────

# Every public name has an example, which test_docs.py runs: its own, or one of its class that calls or overrides it.
WITHOUT_EXAMPLE = {
    "distributed.MPICommunicator": "needs processes that mpiexec started: tests/distributed starts them",
    "distributed.Extracted": "the result of extract, whose example shows it",
    "train.Job": "trains on files in a folder: tests/train/test_job.py and the command line do",
    "train.Options": "the settings of a Job",
    "train.Trainer.as_taken": "what fit and evaluate call on each batch",
    **{
        f"train.{name}.change": "what update calls on each array; the example of Optimizer overrides it"
        for name in ("SGD", "Adam", "AdamW", "NAdam", "RMSprop")
    },
    **{
        f"train.{name}.{hook}": "what fit calls; the example of Callback overrides it"
        for name in ("Checkpoint", "EarlyStopping")
        for hook in ("on_step", "on_epoch", "on_end")
    },
}


def is_shown(path):
    """Whether a docstring has an example, or that of its class calls it."""
    text = sections(inspect.getdoc(DOCUMENTED[path])).get("Examples", [])
    if any(">>> " in line for line in text):
        return True
    owner, _, name = path.rpartition(".")
    lines = sections(inspect.getdoc(DOCUMENTED[owner])).get("Examples", []) if owner in DOCUMENTED else []
    return any(re.search(rf"\b{name}\(", line) for line in lines)


@pytest.mark.parametrize("path", DOCUMENTED)
def test_docstring_has_an_example(path):
    excused = any(path == name or path.startswith(f"{name}.") for name in WITHOUT_EXAMPLE)
    assert is_shown(path) != excused, f"{path} has {'an' if excused else 'no'} example"


def test_the_walk_meets_what_it_should():
    assert {
        "distributed.sweep",
        "explorers.Answers.train",
        "images.resize",
        "classify.Prediction.top",
    } <= DOCUMENTED.keys()
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
