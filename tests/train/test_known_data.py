"""Data sets by name, with small archives in their place, served from this machine: no test uses a network."""

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import http.server
import io
import re
import struct
import sys
import tarfile
import threading

import numpy as np
import pytest

from cnncore.cli.evaluate import labelled
from cnncore.errors import DataError, SettingError
from cnncore.train import Options, data, known_data, load_dataset
from cnncore.train.job import labelled_images

RNG = np.random.default_rng(0)
IMAGES = {part: RNG.integers(0, 256, (count, 6, 6), np.uint8) for part, count in (("train", 20), ("test", 10))}
LABELS = {part: np.arange(len(images), dtype=np.uint8) % 10 for part, images in IMAGES.items()}
PIXELS = {part: RNG.integers(0, 256, (10, 32, 32, 3), np.uint8) for part in ("train", "test")}


def idx(array):
    """The bytes of an IDX file of uint8."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def cifar():
    """The bytes of an archive as CIFAR-10's: ten images in six files."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for part, members in known_data.CIFAR_MEMBERS.items():
            rows = [bytes([k]) + image.transpose(2, 0, 1).tobytes() for k, image in enumerate(PIXELS[part])]
            for number, member in enumerate(members):
                row = tarfile.TarInfo(member)
                batch = b"".join(rows[number :: len(members)])
                row.size = len(batch)
                tar.addfile(row, io.BytesIO(batch))
    return content.getvalue()


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder with small archives under the names of the true ones, served on this machine, and an empty cache."""
    folder = tmp_path / "server"
    folder.mkdir()
    for part, (images, labels) in known_data.IDX_PARTS.items():
        (folder / images).write_bytes(gzip.compress(idx(IMAGES[part])))
        (folder / labels).write_bytes(gzip.compress(idx(LABELS[part])))
    (folder / known_data.CIFAR_ARCHIVE).write_bytes(cifar())
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    for name, known in known_data.KNOWN.items():
        digests = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in known.digests}
        address = f"http://127.0.0.1:{server.server_port}/"
        small = dataclasses.replace(known, digests=digests, addresses=(f"{address}none/", address), installed=None)
        monkeypatch.setitem(known_data.KNOWN, name, small)
    monkeypatch.setenv("CNNCORE_DATA", str(tmp_path / "cache"))
    yield folder, server
    with contextlib.suppress(OSError):
        server.shutdown()
    server.server_close()


@pytest.fixture
def offline(served):
    served[1].shutdown()
    served[1].server_close()
    return served[0]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_digits_and_clothes_are_downloaded_once(served, tmp_path, name):
    pytest.importorskip("pooch")
    for _ in range(2):  # the second time without a server
        for part in ("train", "test"):
            found = load_dataset(name, part)
            assert np.array_equal(found.images, IMAGES[part]) and np.array_equal(found.labels, LABELS[part])
            assert found.class_names == known_data.KNOWN[name].classes and found.name == name
        served[1].shutdown()
        served[1].server_close()
    assert (tmp_path / "cache" / name / "t10k-labels-idx1-ubyte.gz").is_file()


def test_cifar_10_is_read_from_its_archive(served):
    pytest.importorskip("pooch")
    for part in ("train", "test"):
        found = load_dataset("cifar10", part)
        order = np.argsort(found.labels)
        assert np.array_equal(found.labels[order], np.arange(10))
        assert np.array_equal(found.images[order], PIXELS[part])


def test_files_that_are_there_need_neither_a_network_nor_pooch(offline, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert len(load_dataset("mnist", folder=offline)) == 20
    assert data.load(offline, "test").images.shape == (10, 6, 6)  # the folder by its path


def test_without_a_network_the_error_says_which_file_to_put_where(offline, tmp_path):
    pytest.importorskip("pooch")
    place = re.escape(str(tmp_path / "cache" / "mnist"))
    with pytest.raises(
        DataError, match=rf"get train-images-idx3-ubyte\.gz from another machine .* put it into {place}"
    ):
        load_dataset("mnist")


def test_without_pooch_the_error_names_the_extra(served, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"is not there, and pooch.*cnncore\[datasets\]"):
        load_dataset("mnist")
    monkeypatch.delenv("CNNCORE_DATA")
    with pytest.raises(ImportError, match=r"CNNCORE_DATA is not set.*cnncore\[datasets\]"):
        load_dataset("mnist")


def test_files_with_another_checksum_are_not_read(served, tmp_path):
    pytest.importorskip("pooch")
    folder, _ = served
    place = tmp_path / "cache" / "mnist" / "train-images-idx3-ubyte.gz"
    load_dataset("mnist")
    place.write_bytes(place.read_bytes()[:-1] + b"!")
    assert np.array_equal(load_dataset("mnist").images, IMAGES["train"])  # downloaded again
    (folder / place.name).write_bytes(b"something else")
    place.unlink()
    with pytest.raises(DataError, match="hash"):
        load_dataset("mnist")
    assert not place.exists()


def test_damaged_archives_are_one_error(served, monkeypatch, tmp_path):
    archive = tmp_path / known_data.CIFAR_ARCHIVE
    for content in (b"no archive", gzip.compress(b"no tar"), cifar()[:-200]):
        archive.write_bytes(content)
        digests = {archive.name: hashlib.sha256(content).hexdigest()}
        small = dataclasses.replace(known_data.KNOWN["cifar10"], digests=digests)
        monkeypatch.setitem(known_data.KNOWN, "cifar10", small)
        with pytest.raises(DataError, match=r"cannot be read|has .* bytes"):
            load_dataset("cifar10", "test", folder=tmp_path)


def test_commands_take_the_name(served):
    pytest.importorskip("pooch")
    train, held_out = labelled_images(Options(data="fashion_mnist"))
    assert len(train) == 20 and len(held_out) == 10 and train.class_names[9] == "Ankle boot"
    name, sources, labels, names = labelled("fashion_mnist")
    assert (name, len(sources), len(labels), names[0]) == ("fashion_mnist", 10, 10, "T-shirt/top")


def test_a_folder_of_that_name_comes_first(served, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "mnist" / name).mkdir(parents=True)
        (tmp_path / "mnist" / name / "1.pgm").write_text("P2 1 1 255 7")
    assert data.load("mnist").class_names == ("a", "b")


def test_installed_files_are_used_as_they_are(offline, monkeypatch):
    small = dataclasses.replace(known_data.KNOWN["fashion_mnist"], installed=str(offline))
    monkeypatch.setitem(known_data.KNOWN, "fashion_mnist", small)
    assert load_dataset("fashion_mnist").class_names[0] == "T-shirt/top"


def test_unknown_names_and_parts():
    with pytest.raises(DataError, match="did you mean 'fashion_mnist'"):
        load_dataset("fashion-mnist")
    with pytest.raises(SettingError, match="part must be"):
        load_dataset("mnist", "val")


def test_every_file_has_a_checksum():
    for known in known_data.KNOWN.values():
        assert {file for files in known.parts.values() for file in files} == known.digests.keys()
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in known.digests.values())
        assert len(known.classes) == 10 and all(address.endswith("/") for address in known.addresses)
