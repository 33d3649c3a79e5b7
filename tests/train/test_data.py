"""Data sets and augmentation: what they hold, that they repeat, and that hostile files only give DataError."""

import gzip
import hashlib
import importlib
import importlib.util
import pathlib
import struct
import sys
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.damage import flip_bits, fuzz, one_line, only_data_error, pixels
from support.processes import ROOT

from cnncore.errors import DataError, DtypeError, SettingError, ShapeError
from cnncore.train import data, data_files
from cnncore.train.augment import Augment, uniform, warp
from cnncore.train.data import Dataset, decode_digits, digits, digits_split, load, pixel_statistics
from cnncore.vision import images as im
from cnncore.vision.preprocessing import normalise

random = np.random.default_rng


# ── The embedded digits ───────────────────────────────────────────────────────────────────────────────────────────────

FOLDER = pathlib.Path(data.__file__).parent / "digits"


def test_digits():
    images, labels = digits()
    assert images.shape == (5000, 28, 28) and images.dtype == np.uint8
    assert labels.dtype == np.int64 and np.bincount(labels).tolist() == [500] * 10
    digest = hashlib.sha256(images.tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()
    assert digest == "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"
    assert len(np.unique(images.reshape(5000, -1), axis=0)) == 5000
    images[0, 0, 0] = 1  # each call returns arrays of its own
    assert digits()[0][0, 0, 0] == 0


def test_digits_have_licence_attribution_and_a_small_file():
    assert "creativecommons.org/licenses/by-sa/3.0" in (FOLDER / "LICENSE").read_text()
    assert "LeCun" in (FOLDER / "ATTRIBUTION").read_text() and "Cortes" in (FOLDER / "ATTRIBUTION").read_text()
    assert (FOLDER / "digits.bin").stat().st_size < 750_000


def test_digits_are_read_quickly():
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        digits()
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


def test_digits_split_is_fixed():
    train, held_out = digits_split()
    assert train.class_counts.tolist() == [400] * 10 and held_out.class_counts.tolist() == [100] * 10
    images, labels = digits()
    assert np.array_equal(held_out.images, images[4::5]) and np.array_equal(held_out.labels, labels[4::5])
    assert train.mean == held_out.mean and train.std == held_out.std
    assert train.mean[0] == pytest.approx(train.images.mean() / 255)
    assert train.std[0] == pytest.approx((train.images / 255).std())
    other_train, other_held_out = digits_split(seed=1)
    assert np.array_equal(other_held_out.images, held_out.images)
    assert not np.array_equal(other_train.labels, train.labels)
    assert sorted(map(bytes, other_train.images)) == sorted(map(bytes, train.images))
    assert not {bytes(image) for image in train.images} & {bytes(image) for image in held_out.images}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_digits(data):
    content = bytearray((FOLDER / "digits.bin").read_bytes())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    try:
        images, labels = decode_digits(bytes(content))
    except DataError as error:
        assert "reinstall" in str(error)
    else:  # deflate can say the same in several ways: another of equal matches, for one
        assert all(map(np.array_equal, (images, labels), digits()))


@pytest.mark.parametrize("byte", range(56))
def test_damaged_header_of_digits(byte):
    content = bytearray((FOLDER / "digits.bin").read_bytes())
    content[byte] ^= 0xFF
    with pytest.raises(DataError, match="reinstall"):
        decode_digits(bytes(content))


def test_long_runs_of_the_digit_format(monkeypatch):
    tool = ROOT / "tools" / "make_digits.py"
    if not tool.exists():
        pytest.skip("run from an installed package: no tools folder")
    spec = importlib.util.spec_from_file_location("make_digits", tool)
    make_digits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_digits)
    for image in (
        np.zeros((2, 30, 40)),
        np.full((2, 30, 40), 9),
        np.arange(2400).reshape(2, 30, 40) % 7,
        pixels(2, 30, 40),
    ):
        image, labels = image.astype(np.uint8), np.array([3, 1], np.uint8)
        decoded, decoded_labels = decode_digits(make_digits.encode(image, labels))
        assert np.array_equal(decoded, image) and np.array_equal(decoded_labels, labels)
    images, labels = digits()
    again = make_digits.encode(images, labels.astype(np.uint8))
    assert again[:56] == (FOLDER / "digits.bin").read_bytes()[:56]


# ── Dataset ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def small(n=30, classes=3, shape=(6, 5)):
    return Dataset(pixels(n, *shape), np.arange(n) % classes, [f"c{k}" for k in range(classes)], "small")


def test_dataset_arrays_are_read_only():
    dataset = small()
    for array in (dataset.images, dataset.labels):
        with pytest.raises(ValueError):
            array[0] = 0
    with pytest.raises(AttributeError):
        dataset.name = "other"


def test_split_is_stratified_and_depends_on_the_seed():
    dataset = Dataset(pixels(110, 4, 4), [0] * 60 + [1] * 40 + [2] * 10, "abc")
    train, held_out = dataset.split(0.25, seed=3)
    assert held_out.class_counts.tolist() == [15, 10, 2] and train.class_counts.tolist() == [45, 30, 8]
    assert sorted(map(bytes, [*train.images, *held_out.images])) == sorted(map(bytes, dataset.images))
    assert np.array_equal(dataset.split(0.25, seed=3)[1].images, held_out.images)
    assert not np.array_equal(dataset.split(0.25, seed=4)[1].images, held_out.images)
    assert train.mean == held_out.mean == pixel_statistics(train.images)[0]


def test_split_leaves_each_class_on_both_sides():
    train, held_out = Dataset(pixels(5, 4, 4), [0, 0, 0, 1, 1], "ab").split(0.01)
    assert train.class_counts.tolist() == [2, 1] and held_out.class_counts.tolist() == [1, 1]
    with pytest.raises(DataError, match="class 'b'"):
        Dataset(pixels(4, 4, 4), [0, 0, 0, 1], "ab").split()
    with pytest.raises(SettingError):
        small().split(1.0)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
