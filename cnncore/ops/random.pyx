"""Random numbers: the counter-based generator of random.pxd, for Python."""

from libc.stdint cimport uint32_t, uint64_t

from cnncore.ops.dispatch cimport CNN_FLOAT64, Tensor


def philox_block(tuple counter, tuple key):
    """The four words of one block of Philox4x32-10.

    >>> [f"{word:08x}" for word in philox_block((0, 0, 0, 0), (0, 0))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    cdef uint32_t words[4]
    cdef uint32_t keys[2]
    cdef uint32_t block[4]
    cdef int i
    for i in range(4):
        words[i] = counter[i]
    for i in range(2):
        keys[i] = key[i]
    philox(words, keys, block)
    return tuple([block[i] for i in range(4)])


def fill_uniform(uint64_t seed, uint64_t start, out):
    """Fill ``out``, contiguous float64, with the numbers start, start + 1, … of the sequence ``seed``."""
    cdef Tensor O = Tensor(out, True)
    if O.precision != CNN_FLOAT64:
        raise TypeError("fill_uniform fills float64 arrays")
    cdef double *values = <double *> O.view.data
    cdef uint64_t i
    for i in range(<uint64_t> (O.buffer.len // 8)):
        values[i] = uniform(seed, start + i)
