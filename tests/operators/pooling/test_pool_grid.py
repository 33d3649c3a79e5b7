"""cnncore.pool: every strategy on every scheme of windows, or a reason why not."""

import itertools
import pickle

import numpy as np
import pytest
from support.cases import as_list, first, mostly_long
from support.papers_pooling import of_operator

import cnncore
from cnncore import SettingError, cpu
from cnncore.operators.registry import find
from cnncore.testing import check_gradient

GRID = cnncore.pool
PAIRS = [pytest.param(*pair, id=f"{op.name}-{'-'.join(pair)}") for pair, op in GRID.pairs.items()]


def cases_of(op):
    """(arrays in float64, settings) of an operator's cases, in every rank."""
    for case in op.cases:
        for rank in case.ranks:
            yield case.sample(rank), case.settings


def test_every_pair_is_there_or_refused_with_a_reason():
    every = set(itertools.product(GRID.strategies, GRID.schemes))
    assert every == {*GRID.pairs} | {*GRID.refused} and not {*GRID.pairs} & {*GRID.refused}
    assert len(GRID.strategies) >= 24 and len(GRID.schemes) == 7
    for (strategy, windows), reason in GRID.refused.items():
        with pytest.raises(SettingError) as refused:
            cnncore.pool(np.ones((1, 1, 4, 4)), strategy=strategy, windows=windows)
        assert strategy in str(refused.value) and windows in str(refused.value) and reason in str(refused.value)
        assert GRID.strategies[strategy].needs_kernel and GRID.schemes[windows].kernel is None


def test_named_operators_are_points_of_the_grid():
    named = [op for op in cnncore.OPS.values() if op in GRID.pairs.values()]
    assert len(named) >= 35
    assert GRID.operator("gem") is cnncore.gem_pool and GRID.operator("gem", "global") is cnncore.global_gem_pool
    assert GRID.operator("max", "fractional") is cnncore.fractional_max_pool
    names = [op.name for op in GRID.pairs.values()]
    assert len(set(names)) == len(names)
    for op in GRID.pairs.values():
        assert find(op.name) is op and pickle.loads(pickle.dumps(op)) is op
        assert op.name in op.__doc__ or op.formula.strip().splitlines()[0].strip() in op.__doc__
        assert op.name.isidentifier()


@pytest.mark.parametrize(("strategy", "windows"), mostly_long(PAIRS, 4))
def test_gradient(strategy, windows):
    """Whole Jacobians in 1 axis, random projections in 2 and 3; `cnncore check pool` takes whole ones in all."""
    op = GRID.operator(strategy, windows)
    for arrays, settings in cases_of(op):
        learns = any(
            row.differentiable for row in op.arrays[1:]
        )  # one number along one direction: its derivative may cancel
        method = "projection" if arrays[0].ndim > 3 and not learns else "auto"
        assert check_gradient(op, *arrays, method=method, **settings) <= 1e-8


# No paper has count_include_pad: avg_pool's oracle is PyTorch, in test_oracles.py.
@pytest.mark.parametrize(("strategy", "windows"), [pair for pair in PAIRS if pair.values != ("avg", "kernel")])
def test_as_the_papers_say(strategy, windows):
    op = GRID.operator(strategy, windows)
    for arrays, settings in cases_of(op):
        found = first(cnncore.pool(*arrays, strategy=strategy, windows=windows, **settings))
        expected = of_operator(op)({**op.settings, **settings}, *arrays)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("strategy", "windows"), PAIRS)
def test_every_target_and_layout(strategy, windows):
    """In float32, channels last as in a plan and as NumPy has them, 19 channels: as the reference has it in float64."""
    op = GRID.operator(strategy, windows)
    case = op.cases[0].but(channels=19, batch=2)
    arrays = case.sample(2, np.float32)
    exact = [a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for a in arrays]

    def both(arrays):
        y, backward = op.with_backward(*arrays, **case.settings)
        y = np.asarray(first(y))
        return [y, *as_list(backward(np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)))]

    with cpu.target("reference"):
        expected = both(exact)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(arrays[0], 1, -1)), -1, 1)
    for target in cpu.targets():
        with cpu.target(target):
            for x in (arrays[0], last):
                for found, right in zip(both([x, *arrays[1:]]), expected, strict=True):
                    assert np.abs(found - right).max(initial=0) <= 2e-5 * np.abs(right).max(initial=0), target


