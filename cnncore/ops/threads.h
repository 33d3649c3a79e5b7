/* The pool of native threads. See threads.c. */
#ifndef CNN_THREADS_H
#define CNN_THREADS_H

#include "calls.h"

typedef int (*cnn_poll)(void);

int cnn_parallel(cnn_task task, void *call, int64_t tasks, int64_t grain, void *const *scratch, int threads, cnn_poll poll);
int cnn_threads_available(void);
void cnn_threads_limit(int maximum);
void cnn_threads_shutdown(void);

#endif
