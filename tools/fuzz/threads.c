/* The thread pool and the allocator under ThreadSanitizer: several callers at once, nested calls, stops, limits that change, ends
 * of the pool. Ends with 0 if every task ran exactly once; the sanitizer reports what it sees by itself.
 *
 * With PLANT_A_RACE defined all tasks write one place, so that a run shows that reports arrive.
 */
#include "memory.h"
#include "threads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALLERS = 4, MOST_TASKS = 300, THREADS = 4 };

struct call {
    int64_t tasks, total;
    int64_t *values; /* of every task; plain memory, so that a task that runs twice is a race */
    int nested;
};

static atomic_int failures;
static int rounds;
static unsigned seed;

static void inner_task(void *call, int64_t begin, int64_t end, void *scratch) {
    (void)scratch;
    int64_t *values = call;
    for (int64_t i = begin; i < end; i++)
        values[i] += 1;
}

static void task(void *argument, int64_t begin, int64_t end, void *scratch) {
    struct call *call = argument;
    for (int64_t i = begin; i < end; i++) {
        if (cnn_stop_requested())
            return;
        call->values[i] += i + 1;
#if defined(PLANT_A_RACE)
        call->total += i;
#endif
    }
    if (scratch)
        memset(scratch, (int)begin, 64); /* two workers with one scratch would be a race */
    if (call->nested) {
        int64_t inner[5] = {0};
        cnn_parallel(inner_task, inner, 5, 1, NULL, THREADS, NULL);
        for (int i = 0; i < 5; i++)
            failures += inner[i] != 1;
    }
}

static int stop_at_once(void) { return 1; }

static void *caller(void *argument) {
    unsigned random = seed + 7919 * (unsigned)(size_t)argument;
    int64_t values[MOST_TASKS];
    for (int round = 0; round < rounds; round++) {
        random = random * 1664525u + 1013904223u;
        struct call call = {1 + (random >> 8) % MOST_TASKS, 0, values, (random >> 20) % 8 == 0};
        memset(values, 0, sizeof values);
        void *scratch[THREADS];
        char *block = cnn_block_take(CNN_SCRATCH, THREADS * 128);
        for (int i = 0; i < THREADS; i++)
            scratch[i] = block + i * 128;
        int stopped = cnn_parallel(task, &call, call.tasks, 1 + (random >> 12) % 7, scratch, THREADS,
                                   (random >> 16) % 16 ? NULL : stop_at_once);
        cnn_block_give(CNN_SCRATCH, block);
        for (int64_t i = 0; i < call.tasks; i++)
            failures += values[i] != i + 1 && !(stopped && values[i] == 0);
        if ((random >> 24) % 64 == 0)
            cnn_threads_limit(1 + (int)(random >> 16) % THREADS);
        if ((random >> 24) % 128 == 5)
            cnn_threads_shutdown();
    }
    return NULL;
}

int main(int count, char **arguments) {
    rounds = count > 1 ? atoi(arguments[1]) : 2000;
    seed = count > 2 ? (unsigned)atoi(arguments[2]) : 0;
    pthread_t threads[CALLERS];
    for (size_t i = 0; i < CALLERS; i++)
        pthread_create(&threads[i], NULL, caller, (void *)i);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
    cnn_threads_shutdown();
    printf("%d calls, %d failures\n", CALLERS * rounds, failures);
    return failures != 0;
}
