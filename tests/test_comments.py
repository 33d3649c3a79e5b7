"""Comments, docstrings and pages name files that are there: whoever follows a name arrives."""

import ast
import io
import re
import tokenize

import pytest
from support.processes import ROOT

FOLDERS = ("cnncore", "tests", "tools", "docs")
SUFFIXES = (".py", ".pyx", ".pxd", ".c", ".h", ".inc", ".md")
FILES = sorted(
    path
    for path in [*(p for folder in FOLDERS for p in (ROOT / folder).rglob("*")), *ROOT.glob("*.md"), ROOT / "setup.py"]
    if path.suffix in SUFFIXES and path.is_file() and "__pycache__" not in path.parts
)
PATHS = {path.relative_to(ROOT).as_posix() for path in FILES}
NAMES = {path.name for path in FILES}
NAMED = re.compile(r"(?<![\w./<>*-])((?:[\w-]+/)*[\w-]+\.(?:py|pyx|pxd|c|h|inc|md))(?![\w(/[]|\.\w)")
# Files of others, and files that a command writes where it is told to.
ELSEWHERE = {
    "Changelog.md": "ONNX",
    "FILE.py": "an adapter of the user's, for cnncore conform",
    "Python.h": "CPython",
    "pyconfig.h": "CPython, configured for the machine",
    "my_framework.py": "an adapter of the user's, for cnncore conform",
    "results.md": "tools/bench.py --output",
    "solution.py": "students, for cnncore grade",
}

pytestmark = pytest.mark.skipif(not (ROOT / "docs").exists(), reason="needs the source tree beside the tests")


def python_prose(text):
    """Comments and docstrings of Python source."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            yield ast.get_docstring(node) or ""


def prose(path):
    """What a file says to its readers."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return list(python_prose(text))
    if path.suffix in (".pyx", ".pxd"):
        return re.findall(r"#[^\n]*|\"\"\".*?\"\"\"", text, re.DOTALL)
    if path.suffix in (".c", ".h", ".inc"):
        return re.findall(r"/\*.*?\*/|//[^\n]*", text, re.DOTALL)
    return [text]


def missing(path):
    """The files that ``path`` names and that are not there: by name alone, or by the end of a path."""
    found = [name for text in prose(path) for name in NAMED.findall(text)]
    return [
        name
        for name in found
        if name.split("/")[-1] not in ELSEWHERE
        and not (name in NAMES if "/" not in name else any(f"/{there}".endswith(f"/{name}") for there in PATHS))
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_that_are_named_exist(path):
    assert not missing(path)


def test_the_search_finds_a_name(tmp_path):
    (tmp_path / "a.py").write_text(
        '"""See no_such_file.py, runtime/no.c and errors.py; x.c[0] and f.h() are no files."""\n'
    )
    assert missing(tmp_path / "a.py") == ["no_such_file.py", "runtime/no.c"]
