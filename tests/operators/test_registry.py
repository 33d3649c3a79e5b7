"""Every operator of the registry, every case: all the ways to call it give the same result, and the row is complete."""

import doctest
import itertools
import pickle

import numpy as np
import pytest
from support.cases import as_list, both_passes, cases, first, mostly_long, operators
from support.layouts import byte_swapped, channel_slice, last_axis_with_gaps, read_only, reversed_axes, unaligned

import cnncore
from cnncore import CnnError
from cnncore.operators import geometry
from cnncore.operators.columns import implementation as columns
from cnncore.operators.operator import Implementation
from cnncore.operators.schema import ROLE_DTYPES
from cnncore.runtime import dispatch

DTYPES = (np.float32, np.float64)
# Largest difference from the reference implementation allowed, relative to the largest value of the result.
LIMIT = {np.float32: 2e-5, np.float64: 1e-12}


LAYOUTS = (last_axis_with_gaps, reversed_axes, read_only, byte_swapped, np.asfortranarray, channel_slice, unaligned)


def everywhere(layout, arrays):
    return [a if a is None or not a.ndim else layout(a) for a in arrays]


# ── Comparison ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def assert_close(found, expected, limit, what):
    """Equal within ``limit`` × the largest value, infinities and NaN in the same places."""
    assert len(found) == len(expected)
    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
        name = f"{what}: {'y' if number == 0 else f'gradient {number - 1}'}"
        assert a.shape == b.shape and a.dtype == b.dtype, name
        if b.dtype.kind != "f":
            assert np.array_equal(a, b), name
            continue
        finite = np.isfinite(b)
        assert np.array_equal(np.where(finite, 0, b), np.where(finite, 0, a), equal_nan=True), f"{name}: not finite"
        difference = np.abs(a[finite] - b[finite]).max(initial=0)
        assert difference <= limit * np.abs(b[finite]).max(initial=0), f"{name}: differs by {difference:.3g}"


def assert_identical(found, expected, what):
    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape == b.shape and a.tobytes() == b.tobytes(), f"{what}: result {number} differs"


def random_dy(y):
    return np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)


def result_dtype(op, arrays, dtype):
    """The dtype of y: integers or booleans where the operator yields them, float32 without real numbers to go by."""
    real = any(a is not None and a.dtype.kind == "f" for a in arrays)
    return ROLE_DTYPES.get(op.yields, np.dtype(dtype if real else np.float32))


def definition_results(op, case, rank, dtype):
    """Arrays, dy, and what the reference implementation makes of them on one thread: the reference of all other ways."""
    arrays = case.sample(rank, dtype)
    with cnncore.cpu.target("reference"), cnncore.threads(1):
        dy = random_dy(np.asarray(first(op(*arrays, **case.settings))))
        return arrays, dy, [np.asarray(r) for r in both_passes(op, arrays, case.settings, dy)]


def every_dtype_and_rank(case):
    return [(rank, dtype) for rank in case.ranks for dtype in DTYPES]


# ── One result, whatever the target, the layout, the threads ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(("op", "case"), cases())
def test_targets_and_layouts_agree(op, case):
    for rank, dtype in every_dtype_and_rank(case):
        arrays, dy, expected = definition_results(op, case, rank, dtype)
        for target in cnncore.cpu.targets():
            with cnncore.cpu.target(target):
                plain = both_passes(op, arrays, case.settings, dy)
                assert_close(plain, expected, LIMIT[dtype], f"rank {rank}, {target}")
                for number, result in enumerate(plain):
                    assert result.dtype == (dtype if number else result_dtype(op, arrays, dtype))
                    assert np.asarray(result).flags.c_contiguous
                for layout in LAYOUTS:
                    given = everywhere(layout, arrays)
                    (given_dy,) = everywhere(layout, [dy])
                    before = [None if a is None else a.copy() for a in given]
                    found = both_passes(op, given, case.settings, given_dy)
                    what = f"rank {rank}, {dtype.__name__}, {target}, {layout.__name__}"
                    assert_close(found, expected, LIMIT[dtype], what)
                    assert np.array_equal(given_dy, dy), f"{what}: dy was changed"
                    for a, b in zip(given, before, strict=True):
                        assert a is None or np.array_equal(a, b), f"{what}: an input was changed"