def test_batches_are_normalised_and_complete(shape):
    dataset = small(shape=shape)
    x = np.concatenate([x for x, _ in dataset.batches(7)])
    labels = np.concatenate([labels for _, labels in dataset.batches(7)])
    assert x.dtype == np.float32 and x.shape == (30, dataset.channels, 6, 5) and x.flags.c_contiguous
    assert np.array_equal(labels, dataset.labels) and labels.dtype == np.int64
    assert np.allclose(x.mean(axis=(0, 2, 3)), 0, atol=1e-5) and np.allclose(x.std(axis=(0, 2, 3)), 1, atol=1e-5)
    back = x * np.reshape(dataset.std, (1, -1, 1, 1)) + np.reshape(dataset.mean, (1, -1, 1, 1))
    assert np.allclose(255 * back, dataset.images.reshape(30, 6, 5, -1).transpose(0, 3, 1, 2), atol=1e-3)


def test_order_depends_on_seed_and_epoch_alone():
    dataset = small()

    def order(batch_size, seed, epoch):
        return np.concatenate([x[:, 0, 0, 0] for x, _ in dataset.batches(batch_size, seed=seed, epoch=epoch)])

    assert np.array_equal(order(4, 0, 0), order(30, 0, 0)) and np.array_equal(order(4, 0, 0), order(4, 0, 0))
    assert not np.array_equal(order(4, 0, 0), order(4, 0, 1))
    assert not np.array_equal(order(4, 0, 0), order(4, 1, 0))
    assert sorted(order(4, 0, 0)) == sorted(order(4, 5, 7))


def test_random_streams_are_pinned():
    """Trained weights depend on these numbers: they must not change with a release of NumPy or of cnncore."""
    assert uniform(seed=1, epoch=2, purpose=1, count=3).tolist() == pytest.approx(
        [0.575300433347867, 0.4214513002125032, 0.6987130805958253], abs=0
    )
    assert [labels.tolist() for _, labels in small(8, 8).batches(8, seed=1, epoch=2)] == [[4, 2, 0, 6, 1, 5, 7, 3]]


def test_several_sizes():
    images = [pixels(4, 6), pixels(8, 10), pixels(6, 20), pixels(7, 9)]
    dataset = Dataset(images, [0, 1, 0, 1], "ab")
    assert dataset.size is None and "several sizes" in repr(dataset)
    assert [x.shape for x, _ in dataset.batches(4)] == [(4, 1, 6, 9)]
    assert [x.shape for x, _ in dataset.batches(4, size=(5, 3))] == [(4, 1, 5, 3)]
    once = dataset.resized((5, 3))
    (lazy, _), *_ = dataset.batches(4, size=(5, 3), seed=0, augment=Augment())
    (eager, _), *_ = once.batches(4, seed=0, augment=Augment())
    assert np.array_equal(lazy, eager)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((np.zeros((0, 4, 4), np.uint8), [], "ab"), DataError, "no images"),
        (([], [], "ab"), DataError, "no images"),
        ((np.zeros((2, 4, 4)), [0, 1], "ab"), DtypeError, "float64"),
        ((np.zeros((2, 4, 4, 2), np.uint8), [0, 1], "ab"), ShapeError, "expected"),
        ((np.zeros((2, 0, 4), np.uint8), [0, 1], "ab"), ShapeError, "expected"),
        ((np.zeros((2, 4, 4), np.uint8), [0], "ab"), ShapeError, "labels"),
        ((np.zeros((2, 4, 4), np.uint8), [0.0, 1.0], "ab"), ShapeError, "labels"),
        ((np.zeros((2, 4, 4), np.uint8), [0, 2], "ab"), DataError, "0 to 1"),
        ((np.zeros((2, 4, 4), np.uint8), [0, -1], "ab"), DataError, "0 to 1"),
        (([np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.uint8)], [0, 1], "ab"), ShapeError, "grey"),
    ],
)
def test_wrong_dataset(arguments, error, match):
    with pytest.raises(error, match=match) as excinfo:
        Dataset(*arguments)
    one_line(excinfo)


def test_wrong_settings_of_batches():
    for wrong in (
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"batch_size": 4, "seed": -1},
        {"batch_size": 4, "epoch": -1},
        {"batch_size": 4, "rank": 2, "ranks": 2},
        {"batch_size": 4, "rank": range(0, 4, 2), "ranks": 4},
        {"batch_size": 4, "ranks": 0},
    ):
        with pytest.raises(SettingError):
            small().batches(**wrong)
    with pytest.raises(SettingError, match="seed"):
        small().batches(4, augment=Augment())
    with pytest.raises(SettingError, match="std"):
        normalise(pixels(1, 2, 2), [0.5], [0.0])
    with pytest.raises(ShapeError):
        normalise(pixels(1, 2, 2), [0.5] * 3, [1.0] * 3)


def test_constant_images_have_deviation_one():
    assert pixel_statistics(np.full((2, 3, 3), 255, np.uint8)) == ((1.0,), (1.0,))


# ── Augmentation ──────────────────────────────────────────────────────────────────────────────────────────────────────


def bilinear(image, y, x, fill):
    """The definition, pixel by pixel: value at (y, x), ``fill`` outside."""
    height, width = image.shape[:2]

    def at(i, j):
        return image[i, j].astype(float) if 0 <= i < height and 0 <= j < width else float(fill) + 0.0 * image[0, 0]

    i, j = int(np.floor(y)), int(np.floor(x))
    dy, dx = y - i, x - j
    top = (1 - dx) * at(i, j) + dx * at(i, j + 1)
    bottom = (1 - dx) * at(i + 1, j) + dx * at(i + 1, j + 1)
    return (1 - dy) * top + dy * bottom


