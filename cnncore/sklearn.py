"""Convolutional networks as scikit-learn estimators: for pipelines, grid search and cross-validation.

    from cnncore.sklearn import CNNClassifier
    CNNClassifier(epochs=10).fit(images, labels).score(more_images, more_labels)

scikit-learn is needed: ``pip install 'cnncore[sklearn]'``.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import integer
from .errors import DataError, SettingError, ShapeError
from .nets.net import Net
from .train.augment import Augment
from .train.job import LEARNING_RATES
from .train.loop import Callback, EarlyStopping, Epoch, Lines, Trainer
from .train.optimizers import optimizer
from .train.transfer import network, with_settings

if importlib.util.find_spec("sklearn") is None:
    raise ImportError("cnncore.sklearn needs scikit-learn 1.6 or newer: pip install 'cnncore[sklearn]'")

from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

__all__ = ["CNNClassifier", "CNNRegressor"]

LEAST_SQUARE = 8  # features along a side from which a square number of features is taken for an image
MOST_ENLARGED = 64


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """What the classifier and the regressor share: images from X, scaling, training."""

    def __init__(
        self,
        network: str | Net | Callable[..., Net] = "small_inception",
        *,
        epochs: int = 20,
        batch_size: int = 32,
        optimizer: str = "adam",
        learning_rate: float | None = None,
        weight_decay: float = 1e-4,
        schedule: str = "one_cycle",
        image_shape: tuple[int, ...] | None = None,
        augment: Augment | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 5,
        dtype: str = "float32",
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        self.network = network
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.image_shape = image_shape
        self.augment = augment
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    # ── Images ──

    def _images(self, X: NDArray[Any]) -> NDArray[Any]:
        """X as (n, C, H, W), on its own scale."""
        if X.ndim == 4 and X.shape[3] in (1, 3) and X.shape[1] not in (1, 3):
            X = np.moveaxis(X, 3, 1)
        if X.ndim == 4:
            return X
        if X.ndim == 3:
            return X[:, None]
        if X.ndim != 2:
            raise ShapeError(
                f"{type(self).__name__}: X has shape {X.shape}; expected (n, features), (n, H, W) or (n, C, H, W)"
            )
        features = X.shape[1]
        if self.image_shape is not None:
            shape = tuple(integer(type(self).__name__, "image_shape", extent, 1) for extent in self.image_shape)
            shape = (1, *shape) if len(shape) == 2 else shape
            if len(shape) != 3 or np.prod(shape) != features:
                raise ShapeError(
                    f"{type(self).__name__}: image_shape {self.image_shape} does not make {features} features; give "
                    "(height, width) or (channels, height, width)"
                )
            return X.reshape(-1, *shape)
        side = round(features**0.5)
        return X.reshape(-1, 1, side, side) if side * side == features >= LEAST_SQUARE**2 else X[:, :, None, None]

    def _measure(self, images: NDArray[Any], weights: NDArray[Any]) -> None:
        """Keep the shape of the images, and the mean and standard deviation of each channel, weighted."""
        self.image_shape_ = images.shape[1:]
        w = (weights / weights.sum())[:, None]
        means = images.mean(axis=(2, 3), dtype=np.float64)
        squares = np.square(images, dtype=np.float64).mean(axis=(2, 3))
        self.mean_ = (w * means).sum(axis=0)
        deviation = np.sqrt(np.maximum((w * squares).sum(axis=0) - self.mean_**2, 0))
        self.scale_ = np.where(deviation > 1e-12 * (1 + np.abs(self.mean_)), deviation, 1.0)

    def _prepared(self, images: NDArray[Any]) -> NDArray[Any]:
        """Images as the net takes them: mean 0, standard deviation 1, enlarged where the net takes no smaller ones."""
        if images.shape[1:] != self.image_shape_:
            raise ShapeError(
                f"{type(self).__name__}: images are {images.shape[1:]}; expected {self.image_shape_}, as in fit"
            )
        x = (images - self.mean_[:, None, None]) / self.scale_[:, None, None]
        x = x.astype(self.net_.dtype)
        return x if self.enlarged_ == 1 else x.repeat(self.enlarged_, axis=2).repeat(self.enlarged_, axis=3)

    # ── Training ──

    def _build(self, outputs: int, seed: int) -> None:
        """Make the net, and find how much images must be enlarged for it."""
        channels, height, width = self.image_shape_
        if isinstance(self.network, Net):
            net = copy.deepcopy(self.network).with_classes(outputs, seed)
        elif callable(self.network):
            net = with_settings(self.network, classes=outputs, channels=channels, seed=seed)
        else:
            net = network(self.network, outputs, channels, seed)
        (row,) = net.graph.inputs
        if row.channels != channels:
            raise ShapeError(
                f"{type(self).__name__}: the images have {channels} channels; the network takes {row.channels}"
            )
        self.net_ = net if net.dtype == self.dtype else net.astype(self.dtype)
        self.enlarged_ = 1
        while True:
            try:
                self.net_.summary((1, channels, self.enlarged_ * height, self.enlarged_ * width))
                return
            except ShapeError:
                if self.enlarged_ >= MOST_ENLARGED or None not in row.size:
                    raise
                self.enlarged_ *= 2

    def _start(self, outputs: int, images: NDArray[Any], weights: NDArray[Any]) -> None:
        """Everything that precedes the first step."""
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._measure(images, weights)
        self._build(outputs, self._seed)
        rate = LEARNING_RATES.get(self.optimizer, 0.01) if self.learning_rate is None else self.learning_rate
        momentum = {"momentum": 0.9} if self.optimizer == "sgd" else {}
        self.optimizer_ = optimizer(self.optimizer, rate, weight_decay=self.weight_decay, **momentum)
        self.n_iter_ = 0
        self.history_: list[Epoch] = []

    def _train(self, images: NDArray[Any], targets: NDArray[Any], loss: Any, epochs: int, whole: bool) -> None:
        """Train for some epochs; ``whole`` trainings have a schedule, and may stop early."""
        x = self._prepared(images)
        callbacks: list[Callback] = [Lines()] if self.verbose else []
        validation = None
        if whole and self.early_stopping:
            (x, targets), validation = self._split(x, targets)
            callbacks.append(EarlyStopping(self.patience, "validation_loss"))
        trainer = Trainer(self.net_, self.optimizer_, loss)
        trainer.fit(
            x,
            targets,
            epochs=epochs,
            batch_size=min(integer(type(self).__name__, "batch_size", self.batch_size, 1), len(x)),
            validation=validation,
            schedule=self.schedule if whole else "constant",
            augment=self.augment,
            seed=self._seed + self.n_iter_,
            callbacks=callbacks,
        )
        self.n_iter_ += len(trainer.history)
        self.history_ = [*self.history_, *trainer.history]

    def _split(self, x: NDArray[Any], targets: NDArray[Any]) -> Any:
        """((x, targets) to train on, (x, targets) held out)."""
        if not 0 < self.validation_fraction < 1:
            raise SettingError(
                f"{type(self).__name__}: validation_fraction must be between 0 and 1, got {self.validation_fraction!r}"
            )
        order = np.random.default_rng(self._seed).permutation(len(x))
        count = max(1, round(self.validation_fraction * len(x)))
        if count >= len(x):
            raise DataError(f"{type(self).__name__}: {len(x)} samples cannot be split for early stopping; give more")
        out, kept = order[:count], np.sort(order[count:])
        return (x[kept], targets[kept]), (x[out], targets[out])

    def _outputs(self, X: ArrayLike) -> NDArray[Any]:
        """The net's outputs (n, outputs) in inference mode, in pieces."""
        check_is_fitted(self, "net_")
        images = self._images(validate_data(self, X, allow_nd=True, reset=False))
        outputs = [
            self.net_(self._prepared(images[first : first + 256]), training=False)
            for first in range(0, len(images), 256)
        ]
        return np.concatenate(outputs).reshape(len(images), -1)


