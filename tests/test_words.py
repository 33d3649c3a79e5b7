"""The words of the field, and no other: what docs/architecture.md calls something is what the package calls it."""

import re

import pytest
from support.processes import ROOT

# An old word, where it may stand nevertheless, and the word of the field.
RETIRED = {
    r"\bKind\b": "Implementation",
    r"\bShelf\b|\bshelf\b": "PackedWeights, arena",
    r"\brelocated\b": "with_node_path",
    r"\bOwned\b": "ParameterSpec",
    r"\bmake_room\b": "check_size_limit",
    r"\btakes_epilogue\b": "fuses_activation",
    r"\btakes_pieces\b|\bcut_batch\b": "splits_batch",
    r"\bis_line\b|\btakes_line\b|\bwith_line\b": "is_affine, folds_affine, fold_affine",
    r"\bjudges?\b": "oracle",
    r"\bkitchen\b": "source copy",
    r"\b[Cc]atalogue\b": "registry; literature",
    r"\brow of the (registry|catalogue)\b": "operator schema",
    r"\bgood manners\b|\bletting the interpreter go\b|\blets the interpreter go\b": "releases the GIL",
    r"what it read rightly|read rightly of": "correctly classified",
    r"as if an enemy": "untrusted input",
    r"do(es)? not count around the image": "padding",
    r"[Pp]roves? every gradient|every gradient proven": "check",
    r"answered (rightly|wrongly)|(wrong|right) answers": "correctly classified, misclassified",
    r"came from elsewhere|comes? from elsewhere": "of another framework; loaded",
    r"hostile": "untrusted, malicious",
    r"branches run side by side|joined along (their )?channels": "branches are concatenated",
    r"cut from (its|the) middle": "centre crop",
    r"whole or not at all": "atomically",
    r"how an array passes through|[Oo]ne array passes through": "how a call is executed",
    r"letting go of the interpreter": "releases the GIL",
    r"\bfetch it again\b": "download it again",
    r"\bout of its range\b": "out of range",
    r"\bis another word\b": "is unknown",
    r"\barrays? of its own\b": "its own arrays",
    r"\b(packed|made|measured|drawn) anew\b": "again",
    r"\bas (it|they) lies?\b": "in place",
    r"\b(anybody|nobody|somebody) asks\b": "needed, on demand",
    r"brings? the (best|net|parameters)( parameters)? back": "restores",
    r"\bslid\b": "applied to every window, converted",
    r"\banew\b": "again",
    r"(?<!your )\bown images\b": "your own images",
    r"\brightly\b|\bwrongly\b": "correctly, incorrectly",
    r"as MPI likes": "in MPI's own order",
    r"\bsight\b": "receptive field",
    r"\bindifferen(t|ce) to\b": "invariant to",
    r"answers are right": "correctly classified",
    r"\bproofs? of (its|the|every|a) gradient|\bproves? (the|its|every|each) (gradient|kernel)": "check",
    r"(?m)^\s*(\"\"\")?Of (the|a|an|its|what|which|each|every|all|several|new|one)\b": "what it is, before of what",
}
FILES = sorted(
    path
    for pattern in ("cnncore/**/*.py", "cnncore/**/*.pyx", "cnncore/**/*.pxd", "cnncore/**/*.h", "docs/**/*.md", "*.md")
    for path in ROOT.glob(pattern)
)

pytestmark = pytest.mark.skipif(not (ROOT / "docs").exists(), reason="needs the source tree beside the tests")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_retired_words_are_gone(path):
    text = path.read_text(encoding="utf-8")
    text = text.partition("## Glossary")[0]  # which names the old words on purpose
    found = [f"{m[0]!r}: say {instead}" for old, instead in RETIRED.items() for m in re.finditer(old, text)]
    assert not found, found