@pytest.mark.parametrize("shape", [(7, 9), (1, 5), (5, 1), (6, 4, 3)])
@pytest.mark.parametrize("fill", [0.0, 128.0, "edge"])
def test_warp_against_its_definition(shape, fill):
    images = pixels(5, *shape)
    matrices = np.concatenate(
        [np.eye(2) + random(1).normal(0, 0.3, (5, 2, 2)), random(2).normal(0, 2, (5, 2, 1))], axis=2
    )
    matrices = matrices.astype(np.float32)
    warped = warp(images, matrices, fill)
    for n in range(5):
        for row in range(shape[0]):
            for column in range(shape[1]):
                y, x = matrices[n].astype(float) @ [row, column, 1]
                if fill == "edge":
                    y, x = np.clip(y, 0, shape[0] - 1), np.clip(x, 0, shape[1] - 1)
                expected = bilinear(images[n], y, x, 0 if fill == "edge" else fill)
                assert np.allclose(warped[n, row, column], expected, atol=0.01)


def test_warp_identity_quarter_turn_and_mirror():
    images = pixels(2, 8, 8)
    identity = np.tile([[1.0, 0, 0], [0, 1.0, 0]], (2, 1, 1))
    assert np.array_equal(warp(images, identity), images)
    quarter_turn = np.tile([[0, 1.0, 0], [-1.0, 0, 7]], (2, 1, 1))
    assert np.array_equal(warp(images, quarter_turn), np.rot90(images, axes=(1, 2)))
    flipped = Augment(shift=0, rotation=0, scale=0, shear=0, flip=True)(images[[0] * 2], 0, 0, [0, 1])
    assert all(np.array_equal(image, images[0]) or np.array_equal(image, images[0][:, ::-1]) for image in flipped)


def test_flip_happens_in_half_of_the_images():
    images = np.tile(np.array([[[0, 255]]], np.uint8), (2000, 1, 1))
    flipped = Augment(shift=0, rotation=0, scale=0, shear=0, flip=True)(images, seed=0, epoch=0)[:, 0, 0] == 255
    assert 900 < flipped.sum() < 1100


def test_no_distortion_when_all_limits_are_zero():
    images = pixels(3, 28, 28)
    assert np.array_equal(Augment(shift=0, rotation=0, scale=0, shear=0)(images, 0, 0), images)


def test_distortion_depends_on_seed_epoch_and_index_alone():
    images = digits()[0][::50]
    augment = Augment()
    whole = augment(images, seed=7, epoch=2)
    assert np.array_equal(augment(images, seed=7, epoch=2), whole)
    shuffled = random(0).permutation(100)
    assert np.array_equal(augment(images[shuffled], 7, 2, shuffled), whole[shuffled])
    assert np.array_equal(augment(images[90:91], 7, 2, [90])[0], whole[90])
    assert not np.array_equal(augment(images, 7, 3), whole) and not np.array_equal(augment(images, 8, 2), whole)
    assert images.dtype == np.uint8 and np.array_equal(images, digits()[0][::50])


def test_batches_with_augmentation_do_not_depend_on_the_batch_size():
    dataset = digits_split()[1]
    one = np.concatenate([x for x, _ in dataset.batches(64, seed=0, epoch=1, augment=Augment())])
    other = np.concatenate([x for x, _ in dataset.batches(1000, seed=0, epoch=1, augment=Augment())])
    assert np.array_equal(one, other)


@pytest.mark.parametrize("augment", [None, Augment(canvases=((1, 1), (2, 1.5)))], ids=["plain", "augmented"])
@pytest.mark.parametrize("shape", [(6, 5), None], ids=["one size", "several sizes"])
def test_parts_of_batches_make_up_the_batches(augment, shape):
    dataset = (
        small(shape=shape) if shape else Dataset([pixels(4, 5 + i % 2) for i in range(9)], [0, 1, 0] * 3, ["a", "b"])
    )
    whole = list(dataset.batches(7, seed=1, epoch=2, augment=augment))
    for ranks in (2, 3, 9):
        parts = [list(dataset.batches(7, seed=1, epoch=2, augment=augment, rank=r, ranks=ranks)) for r in range(ranks)]
        for number, batch in enumerate(whole):
            for array, pieces in zip(batch, zip(*(part[number] for part in parts), strict=True), strict=True):
                np.testing.assert_array_equal(np.concatenate(pieces), array)
        neighbours = list(dataset.batches(7, seed=1, epoch=2, augment=augment, rank=range(1, ranks), ranks=ranks))
        for (x, labels), first, last in zip(whole, parts[0], neighbours, strict=True):
            np.testing.assert_array_equal(last[0], x[len(first[0]) :])
            np.testing.assert_array_equal(last[1], labels[len(first[1]) :])


