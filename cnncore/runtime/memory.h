/* Memory of the kernels: large allocations on huge pages, and temporary blocks that are kept from call to call. */
#ifndef CNN_MEMORY_H
#define CNN_MEMORY_H

#include <stdint.h>

/* Aligned to a cache line, and rounded up by at most a huge page; NULL if out of memory. */
void *cnn_memory_take(int64_t bytes);
void cnn_memory_give(void *memory);

/* Under the address sanitizer, poisons the gap between two parts of one allocation, where the sanitizer by itself would not
 * see an overrun; lifted when the memory is freed. In other builds, nothing. */
void cnn_memory_fence(void *from, int64_t bytes);

/* For tests: the allocation of this number, counted from 1 on, returns NULL, once; 0: none does. Frees the blocks that are kept,
 * so that they are allocated again. */
void cnn_memory_fail(int64_t number);

/* One block per purpose is kept between calls, as a fresh one costs a page fault per 4 kB. The caller that takes it owns it; a
 * concurrent caller gets a block of its own. Blocks that cannot be kept, or are too large, are freed. */
enum { CNN_SCRATCH, CNN_PANELS, CNN_PURPOSES };
void *cnn_block_take(int purpose, int64_t bytes);
void cnn_block_give(int purpose, void *memory);

/* Small allocations of an arena share slabs of this size. Under the address sanitizer each has its own slab. */
#if defined(__SANITIZE_ADDRESS__)
enum { CNN_SLAB = 0 };
#else
enum { CNN_SLAB = 8 << 20 };
#endif

#endif
