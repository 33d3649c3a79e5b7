/* The native thread pool: one small pool per process that runs the tasks of one operator call at a time.
 *
 * Results never depend on it: tasks are cut by the caller, each output element belongs to one task, so the number of
 * threads decides only who computes what. Link threads.c into exactly one extension, or there will be several pools.
 */
#ifndef CNNCORE_OPS_THREADS_H
#define CNNCORE_OPS_THREADS_H

#include <stdint.h>

/* Runs tasks begin <= i < end of a call. Must not raise, jump out, or need the interpreter. */
typedef void (*cnn_task)(void *call, int64_t begin, int64_t end, void *scratch);

/* Returns non-zero to stop. Runs only on the thread that called cnn_parallel, between tasks and where a task calls
 * cnn_stop_requested, at most every 50 ms (counted per thread across calls, so that many short calls in a row are
 * interruptible too). */
typedef int (*cnn_poll)(void);

/* Runs `tasks` tasks, each exactly once, on at most `threads` threads including the caller, handed out in chunks of
 * `grain` consecutive tasks. scratch[w] goes to worker slot w, 0 <= w < threads, slot 0 being the caller; scratch may
 * be NULL. poll may be NULL. Returns 0, or 1 if poll asked to stop: the remaining tasks are then skipped. In either
 * case no worker touches the call any more. While the pool serves another thread, and inside a task (where poll is
 * left to the outer call), all tasks run on the calling thread with scratch[0].
 * Tasks run in the default floating-point environment (subnormals kept); the caller's own is restored afterwards. */
int cnn_parallel(cnn_task task, void *call, int64_t tasks, int64_t grain, void *const *scratch, int threads, cnn_poll poll);

/* For tasks that may take longer than 50 ms, which call it after every piece of work of 10 us or more (it reads the clock).
 * Non-zero: the call is being stopped, and what the task leaves unfinished nobody will look at; return at once. */
int cnn_stop_requested(void);

/* Runs all tasks on the calling thread, as one chunk, in the default floating-point environment: for calls that take less
 * time than sharing them out or asking whether to stop. */
void cnn_run_here(cnn_task task, void *call, int64_t tasks, void *scratch);

/* Nanoseconds of a clock that only goes forward, and of processor time of the calling thread where the system counts that. */
int64_t cnn_nanoseconds(void);
int64_t cnn_thread_nanoseconds(void);

/* The number of processors that the calling thread may use: its affinity mask, within the limit that cnn_processors_limit
 * sets (a container's quota). More threads than that gain nothing and wait for each other. Looked up at most every 20 ms;
 * where the system does not tell, a number larger than any number of threads. */
int cnn_processors(void);
void cnn_processors_limit(int maximum);

/* Upper bound on the threads of any call, the caller included; clamped to 1..256 (the initial value is 256). Workers
 * are created when first needed; those above a lowered bound stay asleep. */
void cnn_threads_limit(int maximum);

/* Ends and joins the workers (call it without holding the interpreter lock); does nothing if there are none, or inside
 * a task. A later cnn_parallel starts new ones. */
void cnn_threads_shutdown(void);

#endif
