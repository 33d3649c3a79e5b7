"""The report of an evaluation: one self-contained HTML file, of the parts of a training's report."""

import numpy as np

from ..errors import GraphError
from ..io.files import write_atomically
from ..vision import explain
from ..vision.evaluation import calibration
from .report import confusions, document, escape, gallery, percent, section, wilson_interval

__all__ = ["write_evaluation"]


def write_evaluation(path, report, predictions, classifier, name):
    """Write the report of an evaluation, a :class:`cnncore.vision.evaluation.Report`, of the data set called ``name``."""
    title = f"{name}: {report.accuracy:.2%}"
    parts = [
        headline(report, classifier, name),
        per_class(report),
        confidence(report),
        mistakes(report, predictions, classifier),
        confusions(report.confusion, report.classes),
    ]
    write_atomically(path, document(title, parts).encode(errors="backslashreplace"))


def headline(report, classifier, name):
    """What was evaluated, and the figures."""
    count, wrong = len(report.labels), len(report.mistakes())
    low, high = wilson_interval(count - wrong, count)
    cards = [
        (percent(report.accuracy, 2), f"accuracy on {count:,} images; 95 % interval {percent(low)} to {percent(high)}"),
        (f"{wrong:,}", "misclassified"),
        (percent(report.top(5), 2), "have their class among the 5 most probable"),
        (f"{report.calibration_error:.3f}", f"expected calibration error; mean log loss {report.loss:.4f}"),
    ]
    body = "".join(f"<div class='card'><b>{escape(big)}</b><span>{escape(small)}</span></div>" for big, small in cards)
    return (
        f"<header>\n<p class='kicker'>cnncore evaluation</p>\n<h1>{escape(name)} <span>{escape(classifier.name)}</span></h1>\n"
        f"<div class='cards'>{body}</div>\n</header>"
    )


def per_class(report):
    """Recall, precision and F1 of every class."""
    rows = []
    for row in report.per_class():
        cells = "".join(
            f"<td class='n'>{'–' if row[what] is None else percent(row[what])}</td>"
            for what in ("recall", "precision", "f1")
        )
        rows.append(f"<tr><th scope='row'>{escape(row['class'])}</th><td class='n'>{row['images']:,}</td>{cells}</tr>")
    return section(
        "Classes",
        "Recall: how many of the images of a class are found. Precision: how many of the images classified as a class belong to "
        "it. F1: their harmonic mean.",
        "<div class='scroll'><table class='nodes'><thead><tr><th>class</th><th>images</th><th>recall</th><th>precision</th>"
        f"<th>F1</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>",
    )


def confidence(report):
    """How accurate the answers of each confidence are."""
    rows = "".join(
        f"<tr><th scope='row'>{percent(mean)}</th><td class='n'>{count:,}</td>"
        f"<td class='share'><i style='width:{100 * accuracy:.1f}%'></i></td><td class='n'>{percent(accuracy)}</td></tr>"
        for count, mean, accuracy in calibration(report.probabilities, report.labels)
    )
    return section(
        "Calibration",
        "The answers in groups of similar confidence: mean confidence, number of images, and the share that is correct. Of a "
        "calibrated model the first and the last are equal.",
        f"<div class='scroll'><table class='sizes'><tbody>{rows}</tbody></table></div>",
    )


def mistakes(report, predictions, classifier):
    """Misclassified images, with class activation maps where the network has them."""

    def map_of(pixels, class_index):
        prediction = next(p for p in predictions if p.pixels is pixels)
        try:
            x = classifier.prepared(prediction.pixels, prediction.read_at)
            heat = explain.class_activation_map(classifier.net, x, int(class_index))[0]
        except GraphError:
            return None
        return explain.map_over_image(pixels, heat, least=84)

    return gallery(
        np.asarray(report.probabilities), report.labels, report.classes, lambda i: predictions[i].pixels, map_of
    )
