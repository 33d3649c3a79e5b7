"""check_gradient on every operator, and on functions whose backward is known to be right or wrong."""

import numpy as np
import pytest
from support.cases import cases, operators

import cnncore
from cnncore import DtypeError, GradientError, KinkError, KinkWarning, SettingError
from cnncore.testing import (
    check_adjoint,
    check_gradient,
    check_operator,
    check_operators,
    format_table,
)
from cnncore.testing.operators import ADJOINT_LIMIT


@pytest.mark.parametrize(("op", "case", "rank"), cases(ranks=True, where=lambda op: op.proof == "gradient"))
def test_gradient(op, case, rank):
    assert check_gradient(op, *case.sample(rank), **case.settings) <= 1e-8  # its own tolerance


@pytest.mark.parametrize("op", operators(where=lambda op: op.proof == "gradient"))
def test_gradient_by_the_other_method(op):
    """The lowest rank has its Jacobian computed by default: project it as well."""
    case = op.cases[-1]
    check_gradient(op, *case.sample(case.ranks[0]), method="projection", **case.settings)


@pytest.mark.parametrize(("op", "case", "rank"), cases(ranks=True, where=lambda op: op.linear))
def test_adjoint(op, case, rank):
    assert check_adjoint(op, *case.sample(rank), **case.settings) <= ADJOINT_LIMIT


# ── Right and wrong functions ──────────────────────────────────────────────────────────────────────────────────────────


def square(x):
    return x**2, lambda dy: 2 * x * dy


def product(x, w):
    return x @ w, lambda dy: (dy @ w.T, x.T @ dy)


def relu(x):
    return np.maximum(x, 0), lambda dy: dy * (x > 0)


def running_sum(x):
    """y[i] = x[i] + x[i + 1]: neighbouring windows overlap."""

    def backward(dy):
        dx = np.zeros_like(x)
        dx[..., :-1] += dy
        dx[..., 1:] += dy
        return dx

    return x[..., :-1] + x[..., 1:], backward


@pytest.fixture(params=["jacobian", "projection"])
def method(request):
    return request.param


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 3, 5, 5))


def test_right_functions_pass(x, rng, method):
    assert check_gradient(square, x, method=method) < 1e-9
    assert check_gradient(running_sum, x, method=method) < 1e-9
    assert check_gradient(product, x[0, 0], x[1, 2], method=method) < 1e-9
    assert check_gradient(lambda x: (x.sum(), lambda dy: np.full_like(x, dy)), x, method=method) < 1e-9
    assert check_gradient(lambda x: (np.sin(3 * x), lambda dy: 3 * dy * np.cos(3 * x)), x, method=method) < 1e-9
    assert check_gradient(lambda x: ((x, "extra"), lambda dy: dy), x, method=method) < 1e-9


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_values_of_any_size(size, x, method):
    assert check_gradient(square, size * x, method=method) < 1e-8
    assert check_gradient(lambda x: (size * x, lambda dy: size * dy), x, method=method) < 1e-9
    with pytest.raises(GradientError, match="factor 2"):
        check_gradient(lambda x: (size * x, lambda dy: 2 * size * dy), x, method=method)


def test_a_step_too_large_is_made_smaller(x, method):
    """Kinks within the first step, but not at the point itself."""
    near = np.where(np.arange(x.size).reshape(x.shape) % 2, 1e-5, -2e-5) + 0 * x
    far = np.sign(near) * (1 + np.abs(x))
    assert check_gradient(relu, np.where(np.arange(x.size).reshape(x.shape) % 7, far, near), method=method) < 1e-8


