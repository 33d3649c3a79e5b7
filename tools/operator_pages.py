"""The pages of the operators: docs/operators.md, a page per group, a page per operator. tools/generate.py writes them."""

import inspect

from formulas import formula_block
from paragraphs import wrapped

import cnncore
from cnncore.operators.documentation import symbols
from cnncore.operators.peers import PEERS, peers_sentence
from cnncore.operators.registry import GROUPS
from cnncore.operators.schema import REQUIRED
from cnncore.operators.source_files import source_files

TITLES = {
    "convolution": "Convolution",
    "pooling": "Pooling",
    "activation": "Activations",
    "layers": "Other layers",
    "arrays": "Arrays",
}

# What a course begins with. Of the others, those that another framework has are variants; the rest is research.
START = {
    "convolution": ("conv", "conv_transpose", "depthwise_conv", "separable_conv", "linear", "inception"),
    "pooling": ("max_pool", "avg_pool", "global_avg_pool", "adaptive_avg_pool", "lp_pool", "stochastic_pool",
                "spatial_pyramid_pool"),
    "activation": ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "silu", "gelu", "maxout", "softmax"),
    "layers": ("batch_norm", "local_response_norm", "dropout", "concat", "add", "flatten", "pad", "resize",
               "softmax_cross_entropy"),
    "arrays": ("multiply", "matmul", "reduce_mean", "reshape", "transpose", "gather", "where"),
}  # fmt: skip
LEVELS = ("Start here", "Variants", "Research")

HOW = (
    "The pictures are computed by the operators themselves (`tools/pictures.py`): the curves of y and of its derivative, or "
    "a small image x, y, and the gradient of x for dy = 1 at the framed element of y, with a frame around the elements of x "
    "on which this value depends. A title such as x[0, 1] is the index of the plane that is shown. Blue is positive, orange "
    "negative; all panels of a picture share one colour scale."
)


def index_page():
    """docs/operators.md: every operator in a line, group by group."""
    lines = [
        "# Operators",
        "",
        f"{len(cnncore.OPS)} operators, each with a page: its formula, its gradient, its edge cases, its source, its "
        "counterparts in other frameworks, and a picture. [Coverage](coverage.md) lists them by the literature; "
        "[accuracy](accuracy.md) gives the rounding errors of the activations. Written from the registry by "
        "`python tools/generate.py`; `python -m cnncore ops NAME` prints the same in a terminal.",
        "",
        'In each group, "start here" is what a course begins with, "variants" are operators that other frameworks have as '
        'well, and "research" are those that were published and that no other framework has.',
        "",
    ]
    for group in GROUPS:
        lines += [f"## [{TITLES[group]}](operators/{group}.md)", ""]
        for title, rows in by_level(group).items():
            lines += [
                f"### {title}: {TITLES[group].lower()}",
                "",
                "| operator | what it does | also in |",
                "|---|---|---|",
            ]
            for op in rows:
                peers = ", ".join(peer_frameworks(op.name))
                lines.append(f"| [{op.name}](operators/{op.name}.md) | {cell(op.summary)} | {peers} |")
            lines.append("")
    return "\n".join(wrapped(lines)).rstrip() + "\n"


def by_level(group):
    """Title → operators of a group, for those of LEVELS that it has."""
    found = {title: [] for title in LEVELS}
    for op in GROUPS[group]:
        if op.name in START[group]:
            title = "Start here"
        else:
            title = "Research" if op.literature and not PEERS[op.name] else "Variants"
        found[title].append(op)
    return {title: rows for title, rows in found.items() if rows}


def group_page(group):
    """docs/operators/<group>.md: a picture and a line per operator."""
    rows = GROUPS[group]
    lines = [f"# {TITLES[group]}", "", f"{len(rows)} operators. [All operators](../operators.md). {HOW}", ""]
    for title, level in by_level(group).items():
        lines += [f"## {title}", "", '<div class="thumbnails">', ""]
        lines += [f"* [![](pictures/{op.name}.svg) {op.name}]({op.name}.md) {cell(op.summary)}" for op in level]
        lines += ["", "</div>", ""]
    return "\n".join(wrapped(lines)).rstrip() + "\n"


def peer_frameworks(name):
    """The frameworks that have an operator, each once."""
    titles = {"torch": "PyTorch", "tensorflow": "TensorFlow", "keras": "Keras", "ONNX": "ONNX"}
    return dict.fromkeys(titles[peer.replace(".", " ").split()[0]] for peer in PEERS[name])


def operator_page(op):
    """docs/operators/<name>.md."""
    known_as = f" *Literature: {', '.join(op.literature)}.*" if op.literature else ""
    lines = [f"# {op.name}", "", f"{op.summary}{known_as} [{TITLES[op.group]}]({op.group}.md)", ""]
    lines += [f"`cnncore.{op.name}{op.__signature__}`", "", f"![{op.name}](pictures/{op.name}.svg)", ""]
    lines += ["## Formula", "", *formula_block(op.formula)]
    lines += ["## Gradient", "", "With dy = ∂L/∂y:", "", *formula_block(op.gradient)]
    lines += ["## Arguments", "", "| argument | default | meaning |", "|---|---|---|"]
    for array in op.arrays:
        lines.append(f"| `{array.name}` | {'None' if array.optional else 'array'} | {cell(array.meaning)} |")
    for setting in op.settings_list:
        default = "required" if setting.default is REQUIRED else f"`{setting.default!r}`"
        alias = f" (also `{setting.alias}`)" if setting.alias else ""
        lines.append(f"| `{setting.name}` | {default} | {cell(setting.meaning)}{alias} |")
    lines += ["", f"**Shape** {cell(op.shape)}", ""]
    lines += [*(f"* {cell(name)}: {cell(meaning)}" for name, meaning in symbols(op).items()), ""] if symbols(op) else []
    lines += [f"**Accumulation** {cell(op.accumulates)}.", ""]
    if op.edges:
        lines += ["**Edges**", "", *(f"* {cell(edge)}" for edge in op.edges), ""]
    lines += [f"**Source** {op.paper}", ""]
    lines += [f"**In other frameworks** {peers_sentence(op.name, '`{}`')}", ""]
    lines += [f"**Source code** {', '.join(f'`{file}`' for file in source_files(op))}", ""]
    lines += ["## Example", "", "```python", *inspect.cleandoc(op.example).splitlines(), "```", ""]
    return "\n".join(wrapped(lines)).rstrip() + "\n"


def cell(text):
    """Plain text as Markdown that may stand in a table."""
    return text.replace("*", "\\*").replace("|", "\\|").replace("\n", " ")
