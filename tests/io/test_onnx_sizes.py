"""Sizes that ONNX files compute from those of images, against ONNX Runtime at several sizes."""

import numpy as np
import pytest
from support.onnx_models import FLOAT, INT64, integers, model, node, weight
from support.onnx_runtime import assert_same

import cnncore
from cnncore import ModelFileError
from cnncore.io.onnx_import import shapes

OPEN = {"x": ["N", 3, "H", "W"]}
SIZES = ((2, 3, 6, 8), (1, 3, 7, 5), (3, 3, 9, 9))
PLACES = {"two": np.int64(2), "three": np.int64(3), "zero": np.int64(0), "one": np.int64(1), "half": np.float32(0.5)}
PLACES |= {
    "zero_f": np.float32(0),
    "one_f": np.float32(1),
    "first": integers(0),
    "second": integers(1),
    "all": integers(-1),
}


def extent(place, name):
    """Nodes that give an extent of x, as a number without axes."""
    return [node("Shape", "x", f"shape_for_{name}"), node("Gather", f"shape_for_{name} {place}", name)]


def same(nodes, sizes=SIZES, inputs=OPEN, opset=17, arrays=None, outputs=("y",)):
    used = {name for made in nodes for name in made.input}
    every = PLACES | (arrays or {})
    return assert_same(
        model(nodes, inputs, list(outputs), {k: v for k, v in every.items() if k in used}, opset), *sizes
    )


def test_counting_the_columns():
    """Range up to the width: coordinates of the cells."""
    same(
        [
            *extent("three", "w"),
            node("Cast", "w", "f", to=FLOAT),
            node("Range", "zero_f f one_f", "r"),
            node("Add", "x r", "y"),
        ]
    )
    nodes = [*extent("two", "h"), node("Range", "zero h one", "r"), node("Cast", "r", "f", to=FLOAT)]
    same(
        [
            *nodes,
            node("Unsqueeze", "f second", "u"),
            node("Add", "f half", "g"),
            node("Unsqueeze", "g second", "v"),
            node("Mul", "x v", "a"),
            node("Add", "a u", "y"),
        ]
    )


def test_grid_of_anchors():
    """Centres of cells, as detectors without anchor boxes make them: (1, 2, H·W)."""
    nodes = [*extent("two", "h"), *extent("three", "w")]
    for name in "hw":
        nodes += [
            node("Cast", name, f"{name}f", to=FLOAT),
            node("Range", f"zero_f {name}f one_f", f"{name}r"),
            node("Add", f"{name}r half", f"{name}c"),
        ]
    nodes += [
        node("Unsqueeze", "h first", "h1"),
        node("Unsqueeze", "w first", "w1"),
        node("Concat", "h1 w1", "hw", axis=0),
        node("Reshape", "hc column", "hcc"),
        node("Reshape", "wc row", "wcr"),
        node("Expand", "hcc hw", "ys"),
        node("Expand", "wcr hw", "xs"),
        node("Unsqueeze", "ys all", "ys1"),
        node("Unsqueeze", "xs all", "xs1"),
        node("Concat", "xs1 ys1", "stack", axis=-1),
        node("Reshape", "stack pairs", "anchors"),
        node("Mul", "h w", "cells"),
        node("Unsqueeze", "cells first", "cells1"),
        node("Concat", "cells1 second", "strides_shape", axis=0),
        node("ConstantOfShape", "strides_shape", "ones", value=None)
        if False
        else node("ConstantOfShape", "strides_shape", "zeros"),
        node("Add", "zeros eight", "strides"),
        node("Mul", "anchors strides", "scaled"),
        node("Transpose", "scaled", "t", perm=[1, 0]),
        node("Unsqueeze", "t first", "t1"),
        node("Reshape", "x flat", "f"),
        node("Slice", "f zeros_2 twos second", "xy"),
        node("Add", "xy t1", "y"),
    ]
    arrays = {"column": integers(-1, 1), "row": integers(1, -1), "pairs": integers(-1, 2), "eight": np.float32(8)}
    same(nodes, arrays=arrays | {"flat": integers(0, 0, -1), "zeros_2": integers(0), "twos": integers(2)})