@pytest.mark.parametrize(("op", "case"), cases(where=lambda op: op.implementation.per_image))
def test_images_apart_give_the_same_results(op, case):
    """What a kind says of itself when it is ``per_image``: a net's inference cuts large batches on its word."""
    for rank, dtype in every_dtype_and_rank(case):
        arrays = case.sample(rank, dtype)
        shapes = tuple(None if a is None else a.shape for a in arrays)
        shapes += (None,) * (len(op.arrays) - len(arrays))
        # Arrays that meet x by broadcasting have its images; those that a layer owns have not.
        own = {p.name for p in op.layer.parameters}
        images = [
            i == 0 or row.variadic or row.role == "index" or (op.group == "arrays" and row.name not in own)
            for i, row in enumerate(op.rows(len(arrays))[: len(arrays)])
        ]
        if not op.implementation.splits_batch(op.infer(shapes, np.dtype(dtype), case.settings)):
            continue
        whole = first(op(*arrays, **case.settings))
        if not whole.shape or not len(arrays[0]) or len(whole) != len(arrays[0]):
            continue
        for n in range(len(whole)):
            piece = [a[n : n + 1] if a is not None and cut else a for a, cut in zip(arrays, images, strict=True)]
            assert_close(
                [first(op(*piece, **case.settings))], [whole[n : n + 1]], LIMIT[dtype], f"rank {rank}, image {n}"
            )


@pytest.mark.parametrize(("op", "case"), cases())
def test_any_number_of_threads_gives_the_same_bits(op, case):
    before = dispatch.set_worth_a_thread(0)  # otherwise calls this small run on one thread
    try:
        for rank, dtype in every_dtype_and_rank(case):
            arrays = case.sample(rank, dtype)
            for target in cnncore.cpu.targets():
                with cnncore.cpu.target(target):
                    for layout in (np.ascontiguousarray, channel_slice):
                        given = everywhere(layout, arrays)
                        with cnncore.threads(1):
                            expected = both_passes(op, given, case.settings)
                        for threads in (2, 7, 64):  # the more, the smaller the tasks
                            with cnncore.threads(threads):
                                found = both_passes(op, given, case.settings)
                            assert_identical(found, expected, f"rank {rank}, {target}, {threads} threads")
    finally:
        dispatch.set_worth_a_thread(before)


@pytest.mark.parametrize(("op", "case"), cases())
def test_out(op, case):
    """Results go where they are told, whatever its strides, and nowhere else."""
    for rank, dtype in every_dtype_and_rank(case):
        arrays = case.sample(rank, dtype)
        for target in cnncore.cpu.targets():
            with cnncore.cpu.target(target):
                expected = np.asarray(first(op(*arrays, **case.settings)))
                for layout in (np.ascontiguousarray, last_axis_with_gaps, channel_slice, np.asfortranarray):
                    if not expected.ndim:
                        continue
                    filler = np.nan if expected.dtype.kind == "f" else 1
                    out = layout(np.full_like(expected, filler))
                    whole = out if out.base is None else out.base
                    before = whole.tobytes()
                    given = first(op(*arrays, out=out, **case.settings))
                    assert given is out
                    assert_close([out], [expected], LIMIT[dtype], f"rank {rank}, {target}, {layout.__name__}")
                    out[...] = filler
                    assert whole.tobytes() == before, "written beside out"


@pytest.mark.parametrize(
    ("op", "case"), cases(where=lambda op: type(op.implementation).accumulates is not Implementation.accumulates)
)
def test_gradients_are_added_where_a_kind_says_so(op, case, rng):
    """What a kind says of itself by ``adds``: a plan hands it the sum of the other consumers' gradients on its word."""
    for rank, dtype in every_dtype_and_rank(case):
        arrays = case.sample(rank, dtype)
        arrays += (None,) * (len(op.arrays) - len(arrays))
        call = op.infer(tuple(None if a is None else a.shape for a in arrays), np.dtype(dtype), case.settings)
        if not op.implementation.accumulates(call):
            continue
        needs_gradient = (True,) + (False,) * (len(arrays) - 1)
        for target in cnncore.cpu.targets():
            with cnncore.cpu.target(target):
                y, _, saved = op.implementation.forward(call, arrays)
                dy = rng.standard_normal(y.shape).astype(dtype)
                before = rng.standard_normal(arrays[0].shape).astype(dtype)
                alone = op.implementation.backward(call, saved, dy, needs_gradient)[0]
                for layout in (np.ascontiguousarray, last_axis_with_gaps, channel_slice):
                    dx = layout(before.copy())
                    op.implementation.backward(
                        call, saved, dy, needs_gradient, (dx,) + (None,) * (len(arrays) - 1), accumulate=True
                    )
                    assert_close([dx], [before + alone], LIMIT[dtype], f"rank {rank}, {target}, {layout.__name__}")


