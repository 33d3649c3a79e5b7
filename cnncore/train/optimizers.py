"""Optimizers: how a gradient changes a parameter.

Each class gives its update as a formula over one parameter w with gradient g, in place on the arrays, and keeps its state by
the parameter's name. The learning rate of a step is an argument of the call, so that optimizers know nothing of
schedules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import FLOATS, check_destination, number, ordinary_array, overlap
from ..errors import DtypeError, SettingError, ShapeError, unknown_name
from . import update

__all__ = ["SGD", "Adam", "AdamW", "NAdam", "Optimizer", "RMSprop", "optimizer"]

MOST_AXES = 5  # of a parameter
NEGLIGIBLE = 1e-30


class Optimizer:
    """Base class of the optimizers: the state of every parameter, and the loop over parameters.

    A subclass names its state arrays in ``state_names`` and defines :meth:`change`.

    Parameters
    ----------
    learning_rate : float
        0 or more; a schedule multiplies it.
    weight_decay : float, optional
        0 or more. Applied to the parameters that decay (biases and the scales and shifts of normalisation do not).

    Attributes
    ----------
    state : dict
        Parameter name → its state arrays, in the order of ``state_names``.
    steps : int
        The number of updates.
    steps_of : dict
        Parameter name → how often it was changed.

    Raises
    ------
    SettingError
        A setting is not a number, or out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cnncore.train import Optimizer
    >>> class SignDescent(Optimizer):
    ...     def change(self, w, g, state, rate, decay, step):
    ...         w -= rate * np.sign(g)
    >>> w = {"w": np.array([1.0, 1.0])}
    >>> SignDescent(0.25, 0.0).update(w, {"w": np.array([3.0, -0.1])}); w["w"]
    array([0.75, 1.25])
    """

    state_names: tuple[str, ...] = ()

    def __init__(self, learning_rate: float, weight_decay: float = 0.0) -> None:
        place = type(self).__name__
        self.learning_rate = number(minimum=0)(place, "learning_rate", learning_rate)
        self.weight_decay = number(minimum=0)(place, "weight_decay", weight_decay)
        self.state: dict[str, tuple[NDArray[Any], ...]] = {}
        self.steps = 0
        self.steps_of: dict[str, int] = {}  # parameter name → how often it was changed

    def update(
        self,
        parameters: Mapping[str, NDArray[Any]],
        gradients: Mapping[str, NDArray[Any]],
        rate: float | None = None,
        decays: Callable[[str], bool] = lambda name: True,
    ) -> None:
        """One step: change every parameter that has a gradient, in place; nothing is changed unless all arrays fit.

        Parameters
        ----------
        parameters : mapping
            Name → float32 or float64 array.
        gradients : mapping
            Name → array of the parameter's shape and dtype.
        rate : float, optional
            Learning rate of this step; by default the optimizer's.
        decays : callable, optional
            Name → whether weight decay applies to the parameter; by default to all.

        Raises
        ------
        SettingError
            A gradient belongs to no parameter, or ``rate`` is not a number.
        ShapeError, DtypeError
            A gradient and its parameter differ, or a parameter is not a float32 or float64 array.
        """
        rate = self.learning_rate if rate is None else number()(type(self).__name__, "rate", rate)
        checked = [(name, *self._checked(name, parameters, g)) for name, g in gradients.items()]
        self.steps += 1
        for name, w, g, state in checked:
            self.state[name] = state
            step = self.steps_of[name] = self.steps_of.get(name, 0) + 1
            self.change(w, g, state, rate, self.weight_decay if decays(name) else 0.0, step)

    def _checked(
        self, name: str, parameters: Mapping[str, NDArray[Any]], g: ArrayLike
    ) -> tuple[NDArray[Any], NDArray[Any], tuple[NDArray[Any], ...]]:
        """(parameter, gradient, state) of a name, validated for :meth:`change`."""
        place, what = f"{type(self).__name__}.update", f"parameters[{name!r}]"
        if name not in parameters:
            raise SettingError(
                f"{place}: there is a gradient for {name!r}, which is not a parameter; there are "
                f"{', '.join(parameters)}"
            )
        w = parameters[name]
        if not isinstance(w, np.ndarray) or w.dtype not in FLOATS or w.ndim > MOST_AXES:
            came = f"{w.dtype} of shape {w.shape}" if isinstance(w, np.ndarray) else type(w).__name__
            raise DtypeError(f"{place}: {what} is {came}; expected float32 or float64 of up to {MOST_AXES} dimensions")
        check_destination(place, what, w, w.shape, w.dtype)
        g = ordinary_array(place, f"gradients[{name!r}]", g)
        if g.shape != w.shape:
            raise ShapeError(f"{place}: gradients[{name!r}] has shape {g.shape}; the parameter has {w.shape}")
        if g.dtype != w.dtype:
            raise DtypeError(
                f"{place}: gradients[{name!r}] is {g.dtype} and the parameter {w.dtype}: use .astype('{w.dtype}')"
            )
        state = self.state.get(name)
        if state is None:
            state = tuple(np.zeros_like(w) for _ in self.state_names)
        for kind, array in zip(self.state_names, state, strict=True):
            check_destination(place, f"{kind} of {name!r}, kept from the steps before,", array, w.shape, w.dtype)
        return w, g.copy() if overlap(g, w) else g, state

    def change(
        self, w: NDArray[Any], g: NDArray[Any], state: tuple[NDArray[Any], ...], rate: float, decay: float, step: int
    ) -> None:
        """Change ``w`` and the arrays of ``state`` in place. Subclasses define it.

        Parameters
        ----------
        w : array
            The parameter.
        g : array
            Its gradient.
        state : tuple of array
            One array per name in ``state_names``; zeros at the first step.
        rate : float
            Learning rate η.
        decay : float
            Weight decay λ, 0 for a parameter that does not decay.
        step : int
            The number of the step of this parameter, from 1: a layer that is frozen at first starts later than the
            others.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        own = {k: v for k, v in vars(self).items() if k not in ("state", "steps", "steps_of", "state_names")}
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in own.items())})"