def test_distortions_stay_within_their_limits():
    augment = Augment(shift=0.1, rotation=15, scale=0.2, shear=0)
    matrices = augment.matrices(augment.draws(0, 0, 5000), 29, 29)
    linear = matrices[:, :, :2]
    factor = 1 / np.sqrt(np.linalg.det(linear))
    angle = np.rad2deg(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    centre = matrices @ [14.0, 14.0, 1.0] - 14.0
    for value, limit in ((np.log(factor), np.log(1.2)), (angle, 15.0), (centre, 2.9)):
        assert np.abs(value).max() <= limit * (1 + 1e-9) and np.abs(value).max() > 0.98 * limit
        assert np.abs(value.mean()) < 0.05 * limit


def test_matrices_are_the_product_of_their_parts():
    augment = Augment(shift=0.1, rotation=40, scale=0.5, shear=30, flip=True)
    draws = augment.draws(0, 0, 50)
    for row, matrix in zip(2 * draws - 1, augment.matrices(draws, 20, 30), strict=True):
        angle, lean = np.deg2rad(40 * row[0]), np.tan(np.deg2rad(30 * row[2]))
        centre = np.array([9.5, 14.5])
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shear = np.array([[1, 0], [lean, 1]])
        mirror = np.diag([1.0, -1.0 if row[5] < 0 else 1.0])
        for place in np.array([[0.0, 0.0], [3.0, 7.0], [19.0, 29.0]]):
            expected = rotation @ shear @ mirror @ (place - centre) / 1.5 ** row[1] + centre + 0.1 * row[3:5] * [20, 30]
            assert np.allclose(matrix @ [*place, 1.0], expected)


STILL = {"shift": 0, "rotation": 0, "scale": 0, "shear": 0}


@pytest.mark.parametrize("canvas", [(1, 1), (2, 1.5)], ids=["own size", "canvas"])
def test_random_crops_lie_in_the_image_and_have_the_areas_and_proportions_they_are_given(canvas):
    augment = Augment(**STILL, crop=0.3, aspect=1.5, canvases=(canvas,))
    height, width = 30, 40
    rows, columns = size = round(height * canvas[0]), round(width * canvas[1])
    draws = augment.draws(seed=1, epoch=0, count=500)
    whole = Augment(**STILL, canvases=(canvas,)).matrices(draws, height, width, size)
    found = augment.matrices(draws, height, width, size)
    # In fractions of the uncropped output: the corners of a crop, and its sides.
    sides = np.linalg.solve(whole[:, :, :2], found[:, :, :2])
    corners = np.array([[-0.5, rows - 0.5], [-0.5, columns - 0.5]])
    places = sides @ corners + np.linalg.solve(whole[:, :, :2], (found - whole)[:, :, 2:])
    assert (places > corners.min(axis=1)[None, :, None] - 1e-9).all() and (
        places < corners.max(axis=1)[None, :, None] + 1e-9
    ).all()
    shares = sides[:, [0, 1], [0, 1]]
    area, ratio = shares.prod(axis=1), shares[:, 1] / shares[:, 0]
    assert 0.25 < area.min() < 0.35 and 0.95 < area.max() <= 1 + 1e-9
    assert 1 / 1.5 - 1e-9 <= ratio.min() < 0.7 and 1.4 < ratio.max() <= 1.5 + 1e-9
    assert abs(np.log(ratio).mean()) < 0.05


def test_colours_change_in_brightness_contrast_and_saturation():
    images = pixels(40, 9, 8, 3) // 2 + 60
    luma = np.array([0.299, 0.587, 0.114])

    def changed(**limits):
        return Augment(**STILL, **limits)(images, seed=3, epoch=1).astype(np.float64)

    factors = changed(brightness=0.25) / images
    assert np.ptp(factors, axis=(1, 2, 3)).max() < 1e-4
    assert 0.75 <= factors.min() < 0.8 and 1.2 < factors.max() <= 1.25
    contrast = changed(contrast=0.25)
    np.testing.assert_allclose(contrast.mean(axis=(1, 2, 3)), images.mean(axis=(1, 2, 3)), rtol=1e-5)
    ratios = contrast.std(axis=(1, 2, 3)) / images.std(axis=(1, 2, 3))
    assert 0.75 <= ratios.min() < 0.8 and 1.2 < ratios.max() <= 1.25
    saturated = changed(saturation=0.25)
    np.testing.assert_allclose(saturated @ luma, images @ luma, rtol=1e-5)
    assert 0.75 <= (saturated - (images @ luma)[..., None]).std() / (images - (images @ luma)[..., None]).std() <= 1.25
    grey = images[..., 0]
    np.testing.assert_allclose(Augment(**STILL, saturation=0.5)(grey, 0, 0), grey, atol=1e-4)
    bright = Augment(**STILL, brightness=1.0)(images * 0 + 200, 0, 0)
    assert bright.max() == 255 and bright.min() >= 0
    photos = Augment.for_photos()
    alone = photos(images[7:8], 5, 2, [7])
    assert np.array_equal(alone[0], photos(images, 5, 2)[7])


def test_mixup_mixes_images_and_labels_of_a_batch_in_the_same_proportions():
    dataset, alpha = small(60, shape=(5, 4)), 0.4
    still, mixing = Augment(**STILL), Augment(**STILL, mixup=alpha)
    plain = list(dataset.batches(16, seed=2, epoch=1, augment=still))
    shares = []
    for (x, labels), (mixed, probabilities) in zip(
        plain, dataset.batches(16, seed=2, epoch=1, augment=mixing), strict=True
    ):
        one_hot = np.eye(len(dataset.class_names))[labels]
        step = np.roll(x, -1, axis=0) - x
        share = 1 - ((mixed - x) * step).sum(axis=(1, 2, 3)) / (step**2).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(mixed, x + (1 - share)[:, None, None, None] * step, atol=1e-5)
        expected = share[:, None] * one_hot + (1 - share)[:, None] * np.roll(one_hot, -1, axis=0)
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
        assert probabilities.dtype == np.float32
        shares += share.tolist()
    assert 0 <= min(shares) < 0.05 and 0.95 < max(shares) <= 1 + 1e-6
    with pytest.raises(SettingError, match="whole batch"):
        dataset.batches(16, seed=2, augment=mixing, ranks=2)
    _, probabilities = mixing.mixed(np.zeros((8000, 1)), np.arange(8000) % 2, mixing.shares(0, 0, 8000), 2)
    share = probabilities[::2, 0]
    assert share.mean() == pytest.approx(0.5, abs=0.02) and share.var() == pytest.approx(1 / (8 * alpha + 4), rel=0.05)


def test_augmentation_is_fast():
    images = digits_split()[0].images
    seconds = []
    for epoch in range(4):
        start = time.perf_counter()
        Augment()(images, seed=0, epoch=epoch)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.25


@pytest.mark.parametrize(
    "wrong",
    [
        {"shift": -0.1},
        {"rotation": 181},
        {"scale": float("nan")},
        {"shear": "5"},
        {"flip": 1},
        {"fill": "black"},
        {"fill": 256},
        {"shift": True},
        {"crop": 0},
        {"aspect": 0.5},
        {"saturation": 1.5},
        {"mixup": -0.1},
    ],
)
def test_wrong_settings_of_augment(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        Augment(**wrong)


def test_wrong_arguments_of_augment_and_warp():
    with pytest.raises(ShapeError):
        Augment()(pixels(4, 4), 0, 0)
    with pytest.raises(ShapeError):
        Augment()(pixels(2, 4, 4), 0, 0, indices=[0])
    with pytest.raises(SettingError):
        Augment()(pixels(2, 4, 4), -1, 0)
    with pytest.raises(DtypeError):
        warp(np.zeros((1, 4, 4)), np.zeros((1, 2, 3)))
    with pytest.raises(SettingError):
        warp(pixels(1, 4, 4), np.full((1, 2, 3), np.nan))
    with pytest.raises(ShapeError):
        warp(pixels(2, 4, 4), np.zeros((1, 2, 3)))
    assert Augment()(pixels(0, 4, 4), 0, 0).shape == (0, 4, 4)


# ── Folders ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def make_folder(folder, classes=("cat", "dog"), count=3, shape=(8, 9)):
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            im.write_png(folder / name / f"{i}.png", pixels(*shape, seed=10 * k + i))
    return folder


def test_folder(tmp_path, either_reader):
    dataset = load(make_folder(tmp_path / "pets"))
    assert dataset.class_names == ("cat", "dog") and dataset.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.name == "pets" and dataset.size == (8, 9) and dataset.channels == 1
    assert np.array_equal(dataset.images[4], pixels(8, 9, seed=11))
    assert load(tmp_path / "pets", size=(4, 5)).size == (4, 5) and load(tmp_path / "pets", channels=3).channels == 3


def test_folder_with_several_sizes_and_colours(tmp_path, either_reader):
    folder = make_folder(tmp_path / "pets")
    im.write_png(folder / "dog" / "9.png", pixels(5, 4, 3))
    dataset = load(folder)
    assert dataset.size is None and dataset.channels == 3
    assert np.array_equal(dataset.images[0][:, :, 1], pixels(8, 9, seed=0))
    assert load(folder, channels=1).channels == 1


def test_numbered_classes_are_in_numeric_order(tmp_path):
    assert load(make_folder(tmp_path / "n", [str(k) for k in range(11)], 1)).class_names == tuple(map(str, range(11)))


def test_other_files_of_a_folder_do_not_matter(tmp_path):
    folder = make_folder(tmp_path / "pets")
    (folder / "cat" / "notes.txt").write_text("hello")
    (folder / "cat" / ".hidden.png").write_text("hello")
    (folder / "cat" / "folder.png").mkdir()
    (folder / "__MACOSX").mkdir()
    (folder / ".git").mkdir()
    (folder / "README").write_text("hello")
    assert len(load(folder)) == 6


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "gif", "webp", "tif"])
def test_formats_of_pillow(tmp_path, suffix):
    Image = pytest.importorskip("PIL.Image")
    folder = make_folder(tmp_path / "pets")
    smooth = np.add.outer(np.arange(30) * 4, np.arange(20) * 6).astype(np.uint8)
    Image.fromarray(np.stack([smooth] * 3, axis=2)).save(folder / "cat" / f"x.{suffix}")
    last = load(folder).images[3]
    assert last.shape == (30, 20, 3) and np.abs(last[:, :, 0].astype(int) - smooth).mean() < 5


