# Random numbers that depend on a seed and a position alone, not on threads, call order or earlier draws.

from libc.stdint cimport uint32_t, uint64_t

# ── Philox4x32-10 ── Salmon, Moraes, Dror & Shaw 2011, Parallel random numbers: as easy as 1, 2, 3, doi:10.1145/2063384.2063405
#
#     A block is ten rounds over a counter of four 32-bit words, with a key of two that grows by a constant each round:
#
#     c ← (hi(c₂·M₁) ⊕ c₁ ⊕ k₀,  lo(c₂·M₁),  hi(c₀·M₀) ⊕ c₃ ⊕ k₁,  lo(c₀·M₀))

cdef inline void philox(const uint32_t *counter, const uint32_t *key, uint32_t *block) noexcept nogil:
    cdef uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3]
    cdef uint32_t k0 = key[0], k1 = key[1]
    cdef uint64_t p0, p1
    cdef int step
    for step in range(10):  # no-cython-lint
        p0 = <uint64_t> 0xD2511F53u * c0
        p1 = <uint64_t> 0xCD9E8D57u * c2
        c0 = <uint32_t> (p1 >> 32) ^ c1 ^ k0
        c1 = <uint32_t> p1
        c2 = <uint32_t> (p0 >> 32) ^ c3 ^ k1
        c3 = <uint32_t> p0
        k0 += <uint32_t> 0x9E3779B9u
        k1 += <uint32_t> 0xBB67AE85u
    block[0], block[1], block[2], block[3] = c0, c1, c2, c3


cdef inline void uniform_pair(uint64_t seed, uint64_t pair, double *numbers) noexcept nogil:
    """Numbers 2 · pair and 2 · pair + 1 of the sequence ``seed``: both from one block."""
    cdef uint32_t counter[4]
    cdef uint32_t key[2]
    cdef uint32_t block[4]
    counter[0], counter[1], counter[2], counter[3] = <uint32_t> pair, <uint32_t> (pair >> 32), 0, 0
    key[0], key[1] = <uint32_t> seed, <uint32_t> (seed >> 32)
    philox(counter, key, block)
    numbers[0] = <double> ((<uint64_t> block[1] << 32 | block[0]) >> 11) * (1.0 / 9007199254740992.0)
    numbers[1] = <double> ((<uint64_t> block[3] << 32 | block[2]) >> 11) * (1.0 / 9007199254740992.0)


cdef inline double uniform(uint64_t seed, uint64_t position) noexcept nogil:
    """Number ``position`` of the sequence ``seed``: uniform in [0, 1), a multiple of 2⁻⁵³.

    A double in either precision, so that a seed selects the same cells in float32 and in float64.
    """
    cdef double numbers[2]
    uniform_pair(seed, position >> 1, numbers)
    return numbers[position & 1]
