/* The thread pool of threads.h. docs/architecture.md says why it is not OpenMP.
 *
 * A region is one call of cnn_parallel. Its tasks are divided into one share per thread. Each thread runs its own share, by an
 * atomic counter, and then steals from the others'. In a sequence of regions a thread thus returns to the part of the arrays
 * that it wrote before and that is in its own cache. The caller never depends on a worker: it runs tasks until all counters
 * are exhausted and then waits only for workers that have joined. A worker that is asleep or not scheduled costs speed, never
 * progress.
 *
 * All synchronisation between workers and caller goes through one atomic word, the roster:
 *     open slots (upper 16 bits) | active workers (lower 16 bits).
 * A worker joins by one compare-and-swap, which also gives it its slot number; only then does it read the region. The caller
 * closes the roster (no open slots) and waits until no worker is active. As only active workers read the region, it can be on
 * the caller's stack.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* names and CPUs of threads */
#endif
#include "threads.h"

#include <fenv.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>
#if defined(__linux__)
#include <sched.h>
#elif defined(__APPLE__) || defined(__unix__)
#include <unistd.h>
#endif

/* WebAssembly has threads only if asked for; on Windows tasks run on the calling thread (there is no pthread). */
#if (defined(__EMSCRIPTEN__) && !defined(__EMSCRIPTEN_PTHREADS__)) || defined(__wasi__) || defined(_WIN32)
#ifndef CNNCORE_NO_THREADS
#define CNNCORE_NO_THREADS
#endif
#endif

enum { MOST_THREADS = 256 };

static const int64_t POLL_INTERVAL = 50 * 1000 * 1000; /* nanoseconds */

struct region {
    cnn_task task;
    void *call;
    int64_t tasks, grain;
    void *const *scratch;
};

static _Thread_local bool inside;       /* this thread is running tasks of a region: calls made now are nested */
static _Thread_local cnn_poll poll;     /* of the region whose caller this thread is, else NULL */
static _Thread_local bool stopped;      /* poll has asked to stop */
static _Thread_local int64_t last_poll; /* per thread, as poll concerns the calling thread */

static int64_t now(void) {
    struct timespec t;
#ifdef _WIN32
    timespec_get(&t, TIME_UTC);
#else
    clock_gettime(CLOCK_MONOTONIC, &t);
#endif
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t cnn_nanoseconds(void) { return now(); }

int64_t cnn_thread_nanoseconds(void) {
#ifdef CLOCK_THREAD_CPUTIME_ID
    struct timespec t;
    if (!clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t)) return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
#endif
    return now();
}

/* ---- Processors ---- */

enum { MANY_PROCESSORS = 1 << 20 };

static const int64_t LOOK_INTERVAL = 20 * 1000 * 1000; /* nanoseconds */

static atomic_int processors_limit = MANY_PROCESSORS;

static int processors_of_this_thread(void) {
#if defined(__linux__)
    cpu_set_t allowed; /* fails on systems with more processors than it has room for */
    if (!sched_getaffinity(0, sizeof allowed, &allowed) && CPU_COUNT(&allowed) > 0) return CPU_COUNT(&allowed);
#elif defined(_SC_NPROCESSORS_ONLN)
    int64_t online = sysconf(_SC_NPROCESSORS_ONLN);
    if (online > 0 && online < MANY_PROCESSORS) return (int)online;
#endif
    return MANY_PROCESSORS;
}

int cnn_processors(void) {
    static _Thread_local int found; /* of this thread, whose mask may be another than that of the process */
    static _Thread_local int64_t looked;
    int64_t time = now();
    if (!found || (uint64_t)(time - looked) > (uint64_t)LOOK_INTERVAL) {
        found = processors_of_this_thread();
        looked = time;
    }
    int limit = atomic_load_explicit(&processors_limit, memory_order_relaxed);
    return found < limit ? found : limit;
}

void cnn_processors_limit(int maximum) { atomic_store(&processors_limit, maximum < 1 ? 1 : maximum); }

static bool stop_requested(void) {
    /* Unsigned: if the clock was set back, poll at once. */
    if (stopped || !poll || (uint64_t)(now() - last_poll) < (uint64_t)POLL_INTERVAL) return stopped;
    cnn_poll callers = poll;
    poll = NULL; /* calls nested in it do not poll, nor are they stopped */
    stopped = callers() != 0;
    poll = callers;
    last_poll = now(); /* after poll, which may have waited for the GIL */
    return stopped;
}