def test_jpeg_without_pillow_names_the_extra(tmp_path, no_pillow):
    folder = make_folder(tmp_path / "pets")
    (folder / "cat" / "x.jpg").write_bytes(b"\xff\xd8\xff\xe0rest")
    with pytest.raises(DataError, match=r"x\.jpg.*pip install 'cnncore\[data\]'") as excinfo:
        load(folder)
    one_line(excinfo)


def test_wrong_folders(tmp_path, either_reader):
    def message(path, **settings):
        with pytest.raises(DataError) as excinfo:
            load(path, **settings)
        return one_line(excinfo)

    assert "no such file" in message(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "empty" in message(tmp_path / "empty") and "cats/1.png" in message(tmp_path / "empty")
    (tmp_path / "loose").mkdir()
    im.write_png(tmp_path / "loose" / "1.png", pixels(3, 3))
    assert "no subfolders" in message(tmp_path / "loose")
    assert "one class" in message(make_folder(tmp_path / "single", ["cat"]))
    pets = make_folder(tmp_path / "pets")
    (pets / "bird").mkdir()
    assert "no images in class 'bird'" in message(pets)
    make_folder(tmp_path / "parts" / "train")
    make_folder(tmp_path / "parts" / "val")
    assert f"did you mean {tmp_path / 'parts' / 'train'}?" in message(tmp_path / "parts")
    broken = make_folder(tmp_path / "broken")
    (broken / "dog" / "1.png").write_bytes((broken / "dog" / "1.png").read_bytes()[:50])
    assert str(broken / "dog" / "1.png") in message(broken)
    (broken / "dog" / "1.png").write_bytes(b"")
    assert str(broken / "dog" / "1.png") in message(broken)
    (tmp_path / "file.txt").write_text("hello")
    assert "expected a folder" in message(tmp_path / "file.txt")
    assert "no such file" in message("a\0b")
    assert "no such file" in message("absent.idx:absent2.idx")
    with pytest.raises(SettingError):
        load(pets, part="val")
    with pytest.raises(SettingError):
        load(pets, channels=2)


def test_a_folder_larger_than_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("cnncore.io.npz.LARGEST_DATASET_BYTES", 300)
    folder = make_folder(tmp_path / "pets")
    with pytest.raises(DataError, match="size"):
        load(folder)
    assert load(folder, size=4).size == (4, 4)


# ── IDX ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def idx(array, kind=0x08):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape) + array.tobytes()


def idx_pair(folder, images, labels, pack=lambda content: content, suffix=""):
    folder.mkdir(exist_ok=True)
    (folder / f"train-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images)))
    (folder / f"train-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels)))
    return folder


IMAGES, LABELS = pixels(6, 4, 5), np.array([0, 1, 2, 2, 1, 0], np.uint8)


@pytest.mark.parametrize(("pack", "suffix"), [(bytes, ""), (gzip.compress, ".gz")])
def test_idx(tmp_path, pack, suffix):
    folder = idx_pair(tmp_path / "mnist", IMAGES, LABELS, pack, suffix)
    dataset = load(folder)
    assert np.array_equal(dataset.images, IMAGES) and np.array_equal(dataset.labels, LABELS)
    assert dataset.class_names == ("0", "1", "2")
    (folder / f"t10k-images-idx3-ubyte{suffix}").write_bytes(pack(idx(IMAGES[:2])))
    (folder / f"t10k-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(LABELS[:2])))
    assert len(load(folder)) == 6 and len(load(folder, part="test")) == 2
    named = load(f"{folder / ('train-images-idx3-ubyte' + suffix)}:{folder / ('train-labels-idx1-ubyte' + suffix)}")
    assert np.array_equal(named.images, IMAGES)


def test_idx_with_colour_and_wide_labels(tmp_path):
    (tmp_path / "i").write_bytes(idx(pixels(3, 4, 5, 3)))
    (tmp_path / "l").write_bytes(idx(np.array([700, -5, 700], ">i4"), 0x0C))
    dataset = load(f"{tmp_path / 'i'}:{tmp_path / 'l'}")
    assert dataset.channels == 3 and dataset.class_names == ("-5", "700") and dataset.labels.tolist() == [1, 0, 1]


def test_wrong_idx(tmp_path):
    def message(images, labels):
        (tmp_path / "i").write_bytes(images)
        (tmp_path / "l").write_bytes(labels)
        with pytest.raises(DataError) as excinfo:
            load(f"{tmp_path / 'i'}:{tmp_path / 'l'}")
        return one_line(excinfo)

    assert "5 labels for 6 images" in message(idx(IMAGES), idx(LABELS[:5]))
    assert "swap them" in message(idx(LABELS), idx(IMAGES))
    assert "one class" in message(idx(IMAGES), idx(LABELS * 0))
    assert "not an IDX file" in message(b"\x89PNG....", idx(LABELS))
    assert "not an IDX file" in message(b"\0\0\x07\1\0\0\0\0", idx(LABELS))
    assert "longer" in message(idx(IMAGES) + b"\0", idx(LABELS))
    assert "truncated" in message(idx(IMAGES)[:-1], idx(LABELS))
    assert "or truncated" in message(gzip.compress(idx(IMAGES))[:-1], idx(LABELS))
    assert "expected images" in message(idx(IMAGES[:, :0]), idx(LABELS))
    assert "one integer" in message(idx(IMAGES), idx(LABELS.astype(">f4"), 0x0D))
    assert "too short" in message(struct.pack(">BBBB4I", 0, 0, 8, 4, *[2**32 - 1] * 4), idx(LABELS))
    folder = idx_pair(tmp_path / "alone", IMAGES, LABELS)
    (folder / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="no labels beside it"):
        load(folder)
    with pytest.raises(DataError, match="0 IDX files with images of part 'test'"):
        load(folder, part="test")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_huge_declared_idx_takes_no_memory(tmp_path, pack):
    header = struct.pack(">BBBB3I", 0, 0, 8, 3, 3_000_000, 28, 28)  # 2.2 GiB
    (tmp_path / "i").write_bytes(pack(header + b"\0" * 3_000_000))
    (tmp_path / "l").write_bytes(idx(LABELS))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="truncated"):
            load(f"{tmp_path / 'i'}:{tmp_path / 'l'}")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_truncated_at_every_length(tmp_path, pack):
    images, labels = pack(idx(IMAGES)), pack(idx(LABELS))
    for whole, part, other in (("i", images, labels), ("l", labels, images)):
        (tmp_path / ("l" if whole == "i" else "i")).write_bytes(other)
        for length in range(len(part)):
            (tmp_path / whole).write_bytes(part[:length])
            with pytest.raises(DataError) as excinfo:
                load(f"{tmp_path / 'i'}:{tmp_path / 'l'}")
            one_line(excinfo)


@fuzz
@given(st.data(), st.sampled_from([bytes, gzip.compress]))
def test_damaged_idx(tmp_path, data, pack):
    (tmp_path / "i").write_bytes(flip_bits(data, pack(idx(IMAGES))))
    (tmp_path / "l").write_bytes(pack(idx(LABELS)))
    only_data_error(load, f"{tmp_path / 'i'}:{tmp_path / 'l'}")


# ── npz ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def npz(tmp_path, **arrays):
    np.savez_compressed(tmp_path / "set.npz", **arrays)
    return tmp_path / "set.npz"


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (IMAGES, IMAGES),
        (IMAGES[..., None], IMAGES),
        (IMAGES[:, None], IMAGES),
        (np.asfortranarray(IMAGES), IMAGES),
        (IMAGES.astype(">u2"), IMAGES),
        (IMAGES.astype(np.float64), IMAGES),
        (IMAGES / 255, IMAGES),
        ((IMAGES / 255).astype(np.float32), IMAGES),
        (IMAGES > 99, np.where(IMAGES > 99, 255, 0)),
        (pixels(6, 4, 5, 3), pixels(6, 4, 5, 3)),
        (pixels(6, 4, 5, 3).transpose(0, 3, 1, 2), pixels(6, 4, 5, 3)),
    ],
)
def test_npz_images(tmp_path, images, expected):
    dataset = load(npz(tmp_path, images=images, labels=LABELS))
    assert dataset.images.dtype == np.uint8 and np.array_equal(dataset.images, expected)
    assert dataset.name == "set"


def test_npz_labels_and_names(tmp_path):
    assert load(npz(tmp_path, x=IMAGES, y=LABELS + 5)).class_names == ("5", "6", "7")
    assert load(npz(tmp_path, x=IMAGES, y=LABELS[:, None].astype(float))).labels.tolist() == LABELS.tolist()
    both = npz(tmp_path, x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:3], y_test=LABELS[:3])
    assert len(load(both)) == 6 and len(load(both, part="test")) == 3
    assert load(npz(tmp_path, images=IMAGES, labels=list("abcabc"))).class_names == ("a", "b", "c")
    assert load(npz(tmp_path, images=IMAGES, labels=LABELS, class_names=["x", "y", "z"])).class_names == ("x", "y", "z")