_SHARED_PARAMETERS = """
    Parameters
    ----------
    network : str, Net or callable, optional
        The name of a network of :mod:`cnncore.models`; a net, whose weights are the first ones and whose classifier is
        replaced; or a function that returns a net, called with those of ``classes``, ``channels`` and ``seed`` that it
        takes.
    epochs : int, optional
        Passes over the data.
    batch_size : int, optional
    optimizer : {"adam", "adamw", "sgd"}, optional
        "sgd" with momentum 0.9.
    learning_rate : float, optional
        The highest of the schedule; by default what suits the optimizer.
    weight_decay : float, optional
    schedule : str or callable, optional
        A name in :mod:`cnncore.train.schedules`, or a function of the fraction of training done.
    image_shape : tuple of int, optional
        (height, width) or (channels, height, width) of images in the rows of a two-dimensional X. By default a square
        number of features from 64 on is a square greyscale image, and any other number is one pixel of as many
        channels.
    augment : cnncore.train.Augment, optional
        Distorts the images in training.
    early_stopping : bool, optional
        Split a validation part off the data, stop when its loss no longer improves, and keep the best weights.
    validation_fraction : float, optional
        The size of that part. Its images choose the epoch; the score of images that had no part in it is that of
        ``score`` on others.
    patience : int, optional
        Epochs without improvement before the training stops.
    class_weight : dict or "balanced", optional
        Weights of classes, by label.
    dtype : {"float32", "float64"}, optional
        Precision of the network.
    random_state : int, RandomState or None, optional
        Seed of weights, order and augmentation.
    verbose : bool, optional
        Print a line per epoch.
"""


class CNNClassifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A convolutional network that classifies images.

    X is (n, features), (n, H, W), (n, C, H, W) or (n, H, W, 3); every channel is scaled to mean 0 and standard deviation 1. The
    network is trained with softmax cross-entropy.
    {parameters}
    Attributes
    ----------
    classes_ : array
        The labels.
    net_ : Net
        The trained network; ``net_.save(path)`` writes a model file.
    history_ : list of cnncore.train.Epoch
    n_iter_ : int
        Number of epochs done.

    Examples
    --------
    >>> import numpy as np
    >>> from cnncore.sklearn import CNNClassifier
    >>> images = np.zeros((40, 8, 8)); labels = np.array(["lying", "standing"] * 20)
    >>> images[::2, 3] = 1; images[1::2, :, 5] = 1
    >>> model = CNNClassifier(epochs=3, random_state=0).fit(images, labels)
    >>> model.predict(images[:3])
    array(['lying', 'standing', 'lying'], dtype='<U8')
    >>> model.predict_proba(images).shape, model.partial_fit(images, labels).n_iter_
    ((40, 2), 4)
    """

    def __init__(
        self,
        network: str | Net | Callable[..., Net] = "small_inception",
        *,
        epochs: int = 20,
        batch_size: int = 32,
        optimizer: str = "adam",
        learning_rate: float | None = None,
        weight_decay: float = 1e-4,
        schedule: str = "one_cycle",
        image_shape: tuple[int, ...] | None = None,
        augment: Augment | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 5,
        class_weight: Any = None,
        dtype: str = "float32",
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        super().__init__(
            network,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            schedule=schedule,
            image_shape=image_shape,
            augment=augment,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            patience=patience,
            dtype=dtype,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train from the beginning.

        Parameters
        ----------
        X : array (n, features), (n, H, W) or (n, C, H, W)
        y : array (n,)
            Labels: numbers or names.
        sample_weight : array (n,), optional

        Returns
        -------
        CNNClassifier
            Itself.

        Raises
        ------
        ValueError
            X or y is not as above.
        """
        images, y, weights = self._checked(X, y, sample_weight, reset=True)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise DataError(f"CNNClassifier: y holds one class only, {self.classes_[0]!r}; give at least two classes")
        weights = weights * compute_sample_weight(self.class_weight, y)
        self._start(len(self.classes_), *counted(type(self).__name__, images, weights))
        self._train(*self._weighted(images, y, weights), "softmax_cross_entropy", self.epochs, whole=True)
        return self

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one epoch on a part of the data, at a constant learning rate.

        Parameters
        ----------
        X : array (n, features), (n, H, W) or (n, C, H, W)
        y : array (n,)
        classes : array, optional
            All labels there will be; needed in the first call. Scales are those of the first call's data.
        sample_weight : array (n,), optional

        Returns
        -------
        CNNClassifier
            Itself.

        Raises
        ------
        ValueError
            X or y is not as above, or ``classes`` is missing in the first call.
        """
        first = _check_partial_fit_first_call(self, classes)
        if self.class_weight == "balanced":
            raise SettingError(
                "CNNClassifier: class_weight='balanced' needs all labels, which partial_fit does not see; give a dict"
            )
        images, y, weights = self._checked(X, y, sample_weight, reset=first)
        weights = weights * compute_sample_weight(self.class_weight, y)
        if first:
            self._start(len(self.classes_), *counted(type(self).__name__, images, weights))
        self._train(*self._weighted(images, y, weights), "softmax_cross_entropy", 1, whole=False)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """The probabilities of the classes.

        Parameters
        ----------
        X : array (n, features), (n, H, W) or (n, C, H, W)

        Returns
        -------
        float64 array (n, classes)
            In the order of ``classes_``.

        Raises
        ------
        ValueError
            X is not as above, or has images of another shape than in ``fit``.
        sklearn.exceptions.NotFittedError
            ``fit`` was not called.
        """
        scores = self._outputs(X).astype(np.float64)
        scores -= scores.max(axis=1, keepdims=True)
        likelihood = np.exp(scores)
        return likelihood / likelihood.sum(axis=1, keepdims=True)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable class of each image.

        Parameters
        ----------
        X : array (n, features), (n, H, W) or (n, C, H, W)

        Returns
        -------
        array (n,)

        Raises
        ------
        ValueError
            X is not as above, or has images of another shape than in ``fit``.
        sklearn.exceptions.NotFittedError
            ``fit`` was not called.
        """
        scores = self._outputs(X)
        return self.classes_[scores.argmax(axis=1)]

    def _checked(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, reset: bool
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        pixels, labels = validate_data(self, X, y, allow_nd=True, reset=reset)
        check_classification_targets(labels)
        weights = _check_sample_weight(sample_weight, pixels, dtype=np.float64, ensure_non_negative=True)
        return self._images(pixels), labels, weights

    def _weighted(
        self, images: NDArray[Any], y: NDArray[Any], weights: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """(images, probabilities of the classes times the weight of each image); those of weight 0 are left out."""
        if not np.isin(y, self.classes_).all():
            raise DataError(f"CNNClassifier: y holds labels that are not among the classes {self.classes_.tolist()}")
        seen = weights > 0
        targets = np.zeros((int(seen.sum()), len(self.classes_)), self.net_.dtype)
        places = np.searchsorted(self.classes_, y[seen])
        targets[np.arange(len(targets)), places] = weights[seen] / weights[seen].mean()
        return images[seen], targets


class CNNRegressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A convolutional network that estimates numbers from images.

    X is (n, features), (n, H, W), (n, C, H, W) or (n, H, W, 3); every channel, and every column of y, is scaled to mean
    0 and deviation 1. The network is trained with the mean squared error.
    {parameters}
    Attributes
    ----------
    net_ : Net
        The trained network, which estimates the scaled numbers.
    history_ : list of cnncore.train.Epoch
    n_iter_ : int
        Number of epochs done.

    Examples
    --------
    >>> import numpy as np
    >>> from cnncore.sklearn import CNNRegressor
    >>> rng = np.random.default_rng(0)
    >>> images = rng.random((60, 8, 8)) * rng.random((60, 1, 1))
    >>> model = CNNRegressor(epochs=20, random_state=0).fit(images, images.mean(axis=(1, 2)))
    >>> bool(model.score(images, images.mean(axis=(1, 2))) > 0.8)
    True
    >>> model.predict(images).shape, model.partial_fit(images, images.mean(axis=(1, 2))).n_iter_
    ((60,), 21)
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train from the beginning.

        Parameters
        ----------
        X : array (n, features), (n, H, W) or (n, C, H, W)
        y : array (n,) or (n, outputs)
        sample_weight : array (n,), optional

        Returns
        -------
        CNNRegressor
            Itself.

        Raises
        ------
        ValueError
            X or y is not as above.
        """
        return self._fit(X, y, sample_weight, True)

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train for one epoch on a part of the data, at a constant learning rate; scales are those of the first part.

        Parameters
        ----------
        X : array (n, features), (n, H, W) or (n, C, H, W)
        y : array (n,) or (n, outputs)
        sample_weight : array (n,), optional

        Returns
        -------
        CNNRegressor
            Itself.

        Raises
        ------
        ValueError
            X or y is not as above.
        """
        return self._fit(X, y, sample_weight, False)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The estimates.

        Parameters
        ----------
        X : array (n, features), (n, H, W) or (n, C, H, W)

        Returns
        -------
        float64 array (n,) or (n, outputs)
            As y was in fit.

        Raises
        ------
        ValueError
            X is not as above, or has images of another shape than in ``fit``.
        sklearn.exceptions.NotFittedError
            ``fit`` was not called.
        """
        y = self._outputs(X).astype(np.float64) * self.target_scale_ + self.target_mean_
        return y[:, 0] if self._flat else y

    def _fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, whole: bool) -> Self:
        first = whole or not hasattr(self, "net_")
        pixels, given = validate_data(self, X, y, allow_nd=True, multi_output=True, y_numeric=True, reset=first)
        weights = _check_sample_weight(sample_weight, pixels, dtype=np.float64, ensure_non_negative=True)
        images, targets = self._images(pixels), np.asarray(given, np.float64).reshape(len(given), -1)
        images, weights, targets = counted(type(self).__name__, images, weights, targets)
        if first:
            self._flat = np.ndim(given) == 1
            self._start(targets.shape[1], images, weights)
            w = (weights / weights.sum())[:, None]
            self.target_mean_ = (w * targets).sum(axis=0)
            deviation = np.sqrt((w * (targets - self.target_mean_) ** 2).sum(axis=0))
            self.target_scale_ = np.where(deviation > 0, deviation, 1.0)
        elif targets.shape[1] != len(self.target_mean_):
            raise ShapeError(f"CNNRegressor: y has {targets.shape[1]} columns; expected {len(self.target_mean_)}")
        scaled = (targets - self.target_mean_) / self.target_scale_
        rows = np.concatenate([scaled, (weights / weights.mean())[:, None]], axis=1).astype(self.net_.dtype)
        self._train(images, rows, weighted_squared_error, self.epochs if whole else 1, whole)
        return self


def counted(place: str, *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """The rows of arrays whose weight, the second array, is not 0."""
    seen = arrays[1] > 0
    if not seen.any():
        raise DataError(f"{place}: all sample weights are 0; give some above 0")
    return arrays if seen.all() else tuple(array[seen] for array in arrays)


def weighted_squared_error(y: NDArray[Any], target: NDArray[Any]) -> tuple[Any, Callable[[Any], NDArray[Any]]]:
    """Mean of w (y − t)² over the values, and its backward pass; the last column of ``target`` is w."""
    t, w = target[:, :-1], target[:, -1:]
    difference = y.reshape(t.shape) - t

    def backward(dy: Any) -> NDArray[Any]:
        return np.asarray(2 * dy / t.size * w * difference, y.dtype).reshape(y.shape)

    return (w * difference**2).sum(dtype=np.float64) / t.size, backward


for _made in (CNNClassifier, CNNRegressor):
    _text = _SHARED_PARAMETERS.strip("\n")
    if _made is CNNRegressor:
        _first, _, _rest = _text.partition("    class_weight : ")
        _text = _first + "    dtype :" + _rest.partition("    dtype :")[2]
    _made.__doc__ = (_made.__doc__ or "").replace("    {parameters}\n", "\n" + _text + "\n")
