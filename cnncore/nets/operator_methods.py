"""The operators as methods of a graph, created from their schemas on access: no operator is named here.

operator_methods.pyi, for type checkers and editors, is written from the same schemas by tools/generate.py.
"""

from ..errors import unknown_name
from ..operators.registry import GRIDS, OPS, find
from .layers import signature

__all__ = ["OperatorMethods"]


class OperatorMethods:
    """Gives a graph a method for every operator and every grid; the methods call its ``apply``."""

    def __getattr__(self, name):
        if name in OPS:
            return method_of(self, OPS[name])
        if name in GRIDS:
            return method_of_grid(self, GRIDS[name])
        if name.startswith("__"):
            raise AttributeError(name)
        op = find(name)  # of a grid, or written in Python
        if op is not None:
            return method_of(self, op)
        raise AttributeError(unknown_name("graph", "operator", name, dir(self), "dir(g) lists all."))

    def __dir__(self):
        return sorted({*super().__dir__(), *OPS, *GRIDS})


def method_of(graph, op):
    """``graph.apply`` bound to an operator, with the operator's name, signature and docstring."""

    def method(*arguments, name=None, activation=None, **settings):
        return graph.apply(op, *arguments, name=name, activation=activation, **settings)

    method.__name__ = method.__qualname__ = op.name
    method.__signature__ = signature(op)
    method.__doc__ = f"g.{op.name}{signature(op)}: apply the operator to values of the graph.\n\n{op.__doc__}"
    return method


def method_of_grid(graph, grid):
    """``graph.apply`` of the operator that a grid yields for given values of its ``choices``."""

    def method(*arguments, name=None, activation=None, **settings):
        chosen = {choice: settings.pop(choice) for choice in grid.choices if choice in settings}
        return graph.apply(grid.operator(**chosen), *arguments, name=name, activation=activation, **settings)

    method.__name__ = method.__qualname__ = grid.name
    method.__doc__ = grid.__doc__
    return method
