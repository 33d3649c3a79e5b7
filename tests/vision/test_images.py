"""Image files: what is read, resized and written, and that damaged files only give DataError."""

import io
import struct
import sys
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.damage import flip_bits, fuzz, one_line, only_data_error, pixels

import cnncore
from cnncore.errors import DataError, DtypeError, SettingError, ShapeError
from cnncore.train.data import digits
from cnncore.vision import images as im

random = np.random.default_rng


# ── Reading images ────────────────────────────────────────────────────────────────────────────────────────────────────


def png(header, rows, *before):
    """A PNG from its header fields and filtered rows; ``before`` are chunks (kind, data) between header and pixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", *header)), *before, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return im.PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (28, 28), (28, 28, 3), (300, 7, 3), (5, 300)])
def test_png_round_trip(shape, either_reader):
    for image in (
        pixels(*shape),
        np.add.outer(np.arange(shape[0]), np.arange(shape[1])).astype(np.uint8),
        np.full(shape, 7, np.uint8),
    ):
        assert np.array_equal(im.read_image(im.write_png(None, image)), image)
        assert np.array_equal(im.read_image(im.write_png(None, image[::-1, ::-1])), image[::-1, ::-1])


@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize("step", [1, 3])
def test_row_filters_against_their_definition(kind, step):
    """Section 9.2 of the PNG specification, byte by byte."""
    height, width = 270, 6  # more rows than one band
    rows = pixels(height, 1 + width * step, seed=kind)
    rows[:, 0] = kind
    rows[::4, 0] = pixels(len(rows[::4]), seed=9) % 5
    decoded = np.zeros((height, width * step), int)
    filtered = rows.astype(int)
    for y in range(height):
        for x in range(width * step):
            a = decoded[y, x - step] if x >= step else 0
            b = decoded[y - 1, x] if y else 0
            c = decoded[y - 1, x - step] if y and x >= step else 0
            p = a + b - c
            paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            decoded[y, x] = (filtered[y, 1 + x] + (0, a, b, (a + b) // 2, paeth)[rows[y, 0]]) % 256
    assert np.array_equal(im._unfilter(rows, step), decoded)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (300, 33)])
def test_both_png_readers_agree(mode, shape, monkeypatch):
    Image = pytest.importorskip("PIL.Image")
    sample_count = {"LA": 2, "RGB": 3, "RGBA": 4}.get(mode, 1)
    for seed in range(3):
        samples = pixels(*shape, sample_count, seed=seed)
        if seed:  # smooth, so that Pillow's writer chooses every filter
            samples = np.add.outer(np.arange(shape[0]) * seed, np.arange(shape[1]) * 3)[:, :, None] + samples % 4
        samples = samples.astype(np.uint8)
        if mode == "I;16":
            image = Image.fromarray(samples[:, :, 0].astype(np.uint16) * 201)
        elif mode == "1":
            image = Image.fromarray(samples[:, :, 0]).convert("1")
        elif mode == "P":
            image = Image.fromarray(np.repeat(samples, 3, axis=2)).quantize((200, 13, 3)[seed])
        else:
            image = Image.fromarray(samples[:, :, 0] if sample_count == 1 else samples)
        for options in ({}, {"transparency": 0}) if mode in ("1", "L", "P") else ({},):
            file = io.BytesIO()
            image.save(file, "PNG", **options)
            with_pillow = im.read_image(file.getvalue())
            with monkeypatch.context() as patch:
                patch.setitem(sys.modules, "PIL", None)
                without = im.read_image(file.getvalue())
            assert with_pillow.shape == without.shape == (*shape, 3)[: without.ndim]
            assert np.array_equal(with_pillow, without)


def test_transparency_lies_over_white(either_reader):
    rows = b"".join(b"\0" + bytes(row) for row in ([200, 255, 200, 0], [200, 51, 0, 128]))
    assert im.read_image(png((2, 2, 8, 4, 0, 0, 0), rows)).tolist() == [[200, 255], [244, 127]]


def test_depths_below_a_byte(no_pillow):
    assert im.read_image(png((9, 1, 1, 0, 0, 0, 0), b"\0\xa5\x80")).tolist() == [[255, 0, 255, 0, 0, 255, 0, 255, 255]]
    assert im.read_image(png((3, 1, 2, 0, 0, 0, 0), b"\0\x1b")).tolist() == [[0, 85, 170]]
    assert im.read_image(png((3, 1, 4, 0, 0, 0, 0), b"\0\x0f\x80")).tolist() == [[0, 255, 136]]
    assert im.read_image(png((2, 1, 16, 0, 0, 0, 0), b"\0\x12\xff\xff\x00")).tolist() == [[0x12, 0xFF]]


def test_turned_photo_is_set_upright():
    Image = pytest.importorskip("PIL.Image")
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(pixels(10, 20)).save(file, "PNG", exif=exif)
    assert im.read_image(file.getvalue()).shape == (20, 10)


def test_interlaced_png_names_the_extra(no_pillow):
    with pytest.raises(DataError, match=r"interlaced.*pip install 'cnncore\[data\]'"):
        im.read_image(png((1, 1, 8, 0, 0, 0, 1), b"\0\7"))


def test_channels():
    rgb = pixels(4, 5, 3)
    grey = im.read_image(im.write_png(None, rgb), channels=1)
    assert np.abs(grey - rgb @ [0.299, 0.587, 0.114]).max() <= 0.5 + 1e-9
    assert np.array_equal(im.read_image(im.write_png(None, grey), channels=3), np.stack([grey] * 3, axis=2))
    with pytest.raises(SettingError):
        im.read_image(im.write_png(None, grey), channels=2)


@pytest.mark.parametrize("reader", ["with Pillow", "without Pillow"])
def test_wrong_images(tmp_path, reader, monkeypatch):
    if reader == "with Pillow":
        pytest.importorskip("PIL")
    else:
        monkeypatch.setitem(sys.modules, "PIL", None)

    def message(source):
        with pytest.raises(DataError) as excinfo:
            im.read_image(source)
        return one_line(excinfo)

    assert "no such file" in message(tmp_path / "absent.png")
    assert "folder" in message(tmp_path)
    assert message(b"")
    assert message(b"hello")
    assert message(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    assert "more than" in message(png((2**31 - 1, 2**31 - 1, 8, 6, 0, 0, 0), b""))
    assert "more than" in message(png((8193, 8192, 8, 0, 0, 0, 0), b""))
    assert message(png((8192, 8192, 8, 0, 0, 0, 0), b"\0" * 100))
    assert "0×5" in message(png((5, 0, 8, 0, 0, 0, 0), b""))
    for header in (
        (1, 1, 3, 0, 0, 0, 0),
        (1, 1, 8, 5, 0, 0, 0),
        (1, 1, 4, 2, 0, 0, 0),
        (1, 1, 8, 0, 1, 0, 0),
        (1, 1, 8, 0, 0, 1, 0),
    ):
        assert "impossible header" in message(png(header, b"\0\7"))
    assert message(png((1, 1, 8, 0, 0, 0, 0), b"\5\7"))
    assert message(png((1, 1, 8, 3, 0, 0, 0), b"\0\7"))


def test_wrong_png_without_pillow(no_pillow):
    def message(source):
        with pytest.raises(DataError) as excinfo:
            im.read_image(source)
        return one_line(excinfo)

    assert "palette" in message(png((1, 1, 8, 3, 0, 0, 0), b"\0\7", (b"PLTE", b"\0" * 9)))
    assert "another length" in message(png((1, 1, 8, 0, 0, 0, 0), b"\0"))
    assert "another length" in message(png((1, 1, 8, 0, 0, 0, 0), b"\0\7\7"))
    assert "transparency" in message(png((1, 1, 8, 0, 0, 0, 0), b"\0\7", (b"tRNS", b"\0")))
    whole = bytearray(png((1, 1, 8, 0, 0, 0, 0), b"\0\7"))
    whole[-20] ^= 1
    assert "checksum" in message(bytes(whole))


def test_bomb_of_zeros_takes_no_memory(no_pillow):
    bomb = png((100, 100, 8, 0, 0, 0, 0), b"\0" * 2**26)  # 64 kB that unpack to 64 MB
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="another length"):
            im.read_image(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_png_truncated_at_every_length(either_reader):
    content = im.write_png(None, pixels(9, 7, 3))
    for length in range(len(content)):
        with pytest.raises(DataError) as excinfo:
            im.read_image(content[:length])
        one_line(excinfo)


@fuzz
@given(st.data(), st.sampled_from([(9, 7), (9, 7, 3)]), st.booleans())
def test_damaged_png(data, shape, pillow):
    content = flip_bits(data, im.write_png(None, pixels(*shape)))
    with pytest.MonkeyPatch.context() as patch:
        if not pillow:
            patch.setitem(sys.modules, "PIL", None)
        image = only_data_error(im.read_image, content)
    assert image is None or (image.dtype == np.uint8 and image.ndim in (2, 3))


@fuzz
@given(st.data())
def test_damaged_pixels_with_right_checksums(data):
    """Checksums stop most damage; a hostile file has right ones, so the decoder behind them is tried too."""
    colour, depth = data.draw(st.sampled_from([(c, d) for c, depths in im.PNG_DEPTHS.items() for d in depths]))
    width, height = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    rows = data.draw(st.binary(max_size=400))
    chunks = data.draw(
        st.lists(st.tuples(st.sampled_from([b"PLTE", b"tRNS", b"IDAT", b"tEXt"]), st.binary(max_size=30)), max_size=3)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "PIL", None)
        only_data_error(im.read_image, png((width, height, depth, colour, 0, 0, 0), rows, *chunks))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"P5 2 2 255 \1\2\3\4"[:11] + b"\1\2\3\4", [[1, 2], [3, 4]]),
        (b"P5\n# a comment\n2 # another\n1\n255\n\x10\x20", [[16, 32]]),
        (b"P5 2 1 65535 \x80\x00\xff\xff", [[128, 255]]),
        (b"P5 3 1 2 \0\1\2", [[0, 128, 255]]),
        (b"P6 1 1 255 \1\2\3", [[[1, 2, 3]]]),
        (b"P2\n2 2\n15\n0 5\n10 15\n", [[0, 85], [170, 255]]),
        (b"P3 1 1 255 # red\n255 0 0", [[[255, 0, 0]]]),
    ],
)
def test_pnm(content, expected, either_reader):
    assert im.read_image(content).tolist() == expected


def test_wrong_pnm():
    whole = [b"P5 4 3 255 " + bytes(12), b"P3 2 1 9\n1 2 3 4 5 6"]
    for content in whole:
        assert im.read_image(content) is not None
        for length in range(len(content)):
            with pytest.raises(DataError):
                im.read_image(content[:length])
    for content in (
        b"P5 99999 99999 255 ",
        b"P5 9999999999999 1 255 ",
        b"P5 0 1 255 ",
        b"P5 -1 1 255 ",
        b"P5 1 1 0 \0",
        b"P5 1 1 65536 \0\0",
        b"P5 1 1 9 \x0a",
        b"P2 2 1 9 1 x",
        b"P2 1 1 9 123456789123456789 ",
        b"P2 1 1 9 #",
        b"P6 8192 8192 255 \0",
    ):
        with pytest.raises(DataError) as excinfo:
            im.read_image(content)
        one_line(excinfo)


@fuzz
@given(
    st.data(), st.sampled_from([b"P5 4 3 255 " + bytes(12), b"P3 # c\n2 1 9\n1 2 3 4 5 6", b"P6 2 1 999 " + bytes(12)])
)
def test_damaged_pnm(data, content):
    only_data_error(im.read_image, flip_bits(data, content))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@fuzz
@given(st.data(), st.sampled_from(["JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
def test_damaged_files_of_pillow(data, kind):
    Image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    Image.fromarray(pixels(9, 7, 3)).save(file, kind)
    only_data_error(im.read_image, flip_bits(data, file.getvalue()))


# ── Resizing, writing, colours ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", [(301, 200, 3), (301, 200), (301, 200, 1)])
@pytest.mark.parametrize("size", [(28, 28), (301, 50), (600, 450), (1, 1), (13, 400)])
def test_pixels_with_and_without_pillow_differ_by_a_level(size, shape, monkeypatch):
    Image = pytest.importorskip("PIL.Image")
    image = pixels(*shape)
    with_pillow = im.resize(image, size)
    if shape != (301, 200, 1):  # which is no image of Pillow's
        expected = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
        assert np.array_equal(with_pillow, expected)
    assert with_pillow.flags.writeable and with_pillow.shape == (*size, *shape[2:])
    monkeypatch.setitem(sys.modules, "PIL", None)
    without = im.resize(image, size)
    assert np.abs(without.astype(int) - with_pillow).max() <= 1  # Pillow rounds after each axis


def test_resize_properties():
    image = random(0).normal(size=(9, 11))
    assert np.array_equal(im.resize(image, (9, 11)), image)
    assert np.allclose(im.resize(np.full((9, 11), 3.0), (4, 30)), 3.0)
    assert np.allclose(im.resize(image[::-1], (5, 20)), im.resize(image, (5, 20))[::-1])
    assert np.allclose(im.resize(image, (5, 20)).T, im.resize(image.T, (20, 5)))
    ramp = np.arange(10.0)[None]
    assert np.allclose(im.resize(ramp, (1, 20))[0, 1:-1], np.arange(1, 19) / 2 - 0.25)
    assert im.resize(image.astype(np.float32), 3).dtype == np.float32 and im.resize(pixels(4, 4, 3), 3).shape == (
        3,
        3,
        3,
    )
    for wrong, error in ((pixels(4), ShapeError), (pixels(0, 4), ShapeError), (np.zeros((4, 4), int), DtypeError)):
        with pytest.raises(error):
            im.resize(wrong, 3)
    for size in (0, (3,), (3, 3, 3), 2.5, 2**20):
        with pytest.raises(SettingError):
            im.resize(pixels(4, 4), size)


def test_written_png_is_read_by_pillow(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    for image in (pixels(30, 20), pixels(30, 20, 3), digits()[0][0]):
        content = im.write_png(tmp_path / "a.png", image)
        assert (tmp_path / "a.png").read_bytes() == content
        with Image.open(tmp_path / "a.png") as read:
            assert np.array_equal(np.asarray(read), image)


def test_png_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "a.png"
    im.write_png(target, pixels(3, 3))
    before = target.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(DataError, match="No space left"):
            im.write_png(target, pixels(4, 4))
    with target.open("rb") as reader:  # one who reads while the file is replaced sees the old one to its end
        im.write_png(target, pixels(5, 5))
        assert reader.read() == before
    im.write_png(target, pixels(3, 3))
    assert target.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(DataError, match="folder"):
        im.write_png(tmp_path / "absent" / "a.png", pixels(4, 4))


@pytest.mark.parametrize(
    "wrong", [np.zeros((3, 3)), [[1]], pixels(3), pixels(3, 3, 4), pixels(0, 3), pixels(2, 3, 3, 3)]
)
def test_wrong_arrays_to_write(wrong):
    with pytest.raises((DtypeError, ShapeError), match="expected") as excinfo:
        im.write_png(None, wrong)
    one_line(excinfo)


def test_colormap_brightness_rises():
    colors = im.colormap(np.arange(256.0))
    assert (np.diff(colors @ np.array([0.299, 0.587, 0.114])) > 0).all()
    assert colors.dtype == np.uint8 and len(np.unique(colors, axis=0)) > 250


def test_colormap_scale():
    assert im.colormap([[-5.0, np.nan, 7.0]]).tolist() == [[[0, 0, 0], [128, 128, 128], im.COLORS[255].tolist()]]
    assert np.array_equal(im.colormap([-9.0, 0.0, 1.0, np.inf, -np.inf], 0, 1), im.COLORS[[0, 0, 255, 255, 0]])
    assert np.array_equal(im.colormap(np.full(3, 4.0)), im.COLORS[[0, 0, 0]])
    assert im.colormap(np.full((2, 2), np.nan)).tolist() == [[[128] * 3] * 2] * 2
    assert im.colormap(np.zeros((0, 3))).shape == (0, 3, 3)
    with pytest.raises(SettingError):
        im.colormap([1.0], low=2, high=1)


def test_overlay():
    image = pixels(20, 30)
    heat = np.zeros((4, 6))
    heat[0, 0] = 1.0
    laid = im.overlay(image, heat)
    assert laid.shape == (20, 30, 3)
    assert np.array_equal(laid[10:, 15:], im.to_channels(image, 3)[10:, 15:])  # cold places stay as they are
    assert not np.array_equal(laid[:2, :2], im.to_channels(image, 3)[:2, :2])
    assert np.array_equal(im.overlay(image, heat, strength=0), im.to_channels(image, 3))
    with pytest.raises(SettingError):
        im.overlay(image, heat, strength=2)
    with pytest.raises(ShapeError):
        im.overlay(image, heat[0])


@pytest.mark.parametrize(
    ("dtype", "largest", "tag", "note"),
    [
        (np.uint16, 65535, None, None),
        (np.uint16, 4080, None, "dark"),
        (np.uint16, 4080, 4080, None),
        (np.int32, 255, None, "255 is taken for white"),
        (np.int32, 65535, None, "65535 is taken for white"),
        (np.int32, 1020, 1020, None),
    ],
)
def test_depths_are_what_the_file_says_or_said_aloud(dtype, largest, tag, note):
    image = pytest.importorskip("PIL.Image")
    grey = np.linspace(0, 255, 8).astype(np.uint8)[None].repeat(2, 0)
    file = io.BytesIO()
    scaled = (grey.astype(np.int64) * largest // 255).astype(dtype)
    image.fromarray(scaled).save(file, "TIFF", tiffinfo={281: tag} if tag else {})
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found = im.read_image(file.getvalue())
    assert [note in str(w.message) for w in warned] == [True] * bool(note)
    if note != "dark":
        np.testing.assert_array_equal(found, grey)


def test_images_are_found_under_the_name_that_documents_them():
    from cnncore.images import read_image

    assert cnncore.images.read_image is read_image is im.read_image
