"""The exercises of the lecture as notebooks: docs/exercises/*.ipynb, which tools/generate.py writes.

Each is a list of cells. The last one marks the notebook itself; `cnncore grade NOTEBOOK` does the same from a shell.
"""

import json

BEGIN = "import numpy as np\n\nimport cnncore"
MARK = (
    "# Save the notebook first: marking reads the file.\nfrom cnncore.testing.exercises import mark_file\n\n"
    'for mark in mark_file("{name}.ipynb"):\n'
    '    print("right" if mark.passed else "wrong", "-", mark.exercise)\n    print(mark.message)'
)

EXERCISES = {
    "max_pool_backward": (
        "# The backward pass of max pooling\n\nRead first: *Max pooling and its subgradient*. Each dy belongs to the cell "
        "that won its window; among equal cells the first one in the order of the rows wins alone. Windows may overlap: "
        "then a cell collects the dy of every window that it wins.",
        "Write the function. `x` is one map (H, W), `dy` has one number per window; there is no padding. Window (i, j) "
        "begins at `x[i * stride, j * stride]`.",
        "def max_pool_backward(x, dy, kernel_size, stride):\n    dx = np.zeros_like(x)\n    ...\n    return dx",
        "Look at what the engine says for one map, and predict it before you run the cell.",
        "x = np.array([[1.0, 3, 2, 0], [4, 1, 1, 5], [0, 2, 7, 1], [3, 1, 2, 6]])\n"
        "y, backward = cnncore.max_pool.with_backward(x[None, None], kernel_size=3, stride=1)\n"
        "y[0, 0], backward(np.ones_like(y))[0, 0]",
    ),
    "to_convolutional": (
        "# A classifier becomes convolutional\n\nRead first: *Fully connected is 1×1*. A linear layer on a flattened map of "
        "shape (C, H, W) is a convolution whose kernel is as large as the map; a linear layer after it is a 1×1 convolution. "
        "Converted, the classifier is applied to every window of larger images.",
        "Return the two kernels `k1`, `k2`. `w1` has shape (features, C · H · W), `w2` (classes, features); flattening "
        "counts columns fastest, then rows, then channels.",
        "def to_convolutional(w1, w2, shape):\n    ...\n    return k1, k2",
        "The two ways to compute scores, for one image of just that size:",
        "rng = np.random.default_rng(0)\nw = rng.normal(size=(6, 3 * 4 * 4))\nimage = rng.normal(size=(1, 3, 4, 4))\n"
        "cnncore.linear(image.reshape(1, -1), w)",
    ),
    "strategy": (
        "# A pooling strategy of your own\n\nRead first: *The zoo of poolings*. A strategy makes one number of the cells of a "
        "window. Its gradient says how much each cell takes part.",
        "Invent one that does not exist yet. `window` is an array (n,) of any length; `strategy_gradient` returns "
        "dy · ∂y/∂x for every cell. Marking compares it with numerical derivatives.",
        "def strategy(window):\n    ...\n\n\ndef strategy_gradient(window, dy):\n    ...",
        "What the engine has already:",
        "list(cnncore.pool.strategies)",
    ),
}


def notebook(name):
    """The notebook of an exercise, as the text of its file."""
    title, task, code, look, example = EXERCISES[name]
    cells = [
        ("markdown", title), ("code", BEGIN), ("markdown", look), ("code", example),
        ("markdown", task), ("code", code), ("code", MARK.format(name=name)),
    ]  # fmt: skip
    made = {
        "cells": [cell(f"{name}-{i}", kind, text) for i, (kind, text) in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def cell(identifier, kind, text):
    """A cell of a notebook."""
    made = {"cell_type": kind, "id": identifier, "metadata": {}, "source": text.splitlines(keepends=True)}
    return made if kind == "markdown" else {**made, "execution_count": None, "outputs": []}
