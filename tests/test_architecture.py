"""The promises of the source itself: imports point downwards, sizes are 64 bits, targets hold only their own instructions."""

import ast
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.processes import ROOT, TESTS, run_python

import cnncore
from cnncore.runtime import dispatch

PACKAGE = ROOT / "cnncore"

# From the lowest layer to the highest; a module may import those of its own layer and of those before it. A folder stands
# for all that is in it, unless a longer path has a place of its own.
LAYERS = (
    ("_version", "errors", "typing"),
    ("runtime",),
    ("checks",),
    ("operators",),
    *(
        tuple(f"operators/{name}" for name in names.split())
        for names in (
            "activation dropout pooling shape",
            "arrays convolution sampling statistics transforms weighting",
            "columns comparison joining losses normalization quantization upsampling",
            "blocks indexing",
        )
    ),
    ("operators/registry", "operators/peers"),
    ("operators/custom",),
    ("nets/conversion", "nets/drawing", "nets/initialisers", "nets/model_file", "nets/parameters"),
    ("nets/structure", "nets/layers", "nets/value"),
    ("nets/operator_methods", "nets/plan"),
    ("nets/graph",),
    ("nets/description", "nets/output_kind", "nets/profile", "nets/summary", "nets/surgery", "nets/tuning"),
    ("nets/quantization", "nets/scaling"),
    ("nets/net",),
    ("nets/build", "nets"),
    ("models", "testing"),
    ("python_operators",),
    ("io",),
    ("testing/conformance",),
    ("vision",),
    ("train",),
    ("distributed", "explorers", "sklearn"),
    ("cli",),
    ("__main__",),
    ("classify", "cpu", "explain", "images", "preprocessing"),  # stubs of public names of modules that lie deeper
)
LAYER = {module: number for number, modules in enumerate(LAYERS) for module in modules}

# Families of operators that use others: whose implementations, schemas or cells of windows.
ARROWS = {
    "arrays": "activation shape",
    "blocks": "activation convolution joining normalization pooling shape",
    "columns": "convolution sampling shape",
    "comparison": "activation arrays",
    "convolution": "activation shape",
    "indexing": "arrays comparison",
    "joining": "activation arrays shape",
    "losses": "activation arrays shape",
    "normalization": "arrays shape",
    "quantization": "arrays convolution",
    "sampling": "pooling shape",
    "statistics": "arrays pooling",
    "transforms": "arrays pooling",
    "upsampling": "transforms",
    "weighting": "pooling",
}
# Within a family: the mathematics, then what is computed when, then what is declared.
ROLES = ("reference", "implementation", "schemas")
# Upwards, inside functions only: importer, imported and why.
UPWARDS = {}


def python_modules():
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def stubs():
    return sorted(p for p in PACKAGE.rglob("*.pyi") if p != PACKAGE / "__init__.pyi")


def module_path(parts):
    """Path below the package of the module, or folder, that an import names; () for a name of the package itself."""
    for length in range(len(parts), 0, -1):
        path = PACKAGE.joinpath(*parts[:length])
        if path.is_dir() or any(path.with_suffix(suffix).exists() for suffix in (".py", ".pyx", ".pxd", ".pyi")):
            return parts[:length]
    return ()


def layer(parts):
    """The longest path in LAYERS that a module lies under."""
    paths = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((path for path in paths if path in LAYER), None)


