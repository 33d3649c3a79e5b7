"""pyconfig.h of Pyodide's Python, from what its standard library says of how it was built."""

import re
import zipfile

TEXT = ("PLATLIBDIR", "SOABI", "PY_BUILTIN_HASHLIB_HASHES")
BEGIN = "#ifndef Py_PYCONFIG_H\n#define Py_PYCONFIG_H\n#ifndef _GNU_SOURCE\n#define _GNU_SOURCE 1\n#endif\n"
POSIX = "#define _POSIX_C_SOURCE 200809L\n#define _XOPEN_SOURCE 700\n#define _FILE_OFFSET_BITS 64\n"


def pyconfig(library, host):
    """The text of pyconfig.h: the names of the ``host``'s file, with the values in the archive ``library``."""
    with zipfile.ZipFile(library) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("_sysconfigdata__emscripten_wasm32-emscripten.py"))
        built = {}
        exec(archive.read(name), built)
    values = built["build_time_vars"]
    names = re.findall(r"^\s*#\s*define\s+(\w+)|^/\* #undef (\w+) \*/", host, flags=re.MULTILINE)
    lines = []
    for name in dict.fromkeys(defined or undefined for defined, undefined in names):
        value = values.get(name)
        if name == "Py_PYCONFIG_H" or value in (None, ""):
            continue
        if not isinstance(value, int):
            lines.append(f'#define {name} "{value}"' if name in TEXT else f"#define {name} {value}")
        elif value or name.startswith("HAVE_DECL"):
            lines.append(f"#define {name} {value}")
    return BEGIN + POSIX + "\n".join(lines) + "\n#endif\n"