@pytest.mark.parametrize(
    ("op", "case"), cases(where=lambda op: type(op.implementation).folds_affine is not Implementation.folds_affine)
)
def test_lines_become_part_of_the_arrays_where_a_kind_says_so(op, case, rng):
    """What a kind says of itself by ``folds_affine``: a plan folds batch normalisation into its weights on its word."""
    for rank, dtype in every_dtype_and_rank(case):
        arrays = case.sample(rank, dtype)
        arrays += (None,) * (len(op.arrays) - len(arrays))
        call = op.infer(tuple(None if a is None else a.shape for a in arrays), np.dtype(dtype), case.settings)
        if not op.implementation.folds_affine(call):
            continue
        scale, shift = rng.uniform(-2, 2, call.output[1]), rng.standard_normal(call.output[1])
        per_channel = (1, -1, *(1,) * (len(call.output) - 2))
        y = op.implementation.forward(call, arrays)[0] * scale.reshape(per_channel) + shift.reshape(per_channel)
        folded = op.implementation.fold_affine(call, arrays, scale, shift)
        assert folded[0] is arrays[0] and all(a.dtype == dtype for a in folded)
        assert_close([op.implementation.forward(call, folded)[0]], [y.astype(dtype)], LIMIT[dtype], f"rank {rank}")


@pytest.mark.parametrize(
    ("op", "case"), cases(where=lambda op: type(op.implementation).is_affine is not Implementation.is_affine)
)
def test_lines_are_lines(op, case):
    for rank, dtype in every_dtype_and_rank(case):
        arrays = case.sample(rank, dtype)
        arrays += (None,) * (len(op.arrays) - len(arrays))
        call = op.infer(tuple(None if a is None else a.shape for a in arrays), np.dtype(dtype), case.settings)
        if op.implementation.is_affine(call):
            scale, shift = op.implementation.affine(call, arrays)
            per_channel = (1, -1, *(1,) * (len(call.output) - 2))
            y = arrays[0] * scale.reshape(per_channel) + shift.reshape(per_channel)
            assert_close([op.implementation.forward(call, arrays)[0]], [y.astype(dtype)], LIMIT[dtype], f"rank {rank}")


@pytest.mark.parametrize("op", operators())
def test_out_must_fit(op):
    case = op.cases[0]
    arrays = case.sample(case.ranks[0])
    y = np.asarray(first(op(*arrays, **case.settings)))
    read_only_y = read_only(y)
    other = y.astype(np.float32 if y.dtype != np.float32 else np.float64)
    for wrong in (np.empty((*y.shape, 1)), other, read_only_y, y.tolist(), "out"):
        with pytest.raises(CnnError, match="out must be"):
            op(*arrays, out=wrong, **case.settings)
    if y.shape == arrays[0].shape and y.dtype == arrays[0].dtype:
        with pytest.raises(CnnError, match="out overlaps"):
            op(*arrays, out=arrays[0], **case.settings)


@pytest.mark.parametrize(("op", "case"), cases())
def test_no_images(op, case):
    """N = 0: y and dx are empty, and what is summed over images is 0; or an error that says so (a mean of nothing)."""
    for rank, dtype in every_dtype_and_rank(case):
        arrays = case.but(batch=0).sample(rank, dtype)
        if 0 not in arrays[0].shape:
            continue
        for target in cnncore.cpu.targets():
            with cnncore.cpu.target(target):
                try:
                    results = both_passes(op, arrays, case.settings)
                except CnnError as error:
                    assert "0" in str(error) or "no " in str(error), error
                    continue
                full = np.asarray(first(op(*case.sample(rank, dtype), **case.settings)))
                assert np.ndim(results[0]) == full.ndim
                if full.ndim and op.name != "arange_like":  # which has no batch
                    assert results[0].shape == (0, *full.shape[1:])
                for gradient in results[1:]:
                    assert not np.any(gradient)


