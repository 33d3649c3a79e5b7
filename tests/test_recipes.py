"""docs/recipes/ promises what an addition takes. Here every page is followed to the letter, all in one copy of the source.

The copy has the package, tests, tools and pages. What a page says under "Write it" is written and built; then the tests ask for
the rest, each thing in the file that the page names; with it they pass. A planted error per page is caught by the same tests.
"""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from support.processes import ROOT, SLOW

import cnncore

RECIPES = ROOT / "docs" / "recipes"
COMPILED = Path(cnncore.__file__).parent
ASKED = "## What the tests ask for"

pytestmark = [
    pytest.mark.skipif(not RECIPES.exists(), reason="needs the source tree beside the tests"),
    pytest.mark.skipif(SLOW, reason="builds and tests what the other builds test"),
    pytest.mark.skipif(importlib.util.find_spec("Cython") is None, reason="needs Cython to compile the additions"),
    pytest.mark.skipif(
        importlib.util.find_spec("setuptools") is None, reason="needs setuptools to compile the additions"
    ),
    pytest.mark.timeout(900),
]


class Recipe(NamedTuple):
    """A page: the name that its addition has in the names of tests, tests that run at least, and an error that they catch.

    ``needs`` is a package without which nothing of the page can be tested.
    """

    name: str
    least: int
    file: str
    right: str
    wrong: str
    caught_by: str
    needs: str = "numpy"


PAGES = {
    "pooling_strategy": Recipe(
        "rms_pool",
        100,
        "cnncore/operators/pooling/reference.pyx",
        "dy * x[i] / (window.n * y)",
        "dy * x[i] / y",  # the factor 1/n forgotten
        "test_as_pytorch or test_gradient",
    ),
    "activation": Recipe(
        "squared_relu",
        40,
        "cnncore/operators/activation/reference.pyx",
        "else 2 * x",
        "else x",
        "test_knees or test_planted",
    ),
    "convolution_algorithm": Recipe(
        "small_tiles",
        4,  # some of them once for every CPU target of the machine
        "cnncore/operators/convolution/reference.pyx",
        "    return scratch_of_units(p, of)\n\n\ncdef Correlator SMALL",
        # the tasks, more now, are not counted anew
        "    return p.x_bytes + p.y_bytes + p.taps[0] * p.taps[1] * p.taps[2] * 8\n\n\ncdef Correlator SMALL",
        "test_an_algorithm",
    ),
    "layer_with_parameters": Recipe(
        "low_rank_conv",
        40,
        "cnncore/operators/blocks/schemas.py",
        '("few", "v", "b")',
        '("few", "v")',  # the bias left out
        "test_as_the_paper_says",
    ),
    "onnx_operator": Recipe(
        "SwiGLU",
        2,
        "cnncore/io/onnx_import/operators.py",
        "z = a if alpha == 1 else",
        "z = a if alpha else",  # alpha of any value is taken for 1
        "own_cases",
        needs="onnx",
    ),
}


FOLLOWED = [name for name, recipe in PAGES.items() if importlib.util.find_spec(recipe.needs)]


# ── Pages ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Step(NamedTuple):
    """A block of a page, and where it goes: before the one line that begins with ``above``, or at the end of ``end``."""

    file: str
    above: str | None
    end: str | None
    block: str
    asked: bool


def words(text):
    """A pattern for ``text`` however its lines are broken."""
    return text.replace(" ", r"\s+")


STEP = re.compile(
    words(r"[Ii]n `([^`]+)`, (?:above the line that begins with `([^`]+)`|at the end of (?:the file|`(\w+)`)):")
    + r"\n\n```(?:python|cython)\n(.*?)```",
    flags=re.DOTALL,
)


def page(name):
    return (RECIPES / f"{name}.md").read_text(encoding="utf-8")


@functools.cache
def steps(name):
    text = page(name)
    begins = text.index(ASKED)
    return [
        Step(m[1], m[2] and " ".join(m[2].split()), m[3], m[4], asked=m.start() > begins) for m in STEP.finditer(text)
    ]


def line_of(lines, start, what):
    found = [i for i, line in enumerate(lines) if line.strip().startswith(start)]
    assert len(found) == 1, f"{len(found)} lines begin with {start!r} in {what}"
    return found[0]


