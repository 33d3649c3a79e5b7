"""Formulas as the schemas have them, in plain Unicode, as Markdown whose mathematics is TeX.

    python tools/formulas.py NAME …     the formulas of some operators, or of all, in both forms

A line of a schema mixes mathematics and words: ``y = max xᵢ over the window's cells``. ``runs`` tells them apart, ``tex``
writes the mathematics, ``markdown`` puts both together: ``$y = \\max x_{i}$ over the window's cells``.
"""

import inspect
import re
import sys
from dataclasses import dataclass

RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ᵀˣᶻᵈᵖⁿ⁽⁾", "0123456789-+Txzdpn()", strict=True))
LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₍₎ᵢⱼₖₒₚᵣₜₙₗₘ", "0123456789+-()ijkoprtnlm", strict=True))
GREEK = {
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "Γ": r"\Gamma", "δ": r"\delta", "Δ": r"\Delta", "ε": r"\varepsilon",
    "η": r"\eta", "θ": r"\theta", "κ": r"\kappa", "λ": r"\lambda", "Λ": r"\Lambda",
    "μ": r"\mu", "ν": r"\nu", "π": r"\pi", "ρ": r"\rho",
    "σ": r"\sigma", "τ": r"\tau", "φ": r"\varphi", "Φ": r"\Phi", "χ": r"\chi", "ψ": r"\psi", "Ψ": r"\Psi",
    "ω": r"\omega", "Ω": r"\Omega",
}  # fmt: skip
SYMBOLS = {
    "∞": r"\infty", "…": r"\ldots", "ℓ": r"\ell", "½": r"\tfrac{1}{2}", "¼": r"\tfrac{1}{4}", "?": "?", "%": r"\%", "-": "-",
    **GREEK,
}  # fmt: skip
WIDE = 3  # so many spaces separate what does not belong together
LARGE = {"Σ": r"\sum", "Π": r"\prod", "∫": r"\int"}
PREFIXES = {"∂": r"\partial", "¬": r"\lnot"}
ACCENTS = {"\u0302": r"\hat", "\u0303": r"\tilde", "\u0304": r"\bar"}
# Between two operands: fractions end here, and a long formula may be broken before them.
BETWEEN = {
    "=": "=", "≠": r"\neq", "<": "<", ">": ">", "≤": r"\leq", "≥": r"\geq", "+": "+", "−": "-", "±": r"\pm", "·": r"\cdot",
    "×": r"\times", "⊙": r"\odot", "⊕": r"\oplus", "∧": r"\land", "∨": r"\lor", "∩": r"\cap", "∪": r"\cup", "←": r"\leftarrow",
    "→": r"\to", "+=": r"\mathrel{+}=",
}  # fmt: skip
OPENING = {"(": "(", "[": "[", "{": r"\{", "⌊": r"\lfloor", "⌈": r"\lceil"}
CLOSING = {")": ")", "]": "]", "}": r"\}", "⌋": r"\rfloor", "⌉": r"\rceil"}
BARS = {"|": (r"\left|", r"\right|"), "‖": (r"\left\|", r"\right\|")}
OF_TEX = {"max", "min", "log", "ln", "sin", "cos", "tan", "tanh", "sinh", "cosh", "arcsin", "arccos", "arctan", "exp"}
FUNCTIONS = {*OF_TEX, "sech", "arsinh", "arcosh", "artanh", "erf", "sign", "sgn", "trunc", "tr", "cas", "mod"}
NAMES = {"lo", "hi", "ki", "ko", "ck", "hw", "hρ", "HW", "onehot", "True", "False", "None"}
DIFFERENTIAL = re.compile(r"d([A-Za-hj-np-zΔρλα]|target|grid|value|betas|out)([0-9]?)")
NUMBERED = re.compile(r"([a-z])([0-9])")
TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<setting>[a-z][a-z_]+=(?:\"\w+\"|'\w+'|True|False|None|\d+))|(?P<quoted>\"\w+\"|'\w+')"
    r"|(?P<prose>'s\b|[A-Za-z]{2,}'s|[A-Za-z0-9]+(?:-[A-Za-z]+)+)|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<accent>[A-Za-zα-ω][\u0302-\u0304])|(?P<differential>d[Δρλα])|(?P<word>[A-Za-z][A-Za-z0-9]*(?:_(?=[a-z]{2,})[a-z]+)*)"
    r"|(?P<script>[\^_])|(?P<join>\+=)|(?P<raised>[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ᵀˣᶻᵈᵖⁿ⁽⁾]+)|(?P<lowered>[₀-₎ᵢⱼₖₒₚᵣₜₙₗₘ]+)|(?P<prime>[′'])"
    r"|(?P<other>.)"
)


