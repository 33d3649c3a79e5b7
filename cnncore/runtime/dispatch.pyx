"""Arrays as tensors, CPU targets, and running the tasks of a call on native threads.

The only extension that links the C kernels and the thread pool; the other modules reach both through it.
"""

import os
import threading

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t

cdef extern from "dispatch.h" nogil:
    int cnn_target_count()
    const char *cnn_target_name(int target)
    int cnn_target_supported(int target)
    int cnn_target_current()
    void cnn_target_select(int target)
    const char *cnn_kernel_name(int kernel)
    int cnn_kernel_number(const char *name)
    cnn_task cnn_kernel(int kernel, int precision)
    int cnn_kernel_taken(int kernel)
    int64_t cnn_lanes(int precision)

cdef extern from "calls.h" nogil:
    ctypedef struct cnn_multiply_adds:
        int64_t steps
        double factor, addend
        double *total
        double *count

cdef extern from "threads.h" nogil:
    ctypedef int (*cnn_poll)() noexcept
    int cnn_parallel(
        cnn_task task, void *call, int64_t tasks, int64_t grain, void *const *scratch, int threads, cnn_poll poll
    )
    int cnn_stop_requested()
    int64_t cnn_nanoseconds()
    int64_t cnn_thread_nanoseconds()
    void cnn_run_here(cnn_task task, void *call, int64_t tasks, void *scratch)
    int cnn_processors()
    void cnn_processors_limit(int maximum)
    void cnn_threads_limit(int maximum)
    void cnn_threads_shutdown()

cdef extern from *:
    """
    /* The exception is already set by PyErr_CheckSignals; this only tells Cython so. */
    static int cnn_reraise(void) { return -1; }
    """
    int cnn_reraise() except -1

cdef extern from "memory.h" nogil:
    void *cnn_memory_take(int64_t bytes)
    void cnn_memory_give(void *memory)
    void cnn_memory_fail(int64_t number)
    void cnn_memory_fence(void *start, int64_t bytes)
    int64_t CNN_SLAB
    void *cnn_block_take(int purpose, int64_t bytes)
    void cnn_block_give(int purpose, void *memory)

cdef extern from "Python.h":
    int check_signals "PyErr_CheckSignals"() noexcept
    unsigned long this_thread "PyThread_get_thread_ident"() nogil

cdef int thread_count = 1

FLOAT32 = CNN_FLOAT32
FLOAT64 = CNN_FLOAT64


# ── Arrays ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

cdef class Tensor:
    """Tensor(array, writable=False): the array's memory as (N, C, D, H, W).

    ``array`` has 1 to 5 dimensions, the first two N and C; missing spatial axes are inserted before the present ones with
    extent 1, so that (N, C, L) is (N, C, 1, 1, L). Strides are kept: a transposed or sliced array is read in place.
    """

    def __cinit__(self, array=None, bint writable=False):
        if array is not None:
            self.hold(array, writable)

    cdef int hold(self, array, bint writable) except -1:
        PyObject_GetBuffer(array, &self.buffer, PyBUF_STRIDES | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0))
        cdef int rank = self.buffer.ndim
        cdef int axis, place
        if rank > 5:
            raise ValueError(f"an array with {rank} dimensions is not (N, C, D, H, W)")
        cdef char code = self.buffer.format[0] if self.buffer.format[1] == 0 else 0
        self.precision = CNN_FLOAT32 if code == b"f" else CNN_FLOAT64 if code == b"d" else -1
        self.view.data = self.buffer.buf
        for axis in range(5):
            self.view.shape[axis] = 1
            self.view.stride[axis] = 0
        for axis in range(rank):
            place = axis if axis < 2 else axis + 5 - rank
            if self.buffer.strides[axis] % self.buffer.itemsize:
                raise ValueError(f"an array of {self.buffer.itemsize} byte elements with a stride of {self.buffer.strides[axis]} bytes")
            self.view.shape[place] = self.buffer.shape[axis]
            self.view.stride[place] = self.buffer.strides[axis] // self.buffer.itemsize
        return 0

    def __dealloc__(self):
        PyBuffer_Release(&self.buffer)