/* Saves the caller's floating-point environment and installs the default one. On x86-64 tasks compute in vector registers only:
 * exchanging their control word takes 5 ns, the whole environment 200. */
#if defined(__x86_64__)
typedef unsigned environment;

static environment enter_default_environment(void) {
    unsigned callers = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(0x1F80); /* round to nearest, keep subnormals, trap nothing */
    return callers;
}

static void restore_environment(environment callers) { __builtin_ia32_ldmxcsr(callers); }
#else
typedef fenv_t environment;

static environment enter_default_environment(void) {
    fenv_t callers;
    fegetenv(&callers);
    fesetenv(FE_DFL_ENV);
    return callers;
}

static void restore_environment(environment callers) { fesetenv(&callers); }
#endif

/* Returns the begin of the next chunk. */
static int64_t run_chunk(const struct region *region, int64_t begin, int slot) {
    int64_t end = region->tasks - begin > region->grain ? begin + region->grain : region->tasks;
    region->task(region->call, begin, end, region->scratch ? region->scratch[slot] : NULL);
    return end;
}

static int run_alone(const struct region *region) {
    for (int64_t begin = 0; begin < region->tasks && !stop_requested();) begin = run_chunk(region, begin, 0);
    return stopped;
}

#ifdef CNNCORE_NO_THREADS

static int run_shared(const struct region *region, int threads) {
    (void)threads;
    return run_alone(region);
}

int cnn_stop_requested(void) { return stop_requested(); }
void cnn_threads_limit(int maximum) { (void)maximum; }
void cnn_threads_shutdown(void) {}

#else

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>

enum { OPEN_SLOT = 1 << 16, ACTIVE = OPEN_SLOT - 1, CACHE_LINE = 64, STACK_SIZE = 1 << 20 };

/* Waiting threads spin before they sleep, as waking one costs 5 to 50 us. After SPIN_GREEDY they yield in every iteration: on a
 * busy machine the thread waited for may need this very CPU. */
static const int64_t SPIN_GREEDY = 10 * 1000, SPIN_TOTAL = 50 * 1000; /* nanoseconds */

struct share {
    alignas(CACHE_LINE) atomic_int_least64_t next; /* next chunk; counting chunks, not tasks, cannot overflow */
    int64_t end;
    int64_t next_at_fork;
};

static struct {
    atomic_bool taken;           /* some thread is running a region on the pool */
    atomic_bool stopping;        /* that region is to end: tasks that ask return early */
    const struct region *region; /* this, shares and the ends of shares are read only by active workers */
    int shares;
    atomic_int cpu;         /* CPU of the caller; -1: unknown */
    atomic_int limit;       /* cnn_threads_limit */
    atomic_int workers;     /* existing workers; changed under the lock */
    atomic_uint generation; /* workers of an older generation exit */
    alignas(CACHE_LINE) atomic_uint roster;
    struct share share[MOST_THREADS];
    alignas(CACHE_LINE) atomic_int sleepers; /* asleep and not yet woken; changed under the lock */
    atomic_bool caller_sleeps;
    pthread_mutex_t lock; /* never held while tasks, poll or joins run */
    pthread_cond_t woken, finished;
    int wakeups;    /* sleepers woken that have not yet returned; under the lock, as is the rest */
    int obtainable; /* workers that the system can create, as far as known */
    bool fork_ready;
    pthread_t thread[MOST_THREADS - 1];
} pool = {
    .limit = MOST_THREADS,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .woken = PTHREAD_COND_INITIALIZER,
    .finished = PTHREAD_COND_INITIALIZER,
    .obtainable = MOST_THREADS - 1
};

static _Thread_local bool leads; /* this thread runs the region on the pool */
static _Thread_local bool works; /* this thread is a worker */

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
}

/* Spins until some of the roster's bits in `mask` are set (or, if not `set`, none). False: still not so. */
static bool spin_until(unsigned mask, bool set) {
    for (int64_t start = now();;) {
        for (int i = 0; i < 8; i++) {
            if (((atomic_load_explicit(&pool.roster, memory_order_acquire) & mask) != 0) == set) return true;
            relax();
        }
        int64_t spun = now() - start;
        if (spun > SPIN_TOTAL) return false;
        if (spun > SPIN_GREEDY) sched_yield();
    }
}

