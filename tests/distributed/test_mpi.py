"""Training on processes that an MPI launcher started; skipped where there is none."""

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from support.processes import SANITIZED

import cnncore
from cnncore.train import SGD, Trainer

pytestmark = pytest.mark.long

PROGRAM = """
import hashlib, os, signal, sys
import numpy as np, cnncore
from cnncore.distributed import MPICommunicator
from cnncore.train import SGD, Trainer

ranks = MPICommunicator(bind=False)
cnncore.set_num_threads(1)
steps, failing = int(sys.argv[1]), sys.argv[2]
trainer = Trainer(cnncore.models.small_inception(seed=0), SGD(0.02), communicator=ranks, shards=4)
rng = np.random.default_rng(0)
for step in range(steps):
    x, labels = rng.random((10, 1, 28, 28), np.float32), rng.integers(0, 10, 10)
    if step == 1 and ranks.rank == 1 and failing == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if step == 1 and ranks.rank == 1 and failing == "error":
        raise OSError("the disk is full")
    if step == 1 and failing == "nan":
        x[9] = np.nan
    trainer.step(x, labels)
digest = hashlib.sha256(b"".join(a.tobytes() for _, a in sorted(trainer.arrays().items())))
found = [bytes(row[0]).hex() for row in ranks.allgather(np.array([[*digest.digest()]], np.uint8))]
if ranks.rank == 0:
    print("bits", *found)
"""


def launchers():
    """Installed launchers with the options that let them start more ranks than processors, as any user."""
    found = {}
    for name in ("mpiexec.hydra", "mpiexec.mpich", "mpiexec.openmpi", "mpiexec"):
        path = shutil.which(name, path=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]))
        if path is None:
            continue
        version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30).stdout
        kind = "openmpi" if "open" in version.lower() else "mpich"
        found.setdefault(kind, [path, *(["--allow-run-as-root", "--oversubscribe"] if kind == "openmpi" else [])])
    return found


@pytest.fixture(scope="module")
def mpiexec():
    """Runs PROGRAM on a number of ranks by the launcher whose MPI library mpi4py uses: (process, seconds)."""
    if SANITIZED:
        pytest.skip("starts MPI's own processes, which are built without sanitizers")
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("needs mpi4py: pip install mpi4py mpich")
    probe = [sys.executable, "-c", "from mpi4py import MPI; print(MPI.Get_library_version())"]
    asked = subprocess.run(probe, capture_output=True, text=True, timeout=60)
    if asked.returncode:
        pytest.skip(
            f"mpi4py finds no MPI library ({asked.stderr.strip().splitlines()[-1]}); for example: pip install mpich"
        )
    kind = "openmpi" if "open mpi" in asked.stdout.lower() else "mpich"
    command = launchers().get(kind)
    if command is None:
        pytest.skip(f"mpi4py uses {asked.stdout.splitlines()[0]}, whose mpiexec is not installed")

    def run(ranks, steps, failing=""):
        began = time.perf_counter()
        started = subprocess.run(
            [*command, "-n", str(ranks), sys.executable, "-m", "mpi4py", "-c", PROGRAM, str(steps), failing],
            capture_output=True,
            text=True,
            timeout=100,
        )
        return started, time.perf_counter() - began

    return run


def test_processes_give_the_bits_of_one(mpiexec):
    trainer = Trainer(cnncore.models.small_inception(seed=0), SGD(0.02), shards=4)
    rng = np.random.default_rng(0)
    for _ in range(3):
        trainer.step(rng.random((10, 1, 28, 28), np.float32), rng.integers(0, 10, 10))
    digest = hashlib.sha256(b"".join(array.tobytes() for _, array in sorted(trainer.arrays().items()))).hexdigest()
    for ranks in (2, 3):
        started, _ = mpiexec(ranks, 3)
        assert started.returncode == 0, started.stderr
        assert started.stdout.split() == ["bits", *[digest] * ranks]


@pytest.mark.parametrize(
    "failing, message", [("nan", "rank 0 of 2 "), ("error", "OSError: the disk is full"), ("killed", "")]
)
def test_a_rank_that_fails_ends_the_job(mpiexec, failing, message):
    started, seconds = mpiexec(2, 10_000, failing)
    text = started.stdout + started.stderr
    assert started.returncode != 0 and "bits" not in text
    assert message in text
    if failing == "nan":
        assert text.count("cnncore: error:") == 1 and "on rank 1, in images 7 to 9" in text
    if failing == "killed":
        assert any(words in text.lower() for words in (f"signal: {signal.SIGKILL.value}", "signal 9", "killed"))
    assert seconds < 60
