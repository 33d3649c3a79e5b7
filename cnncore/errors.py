"""Every error cnncore raises on purpose.

Each names the place, what was expected, what came, and the way out::

    inception_3a/conv5x5: input has 2 dimensions (64, 28); expected (N, C, H, W). A single image? Use x[None].
"""

__all__ = [
    "CnnError",
    "ShapeError",
    "DtypeError",
    "SettingError",
    "GraphError",
    "ModelFileError",
    "ArrayChangedError",
    "DataError",
    "GradientError",
    "KinkError",
    "KinkWarning",
]


class CnnError(Exception):
    """Base of all errors that cnncore raises on purpose."""


class ShapeError(CnnError, ValueError):
    """An array's dimensions do not fit the operator, its settings, or another array."""


class DtypeError(CnnError, TypeError):
    """An array is neither float32 nor float64, or two arrays that must agree differ."""


class SettingError(CnnError, ValueError, TypeError):
    """A setting is unknown, missing, of the wrong type, or out of range."""


class GraphError(CnnError, ValueError):
    """A graph is built wrongly: a cycle, an unused branch, a join of unequal sizes."""


class ModelFileError(CnnError, ValueError):
    """A model file is damaged, truncated, hostile, or of an unknown version."""


class ArrayChangedError(CnnError, RuntimeError):
    """An array that a backward pass reads was changed in place since the forward pass."""


class DataError(CnnError, ValueError):
    """A data set, an image file, or the values of an array cannot be read or used."""


class GradientError(CnnError, AssertionError):
    """A backward pass disagrees with the numerical derivative."""


class KinkError(GradientError):
    """There is no derivative to compare with: an array lies on a kink, a tie or a jump."""


class KinkWarning(UserWarning):
    """Elements lie so close to a kink that their gradient was checked beside it."""