WRONG = {
    "the sign is wrong": lambda x: (x**2, lambda dy: -2 * x * dy),
    "everywhere: a factor 2": lambda x: (x**2, lambda dy: 4 * x * dy),
    "backward gives 0 everywhere": lambda x: (x**2, lambda dy: 0 * dy),
    "nearly right": lambda x: (x**2, lambda dy: (2 * x * dy).astype("f").astype("d")),
    "gradient of x has shape": lambda x: (x**2, lambda dy: (2 * x * dy)[0]),
    "gradient of x is float32": lambda x: (x**2, lambda dy: (2 * x * dy).astype("f")),
    "returned None": lambda x: (x**2, lambda dy: None),
    "returned 2 gradients": lambda x: (x**2, lambda dy: (dy, dy)),
    "gradient of x is nan": lambda x: (x**2, lambda dy: dy * np.nan),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_functions_fail(message, x, method):
    with pytest.raises(GradientError, match=message):
        check_gradient(WRONG[message], x, method=method)


def test_the_wrong_element_is_named(x, method):
    def wrong_in_one_place(x):
        def backward(dy):
            dx = 2 * x * dy
            dx[1, 2, 3, 4] *= 1.001
            return dx

        return x**2, backward

    with pytest.raises(GradientError, match=r"x is wrong at x\[1, 2, 3, 4\].*ratio 1\.001"):
        check_gradient(wrong_in_one_place, x, method=method)


def test_wrong_only_at_the_border_is_said(x):
    def wrong_at_border(x):
        inside = np.zeros_like(x)
        inside[..., 1:-1, 1:-1] = 1
        return x**2, lambda dy: 2 * x * dy * (inside + 0.5 * (1 - inside) * (1 + (np.arange(5) == 0)))

    with pytest.raises(GradientError, match="only at the border"):
        check_gradient(wrong_at_border, x)


def test_a_shift_is_said(x):
    slope = np.arange(1.0, 6)
    with pytest.raises(GradientError, match=r"shifted by \+1 along axis 3"):
        check_gradient(lambda x: (x * slope, lambda dy: np.roll(dy * slope, 1, -1)), x)


def test_swapped_axes_are_said(rng):
    x, w = rng.standard_normal((4, 3)), rng.standard_normal((3, 3))
    with pytest.raises(GradientError, match="axes 0 and 1 are swapped"):
        check_gradient(lambda x, w: (x @ w, lambda dy: (dy @ w.T, (x.T @ dy).T)), x, w)


def test_missing_accumulation_is_said(x):
    def overwrites(x):
        def backward(dy):
            dx = np.zeros_like(x)
            dx[..., :-1] = dy
            dx[..., 1:][dy != 0] = dy[dy != 0]
            return dx

        return x[..., :-1] + x[..., 1:], backward

    with pytest.raises(GradientError, match="overlapping windows"):
        check_gradient(overwrites, x)
    with pytest.raises(GradientError):
        check_gradient(overwrites, x, method="projection")


def test_second_argument(rng, method):
    x, w = rng.standard_normal((4, 5)), rng.standard_normal((5, 3))
    assert check_gradient(product, x, w, method=method) < 1e-9
    with pytest.raises(GradientError, match="gradient of w is wrong"):
        check_gradient(lambda x, w: (x @ w, lambda dy: (dy @ w.T, x.T @ dy / 2)), x, w, method=method)


def test_integer_arrays_are_passed_on(x, method):
    def gather(x, index):
        def backward(dy):
            dx = np.zeros_like(x)
            np.add.at(dx, index, dy)
            return dx, None

        return x[index], backward

    assert check_gradient(gather, x, np.array([1, 1, 0]), method=method) < 1e-9


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: (2 * x, lambda dy: np.multiply(dy, 2, out=dy)), "backward changed dy"),
        (lambda x: (2 * x, lambda dy: 2 * dy + 0 * np.multiply(x, 2, out=x)), "changed x"),
    ],
)
def test_backward_that_changes_its_inputs(wrong, message, x):
    with pytest.raises(GradientError, match=message):
        check_gradient(wrong, x)


def test_backward_that_works_once(x):
    def f(x):
        saved = [2 * x]
        return x**2, lambda dy: saved.pop() * dy if saved else 0 * dy

    with pytest.raises(GradientError, match="called twice"):
        check_gradient(f, x)


def test_random_functions_are_named(x, rng):
    with pytest.raises(GradientError, match="Is it random"):
        check_gradient(lambda x: (x * rng.standard_normal(), lambda dy: dy), x)


# ── Nets ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def branching_net(dtype="float64", outputs=1):
    """Convolution, two branches with a shared input, pooling, normalisation, dropout, a classifier."""
    g = cnncore.Graph()
    x = g.input(channels=2)
    h = g.conv(x, 4, kernel_size=3, padding=1, activation="tanh", name="stem")
    one = g.conv(h, 3, kernel_size=1, name="one")
    pool = g.avg_pool(h, 3, stride=1, padding=1)
    h = g.batch_norm(g.concat(one, pool, h), name="norm")
    h = g.dropout(h, p=0.3)
    y = g.linear(g.global_avg_pool(h), 3, name="classes")
    if outputs == 2:
        g.output(y, g.conv(h, 1, kernel_size=1, name="map"))
    else:
        g.output(y)
    return g.build(seed=3, dtype=dtype)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("training", [False, True])
