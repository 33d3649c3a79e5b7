"""A training is stopped at a random moment, by a signal or because the disk is full, and what it leaves is looked at.

Every file in the output folder can be read, the checkpoint is that of a complete epoch, and a resumed training ends with the bits
of the uninterrupted one. A plan is the moment and the way.
"""

import contextlib
import ctypes
import functools
import io
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time

import numpy as np

import cnncore
from cnncore import CnnError
from cnncore.cli.main import main
from cnncore.train import checkpoint

from .wrong import Wrong

EPOCHS = 3
WAYS = ("SIGKILL", "SIGKILL", "SIGTERM", "SIGINT", "size limit", "full disk", "read-only folder")


def plan(seed):
    choice = random.Random(seed)
    return {
        "part": "kills",
        "way": WAYS[seed % len(WAYS)],
        "moment": choice.uniform(0, 1.1),  # of the time that the uninterrupted training takes
        "bytes": choice.choice((1, 4096, 20_000, 60_000, 100_000, 200_000)),
    }


def write_data(path):
    """Two kinds of images that are easy to tell apart."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 100, (48, 12, 12), np.uint8)
    labels = np.arange(48) % 2
    pixels[labels == 1, 3:9, 3:9] += 120
    np.savez(path, images=pixels, labels=labels)


def train(folder, *arguments):
    """``cnncore train`` in this process; its exit code."""
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with quiet[0], quiet[1], cnncore.threads(1):  # images this small are not worth more, and a machine may be busy
        try:
            code = main(["train", *arguments, "--quiet"])
        except SystemExit as end:
            code = end.code
    return code or 0


def drop_capabilities():
    """Permissions of files count for this process from now on, although it is root's (Linux)."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")


def started(folder, output):
    data = os.path.join(folder, "data.npz")
    return ["--data", data, "--epochs", str(EPOCHS), "--batch-size", "12", "--network", "lenet", "--output", output]


def in_child(action):
    """The pid of a forked process that does ``action`` and nothing else."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
            code = action()
        finally:
            os._exit(int(code))
    return pid


def weights(folder):
    _, arrays = checkpoint.read(os.path.join(folder, "checkpoint.safetensors"))
    return {name: array.tobytes() for name, array in arrays.items()}


@functools.cache
def uninterrupted():
    """(weights of a training that nothing stopped, the seconds that it takes)."""
    with tempfile.TemporaryDirectory() as folder:
        write_data(os.path.join(folder, "data.npz"))
        output = os.path.join(folder, "run")
        begun = time.monotonic()
        _, status = os.waitpid(in_child(lambda: train(folder, *started(folder, output))), 0)
        seconds = time.monotonic() - begun
        if status:
            raise Wrong(f"the uninterrupted training ended with status {status}")
        return weights(output), seconds


def run(plan):
    """Stop a training, look at what is there, resume; returns (trainings that ended well, trainings stopped)."""
    expected, seconds = uninterrupted()
    with tempfile.TemporaryDirectory() as folder, place_for(plan, folder) as output:
        write_data(os.path.join(folder, "data.npz"))
        status = stopped(plan, folder, output, seconds)
        complete = check_folder(plan, output)
        if plan["way"] == "read-only folder":
            os.chmod(os.path.dirname(output), 0o755)
        if plan["way"] == "full disk":
            os.unlink(os.path.join(os.path.dirname(output), "ballast"))
        arguments = ["--resume", output] if complete else started(folder, output)
        if not complete and os.path.isdir(output):
            shutil.rmtree(output)
        _, again = os.waitpid(in_child(lambda: train(folder, *arguments)), 0)
        if again:
            raise Wrong(f"{plan['way']}: resuming ended with status {again}")
        if weights(output) != expected:
            raise Wrong(f"{plan['way']}: the resumed training gave other weights than the uninterrupted one")
    return (1, 0) if status == 0 else (1, 1)


@contextlib.contextmanager
def place_for(plan, folder):
    """The output folder, on a small file system of its own if the disk is to be full."""
    outer = os.path.join(folder, "outer")
    os.mkdir(outer)
    mounted = False
    if plan["way"] == "full disk":
        command = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", outer]
        with contextlib.suppress(FileNotFoundError):
            mounted = subprocess.run(command, capture_output=True).returncode == 0
        if not mounted:  # not root: files cannot grow instead
            plan["way"] = "size limit"
        else:
            with open(os.path.join(outer, "ballast"), "wb") as file:
                file.write(b"\0" * (2 * 2**20 - plan["bytes"] // 4096 * 4096 - 4096))
    try:
        yield os.path.join(outer, "run")
    finally:
        if mounted:
            subprocess.run(["umount", outer], check=True)


def stopped(plan, folder, output, seconds):
    """Run a training that is stopped; its wait status."""
    way = plan["way"]

    def action():
        if way == "size limit":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (plan["bytes"], resource.RLIM_INFINITY))
        if way == "read-only folder" and os.getuid() == 0:
            drop_capabilities()
        return train(folder, *started(folder, output))

    if way == "read-only folder":
        os.chmod(folder, 0o755)
        os.chmod(os.path.dirname(output), 0o555)
    pid = in_child(action)
    if way.startswith("SIG"):
        time.sleep(plan["moment"] * seconds)
        os.kill(pid, signal.Signals[way])
    _, status = os.waitpid(pid, 0)
    if way == "SIGINT" and os.WIFSIGNALED(status):
        raise Wrong("SIGINT was not handled: the process died of it")
    if not way.startswith("SIG") and (os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 99):
        raise Wrong(f"{way}: the training ended with status {status}, not with an error")
    return status


def check_folder(plan, output):
    """Read every file that is there; returns whether there is a checkpoint to resume from."""
    for name in ("model.safetensors", "checkpoint.safetensors"):
        path = os.path.join(output, name)
        if not os.path.exists(path):
            continue
        try:
            cnncore.load(path) if name.startswith("model") else checkpoint.read(path)
        except CnnError as error:
            raise Wrong(f"{plan['way']}: {name} is left damaged: {error}") from error
    return os.path.exists(os.path.join(output, "checkpoint.safetensors"))
