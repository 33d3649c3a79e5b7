"""Ctrl-C gets through long before the end of a call, also where one task has nearly all its work.

How soon, `tools/bench.py latency` measures; here a stopped call takes little more than half of what the whole takes.
"""

import contextlib
import signal
import time

import numpy as np
import pytest

import cnncore

if not hasattr(signal, "setitimer"):
    pytest.skip("needs a timer that sends signals", allow_module_level=True)

SIDE = 1600
WAIT = 0.03  # seconds until the signal
SLACK = 0.05  # seconds between two looks at the signals


def image(channels=1, side=SIDE):
    return np.random.default_rng(0).random((1, channels, side, side), np.float32)


def weights(*shape):
    return np.random.default_rng(1).random(shape, np.float32)


def positions(channels, side):
    return np.random.default_rng(2).integers(0, side, (1, channels, side, side))


# Name → (operator, arrays, settings, whether the signal comes in the backward pass). In each a call or a plane is one task.
CALLS = {
    "conv": (cnncore.conv, lambda: (image(32, 800), weights(32, 32, 3, 3)), {"padding": 1}, True),
    "winograd": (
        cnncore.conv,
        lambda: (image(32, 1000), weights(32, 32, 3, 3)),
        {"padding": 1, "algorithm": "winograd_4x4"},
        True,
    ),
    "depthwise_conv": (cnncore.depthwise_conv, lambda: (image(8, 2000), weights(8, 1, 3, 3)), {"padding": 1}, True),
    "unfold": (cnncore.unfold, lambda: (image(1, 2400),), {"kernel_size": 5}, False),
    "min_pool": (cnncore.min_pool, lambda: (image(8, 1600),), {"kernel_size": 3, "stride": 2}, True),
    "median_pool": (cnncore.median_pool, lambda: (image(),), {"kernel_size": SIDE}, False),
    "soft_pool": (cnncore.soft_pool, lambda: (image(2, 4000),), {"kernel_size": 4000}, False),
    "global_gem_pool": (cnncore.global_gem_pool, lambda: (image(1, 3000), np.array([3.0], np.float32)), {}, False),
    "detail_preserving_pool": (
        cnncore.detail_preserving_pool,
        lambda: (image(8, 1000), np.full(8, 0.5, np.float32), np.full(8, 1.5, np.float32)),
        {"kernel_size": 3, "stride": 1},
        False,
    ),
    "response_norm_within_channel": (
        cnncore.response_norm_within_channel,
        lambda: (image(1, 6000),),
        {"size": 5, "beta": 0.6},
        False,
    ),
    "grid_sample": (
        cnncore.grid_sample,
        lambda: (image(1, 300), np.random.default_rng(2).uniform(-1, 1, (1, 2000, 2000, 2)).astype(np.float32)),
        {},
        True,
    ),
    "spectral_pool": (cnncore.spectral_pool, lambda: (image(4, 1500),), {"output_size": 700}, False),
    "hartley_pool": (cnncore.hartley_pool, lambda: (image(4, 1200),), {"output_size": 600, "nyquist": "crop"}, True),
    "strip_pool": (cnncore.strip_pool, lambda: (image(16, 1500),), {"gate": True}, False),
    "polyphase_pool": (cnncore.polyphase_pool, lambda: (image(16, 2000),), {"stride": 2}, False),
    "net_vlad": (cnncore.net_vlad, lambda: (image(8, 500), weights(64, 8), weights(64, 8)), {}, False),
    "one_hot": (cnncore.one_hot, lambda: (np.zeros((1, 3000, 3000), np.int64),), {"depth": 4}, False),
    "tile": (cnncore.tile, lambda: (image(4, 1500),), {"repeats": (1, 1, 2, 2)}, True),
    "gather_elements": (cnncore.gather_elements, lambda: (image(4, 1500), positions(4, 1500)), {"axis": 2}, False),
    "scatter_elements": (
        cnncore.scatter_elements,
        lambda: (image(4, 1000), positions(4, 1000), image(4, 1000)),
        {"axis": 2, "reduction": "multiply"},
        True,
    ),
    "as_index": (cnncore.as_index, lambda: (image(8, 1500),), {}, False),
    "einsum": (cnncore.einsum, lambda: (image(8, 1500), weights(8)), {"equation": "nchw,c->whn"}, True),
    "cumulative_sum": (cnncore.cumulative_sum, lambda: (weights(2**25),), {"axis": 0}, False),
    "attention_pool": (cnncore.attention_pool, lambda: (image(8, 700), weights(64, 8), weights(64)), {}, False),
}


class Stop(Exception):
    """What the signal's handler raises."""


@contextlib.contextmanager
def stopped_after(seconds):
    """Raise Stop in what follows, after so many seconds of this process's time."""

    def stop(number, frame):
        raise Stop

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@pytest.mark.parametrize("name", CALLS)
def test_a_long_task_ends_early(name):
    op, arrays, settings, in_backward = CALLS[name]
    with cnncore.threads(1):
        given = arrays()
        call = lambda: op(*given, **settings)  # noqa: E731
        if in_backward:
            y, backward = op.with_backward(*given, **settings)
            dy = np.ones_like(y)
            call = lambda: backward(dy)  # noqa: E731
        begun = time.thread_time()
        call()
        whole = time.thread_time() - begun
        begun = time.thread_time()
        with pytest.raises(Stop), stopped_after(WAIT):
            call()
        assert time.thread_time() - begun <= WAIT + SLACK + whole / 2


def test_the_next_call_is_right():
    """What a stopped call has left unfinished is not seen by the next."""
    x, w = image(16, 600), weights(16, 16, 3, 3)
    with cnncore.threads(2):
        y, backward = cnncore.conv.with_backward(x, w, padding=1)
        right = backward(np.ones_like(y))
        with contextlib.suppress(Stop), stopped_after(0.02):
            for _ in range(100):
                backward(np.ones_like(y))
        again = backward(np.ones_like(y))
    assert all(np.array_equal(a, b) for a, b in zip(right, again, strict=True))
