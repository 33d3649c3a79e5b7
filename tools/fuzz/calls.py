"""Sequences of hostile calls of one operator, and what they must agree with.

A *plan* is JSON and says everything about a sequence; :func:`plan` draws one from a seed, :func:`run` carries it out. Every call
is made by an operator that remembers the calls before it, with hostile layouts, on the CPU's best target and several threads. It
must give

* the bits of an operator without memory, on one thread;
* the numbers of the reference implementation on ordinary copies of the arrays, to rounding, wherever no contagious value
  (NaN, infinity, 1e30) reaches; what contagious values reach is worked out by the reference implementation;
* or the same error from both, a CnnError or MemoryError that names the operator.
"""

import dataclasses
import random
import warnings

import numpy as np

import cnncore
from cnncore import CnnError
from cnncore.runtime import dispatch

from . import arrays as hostile
from .values import decode, encode, mutated
from .wrong import Wrong

# Largest difference from the reference implementation, relative to the largest number of an output.
TOLERANCE = {"f": 3e-4, "d": 1e-10}
LARGEST_REFERENCE = 3_000_000  # numbers of an output that the reference implementation is asked for
NAMES = list(cnncore.OPS)


# ── Drawing ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def plan(seed):
    """The sequence of calls that a seed stands for."""
    choice = random.Random(seed)
    op = cnncore.OPS[choice.choice(NAMES)]
    call = first_call(choice, op)
    calls = [call]
    for _ in range(choice.choice((0, 0, 1, 2, 4))):
        call = changed_call(choice, op, call)
        calls.append(call)
    return {
        "part": "calls",
        "op": op.name,
        "threads": choice.choice((1, 2, 3)),
        "target": choice.choice(cnncore.cpu.targets()[1:] or ["reference"]),
        "calls": calls,
    }


def first_call(choice, op):
    """A case of the operator, of other extents, with up to three things changed."""
    number = choice.randrange(len(op.cases))
    case = op.cases[number]
    size = {}
    if choice.random() < 0.5:
        size["batch"] = choice.choice((0, 1, 1, 2, 3))
    if choice.random() < 0.4:
        size["channels"] = choice.choice((0, 1, 2, 4, 5, 8, 9, 16, 17, 33))
    if choice.random() < 0.6:
        size["spatial"] = choice.choice((0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33))
    call = {
        "case": number,
        "size": size,
        "rank": choice.choice(case.ranks),
        "dtype": choice.choice(("float32", "float64")),
        "seed": choice.randrange(1000),
        "settings": {n: encode(v) for n, v in case.settings.items()},
        "edits": [],
        "layouts": {},
        "positional": False,
        "dy": None,
        "out": None,
    }
    for _ in range(choice.choice((0, 1, 1, 2, 3))):
        call = changed_call(choice, op, call)
    return call


def changed_call(choice, op, call):
    """The call with one thing changed."""
    call = {**call, "settings": dict(call["settings"]), "edits": list(call["edits"]), "layouts": dict(call["layouts"])}
    what = choice.choice(("setting", "setting", "setting", "array", "array", "layout", "layout", "dy", "out", "other"))
    sample = sampled(op, call)
    places = [i for i, a in enumerate(sample) if a is not None]
    if what == "setting" and op.settings:
        name = choice.choice(list(op.settings))
        now = decode(call["settings"].get(name, encode(op.settings[name])))
        call["settings"][name] = encode(mutated(choice, now))
    elif what == "array" and places:
        place = choice.choice(places)
        call["edits"].append([place, hostile.edit(choice, sample[place])])
    elif what == "layout" and places:
        call["layouts"][str(choice.choice(places))] = choice.choice(list(hostile.LAYOUTS))
    elif what == "dy":
        call["dy"] = choice.choice(("wrong shape", "wrong dtype", "special", *hostile.LAYOUTS))
    elif what == "out":
        call["out"] = choice.choice(("shorter", "other dtype", "overlap", *hostile.LAYOUTS))
    else:
        call["seed"], call["positional"] = choice.randrange(1000), choice.random() < 0.5
        call["dtype"] = choice.choice(("float32", "float64"))
    return call


