"""The gradients of a whole net in seconds: derivatives along random directions in all of its arrays at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import integer, number, seed_number
from ..errors import GradientError, KinkError
from ..nets.net import Net
from ..typing import Seed

__all__ = ["check_net"]

# Half widths of central differences. In a net of thousands of rectifiers a kink lies in every interval; the shorter ones
# contain fewer, the longer ones round less.
WIDTHS = (1e-4, 1e-5, 1e-6, 1e-7)


def check_net(
    net: Net,
    *xs: ArrayLike,
    training: bool = False,
    directions: int = 3,
    tolerance: float = 1e-5,
    seed: Seed = 0,
) -> float:
    """Check the backward pass of a whole net in float64; return the largest relative error found. ::

        ⟨dy, f(a + h v) − f(a − h v)⟩ / 2h  =  Σ over arrays ⟨∂⟨dy, f⟩/∂a, v⟩

    A direction v moves all inputs and parameters at once, each by numbers of its own typical size, with a random dy for every
    output. It takes eight forward passes, whatever the number of parameters; where it disagrees, the arrays are moved one by
    one to find those that are to blame. :func:`check_gradient` compares every parameter by itself, and elements of small
    arrays, which takes longer.

    Parameters
    ----------
    net : Net
        A net of any precision; a copy in float64 is checked, and the net is unchanged. Frozen parameters are not checked.
    *xs : array (N, C, *spatial)
        One per input.
    training : bool, optional
        Check the pass of training, with the random numbers of the next step.
    directions : int, optional
        How many are tried.
    tolerance : float, optional
        Largest error allowed, relative to √Σ (∂⟨dy, f⟩/∂a · v)² of all elements.
    seed : int or numpy.random.Generator, optional
        Seed of the directions and of dy.

    Returns
    -------
    float
        The largest error of a direction.

    Raises
    ------
    GradientError
        Backward is wrong; names the arrays, with both derivatives and their ratio.
    KinkError
        The derivatives along a direction disagree, but not those of any array by itself: the function has no derivative
        there, or one array hides another's error.
    ShapeError, DtypeError
        An array does not fit its input.

    Examples
    --------
    >>> import numpy as np, cnncore
    >>> net = cnncore.models.small_inception(seed=0)
    >>> images = np.random.default_rng(0).standard_normal((2, 1, 14, 14))
    >>> cnncore.testing.check_net(net, images) < 1e-5
    True
    """
    place = "check_net"
    checked = _Checked(net, xs, training)
    tolerance = number(above=0, below=1)(place, "tolerance", tolerance)
    rng = np.random.default_rng(seed_number(place, "seed", seed))
    largest = 0.0
    for _ in range(integer(place, "directions", directions, 1)):
        dys, gradients = checked.gradients(rng)
        direction = {name: typical(array) * rng.standard_normal(array.shape) for name, array in checked.arrays.items()}
        error = checked.error(dys, gradients, direction)[0]
        if error > tolerance:
            checked.report(dys, gradients, direction, tolerance, error)
        largest = max(largest, error)
    return largest


def typical(array: NDArray[Any]) -> float:
    """The root mean square of an array; 1 for one of zeros."""
    return float(np.sqrt(np.mean(np.square(array)))) or 1.0


class _Checked:
    """A copy of a net in float64, and its arrays that have gradients: name → the array that is moved."""

    def __init__(self, net: Net, xs: tuple[ArrayLike, ...], training: bool) -> None:
        self.net, self.training, self.step = net.astype("float64"), bool(training), net.steps
        rows = self.net.graph.inputs
        real = [i >= len(rows) or rows[i].role == "real" for i in range(len(xs))]
        self.xs: list[Any] = [np.array(x, np.float64) if is_real else x for x, is_real in zip(xs, real, strict=True)]
        self.arrays: dict[str, NDArray[Any]] = {
            f"input {row.name}": x for row, x in zip(rows, self.xs, strict=False) if row.role == "real"
        }
        self.inputs = list(self.arrays)
        for name in self.net.parameters:
            if name not in self.net.frozen:
                self.arrays[f"parameter {name}"] = self.net.parameters[name]
        self.at = {name: array.copy() for name, array in self.arrays.items()}

    def run(self) -> tuple[tuple[NDArray[Any], ...], Any]:
        """(outputs, backward) at the present arrays; running statistics are unchanged."""
        y, backward = self.net.with_backward(*self.xs, training=self.training, step=self.step, buffers={})
        return y if isinstance(y, tuple) else (y,), backward

    def gradients(self, rng: np.random.Generator) -> tuple[list[Any], dict[str, NDArray[Any]]]:
        """(a random dy for each output that has a gradient, name → gradient)."""
        outputs, backward = self.run()
        dys = [rng.standard_normal(y.shape) if y.dtype.kind == "f" else None for y in outputs]
        dxs = backward(*dys)
        dxs = dxs if isinstance(dxs, tuple) else (dxs,)
        rows = [row.role == "real" for row in self.net.graph.inputs]
        found = [dx for dx, is_real in zip(dxs, rows, strict=True) if is_real] if len(dxs) == len(rows) else list(dxs)
        gradients: dict[str, NDArray[Any]] = dict(zip(self.inputs, found, strict=True))
        for name in self.arrays.keys() - gradients.keys():
            gradients[name] = backward.gradients[name.removeprefix("parameter ")]
        return dys, {name: gradients[name] for name in self.arrays}

    def error(
        self, dys: list[Any], gradients: Mapping[str, NDArray[Any]], direction: Mapping[str, NDArray[Any]]
    ) -> tuple[float, float, float]:
        """(relative error, derivative by backward, the numerical derivative nearest to it) along a direction."""
        products = [gradients[name] * v for name, v in direction.items()]
        given = float(sum(product.sum() for product in products))
        scale = float(np.sqrt(sum(np.square(product).sum() for product in products))) or 1.0
        found = [self.difference(dys, direction, width) for width in WIDTHS]
        nearest = min(found, key=lambda value: abs(value - given))
        return abs(nearest - given) / scale, given, nearest

    def difference(self, dys: list[Any], direction: Mapping[str, NDArray[Any]], width: float) -> float:
        """The central difference of Σ ⟨dy, y⟩ along a direction."""
        with self.moved(direction) as move:
            values = []
            for sign in (1, -1):
                move(sign * width)
                outputs, _ = self.run()
                values.append(sum(float(np.vdot(dy, y)) for dy, y in zip(dys, outputs, strict=True) if dy is not None))
        return (values[0] - values[1]) / (2 * width)

    @contextmanager
    def moved(self, direction: Mapping[str, NDArray[Any]]) -> Iterator[Callable[[float], None]]:
        """A function that moves the arrays along a direction; afterwards they are where they were."""

        def move(t: float) -> None:
            for name, v in direction.items():
                np.add(self.at[name], t * v, out=self.arrays[name])

        try:
            yield move
        finally:
            for name in direction:
                self.arrays[name][...] = self.at[name]

    def report(
        self,
        dys: list[Any],
        gradients: Mapping[str, NDArray[Any]],
        direction: Mapping[str, NDArray[Any]],
        tolerance: float,
        error: float,
    ) -> None:
        """Raise an error that names the arrays whose gradients are wrong."""
        lines = []
        for name, v in direction.items():
            wrong, given, value = self.error(dys, gradients, {name: v})
            if wrong > tolerance:
                ratio = f", {given / value:.6g} times that" if value else ""
                lines.append(
                    f"{name}: backward gives {given:.9g} along a random direction, differences {value:.9g}{ratio}"
                )
        if lines:
            more = f"; and {len(lines) - 3} more" if len(lines) > 3 else ""
            raise GradientError(f"check_net: gradients are wrong. {'; '.join(lines[:3])}{more}")
        raise KinkError(
            f"check_net: derivatives along a random direction differ by {error:.1e} of their size, those of each array alone do "
            "not: a tie or jump lies there. Check at other inputs (random numbers have no ties), or with check_gradient"
        )
