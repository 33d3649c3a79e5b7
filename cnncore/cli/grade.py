"""``cnncore grade``."""

from ..errors import printable


def grade(options):
    """Mark solutions of the lecture's exercises; say what is wrong, and show the window where."""
    from ..testing.exercises import mark_file

    marks = mark_file(options.file)
    for mark in marks:
        print(f"{'right' if mark.passed else 'wrong'}  {mark.exercise}: {printable(mark.message, chr(10))}")
    return 0 if all(mark.passed for mark in marks) else 1


GRADE_HELP = """\
example: cnncore grade solution.py

Exercises, by the functions that solution.py defines:
  max_pool_backward(x, dy, kernel_size, stride)   dx of max pooling on one map (H, W), without padding
  to_convolutional(w1, w2, shape)                 k1, k2: two linear layers on maps of shape (C, H, W) as convolutions
  strategy(window), strategy_gradient(window, dy) a pooling strategy of your own on a window (n,), and its gradient

The file is executed. The exit code is 0 if everything is right, 1 if not."""


def add_grade(commands):
    """``cnncore grade`` and its options."""
    sub = commands.add(grade, "mark solutions of the exercises", GRADE_HELP)
    sub.add_argument("file", metavar="FILE", help="a Python file or a notebook (.ipynb) with solutions")
