"""``cnncore explain``."""

import os
import pathlib

from ..errors import DataError, SettingError, ShapeError, unknown_name
from .nets import ANY_MODEL, opened, preprocessing_options
from .options import size


def explain(options):
    """Explain what a network makes of one image, on a page that opens in a browser, without a network connection."""
    from ..vision import images
    from ..vision.classify import Classifier
    from ..vision.network_page import write_page

    output = pathlib.Path(options.output)
    if output.suffix.lower() not in (".html", ".htm"):
        raise SettingError(f"explain: --output {output}: the page is written as .html")
    if options.resize is not None and options.size is not None and options.crop is None:
        options.crop, options.size = options.size, None  # a size after resizing is a centre crop
    net = opened(options)
    classifier = Classifier(net, str(options.model))
    pixels = images.read_image(options.image, classifier.channels)
    if options.invert:
        pixels = 255 - pixels
    pixels = framed(classifier, pixels, options.size)
    try:
        x = classifier.prepared(pixels)
        names = classifier.classes
        target = None if options.target is None else class_number(options.target, names)
        title = f"{pathlib.Path(options.model).name}, {pathlib.Path(options.image).name}"
        write_page(output, net, x, pixels, target, names, title)
    except ShapeError as error:
        raise DataError(f"{options.image}: {classifier.too_small(pixels.shape[:2], error)}") from None
    print(f"{output}: {os.path.getsize(output) / 1e6:.1f} MB; open it in a browser")
    return 0


def framed(classifier, pixels, size):
    """The image at the size at which the net is to see it, by the rules of ``cnncore predict``."""
    from ..vision import images

    extents = [extent for extent in classifier.net.graph.inputs[0].size if extent is not None]
    fixed = extents if len(extents) == 2 else None
    if size is None and classifier.preprocessing.frames:
        return classifier.preprocessing.framed(pixels, fixed)
    wanted = fixed or size or classifier.familiar_size(pixels.shape[:2])
    return images.resize(pixels, wanted)


def class_number(text, names):
    """The number of a class given by its name, or as a number."""
    if names and text in names:
        return names.index(text)
    if text.isdecimal():
        return int(text)
    raise SettingError(unknown_name("--target", "class", text, names or ["0", "1"], "Classes are"))


EXPLAIN_HELP = """\
examples:
  cnncore explain runs/digits digit.png -o page.html
  cnncore explain mobilenet.onnx photo.jpg -o page.html --preprocessing imagenet --classes imagenet.txt
  cnncore explain googlenet photo.jpg -o page.html --size 224

The page shows the graph; of every node its maps, the gradients of the score, weights, the receptive field in the image and
the arithmetic of one output; and over the image saliency, Grad-CAM and class maps. It is one file that needs nothing else.
Networks by name have initial weights unless --weights is given."""


def add_explain(commands):
    """``cnncore explain`` and its options."""
    sub = commands.add(explain, "a page that explains a network on one image", EXPLAIN_HELP)
    sub.add_argument("model", metavar="MODEL", help=ANY_MODEL)
    sub.add_argument("image", metavar="IMAGE", help="an image file")
    sub.add_argument("-o", "--output", default="explained.html", metavar="FILE", help="(default: explained.html)")
    sub.add_argument(
        "--target",
        metavar="CLASS",
        help="the class whose score is traced back, by name or number (default: the predicted one)",
    )
    sub.add_argument("--size", type=size, metavar="HxW", help="resize the image first (default: as for predict)")
    sub.add_argument("--invert", action="store_true", help="invert the image: for digits in dark ink on light paper")
    preprocessing_options(sub)
