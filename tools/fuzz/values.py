"""Settings of any type as JSON and back, and where hostile ones come from."""

import math

import numpy as np

INTEGERS = [-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 4, 7, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**64]
NUMBERS = [math.nan, math.inf, -math.inf, 1e308, 1e30, -1.0, -0.0, 0.0, 0.5, 1.5, 2.5, 1e-30, 5e-324]
OTHERS = [None, True, False, "", "x", "auto", "mean", "valid", "same_upper", "same_lower", b"1", (), [], {}, 1j]
OTHERS += [(1, 2), [2, 2, 2], ((0, 1),), ((1, 0), (2, 1)), (None,), ("1", "2"), (2**40, 2**40), (0,), (1.0, 2)]
OTHERS += [np.int64(2), np.float32(2), np.bool_(True), np.array(2), np.array([1, 2]), np.array([]), np.array([0.5, 2])]


def encode(value):
    """A setting as JSON; what none of the kinds below describes becomes an object without meaning."""
    if value is None or isinstance(value, (bool, str)) or type(value) is int:
        return value
    if type(value) is float:
        return {"float": repr(value)}
    if isinstance(value, (tuple, list)):
        return {type(value).__name__: [encode(v) for v in value]}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf":
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        return {kind: [value.dtype.str, list(np.shape(value)), [repr(v) for v in np.ravel(value).tolist()]]}
    if isinstance(value, complex):
        return {"complex": repr(value)}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    return {"object": type(value).__name__}


def decode(said):
    """The setting that :func:`encode` wrote."""
    if not isinstance(said, dict):
        return said
    (kind, value), *_ = said.items()
    if kind in ("tuple", "list"):
        parts = [decode(v) for v in value]
        return tuple(parts) if kind == "tuple" else parts
    if kind in ("array", "scalar"):
        dtype, shape, numbers = value
        read = {"True": True, "False": False}
        array = np.array([read.get(v, v) for v in numbers]).astype(dtype).reshape(shape)
        return array if kind == "array" else array[()]
    simple = {"float": float, "complex": complex, "bytes": bytes.fromhex}
    return simple[kind](value) if kind in simple else {"dict": {}, "set": set()}.get(value, object())


def mutated(choice, value):
    """A setting near ``value``, in another type or container, or an odd one that has nothing to do with it."""
    near = []
    if type(value) is int and abs(value) >= 2**62:
        near = [-value, value + 1, value // 2, (value, value)]
    elif type(value) is int:
        near = [value + 1, value - 1, 2 * value, float(value), np.int64(value), (value,), (value, value), [value] * 3]
        near += [np.array(value), np.array([value, value + 1]), ((value, 0),), ((value, 1), (0, value))]
    elif type(value) is float:
        near = [
            np.float32(value) if abs(value) < 1e30 else 0,
            -value,
            value / 2,
            2 * value,
            np.array(value),
            int(value) if abs(value) < 1e9 else 0,
        ]
    elif isinstance(value, bool):
        near = [not value, int(value), np.bool_(value)]
    elif isinstance(value, (tuple, list)) and value:
        near = [list(value), tuple(value), value[:-1], (*value, value[-1]), value[0], tuple(reversed(value))]
        if all(type(v) is int for v in value):
            near += [tuple(v + choice.choice((-1, 1, 2)) for v in value), np.array(value), tuple(map(float, value))]
    kinds = [near] * 4 + [range(1, 10), INTEGERS, NUMBERS, OTHERS]
    return choice.choice([kind for kind in kinds if len(kind)][choice.randrange(sum(map(bool, kinds)))])
