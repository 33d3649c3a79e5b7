"""Processes killed (signal 9) at random moments: ranks of MPI, workers of bulk work, workers and scheduler of Dask.

    python tools/measure_kills.py rank worker dask-worker scheduler --trials 20

A rank that dies has to end the job, by itself, soon, and with a message; a worker that dies may cost time but no result; after
the death of a scheduler the same call goes on where it was interrupted. In every case the files are those of an undisturbed
run, byte by byte. Needs mpi4py and an MPI library for ``rank``, Dask (pip install distributed) for the last two.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import cnncore
from cnncore.vision.images import write_png

RANKS = 3
TRAINING = """
import os, pathlib, sys, numpy as np, cnncore
from cnncore.distributed import MPICommunicator
from cnncore.train import SGD, Trainer
ranks = MPICommunicator(bind=False)
cnncore.set_num_threads(1)
pathlib.Path(sys.argv[1], str(os.getpid())).touch()
trainer, rng = Trainer(cnncore.models.small_inception(seed=0), SGD(0.02), communicator=ranks, shards=4), np.random.default_rng(0)
while True:
    trainer.step(rng.random((10, 1, 28, 28), np.float32), rng.integers(0, 10, 10))
"""
BULK = """
import sys, pathlib
from cnncore.distributed import extract
model, images, folder, workers, scheduler = sys.argv[1:]
if __name__ == "__main__":
    files = sorted(pathlib.Path(images).iterdir())
    extract(model, files, folder, shard_size=4, workers=int(workers), scheduler=scheduler or None)
"""
MODULES = {"scheduler": "distributed.cli.dask_scheduler", "worker": "distributed.cli.dask_worker"}


def start(*command):
    """A child with an output to read, in a group of its own."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def children(pid):
    """Processes below a process that compute; those that only keep books for multiprocessing are none."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        if parent == pid:
            found += [] if b"resource_tracker" in command else [int(entry.name)]
    return found


def digest(folder):
    """Results of all shards."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(folder).glob("shard-*")))).hexdigest()


class Bulk:
    """A model, images, and the files of an undisturbed run, with the seconds that it takes."""

    def __init__(self, place, images):
        self.model, self.images = place / "model.safetensors", place / "images"
        cnncore.models.small_inception(seed=0).save(self.model)
        self.images.mkdir()
        rng = np.random.default_rng(0)
        for number in range(images):
            write_png(self.images / f"{number:03}.png", rng.integers(0, 256, (40, 40), dtype=np.uint8))
        began = time.perf_counter()
        self.finish(place / "undisturbed")
        self.seconds, self.digest = time.perf_counter() - began, digest(place / "undisturbed")

    def start(self, folder, workers=2, scheduler=""):
        return start("-c", BULK, self.model, self.images, folder, workers, scheduler)

    def finish(self, folder, **settings):
        """Run to the end; raise with what it printed if it fails."""
        process = self.start(folder, **settings)
        text, _ = process.communicate(timeout=300)
        if process.returncode:
            raise RuntimeError(text)


