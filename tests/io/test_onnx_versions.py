"""Operators as older versions of ONNX had them: the first files of Caffe2, PyTorch and CNTK are read as those of today.

Right values come from the formulas in the changelog of ONNX's operators (docs/Changelog.md there), in numpy.
"""

import numpy as np
import pytest
from support.onnx_models import integers, model, node, numpy_helper, onnx, weight

import cnncore
from cnncore import ModelFileError

X = np.random.default_rng(1).standard_normal((2, 3, 4, 5)).astype("f")
C = np.array([0.5, -1.5, 2.0], "f")
CELLS = weight(4, 5)
POSITIVE = np.abs(weight(3, 4, 5)) + 0.5


def per_channel(array):
    return array.reshape(-1, 1, 1)


def tiled(x, count, axis):
    return np.concatenate([x] * count, axis)


# Name → (version, nodes, arrays, y as the formula has it).
FORMS = {
    "Add of channels": (6, [node("Add", "x c", "y", broadcast=1, axis=1)], {"c": C}, X + per_channel(C)),
    "Add of cells": (1, [node("Add", "x e", "y", broadcast=1, consumed_inputs=[0, 0])], {"e": CELLS}, X + CELLS),
    "Mul of cells": (6, [node("Mul", "x e", "y", broadcast=1, axis=2)], {"e": CELLS}, X * CELLS),
    "Sub of channels": (6, [node("Sub", "x c", "y", broadcast=1, axis=1)], {"c": C}, X - per_channel(C)),
    "Div of one": (6, [node("Div", "x o", "y", broadcast=1)], {"o": np.array([2.0], "f")}, X / 2),
    "Pow": (1, [node("Abs", "x", "a"), node("Pow", "a o", "y", broadcast=1)], {"o": np.float32(2)}, X * X),
    "Add of a live value": (
        6,
        [
            node("ReduceMean", "x", "m", axes=[2, 3], keepdims=0),
            node("ReduceMean", "m", "k", axes=[0], keepdims=0),
            node("Add", "x k", "y", broadcast=1, axis=1),
        ],
        {},
        X + per_channel(X.mean((0, 2, 3))),
    ),
    "Relu": (1, [node("Relu", "x", "y", consumed_inputs=[0])], {}, np.maximum(X, 0)),
    "Clip": (1, [node("Clip", "x", "y", min=-0.5, max=0.25, consumed_inputs=[0])], {}, np.clip(X, -0.5, 0.25)),
    "Clip without bounds": (6, [node("Clip", "x", "y")], {}, X),
    "Selu": (1, [node("Selu", "x", "y")], {}, np.where(X > 0, 1.0507 * X, 1.0507 * 1.6732 * (np.exp(X) - 1))),
    "PRelu of channels": (6, [node("PRelu", "x c", "y")], {"c": C}, np.where(X < 0, X * per_channel(C), X)),
    "Dropout": (6, [node("Dropout", "x", "y", is_test=1, ratio=0.3)], {}, X),
    "BatchNormalization": (
        6,
        [node("BatchNormalization", "x c c z o", "y", is_test=1, consumed_inputs=[0, 0, 0, 1, 1], epsilon=0.0)],
        {"z": np.zeros(3, "f"), "o": np.full(3, 4.0, "f")},
        X / 2 * per_channel(C) + per_channel(C),
    ),
    "BatchNormalization of cells": (
        7,
        [node("BatchNormalization", "x a b m v", "y", spatial=0, epsilon=0.0)],
        {"a": weight(3, 4, 5), "b": weight(3, 4, 5) + 1, "m": weight(3, 4, 5) - 1, "v": POSITIVE},
        (X - (weight(3, 4, 5) - 1)) / np.sqrt(POSITIVE) * weight(3, 4, 5) + weight(3, 4, 5) + 1,
    ),
    "Pad, paddings": (
        1,
        [node("Pad", "x", "y", paddings=[0, 0, 1, 0, 0, 0, 0, 2])],
        {},
        np.pad(X, ((0, 0), (0, 0), (1, 0), (0, 2))),
    ),
    "Pad, pads": (
        2,
        [node("Pad", "x", "y", pads=[0, 0, 1, 0, 0, 0, 0, 2], value=3.0)],
        {},
        np.pad(X, ((0, 0), (0, 0), (1, 0), (0, 2)), constant_values=3),
    ),
    "Reshape": (1, [node("Reshape", "x", "y", shape=[0, -1, 2])], {}, X.reshape(2, 30, 2)),
    "Concat": (1, [node("Concat", "x x", "y")], {}, np.concatenate([X, X], 1)),
    "Split": (
        1,
        [node("Split", "x", "a b", axis=3, split=[2, 3]), node("Concat", "b a", "y", axis=3)],
        {},
        np.roll(X, 3, 3),
    ),
    "Split by an input": (
        1,
        [node("Split", "x s", "a b", axis=3), node("Concat", "b a", "y", axis=3)],
        {"s": integers(2, 3)},
        np.roll(X, 3, 3),
    ),
    "Tile": (1, [node("Tile", "x t a", "y")], {"t": np.float32([2]), "a": np.float32([2])}, tiled(X, 2, 2)),
    "Upsample, height and width": (
        1,
        [node("Upsample", "x", "y", height_scale=2.0, width_scale=3.0)],
        {},
        X.repeat(2, 2).repeat(3, 3),
    ),
    "Upsample, scales": (7, [node("Upsample", "x", "y", scales=[1.0, 1.0, 2.0, 2.0])], {}, X.repeat(2, 2).repeat(2, 3)),
    "Upsample, scales as an input": (
        9,
        [node("Upsample", "x s", "y", mode="nearest")],
        {"s": np.array([1, 1, 2, 2], "f")},
        X.repeat(2, 2).repeat(2, 3),
    ),
    "Squeeze": (1, [node("ReduceMax", "x", "m", axes=[3]), node("Squeeze", "m", "y", axes=[3])], {}, X.max(3)),
    "Unsqueeze": (1, [node("Unsqueeze", "x", "u", axes=[0]), node("ReduceSum", "u", "y", axes=[0], keepdims=0)], {}, X),
    "Slice": (1, [node("Slice", "x", "y", axes=[2, 3], starts=[1, -3], ends=[3, 1000])], {}, X[:, :, 1:3, -3:]),
    "Cast": (1, [node("Cast", "i", "f", to="FLOAT"), node("Add", "x f", "y", broadcast=1)], {"i": integers(2)}, X + 2),
    "Gemm": (
        6,
        [node("ReduceSum", "x", "s", axes=[2, 3], keepdims=0), node("Gemm", "s w b", "y", broadcast=1)],
        {"w": weight(3, 2), "b": np.array([1.0, 2.0], "f")},
        X.sum((2, 3)) @ weight(3, 2) + [1, 2],
    ),
    "Sum, Mean, Max": (
        6,
        [node("Sum", "x x", "a"), node("Mean", "a x", "b"), node("Max", "b x", "y")],
        {},
        np.maximum(1.5 * X, X),
    ),
    "Softmax over all later axes": (
        1,
        [node("Softmax", "x", "y", axis=2)],
        {},
        np.exp(X) / np.exp(X).sum((2, 3), keepdims=True),
    ),
    "LpPool": (
        1,
        [node("LpPool", "x", "y", kernel_shape=[2, 2], p=1.0)],
        {},
        sum(np.abs(X)[:, :, i : i + 3, j : j + 4] for i in (0, 1) for j in (0, 1)),
    ),
    "GlobalLpPool": (1, [node("GlobalLpPool", "x", "y", p=2.0)], {}, np.sqrt((X * X).sum((2, 3), keepdims=True))),
    "Affine": (1, [node("Affine", "x", "y", alpha=2.0, beta=0.5)], {}, 2 * X + 0.5),
    "ScaledTanh": (1, [node("ScaledTanh", "x", "y", alpha=1.7, beta=0.6)], {}, 1.7 * np.tanh(0.6 * X)),
    "ParametricSoftplus": (
        1,
        [node("ParametricSoftplus", "x", "y", alpha=0.7, beta=2.0)],
        {},
        0.7 * np.log1p(np.exp(2.0 * X)),
    ),
    "ImageScaler": (
        1,
        [node("ImageScaler", "x", "y", scale=2.0, bias=[1.0, 2.0, 3.0])],
        {},
        2 * X + per_channel(np.array([1, 2, 3.0])),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_old_versions(form):
    version, nodes, arrays, right = FORMS[form]
    used = {name for made in nodes for name in made.input}
    every = {"c": C} | arrays
    y = cnncore.io.load_onnx(
        model(nodes, {"x": ["N", 3, 4, 5]}, ["y"], {k: v for k, v in every.items() if k in used}, version)
    )(X)
    assert y.shape == right.shape
    assert np.abs(y - right).max() < 2e-6 * max(np.abs(right).max(), 1)


def test_written_for_training():
    for made in (node("Dropout", "x", "y"), node("BatchNormalization", "x c c c c", "y a b d e")):
        with pytest.raises(ModelFileError, match="export the network for inference"):
            cnncore.io.load_onnx(model([made], {"x": ["N", 3, 4, 5]}, ["y"], {"c": C}, 6))


def test_files_older_than_versions():
    """Until version 3 of the file format there was one version of the operators, the first."""
    made = onnx.load_from_string(model([node("Clip", "x", "y", max=0.0)], {"x": ["N", 3]}, ["y"], {}, 6))
    made.ir_version = 2
    del made.opset_import[:]
    assert cnncore.io.load_onnx(made.SerializeToString())(np.ones((1, 3), "f")).max() == 0
    made.ir_version = 3
    with pytest.raises(ModelFileError, match="does not say which version"):
        cnncore.io.load_onnx(made.SerializeToString())


@pytest.mark.parametrize(
    ("name", "bits", "right"),
    [
        ("FLOAT8E4M3FN", [0x00, 0x01, 0x08, 0x38, 0x7E, 0xB8], [0, 2.0**-9, 2.0**-6, 1, 448, -1]),
        ("FLOAT8E4M3FNUZ", [0x00, 0x01, 0x40, 0x7F, 0xC0], [0, 2.0**-10, 1, 240, -1]),
        ("FLOAT8E5M2", [0x00, 0x01, 0x3C, 0x7B, 0xBC], [0, 2.0**-16, 1, 57344, -1]),
        ("FLOAT8E5M2FNUZ", [0x00, 0x01, 0x40, 0x7F, 0xC0], [0, 2.0**-17, 1, 57344, -1]),
        ("FLOAT8E8M0", [127, 128, 120, 0], [1, 2, 2.0**-7, 2.0**-127]),
    ],
)
def test_floats_of_8_bits(name, bits, right):
    tensor = onnx.TensorProto(
        name="w", data_type=getattr(onnx.TensorProto, name), dims=[len(bits)], raw_data=bytes(bits)
    )
    made = onnx.load_from_string(
        model([node("Cast", "w", "c", to=1), node("Add", "x c", "y")], {"x": ["N", len(bits)]}, ["y"], {})
    )
    made.graph.initializer.append(tensor)
    assert cnncore.io.load_onnx(made.SerializeToString())(np.zeros((1, len(bits)), "f")).tolist() == [right]
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = {"FLOAT8E4M3FN": "float8_e4m3fn", "FLOAT8E5M2": "float8_e5m2", "FLOAT8E8M0": "float8_e8m0fnu"}.get(
        name, f"float8_{name[6:].lower()}"
    )
    from cnncore.io.onnx_import.tensors import NUMBERS, TYPES, small_floats

    every = np.arange(256, dtype=np.uint8).view(getattr(ml_dtypes, kind)).astype(np.float32)
    assert np.array_equal(small_floats(8, *TYPES[NUMBERS[name.lower()]].floats), every, equal_nan=True)


@pytest.mark.parametrize("name", ["INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2"])
@pytest.mark.parametrize("packed", ["raw_data", "int32_data"])
def test_numbers_of_4_and_2_bits(name, packed):
    """Several to a byte, the first in its lowest bits; the last byte may not be full."""
    right = {
        "INT4": [-8, 7, 0, -1, 3],
        "UINT4": [15, 0, 8, 1, 9],
        "FLOAT4E2M1": [6.0, -6.0, 0.5, 1.5, -1.0],
        "INT2": [-2, 1, 0, -1, 1],
        "UINT2": [3, 0, 2, 1, 3],
    }[name]
    bits = {"FLOAT4E2M1": [7, 15, 1, 3, 10]}.get(name, right)
    width = 2 if name.endswith("2") else 4
    content = [0] * -(-5 * width // 8)
    for place, number in enumerate(bits):
        content[place * width // 8] |= (number & ((1 << width) - 1)) << place * width % 8
    tensor = onnx.TensorProto(name="w", data_type=getattr(onnx.TensorProto, name), dims=[5])
    if packed == "raw_data":
        tensor.raw_data = bytes(content)
    else:
        tensor.int32_data.extend(content)
    made = onnx.load_from_string(
        model([node("Cast", "w", "c", to=1), node("Add", "x c", "y")], {"x": ["N", 5]}, ["y"], {})
    )
    made.graph.initializer.append(tensor)
    assert cnncore.io.load_onnx(made.SerializeToString())(np.zeros((1, 5), "f")).tolist() == [right]
    assert numpy_helper.to_array(tensor).astype(np.float32).tolist() == right or packed == "int32_data"
