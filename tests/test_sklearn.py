"""The estimators keep scikit-learn's contract, and do in pipelines, searches and pickles what they do alone."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import cnncore
from cnncore.sklearn import CNNClassifier, CNNRegressor
from cnncore.train import Augment


class TwoLayers:
    """The quickest network that learns something, with a repr, of which scikit-learn makes names of tests, without address."""

    def __call__(self, classes, channels, seed):
        g = cnncore.Graph()
        h = g.conv(g.input(channels), 16, 3, padding=1, activation="relu")
        g.output(g.global_avg_pool(g.conv(h, classes, 1)))
        return g.build(seed=seed)

    def __repr__(self):
        return "two_layers"


two_layers = TwoLayers()


# float64, since weights and repetitions of samples are compared to seven digits
QUICK = {"network": two_layers, "epochs": 6, "learning_rate": 0.05, "dtype": "float64", "random_state": 0}


@parametrize_with_checks([CNNClassifier(**QUICK), CNNRegressor(**QUICK)])
def test_contract_of_scikit_learn(estimator, check):
    with cnncore.threads(1):
        check(estimator)


@pytest.fixture(scope="module")
def digits():
    images, labels = cnncore.train.data.digits()
    return images[::50].astype(np.float32), np.array(["even", "odd"])[labels[::50] % 2]


FORMS = {
    "(n, H, W)": lambda x: x,
    "(n, 1, H, W)": lambda x: x[:, None],
    "(n, H, W, 1)": lambda x: x[..., None],
    "(n, features), square": lambda x: x.reshape(len(x), -1),
    "uint8": lambda x: x.astype(np.uint8),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_images_are_one(digits, form):
    x, y = digits
    expected = CNNClassifier(two_layers, epochs=1, random_state=0).fit(x[:30], y[:30])
    model = CNNClassifier(two_layers, epochs=1, random_state=0).fit(FORMS[form](x[:30]), y[:30])
    assert model.image_shape_ == (1, 28, 28)
    assert np.allclose(model.predict_proba(FORMS[form](x)), expected.predict_proba(x), atol=1e-6)
    with pytest.raises(ValueError, match="expect"):
        model.predict(FORMS[form](x[:, :26, :26]))


def test_images_of_a_given_shape_and_in_colour():
    rng = np.random.default_rng(0)
    x = rng.random((12, 6, 4, 3))
    model = CNNRegressor(two_layers, epochs=1, random_state=0).fit(x, x.mean(axis=(1, 2)))
    assert model.predict(x).shape == (12, 3) and model.image_shape_ == (3, 6, 4)
    flat = CNNRegressor(two_layers, epochs=1, random_state=0, image_shape=(3, 6, 4))
    flat.fit(np.moveaxis(x, 3, 1).reshape(12, -1), x.mean(axis=(1, 2)))
    assert np.allclose(flat.predict(np.moveaxis(x, 3, 1).reshape(12, -1)), model.predict(x), atol=1e-6)
    with pytest.raises(ValueError, match="does not make 72 features"):
        flat.set_params(image_shape=(6, 4)).fit(x.reshape(12, -1), x.mean(axis=(1, 2)))
    with pytest.raises(ValueError, match="3 channels; the network takes 1"):
        CNNClassifier(two_layers(2, 1, 0)).fit(x, [0, 1] * 6)


def test_pipeline_search_and_cross_validation(digits):
    x, y = digits
    x = x[:, ::2, ::2].reshape(len(x), -1)
    model = CNNClassifier(epochs=1, random_state=0)  # a network by name, which other processes know
    search = GridSearchCV(make_pipeline(MinMaxScaler(), model), {"cnnclassifier__batch_size": [8, 32]}, cv=2)
    with joblib.parallel_config("loky", n_jobs=2):
        search.fit(x, y)
        apart = cross_val_score(search.best_estimator_, x, y, cv=2)
    assert set(search.predict(x)) <= {"even", "odd"} and np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert np.array_equal(apart, cross_val_score(search.best_estimator_, x, y, cv=2))


def test_copies_give_the_same_answers(digits, tmp_path):
    x, y = digits
    model = CNNClassifier(two_layers, epochs=1, random_state=3).fit(x, y)
    joblib.dump(model, tmp_path / "model.joblib")
    for copy in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model.joblib"), clone(model).fit(x, y)):
        assert np.array_equal(copy.predict_proba(x), model.predict_proba(x))
        assert copy.score(x, y) == model.score(x, y)


def test_weights_of_classes_are_weights_of_samples(digits):
    x, y = digits
    settings = {"epochs": 2, "random_state": 0}
    by_class = CNNClassifier(two_layers, class_weight={"even": 3, "odd": 1}, **settings).fit(x, y)
    by_sample = CNNClassifier(two_layers, **settings).fit(x, y, sample_weight=np.where(y == "even", 3.0, 1.0))
    plain = CNNClassifier(two_layers, **settings).fit(x, y)
    assert np.array_equal(by_class.predict_proba(x), by_sample.predict_proba(x))
    assert by_class.predict_proba(x)[:, 0].mean() > plain.predict_proba(x)[:, 0].mean()
    with pytest.raises(ValueError, match="non-zero"):
        plain.fit(x, y, sample_weight=np.zeros(len(x)))
    with pytest.raises(ValueError, match="balanced"):
        CNNClassifier(two_layers, class_weight="balanced").partial_fit(x, y, classes=["even", "odd"])


def test_partial_fit_goes_on(digits):
    x, y = digits
    model = CNNClassifier(two_layers, random_state=0, learning_rate=0.01)
    for _ in range(6):
        model.partial_fit(x, y, classes=["even", "odd"])
    assert model.n_iter_ == len(model.history_) == 6 and model.history_[-1].loss < model.history_[0].loss
    with pytest.raises(ValueError, match="not among the classes"):
        model.partial_fit(x, np.array(["prime"] * len(x)))


def test_early_stopping_augmentation_and_lines(digits, capsys):
    x, y = digits
    model = CNNClassifier(
        two_layers, epochs=40, patience=2, early_stopping=True, augment=Augment(), verbose=1, random_state=1
    )
    model.set_params(learning_rate=1e-9).fit(x, y)
    assert model.n_iter_ < 40 and capsys.readouterr().out.count("validation loss") == model.n_iter_
    with pytest.raises(ValueError, match="validation_fraction must be between 0 and 1"):
        model.set_params(validation_fraction=1.5).fit(x, y)


def test_a_trained_net_is_the_beginning(digits):
    x, y = digits
    trained = CNNClassifier(two_layers, epochs=2, random_state=0).fit(x, y).net_
    first = {name: array.copy() for name, array in trained.parameters.items()}
    model = CNNClassifier(trained, epochs=1, learning_rate=1e-9, random_state=0).fit(x, y)
    assert all(np.array_equal(array, first[name]) for name, array in trained.parameters.items())
    assert np.allclose(model.net_.parameters["conv.w"], first["conv.w"], atol=1e-6)
