"""Write the results of docs/conformance.md: the frameworks that are installed, compared with all test vectors.

python tools/conformance.py                     compare, which takes minutes, and write
python tools/conformance.py results.json …      take results that `cnncore conform FRAMEWORK --json` wrote
"""

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path

from paragraphs import wrapped

import cnncore
from cnncore.operators.peers import PEERS
from cnncore.operators.registry import GROUPS
from cnncore.testing import conformance

PAGE = Path(__file__).resolve().parent.parent / "docs" / "conformance.md"
MARK = "<!-- From here on written by tools/conformance.py -->\n"
FRAMEWORKS = {"torch": "torch", "onnxruntime": "ONNX", "jax": "jax", "keras": "keras"}


def page(text, found):
    """The page with the results of each framework: name → (title, results as dicts)."""
    by_hand, mark, _ = text.partition(MARK)
    assert mark, f"{PAGE.name} has lost its line {MARK!r}"
    lines = ["## Results", ""]
    for title, results in found.values():
        counts = Counter(result["verdict"] for result in results)
        lines.append(f"* {title}: {counts['same']} calls the same, {counts['differs'] + counts['fails']} not, "
                     f"{counts['not expressible']} without counterpart")  # fmt: skip
    lines += [
        "",
        f"Both dtypes, of {len(cnncore.OPS)} operators. The limits are {conformance.LIMITS['float32']:.0e} and "
        f"{conformance.LIMITS['float64']:.0e} of the largest element. A number says how many calls are the same; "
        '"y" that gradients were not compared, "composed" that the framework has no such operator by itself and a composition '
        "of others was compared.",
        "",
        f"| operator | {' | '.join(title for title, _ in found.values())} |",
        f"|---|{'---|' * len(found)}",
    ]
    for rows in GROUPS.values():
        for op in rows:
            cells = [cell(op.name, name, results) for name, (_, results) in found.items()]
            if any(text != "–" for text in cells):
                lines.append(f"| [{op.name}](operators/{op.name}.md) | {' | '.join(cells)} |")
    lines += ["", "## Differences", ""]
    for title, results in found.values():
        differing = [result for result in results if result["verdict"] in ("differs", "fails")]
        lines += [f"* {title}, `{r['operator']}`, {r['case'].replace('*', '×')}, {r['rank']}-d, {r['dtype']}: {r['text']}"
                  for r in differing]  # fmt: skip
        lines += [f"* {title}: none"] * (not differing)
    return by_hand + mark + "\n" + "\n".join(wrapped(lines)) + "\n"


def cell(operator, framework, results):
    """What one framework makes of one operator."""
    mine = [result for result in results if result["operator"] == operator]
    counts = Counter(result["verdict"] for result in mine)
    wrong = counts["differs"] + counts["fails"]
    if not counts["same"] and not wrong:
        return "–"
    notes = [f"**{wrong} differ**"] if wrong else []
    real = cnncore.OPS[operator].yields == "real"
    if real and not any(result["gradients"] for result in mine):
        notes.append("y")
    if not any(peer.startswith(FRAMEWORKS.get(framework, framework)) for peer in PEERS.get(operator, ())):
        notes.append("composed")
    return f"{counts['same']}{' (' + ', '.join(notes) + ')' if notes else ''}"


def main():
    found = {}
    for path in sys.argv[1:]:
        read = json.loads(Path(path).read_text(encoding="utf-8"))
        name = next((n for n in FRAMEWORKS if n in read["framework"].lower().replace(" ", "")), path)
        found["torch" if "pytorch" in read["framework"].lower() else name] = (read["framework"], read["results"])
    if not found:
        for name in FRAMEWORKS:
            if importlib.util.find_spec(name):
                result = conformance.conform(name)
                found[name] = (result.framework, json.loads(result.to_json())["results"])
                print(str(result).splitlines()[-1])
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