def kill_rank(bulk, folder, chance):
    """Seconds from the death of a rank to the end of the job."""
    folder.mkdir()
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    launcher = [shutil.which("mpiexec", path=paths), "-n", str(RANKS)]
    process = subprocess.Popen(
        [*launcher, sys.executable, "-m", "mpi4py", "-c", TRAINING, folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        return seconds_to_the_end(process, folder, chance)
    finally:
        process.kill()  # with what is left of its ranks, where an assertion failed


def seconds_to_the_end(process, folder, chance):
    """Kill one of the ranks of a job, each of which leaves its number in ``folder``; the seconds until all are gone."""
    while len(pids := [int(path.name) for path in folder.iterdir()]) < RANKS:
        if process.poll() is not None:
            raise RuntimeError(process.communicate()[0])
        time.sleep(0.02)
    time.sleep(chance.uniform(0.2, 2))
    victim = chance.choice(pids)
    began = time.perf_counter()
    os.kill(victim, signal.SIGKILL)
    text, _ = process.communicate(timeout=60)
    seconds = time.perf_counter() - began
    assert process.returncode != 0 and "kill" in text.lower(), text
    assert not any(Path("/proc", str(pid)).exists() for pid in pids), "a rank has outlived the job"
    return seconds


def kill_worker(bulk, folder, chance):
    """Seconds that a call takes of whose processes one dies."""
    began = time.perf_counter()
    process = bulk.start(folder)
    time.sleep(chance.uniform(0.3, 0.9) * bulk.seconds)
    victims = children(process.pid)
    if victims:
        os.kill(chance.choice(victims), signal.SIGKILL)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert digest(folder) == bulk.digest
    return time.perf_counter() - began


class Cluster:
    """A scheduler and two workers of Dask, each a process."""

    def __init__(self, folder):
        self.port = random.Random(os.urandom(8)).randrange(20000, 60000)
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.folder = folder
        self.scheduler = self.child("scheduler", "--host", "127.0.0.1", "--port", self.port, "--no-dashboard")
        self.workers = [
            self.child(
                "worker", self.address, "--no-nanny", "--nthreads", 1, "--no-dashboard", "--local-directory", folder
            )
            for _ in range(2)
        ]

    def child(self, name, *options):
        return subprocess.Popen(
            [sys.executable, "-m", MODULES[name], *map(str, options)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


def kill_dask_worker(bulk, folder, chance):
    """Seconds that a call takes of whose two workers one dies."""
    with tempfile.TemporaryDirectory() as own, Cluster(own) as cluster:
        began = time.perf_counter()
        process = bulk.start(folder, scheduler=cluster.address)
        wait_for_shards(folder, chance.randrange(1, 20), process)
        chance.choice(cluster.workers).kill()
        text, _ = process.communicate(timeout=300)
        assert process.returncode == 0, text
    assert digest(folder) == bulk.digest
    return time.perf_counter() - began


def kill_scheduler(bulk, folder, chance):
    """Seconds from the death of the scheduler to the end of the call; a call without it then finishes the work."""
    with tempfile.TemporaryDirectory() as own, Cluster(own) as cluster:
        process = bulk.start(folder, scheduler=cluster.address)
        wait_for_shards(folder, chance.randrange(1, 20), process)
        began = time.perf_counter()
        cluster.scheduler.kill()
        text, _ = process.communicate(timeout=300)
        seconds = time.perf_counter() - began
    assert process.returncode == 0 or "cnncore" in text or "Error" in text, text
    bulk.finish(folder)
    assert digest(folder) == bulk.digest
    return seconds


def wait_for_shards(folder, count, process):
    """Until so many shards are there, or the call has ended."""
    while process.poll() is None and len(list(Path(folder).glob("shard-*"))) < count:
        time.sleep(0.01)


KINDS = {"rank": kill_rank, "worker": kill_worker, "dask-worker": kill_dask_worker, "scheduler": kill_scheduler}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+", choices=KINDS)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--images", type=int, default=160, help="of the bulk work")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        bulk = Bulk(Path(place), options.images) if set(options.kinds) != {"rank"} else None
        print("| killed | trials | failed | least s | median s | most s |\n|---|---|---|---|---|---|", flush=True)
        for kind in options.kinds:
            chance, seconds, failed = random.Random(options.seed), [], 0
            for trial in range(options.trials):
                try:
                    seconds.append(KINDS[kind](bulk, Path(place, f"{kind}-{trial}"), chance))
                except (AssertionError, RuntimeError, subprocess.TimeoutExpired) as error:
                    failed += 1
                    print(f"{kind}, trial {trial}: {type(error).__name__}: {error}", file=sys.stderr)
            figures = [f"{f(seconds):.1f}" for f in (min, statistics.median, max)] if seconds else ["–"] * 3
            print(f"| {kind} | {options.trials} | {failed} | {' | '.join(figures)} |", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