def imports_of(path):
    """Modules of cnncore that a Python file or stub imports, as parts below the package, and whether inside a function."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    package = here[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(n) for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.Lambda)) for n in ast.walk(f)}
    for node in ast.walk(tree):
        targets = []
        if isinstance(node, ast.ImportFrom):
            if node.level:
                module = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
            elif (node.module or "").split(".")[0] == "cnncore":
                module = tuple(node.module.split(".")[1:])
            else:
                continue
            module = tuple(part for part in module if part)
            targets = [(*module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            targets = [tuple(a.name.split(".")[1:]) for a in node.names if a.name.split(".")[0] == "cnncore"]
        for target in targets:
            if found := module_path(target):
                yield found, id(node) in inner


def parts_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


@pytest.mark.parametrize("path", [*python_modules(), *stubs()], ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_point_downwards(path):
    importer = layer(parts_of(path))
    assert importer is not None, "give it its place in LAYERS"
    for imported, lazily in imports_of(path):
        there = layer(imported)
        assert there is not None, f"give {'/'.join(imported)} its place in LAYERS"
        if LAYER[there] > LAYER[importer]:
            assert lazily and (importer, there) in UPWARDS, f"{'/'.join(imported)} is above it"


@pytest.mark.parametrize("path", [*python_modules(), *stubs()], ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_families_import_along_the_arrows_and_roles_in_their_order(path):
    here = parts_of(path)
    if here[0] != "operators" or len(here) < 3:
        return
    for imported, _ in imports_of(path):
        if imported[0] != "operators" or len(imported) < 3:
            continue
        if imported[1] != here[1]:
            assert imported[1] in ARROWS.get(here[1], "").split(), f"{here[1]} has no arrow to {imported[1]}"
        elif here[2] in ROLES and imported[2] in ROLES:
            assert ROLES.index(imported[2]) <= ROLES.index(here[2]), f"{here[2]} imports {imported[2]}"


def families():
    return sorted(path.parent.name for path in PACKAGE.glob("operators/*/schemas.py"))


def test_the_rules_speak_of_what_exists():
    for path in LAYER:
        assert module_path(tuple(path.split("/"))) == tuple(path.split("/")), f"there is no {path}"
    assert {f"operators/{name}" for name in families()} <= LAYER.keys()
    used = {(a, b) for a, names in ARROWS.items() for b in names.split()}
    assert used == {
        (here[1], imported[1])
        for path in [*python_modules(), *stubs(), *cython_sources()]
        if (here := parts_of(path))[0] == "operators" and len(here) == 3
        for imported in all_imports_of(path)
        if imported[0] == "operators" and len(imported) > 2 and imported[1] != here[1]
    }


def described():
    """The section of docs/architecture.md that says where things are."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return page.partition("## Where things are")[2].partition("## How a call")[0]


def test_the_page_draws_the_tree():
    drawn = {(len(indent), name) for indent, name in re.findall(r"^( {4,})(\S+)", described(), re.MULTILINE)}
    packages = {path.parent.name + "/" for path in PACKAGE.glob("*/__init__.py")} | {"kernels/"}
    modules = {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("_")}
    assert {name for depth, name in drawn if depth == 6} == packages | modules
    assert {name for depth, name in drawn if depth == 10} == {f"{role}.py" for role in ROLES[1:]} | {
        "reference.pyx",
        "kernels/*.h",
    }


def test_the_page_says_which_families_have_no_reference_of_their_own():
    text = " ".join(described().split())
    lacking = [name for name in families() if not (PACKAGE / "operators" / name / "reference.pyx").exists()]
    composed = [name for name in lacking if not [*(PACKAGE / "operators" / name).glob("*.pyx")]]
    first, *rest = [f"`{name}/`" for name in composed]
    assert f"{', '.join([first, *rest[:-1]])} and {rest[-1]} have no Cython of their own" in text
    for name in families():
        others = sorted(p.name for p in (PACKAGE / "operators" / name).glob("*.pyx") if p.stem != "reference")
        if others:
            sentence = text.partition(f"`{name}/` has ")[2].partition(
                "`reference.pyx`" if name in lacking else "beside"
            )[0]
            assert re.findall(r"`(\w+\.pyx)`", sentence) == others


