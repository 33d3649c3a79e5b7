"""Write what is derived from the registry: type stubs; docs/operators.md, docs/operators/, docs/coverage.md,
docs/pooling_grid.md, docs/networks.md, docs/exercises/, and the tables of docs/interchange.md.

    python tools/generate.py            write the files
    python tools/generate.py --check    write nothing; exit 1 if a file is out of date

The installed cnncore is inspected, so that the stubs describe what actually runs.
"""

import argparse
import inspect
import sys
from pathlib import Path

import numpy as np
from literature import ENTRIES
from notebooks import EXERCISES, notebook
from operator_pages import cell, group_page, index_page, operator_page
from paragraphs import wrapped
from pictures import picture
from stubs import stubs

import cnncore
from cnncore import models
from cnncore.errors import CnnError
from cnncore.io.onnx_export.export import alone, written
from cnncore.io.onnx_export.nodes import REFUSED
from cnncore.operators.registry import GRIDS, GROUPS

ROOT = Path(__file__).resolve().parent.parent

# ── Documentation ──────────────────────────────────────────────────────────────────────────────────────────────────────


def grid_page():
    """docs/pooling_grid.md: which strategies can be combined with which windows."""
    lines = [
        "# Pooling: strategies on windows",
        "",
        "`cnncore.pool(x, strategy=…, windows=…, **settings)` combines any strategy with any windows, for 1 to 3 spatial axes, "
        "and has a gradient; so does `g.pool(h, strategy=…, windows=…)` in a graph. A name in the table is the operator of "
        "that pair, which is listed in [operators.md](operators.md). Written by `python tools/generate.py`; "
        "`python -m cnncore ops pool` prints the table, `python -m cnncore check pool` checks every gradient.",
        "",
    ]
    for grid in GRIDS.values():
        lines += [
            f"{len(grid.strategies)} strategies × {len(grid.schemes)} kinds of windows: {len(grid.pairs)} operators.",
            "",
        ]
        lines += [grid.table(), ""]
    return "\n".join(wrapped(lines)).rstrip() + "\n"


def coverage_page():
    """docs/coverage.md: the operators of the literature, and the operators that cover them."""
    named = {}
    for op in cnncore.OPS.values():
        for entry in op.literature:
            named.setdefault(entry, []).append(op)
    covered = [entry for entry in ENTRIES if entry in named]
    lines = [
        "# Coverage",
        "",
        f"{len(covered)} of the {len(ENTRIES)} operators of the literature that cnncore aims to cover: convolutions (C), "
        "pooling (P), activations (A), other layers (L). Written by `python tools/generate.py` from the `literature` ids of the "
        "schemas.",
        "",
    ]
    if len(covered) < len(ENTRIES):
        lines += [f"Missing: {', '.join(f'{e} ({ENTRIES[e]})' for e in ENTRIES if e not in named)}.", ""]
    lines += ["| id | in the literature | operators |", "|---|---|---|"]
    for entry, title in ENTRIES.items():
        links = ", ".join(f"[{op.name}](operators/{op.name}.md)" for op in named.get(entry, ())) or "missing"
        lines.append(f"| {entry} | {cell(title)} | {links} |")
    unknown = sorted(set(named) - set(ENTRIES))
    if unknown:
        lines += ["", f"Further operators: {', '.join(named[e][0].name for e in unknown)}."]
    return "\n".join(wrapped(lines)) + "\n"


INTERCHANGE_MARK = "<!-- From here on written by tools/generate.py -->\n"


