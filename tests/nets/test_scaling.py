"""Time on more threads than the machine has: how the pool hands out tasks, and what is recorded of every call."""

import json
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cnncore
from cnncore.nets.scaling import schedule, simulated
from cnncore.runtime import dispatch


@pytest.fixture
def _recording():
    dispatch.start_recording()
    yield
    dispatch.stop_recording()


def small_net():
    g = cnncore.Graph()
    x = g.input(channels=8)
    h = g.conv(x, 32, 3, padding=1, activation="relu", name="first")
    h = g.max_pool(g.conv(h, 64, 3, padding=1, name="second"), 2, name="pool")
    g.output(g.linear(g.global_avg_pool(h, name="average"), 5, name="classifier"))
    return g.build(seed=0)


# ── The thread pool, simulated ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "chunks, threads, joining, expected",
    [
        ([], 4, 1.0, 0.0),
        ([2.0], 4, 1.0, 2.0),
        ([1.0, 2.0, 3.0], 1, 1.0, 6.0),
        ([1.0] * 8, 4, 0.0, 2.0),
        # The first thread's own share is 4 and 1; the second, done with its own after 2, takes the 1.
        ([4.0, 1.0, 1.0, 1.0], 2, 0.0, 4.0),
        # Joined after 1, and its leaving takes 1.
        ([2.0, 2.0], 2, 1.0, 4.0),
        # Before the second has joined the first has done everything.
        ([0.1, 0.1], 2, 1.0, 0.2),
        # A share is empty only in the end: 5 chunks are 2, 1, 1 and 1 of four threads … the long one decides.
        ([1.0, 1.0, 1.0, 5.0, 1.0], 4, 0.0, 5.0),
    ],
)
def test_a_call_ends_when_its_last_chunk_does(chunks, threads, joining, expected):
    assert schedule(chunks, threads, joining) == pytest.approx(expected)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 3))
def test_no_schedule_is_better_than_the_work_allows_or_worse_than_greedy(chunks, threads, joining):
    found = schedule(chunks, threads, joining)
    threads = min(threads, len(chunks))
    assert found >= max(max(chunks), sum(chunks) / threads) - 1e-9
    # No thread waits while chunks are left (Graham 1966); the last has joined after (threads − 1) times the time of one.
    assert found <= sum(chunks) / threads + max(chunks) + joining * threads + 1e-9


def test_a_node_takes_medians_of_chunks_and_what_no_call_accounts_for():
    rounds = [
        (10.0, [(2, np.array([1.0, 3.0]))]),
        (11.0, [(2, np.array([2.0, 2.0]))]),
        (30.0, [(2, np.array([9.0, 3.0]))]),
    ]
    share = simulated(rounds, 4, 0.0)
    assert (share.tasks, share.calls, share.threads) == (2, 1, 4)
    # Undivided: 6, 7 and 18 seconds; the chunks' medians are 2 and 3.
    assert share.seconds == pytest.approx(7 + 3) and share.alone == pytest.approx(7 + 5)
    assert share.idle == pytest.approx(1 - 12 / 40)


# ── What is recorded ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("_recording")
def test_recorded_calls_compute_the_same():
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((2, 16, 20, 20), np.float32), rng.standard_normal((24, 16, 3, 3), np.float32)
    with cnncore.threads(16):
        recorded = cnncore.conv(x, w, padding=1)
        calls = dispatch.take_recorded()
        dispatch.stop_recording()
        np.testing.assert_array_equal(cnncore.conv(x, w, padding=1), recorded)
    assert calls and all(1 <= threads <= 16 and len(chunks) >= 8 * threads for threads, chunks in calls)


@pytest.mark.usefixtures("_recording")
def test_other_threads_are_not_recorded():
    other = threading.Thread(target=lambda: cnncore.relu(np.ones((1, 4, 64, 64), np.float32)))
    other.start()
    other.join()
    assert dispatch.take_recorded() == []


@pytest.mark.usefixtures("_recording")
@pytest.mark.parametrize("values", [4_000, 300_000, 4_000_000])
def test_more_threads_are_never_fewer(values):
    """A call that is worth a few threads takes those few, however many there are."""
    x, used = np.ones((1, 4, values // 4), np.float32), []
    for threads in (1, 2, 8, 64, 256):
        with cnncore.threads(threads):
            cnncore.relu(x)
        used.append(max(n for n, _ in dispatch.take_recorded()))
    assert used == sorted(used) and used[0] == 1
    assert values < 300_000 or used[2] > 1


def test_nothing_is_recorded_after_an_error():
    net = small_net()

    def interrupt(done, total, what):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        net.scaling((1, 8, 16, 16), threads=(4,), progress=interrupt)
    cnncore.relu(np.ones((1, 4, 64, 64), np.float32))
    assert dispatch.take_recorded() == []


# ── Nets ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("training", [False, True])
def test_a_net_on_threads_that_are_not_there(training):
    net = small_net()
    before = cnncore.get_num_threads()
    found = net.scaling((2, 8, 32, 32), threads=(16, 4), rounds=2, training=training)
    assert cnncore.get_num_threads() == before
    rows = {row.path: row for row in found.rows}
    assert found.threads == (1, 4, 16) and {"first", "second", "pool", "classifier"} <= set(rows)
    for row in found.rows:
        alone = row.shares[1]
        assert alone.idle == pytest.approx(0, abs=1e-9) and alone.calls == 0
        for n in found.threads:
            share = row.shares[n]
            assert share.threads == n and 0 <= share.idle < 1
            assert share.seconds >= share.alone / n * (1 - 1e-9)
    second = rows["second"].shares
    assert second[16].tasks > second[4].tasks
    data = json.loads(json.dumps(found.data()))
    assert data["speedup"]["1"] == 1 and set(data["total"]) == {"1", "4", "16"}
    assert len(data["nodes"]) == len(found.rows)
    text = str(found)
    assert "16 threads: ms" in text and "times faster" in text and "second" in text


@pytest.mark.parametrize("threads", [(0,), (257,), (2.5,), ("four",)])
def test_numbers_of_threads_are_checked(threads):
    with pytest.raises(cnncore.SettingError, match="scaling: threads"):
        small_net().scaling((1, 8, 16, 16), threads=threads)
