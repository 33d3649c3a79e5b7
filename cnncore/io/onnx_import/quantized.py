"""Quantized ONNX files: 8-bit numbers as the real numbers that they stand for.

A quantized value q on a grid of scale s and zero point z stands for (q − z) s. A net keeps that real number (the operator
``fake_quantize``), which is what the next node asks for; only what takes the integers as such gets them (grids.py).
Weights become real numbers at once. The results are those of integer arithmetic but for the rounding of sums, and so within
one step of the output's scale of a runtime's.
"""

from dataclasses import replace

import numpy as np

from .grids import Grid, codes, is_zero, on_grid, reads_grids
from .operators import convolution, imports, is_constant, matrix_product, pair, pooled, ranked
from .tensors import INTEGER_RANGES, NUMBERS, type_name

__all__ = ["grid_from"]

INTEGER_TYPES = {np.dtype(name): NUMBERS[name] for name in ("int8", "uint8", "int16", "uint16", "int32")}


def stepped(n, x, grid):
    """x on a grid."""
    return replace(on_grid(n.importer, n.name, "fake_quantize", x, grid), grid=grid)


# ── What a file says of a grid ─────────────────────────────────────────────────────────────────────────────────────────


def type_of(n, place, default):
    """The type in ONNX's numbers of the integers that an input is, or that its zero point says they are."""
    if not n.given(place):
        return default
    found = n.importer.model.types.get(n.node.inputs[place])
    if found is not None:
        return found
    value = n.inputs[place]
    return INTEGER_TYPES.get(value.dtype, default) if is_constant(value) else default


def spread_out(n, array, x, axis, what):
    """Numbers of a grid, one for all, one per place of an axis, or one per block, as an array that broadcasts to x."""
    if not is_constant(array):
        return array
    array = np.asarray(array, np.float32)
    rank, extents = (x.ndim, x.shape) if is_constant(x) else (x.rank, x.extents)
    if array.size == 1:
        return array.reshape((1,) * rank) if rank else array.reshape(())
    axis = axis % rank
    if array.ndim == 1:
        if extents[axis] != array.size:
            n.refuse(f"{what} has {array.size} numbers for axis {axis} of {extents[axis]} values")
        return array.reshape([-1 if a == axis else 1 for a in range(rank)])
    block = n.attribute("block_size", 0)
    if array.ndim != rank or block < 1 or not isinstance(extents[axis], int):
        n.refuse(
            f"{what} has shape {array.shape}; expected one number, one per place of axis {axis}, or blocks of block_size"
        )
    return np.repeat(array, block, axis).take(range(extents[axis]), axis)


def grid_from(n, x, scale, zero, default=NUMBERS["uint8"], axis=None):
    """The grid that inputs number ``scale`` and ``zero`` of a node say for x."""
    kind = type_of(n, zero, default)
    if kind not in INTEGER_RANGES:
        n.refuse(f"it quantizes to {type_name(kind)}; known are integers of 2 to 16 bits")
    s, z = n.inputs[scale], n.inputs[zero] if n.given(zero) else None
    axis = n.attribute("axis", 1) if axis is None else axis
    s = spread_out(n, s, x, axis, "its scale")
    z = None if z is None else spread_out(n, z, x, axis, "its zero point")
    return Grid(s, z, *INTEGER_RANGES[kind])


def real_value(n, place, grid):
    """Input number ``place`` as the real numbers that its integers stand for on a grid: an array, or a value of the graph."""
    x = n.inputs[place]
    if is_constant(x):
        n.check_size_limit(x.shape)
        zero = 0 if grid.zero is None else grid.zero
        if not (is_constant(grid.scale) and (grid.zero is None or is_constant(zero))):
            x = n.importer.live(np.asarray(x, np.float32), f"{n.name}/integers")
        else:
            return ((x.astype(np.float64) - zero) * grid.scale).astype(np.float32)
    if getattr(x, "grid", None) is not None:
        if x.grid.same(grid):
            return replace(x, grid=None)
        x = codes(n.importer, x, n.name)
    x = n.importer.live(x, n.node.inputs[place])
    return real_of_codes(n, x, grid, f"input_{place}")