def interchange_page():
    """docs/interchange.md: what is written by hand, and the table of operators in ONNX."""
    page = (ROOT / "docs" / "interchange.md").read_text(encoding="utf-8")
    by_hand, mark, _ = page.partition(INTERCHANGE_MARK)
    assert mark, f"docs/interchange.md has lost its line {INTERCHANGE_MARK!r}"
    rows, counts = [], {"one node": 0, "a composition": 0, "refused": 0}
    for group in GROUPS.values():
        for op in group:
            nodes, needs_size, reason = form_in_onnx(op)
            if reason:
                text, kind = f"– ({reason})", "refused"
            else:
                text = ", ".join(f"`{name}`" for name in dict.fromkeys(nodes))
                text += " (size known)" if needs_size else ""
                kind = "one node" if len(nodes) == 1 else "a composition"
            counts[kind] += 1
            rows.append(f"| [{op.name}](operators/{op.name}.md) | {kind} | {text} |")
    lines = [
        "## Operators in ONNX files",
        "",
        f"How `save_onnx` writes the first case of each operator: {counts['one node']} as one node, {counts['a composition']} as "
        f'a composition, {counts["refused"]} not at all. "Size known" means that an open image size must be fixed by '
        "`input_shape=`. All pairs of strategy and windows of `cnncore.pool` can be written, except regions of interest.",
        "",
        "| operator | in ONNX | nodes |",
        "|---|---|---|",
        *rows,
    ]
    return by_hand + mark + "\n" + "\n".join(wrapped(lines)) + "\n"


def form_in_onnx(op):
    """(nodes, whether the image size must be known, why there are none) of the first case that a graph can hold."""
    reason = REFUSED.get(op.name)
    for case in () if reason else op.cases:
        rank = 2 if 2 in case.ranks else max(case.ranks)
        settings = {k: v for k, v in case.settings.items() if k != "training" and not k.startswith("return_")}
        rows = op.rows(len(op.arrays))
        arrays = case.sample(rank, np.float32)
        if op.name == "batch_norm" and len(arrays) < 5:
            continue  # without running statistics there is no inference
        arrays = [None if row.role != "real" and row.optional else a for row, a in zip(rows, arrays, strict=False)] + [
            *arrays[len(rows) :]
        ]
        net = alone(op, arrays, settings, size="known")
        if net is None:
            continue
        nodes = [node.op_type for node in written(net).nodes]
        try:
            written(alone(op, arrays, settings))
        except CnnError:
            return nodes, True, ""
        return nodes, False, ""
    return [], False, reason or "its arrays cannot be values of a graph"


# Further networks of a function, beside that of its defaults.
VARIANTS = {
    "googlenet": ({"norm": "batch"}, {"aux": True}),
    "vgg": tuple({"configuration": configuration} for configuration in "ABCE"),
    "resnet18": ({"layers": 34},),
    "resnet50": ({"layers": 101}, {"layers": 152}),
    "mobilenet_v2": ({"alpha": 0.5}, {"alpha": 1.4}),
}
IMAGES = {"small_inception": 28, "network_in_network": 32, "all_convolutional": 32}