@dataclass
class Token:
    """A token of a line; ``spaced`` is the number of spaces before it."""

    kind: str
    text: str
    spaced: int = 0
    mathematics: bool = False
    words: bool = False  # a word, though it is in the brackets of a formula


# ── Mathematics and words ──────────────────────────────────────────────────────────────────────────────────────────────


def tokens(line):
    """The tokens of a line without its spaces, each told mathematics from words."""
    found, spaced = [], 0
    for match in TOKEN.finditer(line):
        if match.lastgroup == "space":
            spaced = len(match.group())
            continue
        subscripted = re.fullmatch(r"(max|min|bin|cell|[A-Za-z]|d[a-z])_([a-z]+)", match.group())
        if subscripted and not (subscripted[1] in ("max", "min") and len(subscripted[2]) > 1):
            found += [Token("word", subscripted[1], spaced), Token("script", "_"), Token("word", subscripted[2])]
        else:
            found.append(Token(match.lastgroup, match.group(), spaced))
        spaced = 0
    for i, token in enumerate(found):
        token.mathematics = is_mathematics(found, i)
        token.words = not token.mathematics and token.kind in ("word", "prose")
    for first, last in bracketed(found):
        mark_brackets(found, first, last)
    return found


def is_mathematics(found, i):
    """Whether a token by itself, and by its neighbours, is part of a formula; brackets are looked at later."""
    token = found[i]
    before, after = (found[j] if 0 <= j < len(found) else Token("other", "") for j in (i - 1, i + 1))
    if token.kind in ("setting", "quoted", "prose"):
        return False
    if token.kind != "word":
        return token.text not in (",", ";", ":", ".", "?", "-")
    text = token.text
    if "_" in text or len(text) > 2:
        touching = {before.text, after.text} & {*BETWEEN, "/"} or before.kind == "script"
        if "_" in text or after.kind in ("script", "raised", "lowered"):
            return bool(touching) or after.kind in ("script", "raised", "lowered")
    if before.kind == "script" or after.kind in ("script", "raised", "lowered"):
        return True
    if text in ("a", "A", "I"):  # letters, and words
        return not (after.kind in ("word", "prose") and len(after.text) > 2 and after.text not in FUNCTIONS)
    called = after.text == "(" and not after.spaced
    if text in ("max", "min") and after.text == ":":  # a case, not a function
        return False
    return len(text) == 1 or text in FUNCTIONS | NAMES or bool(DIFFERENTIAL.fullmatch(text)) or called or (
        bool(NUMBERED.fullmatch(text))
    )  # fmt: skip


def bracketed(found):
    """(first, last) of every pair of brackets, inner pairs first; a bracket without its partner is in none."""
    stack, pairs = [], []
    for i, token in enumerate(found):
        if token.text in OPENING:
            stack.append(i)
        elif token.text in CLOSING and stack:
            pairs.append((stack.pop(), i))
    for i in stack:
        found[i].mathematics = False
    return pairs


