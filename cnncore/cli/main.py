"""The command line: ``python -m cnncore COMMAND``, also installed as ``cnncore``.

Each command is a function of the parsed options that returns the exit code: 0 success, 1 a check failed, 2 invalid input,
130 interrupted. Errors of the user are reported in one line on stderr; --debug shows the traceback.
"""

import argparse
import contextlib
import inspect
import logging
import os
import re
import sys
import warnings

from .. import __version__, set_num_threads
from ..errors import CnnError, unknown_name
from .compare import add_compare
from .conformance import add_conform, add_vectors
from .evaluate import add_evaluate
from .explain import add_explain
from .extract import add_extract
from .grade import add_grade
from .nets import add_export, add_profile, add_summary, add_tune
from .operators import add_bench, add_check, add_info, add_ops
from .options import number_of_threads
from .predict import add_predict
from .progress import one_line
from .quantize import add_quantize
from .train import add_train

__all__ = ["main"]


LEVELS = ("debug", "info", "warning")


# ── Options ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line, like all other errors."""

    def error(self, message):
        wrong = re.fullmatch(r"(.*?): invalid choice: '(.*)' \(choose from (.*)\)", message)
        if wrong:
            place, name, names = wrong.groups()
            message = unknown_name(place, "choice", name, re.findall(r"[\w-]+", names))
        self.exit(2, f"cnncore: error: {message.removesuffix('.')}; see `{self.prog} --help`\n")


class Commands:
    """The commands of the command line, and the options that are common to all."""

    def __init__(self, top):
        self.parsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
        self.everywhere = argparse.ArgumentParser(add_help=False)
        general = self.everywhere.add_argument_group("general options")
        general.add_argument(
            "--threads",
            type=number_of_threads,
            metavar="N",
            help="number of native threads; results do not depend on it",
        )
        general.add_argument("--log", choices=LEVELS, help="write what the library logs to stderr, from this level up")
        general.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def add(self, function, help_, epilog=""):
        """The parser of a command, with the name and docstring of its function."""
        sub = self.parsers.add_parser(
            function.__name__,
            help=help_,
            description=inspect.cleandoc(function.__doc__),
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[self.everywhere],
        )
        sub.set_defaults(function=function)
        return sub


def parser():
    """The whole command line."""
    top = Parser(
        prog="cnncore",
        description="Convolutional networks on the CPU: train, predict, and check every gradient.",
        epilog="Start with `cnncore train`: it needs no arguments and takes about a minute. `cnncore COMMAND --help` explains "
        "each command.",
    )
    top.add_argument("--version", action="version", version=f"cnncore {__version__}")
    commands = Commands(top)
    for add in (  # in the order of --help
        add_train,
        add_predict,
        add_evaluate,
        add_explain,
        add_grade,
        add_extract,
        add_check,
        add_ops,
        add_summary,
        add_profile,
        add_tune,
        add_info,
        add_bench,
        add_export,
        add_quantize,
        add_compare,
        add_vectors,
        add_conform,
    ):
        add(commands)
    return top


def main(arguments=None):
    """Run one command; return its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed: a service, pythonw, cron with >&-; output is discarded
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # not an ordinary text stream
            stream.reconfigure(errors="replace")
    options = parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_: print(f"cnncore: note: {message}", file=sys.stderr)
        return run(options)


def run(options):
    """Run the command of the parsed options; return its exit code."""
    try:
        if options.log is not None:
            logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s: %(message)s")
            logging.getLogger("cnncore").setLevel(options.log.upper())
        if options.threads is not None:
            set_num_threads(options.threads)
        code = options.function(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("\ncnncore: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone: `cnncore ops | head`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (CnnError, OSError, ImportError, MemoryError) as error:
        if options.debug:
            raise
        print(f"cnncore: error: {one_line(error)}", file=sys.stderr)
        return 2