# Regions come as an array, which a graph has no input for.
@pytest.mark.parametrize("windows", [name for name, scheme in GRID.schemes.items() if not scheme.arrays])
def test_in_a_graph_saved_and_loaded(windows, tmp_path):
    """Every strategy that owns its arrays, in one net per scheme, beside each other."""
    settings = {"kernel": {"kernel_size": 2}, "s3": {"kernel_size": 2}, "adaptive": {"output_size": 2}}
    settings["fractional"] = {"kernel_size": 2, "output_size": 3}
    g = cnncore.Graph()
    x = g.input(channels=3, size=6)
    h = g.exp(x)  # positive, as some strategies want it
    ys = [
        g.pool(h, strategy=strategy, windows=windows, name=strategy, **settings.get(windows, {}))
        for strategy, scheme in GRID.pairs
        if scheme == windows
    ]
    g.output(*ys)
    net = g.build(seed=0, dtype="float64")
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 6, 6))
    y = net(x)
    net.save(tmp_path / "net.safetensors")
    for a, b in zip(cnncore.load(tmp_path / "net.safetensors")(x), y, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(name.startswith("gem.") for name in net.parameters)


@pytest.mark.parametrize("strategy", ["gem", "log_sum_exp", "ordinal", "stochastic", "tree"])
def test_gradient_in_a_net(strategy):
    g = cnncore.Graph()
    h = g.exp(g.conv(g.input(channels=2), 3, kernel_size=3))
    windows = "s3" if strategy in ("ordinal", "tree") else "fractional"
    sizes = {"kernel_size": 2} if windows == "s3" else {"kernel_size": 2, "output_size": 3}
    g.output(g.pool(h, strategy=strategy, windows=windows, name="pooled", **sizes))
    net = g.build(seed=0, dtype="float64")
    assert check_gradient(net, np.random.default_rng(0).standard_normal((2, 2, 7, 7))) <= 1e-8


def test_unknown_names():
    x = np.ones((1, 1, 4))
    with pytest.raises(SettingError, match=r"unknown strategy 'gemm'; did you mean 'gem'\? There are"):
        cnncore.pool(np.ones((1, 1, 4, 4)), strategy="gemm", kernel_size=2)
    with pytest.raises(SettingError, match=r"unknown strategy 'maximum'.* There are max, "):
        cnncore.pool(x, strategy="maximum")
    with pytest.raises(SettingError, match=r"pool: unknown windows 'square'.* There are kernel, "):
        cnncore.pool(x, strategy="max", windows="square")
    with pytest.raises(AttributeError):
        cnncore.square_max_pool  # noqa: B018


def test_the_table_names_every_pair():
    table = GRID.table().splitlines()
    rows = [line for line in table if line.startswith("| ")][1:]
    assert [row.split(" | ")[0][2:] for row in rows] == list(GRID.strategies)
    assert sum(row.count("✓") + row.count("`") // 2 for row in rows) == len(GRID.pairs)
    assert sum(row.count("– (") for row in rows) == len(GRID.refused)


# ── Fractional windows ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rank", [2, 3])
def test_fractional_max_as_torch_has_it(rank, dtype, rng):
    """PyTorch's windows to the last index, from its _random_samples, forward and backward."""
    torch = pytest.importorskip("torch")
    function = getattr(torch.nn.functional, f"fractional_max_pool{rank}d")
    for H, k, O in ((7, 2, 4), (25, 2, 17), (11, 3, 5), (9, 2, 1)):
        x = rng.standard_normal((2, 5, *(H + axis for axis in range(rank)))).astype(dtype)
        u = rng.uniform(0, 1, (2, 5, rank)).astype(dtype)
        xt = torch.from_numpy(x).requires_grad_(True)
        yt, it = function(xt, k, output_size=O, return_indices=True, _random_samples=torch.from_numpy(u))
        settings = {"kernel_size": k, "output_size": O, "compat": "torch"}
        (y, indices), backward = cnncore.fractional_max_pool.with_backward(x, u, return_indices=True, **settings)
        np.testing.assert_array_equal(y, yt.detach().numpy())
        np.testing.assert_array_equal(indices, it.numpy())
        dy = rng.standard_normal(y.shape).astype(dtype)
        yt.backward(torch.from_numpy(dy))
        np.testing.assert_allclose(backward(dy), xt.grad.numpy(), rtol=1e-5, atol=1e-6)
        y, samples = cnncore.fractional_max_pool(x, seed=4, return_state=True, **settings)
        np.testing.assert_array_equal(cnncore.fractional_max_pool(x, samples, **settings), y)


@pytest.mark.parametrize("mode", ["pseudorandom", "random"])
@pytest.mark.parametrize("overlapping", [True, False])
def test_fractional_steps(mode, overlapping):
    """Steps are ⌊α⌋ or ⌊α⌋ + 1 and fill the axis; pseudorandom ones follow the formula for some u, random ones are spread."""
    first_steps = []
    for seed, (H, O) in itertools.product(range(60), ((25, 17), (9, 9), (10, 3), (7, 1), (36, 25))):
        k = 2 if H > O else 1
        sizes = {"kernel_size": k} if overlapping else {}
        x = np.arange(float(H)).reshape(1, 1, H)
        y, starts = cnncore.fractional_max_pool(
            x, output_size=O, seed=seed, mode=mode, overlapping=overlapping, return_state=True, **sizes
        )
        row = starts[0]
        span, count = (H - k, O - 1) if overlapping else (H, O)
        assert row[-1] == span and (O == 1 or row[0] == 0)
        if count:
            steps = np.diff(row)
            assert len(steps) == count and {*steps} <= {span // count, span // count + 1}
            if mode == "pseudorandom":
                alpha, u = span / count, np.linspace(0, 1, 2000, endpoint=False)[:, None]
                every = np.floor((np.arange(count) + u) * alpha) - np.floor(u * alpha)
                assert (every == row[:-1]).all(1).any()
            elif (H, O) == (36, 25):
                first_steps.append(steps[0])
        stops = row + k if overlapping else row[1:]
        np.testing.assert_array_equal(y[0, 0], stops - 1.0)
    if first_steps:  # 11 of 25 (10 of 24) steps are long: the first about as often as any other
        assert 10 <= sum(step == 2 for step in first_steps) <= 42


def test_fractional_windows_do_not_depend_on_the_precision():
    for seed in range(200):
        x = np.random.default_rng(seed).standard_normal((1, 1, 29, 31))
        for settings in ({"kernel_size": 2, "output_size": (19, 20)}, {"output_ratio": 0.7, "overlapping": False}):
            states = [
                cnncore.fractional_max_pool(x.astype(dtype), seed=seed, return_state=True, **settings)[-1]
                for dtype in (np.float32, np.float64)
            ]
            np.testing.assert_array_equal(*states)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({}, "output_size or output_ratio"),
        ({"output_size": 2, "output_ratio": 0.5}, "output_size or output_ratio"),
        ({"output_ratio": 1.5}, "number above 0"),
        ({"output_ratio": "half"}, "number above 0"),
        ({"output_size": 7}, "at least 1, and 6 at most"),
        ({"output_size": 5, "kernel_size": 3}, "do not fit"),
        ({"output_size": 3, "kernel_size": 2, "overlapping": False}, "no kernel_size"),
        ({"output_size": 3, "compat": "torch"}, "compat='torch'"),
        ({"output_size": 3, "kernel_size": 2, "mode": "random", "compat": "torch"}, "compat='torch'"),
        ({"output_size": 3, "mode": "even"}, "mode must be"),
    ],
)
def test_impossible_fractions(settings, words):
    with pytest.raises(cnncore.CnnError, match=words):
        cnncore.fractional_max_pool(np.ones((1, 1, 6)), **settings)


@pytest.mark.parametrize("wrong", [[[-1, 2, 4]], [[0, 2, 5]], [[2, 1, 4]], [[0, 2]]])
def test_fractional_state_from_outside_is_checked(wrong):
    with pytest.raises(cnncore.CnnError, match="state"):
        cnncore.fractional_max_pool(np.ones((1, 1, 6)), np.array(wrong), kernel_size=2, output_size=3)
    with pytest.raises(cnncore.CnnError, match="state"):
        cnncore.fractional_max_pool(np.ones((1, 1, 6)), np.array(wrong, float), kernel_size=2, output_size=3)


# ── Regions, pyramids, S3 ──────────────────────────────────────────────────────────────────────────────────────────────


def test_regions_by_hand():
    x = np.arange(24.0).reshape(1, 1, 4, 6)
    rois = np.array([[0.0, 0, 0, 5, 3], [0, 2.5, 1.4, 2.5, 1.4], [0, -3, -3, 1, 0], [0, 9, 9, 12, 12], [0, 4, 3, 1, 1]])
    y, backward = cnncore.roi_max_pool.with_backward(x, rois, output_size=2)
    expected = [
        [[8, 11], [20, 23]],
        [[9, 9], [9, 9]],  # 2.5 rounds to 3: one cell in all bins
        [[0, 0], [0, 1]],  # the first of the two rows and columns of bins lies outside: they are empty
        [[0, 0], [0, 0]],
        [[22, 22], [22, 22]],  # malformed: one cell at its low corner
    ]
    np.testing.assert_array_equal(y[:, 0], expected)
    dx = backward(np.ones_like(y))
    assert dx[0, 0, 1, 3] == 4 and dx[0, 0, 3, 4] == 4 and dx.sum() == 13
    empty = cnncore.roi_max_pool(x, np.empty((0, 5)), output_size=2)
    assert empty.shape == (0, 1, 2, 2)
    for bad in ([[1.0, 0, 0, 1, 1]], [[0.5, 0, 0, 1, 1]], [[0, np.nan, 0, 1, 1]], [[-1.0, 0, 0, 1, 1]]):
        with pytest.raises(cnncore.DataError, match="rois"):
            cnncore.roi_max_pool(x, np.array(bad), output_size=2)
    with pytest.raises(cnncore.ShapeError, match=r"\(R, 5\)"):
        cnncore.roi_max_pool(x, rois[:, 1:], output_size=2)


def test_regions_as_onnx_runtime_has_them(rng):
    """MaxRoiPool, whose bins are of real numbers: regions whose sizes are multiples of the bins, where both are whole."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    x = rng.standard_normal((2, 3, 12, 14)).astype(np.float32)
    boxes = [(rng.integers(2), rng.integers(0, 8), rng.integers(0, 6)) for _ in range(20)]
    rois = np.array(
        [[n, a, b, a + 2 * rng.integers(1, 4) - 1, b + 2 * rng.integers(1, 4) - 1] for n, a, b in boxes], np.float32
    )
    helper = onnx.helper
    node = helper.make_node("MaxRoiPool", ["x", "rois"], ["y"], pooled_shape=[2, 2], spatial_scale=1.0)
    values = [helper.make_tensor_value_info(n, 1, a.shape) for n, a in (("x", x), ("rois", rois))]
    graph = helper.make_graph([node], "roi", values, [helper.make_tensor_value_info("y", 1, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": x, "rois": rois})[0]
    np.testing.assert_array_equal(cnncore.roi_max_pool(x, rois, output_size=2), expected)


@pytest.mark.parametrize("shape", [(2, 3, 13), (2, 3, 7, 9), (1, 2, 5, 4, 6)], ids=str)
def test_pyramid_levels_are_adaptive_pools(shape, rng):
    x = rng.standard_normal(shape)
    for strategy, op in (("max", cnncore.adaptive_max_pool), ("avg", cnncore.adaptive_avg_pool)):
        y, backward = cnncore.spatial_pyramid_pool.with_backward(x, levels=(1, 2, 4), strategy=strategy)
        parts = [op.with_backward(x, output_size=level) for level in (1, 2, 4)]
        np.testing.assert_array_equal(y, np.concatenate([part.reshape(len(x), -1) for part, _ in parts], 1))
        dy = rng.standard_normal(y.shape)
        split = np.split(dy, np.cumsum([part[0].size for part, _ in parts])[:-1], 1)
        expected = sum(back(d.reshape(part.shape)) for (part, back), d in zip(parts, split, strict=True))
        np.testing.assert_allclose(backward(dy), expected, rtol=1e-12, atol=1e-12)
    assert cnncore.spatial_pyramid_pool(x).shape == (shape[0], shape[1] * sum(n ** (len(shape) - 2) for n in (1, 2, 4)))


def test_s3_picks_as_many_of_every_strip(rng):
    """In each strip of g rows g/s, without repetition, each as often as the others: 400 seeds, four standard deviations."""
    x = rng.standard_normal((1, 1, 11, 8))
    count = np.zeros(11)
    for seed in range(400):
        y, state = cnncore.s3_pool(x, kernel_size=2, stride=2, grid_size=4, training=True, seed=seed, return_state=True)
        rows = state[0, :5]
        assert y.shape == (1, 1, 5, 4) and (np.diff(rows) > 0).all()
        assert [(rows // 4 == strip).sum() for strip in range(3)] == [2, 2, 1]
        count[rows] += 1
    share = np.array([1 / 2] * 8 + [1 / 3] * 3)
    assert (abs(count - 400 * share) <= 4 * np.sqrt(400 * share * (1 - share))).all()


def test_s3_outside_training_is_the_mean_of_training(rng):
    """Over all picks of strips as long as the stride: the average."""
    x = rng.standard_normal((1, 2, 6))
    settings = {"kernel_size": 2, "stride": 2, "grid_size": 2}
    ys = [
        cnncore.s3_pool(x, np.array([[a, 2 + b, 4 + c]]), training=True, **settings)
        for a, b, c in itertools.product((0, 1), repeat=3)
    ]
    np.testing.assert_allclose(np.mean(ys, 0), cnncore.s3_pool(x, **settings), rtol=1e-14)


# ── What is drawn ──────────────────────────────────────────────────────────────────────────────────────────────────────

RANDOM = [
    pytest.param(pair, id="-".join(pair))
    for pair in GRID.pairs
    if GRID.strategies[pair[0]].draws or (GRID.schemes[pair[1]].draws and pair[0] in ("max", "gem"))
]


@pytest.mark.parametrize("pair", RANDOM)
def test_replay_equals_the_first_run(pair):
    op = GRID.operator(*pair)
    case = op.cases[0].but()
    training = {"training": True} if "training" in op.settings else {}
    case.settings = {**case.settings, **training}
    made = case.sample(2)
    given = [a for row, a in zip(op.arrays, made, strict=False) if row.name not in ("state", "window_state")]
    y, *states = op(*given, **{**case.settings, "seed": 3, "return_state": True})
    names = [row.name for row in op.arrays if row.name in ("state", "window_state")]
    again = op(*given, **dict(zip(names, states, strict=True)), **{**case.settings, "seed": 99})
    np.testing.assert_array_equal(again, y)
    other = [op(*given, **{**case.settings, "seed": seed}) for seed in range(4, 12)]
    assert any((o != y).any() for o in other), "the seed changes nothing"


def test_rank_stochastic_frequencies():
    x = np.tile([1.0, 4.0, 3.0, -2.0], 2000).reshape(1, 1, -1)
    a, count = 0.4, np.zeros(4)
    for seed in range(10):
        _, state = cnncore.rank_stochastic_pool(x, kernel_size=4, a=a, training=True, seed=seed, return_state=True)
        count += np.bincount(state.ravel() % 4, minlength=4)
    p = a * (1 - a) ** np.arange(4)
    p = (p / p.sum())[[2, 0, 1, 3]]
    assert (abs(count - count.sum() * p) <= 4 * np.sqrt(count.sum() * p * (1 - p))).all()


def test_max_pool_dropout_frequencies():
    """The cell of rank r wins with probability q^(r − 1)(1 − q), none with qⁿ; the mean is what inference gives."""
    x = np.tile([1.0, 4.0, 3.0], 2000).reshape(1, 1, -1)
    q, count, total = 0.4, np.zeros(4), 0.0
    for seed in range(10):
        y, state = cnncore.max_pool_dropout(x, kernel_size=3, q=q, training=True, seed=seed, return_state=True)
        count += np.bincount(np.where(state < 0, 3, state % 3).ravel(), minlength=4)
        total += y.sum()
    p = np.array([q * q * (1 - q), 1 - q, q * (1 - q), q**3])
    n = count.sum()
    assert (abs(count - n * p) <= 4 * np.sqrt(n * p * (1 - p))).all()
    mean = cnncore.max_pool_dropout(x, kernel_size=3, q=q)[0, 0, 0]
    assert abs(total / n - mean) <= 4 * np.std([1, 4, 3, 0]) / np.sqrt(n)


def test_a_dropped_cell_is_dropped_for_all_windows(rng):
    """Windows that overlap see one mask of the image."""
    x = np.arange(1.0, 41.0).reshape(1, 1, 40)
    _, state = cnncore.max_pool_dropout(x, kernel_size=3, stride=1, training=True, seed=1, return_state=True)
    kept = np.unique(state[state >= 0])
    for o, position in enumerate(state[0, 0]):
        inside = kept[(kept >= o) & (kept < o + 3)]
        assert position == (inside.max() if len(inside) else -1)


def test_random_mixed_frequencies():
    x = np.tile([0.0, 1.0], (100, 50, 1))
    y, state = cnncore.random_mixed_pool(x, kernel_size=2, frequency=0.3, training=True, seed=2, return_state=True)
    assert state.shape == (100, 50) and abs(state.mean() - 0.3) <= 4 * np.sqrt(0.21 / 5000)
    np.testing.assert_array_equal(y[..., 0], np.where(state, 1.0, 0.5))


def test_the_gradient_check_takes_the_grid(rng):
    x = rng.uniform(0.1, 2, (1, 2, 9, 9))
    settings = {"strategy": "gem", "windows": "fractional", "output_size": 4, "p": 3.0}
    assert cnncore.testing.check_gradient(cnncore.pool, x, **settings) < 1e-7
