"""Images that stay in their files give the batches that the same images in memory give."""

import threading

import numpy as np
import pytest

from cnncore.errors import DataError, ShapeError
from cnncore.train import Augment, FileDataset, data, file_data
from cnncore.vision.images import image_shape, read_image, write_png
from cnncore.vision.preprocessing import framed


@pytest.fixture
def folder(tmp_path):
    """Two classes of images of several sizes; one is grey, the others are RGB."""
    rng = np.random.default_rng(0)
    for number in range(10):
        place = tmp_path / "photos" / ("cat", "dog")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        shape = (20 + number, 34 - number, *(() if number == 3 else (3,)))
        write_png(place / f"{number}.png", rng.integers(0, 256, shape).astype(np.uint8))
    return tmp_path / "photos"


def in_memory(photos):
    images = [
        framed(read_image(file, photos.channels), photos.images.resize, photos.size) for file in photos.images.files
    ]
    return data.Dataset(images, photos.labels, photos.class_names, photos.name)


@pytest.mark.parametrize("settings", [{}, {"size": 12}, {"size": (9, 14), "resize": 16}, {"channels": 1}], ids=str)
def test_batches_are_those_of_the_images_in_memory(folder, settings):
    photos = FileDataset.from_folder(folder, **settings)
    other = in_memory(photos)
    assert (photos.mean, photos.std) == (other.mean, other.std) and repr(photos).endswith(repr(other)[7:])
    for held, arguments in ((photos, {}), (photos, {"seed": 3, "epoch": 1, "augment": Augment()})):
        pairs = zip(held.batches(3, **arguments), other.batches(3, **arguments), strict=True)
        for (x, y), (expected, labels) in pairs:
            assert np.array_equal(x, expected) and np.array_equal(y, labels)
    for part, expected in zip(photos.split(0.4, seed=1), other.split(0.4, seed=1), strict=True):
        assert isinstance(part, FileDataset)
        assert np.array_equal(part.images[:], expected.images) and part.mean == expected.mean
    assert np.array_equal(
        photos.resized(8).images[2], framed(read_image(photos.images.files[2], photos.channels), 8, (8, 8))
    )


def test_nothing_is_read_before_it_is_needed_and_the_rest_ahead(folder, monkeypatch):
    read = []

    def noted(path, channels):
        read.append((path.name, threading.current_thread().name))
        return read_image(path, channels)

    monkeypatch.setattr(file_data, "read_image", noted)
    photos = FileDataset.from_folder(folder, size=8, mean=[0.5] * 3, std=[0.25] * 3)
    assert not read
    batches = photos.batches(2)
    next(batches)
    assert 2 <= len(read) <= 2 * (1 + file_data.BATCHES_AHEAD)
    assert all(thread.startswith("cnncore-images") for _, thread in read)
    batches.close()
    list(photos.batches(2))
    list(photos.batches(4))
    assert sorted(name for name, _ in read) == [f"{k}.png" for k in range(10)]  # each once: they are kept
    monkeypatch.setattr(file_data, "MOST_KEPT_BYTES", 0)
    small = FileDataset.from_folder(folder, size=8, mean=[0.5] * 3, std=[0.25] * 3)
    list(small.batches(5))
    list(small.batches(5))
    assert len(read) == 30


def test_a_damaged_file_is_named_when_it_is_reached(folder):
    broken = folder / "dog" / "1.png"
    broken.write_bytes(broken.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"1\.png: truncated PNG"):
        list(FileDataset.from_folder(folder, size=8, mean=[0.5] * 3, std=[0.25] * 3).batches(4))
    broken.unlink()
    (folder / "dog" / "no.png").write_text("text")
    with pytest.raises(DataError, match=r"no\.png"):
        FileDataset.from_folder(folder, size=8)


def test_labels_are_checked():
    images = file_data.ImageFiles(["a.png", "b.png"], (4, 4))
    for labels, error in (([0], ShapeError), ([0, 2], DataError), ([-1, 0], DataError)):
        with pytest.raises(error, match="photos: labels"):
            FileDataset(images, labels, ["a", "b"], "photos", [0.0] * 3, [1.0] * 3)
    with pytest.raises(DataError, match="no images"):
        FileDataset(images.chosen([]), [], ["a", "b"], "photos", [0.0] * 3, [1.0] * 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_the_header_says_what_reading_gives(tmp_path, mode):
    Image = pytest.importorskip("PIL.Image")
    file = tmp_path / ("image.tif" if mode in ("CMYK", "LA") else "image.png")
    Image.new(mode, (7, 5)).save(file)
    assert image_shape(file) == read_image(file).shape
    if mode == "RGB":
        turned = Image.new(mode, (7, 5)).getexif()
        turned[0x0112] = 6
        Image.new(mode, (7, 5)).save(tmp_path / "turned.jpg", exif=turned)
        assert image_shape(tmp_path / "turned.jpg") == read_image(tmp_path / "turned.jpg").shape == (7, 5, 3)
