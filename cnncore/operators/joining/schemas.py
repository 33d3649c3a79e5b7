"""Schemas of the operators that join branches: concat, add."""

from ...checks import has_length, number
from ...errors import SettingError
from ..operator import Op
from ..schema import ANY_SHAPE, Array, Case, Setting
from .implementation import Concatenation, Sum


def wider_and_narrower(rng, x):
    """Two more arrays, with other numbers of channels."""
    N, C, *spatial = x.shape
    return rng.standard_normal((N, C + 2, *spatial)), rng.standard_normal((N, 1, *spatial))


def taller(rng, x):
    """One more array, longer along axis 2."""
    N, C, H, *spatial = x.shape
    return (rng.standard_normal((N, C, H + 3, *spatial)),)


def two_more(rng, x):
    return rng.standard_normal(x.shape), rng.standard_normal(x.shape)


def coefficients(place, name, value):
    """A check that coefficients are numbers, or None."""
    if value is None:
        return None
    if not has_length(value) or isinstance(value, str):
        raise SettingError(f"{place}: {name} must be a number for each array, got {value!r}")
    return tuple(number()(place, f"{name}[{i}]", c) for i, c in enumerate(value))


SCHEMAS = (
    Op(
        "concat",
        Concatenation(),
        group="layers",
        literature=("L10",),
        summary="Concatenates arrays along an axis, as an Inception module does with its branches.",
        formula="y = x₁, then x₂, … along axis",
        gradient="dx_j = the part of dy where x_j lies",
        arrays=(Array("x", "arrays of the same extents, except along axis", variadic=True),),
        settings_list=(Setting("axis", 1, "axis of the concatenation; 1: channels"),),
        shape="(N, C₁, *spatial), (N, C₂, *spatial), … → (N, C₁ + C₂ + …, *spatial); 1 to 8 dimensions",
        symbols={"C₁": "channels of the first array", "C₂": "channels of the second array"},
        linear=("x",),
        paper="Szegedy et al. 2015, CVPR, arXiv:1409.4842, figure 2",
        cases=(
            Case(arrays=wider_and_narrower, ranks=(0, 1, 2, 3)),
            Case(arrays=taller, axis=2),
            Case(arrays=two_more, axis=-1),
            Case(),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> y, backward = cnncore.concat.with_backward(np.array([[1., 2.]]), np.array([[3.]]))
            >>> y
            array([[1., 2., 3.]])
            >>> backward(np.array([[10., 20., 30.]]))
            (array([[10., 20.]]), array([[30.]]))
        """,
    ),
    Op(
        "add",
        Sum(),
        group="layers",
        literature=("L13",),
        summary="Adds arrays elementwise, as a residual connection does.",
        formula="y = Σ c_j x_j",
        gradient="dx_j = c_j dy",
        arrays=(Array("x", "arrays of the same shape", variadic=True),),
        settings_list=(Setting("coefficients", None, "coefficients c, one per array; None: all 1", coefficients),),
        shape=ANY_SHAPE,
        edges=("no broadcasting: all shapes must be equal",),
        accumulates="in x's dtype, in the order of the arrays",
        linear=("x",),
        paper="He, Zhang, Ren & Sun 2016, CVPR, arXiv:1512.03385, equation 1",
        cases=(
            Case(arrays=two_more, ranks=(0, 1, 2, 3)),
            Case(arrays=two_more, coefficients=(1.0, -2.0, 0.5)),
            Case(),
        ),
        example="""
            >>> import numpy as np, cnncore
            >>> cnncore.add(np.array([1., 2.]), np.array([10., 20.]), coefficients=(1, 0.5))
            array([ 6., 12.])
        """,
    ),
)