# ── Carrying out ───────────────────────────────────────────────────────────────────────────────────────────────────────


def sampled(op, call):
    """The arrays of a call before they are edited."""
    case = op.cases[min(call["case"], len(op.cases) - 1)]
    rank = call["rank"] if call["rank"] in case.ranks else case.ranks[0]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return case.but(**call["size"]).sample(rank, call["dtype"], call["seed"])
        except (ValueError, IndexError, ZeroDivisionError):  # a case whose other arrays cannot follow these extents
            return case.sample(rank, call["dtype"], call["seed"])


def edited(op, call, calm=False):
    """The arrays of a call; ``calm``: NaN for every contagious value, to see where those reach."""
    arrays = list(sampled(op, call))
    for place, change in call["edits"]:
        if place < len(arrays) and arrays[place] is not None:
            if calm and change[0] == "special" and change[1] in hostile.CONTAGIOUS:
                change = ["special", "nan", change[2]]
            arrays[place] = hostile.apply(arrays[place], change)
    return arrays


def arguments(op, call, given):
    """Arguments and settings as they are passed."""
    settings = {name: decode(value) for name, value in call["settings"].items()}
    given = list(given)
    if call["positional"] and not op.variadic:
        given += [None] * (len(op.arrays) - len(given))
        for name in op.settings:
            if name not in settings:
                break
            given.append(settings.pop(name))
    return given, settings


def output_gradient(call, y):
    """dy for both passes, as the call wants it."""
    dy = np.random.default_rng(call["seed"]).standard_normal(y.shape).astype(y.dtype)
    kind = call["dy"]
    if kind is None or y.dtype.kind != "f":
        return dy
    if kind == "wrong shape":
        return dy[..., :-1] if dy.ndim else dy[None]
    if kind == "wrong dtype":
        return dy.astype("f8" if dy.dtype == np.float32 else "f4")
    if kind == "special":
        return hostile.with_values(dy, "special", "nan", [call["seed"]])
    return hostile.laid_out(dy, kind)


def outcome(op, call, given):
    """Outputs and gradients as arrays, or the error."""
    given, settings = arguments(op, call, given)
    try:
        y, backward = op.with_backward(*given, **settings)
        results = list(y) if isinstance(y, tuple) else [y]
        results = [np.asarray(a) for a in results]
        if op.yields == "real":
            gradients = backward(output_gradient(call, results[0]))
            results += gradients if isinstance(gradients, tuple) else [gradients]
    except (CnnError, MemoryError) as error:
        return error
    return results


def run(plan):
    """Carry out a plan; returns how many calls were (computed, refused)."""
    remembering = dataclasses.replace(cnncore.OPS[plan["op"]])
    counts = [0, 0]
    before = cnncore.get_num_threads(), cnncore.cpu.target(), dispatch.set_worth_a_thread(0.0)
    try:
        for number, call in enumerate(plan["calls"]):
            cnncore.set_num_threads(plan["threads"])
            cnncore.cpu.target(plan["target"] if plan["target"] in cnncore.cpu.targets() else None)
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    counts[check(remembering, call)] += 1
                except Wrong as wrong:
                    raise Wrong(f"call {number} of {plan['op']}: {wrong}") from None
    finally:
        cnncore.set_num_threads(before[0])
        cnncore.cpu.target(before[1])
        dispatch.set_worth_a_thread(before[2])
    return counts


def check(remembering, call):
    """Make one call in every way; returns whether it was refused."""
    fresh = dataclasses.replace(remembering)
    arrays = edited(fresh, call)
    placed = [
        a if a is None else hostile.laid_out(a, call["layouts"].get(str(i), "plain")) for i, a in enumerate(arrays)
    ]
    found = outcome(remembering, call, placed)
    cnncore.set_num_threads(1)
    same_bits(outcome(fresh, call, placed), found, "an operator without memory, on one thread")
    if isinstance(found, MemoryError) or sum(np.size(a) for a in arrays if a is not None) > LARGEST_REFERENCE:
        return isinstance(found, Exception)
    if isinstance(found, CnnError):
        named(fresh, found)
    elif call["out"] is not None:
        check_out(remembering, call, placed, found[0])
    cnncore.cpu.target("reference")
    expected = outcome(fresh, call, arrays)
    if isinstance(found, Exception) or isinstance(expected, Exception):
        if type(expected) is not type(found) and not isinstance(expected, MemoryError):
            raise Wrong(f"the reference implementation: {said(expected)}; found: {said(found)}")
        return True
    check_numbers(fresh, call, arrays, expected, found)
    return False