static void divide_into_shares(int64_t chunks, int shares) {
    pool.shares = shares;
    atomic_store_explicit(&pool.stopping, false, memory_order_relaxed);
    for (int i = 0; i < shares; i++) {
        atomic_store_explicit(&pool.share[i].next, chunks / shares * i + chunks % shares * i / shares, memory_order_relaxed);
        pool.share[i].end = chunks / shares * (i + 1) + chunks % shares * (i + 1) / shares;
    }
}

static void stop_handing_out(void) {
    atomic_store_explicit(&pool.stopping, true, memory_order_relaxed);
    for (int i = 0; i < pool.shares; i++) atomic_store_explicit(&pool.share[i].next, pool.share[i].end, memory_order_relaxed);
}

/* Runs chunks on this thread until none is left. Relaxed counting suffices: the roster orders memory accesses. */
static void run_chunks(int slot) {
    const struct region *region = pool.region;
    for (int i = 0; i < pool.shares; i++) {
        struct share *share = &pool.share[(slot + i) % pool.shares];
        for (;;) {
            if (stop_requested()) {
                stop_handing_out();
                return;
            }
            int64_t chunk = atomic_fetch_add_explicit(&share->next, 1, memory_order_relaxed);
            if (chunk >= share->end) break;
            run_chunk(region, chunk * region->grain, slot);
        }
    }
}

int cnn_stop_requested(void) { return works ? atomic_load_explicit(&pool.stopping, memory_order_relaxed) : stop_requested(); }

static int this_cpu(void) {
#if defined(__linux__)
    return sched_getcpu();
#else
    return -1;
#endif
}

/* ---- Worker side ---- */

/* Schedulers may wake a worker on the CPU of the calling thread and keep both there although another CPU is idle or runs
 * something of low priority; two threads are then no faster than one. The worker migrates by excluding that CPU from its
 * affinity mask for a moment. */
static void migrate_from_callers_cpu(void) {
#if defined(__linux__)
    cpu_set_t allowed, others;
    int cpu = atomic_load_explicit(&pool.cpu, memory_order_relaxed);
    if (cpu < 0 || this_cpu() != cpu || sched_getaffinity(0, sizeof allowed, &allowed)) return;
    others = allowed;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) > 0 && !sched_setaffinity(0, sizeof others, &others)) sched_setaffinity(0, sizeof allowed, &allowed);
#endif
}

/* Returns the slot number 1, 2, ..., or 0 if no slot is open. */
static int join(void) {
    unsigned roster = atomic_load(&pool.roster);
    while (roster / OPEN_SLOT)
        if (atomic_compare_exchange_weak(&pool.roster, &roster, roster - OPEN_SLOT + 1)) return (int)(roster / OPEN_SLOT);
    return 0;
}

/* A worker leaves when no chunk is left, so it closes the open slots too. */
static void leave(void) {
    unsigned roster = atomic_load(&pool.roster);
    while (!atomic_compare_exchange_weak(&pool.roster, &roster, (roster & ACTIVE) - 1));
    if ((roster & ACTIVE) == 1 && atomic_load(&pool.caller_sleeps)) {
        pthread_mutex_lock(&pool.lock);
        pthread_cond_signal(&pool.finished);
        pthread_mutex_unlock(&pool.lock);
    }
}

/* No wake-up is lost: either open_slots sees this sleeper, or the sleeper sees the slots (both sequentially consistent,
 * each writes before it reads). */
static void sleep_until_woken(unsigned generation) {
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.sleepers, 1);
    if (!(atomic_load(&pool.roster) / OPEN_SLOT))
        while (!pool.wakeups && atomic_load(&pool.generation) == generation) pthread_cond_wait(&pool.woken, &pool.lock);
    if (pool.wakeups) pool.wakeups--; /* the caller has decremented sleepers already */
    else atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&pool.lock);
}

