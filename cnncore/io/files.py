"""Files written whole or not at all."""

import itertools
import os

from ..errors import DataError

_temporary_number = itertools.count()


def write_atomically(path, content):
    """Write beside the target, reach the disk, then rename: a reader sees the old file or the new one, never half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{next(_temporary_number)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be written ({reason}); is the folder there and writable?") from None
    finally:
        temporary.unlink(missing_ok=True)
