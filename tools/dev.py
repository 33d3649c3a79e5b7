"""One command for everything a contributor does: ``python tools/dev.py COMMAND``; ``COMMAND --help`` explains it."""

import argparse
import inspect

from tasks.browser import pages
from tasks.checks import lint, precommit, typecheck
from tasks.packaging import build, generate, wheel
from tasks.testing import bench, coverage, docs, fuzz, instructions, matrix, test
from tasks.webassembly import browser

COMMANDS = {
    build: "install the package here, editable, with all tools",
    test: "run the tests; choose a CPU target, bounds checks or sanitizers",
    lint: "check (or repair, with --fix) the style of Python, Cython, C and workflows",
    typecheck: "check the type hints, and the stubs against what is imported",
    generate: "regenerate what is derived from the operators' schemas: stubs, docs, pictures",
    docs: "the same, run every example in the documentation, and build the site",
    coverage: "lines of Python and Cython that the tests run",
    bench: "time operators and networks",
    instructions: "count the instructions of ten calls, beside those recorded: speed without noise",
    wheel: "build source archive and wheel, and inspect them",
    browser: "build the wheel for browsers (Pyodide), and test its operators in Node",
    pages: "open the site in Chromium: errors, accessibility, narrow screens",
    fuzz: "run malformed calls and files, failing allocations and killed trainings, in child processes",
    matrix: "run the tests of one wheel under every Python of this machine",
    precommit: "run the hooks on all files, or install them",
}
# The others pass unknown arguments on to pytest, pip, mypy or the tool they run.
WITHOUT_ARGUMENTS = {lint}


def command_line():
    parser = argparse.ArgumentParser(prog="dev.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    of = {}
    for function, summary in COMMANDS.items():
        of[function] = commands.add_parser(
            function.__name__,
            help=summary,
            description=inspect.cleandoc(function.__doc__),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # what is not below goes on to pytest, pip or mypy as it was written
        )
        of[function].set_defaults(function=function)
    of[test].add_argument(
        "--target", metavar="NAME", help="CPU target: reference, baseline, avx2, avx512, neon, or all"
    )
    of[test].add_argument("--debug", action="store_true", help="with bounds checks, in a build of its own")
    of[test].add_argument(
        "--sanitize", action="store_true", help="with address and undefined-behaviour sanitizers, likewise"
    )
    of[test].add_argument(
        "--emulate",
        action="store_true",
        help="the avx512 kernels on a processor without AVX-512: as wide, in two halves; likewise",
    )
    of[lint].add_argument("--fix", action="store_true", help="write what the formatters would have written")
    of[coverage].add_argument(
        "--fail-under", type=float, metavar="PERCENT", help="the floor (default: fail_under in pyproject.toml)"
    )
    of[wheel].add_argument(
        "--every-platform", action="store_true", help="by cibuildwheel, for all that it can build here"
    )
    of[wheel].add_argument("--twice", action="store_true", help="build it twice, and compare the bytes")
    of[matrix].add_argument("--wheel", metavar="FILE", help="which wheel (default: the newest in dist/, or a new one)")
    of[matrix].add_argument(
        "--python", metavar="VERSION", action="append", help="only this version, such as 3.13; repeatable"
    )
    of[instructions].add_argument("--update", action="store_true", help="record the counts")
    of[browser].add_argument("--scipy", action="store_true", help="with scipy, which a few operators need")
    of[pages].add_argument("--live", action="store_true", help="only what computes in the pages")
    of[pages].add_argument("--screenshots", metavar="DIR", help="keep a picture of every page here")
    of[precommit].add_argument("--install", action="store_true", help="let `git commit` run the hooks")
    return parser


def main():
    parser = command_line()
    options, rest = parser.parse_known_args()
    if rest and options.function in WITHOUT_ARGUMENTS:
        parser.error(f"{options.command} does not know {' '.join(rest)}; see {options.command} --help")
    options.function(options, rest)


if __name__ == "__main__":
    main()
