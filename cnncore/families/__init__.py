"""How each family of operators is computed: checks of a call's extents, and the calls into ``ops``.

A family is a :class:`cnncore.operator.Kind`; the rows of catalog.py pair it with a strategy, an activation or an algorithm.
"""
