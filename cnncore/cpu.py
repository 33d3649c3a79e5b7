"""Which CPU target's kernels run, and forcing another.

    cnncore.cpu.targets()                      what this machine can run, plainest first
    cnncore.cpu.target()                       what runs now
    with cnncore.cpu.target("baseline"): …     force one; "definition" runs no kernel at all

CNNCORE_TARGET in the environment chooses at import.
"""

import os
import warnings

from .errors import SettingError
from .ops import dispatch

__all__ = ["kernels", "kernels_taken", "target", "targets"]


def targets():
    """Names of the CPU targets that this machine can run, plainest first.

    >>> import cnncore
    >>> cnncore.cpu.targets()[:2]
    ['definition', 'baseline']
    """
    return dispatch.targets()


def target(name=None):
    """Name of the target that runs now; with ``name``, force that one: at once, and until a ``with`` block ends.

    >>> import cnncore
    >>> with cnncore.cpu.target("baseline"):
    ...     cnncore.cpu.target()
    'baseline'
    """
    if name is None:
        return dispatch.current_target()
    if name not in targets():
        raise SettingError(f"cpu.target: {name!r} is not among the targets of this machine: {', '.join(targets())}")
    return _Forced(name)


class _Forced:
    """The target is forced when this is made; leaving the ``with`` block brings back the one before."""

    def __init__(self, name):
        self.before = dispatch.current_target()
        dispatch.select_target(name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        dispatch.select_target(self.before)


def kernels():
    """Names of the compiled kernels; operators without one run their definition."""
    return dispatch.kernel_names()


def kernels_taken():
    """Names of the kernels taken, by any thread, since this was last asked."""
    return dispatch.kernels_taken()


def _choose():
    wanted = os.environ.get("CNNCORE_TARGET", "")
    if wanted and wanted not in targets():
        warnings.warn(
            f"CNNCORE_TARGET={wanted} is not among the targets of this machine ({', '.join(targets())}); {targets()[-1]} runs",
            RuntimeWarning,
            stacklevel=2,
        )
        wanted = ""
    dispatch.select_target(wanted or targets()[-1])


_choose()
