"""What a net's output is, worked out from its structure; losses, evaluation, prediction and classification go by it."""

import copy
import pickle
from itertools import product

import numpy as np
import pytest

import cnncore
from cnncore import DtypeError, ModelFileError, SettingError
from cnncore.classify import Classifier
from cnncore.nets.output_kind import KINDS, OF_CLASSES, OF_EACH, SAME_NUMBERS
from cnncore.train import SGD, EarlyStopping, Trainer

CLASSES = 4


def net_of(*ends, classes=CLASSES, dtype="float64", pooled=True):
    """A net with ``ends``, functions (g, value) → value, behind its scores."""
    g = cnncore.Graph()
    y = g.conv(g.input(channels=1), classes, kernel_size=3, padding=1)
    if pooled:
        y = g.global_avg_pool(y)
    for end in ends:
        y = end(g, y)
    g.output(y)
    return g.build(seed=1, dtype=dtype)


def op(name, **settings):
    return lambda g, y: getattr(g, name)(y, **settings)


PASSING = {
    "nothing": (),
    "identity": (op("identity"),),
    "map of one cell": (op("reshape", shape=(0, CLASSES, 1, 1)),),
    "and back": (op("unsqueeze", axes=(2, 3)), op("flatten")),
    "squeezed": (op("unsqueeze", axes=2), op("squeeze", axes=2)),
}


@pytest.mark.parametrize("passing", PASSING)
@pytest.mark.parametrize("function", [*OF_CLASSES, *OF_EACH, "relu", "tanh"])
def test_kinds_behind_operators_that_keep_the_numbers(function, passing):
    kind = (OF_CLASSES | OF_EACH).get(function, "logits")
    net = net_of(op(function), *PASSING[passing])
    assert net.output_kind == kind
    assert {node.op.name for node in net.graph.nodes[3:]} <= {*SAME_NUMBERS}
    assert kind.replace("_", " ") in str(net.summary((1, 1, 8, 8))).splitlines()[0]


@pytest.mark.parametrize(
    ("kind", "ends", "settings"),
    [
        ("values", (), {"classes": 1}),
        ("maps", (), {"pooled": False}),
        ("probabilities", (op("softmax"),), {"pooled": False}),
        ("independent_probabilities", (op("sigmoid"),), {"classes": 1, "pooled": False}),
        ("independent_probabilities", (op("sigmoid"),), {"classes": 1}),
        ("probabilities", (op("softmax"), op("global_avg_pool")), {"pooled": False}),
        ("probabilities", (op("reshape", shape=(0, 1, 1, CLASSES)), op("softmax", axis=3), op("flatten")), {}),
        ("values", (op("log_softmax", axis=2),), {"pooled": False}),
        ("independent_probabilities", (op("softmax"), op("slice", axis=1, start=0, stop=2)), {}),
        ("independent_probabilities", (lambda g, y: g.concat(g.sigmoid(y), g.sigmoid(y)),), {}),
        ("values", (lambda g, y: g.add(g.softmax(y), g.softmax(g.relu(y))),), {}),
        ("logits", (lambda g, y: g.multiply(y, g.sigmoid(y)),), {}),
        ("integers", (op("arg_max", axis=1),), {}),
        ("booleans", (lambda g, y: g.greater(y, g.relu(y)),), {}),
    ],
)  # fmt: skip
def test_kinds(kind, ends, settings):
    assert net_of(*ends, **settings).output_kind == kind


