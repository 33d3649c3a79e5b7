"""The promises of the source itself: imports point downwards, sizes are 64 bits, targets hold only their own instructions."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import run_python

import cnncore

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
    ("numerical", "testing"),
    ("layers",),
    ("graph", "plan", "model_file", "drawing"),
    ("models", "images"),
    ("train",),
    ("io", "estimator", "distributed", "explain", "plot", "report"),
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
            assert not name.startswith("numpy"), f"{path.name} imports {name}: pointers and buffers are enough"


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

# What may be counted with a C int: numbers of dimensions, threads, settings, targets.
SMALL = r"(?:\d+|[A-Z_]+|rank|arrays|threads?|workers?|calls|len\(\w+\)|cnn_target_count\(\)|.*\bLANES\b.*|.*\bsizeof\b.*|.*_COUNT|[A-Z][A-Z0-9_]* / \d+)"


def without_comments(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".c", ".h", ".inc"):
        return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    return re.sub(r'#[^\n]*|""".*?"""', "", text, flags=re.DOTALL)


def c_sources():
    files = [*(PACKAGE / "kernels").iterdir(), *(PACKAGE / "ops").glob("*.h"), PACKAGE / "ops" / "threads.c"]
    return sorted(p for p in files if p.suffix in (".c", ".h", ".inc"))


def cython_sources():
    return sorted([*(PACKAGE / "ops").glob("*.pyx"), *(PACKAGE / "ops").glob("*.pxd")])


@pytest.mark.parametrize("path", [*c_sources(), *cython_sources()], ids=lambda p: p.name)
def test_sizes_have_64_bits(path):
    text = without_comments(path)
    # Python's own type for the number of a thread.
    text = re.sub(r"\bunsigned long \w*thread\b", "", text)
    assert not re.search(r"\blong\b", text), "C long has 32 bits on Windows and WebAssembly: use int64_t"
    for line in text.splitlines():
        match = re.search(r"\bfor \(int (\w+) = [^;]*; \1 <=? ([^;]+);", line)
        assert not match or re.fullmatch(SMALL, match[2].strip()), f"int counts up to {match[2]}: {line.strip()}"
    counters = set()
    for line in text.splitlines():
        if re.match(r"(cdef|cpdef|def)\b.*\)\s*(noexcept|except|nogil|:)", line):
            counters = set()  # a new function
        declared = re.match(r"\s+cdef int ([\w, =]+)$", line)
        if declared:
            counters |= {name.split("=")[0].strip() for name in declared[1].split(",")}
        loop = re.match(r"\s+for (\w+) in range\((.*)\):", line)
        if loop and loop[1] in counters:
            bound = loop[2].split(",")[-1].strip()
            assert re.fullmatch(SMALL, bound), f"int counts up to {bound}: {line.strip()}"


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


def disassembly(target, flags, folder):
    compiler, objdump = shutil.which("gcc") or shutil.which("cc"), shutil.which("objdump")
    if not compiler or not objdump:
        pytest.skip("needs a C compiler and objdump")
    machine = subprocess.run([compiler, "-dumpmachine"], capture_output=True, text=True, check=True).stdout
    if not machine.startswith("x86_64"):
        pytest.skip(f"these instructions are x86's; this is {machine.strip()}")
    obj = folder / f"{target}.o"
    source = PACKAGE / "kernels" / f"target_{target}.c"
    subprocess.run([compiler, *flags, "-DCNN_X86=1", "-c", str(source), "-o", str(obj)], check=True)
    code = subprocess.run([objdump, "-d", "--no-show-raw-insn", str(obj)], capture_output=True, text=True, check=True)
    symbols = subprocess.run(
        [shutil.which("nm") or "nm", "-g", "--defined-only", str(obj)], capture_output=True, text=True, check=True
    ).stdout.split()[2::3]
    return code.stdout, symbols


@pytest.mark.parametrize("target", ["baseline", "avx2", "avx512"])
def test_object_code_of_a_target(target, tmp_path):
    """Baseline code is free of AVX, the others use the width they are named after; only their table is visible."""
    tables = [n for n in ast.walk(setup_tree()) if isinstance(n, ast.Dict)]
    own = next(
        flags_in(value)
        for table in tables
        for key, value in zip(table.keys, table.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == target
    )
    code, symbols = disassembly(target, ["-O3", *flags_in(assigned("FLAGS")), *own], tmp_path)
    assert symbols == [f"cnn_target_{target}"]
    if not cnncore.cpu.kernels():
        pytest.skip("no operator has a kernel yet: there is no code to look at")
    instructions = set(re.findall(r"^\s+[0-9a-f]+:\s+(\w+)", code, re.MULTILINE))
    assert len(instructions) > 20
    avx = {i for i in instructions if i.startswith("v")}
    if target == "baseline":
        assert not avx and "ymm" not in code and "zmm" not in code
    else:
        assert avx and ("ymm" in code if target == "avx2" else "zmm" in code)
        assert target == "avx512" or "zmm" not in code


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