class Planted:
    """Unpickling this runs a program; reading a data set must not."""

    def __reduce__(self):
        return (pathlib.Path.touch, (pathlib.Path("planted"),))


def test_wrong_npz(tmp_path, monkeypatch):
    def message(path):
        with pytest.raises(DataError) as excinfo:
            load(path)
        return one_line(excinfo)

    monkeypatch.chdir(tmp_path)
    assert "expected arrays" in message(npz(tmp_path, a=IMAGES, b=LABELS))
    assert "4 labels for 6 images" in message(npz(tmp_path, images=IMAGES, labels=LABELS[:4]))
    assert "one class" in message(npz(tmp_path, images=IMAGES, labels=LABELS * 0))
    assert "expected images" in message(npz(tmp_path, images=IMAGES.reshape(6, 20), labels=LABELS))
    assert "expected images" in message(npz(tmp_path, images=IMAGES[:0], labels=LABELS[:0]))
    assert "expected 0 to 255" in message(npz(tmp_path, images=IMAGES.astype(int) * 2, labels=LABELS))
    assert "expected 0 to 255" in message(npz(tmp_path, images=np.full((6, 2, 2), np.nan), labels=LABELS))
    assert "expected numbers" in message(npz(tmp_path, images=np.full((6, 2, 2), "a"), labels=LABELS))
    assert "one integer or name" in message(npz(tmp_path, images=IMAGES, labels=np.eye(6)))
    assert "one integer or name" in message(npz(tmp_path, images=IMAGES, labels=LABELS + 0.5))
    assert "no images in class 'w'" in message(npz(tmp_path, images=IMAGES, labels=LABELS, class_names=list("xyzw")))
    assert "expected 0 to 1" in message(npz(tmp_path, images=IMAGES, labels=LABELS, class_names=list("xy")))
    assert "expected numbers" in message(npz(tmp_path, images=np.array([Planted()] * 6), labels=LABELS))
    assert not (tmp_path / "planted").exists()
    assert "more than 64" in message(
        npz(tmp_path, images=IMAGES, labels=LABELS, **{f"a{k}": LABELS for k in range(64)})
    )
    (tmp_path / "not.npz").write_bytes(b"PK\3\4 but no zip")
    assert "damaged" in message(tmp_path / "not.npz")


