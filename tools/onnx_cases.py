"""Write docs/onnx_cases.md: ONNX's own cases of its operators that are not run by tests/io/test_onnx_nodes.py, and why not.

python tools/onnx_cases.py              # runs all cases: a minute
python tools/onnx_cases.py SwiGLU       # runs those of an operator; the others stay as the page has them
"""

import re
import sys
from pathlib import Path

import onnx
from paragraphs import wrapped

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "io")]

from test_onnx_nodes import all_cases, own_cases, skipped  # noqa: E402

from cnncore.io.onnx_import.load import OPERATORS  # noqa: E402
from cnncore.io.onnx_import.shapes import ON_NUMBERS  # noqa: E402

PAGE = ROOT / "docs" / "onnx_cases.md"


def all_reasons():
    """(how many cases there are, why those that are skipped are) of all cases."""
    reasons = {name: skipped(case) for name, case in all_cases().items()}
    return len(reasons), {name: reason for name, reason in reasons.items() if reason}


def renewed_reasons(operators):
    """The same as the page has it, except for the cases of ``operators``."""
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| (.*) \| (`.*`) \|$", text, flags=re.MULTILINE)
    reasons = {name: why.replace("\\|", "|") for why, names in rows for name in re.findall(r"`(\w+)`", names)}
    for operator in operators:
        for name, case in own_cases(operator).items():
            reasons.pop(name, None)
            if reason := skipped(case):
                reasons[name] = reason
    return int(re.search(r"of\s+the\s+(\d+)\s+cases", text)[1]), reasons


def page(cases, reasons):
    """The text of the page."""
    count, grouped = len(reasons), {}
    for name, reason in reasons.items():
        grouped.setdefault(reason, []).append(name)
    lines = [
        "# ONNX's own cases",
        "",
        f"`cnncore.io.load_onnx` imports {cases - count} of the {cases} cases of operators in the package "
        f"onnx {onnx.__version__}, and their results are those stored with the cases (`tests/io/test_onnx_nodes.py`). The "
        f"other {count} are not networks, or need what cnncore does not have. Written by `python tools/onnx_cases.py`.",
        "",
        f"**Operators that are imported** ({len(OPERATORS)}): {', '.join(sorted(OPERATORS))}.",
        "",
        "For numbers that the file holds, and for the sizes of images, also: "
        f"{', '.join(sorted(set(ON_NUMBERS) - set(OPERATORS)))}.",
        "",
        "| cases | why not | which |",
        "|---|---|---|",
    ]
    for reason, names in sorted(grouped.items(), key=lambda item: (-len(item[1]), item[0])):
        text = reason.replace("|", "\\|")
        lines.append(f"| {len(names)} | {text} | {', '.join(f'`{name}`' for name in sorted(names))} |")
    return "\n".join(wrapped(lines)) + "\n"


if __name__ == "__main__":
    asked = sys.argv[1:]
    PAGE.write_text(page(*(renewed_reasons(asked) if asked else all_reasons())), encoding="utf-8")