static void *worker(void *argument) {
    unsigned generation = (unsigned)(uintptr_t)argument;
    inside = works = true;
    fesetenv(FE_DFL_ENV); /* inherited from the creator, which may flush subnormals */
#if defined(__linux__)
    pthread_setname_np(pthread_self(), "cnncore");
#elif defined(__APPLE__)
    pthread_setname_np("cnncore");
#endif
    while (atomic_load(&pool.generation) == generation) {
        if (!spin_until(~(unsigned)ACTIVE, true)) {
            sleep_until_woken(generation);
            continue;
        }
        migrate_from_callers_cpu(); /* before joining: the caller of a short region does not wait for the migration */
        int slot = join();
        if (slot) {
            run_chunks(slot);
            leave();
        }
    }
    return NULL;
}

/* ---- Caller side ---- */

/* Opens slots and wakes as many sleepers as there are slots that waking workers will not fill. */
static void open_slots(int slots) {
    atomic_store(&pool.roster, (unsigned)slots * OPEN_SLOT);
    if (slots <= atomic_load(&pool.workers) - atomic_load(&pool.sleepers)) return;
    pthread_mutex_lock(&pool.lock);
    int sleepers = atomic_load(&pool.sleepers);
    int wakeups = slots - (atomic_load(&pool.workers) - sleepers);
    wakeups = wakeups < sleepers ? wakeups : sleepers;
    if (wakeups > 0) {
        pool.wakeups += wakeups;
        atomic_fetch_sub(&pool.sleepers, wakeups);
    }
    pthread_mutex_unlock(&pool.lock);
    if (wakeups <= 0) return;
    for (int i = 0; i < wakeups; i++) pthread_cond_signal(&pool.woken);
    sched_yield(); /* to a worker placed on this very CPU, which cannot migrate before it runs */
}

/* Closes the roster and waits until no worker is active; meanwhile poll may ask to stop. */
static void wait_for_workers(void) {
    atomic_fetch_and(&pool.roster, ACTIVE);
    if (spin_until(ACTIVE, false)) return;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        atomic_store(&pool.caller_sleeps, true);
        if (!(atomic_load(&pool.roster) & ACTIVE)) break;
        struct timespec until; /* wall clock: the only one that condition variables support everywhere */
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += (int32_t)POLL_INTERVAL;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&pool.finished, &pool.lock, &until);
        pthread_mutex_unlock(&pool.lock);
        if (stop_requested()) stop_handing_out();
        pthread_mutex_lock(&pool.lock);
    }
    atomic_store(&pool.caller_sleeps, false);
    pthread_mutex_unlock(&pool.lock);
}

/* ---- Fork: only the forking thread exists in the child, and any lock may be held by another one ---- */

/* poll may fork: workers finish their chunks and get no more, so that neither process misses a chunk. */
static void before_fork(void) {
    if (leads) {
        for (int i = 0; i < pool.shares; i++)
            pool.share[i].next_at_fork = atomic_exchange(&pool.share[i].next, pool.share[i].end);
        wait_for_workers(); /* without polling, as this is inside poll */
    }
}

static void after_fork(void) {
    if (leads)
        for (int i = 0; i < pool.shares; i++) atomic_store(&pool.share[i].next, pool.share[i].next_at_fork);
}

static void after_fork_in_child(void) {
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.woken, NULL);
    pthread_cond_init(&pool.finished, NULL);
    atomic_store(&pool.taken, leads);
    atomic_store(&pool.roster, 0);
    atomic_store(&pool.workers, 0);
    atomic_store(&pool.sleepers, 0);
    atomic_store(&pool.caller_sleeps, false);
    pool.wakeups = 0;
    pool.obtainable = MOST_THREADS - 1;
    after_fork();
}

/* ---- Starting and ending workers ---- */