def test_the_page_lists_the_arrows():
    table = re.findall(r"^\| ([\w, ]+) \| ([\w, ()]+) \|$", described(), re.MULTILINE)
    listed = {
        family: set() if uses == "none" else set(re.sub(r" \([^)]*\)", "", uses).split(", "))
        for names, uses in table
        if names != "family"
        for family in names.split(", ")
    }
    assert listed == {family: set(ARROWS.get(family, "").split()) for family in families()}


def test_no_two_files_of_tests_share_a_name():
    """The folders of the tests are no packages, so pytest would import the first for both."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_tests_mirror_the_package():
    """Each folder of Python has its folder of tests, and so has each family of operators."""
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    folders = {path.parent.name for path in TESTS.glob("*/test_*.py")}
    assert folders - {"tools"} == packages
    assert {path.parent.name for path in TESTS.glob("operators/*/test_*.py")} == set(families())


def all_imports_of(path):
    """Modules of cnncore that a Python file, a stub or a Cython file imports when it is loaded."""
    if path.suffix in (".pyx", ".pxd"):
        return set(cimports_of(path))
    return {module for module, lazily in imports_of(path) if not lazily}


def test_no_circle_of_modules():
    """Not even inside a layer, where everything might import everything, nor through a stub or what is compiled."""
    arrows = {}
    for path in [*python_modules(), *stubs(), *cython_sources()]:
        arrows.setdefault(parts_of(path), set()).update(all_imports_of(path) - {parts_of(path)})
    done = set()

    def walk(module, path):
        assert module not in path, " → ".join("/".join(m) for m in (*path, module))
        if module not in done:
            for imported in arrows.get(module, ()):
                if imported != module[: len(imported)]:  # a package that holds the module
                    walk(imported, (*path, module))
            done.add(module)

    for module in arrows:
        walk(module, ())


@pytest.mark.parametrize("family", families())
def test_a_family_has_its_roles(family):
    names = {path.name for path in (PACKAGE / "operators" / family).iterdir()}
    assert {"__init__.py", "implementation.py", "schemas.py"} <= names


def cimports_of(path):
    """Modules that a Cython file imports, as parts below the package."""
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"^\s*from\s+cnncore\.(\S+)\s+c?import", text, re.MULTILINE):
        yield tuple(name.split("."))


def test_cython_imports_only_cython():
    for path in cython_sources():
        for module in cimports_of(path):
            found = PACKAGE.joinpath(*module)
            assert any(found.with_suffix(s).exists() for s in (".pyx", ".pxd")), (
                f"{path.name} imports {'.'.join(module)}"
            )
        assert "cimport numpy" not in path.read_text(), f"{path.name}: pointers and buffers are enough"


def cython_classes(text):
    """Name and source text of every cdef class."""
    for block in re.split(r"^(?=cdef class )", text, flags=re.MULTILINE)[1:]:
        body = re.split(r"^(?=\S)", block.partition("\n")[2], flags=re.MULTILINE)[0]
        yield re.match(r"cdef class (\w+)", block)[1], body


def object_attributes(body):
    """Attributes of a cdef class that hold Python objects: extension types, containers, object."""
    declared = re.findall(
        r"^    cdef (?:readonly |public )?((?!Py_buffer)[A-Z]\w*|object|list|dict|tuple|set|str|bytes) (\w.*)$",
        body,
        re.MULTILINE,
    )
    return {name.strip() for _, names in declared for name in names.partition("#")[0].split(",") if "(" not in names}


def test_what_frees_memory_reads_nothing_that_a_collector_clears():
    """Before __dealloc__ is called the collector may have set attributes that hold objects to None."""
    seen = set()
    for path in cython_sources():
        declarations = path.with_suffix(".pxd")
        fields = dict(cython_classes(declarations.read_text(encoding="utf-8"))) if declarations.exists() else {}
        for name, body in cython_classes(path.read_text(encoding="utf-8")):
            methods = dict(
                re.findall(r"^    (?:cdef|def) [^\n]*?(\w+)\([^\n]*\n((?:(?:        [^\n]*)?\n)+)", body, re.MULTILINE)
            )
            if "__dealloc__" not in methods:
                continue
            seen.add(name)
            read, waiting = set(), ["__dealloc__"]
            while waiting:
                used = set(re.findall(r"self\.(\w+)", methods[waiting.pop()]))
                waiting += [m for m in used - read if m in methods]
                read |= used
            assert not read & object_attributes(body + fields.get(name, "")), f"{path.name}, {name}: {read}"
    assert {"Packed", "PackedWeights", "Tensor"} <= seen


def test_the_search_for_cleared_attributes_finds_one():
    assert object_attributes("    cdef Tensor a, b     # two\n    cdef int n\n    cdef readonly list rows\n") == {
        "a",
        "b",
        "rows",
    }


def test_kernels_know_nothing_of_python_memory_or_threads():
    for path in kernel_sources():
        text = path.read_text(encoding="utf-8")
        for word in ("Python.h", "malloc", "calloc", "realloc", "pthread", "<omp.h>", "abort(", "assert("):
            assert word not in text, f"{path.name} uses {word}"


def test_the_graph_names_no_operator():
    """Only families know operators; the executor works from their descriptions."""
    for name in ("graph.py", "plan.py"):
        path = PACKAGE / "nets" / name
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node)
        }
        words = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented
        }
        assert not words & set(cnncore.OPS), f"{name} names {words & set(cnncore.OPS)}"


# ── Sizes ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def without_comments(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".c", ".h", ".inc"):
        return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    return re.sub(r'#[^\n]*|""".*?"""', "", text, flags=re.DOTALL)


def kernel_sources():
    """C that is compiled once per CPU target, and what chooses among them."""
    found = {*PACKAGE.rglob("*.h"), *PACKAGE.rglob("kernels/*.c"), *PACKAGE.glob("kernels/*.inc")}
    return sorted(p for p in found if p.parent != PACKAGE / "runtime")


def c_sources():
    return sorted(p for p in PACKAGE.rglob("*") if p.suffix in (".h", ".inc")) + sorted(
        [*PACKAGE.rglob("kernels/*.c"), *(PACKAGE / "runtime" / name for name in ("threads.c", "memory.c"))]
    )


def cython_sources():
    return sorted([*PACKAGE.rglob("*.pyx"), *PACKAGE.rglob("*.pxd")])


def functions(path):
    """Source text of a file, function by function."""
    text = without_comments(path)
    if path.suffix in (".c", ".h", ".inc"):
        return text.split("\n}")
    return re.split(r"\n(?=(?:cdef|cpdef|def|class)\b)", text)


def names_of_type(c_type, text):
    """Names declared with a C type, as variables, parameters or fields."""
    names = set()
    for declaration in re.findall(rf"\b{c_type}\b(?!\s*\()([^;:()\n]*)", text):
        first, *more = declaration.split(",")
        # A parameter ends at its comma; of a declaration every name counts.
        parts = [first] if any(re.search(r"\w\s+\*?\w", part) for part in more) else [first, *more]
        names |= {m[1] for part in parts if (m := re.match(r"[\s*]*(?:const\s+)?(\w+)", part))}
    return names


FIELDS = names_of_type("int64_t", without_comments(PACKAGE / "kernels" / "calls.h"))


def negative_indices(text):
    """Subscripts and slices that count from the end."""
    return re.findall(r"[\w\])]\[(?:[^\[\]]*[:,])?\s*-\s*\w[^\[\]]*\]", text)


@pytest.mark.parametrize("path", cython_sources(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_no_index_in_cython_counts_from_the_end(path):
    """With wraparound=False index -1 reads the memory before a tuple, wherever the build is not for the limited API."""
    assert negative_indices(without_comments(path)) == []


def test_indices_that_count_from_the_end_are_found():
    text = "kernel[-1] + x[i, -2] + f(x)[: -k] + x[1:-1] + y[n - 1] + z[:, i - 1] + call([-1, 2]) + {1: -1}[1]"
    assert negative_indices(text) == ["l[-1]", "x[i, -2]", ")[: -k]", "x[1:-1]"]


@pytest.mark.parametrize("path", [*c_sources(), *cython_sources()], ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_sizes_have_64_bits(path):
    """No C long, and no int counts up to an int64_t."""
    # Python's own type for the number of a thread is the one exception; long double counts nothing.
    text = re.sub(r"\bunsigned long \w*thread\b|\blong double\b", "", without_comments(path))
    assert not re.search(r"\blong\b", text), "C long has 32 bits on Windows and WebAssembly: use int64_t"
    for function in functions(path):
        wide = names_of_type("int64_t", function)
        loops = re.findall(r"\bfor \(int (\w+) = [^;]*; \1 <=? ([^;&|]+)", function)
        narrow = names_of_type("cdef int", function)
        loops += [loop for loop in re.findall(r"\bfor (\w+) in range\((.*)\):", function) if loop[0] in narrow]
        for counter, bound in loops:
            members = set(re.findall(r"(?:\.|->)(\w+)", bound)) - names_of_type("int", text)
            plain = set(re.findall(r"(?<![.>\w])(\w+)", bound)) - {"sizeof"}
            assert not members & FIELDS and not plain & wide, f"int {counter} counts up to {bound}, which has 64 bits"


def test_the_search_for_narrow_counters_finds_one():
    assert names_of_type("int64_t", "f(int64_t rows, int64_t *n) { int64_t a = 1, b; const int64_t c; }") >= set("abc")
    assert names_of_type("cdef int", "    cdef int i, j = 0\n") == {"i", "j"}
    assert {"output", "shape", "stride", "dilation"} <= FIELDS


# ── Compiler flags and object code ─────────────────────────────────────────────────────────────────────────────────────


def setup_tree():
    return ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))


def flags_in(tree):
    """All compiler flags written down in a part of setup.py."""
    constants = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant))
    return [c for c in constants if isinstance(c, str) and re.fullmatch(r"-\S+", c)]


def assigned(name):
    (value,) = [
        n.value
        for n in ast.walk(setup_tree())
        if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", None) == name
    ]
    return value


def test_what_is_counted_has_the_width_of_a_pointer():
    """numpy.bincount refuses int64 where pointers have 32 bits, as in browsers."""
    calls = 0
    for path in python_modules():
        for function in (n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.FunctionDef)):
            code = ast.unparse(function)
            if "np.bincount(" in code:
                calls += 1
                # Bytes of images, and what numpy.unique returns, are narrow already.
                assert any(word in code for word in ("np.intp", "minlength=256", "return_inverse")), (
                    f"{path}: {function.name}"
                )
    assert calls >= 5


def test_no_flag_changes_arithmetic_or_ties_to_one_machine():
    flags = flags_in(setup_tree())
    assert "-O3" in flags
    for forbidden in ("-ffast-math", "-Ofast", "-funsafe-math-optimizations", "-march=native", "-mtune=native"):
        assert forbidden not in flags
    assert not any(f.startswith(("-fopenmp", "-ffinite-math", "-fassociative-math")) for f in flags)


# x86 instructions that need AVX, AVX-512 or BMI: VEX- and EVEX-encoded ones, in objdump's spelling.
LATER = re.compile(
    r"v\w+|k(?:add|andn?|mov|not|or|ortest|shift[lr]|test|unpck|xn?or)\w*|andn|bextr|bls(?:i|msk|r)|bzhi|mulx|pdep|pext|rorx|"
    r"s(?:ar|hl|hr)x"
)


def instructions(code):
    """The names of all instructions in a disassembly."""
    return set(re.findall(r"^\s+[0-9a-f]+:\s+(\w+)", code, re.MULTILINE))


def later_instructions(code):
    return {name for name in instructions(code) if LATER.fullmatch(name)}


def disassembly(source, flags, folder):
    compiler, objdump = shutil.which("gcc") or shutil.which("cc"), shutil.which("objdump")
    if not compiler or not objdump:
        pytest.skip("needs a C compiler and objdump")
    machine = subprocess.run([compiler, "-dumpmachine"], capture_output=True, text=True, check=True).stdout
    if not machine.startswith("x86_64"):
        pytest.skip(f"these instructions are x86's; this is {machine.strip()}")
    obj = folder / f"{source.stem}.o"
    include = [f"-I{folder}" for folder in (PACKAGE, PACKAGE / "kernels", PACKAGE / "runtime")]
    subprocess.run([compiler, *flags, *include, "-DCNN_X86=1", "-c", str(source), "-o", str(obj)], check=True)
    code = subprocess.run([objdump, "-d", "--no-show-raw-insn", str(obj)], capture_output=True, text=True, check=True)
    symbols = subprocess.run(
        [shutil.which("nm") or "nm", "-g", "--defined-only", str(obj)], capture_output=True, text=True, check=True
    ).stdout.split()[2::3]
    return code.stdout, symbols


@pytest.mark.long
@pytest.mark.parametrize(
    "folder, table", [("kernels", "cnn_target_"), ("operators/quantization/kernels", "cnn_byte_kernels_")]
)
def test_baseline_code_is_free_of_avx(folder, table, tmp_path):
    """What runs on every machine holds no instruction that some lack; only its table is visible to the linker."""
    target = "baseline"
    tables = [n for n in ast.walk(setup_tree()) if isinstance(n, ast.Dict)]
    own = next(
        flags_in(value)
        for table in tables
        for key, value in zip(table.keys, table.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == target
    )
    # Which instructions may be used depends on -m flags alone; -O1 compiles many times faster than -O3.
    source = PACKAGE / folder / f"target_{target}.c"
    code, symbols = disassembly(source, ["-O1", *flags_in(assigned("FLAGS")), *own], tmp_path)
    assert symbols == [f"{table}{target}"]
    assert len(instructions(code)) > 20
    assert not later_instructions(code)
    assert "ymm" not in code and "zmm" not in code


def test_no_kernel_uses_mmx():
    """Its registers are those of the x87 unit, in which long doubles would be NaN from then on."""
    if not shutil.which("objdump"):
        pytest.skip("needs objdump")
    code = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", dispatch.__file__], capture_output=True, text=True, check=True
    )
    assert len(instructions(code.stdout)) > 20
    assert not re.findall(r"%mm[0-7]\b.*", code.stdout)


@pytest.mark.parametrize(
    "source", ["kernels/dispatch.c", "runtime/threads.c", "operators/quantization/kernels/targets.c"]
)
def test_code_that_chooses_the_target_is_free_of_avx(source, tmp_path):
    """It shares an extension with the targets' code, so it is compiled for itself."""
    code, _ = disassembly(PACKAGE / source, ["-O3", *flags_in(assigned("FLAGS"))], tmp_path)
    assert len(instructions(code)) > 5 and not later_instructions(code)
    # The rest of that extension, made from dispatch.pyx, is compiled with the same flags: none chooses instructions.
    for name in ("LEVEL", "OPTIMISE", "FLAGS", "SANITIZERS"):
        assert not [flag for flag in flags_in(assigned(name)) if flag.startswith("-m")]


