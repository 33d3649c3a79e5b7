"""Optimizers' updates: every target as the reference implementation, any layout, any number of threads the same bits."""

import numpy as np
import pytest

import cnncore
from cnncore.train import SGD, Adam, AdamW, NAdam, RMSprop

METHODS = [
    lambda: SGD(0.1),
    lambda: SGD(0.1, weight_decay=0.01),
    lambda: SGD(0.1, momentum=0.9, weight_decay=0.01),
    lambda: SGD(0.1, momentum=0.9, nesterov=True),
    lambda: Adam(0.01, weight_decay=0.01),
    lambda: AdamW(0.01),
    lambda: NAdam(0.01, weight_decay=0.01),
    lambda: RMSprop(0.01, weight_decay=0.01),
    lambda: RMSprop(0.01, momentum=0.9, centered=True, nesterov=True),
]


def trained(make, w, gradients):
    """The parameter and its state after a step per gradient."""
    method = make()
    for g in gradients:
        method.update({"w": w}, {"w": g})
    return [w, *method.state["w"]]


@pytest.mark.parametrize("make", METHODS, ids=lambda m: repr(m()))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (5, 3), (16385,), (9, 4, 3, 3, 2), (130, 70, 3, 3)], ids=str)
def test_updates(rng, make, dtype, shape):
    start = np.asarray(rng.standard_normal(shape), dtype)
    gradients = rng.standard_normal((3, *shape)).astype(dtype)
    with cnncore.cpu.target("reference"):
        expected = trained(make, start.copy(), gradients)
    limit = 1e-6 if dtype == np.float32 else 1e-14
    for target in cnncore.cpu.targets():
        with cnncore.cpu.target(target):
            bits = set()
            for threads in (1, 2, 3):
                with cnncore.threads(threads):
                    found = trained(make, start.copy(), gradients)
                bits.add(b"".join(a.tobytes() for a in found))
                for a, e in zip(found, expected, strict=True):
                    assert a.dtype == dtype and a.shape == shape
                    assert np.abs(a - e).max() <= limit * np.abs(e).max()
            assert len(bits) == 1
            if len(shape) > 1:  # a parameter that is a part of an array, a gradient in another order
                big = np.zeros((*shape[:-1], 2 * shape[-1]), dtype)
                big[..., ::2] = start
                found = trained(make, big[..., ::2], [np.asfortranarray(g) for g in gradients])
                assert not big[..., 1::2].any()
                for a, e in zip(found, expected, strict=True):
                    assert np.abs(a - e).max() <= limit * np.abs(e).max()


@pytest.mark.parametrize("make", METHODS, ids=lambda m: repr(m()))
def test_a_parameter_that_begins_later_is_changed_as_if_it_were_alone(rng, make):
    """What an optimizer knows of a parameter, its count of steps included, is of that parameter only: head trains first."""
    head, late, alone = (rng.standard_normal((3, 4)) for _ in range(3))
    alone[...] = late
    method, other = make(), make()
    for _ in range(50):
        method.update({"head": head, "late": late}, {"head": np.ones((3, 4))})
    for _ in range(5):
        g = rng.standard_normal((3, 4))
        method.update({"head": head, "late": late}, {"head": np.ones((3, 4)), "late": g})
        other.update({"late": alone}, {"late": g})
        np.testing.assert_array_equal(late, alone)
    assert method.steps == 55 and method.steps_of == {"head": 55, "late": 5}


def test_rmsprop_and_nadam_are_their_formulas(rng):
    gradients = rng.standard_normal((8, 5))
    for nesterov in (False, True):
        w, s, m, v = np.linspace(-1, 1, 5), *np.zeros((3, 5))
        found = {"w": w.copy()}
        method = RMSprop(0.1, alpha=0.9, weight_decay=0.02, momentum=0.7, centered=True, nesterov=nesterov)
        for g in gradients:
            method.update(found, {"w": g})
            g = g + 0.02 * w
            s, m = 0.9 * s + 0.1 * g * g, 0.9 * m + 0.1 * g
            u = g / (np.sqrt(s - m * m) + 1e-8)
            v = 0.7 * v + u
            w = w - 0.1 * (u + 0.7 * v if nesterov else v)
        np.testing.assert_allclose(found["w"], w, rtol=1e-12)
    w, m, v = np.linspace(-1, 1, 5), *np.zeros((2, 5))
    found, method = {"w": w.copy()}, NAdam(0.1, betas=(0.9, 0.99), weight_decay=0.02, momentum_decay=0.01)
    mu = [0.9 * (1 - 0.5 * 0.96 ** (0.01 * t)) for t in range(1, 10)]
    for t, g in enumerate(gradients, 1):
        method.update(found, {"w": g})
        g = g + 0.02 * w
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        ahead = mu[t] * m / (1 - np.prod(mu[: t + 1])) + (1 - mu[t - 1]) * g / (1 - np.prod(mu[:t]))
        w = w - 0.1 * ahead / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)
    np.testing.assert_allclose(found["w"], w, rtol=1e-12)
    assert method.product(10**6) == 0.0
