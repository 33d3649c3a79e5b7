"""The promises of the source itself: imports point downwards, sizes are 64 bits, targets hold only their own instructions."""

import ast
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import run_python

import cnncore
from cnncore.ops import dispatch

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "cnncore"

# From the lowest layer to the highest; a module may import its own layer and those before it. A package stands for all of
# its modules.
LAYERS = (
    ("_version", "errors"),
    ("ops",),
    ("geometry", "threads", "cpu"),
    ("operator",),
    ("families",),
    ("catalog",),
    ("numerical", "testing", "conversion"),
    ("layers",),
    ("graph", "plan", "net", "output_kind", "surgery", "model_file", "drawing", "profile", "tuning"),
    ("models", "images", "progress"),
    ("train",),
    ("io", "estimator", "distributed", "explain", "plot", "preprocessing", "classify", "report"),
    ("cli", "__main__"),
)
LAYER = {module: number for number, modules in enumerate(LAYERS) for module in modules}

# The exceptions, all inside functions: (importer, imported) → why.
UPWARDS = {("operator", "catalog"): "unpickling an operator looks it up by name"}


def python_modules():
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def unit(parts):
    """The name in LAYERS that a module of cnncore belongs to, from its path below the package."""
    return parts[0]


def imports_of(path):
    """Modules of cnncore that a Python file imports, as parts below the package, and whether inside a function."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    if here[-1] == "__init__":
        here = here[:-1]
        package = here
    else:
        package = here[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(n) for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.Lambda)) for n in ast.walk(f)}
    for node in ast.walk(tree):
        targets = []
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            module = (*base, *(node.module.split(".") if node.module else ()))
            targets = [module] if module else [(alias.name,) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "cnncore":
            module = tuple(node.module.split(".")[1:])
            targets = [module] if module else [(alias.name,) for alias in node.names]
        elif isinstance(node, ast.Import):
            targets = [tuple(a.name.split(".")[1:]) for a in node.names if a.name.split(".")[0] == "cnncore"]
        for target in targets:
            if target:
                yield unit(target), id(node) in inner


@pytest.mark.parametrize("path", python_modules(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_point_downwards(path):
    importer = unit(path.relative_to(PACKAGE).with_suffix("").parts)
    assert importer in LAYER, f"give {importer} its place in LAYERS"
    for imported, lazily in imports_of(path):
        if imported not in LAYER:
            continue  # a name, not a module: from cnncore import max_pool
        if LAYER[imported] > LAYER[importer]:
            assert lazily and (importer, imported) in UPWARDS, f"{path.name} imports {imported}, which is above it"


def test_cython_imports_only_cython():
    for path in sorted((PACKAGE / "ops").glob("*.p[yx][xd]")):
        for module in re.findall(r"^\s*(?:from\s+(\S+)\s+c?import|c?import\s+(\S+))", path.read_text(), re.MULTILINE):
            name = module[0] or module[1]
            if name.startswith("cnncore") or name.startswith("."):
                assert name.startswith(("cnncore.ops", ".")), f"{path.name} imports {name}"
        assert "cimport numpy" not in path.read_text(), f"{path.name}: pointers and buffers are enough"


def test_kernels_know_nothing_of_python_memory_or_threads():
    for path in sorted((PACKAGE / "kernels").iterdir()):
        text = path.read_text()
        for word in ("Python.h", "malloc", "calloc", "realloc", "pthread", "<omp.h>", "abort(", "assert("):
            assert word not in text, f"kernels/{path.name} uses {word}"


def test_the_graph_names_no_operator():
    """Only rows and families know operators; the executor works from their descriptions."""
    for name in ("graph.py", "plan.py"):
        path = PACKAGE / name
        if not path.exists():
            continue
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


def c_sources():
    files = [*(PACKAGE / "kernels").iterdir(), *(PACKAGE / "ops").glob("*.h")]
    files += [PACKAGE / "ops" / name for name in ("threads.c", "memory.c")]
    return sorted(p for p in files if p.suffix in (".c", ".h", ".inc"))


def cython_sources():
    return sorted([*(PACKAGE / "ops").glob("*.pyx"), *(PACKAGE / "ops").glob("*.pxd")])


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


@pytest.mark.parametrize("path", [*c_sources(), *cython_sources()], ids=lambda p: p.name)
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
    include = f"-I{PACKAGE / 'kernels'}"
    subprocess.run([compiler, *flags, include, "-DCNN_X86=1", "-c", str(source), "-o", str(obj)], check=True)
    code = subprocess.run([objdump, "-d", "--no-show-raw-insn", str(obj)], capture_output=True, text=True, check=True)
    symbols = subprocess.run(
        [shutil.which("nm") or "nm", "-g", "--defined-only", str(obj)], capture_output=True, text=True, check=True
    ).stdout.split()[2::3]
    return code.stdout, symbols


def test_baseline_code_is_free_of_avx(tmp_path):
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
    source = PACKAGE / "kernels" / f"target_{target}.c"
    code, symbols = disassembly(source, ["-O1", *flags_in(assigned("FLAGS")), *own], tmp_path)
    assert symbols == [f"cnn_target_{target}"]
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


@pytest.mark.parametrize("source", ["kernels/dispatch.c", "ops/threads.c"])
def test_code_that_chooses_the_target_is_free_of_avx(source, tmp_path):
    """It shares an extension with the targets' code, so it is compiled for itself."""
    code, _ = disassembly(PACKAGE / source, ["-O3", *flags_in(assigned("FLAGS"))], tmp_path)
    assert len(instructions(code)) > 10 and not later_instructions(code)
    # The rest of that extension, made from dispatch.pyx, is compiled with the same flags: none chooses instructions.
    for name in ("OPTIMISE", "FLAGS", "SANITIZERS"):
        assert not [flag for flag in flags_in(assigned(name)) if flag.startswith("-m")]


@pytest.fixture(scope="module")
def installed_code():
    """Disassembly of every installed extension."""
    objdump = shutil.which("objdump")
    if platform.machine().lower() not in ("x86_64", "amd64") or not objdump:
        pytest.skip("needs objdump and an x86 machine")
    installed = Path(cnncore.ops.dispatch.__file__).parent.parent
    libraries = sorted(p for p in installed.rglob("*") if p.suffix in (".so", ".pyd"))
    return {
        path.name.split(".")[0]: subprocess.run(
            [objdump, "-d", "--no-show-raw-insn", str(path)], capture_output=True, text=True, check=True
        ).stdout
        for path in libraries
    }


def test_installed_code_outside_the_targets_is_free_of_avx(installed_code):
    """Every extension except the one that holds the targets' kernels."""
    modules = {path.stem for path in (PACKAGE / "ops").glob("*.pyx")} | {"_cyutility"}
    assert set(installed_code) == modules
    for module, code in installed_code.items():
        if module != "dispatch":
            assert len(instructions(code)) > 20 and not later_instructions(code), module


def test_installed_code_holds_every_target(installed_code):
    """The same search finds AVX where it belongs, so it would have found it elsewhere."""
    code = installed_code["dispatch"]
    assert "ymm" in code and "zmm" in code and len(later_instructions(code)) > 50


# ── Importing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


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
