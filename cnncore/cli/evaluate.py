"""``cnncore evaluate``."""

import json
import pathlib
import sys

import numpy as np

from ..errors import DataError
from .nets import ANY_MODEL, opened, preprocessing_options
from .options import positive_integer
from .predict import note_unlike
from .progress import ProgressLine
from .train import confusion_table

TOP = 5


def evaluate(options):
    """Classify labelled images as `cnncore predict` does, and compare the answers with the labels."""
    from ..vision.classify import Classifier
    from ..vision.evaluation import Report, class_numbers

    classifier = Classifier(opened(options, fresh=False), str(options.model))
    name, sources, labels, names = labelled(options.data)
    predictions, failed = [], 0
    with ProgressLine(sys.stderr) as line:
        read = classifier.classify_all(
            sources, map(str, range(len(sources))), invert=options.invert, batch_size=options.batch
        )
        for number, prediction in enumerate(read):
            line.show(f"{number + 1:,} of {len(sources):,}")
            if isinstance(prediction, DataError):
                line.clear()
                print(f"cnncore: error: {prediction}", file=sys.stderr)
                failed += 1
            predictions.append(prediction)
    kept = [number for number, prediction in enumerate(predictions) if not isinstance(prediction, DataError)]
    if not kept:
        raise DataError(f"{name}: none of its {len(sources):,} images could be classified")
    predictions = [predictions[number] for number in kept]
    classes = predictions[0].classes
    numbers = np.array(class_numbers(name, names, classifier.classes, len(classes)))
    note_unlike([(prediction.file, prediction.unlike) for prediction in predictions if prediction.unlike])
    report = Report(np.stack([p.probabilities for p in predictions]), numbers[labels[kept]], classes)
    if options.report is not None:
        from .evaluation_report import write_evaluation

        write_evaluation(options.report, report, predictions, classifier, name)
    if options.json:
        rows = [prediction.file for prediction in predictions]
        mistakes = [
            {"file": rows[i], "class": classes[report.labels[i]], "answer": classes[report.answers[i]]}
            for i in report.mistakes()
        ]
        print(json.dumps({**report.data(), "failed": failed, "mistakes": mistakes}, indent=1, ensure_ascii=False))
    else:
        show(report, name)
    return 2 if failed else 0


def labelled(place):
    """(name, sources of images, labels, class names) of a data set; of its test part where it has one."""
    from ..train.data import load
    from ..train.data_files import find_idx_pair, labelled_files
    from ..train.job import brings_test_part, check_readable

    path = pathlib.Path(place)
    check_readable(path)
    if path.is_dir() and find_idx_pair(path, "test" if brings_test_part(path) else "train") is None:
        inside = next((path / part for part in ("test", "val", "valid") if (path / part).is_dir()), path)
        files, labels, names = labelled_files(inside, some_classes=True)
        return str(inside), files, np.asarray(labels), list(names)
    dataset = load(place, "test" if brings_test_part(path) else "train", some_classes=True)
    return dataset.name, list(dataset.images), np.asarray(dataset.labels), list(dataset.class_names)


def show(report, name):
    """The figures as text."""
    wrong = len(report.mistakes())
    top = f", {report.top(TOP):.2%} among the {TOP} most probable" if len(report.classes) > TOP else ""
    print(f"{name}: {len(report.labels):,} images, {len(report.classes)} classes")
    print(f"accuracy {report.accuracy:.2%} ({wrong:,} misclassified){top}")
    print(f"loss {report.loss:.4f}; calibration error {report.calibration_error:.3f}")
    side = max(len("class"), *(len(name) for name in report.classes))
    print(f"\n{'class'.ljust(side)}  images  recall  precision     F1")
    for row in report.per_class():
        figures = [row["recall"], row["precision"], row["f1"]]
        texts = ["–" if figure is None else f"{figure:.1%}" for figure in figures]
        print(f"{row['class'].ljust(side)}  {row['images']:>6}  {texts[0]:>6}  {texts[1]:>9}  {texts[2]:>5}")
    print("\nConfusion matrix (rows: true class, columns: predicted class)")
    print(confusion_table(report.confusion, report.classes))


EVALUATE_HELP = """\
examples:
  cnncore evaluate runs/photos photos/test
  cnncore evaluate net.onnx photos --preprocessing imagenet --classes imagenet.txt --report evaluation.html
  cnncore evaluate runs/digits digits.npz --json

DATA is what `cnncore train --data` takes: a folder with one subfolder of images per class, IDX files, or an .npz file; of
a data set with a test part, that part. Every image is prepared and classified exactly as `cnncore predict` does it, so
that the probabilities are the same. The calibration error compares confidence with accuracy: 0 means that of the images
classified with 80 % confidence, 80 % are correct. --report writes an HTML file with the same figures, a calibration
diagram, and the misclassified images, the most confident mistakes first."""


def add_evaluate(commands):
    """``cnncore evaluate`` and its options."""
    sub = commands.add(evaluate, "compare predictions with labels", EVALUATE_HELP)
    sub.add_argument("model", metavar="MODEL", help=ANY_MODEL)
    sub.add_argument(
        "data",
        metavar="DATA",
        help="labelled images: a folder per class, IDX files, an .npz file, or the name of a data set",
    )
    sub.add_argument(
        "--report", metavar="FILE.html", help="write an HTML report with a gallery of misclassified images"
    )
    sub.add_argument("--json", action="store_true", help="print JSON: all figures, and every misclassified image")
    sub.add_argument("--invert", action="store_true", help="invert the images")
    sub.add_argument("--batch", type=positive_integer, default=32, metavar="N", help="images per batch (default: 32)")
    preprocessing_options(sub)
