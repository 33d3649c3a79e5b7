"""Beyond one process: training on several ranks, bulk work, sweeps. Nothing below imports it.

``Trainer(net, optimizer, communicator=MPICommunicator())`` trains on the ranks that ``mpiexec`` started, and gives the weights
of one process bit for bit; ``sweep`` runs a function over a grid of settings; ``extract`` runs a net over many images.
"""

from .communicators import MPICommunicator, SerialCommunicator, ThreadCommunicator, run_in_threads

__all__ = ["MPICommunicator", "SerialCommunicator", "ThreadCommunicator", "run_in_threads"]