def real_of_codes(n, x, grid, step):
    """(x − zero) · scale."""
    d = x
    if grid.zero is not None and not is_zero(grid.zero):
        d = n.add(
            "subtract",
            x,
            as_live(n, grid.zero, f"{step}_zero_point"),
            step=f"{step}_from_zero_point",
            extents=x.extents,
        )
    return n.add("multiply", d, as_live(n, grid.scale, f"{step}_scale"), step=f"{step}_real", extents=x.extents)


def as_live(n, value, step):
    return n.importer.live(np.asarray(value, np.float32), f"{n.name}/{step}") if is_constant(value) else value


# ── ONNX's own operators ───────────────────────────────────────────────────────────────────────────────────────────────


@imports(*reads_grids("QuantizeLinear", "com.microsoft.QuantizeLinear"))
def quantize_linear(n):
    x, kind = n.inputs[0], n.attribute("output_dtype", 0) or NUMBERS["uint8"]
    grid = grid_from(n, x, 1, 2, kind)
    if is_constant(x) and is_constant(grid.scale):
        n.check_size_limit(x.shape)
        z = 0 if grid.zero is None else grid.zero
        with np.errstate(all="ignore"):
            q = np.clip(np.rint(x.astype(np.float32) / grid.scale) + z, grid.low, grid.high)
        return q.astype(np.int64)
    return stepped(n, n.live(), grid)


@imports(*reads_grids("DequantizeLinear", "com.microsoft.DequantizeLinear"))
def dequantize_linear(n):
    x = n.inputs[0]
    if is_constant(x) and x.dtype.kind == "f":  # floats of 8 and 4 bits
        return x * spread_out(n, n.array(1, "its scale"), x, n.attribute("axis", 1), "its scale")
    # int32 has no zero point, nor ends that matter
    grid = grid_from(n, x, 1, 2, type_of(n, 0, NUMBERS["int32"]))
    grid = replace(grid, low=x.grid.low, high=x.grid.high) if getattr(x, "grid", None) is not None else grid
    made = real_value(n, 0, grid)
    return made if is_constant(made) else n.add("identity", made, extents=made.extents)


@imports(*reads_grids("DynamicQuantizeLinear"))
def dynamic_quantize_linear(n):
    """To uint8, on the grid from the least to the largest value, and 0 in any case."""
    x = n.live()
    y, scale, zero = dynamic_grid(n, x)
    return replace(y, role="index"), scale, replace(zero, role="index")


def dynamic_grid(n, x):
    """(integers, scale, zero point): s = (max − min) / 255, z = round(−min / s), as ONNX has it."""
    axes, none = tuple(range(x.rank)), n.constant(0.0, "zero")
    ends = []
    for op, limit in (("reduce_max", "maximum"), ("reduce_min", "minimum")):
        end = n.add(op, x, step=op, axes=axes, keepdims=False, extents=())
        ends.append(n.add(limit, end, none, step=f"{op}_and_0", extents=()))
    width = n.add("subtract", *ends, step="width", extents=())
    scale = n.add("divide", width, n.constant(255.0, "steps"), step="scale", extents=())
    # an image of nothing but 0 has no width: any step will do
    tiny = n.constant(float(np.finfo(np.float32).tiny), "least_step")
    step = n.add("maximum", scale, tiny, step="step", extents=())
    below = n.add("divide", n.add("negative", ends[1], step="below", extents=()), step, step="steps_below", extents=())
    zero = n.add("round", below, step="zero_point", extents=())
    return on_grid(n.importer, f"{n.name}/codes", "quantize", x, Grid(step, zero, 0, 255)), scale, zero


