"""``cnncore quantize`` writes the model of ``net.quantize``, which the other commands take."""

import numpy as np
import pytest
from support.command_line import run_here

import cnncore
from cnncore.vision.classify import Classifier


def quantized(*arguments, cwd, code=0):
    done, out, error = run_here(["quantize", *map(str, arguments)], cwd)
    assert done == code, error
    return out, error


@pytest.fixture(scope="module")
def images(shapes):
    return sorted(shapes.rglob("*.png"))


def test_the_file_is_that_of_the_method_and_other_commands_take_it(trained, shapes, images, tmp_path):
    out, _ = quantized(trained[0], *images, "-o", "small.safetensors", cwd=tmp_path)
    classifier = Classifier.from_file(trained[0])
    read = [classifier.classify(file) for file in images]
    expected = classifier.net.quantize([classifier.prepared(p.pixels, p.read_at) for p in read])
    small = Classifier.from_file(tmp_path / "small.safetensors")
    x = classifier.prepared(read[0].pixels, read[0].read_at)
    assert np.array_equal(small.net(x), expected(x)) and small.classes == classifier.classes
    same = sum(small.classify(file).answer == p.answer for file, p in zip(images, read, strict=True))
    assert f"the same answer for {same} of {len(images)} images" in out and same > 0.8 * len(images)
    integers = [node for node in small.net.graph.nodes if node.op.name.startswith("quantized_")]
    size = (tmp_path / "small.safetensors").stat().st_size
    assert f"{len(integers)} layers in 8 bits, {size:,} bytes" in out and len(integers) > 1
    for command in (["evaluate", "small.safetensors", str(shapes)], ["summary", "small.safetensors"]):
        assert run_here(command, tmp_path)[0] == 0


def test_options(trained, images, tmp_path):
    net = cnncore.load(trained[0] / "model.safetensors")
    last = [node.path for node in net.graph.nodes if node.op.name == "conv"][-1]
    arguments = [trained[0], *images[:4], "--output", "out.safetensors", "--skip", last, "--ranges", "min-max"]
    quantized(*arguments, cwd=tmp_path)
    operators = {node.path: node.op.name for node in cnncore.load(tmp_path / "out.safetensors").graph.nodes}
    assert operators[last] == "conv" and "quantized_conv" in operators.values()


def test_hostile_input(trained, images, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    _, error = quantized(trained[0], images[0], broken, "-o", "out.safetensors", cwd=tmp_path, code=2)
    assert "broken.png" in error and (tmp_path / "out.safetensors").exists()
    for arguments, message in (
        ((trained[0], broken, "-o", "none.safetensors"), "none of the 1 images can be read"),
        ((trained[0], images[0], "-o", "none.onnx"), "the result is a model file, FILE.safetensors"),
        ((trained[0], images[0], "-o", "none.safetensors", "--skip", "nothing"), "unknown node 'nothing'"),
        (("lenet", images[0], "-o", "none.safetensors"), "the network has no trained weights"),
    ):
        _, error = quantized(*arguments, cwd=tmp_path, code=2)
        assert message in error
    assert not list(tmp_path.glob("none.*"))
