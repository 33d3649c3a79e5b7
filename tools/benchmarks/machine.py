"""The machine: what it is, and its two limits, measured in the same run as everything else.

FMA peak: independent multiply-adds on vector registers, by a small C program compiled for this very processor. Where no
compiler is found, the best matrix product of numpy's BLAS stands in, and the report says so.
Memory: copying an array that no cache holds; one byte read and one written count as two.
"""

import concurrent.futures
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from .turns import processors

__all__ = ["Limits", "description"]

COPIED_BYTES = 256 << 20
COPIES = 5  # within one measurement; the best counts
PRODUCT = 1536  # rows and columns of the matrix product that stands in for the C program

# Accumulators: enough that latency × throughput (4 or 5 cycles, two per cycle) is covered, and all stay in registers.
PEAK = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__AVX512F__)
enum { BYTES = 64, ACCUMULATORS = 20 };
#elif defined(__AVX__)
enum { BYTES = 32, ACCUMULATORS = 12 };
#else
enum { BYTES = 16, ACCUMULATORS = 12 };
#endif
typedef REAL vec __attribute__((vector_size(BYTES)));
enum { STEPS = 1 << 20, REPEATS = 20 }; /* a few milliseconds each: the best one is not interrupted */

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + 1e-9 * t.tv_nsec; }

static void *work(void *result)
{
    vec a, b, sum[ACCUMULATORS]; /* every index is a constant after unrolling: they live in registers */
    for (unsigned i = 0; i < BYTES / sizeof(REAL); i++) { a[i] = (REAL)0.999; b[i] = (REAL)1e-3 * (REAL)i; }
#pragma GCC unroll 32
    for (int k = 0; k < ACCUMULATORS; k++) sum[k] = b + (REAL)k;
    for (int step = 0; step < STEPS; step++) {
#pragma GCC unroll 32
        for (int k = 0; k < ACCUMULATORS; k++) sum[k] = sum[k] * a + b;
    }
    vec total = sum[0];
#pragma GCC unroll 32
    for (int k = 1; k < ACCUMULATORS; k++) total += sum[k];
    *(volatile REAL *)result = total[0];
    return 0;
}

int main(int count, char **arguments)
{
    int threads = count > 1 ? atoi(arguments[1]) : 1;
    pthread_t made[256];
    REAL results[256][16];
    double best = 1e9;
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double start = now();
        for (int i = 1; i < threads; i++) pthread_create(&made[i], 0, work, results[i]);
        work(results[0]);
        for (int i = 1; i < threads; i++) pthread_join(made[i], 0);
        double seconds = now() - start;
        if (seconds < best) best = seconds;
    }
    printf("%.4f\n", 2e-9 * threads * STEPS * ACCUMULATORS * (BYTES / sizeof(REAL)) / best);
    return 0;
}
"""

BLAS_PEAK = """
import sys, time, numpy
n, dtype = int(sys.argv[1]), sys.argv[2]
a, best = numpy.ones((n, n), dtype), float("inf")
for _ in range(5):
    start = time.perf_counter(); a @ a; best = min(best, time.perf_counter() - start)
print(2e-9 * n**3 / best)
"""


class Limits:
    """FMA peak (GFLOP/s) and memory bandwidth (GB/s), measured again and again during a run; the best counts."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.program = {dtype: self._compile(real) for dtype, real in (("float32", "float"), ("float64", "double"))}
        self.how = (
            "fused multiply-adds on registers (C, compiled for this processor)"
            if self.program["float32"]
            else f"numpy's {PRODUCT}×{PRODUCT} matrix product: no C compiler was found"
        )
        self.seen = {}  # (what, threads) → numbers

    def _compile(self, real):
        compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
        if compiler is None or os.name != "posix":
            return None
        source, program = Path(self.folder.name) / f"peak_{real}.c", Path(self.folder.name) / f"peak_{real}"
        source.write_text(PEAK)
        native = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
        command = [compiler, "-O3", native, f"-DREAL={real}", str(source), "-o", str(program), "-pthread"]
        return program if subprocess.run(command, capture_output=True).returncode == 0 else None

    def measure(self, threads):
        """Measure once more with so many threads."""
        for dtype in ("float32", "float64"):
            self.seen.setdefault((dtype, threads), []).append(self._peak(dtype, threads))
        self.seen.setdefault(("memory", threads), []).append(self._copy(threads))

    def _peak(self, dtype, threads):
        if self.program[dtype]:
            command = [self.program[dtype], str(threads)]
            chosen = processors(threads)
            pin = (lambda: os.sched_setaffinity(0, chosen)) if chosen else None
            return float(subprocess.run(command, capture_output=True, check=True, preexec_fn=pin).stdout)
        variables = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), str(threads))
        command = [sys.executable, "-c", BLAS_PEAK, str(PRODUCT), dtype]
        return float(subprocess.run(command, capture_output=True, check=True, env=os.environ | variables).stdout)

    def _copy(self, threads):
        source = np.ones(COPIED_BYTES // 8)
        target = np.zeros_like(source)
        parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
        best = float("inf")
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            for _ in range(COPIES):
                start = time.perf_counter()
                list(pool.map(lambda part: np.copyto(*part), parts))  # copyto releases the interpreter
                best = min(best, time.perf_counter() - start)
        return 2e-9 * COPIED_BYTES / best

    def best(self, what, threads):
        """The best measured so far of "float32", "float64" (GFLOP/s) or "memory" (GB/s); None when never measured."""
        return max(self.seen.get((what, threads), ()), default=None)

    def table(self):
        """All measurements as plain data."""
        return [
            {"what": what, "threads": threads, "unit": "GB/s" if what == "memory" else "GFLOP/s", "measured": numbers}
            for (what, threads), numbers in sorted(self.seen.items())
        ]


def description():
    """The machine in a few words."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {"processor": model, "processors": usable, "system": f"{platform.system()} {platform.machine()}"}
    if hasattr(os, "getloadavg"):
        facts["load"] = round(os.getloadavg()[0], 2)
    return facts
