"""check_net passes what is right, in seconds, and names what is wrong."""

import re

import numpy as np
import pytest

import cnncore
from cnncore import GradientError, SettingError, models
from cnncore.nets.net import Backward


def scaled(monkeypatch, factors):
    """Backward passes whose gradients of these parameters are multiplied."""
    plain = Backward.__call__

    def wrong(self, *dys, **options):
        dxs = plain(self, *dys, **options)
        for name, factor in factors.items():
            self.gradients[name] = self.gradients[name] * factor
        return dxs

    monkeypatch.setattr(Backward, "__call__", wrong)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name, shape", [("small_inception", (2, 1, 14, 14)), ("lenet", (2, 1, 32, 32))])
def test_networks_are_right_and_unchanged(rng, name, shape, training):
    net = models.NETWORKS[name](seed=0)
    before = {name: array.copy() for name, array in {**net.parameters, **net.buffers}.items()}
    assert 0 < cnncore.testing.check_net(net, rng.standard_normal(shape), training=training) < 1e-6
    assert net.steps == 0 and net.dtype == np.float32
    for name, array in {**net.parameters, **net.buffers}.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("factor", [0.0, -1.0, 1.01, 2.0])
def test_a_wrong_parameter_is_named(rng, monkeypatch, factor):
    scaled(monkeypatch, {"c3.w": factor})
    text = r"^check_net: gradients are wrong. parameter c3.w: backward gives"
    with pytest.raises(GradientError, match=text) as raised:
        cnncore.testing.check_net(models.lenet(seed=0), rng.standard_normal((2, 1, 32, 32)))
    ratio = float(re.search(r", (\S+) times that", str(raised.value))[1])
    assert ratio == pytest.approx(factor, abs=1e-6) and ";" not in str(raised.value)


def test_many_wrong_parameters_are_counted_and_frozen_ones_are_left_out(rng, monkeypatch):
    net, x = models.lenet(seed=0), rng.standard_normal((1, 1, 32, 32))
    names = list(net.parameters)[:6]
    scaled(monkeypatch, dict.fromkeys(names, 3.0))
    with pytest.raises(GradientError, match="; and 3 more"):
        cnncore.testing.check_net(net, x)
    net.frozen = set(names)
    monkeypatch.undo()
    assert cnncore.testing.check_net(net, x) < 1e-6


def test_inputs_of_every_role_and_outputs_of_several(rng):
    g = cnncore.Graph()
    a, b, table = g.input(channels=2), g.input(channels=3), g.input(channels=4, rank=0)
    h = g.conv(g.concat(a, b), 4, kernel_size=3, activation="gelu")
    g.output(g.global_avg_pool(h), g.linear(table, 2))
    net = g.build(seed=0)
    arrays = rng.standard_normal((2, 2, 6, 6)), rng.standard_normal((2, 3, 6, 6)), rng.standard_normal((2, 4))
    assert cnncore.check_net(net, *arrays) < 1e-8


@pytest.mark.parametrize("settings", [{"tolerance": 0}, {"directions": 0}, {"tolerance": 1.0}])
def test_impossible_settings(settings):
    with pytest.raises(SettingError, match="check_net"):
        cnncore.testing.check_net(models.lenet(seed=0), np.zeros((1, 1, 32, 32)), **settings)