@pytest.mark.parametrize(("op", "case"), cases())
def test_an_axis_of_no_extent(op, case):
    """Every axis in turn: whatever the kernels divide by may be 0; a result like the reference implementation's, or an error."""
    sample = case.sample(case.ranks[-1], np.float32)
    for axis in range(1, sample[0].ndim):
        arrays = [a if a is None or a.shape != sample[0].shape else a.take(range(0), axis) for a in sample]
        outcomes = []
        for target in cnncore.cpu.targets():
            with cnncore.cpu.target(target):
                try:
                    outcomes.append([a.shape for a in both_passes(op, arrays, case.settings)])
                except CnnError as error:
                    outcomes.append(str(error))
        assert outcomes == outcomes[:1] * len(outcomes)


@pytest.mark.parametrize(("op", "case"), cases())
def test_every_element_of_the_results_is_written(op, case, monkeypatch):
    """Fresh memory full of NaN, or of 0xAA, changes nothing."""
    rank = case.ranks[-1]
    real_empty = np.empty

    def poisoned(byte):
        def empty(*arguments, **settings):
            array = real_empty(*arguments, **settings)
            if array.dtype.kind == "f" and byte is None:
                array.fill(np.nan)
            elif array.size and array.flags.c_contiguous and array.dtype.kind != "O":
                array.reshape(-1).view(np.uint8)[...] = 0xAA
            return array

        return empty

    for dtype in DTYPES:
        arrays = case.sample(rank, dtype)
        for target in cnncore.cpu.targets():
            with cnncore.cpu.target(target):
                y, backward = op.with_backward(*arrays, **case.settings)
                everything = [*(y if isinstance(y, tuple) else (y,))]
                dy = random_dy(np.asarray(everything[0]))
                expected = everything + as_list(backward(dy))
                for byte in (None, 0xAA):
                    with monkeypatch.context() as patch:
                        patch.setattr(np, "empty", poisoned(byte))
                        patch.setattr(np, "empty_like", lambda a, *r, **s: np.empty(np.shape(a), a.dtype))
                        y, backward = op.with_backward(*arrays, **case.settings)
                        found = [*(y if isinstance(y, tuple) else (y,)), *as_list(backward(dy))]
                    assert_identical(map(np.asarray, found), map(np.asarray, expected), f"{target}")


@pytest.mark.parametrize("op", operators())
def test_pieces_do_not_change_results(op, monkeypatch):
    """What NumPy computes is computed in pieces, between which Ctrl-C gets through: as few values at a time as one likes."""
    for case in op.cases:
        arrays = case.sample(max(case.ranks), np.float32)
        expected = [np.asarray(r) for r in both_passes(op, arrays, case.settings)]
        with monkeypatch.context() as small:
            small.setattr(geometry, "PIECE", 7)
            small.setattr(columns, "MOST_COLUMNS", 7)
            found = [np.asarray(r) for r in both_passes(op, arrays, case.settings)]
        assert_close(found, expected, LIMIT[np.float32], str(case.settings))


# ── Values that are not finite ─────────────────────────────────────────────────────────────────────────────────────────


SPECIAL = (np.nan, np.inf, -np.inf)


def with_special_values(x, values, channel):
    """One of the values in every image, in one channel."""
    x = x.copy()
    for image, value in enumerate(values):
        x[(image, channel, *[1] * (x.ndim - 2))] = value
    return x