@imports(*reads_grids("QLinearConv"))
def qlinear_conv(n):
    x = real_value(n, 0, grid_from(n, n.inputs[0], 1, 2))
    w = n.array(3, "its weight")
    weight_grid = grid_from(n, w, 4, 5, axis=0)
    b = None
    if n.given(8):
        steps = n.array(1, "the scale of its input").reshape(-1) * n.array(4, "the scale of its weight").reshape(-1)
        b = np.asarray(n.array(8, "its bias") * steps, np.float32)
    y = convolution(n, x, real_value(n, 3, weight_grid), b, step="real")
    return stepped(n, y, grid_from(n, y, 6, 7))


@imports(*reads_grids("QLinearMatMul"))
def qlinear_matmul(n):
    a = real_value(n, 0, grid_from(n, n.inputs[0], 1, 2, axis=-2))
    b = real_value(n, 3, grid_from(n, n.inputs[3], 4, 5, axis=-1))
    y = matrix_product(n, a, b, step="real")
    return stepped(n, y, grid_from(n, y, 6, 7, axis=-2))


def from_zero_point(n, place, zero, axis, step):
    """The integers of an input less its zero point: an array, or a value of the graph."""
    x, z = n.inputs[place], n.inputs[zero] if n.given(zero) else None
    if getattr(x, "grid", None) is not None:
        x = codes(n.importer, x, n.name)
    z = None if z is None else spread_out(n, z, x, axis, "its zero point")
    if is_constant(x) and (z is None or is_constant(z)):
        return x.astype(np.float32) - (0 if z is None else z)
    x = n.importer.live(x if not is_constant(x) else x.astype(np.float32), n.node.inputs[place])
    if z is None or is_zero(z):
        return x
    return n.add("subtract", x, as_live(n, z, f"{step}_zero_point"), step=f"{step}_from_zero_point", extents=x.extents)


@imports(*reads_grids("MatMulInteger"))
def matmul_integer(n):
    y = matrix_product(n, from_zero_point(n, 0, 2, -2, "a"), from_zero_point(n, 1, 3, -1, "b"))
    return replace(y, role="index")


@imports(*reads_grids("ConvInteger"))
def conv_integer(n):
    w = from_zero_point(n, 1, 3, 0, "w")
    if not is_constant(w):
        n.refuse("its weight is computed from an input of the graph; a layer needs numbers that the file holds")
    y = convolution(n, from_zero_point(n, 0, 2, 1, "x"), w, None, step="sums")
    return replace(n.add("round", y, extents=y.extents), role="index")  # fast algorithms multiply by fractions


# ── Those of ONNX Runtime ──────────────────────────────────────────────────────────────────────────────────────────────


def on_reals(n, *places):
    """The inputs at ``places``, each followed by its scale and zero point, as real numbers of the graph."""
    return [
        n.importer.live(real_value(n, p, grid_from(n, n.inputs[p], p + 1, p + 2)), n.node.inputs[p]) for p in places
    ]


@imports(*reads_grids("com.microsoft.QLinearAdd", "com.microsoft.QLinearMul"))
def qlinear_pair(n):
    a, b = on_reals(n, 0, 3)
    rank = max(a.rank, b.rank)
    op = "add" if n.node.op_type.endswith("Add") else "multiply"
    y = pair(n, op, ranked(n, a, rank), ranked(n, b, rank), step="real")
    return stepped(n, y, grid_from(n, y, 6, 7))


@imports(*reads_grids("com.microsoft.QLinearSigmoid", "com.microsoft.QLinearLeakyRelu"))
def qlinear_activation(n):
    (x,) = on_reals(n, 0)
    if n.node.op_type.endswith("Sigmoid"):
        y = n.add("sigmoid", x, step="real", extents=x.extents)
    else:
        y = n.add("leaky_relu", x, step="real", negative_slope=n.attribute("alpha", 0.01), extents=x.extents)
    return stepped(n, y, grid_from(n, y, 3, 4))