@pytest.fixture(scope="module")
def installed_code():
    """Disassembly of every installed extension."""
    objdump = shutil.which("objdump")
    if platform.machine().lower() not in ("x86_64", "amd64") or not objdump:
        pytest.skip("needs objdump and an x86 machine")
    installed = Path(cnncore.runtime.dispatch.__file__).parent.parent
    libraries = sorted(p for p in installed.rglob("*") if p.suffix in (".so", ".pyd"))
    return {
        ".".join((*path.relative_to(installed).parts[:-1], path.name.split(".")[0])): subprocess.run(
            [objdump, "-d", "--no-show-raw-insn", str(path)], capture_output=True, text=True, check=True
        ).stdout
        for path in libraries
    }


WITH_KERNELS = ("runtime.dispatch", "operators.quantization.integers")


def test_installed_code_outside_the_targets_is_free_of_avx(installed_code):
    """Every extension except those that hold the targets' kernels."""
    modules = {".".join(parts_of(path)) for path in PACKAGE.rglob("*.pyx")} | {"_cyutility"}
    assert set(installed_code) == modules
    for module, code in installed_code.items():
        if module not in WITH_KERNELS:
            assert len(instructions(code)) > 20 and not later_instructions(code), module


def test_installed_code_holds_every_target(installed_code):
    """The same search finds AVX where it belongs, so it would have found it elsewhere."""
    for module in WITH_KERNELS:
        code = installed_code[module]
        assert "ymm" in code and "zmm" in code and len(later_instructions(code)) > 30