def mark_brackets(found, first, last):
    """Words in brackets make the brackets part of the text; otherwise commas and names in them are mathematics."""
    inside = found[first + 1 : last]
    indexes = found[first].text == "[" and not found[first].spaced  # y[labels of y]
    called = found[first].text == "(" and first > 0 and not found[first].spaced and found[first - 1].mathematics
    words = [t for t in inside if not t.mathematics and t.kind in ("word", "prose", "setting", "quoted")]
    if words and not indexes and not called and any(not adjoins(found, t) for t in words):
        found[first].mathematics = found[last].mathematics = False
        return
    for token in inside:
        token.mathematics = True
        token.words = token.words and not adjoins(found, token)


def adjoins(found, token):
    """Whether a name stands beside a sign of arithmetic, as in ``C / groups``."""
    i = next(j for j, other in enumerate(found) if other is token)
    return token.kind == "word" and any(found[j].text in {*BETWEEN, "/"} for j in (i - 1, i + 1))


def runs(line):
    """(whether it is mathematics, tokens) of the stretches of a line."""
    stretches = []
    for token in tokens(line):
        if stretches and stretches[-1][0] == token.mathematics and token.spaced < WIDE:
            stretches[-1][1].append(token)
        else:
            stretches.append((token.mathematics, [token]))
    return stretches


# ── TeX ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Item:
    """A part of a formula that a fraction takes as a whole. ``kind``: atom, group, large, between, comma or slash."""

    kind: str
    tex: str
    inner: str = ""  # of a group in round brackets: what is in them
    tight: bool = False  # of a slash: no spaces around it
    length: int = 1


class Reader:
    """Reads the tokens of a formula into items."""

    def __init__(self, found, script=False):
        self.found, self.place, self.script = found, 0, script

    def items(self):
        """All items, with fractions made where that does not change what is divided."""
        result = []
        while self.place < len(self.found):
            attached = self.place and not self.found[self.place].spaced and self.found[self.place].text in ("(", "[")
            item = self.item()
            if result and attached and result[-1].kind in ("atom", "group"):
                last = result.pop()
                item = Item("atom", last.tex + item.tex, length=last.length + item.length)
            result.append(item)
        return result if self.script else fractions(result)

    def item(self):
        """The next item, with its scripts."""
        token = self.found[self.place]
        self.place += 1
        text = token.text
        if text in BETWEEN:
            return Item("between", BETWEEN[text])
        if text in ",;:.":
            return Item("comma", text)
        if text == "/":
            after = self.found[self.place] if self.place < len(self.found) else token
            return Item("slash", "/", tight=not token.spaced and not after.spaced)
        if text in LARGE:
            return self.scripts(Item("large", LARGE[text]))
        if text in PREFIXES:
            operand = self.item()
            return Item("atom", f"{PREFIXES[text]} {operand.tex}", length=operand.length + 1)
        if text == "√":
            operand = self.item_without_scripts()
            return self.scripts(Item("atom", rf"\sqrt{{{operand.inner or operand.tex}}}", length=operand.length + 1))
        self.place -= 1
        return self.scripts(self.item_without_scripts())

    def item_without_scripts(self):
        """A bracket with what is in it, or a single token."""
        token = self.found[self.place]
        self.place += 1
        if token.text in OPENING or token.text in BARS:
            last = self.partner()
            if last is not None:
                inside = Reader(self.found[self.place : last], self.script).items()
                self.place = last + 1
                inner, length = joined(inside), sum(item.length for item in inside) + 2
                if token.text in BARS:
                    return Item("atom", f"{BARS[token.text][0]} {inner} {BARS[token.text][1]}", length=length)
                closing = CLOSING[self.found[last].text]
                tex = f"{OPENING[token.text]} {inner} {closing}" if "\\" in closing else f"{token.text}{inner}{closing}"
                if r"\frac" in inner or r"\sum" in inner:
                    tex = rf"\left{OPENING[token.text]} {inner} \right{closing}"
                return Item("group", tex, inner if token.text == "(" else "", length=length)
        if token.words:
            text = [token.text]
            while self.place < len(self.found) and self.found[self.place].words:
                text.append(self.found[self.place].text)
                self.place += 1
            return Item("atom", rf"\text{{{' '.join(text)} }}".replace("_", r"\_"), length=len(" ".join(text)))
        return Item("atom", atom(token), length=len(token.text))

    def partner(self):
        """The place of the bracket, or bar, that ends the one before ``place``."""
        opening, depth = self.found[self.place - 1].text, 0
        for i in range(self.place, len(self.found)):
            text = self.found[i].text
            if depth == 0 and (text == opening if opening in BARS else text in CLOSING):
                return i
            depth += (text in OPENING) - (text in CLOSING)
        return None

    def scripts(self, item):
        """The item with the scripts and primes that follow it."""
        raised, lowered, prime = "", "", ""
        while self.place < len(self.found):
            token = self.found[self.place]
            if token.kind == "raised":
                raised += "".join(RAISED[c] for c in token.text)
            elif token.kind == "lowered":
                lowered += "".join(LOWERED[c] for c in token.text)
            elif token.kind == "prime" and not token.spaced:
                prime += r"\prime"
            elif token.kind == "script" and self.place + 1 < len(self.found):
                self.place += 1
                content = self.content()
                raised, lowered = (raised + content, lowered) if token.text == "^" else (raised, lowered + content)
                continue
            else:
                break
            self.place += 1
        if raised or lowered or prime:
            below = f"_{{{lowered}}}" if lowered else ""
            above = f"^{{{prime}{raised}}}" if prime or raised else ""
            item = Item("large" if item.kind == "large" else "atom", item.tex + below + above, length=item.length + 1)
        return item

    def content(self):
        """What is after ^ or _: something in brackets, or one item with its sign."""
        reader = Reader(self.found[self.place :], script=True)
        sign = "-" if reader.found[0].text == "−" else ""
        reader.place = len(sign)
        if reader.found[reader.place].text in ("{", "("):
            reader.place += 1
            last = reader.partner()
            inside = joined(Reader(reader.found[reader.place : last], script=True).items())
            self.place += last + 1
            return sign + inside
        item = reader.item_without_scripts()
        if reader.place < len(reader.found) and reader.found[reader.place].kind == "lowered":
            item = reader.scripts(item)
        self.place += reader.place
        return sign + item.tex


