"""What can be said of the source without running it: style, types, the schemas of configuration files."""

from tasks.process import PYTHON, run, tracked

# Which JSON schema describes which files; check-jsonschema brings them along.
SCHEMAS = {
    "vendor.github-workflows": ".github/workflows/*.yml",
    "vendor.github-issue-forms": ":(exclude,glob)**/config.yml .github/ISSUE_TEMPLATE/*.yml",
    "vendor.github-issue-config": ".github/ISSUE_TEMPLATE/config.yml",
    "vendor.dependabot": ".github/dependabot.yml",
    "vendor.citation-file-format": "CITATION.cff",
}


def lint(options, rest):
    """Check the style of Python (ruff), Cython (cython-lint) and C (clang-format), workflows against their schemas, and that
    generated files are current.

    --fix writes what ruff and clang-format would have written.
    """
    c_files = tracked("cnncore/*.c", "cnncore/*.h")
    if options.fix:
        run(PYTHON, "-m", "ruff", "check", "--fix", ".")
        run(PYTHON, "-m", "ruff", "format", ".")
        run("clang-format", "-i", *c_files)
    else:
        run(PYTHON, "-m", "ruff", "check", ".")
        run(PYTHON, "-m", "ruff", "format", "--check", ".")
        run("clang-format", "--dry-run", "-Werror", *c_files)
    run(PYTHON, "-m", "cython_lint", *tracked("cnncore/*.pyx", "cnncore/*.pxd"))
    for schema, patterns in SCHEMAS.items():
        run("check-jsonschema", "--builtin-schema", schema, *tracked(*patterns.split()))
    run(PYTHON, "tools/generate.py", "--check")


def typecheck(options, rest):
    """Check type hints (mypy; pyproject.toml says how strictly where), and the stubs of compiled modules against the modules
    themselves (stubtest): every public name is there, with the signature it really has.

    Arguments go to mypy.
    """
    run(PYTHON, "-m", "mypy", *rest)
    run(PYTHON, "-m", "mypy.stubtest", "cnncore")


def precommit(options, rest):
    """Run the hooks of .pre-commit-config.yaml on all files, as `git commit` does on those that change.

    --install makes `git commit` do so from now on. The hooks call the tools that `build` installed; nothing is downloaded.
    """
    if options.install:
        run(PYTHON, "-m", "pre_commit", "install")
    else:
        run(PYTHON, "-m", "pre_commit", "run", "--all-files", *rest)
