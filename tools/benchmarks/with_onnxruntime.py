"""ONNX Runtime as a contestant."""

import onnxruntime

from . import network
from .worker import Job, timed


def start(threads):
    """Facts about the framework."""
    return {"version": onnxruntime.__version__}


def open_job(job, threads):
    """Inference, the only thing it is asked for."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(network.onnx_file(job), options, providers=["CPUExecutionProvider"])
    x = {session.get_inputs()[0].name: network.images(job["shape"])}
    return Job(timed(lambda: session.run(None, x)), lambda: {"y": session.run(None, x)[0]})
