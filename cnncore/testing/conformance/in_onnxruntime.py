"""ONNX Runtime as a framework to compare with, forward: every operator and setting that one ONNX node expresses."""

import numpy as np
import onnx
import onnxruntime as runtime

from .adapter import NotExpressible

__all__ = ["FORWARD_ONLY", "NAME", "OPERATORS"]

NAME = f"ONNX Runtime {runtime.__version__}"
FORWARD_ONLY = True
OPSET = 21


def run_node(op_type, arrays, **attributes):
    """What ONNX Runtime makes of one node."""
    helper = onnx.helper
    names = [f"i{k}" if a is not None else "" for k, a in enumerate(arrays)]
    given = {n: np.ascontiguousarray(a) for n, a in zip(names, arrays, strict=True) if a is not None}
    node = helper.make_node(op_type, names, ["y"], **attributes)
    kind = onnx.helper.np_dtype_to_tensor_dtype
    graph = helper.make_graph(
        [node],
        op_type,
        [helper.make_tensor_value_info(n, kind(a.dtype), a.shape) for n, a in given.items()],
        [helper.make_tensor_value_info("y", kind(arrays[0].dtype), None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return outputs_of(model, options, given)[0]


def outputs_of(model, options, given):
    """All outputs of a model; a kernel that ONNX Runtime has not for the dtype is a NotExpressible."""
    try:
        session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, given)
    except Exception as error:
        if "Type 'tensor(double)' of input parameter" in str(error):
            raise NotExpressible("ONNX has it not in double precision") from None
        if "NOT_IMPLEMENTED" not in str(error) and "NotImplemented" not in type(error).__name__:
            raise
        raise NotExpressible("ONNX Runtime has no such kernel") from None


def require(condition, why):
    if not condition:
        raise NotExpressible(why)


def per_axis(value, rank):
    return list(value) if hasattr(value, "__len__") else [value] * rank


def pads(padding, rank):
    """ONNX's attributes for our padding: all low ends, then all high ends, or a name."""
    if isinstance(padding, str):
        return {"auto_pad": padding.upper()}
    if hasattr(padding, "__len__") and hasattr(padding[0], "__len__"):
        pairs = padding
    else:
        pairs = [(p, p) for p in per_axis(padding, rank)]
    return {"pads": [low for low, _ in pairs] + [high for _, high in pairs]}


def windows(s, rank):
    kernel = per_axis(s["kernel_size"], rank)
    return {
        "kernel_shape": kernel,
        "strides": kernel if s["stride"] is None else per_axis(s["stride"], rank),
        "dilations": per_axis(s["dilation"], rank),
        "ceil_mode": int(s["ceil_mode"]),
        **pads(s["padding"], rank),
    }


def conv(s, x, w, b=None):
    rank = x.ndim - 2
    require(s["padding_mode"] == "zeros", "Conv pads with zeros")
    return run_node(
        "Conv",
        [x, w, b],
        strides=per_axis(s["stride"], rank),
        dilations=per_axis(s["dilation"], rank),
        group=s["groups"],
        **pads(s["padding"], rank),
    )


def conv_transpose(s, x, w, b=None):
    rank = x.ndim - 2
    require(not isinstance(s["padding"], str), "auto_pad of ConvTranspose fixes another size")
    return run_node(
        "ConvTranspose",
        [x, w, b],
        strides=per_axis(s["stride"], rank),
        dilations=per_axis(s["dilation"], rank),
        output_padding=per_axis(s["output_padding"], rank),
        group=s["groups"],
        **pads(s["padding"], rank),
    )


def avg_pool(s, x):
    require(s["divisor_override"] is None, "AveragePool has no divisor")
    return run_node("AveragePool", [x], count_include_pad=int(s["count_include_pad"]), **windows(s, x.ndim - 2))


def whole(p):
    require(p == int(min(p, 99)), "the p of ONNX is an integer")
    return int(p)


def lp_pool(s, x):
    require(not s["mean"], "LpPool has no mean")
    return run_node("LpPool", [x], p=whole(s["p"]), **windows(s, x.ndim - 2))


def global_pool(name):
    def pool(s, x):
        require(not s.get("mean"), "GlobalLpPool has no mean")
        more = {"p": whole(s["p"])} if "p" in s else {}
        y = run_node(name, [x], **more)
        return y if s["keepdims"] else y.reshape(y.shape[:2])

    return pool


def elementwise(name, **renamed):
    """A node of one input whose attributes are settings of ours."""
    return lambda s, x: run_node(name, [x], **{theirs: s[ours] for theirs, ours in renamed.items()})


def clip(low, high):
    def clipped(s, x):
        bounds = [np.asarray(s[b] if isinstance(b, str) else b, x.dtype) for b in (low, high)]
        return run_node("Clip", [x, *bounds])

    return clipped


def prelu(s, x, a):
    return run_node("PRelu", [x, a.reshape(-1, *[1] * (x.ndim - 2))])


def leaky_relu(s, x):
    require(s["compat"] is None, "LeakyRelu has its own default")
    return run_node("LeakyRelu", [x], alpha=s["negative_slope"])


def hard_sigmoid(s, x):
    if s["compat"] == "onnx":  # nothing is said: the default is what is compared
        return run_node("HardSigmoid", [x])
    return run_node("HardSigmoid", [x], alpha=s["alpha"], beta=s["beta"])


def sign(s, x):
    require(s["at_zero"] == 0, "Sign is 0 at 0")
    return run_node("Sign", [x])


def softplus(s, x):
    require(s["beta"] == 1, "Softplus has no beta")
    return run_node("Softplus", [x])


def batch_norm(s, x, w=None, b=None, mean=None, variance=None):
    require(not s["training"], "ONNX Runtime trains no batch normalisation on the CPU")
    C, dtype = x.shape[1], x.dtype
    ones, zeros = np.ones(C, dtype), np.zeros(C, dtype)
    return run_node(
        "BatchNormalization",
        [x, ones if w is None else w, zeros if b is None else b, mean, variance],
        epsilon=s["eps"],
    )


def scale_and_shift(x, w, b):
    C = x.shape[1]
    return np.ones(C, x.dtype) if w is None else w, np.zeros(C, x.dtype) if b is None else b


def instance_norm(s, x, w=None, b=None):
    return run_node("InstanceNormalization", [x, *scale_and_shift(x, w, b)], epsilon=s["eps"])


def group_norm(s, x, w=None, b=None):
    require(x.ndim > 2, "GroupNormalization wants spatial axes")
    return run_node("GroupNormalization", [x, *scale_and_shift(x, w, b)], num_groups=s["groups"], epsilon=s["eps"])


def layer_norm(s, x, w=None, b=None):
    if s["normalized_shape"] is not None:
        return run_node("LayerNormalization", [x, w, b], axis=-len(s["normalized_shape"]), epsilon=s["eps"])
    if any(a is not None and a.ndim > 1 for a in (w, b)):
        return run_node("LayerNormalization", [x, w, b], axis=1, epsilon=s["eps"])
    w, b = (np.broadcast_to(p.reshape(-1, *[1] * (x.ndim - 2)), x.shape[1:]) for p in scale_and_shift(x, w, b))
    return run_node("LayerNormalization", [x, w, b], axis=1, epsilon=s["eps"])


def local_response_norm(s, x):
    require(x.ndim == 4 and s["size"] % 2, "LRN of ONNX Runtime takes images and an odd size")
    alpha = s["alpha"] * (s["size"] if s["compat"] == "tf" else 1)
    return run_node("LRN", [x], size=s["size"], alpha=alpha, beta=s["beta"], bias=s["k"])


def pad(s, x):
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    require(s["mode"] in modes, "ONNX has no such mode")
    ours = pads(s["padding"], x.ndim - 2)["pads"]
    rank = x.ndim - 2
    flat = [0, 0, *ours[:rank], 0, 0, *ours[rank:]]
    value = [np.asarray(s["value"], x.dtype)] if s["mode"] == "constant" else []
    return run_node("Pad", [x, np.array(flat, np.int64), *value], mode=modes[s["mode"]])


def add(s, *xs):
    require(not s["coefficients"], "Sum has no coefficients")
    return run_node("Sum", xs)


def flatten(s, x):
    require(s["start_dim"] == 1, "Flatten always gives a matrix")
    return run_node("Flatten", [x], axis=1)


def cross_entropy(s, x, target, weight=None):
    require(target.dtype.kind in "iu" and not s["label_smoothing"], "SoftmaxCrossEntropyLoss takes class numbers")
    require(s["compat"] is None, "its mean is over the weights of the targets")
    return run_node(
        "SoftmaxCrossEntropyLoss", [x, target, weight], ignore_index=s["ignore_index"], reduction=s["reduction"]
    )


def linear(s, x, w, b=None):
    require(x.ndim == 2, "Gemm takes matrices")
    return run_node("Gemm", [x, w, b], transB=1)


def max_unpool(s, x, indices):
    require(s["compat"] == "onnx", "the indices of ONNX count through all planes")
    rank = x.ndim - 2
    kernel = per_axis(s["kernel_size"], rank)
    return run_node("MaxUnpool", [x, indices], kernel_shape=kernel, strides=kernel)


def roi_align(s, x, rois, images):
    require(s["mode"] == "avg" or s["compat"], "the maximum of ONNX Runtime is that of weighted cells, not of samples")
    rows, columns = per_axis(s["output_size"], 2)
    return run_node(
        "RoiAlign",
        [x, rois, images],
        output_height=rows,
        output_width=columns,
        sampling_ratio=s["sampling_ratio"],
        spatial_scale=s["spatial_scale"],
        mode=s["mode"],
        coordinate_transformation_mode="half_pixel" if s["aligned"] else "output_half_pixel",
    )


def reshuffle(node, mode):
    """DepthToSpace or SpaceToDepth; ``mode``: the one order of a node without that attribute."""

    def moved(s, x):
        require(x.ndim == 4 and isinstance(s["factor"], int), "blocks are squares of images")
        require(mode in (None, s["mode"]), "SpaceToDepth has one order of channels")
        return run_node(node, [x], blocksize=s["factor"], **({} if mode else {"mode": s["mode"]}))

    return moved


def slice_(s, x):
    numbers = ({None: 0}.get(s["start"], s["start"]), {None: 2**62}.get(s["stop"], s["stop"]), s["axis"], s["stride"])
    require(s["stride"] > 0 or s["stop"] is not None, "a negative step needs an end")
    return run_node("Slice", [x, *(np.array([n], np.int64) for n in numbers)])


def split(s, x):
    parts = s["parts"]
    extents = [x.shape[s["axis"]] // parts] * parts if isinstance(parts, int) else list(parts)
    require(s["part"] == 0, "run_node gives the first of several results")
    return run_split(x, extents, s["axis"])


def run_split(x, extents, axis):
    """The first result of Split, whose results are as many as the extents."""
    helper, kind = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype(x.dtype)
    names = [f"y{i}" for i in range(len(extents))]
    node = helper.make_node("Split", ["x", "extents"], names, axis=axis)
    graph = helper.make_graph(
        [node],
        "Split",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info(names[0], kind, None)],
        [helper.make_tensor("extents", onnx.TensorProto.INT64, [len(extents)], extents)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return outputs_of(model, None, {"x": x})[0]


def deformable_conv(s, x, offset, w, b=None, mask=None):
    return run_node(
        "DeformConv",
        [x, w, offset, b, mask],
        strides=per_axis(s["stride"], 2),
        dilations=per_axis(s["dilation"], 2),
        group=s["groups"],
        offset_group=s["offset_groups"],
        **pads(s["padding"], 2),
    )


def resize(mode):
    def resized(s, x):
        rank = x.ndim - 2
        names = {"mode": mode, "coordinate_transformation_mode": s["coordinates"]}
        if mode == "nearest":
            names["nearest_mode"] = s["rounding"]
        if s["size"] is None:
            scales = np.array([1, 1, *per_axis(s["scale"], rank)], np.float32)
            return run_node("Resize", [x, None, scales], **names)
        return run_node(
            "Resize", [x, None, None, np.array([*x.shape[:2], *per_axis(s["size"], rank)], np.int64)], **names
        )

    return resized


def nll_loss(s, x, target, weight=None):
    return run_node(
        "NegativeLogLikelihoodLoss", [x, target, weight], ignore_index=s["ignore_index"], reduction=s["reduction"]
    )


def fold(s, x):
    size = s["output_size"] if hasattr(s["output_size"], "__len__") else (s["output_size"],) * 2
    return run_node(
        "Col2Im",
        [x, np.array(size, np.int64), np.array(per_axis(s["kernel_size"], len(size)), np.int64)],
        strides=per_axis(s["stride"], len(size)),
        dilations=per_axis(s["dilation"], len(size)),
        **pads(s["padding"], len(size)),
    )


OPERATORS = {
    "conv": conv,
    "conv_transpose": conv_transpose,
    "depthwise_conv": lambda s, x, w, b=None: conv({**s, "groups": x.shape[1]}, x, w, b),
    "pixel_shuffle": reshuffle("DepthToSpace", None),
    "pixel_unshuffle": reshuffle("SpaceToDepth", "DCR"),
    "slice": slice_,
    "split": split,
    "deformable_conv": deformable_conv,
    "fold": fold,
    "linear_upsample": resize("linear"),
    "nearest_upsample": resize("nearest"),
    "nll_loss": nll_loss,
    "linear": linear,
    "max_pool": lambda s, x: run_node("MaxPool", [x], **windows(s, x.ndim - 2)),
    "avg_pool": avg_pool,
    "lp_pool": lp_pool,
    "max_unpool": max_unpool,
    "roi_align": roi_align,
    "global_avg_pool": global_pool("GlobalAveragePool"),
    "global_max_pool": global_pool("GlobalMaxPool"),
    "global_lp_pool": global_pool("GlobalLpPool"),
    "identity": elementwise("Identity"),
    "relu": elementwise("Relu"),
    "leaky_relu": leaky_relu,
    "prelu": prelu,
    "elu": elementwise("Elu", alpha="alpha"),
    "celu": elementwise("Celu", alpha="alpha"),
    "selu": elementwise("Selu"),
    "sigmoid": elementwise("Sigmoid"),
    "tanh": elementwise("Tanh"),
    "hard_sigmoid": hard_sigmoid,
    "hard_tanh": clip("min_val", "max_val"),
    "clipped_relu": clip(0, "max_value"),
    "relu6": clip(0, 6),
    "softplus": softplus,
    "softsign": elementwise("Softsign"),
    "hard_swish": elementwise("HardSwish"),
    "mish": elementwise("Mish"),
    "gelu": elementwise("Gelu", approximate="approximate"),
    "sign": sign,
    "softshrink": lambda s, x: run_node("Shrink", [x], lambd=s["lambd"], bias=s["lambd"]),
    "hardshrink": lambda s, x: run_node("Shrink", [x], lambd=s["lambd"]),
    "thresholded_relu": elementwise("ThresholdedRelu", alpha="alpha"),
    "exp": elementwise("Exp"),
    "abs": elementwise("Abs"),
    "softmax": elementwise("Softmax", axis="axis"),
    "hardmax": elementwise("Hardmax", axis="axis"),
    "log_softmax": elementwise("LogSoftmax", axis="axis"),
    "batch_norm": batch_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "layer_norm": layer_norm,
    "local_response_norm": local_response_norm,
    "concat": lambda s, *xs: run_node("Concat", xs, axis=s["axis"]),
    "add": add,
    "flatten": flatten,
    "pad": pad,
    "softmax_cross_entropy": cross_entropy,
}