def named(op, error):
    """Whether an error says what it has to."""
    text = str(error)
    if op.name not in text or not 20 < len(text) < 900:
        raise Wrong(f"its error does not name the operator, or is no sentence: {type(error).__name__}: {text[:900]}")


def same_bits(expected, found, whose):
    """Raise unless two outcomes are the same, bit by bit, or the same error."""
    if isinstance(expected, MemoryError) or isinstance(found, MemoryError):
        return  # whether there is memory may change from call to call
    if isinstance(expected, Exception) or isinstance(found, Exception):
        if (type(expected), str(expected)) != (type(found), str(found)):
            raise Wrong(f"{whose}: {said(expected)}; found: {said(found)}")
        return
    for i, (a, b) in enumerate(zip(expected, found, strict=True)):
        if not (a is b is None or (a is not None and b is not None and equal_bits(a, b))):
            raise Wrong(f"result {i}: {whose}: {said(a)}; found: {said(b)}")


def equal_bits(a, b):
    """Whether two arrays hold the same bits; one NaN is as good as another."""
    if a.dtype != b.dtype or a.shape != b.shape or a.tobytes() == b.tobytes():
        return a.dtype == b.dtype and a.shape == b.shape
    if a.dtype.kind != "f":
        return False
    return np.array_equal(a, b, equal_nan=True) and np.array_equal(
        np.signbit(a) | np.isnan(a), np.signbit(b) | np.isnan(b)
    )


def said(result):
    """An outcome in one line."""
    if isinstance(result, Exception):
        return f"{type(result).__name__}: {result}"
    if result is None:
        return "None"
    if isinstance(result, list):
        return "[" + ", ".join(f"{a.dtype}{a.shape}" if a is not None else "None" for a in result) + "]"
    return f"{result.dtype}{result.shape} {np.array2string(np.ravel(result)[:8], threshold=8)}"


def check_out(op, call, placed, y):
    """``out=``: the same numbers are written, and nothing beside them; or it is refused, and nothing is written."""
    if y.size > 1_000_000:
        return
    kind, given = call["out"], [a for a in placed if a is not None and a.dtype == y.dtype and a.size]
    if kind == "overlap":
        inputs = [a for a in given if a.flags.c_contiguous and a.flags.writeable and a.nbytes >= y.nbytes]
        if not inputs or not y.size or inputs[0].size > 1_000_000:
            return
        out = inputs[0].reshape(-1)[: y.size].reshape(y.shape)
    else:
        shape = (*y.shape[:-1], y.shape[-1] + 1) if kind == "shorter" and y.ndim else y.shape
        dtype = {"f": "f8", "d": "f4"}.get(y.dtype.char, "f4") if kind == "other dtype" else y.dtype
        out = hostile.laid_out(np.ones(shape, dtype), kind if kind in hostile.LAYOUTS else "plain")
    before = out.copy()
    arguments_, settings = arguments(op, call, placed)
    try:
        op(*arguments_, out=out, **settings)
    except CnnError as error:
        named(op, error)
        if not np.array_equal(out, before, equal_nan=out.dtype.kind == "f"):
            raise Wrong(f"out ({kind}) was refused, and written: {error}") from None
        return
    except MemoryError:
        return
    fits = {"misaligned": y.itemsize == 1, "byte-swapped": y.itemsize == 1, "shorter": not y.ndim}
    if kind in ("shorter", "other dtype", "overlap", "read-only", "misaligned", "byte-swapped") and not fits.get(kind):
        raise Wrong(f"out ({kind}) was taken")
    if out.dtype.kind != "f":
        same_bits([y], [out.astype(y.dtype)], f"without out ({kind})")
    elif not close(y, out, np.isfinite(y)):  # other strides may be summed by another kernel
        raise Wrong(f"out ({kind}): {said(out)}; without out: {said(y)}")


