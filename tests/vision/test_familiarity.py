"""Images unlike those of the training are noticed, and like ones are not."""

import numpy as np
import pytest

import cnncore
from cnncore.train.data import Dataset, digits_split
from cnncore.vision.classify import Classifier
from cnncore.vision.familiarity import pixel_record, unusual


@pytest.fixture(scope="module")
def digits():
    train, held_out = digits_split()
    return pixel_record(train), held_out.images[::7]


def pencil(digit, rng, paper=225, grain=6):
    """A digit as drawn with a pencil on paper."""
    drawn = paper - 0.6 * digit.astype(np.float64) + rng.normal(0, grain, digit.shape)
    return np.clip(drawn, 0, 255).astype(np.uint8)


def test_digits_are_familiar_and_pencil_on_paper_is_not(digits):
    record, images = digits
    rng = np.random.default_rng(0)
    assert [unusual(image, record) for image in images] == [None] * len(images)
    for image in images:
        assert "invert it: --invert" in unusual(pencil(image, rng), record)
        assert "omit --invert" in unusual(255 - image, record, inverted=True)
        assert unusual(255 - pencil(image, rng), record, inverted=True) is None
        assert "contrast" in unusual(image // 6, record)


def test_photographs_differ_in_exposure_and_colour(rng):
    photos = rng.integers(60, 200, (40, 12, 12, 3)).astype(np.uint8)
    record = pixel_record(Dataset(photos, np.arange(40) % 2, ["a", "b"]))
    assert record["coloured"] == 1
    assert unusual(photos[0], record) is None
    grey = np.repeat(photos[0][..., :1], 3, axis=2)
    assert "greyscale" in unusual(grey, record)
    assert "darker" in unusual(photos[0] // 8, record) and "lighter" in unusual(255 - photos[0] // 8, record)
    mixed = Dataset(np.concatenate([photos, grey[None]]), np.arange(41) % 2, ["a", "b"])
    assert unusual(grey, pixel_record(mixed)) is None


@pytest.mark.parametrize(
    "record",
    [
        None,
        3,
        [],
        {"background": 1},
        {"background": ["a", None]},
        {"contrast": [float("nan"), 1.0]},
        {"coloured": "yes"},
    ],
    ids=repr,
)
def test_a_record_from_a_file_may_be_anything(record, rng):
    image = rng.integers(0, 256, (9, 7, 3)).astype(np.uint8)
    assert unusual(image, record) is None and unusual(image[..., 0], record) is None


def test_predictions_say_it(digits):
    record, images = digits
    net = cnncore.models.small_inception()
    net.metadata = {"pixels": record}
    classifier = Classifier(net)
    plain, ink, inverted = classifier.classify_all([images[0], 255 - images[0], images[0]])
    assert plain.unlike is None and inverted.unlike is None and "--invert" in ink.unlike
    assert classifier.classify(255 - images[0], invert=True).unlike is None
    assert "omit --invert" in classifier.classify(images[0], invert=True).unlike
