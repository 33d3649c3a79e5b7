"""The kind of a net's outputs, derived from its structure: scores of classes, probabilities, maps, plain numbers.

    logits                      unnormalised scores of classes (N, K), the input of softmax
    probabilities               of exclusive classes: they sum to 1 along axis 1
    log_probabilities           their logarithms
    independent_probabilities   of independent labels, one each: sigmoid
    maps                        values at every position of an image
    values                      any other numbers: one for an image, or outputs of unknown kind
    integers, booleans          outputs of arg_max, comparisons and similar operators

The kind is found by going back from the output, through operators that do not change values, to softmax, sigmoid and similar
operators. ``net.output_kind`` returns it; losses, evaluation, prediction and :class:`cnncore.classify.Classifier` use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from numpy.typing import DTypeLike

from ..errors import SettingError, unknown_name
from .plan import infer
from .structure import Structure

__all__ = ["KINDS", "Output", "checked_kind", "outputs_of"]

KINDS = (
    "logits",
    "probabilities",
    "log_probabilities",
    "independent_probabilities",
    "maps",
    "values",
    "integers",
    "booleans",
)
KIND_OF_ROLE = {"index": "integers", "mask": "booleans"}

# Operator → the kind of its output: distributions over classes along its axis; sigmoids elementwise.
OF_CLASSES = {
    **dict.fromkeys(("softmax", "softmin", "sparsemax", "hardmax"), "probabilities"),
    "log_softmax": "log_probabilities",
}
OF_EACH = dict.fromkeys(("sigmoid", "hard_sigmoid", "sparse_sigmoid"), "independent_probabilities")
# Functions whose loss is computed from their input, which avoids their rounding.
OF_SCORES = ("softmax", "log_softmax", "sigmoid")

SAME_NUMBERS = ("identity", "flatten", "reshape", "squeeze", "unsqueeze")  # in the same order
STILL_PROBABILITIES = ("global_avg_pool", "relu", "hard_tanh", "clipped_relu", "fake_quantize")  # bounds, means, steps
PARTS = ("slice", "split", "gather")
PAIRWISE = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "power")
MOST_STEPS = 100  # steps back from an output; files could contain arbitrarily many


class Output(NamedTuple):
    """An output of a net: its kind, the name of its last function, and the number of that function's input if a loss
    can be computed from it (see OF_SCORES). ``shape`` is the shape those scores are reshaped to, with at most one open
    extent besides N.
    """

    kind: str
    function: str | None = None
    scores: int | None = None
    shape: tuple[int | None, ...] | None = None


def checked_kind(place: str, kind: str) -> str:
    """``kind``, after checking that it is one."""
    if kind not in KINDS:
        raise SettingError(unknown_name(place, "kind", kind, KINDS))
    return kind


def outputs_of(structure: Structure, dtype: DTypeLike) -> tuple[Output, ...]:
    """An :class:`Output` for each output of a graph."""
    _, shapes = infer(structure, [row.shape for row in structure.inputs], dtype)
    return tuple(output_of(structure, shapes, value) for value in structure.outputs)


def output_of(structure: Structure, shapes: Sequence[Any], value: int) -> Output:
    """The :class:`Output` of the value with this number."""
    if structure.roles[value] != "real":
        return Output(KIND_OF_ROLE[structure.roles[value]])
    found = last_function(structure, shapes, value) or joined(structure, shapes, value)
    return Output(plain_kind(shapes[value])) if found is None else found


def plain_kind(shape: tuple[int | None, ...]) -> str:
    """The kind of unbounded outputs."""
    if set(shape[2:]) - {1}:
        return "maps"
    return "values" if len(shape) < 2 or shape[1] == 1 else "logits"  # softmax over one number is 1


def last_function(structure: Structure, shapes: Sequence[Any], value: int) -> Output | None:
    """The :class:`Output` of a value that comes from softmax, sigmoid or the like, possibly through operators that keep
    its values; None for others.
    """
    last, exact = value, True
    for _ in range(MOST_STEPS):
        number = value - len(structure.inputs)
        if number < 0:
            return None
        node = structure.nodes[number]
        name = node.op.name
        if name in OF_CLASSES or name in OF_EACH:
            break
        if name not in (*SAME_NUMBERS, *STILL_PROBABILITIES, *PARTS) or node.arguments[0] is None:
            return None
        exact = exact and name in SAME_NUMBERS
        value = node.arguments[0]
    else:
        return None
    if not exact or name not in OF_SCORES or (shapes[last][1:].count(None) > 1 and shapes[last] != shapes[value]):
        begins: tuple[Any, ...] = ()
    else:
        begins = (node.arguments[0], None if shapes[last] == shapes[value] else shapes[last])
    if name in OF_EACH:
        return Output(OF_EACH[name], name, *begins)
    kind, axis = OF_CLASSES[name], node.op.full_settings(node.settings)["axis"]
    if along_classes(shapes[value], axis, shapes[last]):
        return Output(kind, name, *begins)
    # Probabilities of some of the classes, or along another axis: they do not sum to 1 along axis 1.
    return Output("independent_probabilities" if kind == "probabilities" else "values", name)


def along_classes(shape: tuple[int | None, ...], axis: int, made: tuple[int | None, ...]) -> bool:
    """Whether axis ``axis`` of ``shape`` is axis 1 of ``made`` after reshaping."""
    axis %= len(shape)
    return axis > 0 and len(made) > 1 and set(shape[1:axis]) <= {1} and shape[axis] == made[1]


def joined(structure: Structure, shapes: Sequence[Any], value: int) -> Output | None:
    """The :class:`Output` of a value that combines only probabilities; None for other values."""
    number = value - len(structure.inputs)
    node = None if number < 0 else structure.nodes[number]
    if node is None or node.op.name not in ("concat", *PAIRWISE):
        return None
    known = [a for a in node.arguments if a is not None and not is_constant(structure, a)]
    each = [last_function(structure, shapes, a) for a in known[:MOST_STEPS]]
    kinds = [output.kind for output in each if output is not None]
    if not each or len(kinds) < len(each):
        return None
    both = node.op.name == "concat" and all("probabilities" in kind and "log" not in kind for kind in kinds)
    return Output("independent_probabilities" if both else "values")


def is_constant(structure: Structure, value: int) -> bool:
    number = value - len(structure.inputs)
    return number >= 0 and all(a is None for a in structure.nodes[number].arguments)
