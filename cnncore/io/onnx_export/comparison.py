"""Comparisons, logic and choices in ONNX: each is a node of nearly the same name."""

from .nodes import exports

__all__ = ["BOOLEAN_NODES"]

# Operators that are a node without attributes.
BOOLEAN_NODES = {
    "equal": "Equal",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "is_nan": "IsNaN",
    "logical_and": "And",
    "logical_or": "Or",
    "logical_xor": "Xor",
    "logical_not": "Not",
    "where": "Where",
}


@exports(*BOOLEAN_NODES)
def node(w, n):
    return w(BOOLEAN_NODES[n.op.name], *n.terms)


@exports("not_equal")
def not_equal(w, n):
    return w("Not", w("Equal", *n.terms))


@exports("is_inf")
def is_inf(w, n):
    negative, positive = n.settings["negative"], n.settings["positive"]
    return w("IsInf", n.x, detect_negative=int(negative), detect_positive=int(positive))


@exports("as_real")
def as_real(w, n):
    return w.cast(n.x)


@exports("as_index")
def as_index(w, n):
    return w.cast(n.x, "int64")


@exports("as_mask")
def as_mask(w, n):
    return w.cast(n.x, "bool")
