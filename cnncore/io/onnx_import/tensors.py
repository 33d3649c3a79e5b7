"""Arrays of an ONNX file: every type of number that ONNX has, as an array of numpy.

Types that numpy lacks are widened: bfloat16, float16 and the floats of 8 and 4 bits become float32, integers of 4 and 2 bits
int8 or uint8. Every array has as many numbers as its shape says.
"""

import math
from typing import NamedTuple

import numpy as np

from ...errors import ModelFileError

__all__ = ["INTEGER_RANGES", "NUMBERS", "TYPES", "array_of", "number_type", "type_name"]

MOST_AXES = 8
MOST_VALUES = 1 << 29  # of an array
EXTERNAL = 1


class NumberType(NamedTuple):
    """A type of ONNX: its name, what it is read as, how raw bytes are laid out, the field that holds it otherwise, its bits."""

    name: str
    dtype: type
    raw: str
    field: str
    bits: int
    floats: tuple = ()  # of the small floats: bits of the exponent and mantissa, bias, what stands at the end of the range


TYPES = {
    1: NumberType("float", np.float32, "<f4", "float_data", 32),
    2: NumberType("uint8", np.uint8, "|u1", "int32_data", 8),
    3: NumberType("int8", np.int8, "|i1", "int32_data", 8),
    4: NumberType("uint16", np.uint16, "<u2", "int32_data", 16),
    5: NumberType("int16", np.int16, "<i2", "int32_data", 16),
    6: NumberType("int32", np.int32, "<i4", "int32_data", 32),
    7: NumberType("int64", np.int64, "<i8", "int64_data", 64),
    9: NumberType("bool", np.bool_, "|b1", "int32_data", 8),
    10: NumberType("float16", np.float32, "<u2", "int32_data", 16),
    11: NumberType("double", np.float64, "<f8", "double_data", 64),
    12: NumberType("uint32", np.uint32, "<u4", "uint64_data", 32),
    13: NumberType("uint64", np.uint64, "<u8", "uint64_data", 64),
    16: NumberType("bfloat16", np.float32, "<u2", "int32_data", 16),
    17: NumberType("float8e4m3fn", np.float32, "|u1", "int32_data", 8, (4, 3, 7, "NaN last")),
    18: NumberType("float8e4m3fnuz", np.float32, "|u1", "int32_data", 8, (4, 3, 8, "NaN at -0")),
    19: NumberType("float8e5m2", np.float32, "|u1", "int32_data", 8, (5, 2, 15, "infinity")),
    20: NumberType("float8e5m2fnuz", np.float32, "|u1", "int32_data", 8, (5, 2, 16, "NaN at -0")),
    21: NumberType("uint4", np.uint8, "|u1", "int32_data", 4),
    22: NumberType("int4", np.int8, "|u1", "int32_data", 4),
    23: NumberType("float4e2m1", np.float32, "|u1", "int32_data", 4, (2, 1, 1, "numbers")),
    24: NumberType("float8e8m0", np.float32, "|u1", "int32_data", 8, (8, 0, 127, "scale")),
    25: NumberType("uint2", np.uint8, "|u1", "int32_data", 2),
    26: NumberType("int2", np.int8, "|u1", "int32_data", 2),
}
NUMBERS = {row.name: number for number, row in TYPES.items()}
OTHERS = {0: "no type", 8: "strings", 14: "complex64", 15: "complex128"}
# Least and largest number of the integers that quantized values are.
INTEGER_RANGES = {
    NUMBERS[name]: (-(1 << bits - 1), (1 << bits - 1) - 1) if name.startswith("int") else (0, (1 << bits) - 1)
    for name, bits in (
        *(("int2", 2), ("uint2", 2), ("int4", 4), ("uint4", 4), ("int8", 8), ("uint8", 8)),
        *(("int16", 16), ("uint16", 16), ("int32", 32)),
    )
}


def type_name(number):
    """What a type of ONNX is called."""
    return TYPES[number].name if number in TYPES else OTHERS.get(number, f"number {number}")


def number_type(number, what):
    """The type of that number, or ModelFileError."""
    if number not in TYPES:
        raise ModelFileError(
            f"{what} has values of type {type_name(number)}; expected numbers: floats of 4 to 64 bits, integers, or bool"
        )
    return TYPES[number]


