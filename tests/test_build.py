"""What setup.py decides, asked without compiling: the machine is the target's, not the builder's, and nothing is forgotten."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import ROOT

import cnncore

pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="needs the source tree beside the tests")


def decided(**environment):
    """TARGETS, FLAGS and the digest of both in setup.py, in a process with these variables."""
    pytest.importorskip("Cython")
    program = (
        "import json, runpy; s = runpy.run_path('setup.py', run_name='setup');"
        "print(json.dumps({'targets': s['TARGETS'], 'flags': s['FLAGS'], 'abi3': s['STABLE_ABI'],"
        "'headers': sorted(s['included'](s['Path'](s['KERNELS'], 'target_baseline.c')))}))"
    )
    others = {
        name: value for name, value in os.environ.items() if not name.startswith("CNNCORE_")
    }  # of a build under test
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, env={**others, **environment}
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    "platform, targets",
    [
        ("linux-x86_64", {"baseline", "avx2", "avx512"}),
        ("macosx-14.0-arm64", {"baseline", "neon"}),
        ("linux-aarch64", {"baseline", "neon"}),
        ("emscripten-4.0.9-wasm32", {"baseline"}),
        ("linux-riscv64", {"baseline"}),
    ],
)
def test_targets_are_those_of_the_machine_to_compile_for(platform, targets):
    assert set(decided(_PYTHON_HOST_PLATFORM=platform)["targets"]) == targets


def test_a_changed_header_of_any_kernel_is_noticed():
    """Every header below kernels/ that bodies.h names is among those that a target's object depends on."""
    folder = ROOT / "cnncore" / "kernels"
    headers = decided()["headers"]
    assert len(headers) > 15
    for line in (folder / "bodies.h").read_text(encoding="utf-8").splitlines():
        if line.startswith("#include "):
            assert any(header.endswith(line.split('"')[1]) for header in headers), line


def test_switches_change_the_flags():
    plain, debug, sanitize = (decided(**{name: "1"}) for name in ("CNNCORE_NO", "CNNCORE_DEBUG", "CNNCORE_SANITIZE"))
    assert "-O3" in plain["flags"] and "-O1" in debug["flags"]
    assert "-fsanitize=address,undefined" in sanitize["flags"] and "-fsanitize=address,undefined" not in plain["flags"]
    assert not decided(CNNCORE_COVERAGE="1")["abi3"]


def test_avx512_kernels_can_be_emulated():
    here = {"_PYTHON_HOST_PLATFORM": "linux-x86_64"}
    assert not any("avx512" in flag for flag in decided(**here, CNNCORE_EMULATE="1")["targets"]["avx512"])
    assert "-mavx512f" in decided(**here)["targets"]["avx512"]


# ── What is installed beside modules ───────────────────────────────────────────────────────────────────────────────────


DATA = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "cnncore").rglob("*")
    if path.suffix in (".typed", ".pyi", ".pxd", ".css") or path.parent.name == "digits"
)


@pytest.mark.parametrize("name", DATA)
def test_data_files_are_installed(name):
    assert (Path(cnncore.__file__).parent.parent / name).is_file()