@pytest.mark.parametrize(
    "made",
    [
        [node("Div", "w two", "a"), node("Unsqueeze", "a first", "n")],
        [node("Add", "w three", "a"), node("Unsqueeze", "a first", "n")],
        [node("Sub", "w two", "a"), node("Unsqueeze", "a first", "n")],
        [node("Mul", "w three", "a"), node("Unsqueeze", "a first", "n")],
        [node("Mul", "w h", "a"), node("Unsqueeze", "a first", "n")],
        [node("Mul", "w h", "a"), node("Add", "a w", "b"), node("Unsqueeze", "b first", "n")],
        [
            node("Mul", "w three", "a"),
            node("Add", "a one", "b"),
            node("Div", "b two", "c"),
            node("Unsqueeze", "c first", "n"),
        ],
        [
            node("Cast", "w", "f", to=FLOAT),
            node("Mul", "f factor", "g"),
            node("Floor", "g", "k"),
            node("Cast", "k", "i", to=INT64),
            node("Unsqueeze", "i first", "n"),
        ],
        [
            node("Cast", "w", "f", to=FLOAT),
            node("Mul", "f factor", "g"),
            node("Ceil", "g", "k"),
            node("Cast", "k", "i", to=INT64),
            node("Unsqueeze", "i first", "n"),
        ],
    ],
    ids=lambda made: "-".join(n.op_type for n in made),
)
def test_as_many_as_a_size_says(made):
    """ConstantOfShape, Expand, Range, Tile to sizes of all forms."""
    start = [*extent("two", "h"), *extent("three", "w"), *made, node("ReduceMean", "x", "m")]
    arrays = {"factor": np.float32(1.4), "unit": np.ones(1, "f")}
    same([*start, node("ConstantOfShape", "n", "z"), node("Squeeze", "m", "s"), node("Add", "z s", "y")], arrays=arrays)
    same([*start, node("Squeeze", "m", "s"), node("Expand", "s n", "y")], arrays=arrays)
    same(
        [
            *start,
            node("Squeeze", "n", "s"),
            node("Range", "zero s two", "r"),
            node("Cast", "r", "f2", to=FLOAT),
            node("Squeeze", "m", "s2"),
            node("Add", "f2 s2", "y"),
        ],
        arrays=arrays,
    )
    same([*start, node("Tile", "unit n", "t"), node("Squeeze", "m", "s"), node("Add", "t s", "y")], arrays=arrays)


def test_sizes_as_numbers():
    """Coordinates between 0 and 1: divided by the width."""
    nodes = [
        *extent("two", "h"),
        *extent("three", "w"),
        node("Cast", "w", "f", to=FLOAT),
        node("Div", "x f", "a"),
        node("Cast", "h", "g", to=FLOAT),
    ]
    same([*nodes, node("Sub", "a g", "y")])
    same(
        [
            *nodes,
            node("Mul", "f g", "p"),
            node("Sub", "p one_f", "q"),
            node("Mul", "q half", "r"),
            node("Add", "a r", "y"),
        ]
    )


