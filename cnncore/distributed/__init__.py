"""Beyond one process: training on several ranks, bulk work, sweeps. Nothing below imports it.

``Trainer(net, optimizer, communicator=MPICommunicator())`` trains on the ranks that ``mpiexec`` started, and gives the weights
of one process bit for bit; :func:`extract` runs a model over many images; :func:`sweep` runs a function over a grid of settings.
"""

from .bulk import Extracted, extract
from .communicators import MPICommunicator, SerialCommunicator, ThreadCommunicator, run_in_threads
from .sweeps import sweep

__all__ = [
    "Extracted",
    "MPICommunicator",
    "SerialCommunicator",
    "ThreadCommunicator",
    "extract",
    "run_in_threads",
    "sweep",
]
