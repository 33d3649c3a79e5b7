"""Activations that look at several channels: maxout and softmax."""

from dataclasses import dataclass

from .. import geometry
from ..errors import SettingError, ShapeError
from ..operator import Kind
from ..ops import activation
from .elementwise import check_axes

__all__ = ["Maxout", "Softmax"]


class Maxout(Kind):
    """The largest of every ``pieces`` neighbouring channels."""

    per_image = True
    saves = ("x",)

    def describe(self, op, shapes, dtype, settings):
        (x,) = shapes
        pieces = settings["pieces"]
        check_axes(op.name, x)
        if len(x) < 2:
            raise ShapeError(
                f"{op.name}: input has {len(x)} dimensions {x}; expected (N, C, ...) with channels at axis 1"
            )
        if x[1] is None:
            return (x[0], None, *x[2:]), None
        if x[1] == 0 or x[1] % pieces:
            raise ShapeError(
                f"{op.name}: {x[1]} channels of input {x} cannot be cut into pieces={pieces}; give a divisor of {x[1]}, or "
                f"make the input {-(-x[1] // pieces) * pieces} channels wide"
            )
        return (x[0], x[1] // pieces, *x[2:]), None

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        activation.maxout_forward_pass(x, y)
        return y, (), (x,)

    def backward(self, call, saved, dy, wanted, out=None):
        (x,) = saved
        dx = call.gradient(0, out and out[0])
        activation.maxout_backward_pass(x, dy, dx)
        return (dx,)


@dataclass(frozen=True)
class Softmax(Kind):
    """Softmax along the setting ``axis``, or its logarithm; backward works from y."""

    logarithm: bool = False

    in_place = True
    saves = ("y",)
    per_image = True

    def describe(self, op, shapes, dtype, settings):
        (x,) = shapes
        check_axes(op.name, x)
        axis = geometry.integer(op.name, "axis", settings["axis"])
        if not -len(x) <= axis < len(x):
            raise SettingError(
                f"{op.name}: axis {axis} is not an axis of an input {x} with {len(x)} dimensions; use "
                f"{-len(x)} to {len(x) - 1}"
                if x
                else f"{op.name}: a single number has no axis {axis}; use x[None] with axis=0"
            )
        axis %= len(x)
        if x[axis] == 0:
            raise ShapeError(f"{op.name}: input {x} is empty along axis {axis}: there is no largest value")
        return x, axis

    def takes_pieces(self, call):
        return super().takes_pieces(call) and call.settings["axis"] % len(call.output) != 0

    def forward(self, call, arrays, out=None):
        (x,) = arrays
        y = call.empty(out)
        activation.softmax_forward_pass(x, y, call.geometry, self.logarithm)
        return y, (), (y,)

    def backward(self, call, saved, dy, wanted, out=None):
        (y,) = saved
        dx = call.gradient(0, out and out[0])
        activation.softmax_backward_pass(y, dy, dx, call.geometry, self.logarithm)
        return (dx,)
