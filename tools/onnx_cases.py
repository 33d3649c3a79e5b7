"""Write docs/onnx_cases.md: ONNX's own cases of its operators that are not run by tests/io/test_onnx_nodes.py, and why not.

python tools/onnx_cases.py
"""

import sys
from pathlib import Path

import onnx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from test_onnx_nodes import all_cases, skipped  # noqa: E402

from cnncore.io.onnx_import.load import OPERATORS  # noqa: E402
from cnncore.io.onnx_import.shapes import ON_NUMBERS  # noqa: E402


def page():
    """The text of the page."""
    cases, reasons = all_cases(), {}
    for name, case in cases.items():
        reason = skipped(case)
        if reason:
            reasons.setdefault(reason, []).append(name)
    count = sum(map(len, reasons.values()))
    lines = [
        "# ONNX's own cases",
        "",
        f"Of the {len(cases)} cases of operators in the package onnx {onnx.__version__} `cnncore.io.load_onnx` imports "
        f"{len(cases) - count}, and their results are those stored with the cases (`tests/io/test_onnx_nodes.py`). The other "
        f"{count} are no networks, or need what cnncore does not have. Written by `python tools/onnx_cases.py`.",
        "",
        f"**Operators that are imported** ({len(OPERATORS)}): {', '.join(sorted(OPERATORS))}.",
        "",
        "Of numbers that the file holds, and of the sizes of images, also: "
        f"{', '.join(sorted(set(ON_NUMBERS) - set(OPERATORS)))}.",
        "",
        "| cases | why not | which |",
        "|---|---|---|",
    ]
    for reason, names in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])):
        text = reason.replace("|", "\\|")
        lines.append(f"| {len(names)} | {text} | {', '.join(f'`{name}`' for name in names)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "onnx_cases.md").write_text(page(), encoding="utf-8")