def test_net(outputs, training, rng, method):
    net = branching_net(outputs=outputs)
    x = rng.standard_normal((3, 2, 5, 4))
    before = {k: v.copy() for k, v in [*net.parameters.items(), *net.buffers.items()]}
    steps = net.steps
    assert check_gradient(net, x, training=training, method=method) <= 1e-8
    for name, array in before.items():
        assert np.array_equal(array, (net.parameters if name in net.parameters else net.buffers)[name]), name
    assert net.steps == steps


def test_net_in_float32_is_refused(rng):
    with pytest.raises(DtypeError, match=r"parameter .* is float32.*net\.astype\('float64'\)"):
        check_gradient(branching_net("float32"), rng.standard_normal((1, 2, 5, 4)))


@pytest.mark.parametrize("wrong", ["stem.w", "norm.b", "classes.w", "x"])
def test_wrong_gradient_of_a_net_is_named(wrong, rng):
    net = branching_net()

    class Wrong:
        parameters, state, frozen = net.parameters, net.buffers, ()

        def with_backward(self, x):
            y, backward = net.with_backward(x)

            def wrong_backward(dy):
                dx = backward(dy)
                gradients = {name: g.copy() for name, g in backward.gradients.items()}
                if wrong == "x":
                    dx = 1.01 * dx
                else:
                    gradients[wrong].flat[1] *= 1.01
                wrong_backward.gradients = gradients
                return dx

            return y, wrong_backward

    with pytest.raises(GradientError, match=f"gradient of {'x' if wrong == 'x' else f'parameter {wrong}'} is wrong"):
        check_gradient(Wrong(), rng.standard_normal((3, 2, 5, 4)))


# ── Points without a derivative ────────────────────────────────────────────────────────────────────────────────────────


def test_kink_is_named(x, method):
    x[1, 2, 3, 4] = 0
    with pytest.raises(
        KinkError, match=r"x\[1, 2, 3, 4\] lies on a kink.* y\[1, 2, 3, 4\] are 0 from below and 1 from above"
    ):
        check_gradient(relu, x, method=method)
    with pytest.raises(KinkError, match=r"relu: x\[1, 2, 3, 4\] lies on a kink"):
        check_gradient(cnncore.relu, x, method=method)


def test_tie_is_named_with_its_partner(x, method):
    x[0, 1, 0, 1] = x[0, 1, 1, 0] = 5
    x[1, 1, 0, 0] = 5  # the same value in another window: no partner
    with pytest.raises(KinkError, match=r"x\[0, 1, 0, 1\] lies on a kink.*it ties with x\[0, 1, 1, 0\] \(= 5\)"):
        check_gradient(cnncore.max_pool, x, kernel_size=2, method=method)


def test_jump_is_named(x, method):
    x[0, 1, 2, 3] = 0
    with pytest.raises(KinkError, match=r"jumps at x\[0, 1, 2, 3\], from -1 to 1"):
        check_gradient(lambda x: (x + np.sign(x), lambda dy: dy), x, method=method)


def test_edge_of_the_domain_is_named(x):
    x = np.abs(x) + 0.1
    x[0, 0, 0, 3] = 0
    with pytest.raises(KinkError, match=r"not finite next to x\[0, 0, 0, 3\]"):
        check_gradient(lambda x: (x * np.sqrt(x), lambda dy: 1.5 * np.sqrt(x) * dy), x)


def test_a_wrong_gradient_beside_a_kink_is_found(x):
    x[0, 0, 0, 0] = 0
    with pytest.raises(GradientError, match=r"wrong at x\[0, 0, 0, 1\]|wrong at x\[0, 0, 0, 2\]") as caught:
        check_gradient(lambda x: (np.maximum(x, 0), lambda dy: 2 * dy * (x > 0)), x)
    assert not isinstance(caught.value, KinkError)


def bent(bend, x, distances, factor=1):
    """y = x + bend · max(x − kink, 0), with a kink at each of the distances from x; backward is ``factor`` times too large."""
    kinks = x - distances
    return lambda x: (
        x + bend * np.maximum(x - kinks, 0),
        lambda dy: factor * dy * (1 + bend * (x > kinks)),
    )


