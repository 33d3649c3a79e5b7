"""No function is so long, or nested so deeply, that one look is not enough: what has sections is cut where they are."""

import ast
import itertools
import re
import textwrap
from collections import Counter

import pytest
from support.processes import ROOT

PACKAGE = ROOT / "cnncore"
MOST_LINES = 60  # the docstring is not counted
MOST_DEPTH = 4
# (path, function) → why it may be longer, or deeper.
WINDOWS = "a formula on one screen: a loop for each axis of its sum, the innermost of which holds all the arithmetic"
PLANES = "loops over images or planes, rows and columns around one call for each place"
ROWS = "loops over planes, taps and rows; below them the runs of a row that lie inside the image and beside it"
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("cnncore/operators/activation/reference.pyx", "maxout_backward"): PLANES,
    ("cnncore/operators/columns/reference.pyx", "unfold_planes"): ROWS,
    ("cnncore/operators/columns/reference.pyx", "fold_planes"): ROWS,
    ("cnncore/operators/columns/reference.pyx", "local_forward"): WINDOWS,
    ("cnncore/operators/columns/reference.pyx", "local_backward_input"): WINDOWS,
    ("cnncore/operators/columns/reference.pyx", "local_backward_weight"): WINDOWS,
    ("cnncore/operators/columns/reference.pyx", "deformed_gradient"): WINDOWS,
    ("cnncore/operators/columns/reference.pyx", "deformed_backward_input"): WINDOWS,
    ("cnncore/operators/convolution/reference.pyx", "dx_element"): WINDOWS,
    ("cnncore/operators/convolution/reference.pyx", "dw_element"): WINDOWS,
    ("cnncore/operators/convolution/reference.pyx", "fill"): PLANES,
    ("cnncore/operators/pooling/reference.pyx", "pool_forward"): PLANES,
    ("cnncore/operators/pooling/reference.pyx", "pool_backward"): PLANES,
    ("cnncore/operators/sampling/reference.pyx", "position_sensitive_forward"): WINDOWS,
    ("cnncore/operators/shape/reference.pyx", "shuffle_rows"): PLANES,
    ("cnncore/operators/upsampling/reference.pyx", "sample_backward"): WINDOWS,
}

NESTING = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SUFFIXES = ("py", "pyx", "pxd", "c", "h", "inc")
SOURCES = sorted(path for folder in (PACKAGE, ROOT / "tools") for s in SUFFIXES for path in folder.rglob(f"*.{s}"))

pytestmark = pytest.mark.skipif(not (ROOT / "docs").exists(), reason="needs the source tree beside the tests")


def depth(node, around=0):
    """How many blocks lie within each other in a function; ``elif`` is beside its ``if``."""
    deepest = around
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            continue
        beside = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, depth(child, around + (isinstance(child, NESTING) and not beside)))
    return deepest