def atom(token):
    """TeX of a single token."""
    text = token.text
    if token.kind == "accent":
        return f"{ACCENTS[text[1]]}{{{SYMBOLS.get(text[0], text[0])}}}"
    if text in SYMBOLS:
        return SYMBOLS[text]
    if token.kind in ("setting", "quoted") or "_" in text:
        return r"\text{" + text.replace("_", r"\_").replace('"', "''") + "}"
    if token.kind in ("number", "prime") or (len(text) == 1 and (text.isascii() or text.isalpha())):
        return {"{": r"\{", "}": r"\}", "|": r"\vert"}.get(text, text)
    if token.kind == "differential" or ((match := DIFFERENTIAL.fullmatch(text)) and not match[2]):
        rest = text[1:]
        return "d" + (SYMBOLS.get(rest, rest) if len(rest) == 1 else rf"\mathit{{{rest}}}")
    if match:
        return rf"d{match[1]}_{{{match[2]}}}"
    if match := NUMBERED.fullmatch(text):
        return f"{match[1]}_{{{match[2]}}}"
    if text in FUNCTIONS:
        return f"\\{text}" if text in OF_TEX else rf"\operatorname{{{text}}}"
    if token.kind in ("word", "prose"):
        if len(text) == 2 and text not in ("lo", "hi"):  # a product of two letters
            return " ".join(GREEK.get(letter, letter) for letter in text)
        return rf"\mathit{{{text}}}" if text.isalpha() else rf"\text{{{text}}}"
    raise ValueError(f"the notation has no {text!r}: add it to a table of tools/formulas.py")


