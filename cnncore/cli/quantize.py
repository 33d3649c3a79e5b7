"""``cnncore quantize``."""

import pathlib
import sys

from ..errors import DataError, SettingError
from .nets import ANY_MODEL, opened, preprocessing_options
from .predict import image_files
from .progress import ProgressLine, bar


def quantize(options):
    """Make a model whose convolutions and linear layers compute with 8-bit numbers; images show which numbers occur in it."""
    from ..vision.classify import Classifier

    output = pathlib.Path(options.output)
    if output.suffix.lower() != ".safetensors":
        raise SettingError(
            f"quantize: {output}: the result is a model file, FILE.safetensors; `cnncore export` converts it to ONNX"
        )
    classifier = Classifier(opened(options, fresh=False), str(options.model))
    files = image_files(options.image)
    with ProgressLine(sys.stderr) as line:
        predictions = read_predictions(classifier, files, options.invert, line)
        images = (classifier.prepared(prediction.pixels, prediction.read_at) for prediction in predictions)
        total = len(predictions)
        small = classifier.net.quantize(
            images,
            ranges=options.ranges.replace("-", "_"),
            skip=options.skip,
            progress=lambda done, what: line.show(f"{bar(done / total)} {done} of {total}  {what}"),
        )
        small.metadata = dict(classifier.net.metadata)
        again = read_predictions(Classifier(small, str(output)), [p.file for p in predictions], options.invert, line)
    small.save(output)
    show(output, small, classifier.net, predictions, again)
    return 2 if total < len(files) else 0


def read_predictions(classifier, files, invert, line):
    """The predictions for those files that can be read; the others are named."""
    found = []
    for number, prediction in enumerate(classifier.classify_all(files, invert=invert)):
        line.show(f"{number + 1:,} of {len(files):,}")
        if isinstance(prediction, DataError):
            line.clear()
            print(f"cnncore: error: {prediction}", file=sys.stderr)
        else:
            found.append(prediction)
    if not found:
        raise DataError(f"quantize: none of the {len(files):,} images can be read")
    return found


def show(output, small, net, before, after):
    """What has become of the net, and of its answers for the images."""
    integers = sum(node.op.name.startswith("quantized_") for node in small.graph.nodes)
    real = sum(array.nbytes for array in (*net.parameters.values(), *net.buffers.values()))
    print(f"{output}: {integers} layers in 8 bits, {output.stat().st_size:,} bytes (arrays of the model: {real:,})")
    same = sum(p.answer == q.answer for p, q in zip(before, after, strict=True))
    moved = max(abs(p.probabilities - q.probabilities).max() for p, q in zip(before, after, strict=True))
    print(f"the same answer for {same:,} of {len(before):,} images; probabilities differ by at most {moved:.1%}")


QUANTIZE_HELP = """\
examples:
  cnncore quantize runs/digits scans --output digits8.safetensors
  cnncore quantize resnet50.onnx photos --output small.safetensors --preprocessing imagenet
  cnncore quantize runs/digits scans --output digits8.safetensors --skip output

Give some tens or hundreds of images like those that the model will see: every value between layers gets 256 steps that cover
what occurred for them. Weights get 255 steps for each output channel. The model file is about a quarter as large, and its
results are the same bits on every processor and for every number of threads.

The last line of the output compares the answers with those of the model before, on the same images. To measure what 8 bits
cost, run `cnncore evaluate` with both files on labelled images that were used for nothing else. If they cost too much: more
images, --skip for the first or last layer, --ranges min-max. `cnncore export digits8.safetensors digits8.onnx` writes a
file for other programs. The result cannot be trained: train first, then quantize."""


def add_quantize(commands):
    """``cnncore quantize`` and its options."""
    sub = commands.add(quantize, "make an 8-bit model of a trained one", QUANTIZE_HELP)
    sub.add_argument("model", metavar="MODEL", help=ANY_MODEL)
    sub.add_argument("image", nargs="+", metavar="IMAGES", help="images, or folders of images")
    sub.add_argument("-o", "--output", required=True, metavar="FILE", help="the model file to write (.safetensors)")
    sub.add_argument(
        "--ranges",
        choices=("mean-squared-error", "min-max"),
        default="mean-squared-error",
        help="the ends of the steps: those with the least error, or the smallest and largest value (default: the former)",
    )
    sub.add_argument(
        "--skip", action="append", default=[], metavar="NODE", help="a layer that stays in float32; may be repeated"
    )
    sub.add_argument("--invert", action="store_true", help="invert the images: for digits in dark ink on light paper")
    preprocessing_options(sub)
