"""docs/kernels.md says what is so: its excerpts are the source's, what it names exists, its picture is current."""

import functools
import re
import runpy

import pytest
from support.processes import ROOT

PAGE = ROOT / "docs" / "kernels.md"
FIRST_READERS = ("README.md", "docs/architecture.md", "docs/contributing.md")

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="needs the source tree beside the tests")


@functools.cache
def sources():
    """Path → text of everything that a kernel is made of, in C and Cython."""
    found = [p for ending in ("h", "c", "inc", "pyx", "pxd") for p in (ROOT / "cnncore").rglob(f"*.{ending}")]
    # Beside each pyx an in-place build leaves the C code that was generated from it.
    written = [p for p in found if p.suffix != ".c" or not p.with_suffix(".pyx").exists()]
    return {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in written}


def page():
    return PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""


def prose():
    """The page without its excerpts."""
    return re.sub(r"^```.*?^```", "", page(), flags=re.DOTALL | re.MULTILINE)


def excerpts():
    return re.findall(r"^```c\n(.*?)^```", page(), flags=re.DOTALL | re.MULTILINE)


def codes():
    return sorted(set(re.findall(r"`([^`]+)`", prose())))


@functools.cache
def words_of_the_source():
    return {word for text in sources().values() for word in re.findall(r"\w+", text)}


@pytest.mark.parametrize("excerpt", excerpts(), ids=lambda text: re.search(r"\w{5,}", text)[0])
def test_an_excerpt_is_the_source(excerpt):
    assert any(excerpt in text for text in sources().values()), (
        f"docs/kernels.md shows code that is not, letter for letter, in any file under cnncore/:\n{excerpt}"
    )


def defined(name):
    """Whether K(name) is a kernel, perhaps made by a macro, or defined as a function, a constant table or a type."""
    if f"KERNEL({name})" in sources()["cnncore/kernels/kernels.inc"]:
        return True
    definition = re.compile(rf"^.*\bK\({name}\)(\(| = \{{)|^}} K\({name}\);", flags=re.MULTILINE)
    return any(definition.search(text) for text in sources().values())


@pytest.mark.parametrize("code", codes())
def test_what_is_named_exists(code):
    """A path, K(name), or words of the source: functions, types, macros."""
    if kernel := re.fullmatch(r"K\((\w+)\)", code):
        assert kernel[1] == "name" or defined(kernel[1]), f"{code} is defined nowhere"
    elif compiled := re.fullmatch(r"(\w+)_(\w+)_f(32|64)", code):
        assert f"KERNEL({compiled[1]})" in sources()["cnncore/kernels/kernels.inc"]
        assert f"cnncore/kernels/target_{compiled[2]}.c" in sources()
    elif "<" not in code and re.search(r"\.(h|c|inc|pyx|py)$", code):
        paths = [path for path in (*sources(), "tests/test_kernels_page.py") if path.endswith(code)]
        assert paths and (ROOT / paths[0]).exists(), f"there is no {code}"
    elif "<" not in code:
        unknown = set(re.findall(r"[A-Za-z_]\w+", code)) - words_of_the_source() - {"CNNCORE_TARGET"}
        assert not unknown, f"{unknown} of {code!r} is nowhere in the source"


def test_a_kernel_of_the_table_is_in_the_file_beside_it():
    rows = re.findall(r"^\| `K\((\w+)\)`.* \| `([^`]+)` \|", page(), flags=re.MULTILINE)
    assert len(rows) >= 5
    for name, path in rows:
        text = sources()[path]
        if path.endswith(("activation.h", "pool_whole.h")):  # whose tasks a macro of the strategy's name makes
            name = name.removesuffix("_forward").removesuffix("_pool")
        assert re.search(rf"\b{name}\b", text), f"{path} has no {name}"


def test_the_excerpts_are_short_and_of_both_walks():
    assert len(excerpts()) >= 10 and max(text.count("\n") for text in excerpts()) <= 8
    text = "".join(excerpts())
    assert "max_accumulate" in text and "K(multiply)" in text


@pytest.mark.parametrize("word", ["task", "tile", "panel", "stretch", "unit", "strip", "band", "run", "term", "column"])
def test_a_word_is_explained_where_it_stands_in_bold(word):
    assert re.search(rf"\*\*(A |The )?{word}s?\*\*", page())


@pytest.mark.parametrize("reader", FIRST_READERS)
def test_the_page_is_found(reader):
    assert re.search(r"\]\((docs/)?kernels\.md\)", (ROOT / reader).read_text(encoding="utf-8")), reader


# ── The picture, and the others that tools/draw.py draws ────────────────────────────────────────────────────────────────


@functools.cache
def drawn():
    return runpy.run_path(str(ROOT / "tools" / "draw.py"))["PICTURES"]


def test_the_picture_stands_on_the_page():
    assert "](kernels.svg)" in page() and "kernels.svg" in drawn()


@pytest.mark.parametrize("name", ["architecture.svg", "inception.svg", "kernels.svg"])
def test_a_picture_is_current(name):
    """Its numbers are read from the source: a constant that changes makes the picture out of date."""
    assert drawn()[name]() == (ROOT / "docs" / name).read_text(encoding="utf-8"), "run python tools/draw.py"


def test_the_picture_says_the_source_s_numbers():
    picture, gemm = drawn()["kernels.svg"](), sources()["cnncore/kernels/gemm.h"]
    for number in (*re.findall(r"#define ROWS (\d+)", gemm), *re.findall(r"#define CHAIN (\d+)", gemm)):
        assert re.search(rf"\b{number}\b", picture)