cdef Tensor tensor(array, bint writable=False):
    """Tensor(array, writable), without the overhead of calling a class."""
    cdef Tensor t = Tensor.__new__(Tensor)
    t.hold(array, writable)
    return t


# ── Running tasks ──────────────────────────────────────────────────────────────────────────────────────────────────────

cdef int signals_arrived() noexcept nogil:
    """Non-zero stops the tasks: Ctrl-C was pressed and its exception is set."""
    with gil:
        return check_signals() != 0


# Only the main thread handles signals; other threads need not take the GIL to check. In a forked child the forking thread is
# the main thread.
cdef unsigned long main_thread = threading.main_thread().ident


def main_thread_changed():
    """Called in the child after a fork."""
    global main_thread
    main_thread = this_thread()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=main_thread_changed)


# Below this many elementary operations a second thread costs more than it saves. The number, and the next one, stand for
# times of the machine: costs.py replaces them where these were measured.
cdef double worth_a_thread = 30_000.0

# Multiply-adds of a kernel in the time in which one packed weight comes from memory.
cdef double reading = 8.0

# Below this many the GIL is not released: that alone would take as long. Signals are handled after the call.
cdef double worth_releasing_gil = 20_000.0


cdef int threads_per_call() noexcept nogil:
    """The number of threads of a large call: the partition into tasks may depend on it, results may not."""
    return thread_count


cdef double cost_of_reading() noexcept nogil:
    """Multiply-adds of a kernel in the time in which one packed weight comes from memory: the partition may depend on it."""
    return reading


cdef bint stop_requested() noexcept nogil:
    """Whether the call whose task this is, is being stopped."""
    return cnn_stop_requested() != 0


cdef int run(cnn_task task, void *call, int64_t tasks, int64_t grain, int64_t scratch_bytes, double cost) except -1:
    """Run all tasks of a call; ``cost``: its number of elementary operations, ``scratch_bytes``: scratch per worker."""
    if tasks <= 0:
        return 0
    cdef int threads = thread_count
    cdef bint recording = recorded is not None and this_thread() == recording_thread
    if cost < worth_a_thread * threads:
        threads = max(1, <int> (cost / worth_a_thread))
    if threads > 1 and worth_a_thread > 0 and not recording:
        threads = min(threads, cnn_processors())    # others would only wait for those that run
    if threads > tasks:
        threads = <int> tasks
    cdef int64_t stride = (scratch_bytes + 127) // 128 * 128     # workers do not share a cache line
    cdef void *scratch[256]
    cdef char *block = NULL
    cdef int worker, stopped
    if stride:
        block = <char *> cnn_block_take(SCRATCH, stride * threads)
        if block == NULL:
            raise MemoryError(f"no memory for {stride * threads} bytes of scratch")
    for worker in range(threads):
        scratch[worker] = block + worker * stride if block != NULL else NULL
        if stride > scratch_bytes:
            cnn_memory_fence(block + worker * stride + scratch_bytes, stride - scratch_bytes)
    if recording:
        try:
            return run_recorded(task, call, tasks, grain, scratch, threads)
        finally:
            if block != NULL:
                cnn_block_give(SCRATCH, block)
    if threads == 1 and cost < worth_releasing_gil:
        cnn_run_here(task, call, tasks, block)
        if block != NULL:
            cnn_block_give(SCRATCH, block)
        return 0
    with nogil:
        stopped = cnn_parallel(task, call, tasks, grain, scratch, threads, &signals_arrived if this_thread() == main_thread else NULL)
        if block != NULL:
            cnn_block_give(SCRATCH, block)
    if stopped:
        cnn_reraise()
    return 0


# ── Recording, for simulations of other numbers of threads ─────────────────────────────────────────────────────────────

cdef list recorded = None           # (threads, nanoseconds of every chunk) of each call of run; None: nothing is recorded
cdef unsigned long recording_thread = 0    # the thread whose calls are recorded

