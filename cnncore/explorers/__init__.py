"""Explorers: pooling, convolution, activations and branches of a network as widgets of a notebook (extra: ``notebook``).

The same scripts are in the pages of the lecture, where the engine computes in the browser; in a notebook its kernel does. Every
number that is shown comes from an operator of cnncore.

>>> import cnncore
>>> answers = cnncore.explorers.Answers()
>>> found = answers.answer("pooling", x=[[1, 3], [2, 0]], strategy="max", scheme="global", settings={}, at=[0, 0])
>>> found["y"], found["dx"]
([[3.0]], [[0.0, 1.0], [0.0, 0.0]])
"""

from .answers import Answers
from .switches import Switches
from .widgets import activation, branches, convolution, pooling

__all__ = ["Answers", "Switches", "activation", "branches", "convolution", "pooling"]
