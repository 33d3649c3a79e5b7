"""``python tools/fuzz``: see ``--help``."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # this folder is a package, not a place for modules

from fuzz.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
