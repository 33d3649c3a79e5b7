"""What can be said of the source without running it: style, the schemas of configuration files."""

import tempfile
from pathlib import Path

from tasks.process import PYTHON, output, run, tracked

# Which JSON schema describes which files; check-jsonschema brings them along.
SCHEMAS = {
    "vendor.github-workflows": ".github/workflows/*.yml",
    "vendor.github-issue-forms": ":(exclude,glob)**/config.yml .github/ISSUE_TEMPLATE/*.yml",
    "vendor.github-issue-config": ".github/ISSUE_TEMPLATE/config.yml",
    "vendor.dependabot": ".github/dependabot.yml",
    "vendor.citation-file-format": "CITATION.cff",
}


def lint(options, rest):
    """Check the style of Python (ruff), Cython (cython-lint) and C (clang-format), workflows against their schemas, and
    that generated files are current.

    --fix writes what ruff and clang-format would have written.
    """
    if options.fix:
        run(PYTHON, "-m", "ruff", "check", "--fix", ".")
        run(PYTHON, "-m", "ruff", "format", ".")
    else:
        run(PYTHON, "-m", "ruff", "check", ".")
        run(PYTHON, "-m", "ruff", "format", "--check", ".")
    run("clang-format", *(["-i"] if options.fix else ["--dry-run", "--Werror"]), *tracked("cnncore/*.c", "cnncore/*.h"))
    run("cython-lint", *tracked("cnncore/*.pyx", "cnncore/*.pxd"))
    for schema, patterns in SCHEMAS.items():
        run("check-jsonschema", "--builtin-schema", schema, *tracked(*patterns.split()))
    run(PYTHON, "tools/generate.py", "--check")


def typecheck(options, rest):
    """Check the type hints (mypy, strict on the public modules), and that the stubs say what is imported (stubtest).

    Arguments go to mypy. tools/stubtest_allowlist.txt has what stubtest may find, each with its reason.
    """
    run(PYTHON, "-m", "mypy", *rest)
    with tempfile.TemporaryDirectory() as folder:
        operators = Path(folder) / "operators.txt"
        operators.write_text(output(PYTHON, "tools/stubs.py"), encoding="utf-8")
        allowed = [part for file in ("tools/stubtest_allowlist.txt", operators) for part in ("--allowlist", file)]
        run(PYTHON, "-m", "mypy.stubtest", "cnncore", "--concise", "--mypy-config-file", "pyproject.toml", *allowed)


def precommit(options, rest):
    """Run the hooks of .pre-commit-config.yaml on all files, as `git commit` does on those that change.

    --install makes `git commit` do so from now on. The hooks call the tools that `build` installed; nothing is downloaded.
    """
    if options.install:
        run(PYTHON, "-m", "pre_commit", "install")
    else:
        run(PYTHON, "-m", "pre_commit", "run", "--all-files", *rest)