@pytest.mark.filterwarnings("ignore::cnncore.KinkWarning")
@pytest.mark.parametrize("bend", [1e-8, 3e-8, 1e-6, 1e-3, 1.0])
def test_kinks_at_any_distance(bend, rng, method):
    """However near and however slight, a kink beside the point makes no right gradient wrong, and no wrong one right."""
    x = rng.uniform(0.5, 1.5, 120)
    distances = np.geomspace(1e-9, 0.1, 120) * np.where(np.arange(120) % 2, 1, -1)
    assert check_gradient(bent(bend, x, distances), x, method=method) < 1e-8
    with pytest.raises(GradientError, match="wrong"):
        check_gradient(bent(bend, x, distances, factor=1 + 1e-6), x, method=method)


def test_kinks_beside_the_point_are_named(rng):
    x = rng.uniform(0.5, 1.5, 7)
    distances = np.array([0.2, 0.2, 1e-8, 0.2, -1e-8, 0.2, 0.2])
    with pytest.warns(
        KinkWarning, match=r"2 of 7 elements lie so close to a kink .*\(x\[2\], x\[4\]\): checked beside it"
    ):
        assert check_gradient(bent(0.5, x, distances), x) < 1e-9

    def wrong_near_kinks(x):
        y, backward = bent(0.5, np.full(7, 1.0), distances)(x)
        return y, lambda dy: np.where(np.abs(x - 1) < 0.01, 1.1, 1) * backward(dy)

    with pytest.raises(GradientError, match=r"wrong at x\[2\], moved by .* off a kink: .*\(ratio 1\.1\)"):
        check_gradient(wrong_near_kinks, np.where(np.abs(distances) < 0.1, 1.0, x + 1))
    for j, distance in enumerate(distances):
        distances[j] = 0 if j == 4 else distance
    with pytest.raises(KinkError, match=r"x\[4\] lies on a kink"):
        check_gradient(bent(0.5, x, distances), x)


def test_noise_is_no_kink(x, method):
    def noisy(x):
        return x**2 + 1e-8 * np.sin(1e13 * x), lambda dy: 2 * x * dy

    with pytest.raises(GradientError, match=r"does not settle .* noisy \(does it compute in float32\?\)"):
        check_gradient(noisy, x, method=method)


# ── Arguments of check_gradient itself ─────────────────────────────────────────────────────────────────────────────────


def test_float32_is_refused(x):
    with pytest.raises(DtypeError, match=r"x is float32.*astype\('float64'\)"):
        check_gradient(square, x.astype("f"))


@pytest.mark.parametrize("step", [1e-2, 1e-4])
def test_own_step(x, step):
    assert check_gradient(square, x, step=step) < 1e-8


def test_bad_arguments(x):
    for settings in ({"method": "guess"}, {"tolerance": 0}, {"tolerance": 2}):
        with pytest.raises(SettingError):
            check_gradient(square, x, **settings)
    with pytest.raises(SettingError, match=r"\(y, backward\)"):
        check_gradient(lambda x: x, x)
    with pytest.raises(SettingError, match="callable"):
        check_gradient(3, x)
    with pytest.raises(SettingError, match="not finite"):
        check_gradient(square, x * np.inf)


def test_empty_arrays():
    assert check_gradient(square, np.empty((0, 3))) == 0
    assert check_gradient(cnncore.max_pool, np.empty((0, 3, 4)), kernel_size=2) == 0


def test_settings_reach_the_function(x):
    def power(x, p):
        return x**p, lambda dy: p * x ** (p - 1) * dy

    assert check_gradient(power, x, p=3) < 1e-8


def test_the_seed_reaches_a_function_that_takes_one(x):
    seen = set()

    def f(x, seed=None):
        seen.add(seed)
        return 2 * x, lambda dy: 2 * dy

    check_gradient(f, x, seed=5)
    assert seen == {5}


# ── The table ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_check_operator_fills_every_column():
    rows = check_operator("max_pool")
    assert len(rows) == sum(len(case.ranks) for case in cnncore.max_pool.cases)
    assert all(row.gradient < 1e-9 and row.float32 < 1e-6 and row.kernels < 64 for row in rows)
    assert {row.checked for row in rows} == {"jacobian", "projection"}


def test_check_operators_reports_progress(capsys):
    import io

    stream, seen = io.StringIO(), []
    report = check_operators(["relu"], stream=stream, progress=lambda done, total, row: seen.append((done, total)))
    assert not report.failed
    assert seen == [(i + 1, len(report.rows)) for i in range(len(report.rows))]
    assert stream.getvalue().count("\n") == 1 + len(report.rows)
    assert "all ok" in format_table(report.rows)
    with pytest.raises(SettingError, match="did you mean 'relu'"):
        check_operators(["rellu"])