def expect(right, text):
    if not right:
        raise ModelFileError(text)


def array_of(tensor, what, neighbours):
    """The numbers of a tensor: as many as its shape says; ``neighbours`` reads those that lie in another file."""
    kind = number_type(tensor.data_type, what)
    expect(not tensor.HasField("segment"), f"{what} comes in segments, which nobody writes any more")
    shape = tuple(tensor.dims)
    expect(len(shape) <= MOST_AXES, f"{what} has {len(shape)} axes; at most {MOST_AXES} are read")
    expect(all(n >= 0 for n in shape), f"{what} has a negative extent: {shape}")
    count = math.prod(shape)
    expect(count <= MOST_VALUES, f"{what} has {count} values {shape}; at most {MOST_VALUES} are read")
    needed = -(-count * kind.bits // 8)
    if tensor.data_location == EXTERNAL or tensor.external_data:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        content = neighbours.content(entries, needed, what)
    elif tensor.HasField("raw_data"):
        content = tensor.raw_data
        expect(
            len(content) == needed,
            f"{what} has {len(content)} bytes; its shape {shape} needs {needed}: the file is damaged",
        )
    else:
        return from_field(getattr(tensor, kind.field), kind, tensor.data_type, shape, what)
    return widened(np.frombuffer(content, kind.raw), kind, tensor.data_type, shape)


def from_field(content, kind, number, shape, what):
    """An array from a list of the message, where numbers of less than 8 bits lie several to an entry."""
    count = math.prod(shape)
    entries = -(-count * kind.bits // 8) if kind.bits < 8 else count
    expect(
        len(content) == entries,
        f"{what} has {len(content)} values; its shape {shape} needs {entries}: the file is damaged",
    )
    values = np.array(content)
    if kind.raw[1] == "u" and kind.bits <= 16:  # bits as integers
        values = values.astype(np.int64).astype(kind.raw)
    return widened(values, kind, number, shape)


def widened(bits, kind, number, shape):
    """Bits as an array has them, as numbers of a type that numpy has."""
    count = math.prod(shape)
    if kind.bits < 8:  # the first number lies in the lowest bits
        places = np.arange(0, 8, kind.bits, dtype=np.uint8)
        bits = ((bits[:, None] >> places) & ((1 << kind.bits) - 1)).reshape(-1)[:count]
    if kind.floats:
        values = small_floats(kind.bits, *kind.floats)[bits]
    elif kind.name == "float16":
        values = bits.astype(np.uint16, copy=False).view(np.float16)
    elif kind.name == "bfloat16":  # the upper half of a float32
        values = (bits.astype(np.uint32) << 16).view(np.float32)
    elif kind.name in ("int4", "int2"):
        half = 1 << kind.bits - 1
        values = (bits.astype(np.int8) ^ half) - np.int8(half)
    else:
        values = bits
    with np.errstate(all="ignore"):
        return values.astype(kind.dtype).reshape(shape)


def small_floats(bits, exponent_bits, mantissa_bits, bias, end):
    """The numbers of all patterns of ``bits`` bits: sign, exponent, mantissa.

    value = (−1)^sign · 2^(exponent − bias) · (1 + mantissa / 2^m), and without the 1 at exponent 0, where 2^(1 − bias) stands.
    ``end`` says what the last patterns are (ONNX, "Float stored in 8 bits"; Micikevicius et al. 2022, arXiv:2209.05433, table 1).
    """
    pattern = np.arange(1 << bits, dtype=np.int64)
    if end == "scale":  # no sign, no mantissa: powers of 2
        values = np.ldexp(1.0, pattern - bias)
        values[-1] = np.nan
        return values.astype(np.float32)
    sign = np.where(pattern >> bits - 1, -1.0, 1.0)
    exponent = (pattern >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = (pattern & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    values = sign * np.ldexp((exponent > 0) + mantissa, np.maximum(exponent, 1) - bias)
    last = exponent == (1 << exponent_bits) - 1
    if end == "infinity":
        values[last] = np.where(mantissa[last] == 0, sign[last] * np.inf, np.nan)
    elif end == "NaN last":
        values[last & (mantissa == 1 - 2.0**-mantissa_bits)] = np.nan
    elif end == "NaN at -0":
        values[1 << bits - 1] = np.nan
    return values.astype(np.float32)