# ── Importing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tests_share_through_support_alone():
    """What several tests use has a place and a name in tests/support, or is a fixture of their folder's conftest.py."""
    found = []
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [f"{path.relative_to(TESTS)}: {name}" for name in names if name.split(".")[0].startswith("test_")]
    assert not found


def test_the_nearest_name_is_looked_for_in_one_place():
    """Every unknown name is reported by ``errors.unknown_name``, in the same words."""
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyx")])
        if re.search(r"^\s*(from|import) difflib|get_close_matches", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert found == ["errors.py"], "use errors.unknown_name"


def test_import_is_light():
    """scipy and the optional packages are imported when they are used."""
    heavy = ("scipy", "torch", "onnx", "matplotlib", "PIL", "tqdm", "sklearn", "pandas", "multiprocessing.pool")
    source = f"import sys, cnncore; print([m for m in {heavy!r} if m in sys.modules])"
    assert run_python(source).stdout.strip() == "[]"


def test_public_names_are_documented():
    for name in cnncore.__all__:
        thing = getattr(cnncore, name)
        if name not in ("OPS", "__version__"):
            assert (thing.__doc__ or "").strip(), f"cnncore.{name} has no docstring"


def test_modules_and_what_they_export_explain_themselves():
    for path in python_modules():
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        assert not source.strip() or ast.get_docstring(tree) or path.name == "_version.py", f"{path} has no docstring"
        exported = [
            ast.literal_eval(n.value)
            for n in tree.body
            if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", None) == "__all__"
        ]
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and exported and node.name in exported[0]:
                assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"


FORBIDDEN_NAMES = ("utils", "helpers", "common", "misc", "base")


def test_module_names_say_what_is_inside():
    for path in PACKAGE.rglob("*.py*"):
        assert path.stem not in FORBIDDEN_NAMES and not path.stem.endswith(("_impl", "_v2")), path


# `[… for … in …]` that is a statement's value; iterations of `all(… for …)` and dictionaries are other code.
LIST_COMPREHENSION = re.compile(r"\[[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*\sfor\s[^\[\]]*\sin\s")


@pytest.mark.parametrize("path", cython_sources(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_cython_appends_in_loops(path):
    # Cython 3.3 frees a comprehension's new element twice when the list cannot grow.
    assert not LIST_COMPREHENSION.findall(without_comments(path))


def test_list_comprehensions_are_found():
    found = ["y = [f(x) for x in z]", "y = [a[0] for a in z]", "tuple([g(a[i]) + 1 for i in range(4)])"]
    others = ["all(x for x in y)", "{row.name: row for row in rows}", "x[i] = a\nfor j in range(n):\n    b[j]"]
    assert all(LIST_COMPREHENSION.search(text) for text in found)
    assert not any(LIST_COMPREHENSION.search(text) for text in others)
