"""Extensions of cnncore; everything else is in pyproject.toml.

Each kernel source is compiled once per CPU target, from two-line files, with that target's flags (no -march=native, never
-ffast-math: it would switch the whole process to flush-to-zero). The targets' objects are linked into one extension.

Environment: CNNCORE_DEBUG=1 builds with bounds checks on; CNNCORE_SANITIZE=1 with address and undefined-behaviour
sanitizers; CNNCORE_NO_ABI3=1 without the stable ABI.
"""

import os
import platform
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

try:
    from setuptools.errors import CCompilerError, CompileError, ExecError, PlatformError
except ImportError:
    from setuptools.errors import CompileError, ExecError, PlatformError

    CCompilerError = CompileError

DEBUG = os.environ.get("CNNCORE_DEBUG", "0") not in ("", "0")
SANITIZE = os.environ.get("CNNCORE_SANITIZE", "0") not in ("", "0")
STABLE_ABI = (
    sys.implementation.name == "cpython"
    and not sysconfig.get_config_var("Py_GIL_DISABLED")
    and os.environ.get("CNNCORE_NO_ABI3", "0") in ("", "0")
)
KERNELS = "cnncore/kernels"
NO_COMPILER = (
    "cnncore is compiled from source and found no working C compiler. Install one and try again: "
    "Debian/Ubuntu `apt install gcc python3-dev`, Fedora `dnf install gcc python3-devel`, macOS `xcode-select --install`, "
    "Windows: clang from the Visual Studio Build Tools."
)

machine = platform.machine().lower()
if machine in ("x86_64", "amd64"):
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
elif machine in ("aarch64", "arm64"):
    FAMILY = [("CNN_ARM", "1")]
    TARGETS = {"baseline": [], "neon": []}
else:
    FAMILY = []
    TARGETS = {"baseline": []}

# errno and floating-point traps are not used; without these two flags a comparison cannot become a vector select.
OPTIMISE = ["-O1", "-g"] if DEBUG or SANITIZE else ["-O3", "-g0"]
FLAGS = [
    *OPTIMISE,
    "-std=gnu11",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-Wno-unused-function",
]
LINK = [] if DEBUG or SANITIZE or sys.platform == "darwin" else ["-Wl,-s"]
if SANITIZE:
    SANITIZERS = ["-fsanitize=address,undefined", "-fno-wrapv", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    FLAGS += SANITIZERS
    LINK += ["-fsanitize=address,undefined"]

MACROS = list(FAMILY)
if STABLE_ABI:
    MACROS.append(("Py_LIMITED_API", "0x030B0000"))


class BuildExtensions(build_ext):
    """Compiles the CPU targets' kernel files with their own flags, and explains a missing compiler in one sentence."""

    def build_extension(self, extension):
        try:
            if extension.name == "cnncore.ops.dispatch":
                for target, flags in TARGETS.items():
                    extension.extra_objects += self.compiler.compile(
                        [f"{KERNELS}/target_{target}.c"],
                        output_dir=self.build_temp,
                        macros=FAMILY,
                        include_dirs=[KERNELS],
                        extra_postargs=[*FLAGS, *flags],
                        depends=extension.depends,
                    )
            super().build_extension(extension)
        except (CCompilerError, CompileError, ExecError, PlatformError) as error:
            if self.compiler_works():
                raise
            raise SystemExit(NO_COMPILER) from error

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


def extension(name, sources):
    return Extension(
        name,
        sources,
        include_dirs=[KERNELS, "cnncore/ops"],
        define_macros=MACROS,
        extra_compile_args=FLAGS,
        extra_link_args=LINK,
        libraries=[] if sys.platform == "win32" else ["m"],  # a statically linked interpreter does not bring it
        py_limited_api=STABLE_ABI,
        depends=sorted(str(p) for p in [*Path(KERNELS).iterdir(), *Path("cnncore/ops").glob("*.h")]),
    )


# The one module that holds the kernels' table, the thread pool and the memory; the others reach them through it.
SYSTEM = (f"{KERNELS}/dispatch.c", "cnncore/ops/threads.c", "cnncore/ops/memory.c")
modules = [
    extension(
        f"cnncore.ops.{path.stem}",
        [path.as_posix(), *(SYSTEM if path.stem == "dispatch" else ())],
    )
    for path in sorted(Path("cnncore/ops").glob("*.pyx"))
]

setup(
    ext_modules=cythonize(
        [*modules, extension("cnncore._cyutility", ["cnncore/_cyutility.c"])],
        shared_utility_qualified_name="cnncore._cyutility",
        include_path=["."],
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "nonecheck": DEBUG,
            "cdivision": True,  # in every build: 1 / 0 is infinity, where Cython's own division would raise
            "embedsignature": False,
            "freethreading_compatible": True,
        },
    ),
    cmdclass={"build_ext": BuildExtensions},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
)