cdef struct timed_call:
    cnn_task task
    void *call
    int64_t grain
    int64_t *nanoseconds            # of every chunk


cdef void timed(void *call, int64_t begin, int64_t end, void *scratch) noexcept nogil:
    cdef timed_call *c = <timed_call *> call
    cdef int64_t began = cnn_thread_nanoseconds()
    c.task(c.call, begin, end, scratch)
    c.nanoseconds[begin // c.grain] = cnn_thread_nanoseconds() - began


cdef int run_recorded(cnn_task task, void *call, int64_t tasks, int64_t grain, void **scratch, int threads) except -1:
    """All tasks on this thread, chunk by chunk, each of which is timed; divided as for ``threads`` threads."""
    cdef timed_call measured
    grain = max(grain, 1)
    cdef int64_t chunks = (tasks + grain - 1) // grain
    cdef int stopped
    nanoseconds = bytearray(8 * chunks)
    cdef unsigned char[::1] memory = nanoseconds
    measured.task, measured.call, measured.grain = task, call, grain
    measured.nanoseconds = <int64_t *> &memory[0]
    with nogil:
        stopped = cnn_parallel(timed, &measured, tasks, grain, scratch, 1, &signals_arrived if this_thread() == main_thread else NULL)
    if stopped:
        cnn_reraise()
    recorded.append((threads, nanoseconds))
    return 0


def start_recording():
    """From now on the calls of this thread run on it alone, and the processor time of every chunk is kept."""
    global recorded, recording_thread
    recorded, recording_thread = [], this_thread()


def take_recorded():
    """(threads that would have shared it, int64 nanoseconds of every chunk as bytes) of each call since the last time."""
    global recorded
    if recorded is None:
        return []
    taken, recorded = recorded, []
    return taken


def stop_recording():
    """Calls run on all their threads again."""
    global recorded
    recorded = None


cdef void nothing(void *call, int64_t begin, int64_t end, void *scratch) noexcept nogil:
    pass


def empty_call(int threads):
    """Nanoseconds of a call of ``threads`` tasks that do nothing: what sharing them out costs."""
    cdef int64_t began = cnn_nanoseconds()
    with nogil:
        cnn_parallel(nothing, NULL, threads, 1, NULL, threads, NULL)
    return cnn_nanoseconds() - began


cdef void *take_block(int purpose, int64_t bytes) noexcept nogil:
    """Memory of at least ``bytes``, aligned to 64, to be returned with :func:`give_block`; NULL if there is none."""
    return cnn_block_take(purpose, bytes)


cdef void give_block(int purpose, void *memory) noexcept nogil:
    cnn_block_give(purpose, memory)


cdef class PackedWeights:
    """An arena for packed weights: allocated piece by piece, freed as a whole when the object is deleted.

    Consecutive pieces are adjacent, on huge pages that none of them would fill alone.
    """

    cdef void *take(self, int64_t bytes) except NULL:
        """``bytes``, aligned to 64."""
        cdef int64_t whole = (bytes + 63) // 64 * 64
        cdef char **slab
        if whole > self.left:
            slab = <char **> cnn_memory_take(max(CNN_SLAB, whole + 64))
            if slab == NULL:
                raise MemoryError(f"no memory for {bytes} bytes of packed weights")
            slab[0], self.newest = self.newest, <char *> slab
            self.next, self.left = self.newest + 64, max(CNN_SLAB, whole + 64) - 64
        self.next += whole
        self.left -= whole
        cnn_memory_fence(self.next - (whole - bytes), whole - bytes)
        return self.next - whole

    def __dealloc__(self):
        cdef char *slab = self.newest
        while slab != NULL:
            slab, self.newest = (<char **> slab)[0], slab
            cnn_memory_give(self.newest)


def fail_allocation(int64_t number):
    """Make one allocation of the kernels' memory fail: the next is number 1; 0: none. Tests look at what follows."""
    cnn_memory_fail(number)


# ── CPU targets ────────────────────────────────────────────────────────────────────────────────────────────────────────

cdef cnn_task kernel(int number, int precision) except? NULL nogil:
    """The current target's kernel, or NULL to run the reference implementation."""
    if precision != CNN_FLOAT32 and precision != CNN_FLOAT64:
        raise TypeError("a kernel was given an array that is neither float32 nor float64; its caller lacks a check")
    return cnn_kernel(number, precision)


cdef int64_t lanes(int precision) noexcept nogil:
    """Values per vector of the current target; 1 for the reference implementations."""
    return cnn_lanes(precision) if precision == CNN_FLOAT32 or precision == CNN_FLOAT64 else 1


def kernel_number(name):
    """The number of the kernel called ``name``, or -1 if there is none: the reference implementation then always runs."""
    encoded = name.encode()
    return cnn_kernel_number(encoded)


def kernel_names():
    """Names of all kernels."""
    names = []
    while cnn_kernel_name(len(names)) != NULL:
        names.append(cnn_kernel_name(len(names)).decode())
    return names


def kernels_taken():
    """Names of the kernels that ran since the last call of this function."""
    taken = []
    for number, name in enumerate(kernel_names()):
        if cnn_kernel_taken(number):
            taken.append(name)
    return taken


def targets():
    """Names of the targets this machine can run, the least capable first; "reference" uses no kernels."""
    names = []
    for i in range(cnn_target_count()):
        if cnn_target_supported(i):
            names.append(cnn_target_name(i).decode())
    return names


def current_target():
    """Name of the current target."""
    return cnn_target_name(cnn_target_current()).decode()


def select_target(name):
    """Make ``name``, one of :func:`targets`, the current target."""
    for i in range(cnn_target_count()):
        if cnn_target_name(i).decode() == name:
            cnn_target_select(i)


cdef enum:
    MOST_PEAK_TASKS = 1024


def multiply_adds(int precision, int64_t steps, int64_t tasks, double factor=0.5, double addend=1.0):
    """Multiply-adds on registers, ``steps`` rounds in each of up to 1024 tasks: (how many, sum of the results).

    None if the current target has no kernels.
    """
    cdef cnn_task task = kernel(kernel_number("multiply_add_peak"), precision)
    cdef double total[MOST_PEAK_TASKS]
    cdef double count[MOST_PEAK_TASKS]
    cdef cnn_multiply_adds call
    cdef double counted = 0, added = 0
    cdef int64_t i
    if task == NULL:
        return None
    tasks = min(tasks, MOST_PEAK_TASKS)
    call.steps, call.factor, call.addend, call.total, call.count = steps, factor, addend, total, count
    run(task, &call, tasks, 1, 0, <double> steps * tasks)
    for i in range(tasks):
        counted += count[i]
        added += total[i]
    return counted, added


# ── Threads ────────────────────────────────────────────────────────────────────────────────────────────────────────────

def get_threads():
    """Number of threads a call may use."""
    return thread_count


def set_threads(int count):
    """Let calls use ``count`` threads, 1 to 256."""
    global thread_count
    thread_count = count
    cnn_threads_limit(count)


def set_worth_a_thread(double operations):
    """Divide calls among threads from this many elementary operations per thread on; returns the previous number.

    Tests set 0, so that the smallest arrays cross the threads' borders, on as many threads as are asked for: also on more
    than there are processors.
    """
    global worth_a_thread
    before = worth_a_thread
    worth_a_thread = operations
    return before


def set_processors_limit(int count):
    """Let no call use more threads than ``count``, the processors within a container's quota, however many it asks for."""
    cnn_processors_limit(count)


def processors():
    """Number of processors that this thread may use, as far as the system tells."""
    return cnn_processors()


def set_cost_of_reading(double multiply_adds):
    """Let the partition into tasks assume that a packed weight comes from memory in the time of this many multiply-adds."""
    global reading
    reading = multiply_adds


def shutdown_threads():
    """End the native threads; the next call that needs them starts them again."""
    with nogil:
        cnn_threads_shutdown()