def special_calls(op, case, rank):
    """(values, channels, dtype, layout, arrays): any number of channels, a value in the first, middle or last of them.

    Where images are computed apart each holds another value; where one image's NaN is every image's, each value has a call.
    """
    together = [SPECIAL] if op.implementation.per_image else [(value,) for value in SPECIAL]
    for values, channels, dtype in itertools.product(together, range(1, 18), DTYPES):
        arrays = case.but(channels=channels, batch=len(values)).sample(rank, dtype)
        for place in {channels - 1, channels // 2, 0}:
            x = with_special_values(arrays[0], values, place)
            for layout in (np.ascontiguousarray, channel_slice) if place == channels - 1 else (np.ascontiguousarray,):
                what = f"{values} in channel {place} of {channels}, {layout.__name__}"
                yield what, dtype, everywhere(layout, [x, *arrays[1:]])


@pytest.mark.parametrize("op", mostly_long(operators(where=lambda op: op.arrays[0].role in ("real", "either")), 3))
def test_special_values_in_every_lane(op):
    """A NaN or infinity in any channel, with any number of channels beside it: targets do what the reference does."""
    case = op.cases[0]
    rank = min((r for r in case.ranks if r), default=case.ranks[0])

    def outcome(target, arrays):
        with cnncore.cpu.target(target), np.errstate(all="ignore"):
            try:
                return [np.asarray(r) for r in both_passes(op, arrays, case.settings)]
            except CnnError as error:
                return str(error)

    for what, dtype, arrays in special_calls(op, case, rank):
        expected = outcome("reference", arrays)
        for target in cnncore.cpu.targets()[1:]:
            found = outcome(target, arrays)
            if isinstance(expected, str):
                assert found == expected, f"{what}, {target}"
            else:
                assert_close(found, expected, LIMIT[dtype], f"{what}, {target}")


# ── The row itself ─────────────────────────────────────────────────────────────────────────────────────────────────────

SECTIONS = ("Parameters", "Returns", "Shape", "Dtype", "Edges", "Raises", "References", "Examples")
# Settings that change neither y nor its gradient, or that every test of random numbers varies by itself.
NOT_IN_CASES = {"return_indices", "return_state", "seed", "algorithm"}


@pytest.mark.parametrize("op", operators())
def test_row_is_complete(op):
    for name in ("summary", "formula", "gradient", "paper", "group", "example", "shape", "accumulates", "returns"):
        assert getattr(op, name).strip(), f"{op.name} has no {name}"
    assert op.summary.endswith(".") and "\n" not in op.summary
    assert op.cases
    assert any(mark in op.paper for mark in ("19", "20")), "the source has no year"
    assert set(op.linear) <= {a.name for a in op.arrays}
    assert all(s.meaning.strip() for s in op.settings_list) and all(a.meaning.strip() for a in op.arrays)
    for section in SECTIONS:
        assert f"\n{section}\n{'-' * len(section)}\n" in op.__doc__
    # Operators on arrays as such belong to no entry.
    assert op.literature or op.group == "arrays", "which entry of the registry of the literature is it?"
    assert getattr(cnncore, op.name) is op and op.name in cnncore.__all__


@pytest.mark.parametrize("op", operators())
def test_cases_cover_ranks_and_settings(op):
    ranks = {rank for case in op.cases for rank in case.ranks}
    for rank in {1, 2, 3} - ranks:
        case = op.cases[0]
        try:
            op(*case.sample(rank), **case.settings)
        except CnnError:
            continue
        pytest.fail(f"{op.name} takes rank {rank}, but no case has it")
    used = {op._aliases.get(name, name) for case in op.cases for name in case.settings}
    assert set(op.settings) - used <= NOT_IN_CASES, f"no case uses {set(op.settings) - used - NOT_IN_CASES}"


@pytest.mark.parametrize("op", operators())
def test_example_runs(op):
    test = doctest.DocTestParser().get_doctest(op.__doc__, {}, op.name, None, 0)
    assert test.examples and any(e.want for e in test.examples)
    output = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=output.append)
    assert not runner.failures, "".join(output)


@pytest.mark.parametrize("op", operators())
def test_operator_is_pickled_by_name(op):
    assert pickle.loads(pickle.dumps(op)) is op


@pytest.mark.parametrize(("op", "case"), cases())
def test_plain_call_and_with_backward_agree(op, case):
    for rank, dtype in every_dtype_and_rank(case):
        arrays = case.sample(rank, dtype)
        plain = op(*arrays, **case.settings)
        both, _ = op.with_backward(*arrays, **case.settings)
        as_tuples = [r if isinstance(r, tuple) else (r,) for r in (plain, both)]
        assert_identical(map(np.asarray, as_tuples[0]), map(np.asarray, as_tuples[1]), f"rank {rank}")


@pytest.mark.parametrize(("op", "case"), cases())
def test_output_shape_is_known_before_running(op, case):
    """infer() says y's shape from shapes alone, and open extents give open extents."""
    for rank in case.ranks:
        arrays = case.sample(rank)
        bound, call = op.bind(arrays, dict(case.settings))
        y = np.asarray(first(op(*arrays, **case.settings)))
        assert call.output == y.shape
        shapes = [None if a is None else a.shape for a in bound]
        if len(shapes[0]) < 2:
            continue
        open_batch = [(None, *shapes[0][1:]), *shapes[1:]]
        if any(s is not None and s and s[0] == shapes[0][0] for s in shapes[1:]):
            continue  # other arrays have one entry per image: their batch would be open too
        output = op.infer(tuple(open_batch), np.dtype(np.float64), dict(case.settings)).output
        assert all(o in (None, e) for o, e in zip(output, y.shape, strict=True))