def python_functions(text):
    """(name, lines, depth) of every function of a Python module."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, FUNCTIONS):
            documented = ast.get_docstring(node) is not None
            docstring = node.body[0].end_lineno - node.body[0].lineno + 1 if documented else 0
            yield node.name, node.end_lineno - node.lineno + 1 - docstring, depth(node)


def depth_of_lines(lines):
    """How many blocks lie within each other in the lines of a Cython function, by their indentation."""
    deepest, brackets, opened = 0, 0, []  # blocks around a line: their indentation, and whether they are functions
    for full_line in lines:
        line = re.sub(r"""(["'])(?:\\.|(?!\1).)*\1|#.*""", "", full_line)
        indent = len(line) - len(line.lstrip())
        word = re.match(r"\s*(\w+)", line)
        continued = brackets > 0
        brackets += sum(map(line.count, "([{")) - sum(map(line.count, ")]}"))
        if word is None or continued:
            continue
        while opened and indent <= opened[-1][0]:
            opened.pop()
        if word[1] in ("if", "elif", "else", "for", "while", "with", "try", "except", "finally", "def", "class"):
            opened.append((indent, word[1] in ("def", "class")))
        if not any(of_function for _, of_function in opened):
            deepest = max(deepest, len(opened))
    return deepest


def cython_functions(text):
    """(name, lines, depth) of every function of a Cython module: from ``def`` to the last line that is further in."""
    text = re.sub(r'^ *"""[^"]*(?:"(?!"")[^"]*)*"""\n', "", text, flags=re.MULTILINE)
    lines = text.splitlines()
    for start, line in enumerate(lines):
        head = re.match(r"( *)(?:def|cdef|cpdef)\s[^=:]*?(\w+)\s*\(", line)
        if head is None:
            continue
        opened, end = 0, start
        for end in range(start, len(lines)):  # of the signature
            opened += lines[end].count("(") - lines[end].count(")")
            if opened <= 0:
                break
        if not re.search(r":\s*(#.*)?$", lines[end]):
            continue  # a declaration, without a body
        last = end
        for number in range(end + 1, len(lines)):
            inside = lines[number].startswith(head[1] + " ")
            if lines[number].strip() and not inside:
                break
            last = number if lines[number].strip() else last
        yield head[2], last - start + 1, depth_of_lines(lines[end + 1 : last + 1])


def c_functions(text):
    """(name, lines, depth) of every function, and of every macro that takes more than a line, of a C file."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL)
    text = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)
    for found in re.finditer(
        r"^(?=[A-Za-z_])([^\n;{}=]*\((?:[^;{}=#])*\))\s*\{(.*?)^\}", text, re.MULTILINE | re.DOTALL
    ):
        if not found[1].startswith(("typedef", "struct", "union", "enum")):
            name = re.search(r"(K\(\w+\)|\w+)\s*\((?!.*\)\s*\w+\s*\()", found[1], re.DOTALL)
            blocks = re.sub(r"=\s*\{[^;]*\}", "=", found[2])  # without initialisers
            deepest = around = 0
            for brace in re.findall(r"[{}]", blocks):
                around += 1 if brace == "{" else -1
                deepest = max(deepest, around)
            yield name[1] if name else found[1], found[0].count("\n") + 1, deepest
    for found in re.finditer(r"^#define (\w+)(?:.*\\\n)+", text, re.MULTILINE):
        yield found[1], found[0].count("\n") + 1, 0


def functions(path):
    """(name, lines, depth) of every function of a source file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return list(python_functions(text))
    return list(cython_functions(text) if path.suffix in (".pyx", ".pxd") else c_functions(text))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_functions_are_short_and_flat(path):
    place = path.relative_to(ROOT).as_posix()
    found = [
        f"{name}: {lines} lines, {deep} deep"
        for name, lines, deep in functions(path)
        if (lines > MOST_LINES or deep > MOST_DEPTH) and (place, name) not in EXCEPTIONS
    ]
    assert not found, f"{found}: cut it where its sections are (at most {MOST_LINES} lines, {MOST_DEPTH} deep)"


def test_exceptions_are_still_needed():
    for (place, name), reason in EXCEPTIONS.items():
        found = [row for row in functions(ROOT / place) if row[0] == name]
        assert any(lines > MOST_LINES or deep > MOST_DEPTH for _, lines, deep in found), (
            f"{place}: {name} is short: {reason}"
        )


def test_the_search_sees_length_and_depth():
    deep = "def f(x):\n" + "".join(" " * (4 * i) + "if x:\n" for i in range(1, 6)) + " " * 24 + "pass\n"
    assert list(python_functions(deep)) == [("f", 7, 5)]
    chain = "def f(x):\n    if x:\n        pass\n    elif x + 1:\n        pass\n    elif x + 2:\n        pass\n"
    assert list(python_functions(chain)) == [("f", 7, 1)]
    assert list(python_functions('def f(x):\n    """One\n    two."""\n    return x\n')) == [("f", 2, 0)]
    cython = textwrap.dedent('''
        cdef void task(void* call,
                       int64_t begin) noexcept nogil:
            """What
            it does."""
            a = 1

            b = 2

        cdef class C:
            def method(self):
                pass
        cdef int declared(int x)
    ''')
    assert list(cython_functions(cython)) == [("task", 5, 0), ("method", 2, 0)]
    nested = textwrap.dedent("""
        cdef int f(int x) noexcept:
            for i in range(3):
                with nogil:
                    if x:
                        x = (1 +
            2)
                    elif i:
                        while x:
                            x = 1
            if x:
                def inner():
                    if x:
                        if x:
                            if x:
                                if x:
                                    pass
    """)
    assert next((name, deep) for name, _, deep in cython_functions(nested)) == ("f", 4)
    c = textwrap.dedent(r"""
        /* f(x) { */
        typedef struct { int a; } K(row);
        static void K(sum)(
            int a
        ) {
            int sums[2] = {{0}, {0}};
            for (;;) {
                if (a) {
                    b();
                }
            }
        }

        #define TWO(x) \
            x; \
            x
    """)
    assert list(c_functions(c)) == [("K(sum)", 10, 2), ("TWO", 3, 0)]


def test_functions_of_every_language_are_found():
    counted = {}
    for path in SOURCES:
        counted[path.suffix] = counted.get(path.suffix, 0) + len(functions(path))
    assert counted[".py"] > 1000 and counted[".pyx"] > 300 and counted[".c"] > 30 and counted[".h"] > 300, counted


NAMED_BY_A_TEXT = ("measure_latency", "measure_memory")  # responsiveness.py calls them in processes: f"measure_{what}"


def named_once():
    """Functions, classes and constants of modules whose name stands nowhere but where they are made, decorated ones excepted."""
    texts = [path.read_text(encoding="utf-8") for path in SOURCES if path.suffix in (".py", ".pyx", ".pxd")]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")]
    words = Counter(itertools.chain.from_iterable(re.findall(r"\w+", text) for text in texts))
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body if path.suffix == ".py" else ():
            names = [target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)]
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.decorator_list:
                names = [node.name]
            yield from (f"{path.relative_to(ROOT).as_posix()}: {name}" for name in names if words[name] == 1)


def test_no_name_is_defined_and_never_used():
    assert [row for row in named_once() if not row.endswith(NAMED_BY_A_TEXT)] == []