def test_every_activation_that_makes_probabilities_is_known():
    """Whatever operator makes numbers that add up to 1, or lie between 0 and 1 and rise with its input, makes probabilities."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-20, 20, (1, 400)), axis=1).reshape(1, 400)
    for row in cnncore.OPS.values():
        if (
            sum(not a.optional for a in row.arrays) != 1
            or row.yields != "real"
            or any(a.role != "real" for a in row.arrays)
        ):
            continue
        try:
            y = row(x)
        except cnncore.CnnError:
            continue  # it takes images, or a setting
        if not isinstance(y, np.ndarray) or y.shape != x.shape or not np.isfinite(y).all() or not (y >= 0).all():
            continue
        if (abs(y.sum() - 1) < 1e-6 and y.max() < 1.0 - 1e-9) or row.name == "hardmax":
            assert row.name in OF_CLASSES, row.name
        elif y.max() > 0.99 and y.max() <= 1 and y.min() < 0.01 and (np.diff(y[0]) >= 0).all() and len(set(y[0])) > 2:
            assert row.name in OF_EACH, row.name


# ── Losses ──


def gradients(net, x, target, loss):
    """Value of the loss and gradients of the parameters, as a step of a Trainer has them."""
    trainer = Trainer(net, SGD(1.0), loss=loss)
    before = {name: array.copy() for name, array in net.parameters.items()}
    value = trainer.step(x, target)
    return value, {name: before[name] - array for name, array in net.parameters.items()}


FITTING = {
    "softmax_cross_entropy": ("logits", "maps", "probabilities", "log_probabilities"),
    "nll_loss": ("log_probabilities",),
    "binary_cross_entropy": ("logits", "maps", "values", "independent_probabilities"),
    "mean_squared_error": ("logits", "maps", "values", *KINDS[1:4]),
}
ENDS = {
    "logits": (),
    "probabilities": (op("softmax"),),
    "log_probabilities": (op("log_softmax"),),
    "independent_probabilities": (op("sigmoid"),),
}


@pytest.mark.parametrize("loss", FITTING)
@pytest.mark.parametrize("kind", KINDS[:6])
def test_a_loss_takes_the_form_that_fits_or_refuses(rng, loss, kind):
    """Whatever a net ends in, the same loss is that of its scores: the same value and the same gradients, or an error."""
    settings = {"pooled": False} if kind == "maps" else {"classes": 1} if kind == "values" else {}
    x = rng.standard_normal((5, 1, 6, 6))
    ends = ENDS.get(kind, ())
    if kind not in FITTING[loss]:
        with pytest.raises(SettingError, match=r"loss='|net\.output_kind"):
            Trainer(net_of(*ends, **settings), loss=loss)
        return
    plain = net_of(**settings)
    shape = plain(x).shape
    target = rng.integers(0, shape[1], (5, *shape[2:]))
    if "entropy" not in loss and loss != "nll_loss":
        target = rng.random(shape)
    elif loss == "binary_cross_entropy":
        target = rng.integers(0, 2, shape).astype("float64")
    if loss == "mean_squared_error":
        value, _ = gradients(net_of(*ends, **settings), x, target, loss)
        assert value == pytest.approx(((net_of(*ends, **settings)(x) - target) ** 2).mean())
        return
    right = gradients(plain, x, target, "softmax_cross_entropy" if loss == "nll_loss" else loss)
    for behind in [(), *PASSING.values()] if kind in ENDS else [()]:
        if behind and loss != "binary_cross_entropy":
            shaped = target if net_of(*ends, *behind)(x).ndim == 2 else target[:, None, None]
        else:
            shaped = target.reshape(net_of(*ends, *behind, **settings)(x).shape) if target.dtype == float else target
        value, found = gradients(net_of(*ends, *behind, **settings), x, shaped, loss)
        assert value == pytest.approx(right[0], rel=1e-12)
        for name, gradient in right[1].items():
            np.testing.assert_allclose(found[name], gradient, atol=1e-12)


@pytest.mark.parametrize(("end", "loss"), [("softmax", "softmax_cross_entropy"), ("sigmoid", "binary_cross_entropy")])
def test_the_loss_of_probabilities_that_round_to_nothing(end, loss):
    """Scores of ±200, right and wrong: the loss is 200 where −log of a probability of float32 is ∞, and the net still learns."""
    net = net_of(op("flatten"), op(end), classes=2, dtype="float32")
    net.parameters["conv.w"] = np.zeros((2, 1, 3, 3))
    net.parameters["conv.b"] = [200.0, -200.0]
    x = np.zeros((1, 1, 3, 3), "f")
    target = np.array([1]) if end == "softmax" else np.array([[0, 1]], "f")
    trainer = Trainer(net, SGD(1.0), loss=loss)
    assert trainer.step(x, target) == pytest.approx(400 if end == "softmax" else 200)
    share = 1.0 if end == "softmax" else 0.5
    np.testing.assert_allclose(net.parameters["conv.b"], [200 - share, -200 + share])


@pytest.mark.parametrize("end", ["sparsemax", "softmin", "hard_sigmoid"])
def test_other_probabilities_have_the_loss_of_their_logarithms(rng, end):
    net, x = net_of(op(end)), rng.standard_normal((3, 1, 6, 6))
    p = net(x)
    if end == "hard_sigmoid":
        target = np.array([[0.0, 1, 0, 1]] * 3)
        right = -np.log(np.where(target == 1, p, 1 - p)).mean()
        found = Trainer(net, loss="binary_cross_entropy").evaluate(x, target).loss
    else:
        target = p.argmax(axis=1)
        found, right = Trainer(net).evaluate(x, target).loss, -np.log(p.max(axis=1)).mean()
    assert found == pytest.approx(right, rel=1e-9)


def test_random_numbers_and_statistics_are_those_of_the_net(rng):
    """A net that ends in softmax draws, records and counts as the same net without: dropout, batch statistics, frozen layers."""
    x, y = rng.standard_normal((2, 8, 1, 6, 6)), np.arange(8) % CLASSES
    made = []
    for ends in ((), (op("softmax"),)):
        g = cnncore.Graph()
        h = g.dropout(g.batch_norm(g.conv(g.input(channels=1), 6, kernel_size=3), activation="relu"), 0.5)
        h = g.linear(g.global_avg_pool(h), CLASSES)
        for end in ends:
            h = end(g, h)
        g.output(h)
        net = g.build(seed=3, dtype="float64")
        net.frozen = {"linear.b"}
        trainer = Trainer(net)
        trainer.step(x[0], y)
        net.frozen = {"conv.w"}  # another set, after the first step
        trainer.step(x[1], y)
        made.append(net)
    assert made[0].steps == made[1].steps == 2
    for name, array in {**made[0].parameters, **made[0].state}.items():
        np.testing.assert_array_equal(array, {**made[1].parameters, **made[1].state}[name], err_msg=name)


# ── Accuracy ──


@pytest.mark.parametrize("end", [(), (op("softmax"),), (op("log_softmax"),)])
@pytest.mark.parametrize("form", ["numbers", "one-hot", "smoothed"])
def test_accuracy_of_classes_however_they_are_said(rng, end, form):
    x, y = rng.standard_normal((9, 1, 6, 6)), np.arange(9) % CLASSES
    net = net_of(*end)
    target = {"numbers": y, "one-hot": np.eye(CLASSES)[y], "smoothed": 0.9 * np.eye(CLASSES)[y] + 0.1 / CLASSES}[form]
    tested = Trainer(net).evaluate(x, target)
    right = net(x).argmax(axis=1)
    assert tested.accuracy == np.mean(right == y)
    assert tested.confusion.sum() == 9 and tested.confusion.trace() == round(9 * tested.accuracy)
    np.testing.assert_allclose(tested.probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(Trainer(net).predict(x), tested.probabilities)


def test_accuracy_of_places_and_of_yes_and_no(rng):
    x = rng.standard_normal((2, 1, 5, 5))
    net = net_of(pooled=False)
    y = rng.integers(0, CLASSES, (2, 5, 5))
    y[0, 0] = -100  # left out
    assert Trainer(net).evaluate(x, y).accuracy == np.mean((net(x).argmax(axis=1) == y)[y >= 0])
    for end in ((), (op("sigmoid"),)):
        net, yes = net_of(*end, classes=1), np.array([[0.0], [1.0]])
        tested = Trainer(net, loss="binary_cross_entropy").evaluate(x, yes)
        answers = net(x) if end else cnncore.sigmoid(net(x))
        assert tested.accuracy == np.mean((answers > 0.5) == yes)
        np.testing.assert_allclose(tested.probabilities, answers)


@pytest.mark.parametrize("loss", ["mean_squared_error", lambda y, t: cnncore.mean_squared_error.with_backward(y, t)])
def test_where_nothing_is_right_or_wrong_training_is_not_thrown_away(rng, loss, tmp_path):
    """Real numbers as targets: no accuracy, in no report; early stopping goes by the loss, and keeps the best epoch."""
    x = rng.standard_normal((30, 1, 6, 6)).astype("f")
    target = np.stack([x.mean((1, 2, 3)), x.std((1, 2, 3))], 1)
    net = net_of(classes=2, dtype="float32")
    net.output_kind = "values"
    trainer = Trainer(net, SGD(0.05), loss=loss)
    history = trainer.fit(x, target, epochs=12, validation=(x, target), callbacks=[EarlyStopping(patience=3)])
    assert len(history) == 12 and history[-1].loss < history[0].loss
    assert {e.accuracy for e in history} == {e.validation_accuracy for e in history} == {None}
    tested = trainer.evaluate(x, target)
    assert tested.accuracy is None and tested.loss == pytest.approx(min(e.validation_loss for e in history))
    np.testing.assert_array_equal(trainer.predict(x), net(x))
    trainer.save(tmp_path / "state")
    again = Trainer(net_of(classes=2, dtype="float32"), SGD(0.05), loss=loss)
    again.restore(tmp_path / "state")
    assert again.history == history
    with pytest.raises(SettingError, match=r"validation_accuracy is not defined .* monitor='validation_loss'"):
        trainer.fit(
            x, target, epochs=1, validation=(x, target), callbacks=[EarlyStopping(monitor="validation_accuracy")]
        )


def test_early_stopping_without_a_number_to_compare():
    class Without(Trainer):
        def evaluate(self, data, labels=None, batch_size=128):
            return cnncore.train.Evaluation(float("nan"), None, np.zeros((0, 0)), np.zeros(0), np.zeros(0))

    x = np.zeros((4, 1, 6, 6))
    history = Without(net_of()).fit(
        x, np.arange(4), epochs=9, validation=(x, np.arange(4)), callbacks=[EarlyStopping(2)]
    )
    assert len(history) == 2


# ── Labels ──


@pytest.mark.parametrize(
    ("labels", "way"),
    [
        (np.arange(6.0) % 3, r"labels\.astype\(int\)"),
        (np.arange(6, dtype="f") % 3, r"labels\.astype\(int\)"),
        (np.arange(6) > 2, r"labels\.astype\(int\)"),
        (np.array(["cat", "dog", "cow"] * 2), "unique"),
        (np.array(["cat", "dog", "cow"] * 2, object), "unique"),
        (np.eye(3, dtype=int)[[0, 1, 2] * 2], r"argmax\(axis=1\)"),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
@pytest.mark.parametrize("end", [(), (op("softmax"),)])
def test_labels_of_another_type_are_refused_with_a_way_out_that_leads_out(labels, way, end):
    trainer, x = Trainer(net_of(*end, classes=3)), np.zeros((6, 1, 4, 4))
    for use in (trainer.step, trainer.evaluate, lambda x, y: trainer.fit(x, y, epochs=1)):
        with pytest.raises(DtypeError, match=way) as caught:
            use(x, labels)
    text = str(caught.value)
    if "unique" in text:
        labels = np.unique(labels, return_inverse=True)[1]
    else:
        labels = labels.argmax(axis=1) if "argmax" in text else labels.astype(int)
    trainer.step(x, labels)


# ── Stating, keeping ──


def test_what_is_said_of_an_output_is_kept(tmp_path):
    net = net_of()
    net.output_kind = "values"
    net.save(tmp_path / "net")
    assert cnncore.load(tmp_path / "net").output_kind == "values"
    for made in (net.astype("float32"), copy.copy(net), pickle.loads(pickle.dumps(net)), net.with_classes(7)):
        assert made.output_kind == "values"
    assert net.with_layout("channels_last").output_kind == "values"
    with pytest.raises(SettingError, match=r"unknown kind 'probabilitys'; did you mean 'probabilities'"):
        net.output_kind = "probabilitys"
    with pytest.raises(SettingError, match="2 kinds"):
        net.output_kind = ("values", "values")
    net.output_kind = "logits"
    assert net.stated_kinds is None


def test_files_keep_the_kind_of_every_output(tmp_path):
    from cnncore.nets import model_file

    net = cnncore.models.googlenet(classes=3, seed=None, aux=True)
    assert net.output_kind == ("logits",) * len(net.graph.outputs)
    net = net_of(op("softmax"))
    net.save(tmp_path / "net")
    model, arrays = model_file.read(tmp_path / "net")
    assert model["output_kind"] == ["probabilities"]
    for wrong in ("probabilities", ["probability"], [], [None], ["values"] * 2):
        model_file.write(tmp_path / "wrong", {**model, "output_kind": wrong}, arrays)
        with pytest.raises(ModelFileError):
            cnncore.load(tmp_path / "wrong")
    del model["output_kind"]
    model_file.write(tmp_path / "old", model, arrays)
    assert cnncore.load(tmp_path / "old").output_kind == "probabilities"


# ── Classification ──


@pytest.mark.parametrize(("kind", "count"), list(product(KINDS[:6], (1, 2, 3))))
def test_a_classifier_says_the_nets_own_numbers_or_refuses(kind, count):
    image = np.arange(48, dtype=np.uint8).reshape(6, 8)
    settings = {"classes": count, "dtype": "float32", "pooled": kind != "maps"}
    net = net_of(*ENDS.get(kind, ()), **settings)
    y = net(np.float32(image)[None, None] / 255, training=False)
    if net.output_kind in ("maps", "values"):
        with pytest.raises(ModelFileError, match=r"map|values"):
            Classifier(net).classify(image)
        return
    found = Classifier(net).classify(image).probabilities
    scores = y[0].astype("float64")
    right = {
        "logits": np.exp(scores) / np.exp(scores).sum(),
        "log_probabilities": np.exp(scores),
    }.get(net.output_kind, scores)
    if net.output_kind == "independent_probabilities" and count == 1:
        right = np.array([1 - scores[0], scores[0]])
    np.testing.assert_allclose(found, right, rtol=1e-5)
    net.metadata = {"classes": ["a", "b", "c"][: len(found)]}
    assert [name for name, _ in Classifier(net).classify(image).top(3)] == [
        "abc"[k] for k in np.argsort(-right, kind="stable")
    ]
