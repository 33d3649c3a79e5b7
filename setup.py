"""Extensions of cnncore; everything else is in pyproject.toml.

Each kernel source is compiled once per CPU target, from two-line files, with that target's flags (no -march=native, never
-ffast-math: it would switch the whole process to flush-to-zero). The targets' objects are linked into one extension.

All processors compile, and only what has changed is compiled again: `pip install .` in a tree that was built before takes
seconds. Environment variables that change a build, each with 1 for yes:

    CNNCORE_DEBUG       bounds checks on, optimisation down
    CNNCORE_SANITIZE    address and undefined-behaviour sanitizers
    CNNCORE_EMULATE     the avx512 kernels for processors without AVX-512: as wide, in two halves, to test them there
    CNNCORE_COVERAGE    lines of Cython are traced, for `python tools/dev.py coverage`
    CNNCORE_NO_ABI3     for this version of Python alone, without the stable ABI
    CNNCORE_JOBS        how many files are compiled at a time, instead of one per processor

CC, CFLAGS and LDFLAGS are heeded as everywhere; builds that differ in any of these never share a compiled file. What is compiled
is for the machine of `sysconfig.get_platform()`, which cross-compiling tools set by _PYTHON_HOST_PLATFORM.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import Cython
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

try:
    from setuptools.errors import CCompilerError, CompileError, ExecError, PlatformError
except ImportError:
    from setuptools.errors import CompileError, ExecError, PlatformError

    CCompilerError = CompileError


def asked(name):
    return os.environ.get(name, "0") not in ("", "0")


DEBUG, SANITIZE, COVERAGE = asked("CNNCORE_DEBUG"), asked("CNNCORE_SANITIZE"), asked("CNNCORE_COVERAGE")
EMULATE = asked("CNNCORE_EMULATE")
JOBS = int(os.environ.get("CNNCORE_JOBS", "0")) or len(
    getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
)
WINDOWS, MAC = sys.platform == "win32", sys.platform == "darwin"
STABLE_ABI = (
    sys.implementation.name == "cpython"
    and not sysconfig.get_config_var("Py_GIL_DISABLED")
    and not COVERAGE  # lines cannot be traced through the stable ABI
    and not asked("CNNCORE_NO_ABI3")
)
PACKAGE, KERNELS = "cnncore", "cnncore/kernels"
# The one module that holds the kernels' table, the thread pool and the memory; the others reach them through it.
RUNTIME, DISPATCH = "cnncore/runtime", "cnncore.runtime.dispatch"
# Kernels of 8-bit numbers, which are the same for both precisions, have a table and an extension of their own.
BYTES, INTEGERS = "cnncore/operators/quantization/kernels", "cnncore.operators.quantization.integers"
UTILITIES = "cnncore._cyutility"  # what Cython's modules share
SYSTEM = (f"{KERNELS}/dispatch.c", f"{RUNTIME}/threads.c", f"{RUNTIME}/memory.c")
INCLUDE = [PACKAGE, KERNELS, RUNTIME]
NO_COMPILER = (
    "cnncore is compiled from source and found no working C compiler. Install one and try again: "
    "Debian/Ubuntu `apt install gcc python3-dev`, Fedora `dnf install gcc python3-devel`, macOS `xcode-select --install`, "
    "Windows: clang from the Visual Studio Build Tools (clang-cl; Microsoft's own compiler lacks vectors)."
)

# ── The machine to compile for, and its CPU targets ────────────────────────────────────────────────────────────────────

if MAC and sysconfig.get_platform().endswith("universal2") and "ARCHFLAGS" not in os.environ:
    # A Python for two kinds of processors: here the kernels of the one that is at work.
    os.environ["ARCHFLAGS"] = f"-arch {platform.machine()}"
    os.environ["_PYTHON_HOST_PLATFORM"] = sysconfig.get_platform().replace("universal2", platform.machine())

MACHINE = sysconfig.get_platform().lower()  # "linux-x86_64", "macosx-14.0-arm64", "win-amd64" …
if MACHINE.endswith(("x86_64", "amd64")):
    FAMILY = [("CNN_X86", "1")]
    TARGETS = {
        # Without MMX: GCC moves eight bytes by way of its registers, and leaves the x87 unit, which shares them, unusable.
        "baseline": ["-mno-mmx"],
        "avx2": ["-mavx2", "-mfma"],
        "avx512": [
            "-mavx512f",
            "-mavx512vl",
            "-mavx512bw",
            "-mavx512dq",
            "-mavx2",
            "-mfma",
            "-mprefer-vector-width=512",
        ],
    }
    if EMULATE:
        FAMILY.append(("CNN_EMULATED_AVX512", "1"))
        TARGETS["avx512"] = [*TARGETS["avx2"], "-Wno-psabi"]
elif MACHINE.endswith(("aarch64", "arm64")):
    FAMILY = [("CNN_ARM", "1")]
    TARGETS = {"baseline": [], "neon": []}
else:
    FAMILY = []
    TARGETS = {"baseline": []}

# ── Flags ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

LEVEL_ASKED_FOR = re.search(r"(^|\s)-O", os.environ.get("CFLAGS", ""))  # it stands before ours, which would win
LEVEL = [] if LEVEL_ASKED_FOR else ["-O1"] if DEBUG or SANITIZE or COVERAGE else ["-O3"]
OPTIMISE = [*LEVEL, "-g" if DEBUG or SANITIZE else "-g0"]
# Reference implementations, and kernels for processors that have a faster target: unrolled they would add 0.2 MB to the wheel.
SHORT = ["-O2"] if "-O3" in LEVEL else []
# Nothing throws through this code, and where a thread is ended the C library does without them: tables to unwind frames would
# add 120 kB to the wheel.
NO_TABLES = [] if DEBUG or SANITIZE or MAC or WINDOWS else ["-fno-asynchronous-unwind-tables"]
# errno and floating-point traps are not used; without these two flags a comparison cannot become a vector select.
FLAGS = [
    *OPTIMISE,
    "-std=gnu11",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-Wno-unused-function",
]
LINK = [] if DEBUG or SANITIZE or MAC or WINDOWS else ["-Wl,-s"]
if SANITIZE:
    SANITIZERS = ["-fsanitize=address,undefined", "-fno-wrapv", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    FLAGS += SANITIZERS
    LINK += ["-fsanitize=address,undefined"]

MACROS = list(FAMILY)
if STABLE_ABI:
    MACROS.append(("Py_LIMITED_API", "0x030B0000"))
if COVERAGE:
    MACROS += [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "nonecheck": DEBUG,
    "cdivision": True,  # in every build: 1 / 0 is infinity, where Cython's own division would raise
    "embedsignature": False,
    "freethreading_compatible": True,
    "linetrace": COVERAGE,
}


def for_compiler(flags):
    """The same flags as the compiler at hand spells them: clang-cl takes those of clang behind /clang:."""
    if not WINDOWS:
        return flags
    return [
        flag if flag.startswith(("-m", "-W")) else f"/clang:{flag}" for flag in flags if flag != "-fvisibility=hidden"
    ]


def digest(*what):
    """A name for what a compiled file depends on beside its sources."""
    return hashlib.sha256(repr(what).encode()).hexdigest()[:12]


# ── What depends on what ───────────────────────────────────────────────────────────────────────────────────────────────


@cache
def included(path):
    """The headers of ours that a C or Cython file includes, and those that they include."""
    if not path.exists():
        return {}  # written by the build itself
    names = re.findall(
        r'^\s*(?:#\s*include|cdef extern from) "([^"]+)"', path.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    found = {}
    for name in names:
        header = next((f for f in (path.parent / name, *(Path(i) / name for i in INCLUDE)) if f.exists()), None)
        if header is not None:
            found |= {header.as_posix(): None, **included(header)}
    return found


def extension(name, sources):
    declarations = Path(PACKAGE).rglob("*.pxd")  # through which a Cython file includes what others declare
    return Extension(
        name,
        sources,
        include_dirs=INCLUDE,
        define_macros=MACROS,
        extra_compile_args=for_compiler(
            FLAGS + NO_TABLES + (SHORT if name in (UTILITIES, INTEGERS) or name.endswith(".reference") else [])
        ),
        extra_link_args=LINK,
        libraries=[] if WINDOWS else ["m"],  # a statically linked interpreter does not bring it
        py_limited_api=STABLE_ABI,
        depends=sorted({header for file in [*map(Path, sources), *declarations] for header in included(file)}),
    )


# ── Commands ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class BuildExtensions(build_ext):
    """Translates and compiles on all processors what is not current, the CPU targets' kernels with their own flags."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or JOBS

    def build_extensions(self):
        self.check_extensions_list(self.extensions)
        if self.compiler.compiler_type == "msvc":
            self.use_clang()
        tools = [getattr(self.compiler, name, None) for name in ("compiler_so", "linker_so")]
        flavour = digest(
            tools, sysconfig.get_path("include"), TARGETS, FLAGS, SHORT, NO_TABLES, LINK, MACROS, DIRECTIVES
        )
        self.build_temp = os.path.join("build", f"objects-{flavour}")
        # Compiled where the next build finds it, then copied: pip asks for an editable installation in a new folder each time.
        asked_for, self.build_lib = self.build_lib, os.path.join("build", f"extensions-{flavour}")
        self.translate()
        try:
            self.compile_all()
        except (CCompilerError, CompileError, ExecError, PlatformError) as error:
            if self.compiler_works():
                raise
            raise SystemExit(NO_COMPILER) from error
        compiled = [self.get_ext_fullpath(e.name) for e in self.extensions]
        self.build_lib = asked_for
        for file, extension in zip(compiled, self.extensions, strict=True):
            self.mkpath(os.path.dirname(self.get_ext_fullpath(extension.name)))
            self.copy_file(file, self.get_ext_fullpath(extension.name))

    def compile_all(self):
        """Every file that is not current, the kernels first because they take longest."""
        linking = {DISPATCH: KERNELS, INTEGERS: BYTES}
        with ThreadPoolExecutor(int(self.parallel)) as pool:
            with_kernels = [
                (e, [pool.submit(self.kernels_of, linking[e.name], target) for target in TARGETS])
                for e in sorted(self.extensions, key=lambda e: e.name != DISPATCH)
                if e.name in linking
            ]
            others = [pool.submit(self.build_extension, e) for e in self.extensions if e.name not in linking]
            for extension, kernels in with_kernels:
                extension.extra_objects += [kernel.result() for kernel in kernels]
                extension.depends += extension.extra_objects
                self.build_extension(extension)
            for other in others:
                other.result()

    def translate(self):
        """Cython to C, where a source, a declaration or Cython itself has changed: by contents, not by date, since pip brings
        a new Cython along for each build."""
        declarations = [path.read_bytes() for path in sorted(Path(PACKAGE).rglob("*.pxd"))]
        folder = Path("build", f"cython-{digest(Cython.__version__, DIRECTIVES, declarations)}")
        record = folder / "translated.json"
        known = json.loads(record.read_text()) if record.exists() else {}
        c_folder = Path() if COVERAGE else folder  # coverage looks for C beside its source
        stale = []
        for extension in self.extensions:
            source = Path(extension.sources[0])
            now = digest(source.read_bytes()) if source.suffix == ".pyx" else "written by Cython"
            extension.sources[0] = (c_folder / source.with_suffix(".c")).as_posix()
            if known.get(extension.name) != now or not Path(extension.sources[0]).exists():
                stale.append(Extension(extension.name, [source.as_posix()]))
                known[extension.name] = now
        cythonize(
            stale,
            force=True,
            nthreads=int(self.parallel),
            build_dir=c_folder.as_posix(),
            shared_utility_qualified_name=UTILITIES,
            include_path=["."],
            compiler_directives=DIRECTIVES,
        )
        folder.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(known))

    def kernels_of(self, folder, target):
        """The object file of a CPU target's kernels of ``folder``."""
        short = SHORT if target == "baseline" and len(TARGETS) > 1 else []
        source, flags = f"{folder}/target_{target}.c", for_compiler([*FLAGS, *TARGETS[target], *short, *NO_TABLES])
        (made,) = self.compiler.object_filenames([source], output_dir=self.build_temp)
        if self.force or newer_group([source, *included(Path(source))], made):
            self.compiler.compile(
                [source], output_dir=self.build_temp, macros=FAMILY, include_dirs=INCLUDE, extra_postargs=flags
            )
        return made

    def use_clang(self):
        """On Windows clang takes the place of Microsoft's compiler, which has no vectors of the kind our kernels use."""
        self.compiler.initialize()
        self.compiler.cc = shutil.which("clang-cl")
        if self.compiler.cc is None:
            raise SystemExit(NO_COMPILER)

    def compiler_works(self):
        """Whether an empty C file compiles: tells a missing compiler from an error in our own source."""
        probe = Path(self.build_temp) / "probe.c"
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_text("int main(void) { return 0; }\n")
        try:
            self.compiler.compile([str(probe)], output_dir=self.build_temp)
        except (CCompilerError, CompileError, ExecError, PlatformError):
            return False
        return True


class Build(build):
    """Leaves nothing of an earlier build behind: a module that is gone from the source would go on being installed."""

    def run(self):
        super().run()
        made = {Path(p) for name in self.get_sub_commands() for p in self.get_finalized_command(name).get_outputs()}
        for file in Path(self.build_lib, PACKAGE).rglob("*"):
            if file.is_file() and file not in made:
                file.unlink()


def extensions():
    """One for each Cython file, named as the file is, and one for what they share."""
    for path in sorted(Path(PACKAGE).rglob("*.pyx")):
        name = ".".join(path.with_suffix("").parts)
        system = {DISPATCH: SYSTEM, INTEGERS: (f"{BYTES}/targets.c",)}
        yield extension(name, [path.as_posix(), *system.get(name, ())])
    yield extension(UTILITIES, [f"{PACKAGE}/_cyutility.c"])


if __name__ == "__main__":
    setup(
        ext_modules=list(extensions()),
        cmdclass={"build": Build, "build_ext": BuildExtensions},
        options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
    )
