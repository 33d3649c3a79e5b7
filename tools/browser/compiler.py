"""Clang as a compiler and linker of extension modules for WebAssembly: `CC="python compiler.py"`, LDSHARED likewise.

PYTHON_INCLUDE has the headers of Python with the pyconfig.h of Pyodide, EMSCRIPTEN_INCLUDE those of Emscripten's C library.
"""

import os
import sys
from pathlib import Path

CLANG = os.environ.get("WASM_CLANG", "clang-19").split()  # such as "ccache clang-19"
LINKER = os.environ.get("WASM_LINKER", "wasm-ld-19")


def link(arguments):
    """The command that links objects into a side module, which exports nothing but its PyInit function."""
    output = arguments[arguments.index("-o") + 1]
    module = Path(output).name.partition(".")[0]
    objects = [argument for argument in arguments if argument.endswith(".o")]
    options = ["-shared", "--experimental-pic", "--unresolved-symbols=import-dynamic", "--no-entry", "--strip-debug"]
    return [LINKER, *options, f"--export-if-defined=PyInit_{module}", *objects, "-o", output]


def translate(arguments):
    """The command that compiles a file."""
    target = ["--target=wasm32-unknown-emscripten", "-msimd128", "-fPIC", "-fvisibility=hidden"]
    library = Path(os.environ["EMSCRIPTEN_INCLUDE"])
    include = [f"-I{os.environ['PYTHON_INCLUDE']}", "-isystem", library / "compat", "-isystem", library]
    return [*CLANG, *target, *map(str, include), *arguments]


if __name__ == "__main__":
    command = (link if "-shared" in sys.argv else translate)(sys.argv[1:])
    os.execvp(command[0], command)