/* Tries to have `requested` workers; returns how many there are. */
static int create_workers(int requested) {
    int workers = atomic_load_explicit(&pool.workers, memory_order_relaxed);
    if (workers >= requested) return requested;
    pthread_mutex_lock(&pool.lock);
    if (!pool.fork_ready) /* without the handlers a forked child would wait for workers that it does not have */
        pool.fork_ready = pthread_atfork(before_fork, after_fork, after_fork_in_child) == 0;
    requested = !pool.fork_ready ? 0 : requested < pool.obtainable ? requested : pool.obtainable;
    workers = atomic_load(&pool.workers);
    if (workers >= requested) {
        pthread_mutex_unlock(&pool.lock);
        return requested;
    }
    /* Signals are handled by the interpreter's threads; workers keep only those they raise themselves (crash reports). The
     * mask is set here because threads inherit it: a worker never runs with another one. */
    sigset_t blocked, mask;
    sigfillset(&blocked);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGILL);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGABRT);
    pthread_sigmask(SIG_SETMASK, &blocked, &mask);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    void *generation = (void *)(uintptr_t)atomic_load(&pool.generation);
    for (; workers < requested; workers++) {
        if (pthread_create(&pool.thread[workers], &attributes, worker, generation)) {
            pool.obtainable = requested = workers; /* not tried again at every call; see cnn_threads_limit */
            break;
        }
        atomic_store(&pool.workers, workers + 1);
    }
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    pthread_mutex_unlock(&pool.lock);
    return requested;
}

void cnn_threads_limit(int maximum) {
    atomic_store(&pool.limit, maximum < 1 ? 1 : maximum > MOST_THREADS ? MOST_THREADS : maximum);
    pthread_mutex_lock(&pool.lock);
    pool.obtainable = MOST_THREADS - 1;
    pthread_mutex_unlock(&pool.lock);
}

void cnn_threads_shutdown(void) {
    if (inside) return;
    pthread_t ended[MOST_THREADS - 1];
    pthread_mutex_lock(&pool.lock);
    int workers = atomic_exchange(&pool.workers, 0);
    pool.obtainable = MOST_THREADS - 1;
    for (int i = 0; i < workers; i++) ended[i] = pool.thread[i];
    atomic_fetch_add(&pool.generation, 1);
    pthread_cond_broadcast(&pool.woken);
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < workers; i++) /* an active one finishes its chunks first; its region continues without it */
        pthread_join(ended[i], NULL);
}

/* Also runs if poll ends its thread, as CPython before 3.14 does at exit to threads that request the GIL: workers must not keep
 * using that thread's stack. */
static void finish_region(void *unused) {
    (void)unused;
    poll = NULL;
    stop_handing_out();
    wait_for_workers();
    leads = false;
    atomic_store_explicit(&pool.taken, false, memory_order_release);
}

static int run_shared(const struct region *region, int threads) {
    int64_t chunks = region->tasks / region->grain + (region->tasks % region->grain != 0);
    int limit = atomic_load_explicit(&pool.limit, memory_order_relaxed);
    threads = threads < limit ? threads : limit;
    threads = threads < chunks ? threads : (int)chunks;
    if (threads < 2 || atomic_exchange_explicit(&pool.taken, true, memory_order_acquire)) return run_alone(region);

    pool.region = region;
    pool.shares = 0;
    atomic_store_explicit(&pool.cpu, this_cpu(), memory_order_relaxed);
    leads = true;
    pthread_cleanup_push(finish_region, NULL);
    int slots = create_workers(threads - 1);
    divide_into_shares(chunks, slots + 1);
    if (slots > 0) open_slots(slots);
    run_chunks(0);
    wait_for_workers();
    pthread_cleanup_pop(1);
    return stopped;
}

#endif

/* Stopping is left to the outer call. */
static int run_nested(const struct region *region) {
    cnn_poll outer = poll;
    bool outer_stopped = stopped;
    poll = NULL;
    stopped = false;
    run_alone(region);
    poll = outer;
    stopped = outer_stopped;
    return 0;
}

int cnn_parallel(
    cnn_task task, void *call, int64_t tasks, int64_t grain, void *const *scratch, int threads, cnn_poll callers_poll
) {
    const struct region region = {task, call, tasks, grain < 1 ? 1 : grain, scratch};
    if (inside) return run_nested(&region);
    if (tasks < 1) return 0;
    environment callers = enter_default_environment();
    inside = true;
    poll = callers_poll;
    stopped = false;
    int stop = run_shared(&region, threads);
    inside = false;
    poll = NULL;
    stopped = false;
    restore_environment(callers);
    return stop;
}

void cnn_run_here(cnn_task task, void *call, int64_t tasks, void *scratch) {
    environment callers = enter_default_environment();
    task(call, 0, tasks, scratch);
    restore_environment(callers);
}