def meets_padding(op, call):
    """Whether a weight that is not finite may meet the zeros around an image: kernels may multiply them, to NaN; reference
    implementations leave such cells out. Elsewhere both have to agree.
    """
    beyond = [place for place, c in call["edits"] if c[0] == "special" and c[1] in ("nan", "inf", "-inf")]
    return op.group == "convolution" and any(beyond)


def samples_tie(call):
    """Whether a maximum is taken of interpolated samples that rounding alone tells apart: any of them may have the gradient."""
    return call["settings"].get("mode") == "max" and any(c[0] == "equal" for _, c in call["edits"])


def check_numbers(op, call, arrays, expected, found):
    """Compare with the reference implementation, to rounding, where no contagious value reaches."""
    contagious = any(c[0] == "special" and c[1] in hostile.CONTAGIOUS for _, c in call["edits"])
    reach = outcome(op, call, edited(op, call, calm=True)) if contagious else expected
    if isinstance(reach, Exception):
        return  # NaN is refused where the values are not
    floor = 1e-3 * max((np.abs(a[np.isfinite(a)]).max(initial=0) for a in expected if is_real(a)), default=0)
    for i, (a, b, c) in enumerate(zip(expected, found, reach, strict=True)):
        if a is None or b is None:
            if a is not b:
                raise Wrong(f"result {i}: the reference implementation: {said(a)}; found: {said(b)}")
            continue
        if a.dtype != b.dtype or a.shape != b.shape:
            raise Wrong(f"result {i}: the reference implementation: {said(a)}; found: {said(b)}")
        if a.dtype.kind != "f":
            if not contagious and not np.array_equal(a, b):
                raise Wrong(f"result {i}: the reference implementation: {said(a)}; found: {said(b)}")
            continue
        if i and samples_tie(call):
            a, b, c = (np.atleast_1d(each.sum(dtype=np.float64)).astype(each.dtype) for each in (a, b, c))
        clean = np.isfinite(c) & np.isfinite(a)
        if meets_padding(op, call):
            clean &= ~np.isnan(b)
        if not close(a, b, clean, floor) and not rounding_alone(op, call, arrays, i, a, b, clean):
            raise Wrong(f"result {i}: the reference implementation: {told(a, b, clean)}")
        if not np.isfinite(a).all() and not contagious and not (np.isfinite(a) == np.isfinite(b)).all():
            raise Wrong(f"result {i}: other places are infinite or NaN than in the reference implementation")


def is_real(a):
    return a is not None and a.dtype.kind == "f"


def close(a, b, clean, floor=0.0):
    """Whether b is a, to rounding relative to the largest number (of all results: ``floor``), in the places that are clean."""
    scale = max(np.abs(a[clean]).max(initial=np.finfo(a.dtype).tiny), floor)
    worst = np.abs(a[clean].astype(np.float64) - b[clean]).max(initial=0.0)
    return bool(worst <= TOLERANCE[a.dtype.char] * scale)


def told(a, b, clean):
    """The worst place of two arrays, in words."""
    difference = np.where(clean, np.abs(a.astype(np.float64) - b), -1)
    place = np.unravel_index(np.argmax(np.where(np.isnan(difference), np.inf, difference)), a.shape)
    return f"{a[place]!r} at {tuple(map(int, place))} of {a.shape}; found: {b[place]!r}"


def rounding_alone(op, call, arrays, i, a, b, clean):
    """Whether the reference implementation in float32 is as far from its own float64 as the kernel is."""
    if call["dtype"] != "float32":
        return False
    wide = [x.astype(np.float64) if x is not None and x.dtype.kind == "f" else x for x in arrays]
    exact = outcome(op, {**call, "dtype": "float64"}, wide)
    if isinstance(exact, Exception) or exact[i] is None or exact[i].shape != a.shape:
        return False
    exact = exact[i][clean]
    own, other = np.abs(a[clean] - exact), np.abs(b[clean] - exact)
    return bool(other.max(initial=0) <= 100 * own.max(initial=0) + 1e-6 * np.abs(exact).max(initial=0))