@imports(*reads_grids("com.microsoft.QLinearSoftmax"))
def qlinear_softmax(n):
    (x,) = on_reals(n, 0)
    y = n.add("softmax", x, step="real", axis=n.attribute("axis", -1) % x.rank, extents=x.extents)
    return stepped(n, y, grid_from(n, y, 3, 4))


@imports(*reads_grids("com.microsoft.QLinearGlobalAveragePool", "com.microsoft.QLinearAveragePool"))
def qlinear_average(n):
    if n.attribute("channels_last", 0):
        n.refuse("channels_last=1: export the file before it is optimised for one runtime")
    (x,) = on_reals(n, 0)
    if n.node.op_type.endswith("GlobalAveragePool"):
        extents = (*x.extents[:2], *(1,) * (x.rank - 2))
        y = n.add("global_avg_pool", x, step="real", keepdims=True, extents=extents)
    else:
        counts = bool(n.attribute("count_include_pad", 0))
        y = pooled(n, "avg_pool", x=x, step="real", wide=0.0 if counts else None, count_include_pad=counts)
    return stepped(n, y, grid_from(n, y, 3, 4))


@imports(*reads_grids("com.microsoft.QLinearConcat"))
def qlinear_concat(n):
    values = on_reals(n, *range(2, len(n.inputs), 3))
    axis = n.attribute("axis", 1) % values[0].rank
    total = values[0].extents[axis]
    for v in values[1:]:
        total = total + v.extents[axis]
    extents = (*values[0].extents[:axis], total, *values[0].extents[axis + 1 :])
    y = n.add("concat", *values, step="real", axis=axis, extents=extents) if len(values) > 1 else values[0]
    return stepped(n, y, grid_from(n, y, 0, 1))


@imports(*reads_grids("com.microsoft.QGemm"))
def qgemm(n):
    if n.attribute("transA", 0):
        n.refuse("transA=1: only its weight may be transposed")
    a = real_value(n, 0, grid_from(n, n.inputs[0], 1, 2))
    transposed = n.attribute("transB", 0)
    b = real_value(n, 3, grid_from(n, n.inputs[3], 4, 5, axis=0 if transposed else 1))
    if not is_constant(b):
        n.refuse("its weight is computed from an input of the graph; a layer needs numbers that the file holds")
    b = (b.T if transposed else b) * np.float32(n.attribute("alpha", 1.0))
    bias = None
    if n.given(6):
        steps = n.array(1, "the scale of its input").reshape(-1) * n.array(4, "the scale of its weight").reshape(-1)
        bias = np.broadcast_to(np.asarray(n.array(6, "its bias") * steps, np.float32).reshape(-1), (b.shape[1],))
    y = matrix_product(n, a, b, bias, step="real")
    return stepped(n, y, grid_from(n, y, 7, 8)) if n.given(7) else n.add("identity", y, extents=y.extents)


@imports(*reads_grids("com.microsoft.MatMulIntegerToFloat"))
def matmul_integer_to_float(n):
    a = real_value(n, 0, grid_from(n, n.inputs[0], 2, 4, axis=-2))
    b = real_value(n, 1, grid_from(n, n.inputs[1], 3, 5, axis=-1))
    return product_and_bias(n, a, b, 6)


@imports(*reads_grids("com.microsoft.DynamicQuantizeMatMul"))
def dynamic_quantize_matmul(n):
    x = n.live()
    q, scale, zero = dynamic_grid(n, x)
    a = real_of_codes(n, q, Grid(scale, zero, 0, 255), "a")
    b = real_value(n, 1, grid_from(n, n.inputs[1], 2, 3, axis=-1))
    return product_and_bias(n, a, b, 4)


def product_and_bias(n, a, b, place):
    """The product of two matrices, and what input number ``place`` adds to its rows."""
    bias = n.array(place, "its bias")
    y = matrix_product(n, a, b, step="product" if bias is not None else None)
    return y if bias is None else pair(n, "add", y, n.live(place))
