"""Model files: one file, no pickle, checked before anything is allocated, written atomically.

A model file is a safetensors file, so that every tool that reads those can read the weights by name:

    8 bytes         length of the header, little-endian
    header          JSON: {"__metadata__": {...}, "conv.w": {"dtype": "F32", "shape": [...], "data_offsets": [begin, end]}, ...}
    arrays          little-endian, C order, one after the other without gaps

``__metadata__`` holds strings: "format" and "version", "model" (JSON: the graph, its seed and dtype, and what the user keeps
with it), and "sha256" over the whole file in which those 64 digits are zeros. A file of which any bit has changed is refused;
what a file with a right digest says is then checked as if an enemy had written it.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import sys

import numpy as np

from .errors import ModelFileError

__all__ = ["read", "write"]

FORMAT, VERSION = "cnncore", "1"
MOST_HEADER_BYTES = 1 << 26
MOST_ARRAY_BYTES = 1 << 36
MOST_AXES = 8
DTYPES = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
CODES = {np.dtype(np.float32): "F32", np.dtype(np.float64): "F64"}
NO_DIGEST = "0" * 64
CHUNK = 1 << 20


def write(path, model, arrays):
    """Write ``model`` (plain data) and ``arrays`` (name → array): the file at ``path`` is the old one or the new one, whole."""
    offset = 0
    rows = {}
    for name, array in arrays.items():
        end = offset + array.nbytes
        rows[name] = {"dtype": CODES[array.dtype], "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    metadata = {"format": FORMAT, "version": VERSION, "model": json.dumps(model, allow_nan=False), "sha256": NO_DIGEST}
    header = json.dumps({"__metadata__": metadata, **rows}, ensure_ascii=True).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > MOST_HEADER_BYTES:
        raise ModelFileError(
            f"{path}: the description takes {len(header)} bytes; at most {MOST_HEADER_BYTES} are allowed"
        )
    parts = [len(header).to_bytes(8, "little"), header]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    for array in arrays.values():
        digest.update(little_endian(array))
    parts[1] = header.replace(digest_field(NO_DIGEST), digest_field(digest.hexdigest()), 1)

    path = os.fspath(path)
    folder = os.path.dirname(os.path.abspath(path))
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{secrets.token_hex(6)}.part")
    try:
        with open(temporary, "xb") as file:
            for part in parts:
                file.write(part)
            for array in arrays.values():
                file.write(little_endian(array))
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(path):
            os.chmod(temporary, os.stat(path).st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(folder)


def read(path):
    """(model, arrays) of a model file; anything wrong with it is a ModelFileError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = file.read(8)
        header_bytes = int.from_bytes(length, "little")
        if len(length) < 8 or header_bytes < 2 or header_bytes > min(MOST_HEADER_BYTES, size - 8):
            raise ModelFileError(f"{path}: not a model file, or cut off: {size} bytes cannot hold its header")
        header = file.read(header_bytes)
        rows = parsed(path, header)
        metadata = rows.pop("__metadata__", None)
        check_metadata(path, metadata)
        model = parsed(path, metadata["model"])
        total = check_rows(path, rows)
        if size != 8 + header_bytes + total:
            raise ModelFileError(
                f"{path}: {size} bytes long, expected {8 + header_bytes + total}: the file was cut off or added to"
            )
        check_digest(path, file, length, header, metadata["sha256"])
        arrays = {}
        file.seek(8 + header_bytes)
        for name, row in rows.items():
            dtype = DTYPES[row["dtype"]]
            array = np.empty(row["shape"], dtype)
            if file.readinto(memoryview(array.reshape(-1).view(np.uint8))) != array.nbytes:
                raise ModelFileError(f"{path}: the file changed while it was read")
            arrays[name] = array.astype(dtype.newbyteorder("="), copy=False)
    return model, arrays


def little_endian(array):
    """The bytes of an array as they stand in a file."""
    array = np.ascontiguousarray(array)
    if sys.byteorder == "big":
        array = array.byteswap()
    return memoryview(array.reshape(-1).view(np.uint8))


def digest_field(digest):
    return f'"sha256": "{digest}"'.encode()


def sync_folder(folder):
    """Let the new name survive a power failure, where folders can be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


# ── Checks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def parsed(path, text):
    """JSON without its traps: repeated keys, NaN, numbers of a million digits, nesting without end."""

    def unique(pairs):
        names = dict(pairs)
        if len(names) < len(pairs):
            raise ValueError("a key stands twice")
        return names

    def no_constant(word):
        raise ValueError(f"{word} is not a number of JSON")

    try:
        found = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: the header cannot be read: {error or 'nested too deeply'}") from None
    if not isinstance(found, dict):
        raise ModelFileError(f"{path}: the header is no JSON object")
    return found


def check_metadata(path, metadata):
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ModelFileError(f"{path}: not a model file of cnncore (no {FORMAT!r} in its metadata)")
    if metadata.get("version") != VERSION:
        raise ModelFileError(f"{path}: version {metadata.get('version')!r}; this cnncore reads version {VERSION}")
    if not isinstance(metadata.get("model"), str) or not isinstance(metadata.get("sha256"), str):
        raise ModelFileError(f"{path}: its metadata lacks the model or the sha256")


def check_rows(path, rows):
    """Bytes of all arrays, after checking that they follow each other without gap, overlap or overflow."""
    offset = 0
    for name, row in rows.items():
        place = f"{path}: array {name!r}"
        if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
            raise ModelFileError(f"{place}: expected dtype, shape and data_offsets")
        if not isinstance(row["dtype"], str) or row["dtype"] not in DTYPES:
            raise ModelFileError(f"{place}: dtype {row['dtype']!r}; expected one of {', '.join(DTYPES)}")
        shape, offsets = row["shape"], row["data_offsets"]
        if not isinstance(shape, list) or len(shape) > MOST_AXES or not all(natural(n) and n > 0 for n in shape):
            raise ModelFileError(f"{place}: shape {shape!r}; expected at most {MOST_AXES} positive integers")
        if not isinstance(offsets, list) or len(offsets) != 2 or not all(natural(n) for n in offsets):
            raise ModelFileError(f"{place}: data_offsets {offsets!r}; expected two integers")
        end = offset + math.prod(shape) * DTYPES[row["dtype"]].itemsize
        if offsets != [offset, end]:
            raise ModelFileError(f"{place}: data_offsets {offsets}; with shape {shape} they must be {[offset, end]}")
        offset = end
        if offset > MOST_ARRAY_BYTES:
            raise ModelFileError(f"{path}: the arrays take more than {MOST_ARRAY_BYTES} bytes")
    return offset


def natural(number):
    return type(number) is int and 0 <= number < 1 << 48


def check_digest(path, file, length, header, said):
    """Raise unless the file's bytes have the digest it names."""
    if not re.fullmatch("[0-9a-f]{64}", said) or header.count(digest_field(said)) != 1:
        raise ModelFileError(f"{path}: its sha256 is no such digest")
    field = digest_field(said)
    digest = hashlib.sha256(length)
    digest.update(header.replace(field, digest_field(NO_DIGEST)))
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    if digest.hexdigest() != said:
        raise ModelFileError(f"{path}: the file is damaged (its sha256 is not {said[:12]}…)")