@pytest.mark.parametrize("factor", [1.4, 0.7, 2.0])
def test_resized_to_a_rounded_size(factor):
    """interpolate(scale_factor=1.4, recompute_scale_factor=True)."""
    nodes = []
    for place in ("two", "three"):
        nodes += [
            *extent(place, f"{place}e"),
            node("Cast", f"{place}e", f"{place}f", to=FLOAT),
            node("Mul", f"{place}f factor", f"{place}g"),
        ]
        nodes += [
            node("Floor", f"{place}g", f"{place}k"),
            node("Cast", f"{place}k", f"{place}i", to=INT64),
            node("Unsqueeze", f"{place}i first", f"{place}u"),
        ]
    nodes += [node("Slice", "shape_for_twoe zeros twos", "nc"), node("Concat", "nc twou threeu", "size", axis=0)]
    arrays = {"factor": np.float32(factor), "zeros": integers(0), "twos": integers(2)}
    from support.onnx_models import helper

    for mode in ("nearest", "linear"):
        resize = helper.make_node(
            "Resize",
            ["x", "", "", "size"],
            ["y"],
            mode=mode,
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        same([*nodes, resize], ((2, 3, 20, 10), (1, 3, 11, 7)), arrays=arrays)


def test_cropped_to_another_map():
    """As a U-Net without padding does: the first values, the last, and those in the middle, as many as another map has."""
    start = [
        node("MaxPool", "x", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Shape", "p", "s"),
        node("Slice", "s twos fours", "hw"),
    ]
    arrays = {"twos": integers(2), "fours": integers(4), "zeros": integers(0, 0), "axes": integers(2, 3)}
    same([*start, node("Slice", "x zeros hw axes", "c"), node("Add", "c p", "y")], arrays=arrays)
    end = [node("Shape", "x", "t"), node("Slice", "t twos fours", "whole"), node("Sub", "whole hw", "d")]
    same([*start, *end, node("Slice", "x d whole axes", "c"), node("Add", "c p", "y")], arrays=arrays)


@pytest.mark.parametrize("opset", [13, 18])
def test_cut_into_parts(opset):
    """The last part is the smaller one since version 18; until then an extent must be a multiple."""
    attributes = {"num_outputs": 2} if opset >= 18 else {}
    content = model(
        [node("Split", "x", "a b", axis=2, **attributes), node("Concat", "b a", "y", axis=2)], OPEN, ["y"], {}, opset
    )
    net = assert_same(content, (2, 3, 6, 8))
    if opset >= 18:
        assert_same(content, (2, 3, 7, 8), (1, 3, 9, 2))
    else:
        with pytest.raises(cnncore.CnnError, match="cannot be split into 2 equal parts"):
            net(np.zeros((1, 3, 7, 8), "f"))


def test_parts_of_computed_sizes():
    nodes = [
        *extent("two", "h"),
        node("Div", "h two", "a"),
        node("Sub", "h a", "b"),
        node("Unsqueeze", "a first", "a1"),
        node("Unsqueeze", "b first", "b1"),
    ]
    for parts in ("b1 a1", "a1 b1"):
        joined = [
            node("Concat", parts, "s", axis=0),
            node("Split", "x s", "p q", axis=2),
            node("Concat", "q p", "y", axis=2),
        ]
        same([*nodes, *joined])


def test_questions_about_sizes():
    """Greater, Less, Equal, Where, Mod and Max of sizes, where every image answers them alike; else the file is refused."""
    nodes = [
        *extent("two", "h"),
        node("Greater", "h zero", "c"),
        node("Where", "c h one", "k"),
        node("Max", "k one", "k1"),
        node("Unsqueeze", "k1 first", "n"),
        node("Concat", "all n", "s", axis=0),
    ]
    nodes = [
        *extent("two", "h"),
        node("Greater", "h zero", "c"),
        node("Where", "c h one", "k"),
        node("Unsqueeze", "k first", "n"),
    ]
    nodes += [node("Concat", "first n all", "s", axis=0), node("Reshape", "x s", "y")]
    same(nodes, ((1, 3, 6, 8), (2, 3, 7, 5)))
    content = model(
        [
            *extent("two", "h"),
            node("Greater", "h three", "c"),
            node("Where", "c h three", "k"),
            node("Unsqueeze", "k first", "n"),
            node("Expand", "x n", "y"),
        ],
        OPEN,
        ["y"],
        PLACES,
    )
    with pytest.raises(ModelFileError, match="depends on the image"):
        cnncore.io.load_onnx(content)
    assert cnncore.io.load_onnx(content.replace(b"Expand", b"Expand"), input_shape=(None, 3, 6, 1))
    nodes = [
        *extent("three", "w"),
        node("Mod", "w two", "m"),
        node("Sub", "w m", "k"),
        node("Unsqueeze", "k first", "n"),
        node("ConstantOfShape", "n", "z"),
        node("ReduceMean", "x", "u"),
        node("Squeeze", "u", "v"),
        node("Add", "z v", "y"),
    ]
    same(nodes)


def test_known_sizes_beside_an_open_batch():
    """What is known of a size is a number, also where the batch is open."""
    nodes = [
        *extent("three", "w"),
        node("Cast", "w", "f", to=FLOAT),
        node("Range", "zero_f f one_f", "r"),
        node("Add", "x r", "y"),
    ]
    net = same(nodes, ((2, 3, 4, 6), (1, 3, 4, 6)), {"x": ["N", 3, 4, 6]})
    assert [n.op.name for n in net.graph.nodes] == ["constant", "add"]


def test_positions_of_rows_are_written_and_read_again():
    content = model(
        [
            *extent("two", "h"),
            node("Range", "zero h one", "r"),
            node("Cast", "r", "f", to=FLOAT),
            node("ReduceMean", "x", "m", axes=[3], keepdims=0),
            node("Mul", "m f", "y"),
        ],
        OPEN,
        ["y"],
        PLACES,
    )
    net = cnncore.io.load_onnx(content)
    again = cnncore.io.load_onnx(cnncore.io.save_onnx(net))
    x = weight(2, 3, 5, 4)
    assert np.array_equal(net(x), again(x))
    assert_same(cnncore.io.save_onnx(net), (2, 3, 5, 4))


def test_a_number_modulo_an_open_size():
    """−1 mod H is H − 1 whatever H is, as torch.roll asks; −2 mod H is not the same formula for every H."""
    H = shapes.Extent.named("H")
    assert shapes.remainder(-1, H) == H - 1
    assert shapes.remainder(0, H) == 0
    assert shapes.remainder(-2, H) != H - 2
    assert shapes.remainder(-1, 2 * H) == 2 * H - 1
