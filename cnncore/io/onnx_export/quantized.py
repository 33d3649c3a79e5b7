"""Layers of 8-bit numbers in ONNX: QLinearConv, and sums of integers where y is on no grid or the layer is linear."""

import numpy as np

from ...checks import per_axis
from ...operators.quantization.convolution import MOST_BIAS
from .nodes import exports, flat_pads, named_pads
from .writer import Term


def on_grid(w, n, scale, zero):
    """A value as bytes on a grid: those from which it was made where it comes from them, else QuantizeLinear."""
    numbers = w.exact(np.float32(scale)), w.exact(np.uint8(zero))
    for node in reversed(w.nodes):
        if n.x.name in node.outputs:
            if node.op_type == "DequantizeLinear" and node.inputs[1:] == [term.name for term in numbers]:
                return Term(w, node.inputs[0]), *numbers
            break
    return w("QuantizeLinear", n.x, *numbers), *numbers


def integers(n):
    """(w as int8, its scales, the bias as int32 or None, the float64 scale of a product)."""
    s, weight, scale, b = n.settings, n.array("w"), n.array("w_scale"), n.array("b")
    weight = np.clip(np.rint(weight), -128, 127).astype(np.int8)
    product = s["x_scale"] * scale.astype(np.float64)
    if b is not None:
        b = np.clip(np.rint(b / product), -MOST_BIAS, MOST_BIAS).astype(np.int32)
    return weight, scale, b, product


def real_of_sums(w, n, sums, b, product, rank):
    """Sums of integers, and a bias, as real numbers; on the grid of y if there is one."""
    form = (-1, *[1] * (rank - 2))
    if b is not None:
        sums = w("Add", sums, w.exact(b.reshape(form), f"{n.path}.b"))
    y = w.cast(sums) * w.constant(product.astype(np.float32).reshape(form))
    if n.settings["y_scale"] is None:
        return y
    grid = w.exact(np.float32(n.settings["y_scale"])), w.exact(np.uint8(n.settings["y_zero_point"]))
    return w("DequantizeLinear", w("QuantizeLinear", y, *grid), *grid)


@exports("quantized_conv")
def quantized_conv(w, n):
    s, (weight, scale, b, product) = n.settings, integers(n)
    rank = len(n.spatial)
    stride = per_axis(n.path, "stride", s["stride"], rank, minimum=1)
    dilation = per_axis(n.path, "dilation", s["dilation"], rank, minimum=1)
    pads = named_pads(n, s["padding"], weight.shape[2:], stride, dilation)
    if pads is None:
        n.refuse(
            f"padding={s['padding']!r} with a stride depends on the image size, which is open", "give input_shape="
        )
    window = {
        "kernel_shape": list(weight.shape[2:]),
        "strides": list(stride),
        "dilations": list(dilation),
        "pads": flat_pads(pads),
        "group": s["groups"],
    }
    x, x_scale, x_zero = on_grid(w, n, s["x_scale"], s["x_zero_point"])
    weight = w.exact(weight, f"{n.path}.w")
    if s["y_scale"] is None:
        sums = w("ConvInteger", x, weight, x_zero, **window)
        return real_of_sums(w, n, sums, b, product, rank + 2)
    grid = w.exact(np.float32(s["y_scale"])), w.exact(np.uint8(s["y_zero_point"]))
    scales = w.exact(scale.astype(np.float32), f"{n.path}.w_scale"), w.exact(np.zeros(len(scale), np.int8))
    bias = [] if b is None else [w.exact(b, f"{n.path}.b")]
    q = w("QLinearConv", x, x_scale, x_zero, weight, *scales, *grid, *bias, **window)
    return w("DequantizeLinear", q, *grid)


@exports("quantized_linear")
def quantized_linear(w, n):
    weight, _, b, product = integers(n)
    x, _, zero = on_grid(w, n, n.settings["x_scale"], n.settings["x_zero_point"])
    sums = w("MatMulInteger", x, w.exact(np.ascontiguousarray(weight.T), f"{n.path}.w"), zero)
    return real_of_sums(w, n, sums, b, product, 2)