def follow(step, folder):
    """Do what a step says."""
    path = folder / step.file
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if step.above is not None:
        place = line_of(lines, step.above, step.file)
    elif step.end is None:
        place = len(lines)
    else:
        first = next(i for i, line in enumerate(lines) if line.startswith(f"{step.end} = "))
        place = next(i for i, line in enumerate(lines) if i > first and line[0] in ")}]")
    lines.insert(place, step.block)
    path.write_text("".join(lines), encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_how_much_it_takes(name):
    files = len({step.file for step in steps(name)})
    lines = sum(1 for step in steps(name) for line in step.block.splitlines() if line.strip())
    takes = f"{files} file{'s' * (files > 1)}, {lines} lines"
    assert f"**{takes}.**" in page(name), f"docs/recipes/{name}.md should say **{takes}.**"
    index = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    assert f"](recipes/{name}.md) | {files} | {lines} |" in index


def test_other_pages_say_the_same():
    """What a page that links to a recipe says that it takes; and no page has another figure."""
    found = 0
    for path in (ROOT / "docs").rglob("*.md"):
        for name, takes in re.findall(r"recipes/(\w+)\.md\)([^.]*\blines\b[^.]*)", path.read_text(encoding="utf-8")):
            said = re.search(words(r"(\d+) lines in (\d+) files?"), takes)
            assert said, f"{path.name}: say how many lines in how many files {name} takes"
            assert f"**{said[2]} file{'s' * (said[2] != '1')}, {said[1]} lines.**" in page(name), path.name
            found += 1
    assert found


def test_every_block_of_code_is_a_step():
    for name in PAGES:
        assert len(steps(name)) == len(re.findall(r"^```\w+$", page(name), flags=re.MULTILINE)), name


def test_the_index_has_every_page():
    index = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    assert {path.stem for path in RECIPES.glob("*.md")} == set(PAGES)
    assert all(f"](recipes/{name}.md)" in index for name in PAGES)


# ── The copy of the source ─────────────────────────────────────────────────────────────────────────────────────────────

WHOLE = ("cnncore", "tests", "tools", "docs")
SINGLE = ("setup.py", "pyproject.toml", "README.md", "LICENSE")


def run(folder, *command, timeout=800, **more):
    """A Python process whose cnncore is the copy's, with ``more`` variables in its environment."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "CNNCORE_TARGET"))}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(folder), **more},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def compile_in(folder, modules):
    """Build the extensions ``modules`` in place; the others are the package under test as it was compiled."""
    others = [
        path for path in (folder / "cnncore").rglob("*.pyx") if path.relative_to(folder).as_posix() not in modules
    ]
    for path in others:
        path.rename(path.with_suffix(".aside"))
        (compiled,) = (
            found
            for found in (COMPILED / path.parent.relative_to(folder / "cnncore")).glob(f"{path.stem}.*")
            if found.suffix in (".so", ".pyd")
        )
        shutil.copy2(compiled, path.parent)
    done = run(folder, "setup.py", "-q", "build_ext", "--inplace", CFLAGS=f"{os.environ.get('CFLAGS', '')} -O0")
    assert done.returncode == 0, done.stderr[-3000:]
    for path in others:
        path.with_suffix(".aside").rename(path)


def modules_of_pages():
    return {step.file for name in FOLLOWED for step in steps(name) if step.file.endswith(".pyx")}


def files_defining(folder, tests):
    """Files of the copy that define a test whose name contains one of ``tests``: the others need not be collected."""
    defined = re.compile(rf"^\s*def \w*({'|'.join(tests)})", flags=re.MULTILINE)
    return [path for path in sorted((folder / "tests").rglob("test_*.py")) if defined.search(path.read_text("utf-8"))]


def outcomes_of(folder, expression, tests=()):
    """Test → (outcome, text) of the copy's suite, as far as ``expression`` selects.

    ``tests``, where given, are names of which ``expression`` asks for one.
    """
    report = folder / "report.xml"
    done = run(
        folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", folder / "pyproject.toml", "-k", expression,
        f"--junitxml={report}", f"--ignore={folder / 'tests' / 'test_recipes.py'}",
        *(files_defining(folder, tests) if tests else [folder / "tests"]),
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout[-3000:] + done.stderr[-3000:]
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        problems = [child for child in case if child.tag in ("failure", "error", "skipped")]
        key = f"{case.get('classname')}::{case.get('name')}"
        outcomes[key] = (
            (problems[0].tag, problems[0].text or problems[0].get("message")) if problems else ("passed", "")
        )
    return outcomes


def copy_of_the_source(folder):
    """With what the pages say under "Write it", compiled."""
    folder.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", "_cyutility.c", ".hypothesis")
    for name in WHOLE:
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in SINGLE:
        shutil.copy2(ROOT / name, folder / name)
    for name in FOLLOWED:
        for step in steps(name):
            if not step.asked:
                follow(step, folder)
    compile_in(folder, modules_of_pages())


def complete(folder):
    """Do the rest of what the pages say: what the tests ask for, and the tools."""
    operators = []
    for name in FOLLOWED:
        for step in steps(name):
            if step.asked:
                follow(step, folder)
        operators += re.findall(r"^    python tools/dev\.py generate (\w+)$", page(name), flags=re.MULTILINE)
    tools = [("generate.py", *operators)]
    if "onnx_operator" in FOLLOWED:
        tools.append(("onnx_cases.py", PAGES["onnx_operator"].name))
    for command in tools:
        done = run(folder, f"tools/{command[0]}", *command[1:])
        assert done.returncode == 0, done.stdout + done.stderr


# Of which one message says what is missing; an operator of ONNX is asked for by its own cases.
ASKING = ("brings_all_that_is_asked_for", "own_cases", "on_the_page")


def chosen():
    """(page, recipe) of those that are followed."""
    return [(name, PAGES[name]) for name in FOLLOWED]


def of_page(outcomes, name, *tags):
    """Test → text, of the tests of a page's addition with one of these outcomes."""
    named = PAGES[name].name.lower()
    return {test: text for test, (tag, text) in outcomes.items() if named in test.lower() and tag in tags}


def wrongly_asked(outcomes):
    """Pages of which the tests do not name every file in which something is missing, or another one."""
    known = {step.file for name in FOLLOWED for step in steps(name) if step.asked}
    for name in FOLLOWED:
        said = "\n".join(of_page(outcomes, name, "failure", "error").values())
        expected = {step.file for step in steps(name) if step.asked}
        if name == "onnx_operator":
            named = {path for path in known if path in said}
        else:
            named = {path for path in known if re.search(rf"^(E +)?{re.escape(path)}: ", said, flags=re.MULTILINE)}
        if named != expected:
            yield f"docs/recipes/{name}.md: {sorted(expected)} are to be asked for, but the tests say:\n{said}"


def failing(outcomes):
    """Pages on whose addition a test fails, or of which too few ran."""
    for name, recipe in chosen():
        for test, text in of_page(outcomes, name, "failure", "error").items():
            yield f"docs/recipes/{name}.md was followed, and {test} fails:\n{text[-3000:]}"
        count = len(of_page(outcomes, name, "passed"))
        if count < recipe.least:
            yield f"docs/recipes/{name}.md: {count} tests ran on {recipe.name}; expected {recipe.least}"


def copy_with_errors(folder, copy):
    """Another copy, with the planted error of every page, to be compiled."""
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
    for _, recipe in chosen():
        path = copy / recipe.file
        text = path.read_text(encoding="utf-8")
        assert text.count(recipe.right) == 1, recipe
        path.write_text(text.replace(recipe.right, recipe.wrong), encoding="utf-8")


def uncaught(outcomes):
    """Pages whose planted error no test noticed."""
    for name, recipe in chosen():
        if not of_page(outcomes, name, "failure"):
            count = len(of_page(outcomes, name, "passed"))
            yield f"docs/recipes/{name}.md: with {recipe.wrong!r} for {recipe.right!r}, {count} tests passed and none failed"


@pytest.mark.long
def test_every_page_is_true(tmp_path):
    """One test for all pages: they share the copy and its build, which take most of the time."""
    folder, copy = tmp_path / "source", tmp_path / "source with errors"
    copy_of_the_source(folder)
    names = " or ".join(recipe.name for _, recipe in chosen())
    problems = [*wrongly_asked(outcomes_of(folder, f"({' or '.join(ASKING)}) and ({names})", ASKING))]
    complete(folder)
    copy_with_errors(folder, copy)
    with ThreadPoolExecutor(1) as other:  # one processor compiles the errors while another tests what is right
        compiling = other.submit(compile_in, copy, modules_of_pages())
        problems += failing(outcomes_of(folder, names))
        compiling.result()
    catching = " or ".join(f"({recipe.name} and ({recipe.caught_by}))" for _, recipe in chosen())
    catchers = [test for _, recipe in chosen() for test in recipe.caught_by.split(" or ")]
    problems += uncaught(outcomes_of(copy, catching, catchers))
    assert not problems, "\n\n".join(problems)