class SGD(Optimizer):
    """Stochastic gradient descent with momentum; PyTorch's formulas. ::

        g ← g + λ w                        λ weight_decay
        v ← μ v + g                        μ momentum, v starts as 0
        w ← w − η v                        η learning rate
        w ← w − η (g + μ v)                with nesterov=True

    Robbins & Monro 1951; Polyak 1964; Nesterov 1983; Sutskever, Martens, Dahl & Hinton 2013, ICML.

    Parameters
    ----------
    learning_rate : float, optional
    momentum : float, optional
        0 ≤ μ < 1.
    weight_decay : float, optional
    nesterov : bool, optional
        Needs a momentum above 0.

    Raises
    ------
    SettingError
        A setting is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cnncore.train import SGD
    >>> w = {"w": np.array([1.0])}
    >>> sgd = SGD(0.1, momentum=0.5)
    >>> sgd.update(w, {"w": np.array([2.0])}); w["w"]
    array([0.8])
    >>> sgd.update(w, {"w": np.array([2.0])}); w["w"]       # v = 0.5 · 2 + 2 = 3
    array([0.5])
    """

    def __init__(
        self, learning_rate: float = 0.01, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.momentum = number(minimum=0, below=1)("SGD", "momentum", momentum)
        self.nesterov = bool(nesterov)
        if nesterov and not momentum:
            raise SettingError("SGD: nesterov=True needs a momentum above 0, got 0; try momentum=0.9")
        self.state_names = ("velocity",) if momentum else ()

    def change(
        self, w: NDArray[Any], g: NDArray[Any], state: tuple[NDArray[Any], ...], rate: float, decay: float, step: int
    ) -> None:
        update.sgd(w, g, state[0] if state else None, rate, self.momentum, decay, self.nesterov)


class Adam(Optimizer):
    """Adam: steps scaled by estimates of the gradient's first and second moments. ::

        g ← g + λ w                        λ weight_decay
        m ← β₁ m + (1 − β₁) g              v ← β₂ v + (1 − β₂) g²
        w ← w − η · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + ε)          t counts the parameter's steps from 1

    Kingma & Ba 2015, arXiv:1412.6980, algorithm 1.

    Parameters
    ----------
    learning_rate : float, optional
    betas : (float, float), optional
        β₁ and β₂, each 0 ≤ β < 1.
    eps : float, optional
        ε, 0 or more.
    weight_decay : float, optional

    Raises
    ------
    SettingError
        A setting is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cnncore.train import Adam
    >>> w = {"w": np.array([1.0, 1.0])}
    >>> Adam(0.1).update(w, {"w": np.array([3.0, -0.001])}); w["w"].round(4)      # the first step is ± η
    array([0.9, 1.1])
    """

    state_names = ("mean", "square")
    decoupled = False

    def __init__(
        self,
        learning_rate: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        place = type(self).__name__
        first, second = betas
        unit = number(minimum=0, below=1)
        self.betas = (unit(place, "betas[0]", first), unit(place, "betas[1]", second))
        self.eps = number(minimum=0)(place, "eps", eps)

    def change(
        self, w: NDArray[Any], g: NDArray[Any], state: tuple[NDArray[Any], ...], rate: float, decay: float, step: int
    ) -> None:
        first, second = self.betas
        mean, squares = state
        update.adam(
            w,
            g,
            mean,
            squares,
            rate / (1 - first**step),
            first,
            second,
            1 / math.sqrt(1 - second**step),
            self.eps,
            0.0 if self.decoupled else decay,
            1 - rate * decay if self.decoupled else 1.0,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay: w ← (1 − η λ) w before Adam's step, and no λ w in the gradient.

    Loshchilov & Hutter 2019, arXiv:1711.05101.

    Parameters
    ----------
    learning_rate : float, optional
    betas : (float, float), optional
        β₁ and β₂, each 0 ≤ β < 1.
    eps : float, optional
        ε, 0 or more.
    weight_decay : float, optional
        λ.

    Raises
    ------
    SettingError
        A setting is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cnncore.train import AdamW
    >>> w = {"w": np.array([1.0])}
    >>> AdamW(0.1, weight_decay=0.5).update(w, {"w": np.array([1.0])}); w["w"].round(4)     # 0.95 − 0.1
    array([0.85])
    """

    decoupled = True

    def __init__(
        self,
        learning_rate: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(learning_rate, betas, eps, weight_decay)


class NAdam(Adam):
    """Adam with Nesterov's momentum; PyTorch's formulas. ::

        μ_t = β₁ (1 − ½ · 0.96^(t ψ))                                  ψ momentum_decay
        m ← β₁ m + (1 − β₁) g              v ← β₂ v + (1 − β₂) g²      g with λ w, as for Adam
        m̂ = μ_{t+1} m / (1 − Π_{i ≤ t+1} μ_i) + (1 − μ_t) g / (1 − Π_{i ≤ t} μ_i)
        w ← w − η · m̂ / (√(v / (1 − β₂ᵗ)) + ε)

    Dozat 2016, "Incorporating Nesterov momentum into Adam", ICLR workshop, algorithm 8.

    Parameters
    ----------
    learning_rate : float, optional
    betas : (float, float), optional
        β₁ and β₂, each 0 ≤ β < 1.
    eps : float, optional
        ε, 0 or more.
    weight_decay : float, optional
    momentum_decay : float, optional
        ψ, 0 or more.

    Raises
    ------
    SettingError
        A setting is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cnncore.train import NAdam
    >>> w = {"w": np.array([1.0])}
    >>> nadam = NAdam(0.1); nadam.update(w, {"w": np.array([2.0])}); w["w"].round(4)
    array([0.8944])
    >>> round(nadam.momentum(1), 4), round(nadam.product(2), 4)
    (0.4501, 0.2026)
    """

    def __init__(
        self,
        learning_rate: float = 0.002,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 0.004,
    ) -> None:
        super().__init__(learning_rate, betas, eps, weight_decay)
        self.momentum_decay = number(minimum=0)("NAdam", "momentum_decay", momentum_decay)

    def momentum(self, step: int) -> float:
        """μ_t.

        Parameters
        ----------
        step : int
            t, from 1.

        Returns
        -------
        float
        """
        return self.betas[0] * (1 - 0.5 * 0.96 ** (step * self.momentum_decay))

    def product(self, step: int) -> float:
        """Π μ_i for i up to ``step``; it follows from the number of the step, so that nothing is kept of it.

        Parameters
        ----------
        step : int

        Returns
        -------
        float
        """
        made = 1.0
        for i in range(1, step + 1):
            made *= self.momentum(i)
            if made < NEGLIGIBLE:  # as good as 0 beside 1
                return 0.0
        return made

    def change(
        self, w: NDArray[Any], g: NDArray[Any], state: tuple[NDArray[Any], ...], rate: float, decay: float, step: int
    ) -> None:
        first, second = self.betas
        mean, squares = state
        if decay:
            g = g + decay * w
        mean *= first
        mean += (1 - first) * g
        squares *= second
        squares += (1 - second) * g * g
        product = self.product(step)
        ahead = self.momentum(step + 1)
        of_mean, of_g = ahead / (1 - product * ahead), (1 - self.momentum(step)) / (1 - product)
        w -= rate * (of_mean * mean + of_g * g) / (np.sqrt(squares / (1 - second**step)) + self.eps)


class RMSprop(Optimizer):
    """RMSprop: steps scaled by the root of the mean squared gradient; PyTorch's formulas. ::

        g ← g + λ w                        λ weight_decay
        s ← α s + (1 − α) g²
        m ← α m + (1 − α) g                with centered=True, else m is 0
        u = g / (√(s − m²) + ε)
        v ← μ v + u                        μ momentum; without momentum v is u
        w ← w − η v                        or with nesterov=True w − η (u + μ v)

    Tieleman & Hinton 2012, Coursera lecture 6.5; centered: Graves 2013, arXiv:1308.0850, equations 38 to 45.

    Parameters
    ----------
    learning_rate : float, optional
    alpha : float, optional
        0 ≤ α < 1.
    eps : float, optional
        ε, 0 or more.
    weight_decay : float, optional
    momentum : float, optional
        0 ≤ μ < 1.
    centered : bool, optional
        Divide by an estimate of the gradient's standard deviation, instead of its root mean square.
    nesterov : bool, optional
        Needs a momentum above 0.

    Raises
    ------
    SettingError
        A setting is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cnncore.train import RMSprop
    >>> w = {"w": np.array([1.0, 1.0])}
    >>> RMSprop(0.1, alpha=0.75).update(w, {"w": np.array([3.0, -0.01])}); w["w"].round(4)      # ± η / √(1 − α)
    array([0.8, 1.2])
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        nesterov: bool = False,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        unit = number(minimum=0, below=1)
        self.alpha = unit("RMSprop", "alpha", alpha)
        self.eps = number(minimum=0)("RMSprop", "eps", eps)
        self.momentum = unit("RMSprop", "momentum", momentum)
        self.centered, self.nesterov = bool(centered), bool(nesterov)
        if nesterov and not momentum:
            raise SettingError("RMSprop: nesterov=True needs a momentum above 0, got 0; try momentum=0.9")
        self.state_names = ("square", *(["mean"] if centered else []), *(["velocity"] if momentum else []))

    def change(
        self, w: NDArray[Any], g: NDArray[Any], state: tuple[NDArray[Any], ...], rate: float, decay: float, step: int
    ) -> None:
        squares = state[0]
        if decay:
            g = g + decay * w
        squares *= self.alpha
        squares += (1 - self.alpha) * g * g
        variance = squares
        if self.centered:
            mean = state[1]
            mean *= self.alpha
            mean += (1 - self.alpha) * g
            variance = np.maximum(squares - mean * mean, 0)  # it may round to less
        direction = g / (np.sqrt(variance) + self.eps)
        if self.momentum:
            velocity = state[-1]
            velocity *= self.momentum
            velocity += direction
            direction = direction + self.momentum * velocity if self.nesterov else velocity
        w -= rate * direction


OPTIMIZERS = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "nadam": NAdam, "rmsprop": RMSprop}


def optimizer(name: str, learning_rate: float | None = None, **settings: Any) -> Optimizer:
    """The optimizer called ``name``: "sgd", "adam", "adamw", "nadam" or "rmsprop".

    Parameters
    ----------
    name : str
    learning_rate : float, optional
        By default that of its class.
    **settings
        Other parameters of its class.

    Returns
    -------
    Optimizer

    Raises
    ------
    SettingError
        ``name`` is unknown, or a setting is out of range.

    Examples
    --------
    >>> from cnncore.train import optimizer
    >>> optimizer("sgd", 0.1, momentum=0.9)
    SGD(learning_rate=0.1, weight_decay=0.0, momentum=0.9, nesterov=False)
    """
    if name not in OPTIMIZERS:
        raise SettingError(unknown_name("train", "optimizer", name, OPTIMIZERS))
    if learning_rate is not None:
        settings["learning_rate"] = learning_rate
    return OPTIMIZERS[name](**settings)