def entry(header_shape, dtype="|u1", content=b""):
    """An npy file that declares ``header_shape`` whatever its content."""
    header = repr({"descr": dtype, "fortran_order": False, "shape": header_shape}).encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header) + 1) + header + b"\n" + content


@pytest.mark.parametrize(
    "hostile",
    [
        entry((2**62, 4)),
        entry((2**40,)),
        entry((-1, 28, 28)),
        entry((2**63, 2**63, 0)),
        entry((6, 4, 5), content=b"\0" * 121),
        entry((6, 4, 5), content=b"\0" * 119),
        entry((6, 4, 5), "|O", content=b"\0" * 960),
        entry((6, 4, 5), "|V1", content=b"\0" * 120),
        entry((6, 4, 5), [("a", "|u1")], content=b"\0" * 120),
        entry((6, 4, 5), "__import__('os')", content=b"\0" * 120),
        b"\x93NUMPY\3\0" + b"\0" * 100,
        b"\x93NUMPY\1\0\xff\xff{'descr':",
        b"",
    ],
)
def test_hostile_npy_entries(tmp_path, hostile):
    with zipfile.ZipFile(tmp_path / "set.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", hostile)
        archive.writestr("labels.npy", entry((6,), content=LABELS.tobytes()))
    with pytest.raises(DataError) as excinfo:
        load(tmp_path / "set.npz")
    one_line(excinfo)


