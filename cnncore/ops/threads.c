/* Serial stand-in. */
#include "threads.h"
#include <stddef.h>
int cnn_parallel(cnn_task task, void *call, int64_t tasks, int64_t grain, void *const *scratch, int threads, cnn_poll poll) {
    (void)threads;
    for (int64_t i = 0; i < tasks; i += grain) {
        if (poll && poll()) return 1;
        task(call, i, i + grain < tasks ? i + grain : tasks, scratch ? scratch[0] : NULL);
    }
    return 0;
}
int cnn_threads_available(void) { return 0; }
void cnn_threads_limit(int maximum) { (void)maximum; }
void cnn_threads_shutdown(void) {}
