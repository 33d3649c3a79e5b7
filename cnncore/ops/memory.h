/* Memory of the kernels: large pieces lie on large pages, and what every call needs for a moment is kept from call to call. */
#ifndef CNN_MEMORY_H
#define CNN_MEMORY_H

#include <stdint.h>

/* Aligned to a cache line and larger by up to a large page; NULL where there is none. */
void *cnn_memory_take(int64_t bytes);
void cnn_memory_give(void *memory);

/* In a build with the address sanitizer, ends the program when these bytes are touched before they are given back: what lies
 * between the parts of one piece of memory, where the sanitizer by itself sees nothing. In other builds, nothing. */
void cnn_memory_fence(void *from, int64_t bytes);

/* One block per purpose is kept between calls: a fresh one costs a page fault per 4 kB. Whoever takes it owns it; a second
 * caller at the same time gets a block of its own, and blocks that nobody can keep, or that are too large, are freed. */
enum { CNN_SCRATCH, CNN_PANELS, CNN_PURPOSES };
void *cnn_block_take(int purpose, int64_t bytes);
void cnn_block_give(int purpose, void *memory);

/* Small things that are kept together come from slabs of this size. Under the address sanitizer each has a slab to itself. */
#if defined(__SANITIZE_ADDRESS__)
enum { CNN_SLAB = 0 };
#else
enum { CNN_SLAB = 8 << 20 };
#endif

#endif