def test_declared_npy_size_is_compared_with_the_entry(tmp_path):
    for shape in ((2**62, 4), (2**40,), (-1, 28, 28), (7, 4, 5)):
        with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
            archive.writestr("images.npy", entry(shape, content=IMAGES.tobytes()[:-9]))
            archive.writestr("labels.npy", entry((6,), content=LABELS.tobytes()))
        with pytest.raises(DataError, match=r"more than it contains|not have the length") as excinfo:
            load(tmp_path / "set.npz")
        assert shape == (7, 4, 5) or "more than it contains" in one_line(excinfo)


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("cnncore.io.npz.LARGEST_DATASET_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "set.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", entry((2**24, 1, 1)) + b"\0" * 2**24)
        archive.writestr("labels.npy", entry((6,), content=LABELS.tobytes()))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="memory"):
            load(tmp_path / "set.npz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_declared_size_of_a_zip_entry_is_compared_with_its_compressed_size(tmp_path):
    file = npz(tmp_path, images=IMAGES, labels=LABELS)
    content = bytearray(file.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\1\2") + 24, 2**31)  # uncompressed size in the directory
    file.write_bytes(content)
    with pytest.raises(DataError, match="declares more bytes than it can contain"):
        load(file)


def test_npz_truncated_at_every_length(tmp_path):
    content = npz(tmp_path, images=IMAGES[:, :2, :2], labels=LABELS).read_bytes()
    for length in range(len(content)):
        (tmp_path / "cut.npz").write_bytes(content[:length])
        with pytest.raises(DataError) as excinfo:
            load(tmp_path / "cut.npz")
        one_line(excinfo)


@fuzz
@given(st.data())
def test_damaged_npz(tmp_path, data):
    file = npz(tmp_path, images=IMAGES, labels=LABELS)
    file.write_bytes(flip_bits(data, file.read_bytes()))
    only_data_error(load, file)


# ── What users' folders hold ───────────────────────────────────────────────────────────────────────────────────────────


def pictures(folder, *names, level=0):
    """Small PNG files; their kind is seen from what they hold, whatever they are called."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(im.write_png(None, np.full((6, 6), level + number, np.uint8)))


def test_every_picture_that_is_read_counts_wherever_it_lies(tmp_path):
    for place, name in enumerate(("cat", "dog")):
        pictures(tmp_path / name, *(f"{n}{s}" for n, s in enumerate(data_files.IMAGE_SUFFIXES)), level=50 * place)
        pictures(tmp_path / name, "monday/0.png", "monday/noon/1.PNG", "tuesday/0.jfif", level=50 * place)
    pictures(tmp_path / "__background__", "0.png")
    pictures(tmp_path / "__MACOSX", "0.png")
    pictures(tmp_path / "cat" / "__MACOSX", "0.png")
    pictures(tmp_path / ".thumbnails", "0.png")
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    found = data.load(tmp_path)
    assert found.class_names == ("__background__", "cat", "dog")
    assert found.class_counts.tolist() == [1, *2 * [len(data_files.IMAGE_SUFFIXES) + 3]]


def test_pictures_of_kinds_that_are_not_read_are_named(tmp_path):
    for name in ("cat", "dog"):
        pictures(tmp_path / name, "0.png", "1.heic", "2.HEIC", "deeper/3.avif")
    with pytest.warns(UserWarning, match=r"cat: 2 of \.heic, 1 of \.avif are skipped") as warned:
        assert len(data.load(tmp_path)) == 2
    assert len(warned) == 2
    (tmp_path / "dog" / "0.png").unlink()
    with pytest.raises(
        DataError, match=r"'dog'; it has 2 of \.heic, 1 of \.avif, which are not read; convert them to .*\.png"
    ):
        data.load(tmp_path)
    for file in (tmp_path / "dog").rglob("*.*"):
        file.unlink()
    (tmp_path / "dog" / "list.csv").touch()
    with pytest.raises(DataError, match=r"no images in class 'dog'; it has 1 of \.csv; \.png, .* are read"):
        data.load(tmp_path)


def test_parts_of_a_data_set_are_no_classes(tmp_path):
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            pictures(tmp_path / part / name, "0.png")
    with pytest.raises(DataError, match=r"parts of a data set \(train, val\), not classes; did you mean .*train\?"):
        data.load(tmp_path)


@pytest.mark.parametrize("kind", ["folder", "npz", "idx"])
def test_a_part_held_out_may_lack_classes(tmp_path, kind):
    """One image of one class is a test part; as a part to train on it is refused."""
    if kind == "folder":
        pictures(tmp_path / "train" / "cat", "0.png", "1.png")
        pictures(tmp_path / "train" / "dog", "0.png", "1.png")
        pictures(tmp_path / "val" / "dog", "0.png")
        (tmp_path / "val" / "cat").mkdir()
        place, alone, label = tmp_path, tmp_path / "val", "dog"
    elif kind == "npz":
        place = alone = tmp_path / "all.npz"
        images = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 6, 6), np.uint8)
        np.savez(place, x_train=images[:4], y_train=[3, 5, 3, 5], x_test=images[4:], y_test=[5])
        label = "5"
    else:
        place = alone = tmp_path
        for part, labels in (("train", [3, 5, 3, 5]), ("t10k", [5])):
            header = struct.pack(">BBBBIII", 0, 0, 8, 3, len(labels), 6, 6)
            (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(header + bytes(36 * len(labels)))
            header = struct.pack(">BBBBI", 0, 0, 8, 1, len(labels))
            (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(header + bytes(labels))
        label = "5"
    from cnncore.train.job import Options, labelled_images

    train, held_out = labelled_images(Options(data=str(place)))
    assert held_out.class_names == train.class_names and held_out.labels.tolist() == [1]
    assert held_out.class_names[1] == label
    with pytest.raises(DataError, match=r"one class|no images in class"):
        data.load(alone, "train" if kind == "folder" else "test")


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"\x01bell", "猫".encode() * 80, b"a" * 250, b"<&>'"])
def test_names_of_any_kind_can_be_printed_and_written(tmp_path, name):
    """A whole training: its model, its samples and its report are there, and the report is well-formed."""
    import json
    import os
    from xml.etree import ElementTree

    from cnncore.cli.report import write_report
    from cnncore.train.job import Job, Options

    if sys.platform == "darwin" and not name.isascii() and b"\xe9" in name:
        pytest.skip("file systems there take UTF-8 only")
    root = os.fsencode(tmp_path) + b"/data/"
    for other, folder in enumerate((name, b"other")):
        os.makedirs(root + folder)
        for number in range(4):
            with open(root + folder + b"/%d.png" % number, "wb") as file:
                file.write(im.write_png(None, np.full((28, 28), 90 * other + number, np.uint8)))
    job = Job(Options(data=os.fsdecode(root), epochs=1, augment=False), tmp_path / "run")
    tested = job.run()
    written = job.write_samples()
    assert written and all(path.is_file() for path in written)
    write_report(job, tested, 1.0)
    ElementTree.fromstring(job.report.read_text(encoding="utf-8").partition("\n")[2])
    classes = job.train.class_names
    assert len(classes) == 2 and all(text.isprintable() for text in classes)
    json.dumps(classes).encode("utf-8")
    "".join(classes).encode("utf-8")
