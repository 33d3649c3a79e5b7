"""What threads cost where there are too few processors: ``python tools/benchmarks/crowding.py [options]``.

Times networks with as many threads as processors and with more, in turn, and prints the medians and their ratio. With
``--beside N`` other processes keep N processors busy meanwhile: then the ratio is that of the time beside them to the time
without them, and the share is what it would be if all threads of all processes got equal parts of the processors.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time

import numpy as np

import cnncore

NETWORKS = {"googlenet": (3, 224), "resnet18": (3, 224), "mobilenet_v2": (3, 224), "small_inception": (1, 28)}


def options():
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("network", nargs="*", default=list(NETWORKS), help=f"of {', '.join(NETWORKS)} (default: all)")
    top.add_argument("--threads", type=int, default=8, help="more threads than processors (default: 8)")
    top.add_argument("--batch", type=int, nargs="*", default=[1, 4])
    top.add_argument("--rounds", type=int, default=30)
    top.add_argument("--seconds", type=float, default=0.05, help="of a turn; one call at least")
    top.add_argument("--beside", type=int, default=0, metavar="N", help="busy processes beside this one")
    return top.parse_args()


def turn(net, x, seconds):
    """Milliseconds of a call: the mean of those of a turn."""
    began, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - began < seconds:
        net(x)
        calls += 1
    return 1e3 * (time.perf_counter() - began) / calls


@contextlib.contextmanager
def busy(count):
    """This many processes that compute, and do nothing else."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.2 * bool(count))
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def compared(net, x, threads, given):
    """Turns with each of two numbers of threads, or with and without processes beside: two lists of milliseconds."""
    found = ([], [])
    for _ in range(given.rounds + 1):
        for place, number in enumerate(threads):
            with cnncore.threads(number), busy(given.beside if place else 0):
                turn(net, x, 0.0)
                found[place].append(turn(net, x, given.seconds))
    return [times[1:] for times in found]  # the first round makes plans


def main():
    given = options()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = (cores, cores if given.beside else given.threads)
    print(f"{cores} processors, {cnncore.cpu.target()}, float32; medians of {given.rounds} interleaved turns")
    names = (
        ("alone, ms", f"beside {given.beside}, ms")
        if given.beside
        else (f"{cores} threads, ms", f"{threads[1]} threads, ms")
    )
    share = max(1.0, (cores + given.beside) / cores)
    print(
        f"{'network':<16} {'batch':>5} {names[0]:>14} {names[1]:>14} {'ratio':>7}"
        + f"   share {share:.2f}" * bool(given.beside)
    )
    for name in given.network:
        channels, size = NETWORKS[name]
        net = getattr(cnncore.models, name)(seed=0)
        for batch in given.batch:
            x = np.random.default_rng(0).standard_normal((batch, channels, size, size)).astype(np.float32)
            times = compared(net, x, threads, given)
            first, second = (float(np.median(each)) for each in times)
            ratio = float(np.median(np.array(times[1]) / np.array(times[0])))
            print(f"{name:<16} {batch:>5} {first:>14.3f} {second:>14.3f} {ratio:>7.2f}", flush=True)


if __name__ == "__main__":
    main()
