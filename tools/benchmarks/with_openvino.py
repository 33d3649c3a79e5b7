"""OpenVINO as a contestant: latency mode, float32 throughout (by itself it may compute in bfloat16)."""

import openvino

from . import network
from .worker import Job, timed


def start(threads):
    """Facts about the framework."""
    return {"version": openvino.__version__.split("-")[0]}


def open_job(job, threads):
    """Inference, the only thing it is asked for."""
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    model = core.compile_model(core.read_model(network.onnx_file(job)), "CPU", settings)
    request = model.create_infer_request()
    x = network.images(job["shape"])

    def run():
        return next(iter(request.infer([x], share_inputs=True, share_outputs=True).values()))

    return Job(timed(run), lambda: {"y": run().copy()})
