/* Memory of the kernels: large pieces lie on large pages, and what every call needs for a moment is kept from call to call. */
#ifndef CNN_MEMORY_H
#define CNN_MEMORY_H

#include <stdint.h>

/* Aligned to a cache line and larger by up to a large page; NULL where there is none. */
void *cnn_memory_take(int64_t bytes);
void cnn_memory_give(void *memory);

/* One block per purpose is kept between calls: a fresh one costs a page fault per 4 kB. Whoever takes it owns it; a second
 * caller at the same time gets a block of its own, and blocks that nobody can keep, or that are too large, are freed. */
enum { CNN_SCRATCH, CNN_PANELS, CNN_PURPOSES };
void *cnn_block_take(int purpose, int64_t bytes);
void cnn_block_give(int purpose, void *memory);

#endif
