"""The promises around the code: what the root pages, the workflows and the command for contributors say is so."""

import ast
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from support.processes import ROOT

import cnncore

pytestmark = pytest.mark.skipif(not (ROOT / "SECURITY.md").exists(), reason="needs the source tree beside the tests")

# What turns untrusted bytes into values. A module that calls one of these parses files.
PARSERS = {"ZipFile", "GzipFile", "decompressobj", "frombuffer", "FromString", "ParseFromString"}


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def commands():
    """The commands of tools/dev.py."""
    page = subprocess.run(
        [sys.executable, ROOT / "tools" / "dev.py", "--help"], capture_output=True, text=True, check=True
    )
    return set(re.findall(r"^    (\w+)(?:  |$)", page.stdout, flags=re.MULTILINE))


# ── git ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a working copy of git")
def test_git_keeps_every_source_of_the_kernels():
    """C files are ignored as what Cython writes, except those written by hand: a new folder of them has to be named."""
    sources = [path.relative_to(ROOT).as_posix() for path in (ROOT / "cnncore").rglob("kernels/*")]
    ignored = subprocess.run(["git", "check-ignore", *sources], cwd=ROOT, capture_output=True, text=True)
    assert len(sources) > 20 and ignored.returncode == 1, ignored.stdout + ignored.stderr


# ── SECURITY.md ────────────────────────────────────────────────────────────────────────────────────────────────────────


def parsing_modules():
    """Modules of cnncore that parse bytes: they call one of PARSERS, open an image by Pillow, or read JSON that is not theirs."""
    found = set()
    for path in (ROOT / "cnncore").rglob("*.py"):
        for call in (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            owner = getattr(getattr(call.func, "value", None), "id", "")
            own_json = call.args and isinstance(call.args[0], ast.Call)  # json.loads(json.dumps(…)) copies
            if (
                name in PARSERS
                or (owner, name) == ("Image", "open")
                or ((owner, name) == ("json", "loads") and not own_json)
            ):
                found.add(path.relative_to(ROOT).as_posix())
    return found


def test_every_parser_of_untrusted_bytes_is_listed():
    listed = set(re.findall(r"`(cnncore/[\w/]+\.py)`", text("SECURITY.md")))
    assert parsing_modules() <= listed
    assert all((ROOT / path).exists() for path in listed)


def test_a_parser_that_is_not_listed_is_found():
    assert {"cnncore/nets/model_file.py", "cnncore/vision/images.py"} <= parsing_modules()


# ── Releases ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_version_is_said_once():
    """CITATION.cff and the newest heading of the changelog have the package's version."""
    version = cnncore.__version__.partition(".dev")[0]
    assert re.search(r"^version: (.*)$", text("CITATION.cff"), flags=re.MULTILINE)[1] == version
    assert re.search(r"^## (\S+)", text("CHANGELOG.md"), flags=re.MULTILINE)[1] == version


# ── tools/dev.py, and who calls it ─────────────────────────────────────────────────────────────────────────────────────


def test_every_command_is_in_contributing():
    assert set(re.findall(r"tools/dev\.py (\w+)", text("CONTRIBUTING.md"))) == commands()


@pytest.mark.parametrize("page", ["README.md", "RELEASING.md", ".ci/run", ".github/pull_request_template.md"])
def test_commands_that_a_page_names_exist(page):
    assert set(re.findall(r"tools/dev\.py (\w+)", text(page))) <= commands()


@pytest.mark.parametrize("command", sorted(commands()) if (ROOT / "tools" / "dev.py").exists() else ())
def test_a_command_explains_itself(command):
    page = subprocess.run(
        [sys.executable, ROOT / "tools" / "dev.py", command, "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert len(page.split("options:")[0].split()) > 15


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_only_the_command_for_contributors(workflow):
    """Whatever a workflow does can be done on any machine."""
    steps = re.findall(r"^\s*(?:- )?run: (.*)$", workflow.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert steps
    for step in steps:
        command = re.fullmatch(r"python tools/dev\.py (\w+)( .*)?", step)
        assert command and command[1] in commands(), step


def test_local_links_of_the_root_pages_lead_somewhere():
    for page in ROOT.glob("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", ["README.md", "docs/guides/researcher.md"])
def test_pages_count_the_operators(page):
    (count,) = re.findall(r"(\d+) operators\b", text(page))
    assert int(count) == len(cnncore.OPS)


def test_every_drawing_is_valid_xml():
    """A browser shows nothing of an SVG file with a mistake."""
    drawings = [path for path in (ROOT / "docs").rglob("*.svg") if "_build" not in path.parts]
    assert len(drawings) > len(cnncore.OPS)
    for path in drawings:
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg", path.name
