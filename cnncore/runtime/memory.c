/* The allocator of memory.h. Besides threads.c the only file that calls the operating system, which it can do without.
 *
 * Huge pages: the weights of a net, tens of megabytes read once per pass, cost a TLB miss per 4 kB on ordinary pages. On
 * pages of 2 MB the convolutions of GoogLeNet take 6 % less time.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* madvise */
#endif
#include "memory.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>

enum { LINE = 64, LARGE_PAGE = 2 << 20, LARGEST_KEPT_BLOCK = -1 }; /* a kept block would hide overruns from the sanitizer */

void cnn_memory_fence(void *from, int64_t bytes) { ASAN_POISON_MEMORY_REGION(from, (size_t)bytes); }
#else
enum { LINE = 64, LARGE_PAGE = 2 << 20, LARGEST_KEPT_BLOCK = 64 << 20 };

void cnn_memory_fence(void *from, int64_t bytes) {
    (void)from;
    (void)bytes;
}
#endif

static atomic_int_least64_t until_failure; /* 0: no allocation is made to fail */

void *cnn_memory_take(int64_t bytes) {
    if (atomic_load_explicit(&until_failure, memory_order_relaxed) > 0 && atomic_fetch_sub(&until_failure, 1) == 1) return NULL;
    const int64_t unit = bytes < LARGE_PAGE ? LINE : LARGE_PAGE;
    if (bytes > INT64_MAX - unit) return NULL;
    const size_t whole = (size_t)((bytes + unit - 1) / unit * unit);
    void *memory = aligned_alloc((size_t)unit, whole);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (memory && unit == LARGE_PAGE) madvise(memory, whole, MADV_HUGEPAGE); /* a hint; ordinary pages work too */
#endif
    if (memory) cnn_memory_fence((char *)memory + bytes, (int64_t)whole - bytes);
    return memory;
}

void cnn_memory_give(void *memory) { free(memory); }

struct block {
    _Alignas(LINE) int64_t bytes;
};

static _Atomic(struct block *) kept[CNN_PURPOSES];

void *cnn_block_take(int purpose, int64_t bytes) {
    struct block *block = atomic_exchange(&kept[purpose], NULL);
    if (block && block->bytes >= bytes) return block + 1;
    cnn_memory_give(block);
    block = cnn_memory_take(bytes + (int64_t)sizeof *block);
    if (!block) return NULL;
    block->bytes = bytes;
    return block + 1;
}

void cnn_block_give(int purpose, void *memory) {
    struct block *block = (struct block *)memory - 1, *empty = NULL;
    if (block->bytes > LARGEST_KEPT_BLOCK || !atomic_compare_exchange_strong(&kept[purpose], &empty, block))
        cnn_memory_give(block);
}

void cnn_memory_fail(int64_t number) {
    for (int purpose = 0; purpose < CNN_PURPOSES; purpose++) cnn_memory_give(atomic_exchange(&kept[purpose], NULL));
    atomic_store(&until_failure, number);
}