def networks_page():
    """docs/networks.md: the networks of cnncore.models, with counts computed from the graphs."""
    lines = [
        "# Networks",
        "",
        "Each function of `cnncore.models` builds its network in code that follows the paper's figure. `cnncore summary NAME` "
        "lists its layers, `net.draw()` draws it, and `cnncore train --network NAME` trains it. "
        "[interchange.md](interchange.md) explains how to load weights of other frameworks. Written by "
        "`python tools/generate.py`. All counts are computed from the graphs; multiply-adds are those of one image of the size "
        "in the table.",
        "",
        "| network | source | image | last feature map | parameters | multiply-adds |",
        "|---|---|---|---|---:|---:|",
    ]
    for name, make in models.NETWORKS.items():
        module = sys.modules[make.__module__]
        source = (
            inspect.cleandoc(module.__doc__).splitlines()[0].partition(": ")[2].rstrip(".") or "here, for 28×28 digits"
        )
        for settings in ({}, *VARIANTS.get(name, ())):
            function = models.resnet if "layers" in settings else make
            net = function(**settings, seed=None)
            channels = net.graph.inputs[0].channels
            size = net.graph.inputs[0].size[0] or IMAGES.get(name, 224)
            table = net.summary((1, channels, size, size))
            maps = [row.output[1:] for row in table.rows if len(row.output) == 4 and max(row.output[2:]) > 1]
            given = ", ".join(f"{key}={value!r}" for key, value in settings.items())
            open_size = None in net.graph.inputs[0].size
            lines.append(
                f"| `{function.__name__}({given})` | {cell(source) if not settings else ''} | {size}×{size}"
                f"{', any' if open_size else ''} | {' × '.join(map(str, maps[-1]))} | {table.parameters:,} | "
                f"{table.multiply_adds:,} |"
            )
    lines += [
        "",
        "Modules for networks of your own: `inception_module` (figure 2b of Szegedy et al. 2015), `naive_inception_module` "
        "(figure 2a). `net.to_fully_convolutional()` applies a classifier to every window of larger "
        "images, `net.with_classes(n)` replaces the "
        "classifier, and `net.with_outputs(…)` returns the values of other nodes. What an Inception network does with its "
        "branches: [inception_study.md](inception_study.md).",
        "",
        "```python",
        ">>> import numpy as np, cnncore",
        ">>> net = cnncore.models.resnet18(classes=10)",
        ">>> photo = np.zeros((1, 3, 96, 160), np.float32)",
        ">>> net(photo).shape, net.with_classes(3)(photo).shape, net.with_outputs('average')(photo).shape",
        "((1, 10), (1, 3), (1, 512))",
        ">>> net.to_fully_convolutional()(photo).shape       # a map per class; its mean is the score",
        "(1, 10, 3, 5)",
        ">>> vgg = cnncore.models.vgg('A', classes=10, size=32, seed=None)  # linear layers fix the size",
        ">>> vgg.to_fully_convolutional()(photo).shape       # as convolutions they cover all 32×32 windows",
        "(1, 10, 3, 5)",
        "",
        "```",
    ]
    return "\n".join(wrapped(lines)) + "\n"


# ── Files ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def generated_files():
    """Path → text of every generated file."""
    docs = ROOT / "docs"
    files = {
        **stubs(),
        docs / "operators.md": index_page(),
        docs / "coverage.md": coverage_page(),
        docs / "pooling_grid.md": grid_page(),
        docs / "interchange.md": interchange_page(),
        docs / "networks.md": networks_page(),
    }
    files |= {docs / "exercises" / f"{name}.ipynb": notebook(name) for name in EXERCISES}
    for group, rows in GROUPS.items():
        files[docs / "operators" / f"{group}.md"] = group_page(group)
        files |= {docs / "operators" / f"{op.name}.md": operator_page(op) for op in rows}
    return files


def generated_pictures(names):
    """Path → SVG of every operator's picture; None for those that are not among ``names``, if there are any."""
    folder = ROOT / "docs" / "operators" / "pictures"
    return {
        folder / f"{op.name}.svg": picture(op) if not names or op.name in names else None for op in cnncore.OPS.values()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 if a file is out of date")
    parser.add_argument("names", nargs="*", help="draw the pictures of these operators only; pages are all written")
    options = parser.parse_args()
    pictures = generated_pictures(options.names)
    files = {**generated_files(), **pictures}
    stale = []
    for path, text in files.items():
        if text is None or (path.exists() and path.read_text(encoding="utf-8") == text):
            continue
        # A shade may differ with another C library: existing pictures are not compared.
        if options.check and path in pictures and path.exists():
            continue
        stale.append(path.relative_to(ROOT).as_posix())
        if not options.check:
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text, encoding="utf-8")
    folder = ROOT / "docs" / "operators"
    for path in {*folder.glob("*.md"), *folder.glob("pictures/*.svg")} - set(files):
        stale.append(f"{path.relative_to(ROOT).as_posix()} (of no operator)")
        if not options.check:
            path.unlink()
    if options.check and stale:
        sys.exit(f"out of date: {', '.join(stale)}; run python tools/generate.py")
    print(f"{'current' if not stale else 'written: ' + ', '.join(stale)}")


if __name__ == "__main__":
    main()