def fractions(items):
    """a/b of two items, and a b / c d of two products, as fractions."""
    result = []
    queue = list(items)
    while queue:
        item = queue.pop(0)
        if item.kind == "slash" and item.tight and result and queue and result[-1].kind in ("atom", "group"):
            result.append(fraction([result.pop()], [queue.pop(0)]))
        else:
            result.append(item)
    items, result = result, []
    while items:
        item = items.pop(0)
        if item.kind == "slash" and result and items and result[-1].kind in ("atom", "group"):
            above, below = numerator(result), []
            while items and items[0].kind in ("atom", "group", "large"):
                below.append(items.pop(0))
            above = kept_in_sum(result, above, below)
            result.append(fraction(above, below))
        else:
            result.append(item)
    return result


def numerator(result):
    """Take the product at the end of ``result``."""
    above = []
    while result and result[-1].kind in ("atom", "group", "large"):
        above.insert(0, result.pop())
    return above


def kept_in_sum(result, above, below):
    """The numerator without its sum, which goes back to ``result``, where each term is divided by another number."""
    places = [i for i, item in enumerate(above) if item.kind == "large"]
    varies = not any(item.kind == "large" for item in below) and any(
        re.search(r"_\{[ij]\}|_[ij]", i.tex) for i in below
    )
    if places and varies:
        result += above[: places[-1] + 1]
        above = above[places[-1] + 1 :]
    return above


def fraction(above, below):
    """A fraction; brackets around all of its numerator or denominator are not needed."""
    parts = [side[0].inner if len(side) == 1 and side[0].inner else joined(side) for side in (above, below)]
    return Item(
        "atom", rf"\frac{{{parts[0]}}}{{{parts[1]}}}", length=max(sum(i.length for i in s) for s in (above, below))
    )


def joined(items):
    """The TeX of items one after the other."""
    return " ".join(item.tex for item in items).replace(" ,", ",")


def tex(found, longest=24):
    """The TeX of a formula, in pieces between which a line may be broken: before a sign, when enough came before it."""
    pieces, length = [[]], 0
    for item in Reader(found).items():
        breakable = item.kind == "between" and length >= longest / (2 if item.tex == "=" else 1)
        if breakable:
            pieces.append([Item("atom", "{}", length=0)])
            length = 0
        pieces[-1].append(item)
        length += item.length
    return [joined(piece) for piece in pieces]


# ── Markdown ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def markdown(line):
    """A line of a formula as Markdown."""
    out = ["&emsp;"] if line.startswith("  ") else []
    for mathematics, found in runs(line.strip()):
        gap = "&emsp;" if found[0].spaced >= WIDE else " " if found[0].spaced else ""
        out.append(gap + (" ".join(f"${piece}$" for piece in tex(found)) if mathematics else words(found)))
    return "".join(out).strip(" ")


def words(found):
    """Words between formulas, with names and settings as code."""
    text = ""
    for i, token in enumerate(found):
        code = token.kind in ("setting", "quoted") or (token.kind == "word" and "_" in token.text)
        shown = f"`{token.text}`" if code else re.sub(r"([*_\[\]|<>\\])", r"\\\1", token.text)
        text += (" " if token.spaced and i else "") + shown
    return text


def formula_block(text):
    """The lines of a formula as a block of Markdown, which a stylesheet can find."""
    lines = [markdown(line) for line in inspect.cleandoc(text).splitlines()]
    return ['<div class="formula">', "", *(f"{line}\\" for line in lines[:-1]), lines[-1], "", "</div>", ""]


def main():
    import cnncore

    for name in sys.argv[1:] or cnncore.OPS:
        op = cnncore.OPS[name]
        for text in (op.formula, op.gradient):
            for line in inspect.cleandoc(text).splitlines():
                print(f"{name}\n    {line}\n    {markdown(line)}")


if __name__ == "__main__":
    main()
