"""``cnncore evaluate`` gives the probabilities of ``cnncore predict``, and figures that follow from them."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from support.command_line import run_here

from cnncore import DataError, ShapeError
from cnncore.vision.classify import Classifier, Prediction
from cnncore.vision.evaluation import Report, calibration
from cnncore.vision.images import read_image


def evaluated(*arguments, cwd, code=0):
    done, out, error = run_here(["evaluate", *map(str, arguments)], cwd)
    assert done == code, error
    return out, error


def test_figures_are_those_of_the_predictions(trained, shapes, tmp_path):
    out, _ = evaluated(trained[0], shapes, "--json", "--report", "page.html", cwd=tmp_path)
    found = json.loads(out)
    classifier = Classifier.from_file(trained[0])
    right = {}
    for folder in sorted(shapes.iterdir()):
        for file in sorted(folder.iterdir()):
            right[str(file)] = classifier.classify(file).answer == folder.name
    assert found["images"] == len(right) and found["accuracy"] == sum(right.values()) / len(right)
    assert {row["file"] for row in found["mistakes"]} <= {file for file, answer in right.items() if not answer}
    assert np.trace(found["confusion"]) == sum(right.values())
    text, _ = evaluated(trained[0], shapes, cwd=tmp_path)
    assert f"accuracy {found['accuracy']:.2%}" in text and "precision" in text and "Confusion matrix" in text
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))
    assert "Calibration" in page and "Misclassified images" in page


def test_every_form_of_an_image_in_batches_and_alone(trained, shapes):
    Image = pytest.importorskip("PIL.Image")
    classifier = Classifier.from_file(trained[0])
    file = sorted(shapes.rglob("*.png"))[0]
    expected = classifier.classify(file).probabilities
    small, broken = np.zeros((20, 30), np.uint8), b"no image"
    forms = [file, str(file), file.read_bytes(), read_image(file), Image.open(file), small, broken, file]
    names = [f"number {k}" for k in range(len(forms))]
    for batch_size in (1, 3, 32):
        found = list(classifier.classify_all(forms, names, batch_size=batch_size))
        assert [isinstance(one, Prediction) for one in found] == [True] * 6 + [False, True]
        for number in (0, 1, 2, 3, 4, 7):
            assert np.abs(found[number].probabilities - expected).max() < 1e-6
        assert isinstance(found[6], DataError) and found[5].file == "number 5"


def test_an_unreadable_image_and_an_unknown_class_are_named(trained, shapes, tmp_path):
    for name in ("cross", "disc"):
        (tmp_path / "odd" / name).mkdir(parents=True)
        file = sorted((shapes / name).iterdir())[0]
        (tmp_path / "odd" / name / file.name).write_bytes(file.read_bytes())
    (tmp_path / "odd" / "disc" / "broken.png").write_text("text")
    out, error = evaluated(trained[0], "odd", "--json", cwd=tmp_path, code=2)
    assert json.loads(out)["failed"] == 1 and "broken.png" in error
    (tmp_path / "odd" / "disc").rename(tmp_path / "odd" / "ring")
    _, error = evaluated(trained[0], "odd", cwd=tmp_path, code=2)
    assert "class 'ring' is not among those of the model: cross, disc" in error


def test_calibration_and_top_against_their_definitions():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(7), 400)
    labels = np.array([rng.choice(7, p=row) for row in p])
    report = Report(p, labels, [str(k) for k in range(7)])
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert report.calibration_error == pytest.approx(expected, abs=1e-12)
    assert sum(count for count, _, _ in calibration(p, labels)) == 400
    assert report.top(7) == 1.0 and report.accuracy == right.mean()
    ranks = (p > p[np.arange(400), labels][:, None]).sum(axis=1)
    assert report.top(5) == (ranks < 5).mean()
    with pytest.raises(ShapeError, match="expected"):
        Report(p, labels[:-1], report.classes)
    with pytest.raises(DataError, match="no answers"):
        Report(p[:0], labels[:0], report.classes)
