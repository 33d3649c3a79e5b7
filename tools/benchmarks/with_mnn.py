"""MNN as a contestant: the ONNX model through its own converter."""

import subprocess
import sys
from pathlib import Path

import MNN
import numpy as np

from . import network
from .worker import Job, timed


def start(threads):
    """Facts about the framework."""
    return {"version": MNN.version()}


def open_job(job, threads):
    """Inference, the only thing it is asked for."""
    source = Path(network.onnx_file(job))
    path = source.with_suffix(".mnn")
    command = [sys.executable, "-m", "MNN.tools.mnnconvert", "-f", "ONNX", "--modelFile", str(source)]
    done = subprocess.run([*command, "--MNNModel", str(path), "--bizCode", "bench"], capture_output=True, text=True)
    if not path.exists():
        raise RuntimeError(f"mnnconvert wrote no model: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    interpreter = MNN.Interpreter(str(path))
    session = interpreter.createSession({"backend": "CPU", "numThread": threads, "precision": "high"})
    taken, given = interpreter.getSessionInput(session), interpreter.getSessionOutput(session)
    shape = tuple(job["shape"])
    x = MNN.Tensor(shape, MNN.Halide_Type_Float, network.images(shape), MNN.Tensor_DimensionType_Caffe)
    extents = given.getShape()
    y = MNN.Tensor(extents, MNN.Halide_Type_Float, np.zeros(extents, np.float32), MNN.Tensor_DimensionType_Caffe)

    def run():
        taken.copyFrom(x)
        interpreter.runSession(session)
        given.copyToHostTensor(y)

    def outputs():
        run()
        return {"y": np.array(y.getNumpyData()).reshape(extents)}

    return Job(timed(run), outputs)
