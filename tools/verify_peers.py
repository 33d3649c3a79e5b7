"""Look up every name of cnncore/operators/peers.py in the frameworks that are installed: ``python tools/verify_peers.py``.

Prints how many were found in which, the names that do not exist, and the frameworks that are not installed here; exits with 1
where a name does not exist. cnncore itself need not be built: the table is read from its file.
"""

import importlib
import runpy
import sys
from pathlib import Path

TABLE = Path(__file__).resolve().parent.parent / "cnncore" / "operators" / "peers.py"


class NotInstalled(Exception):
    """The framework is not here."""


def framework(name):
    """Whose name it is: the first word."""
    return name.replace(".", " ").split()[0]


def exists(name):
    """Whether the framework has the name; NotInstalled where there is no such framework."""
    root = framework(name)
    try:
        module = importlib.import_module("onnx" if root == "ONNX" else root)
    except ImportError as error:
        raise NotInstalled(root) from error
    if root == "ONNX":
        return any(schema.name == name.split()[1] for schema in module.defs.get_all_schemas())
    for part in name.split(".")[1:]:
        if not hasattr(module, part):
            return False
        module = getattr(module, part)
    return True


def verify(names):
    """Framework → (found, names that do not exist) of those installed, and the frameworks that are not."""
    found, missing, absent = {}, {}, set()
    for name in sorted(set(names)):
        try:
            there = exists(name)
        except NotInstalled:
            absent.add(framework(name))
            continue
        (found if there else missing).setdefault(framework(name), []).append(name)
    return {root: (len(found.get(root, ())), missing.get(root, [])) for root in {*found, *missing}}, absent


def main():
    peers = runpy.run_path(str(TABLE))["PEERS"]
    result, absent = verify(name for names in peers.values() for name in names)
    for root, (count, missing) in sorted(result.items()):
        version = getattr(importlib.import_module(root.lower()), "__version__", "")
        print(f"{root} {version}: {count} names found" + (f"; NOT THERE: {', '.join(missing)}" if missing else ""))
    for root in sorted(absent):
        print(f"{root}: not installed here")
    sys.exit(any(missing for _, missing in result.values()))


if __name__ == "__main__":
    main()
