"""``cnncore predict``."""

import json
import pathlib
import sys

from ..errors import DataError, SettingError
from .nets import ANY_MODEL, opened, preprocessing_options
from .options import positive_integer, size
from .progress import ProgressLine


def predict(options):
    """Classify image files with a trained model, each at its own size or preprocessed as the model requires."""
    from ..vision.classify import Classifier

    if options.top < 1:
        raise SettingError(f"predict: --top must be at least 1, got {options.top}")
    if options.resize is not None and options.size is not None and options.crop is None:
        options.crop, options.size = options.size, None  # a size after resizing is a centre crop
    for name in ("resize", "crop"):
        for other in ("size", "own_size"):
            if getattr(options, name) is not None and getattr(options, other):
                raise SettingError(f"predict: --{name} and --{other.replace('_', '-')} exclude each other; omit one")
    classifier = Classifier(opened(options, fresh=False), str(options.model))
    files = image_files(options.image)
    maps = map_paths(options.cam, files)
    answers, failed, odd, unlike = [], 0, [], []
    shown = None if len(files) > 1 and sys.stdout.isatty() is False else False
    settings = {"invert": options.invert, "size": options.size, "own_size": options.own_size}
    with ProgressLine(sys.stderr, shown) as line:
        read = classifier.classify_all(files, batch_size=options.batch, **settings)
        for number, (file, prediction) in enumerate(zip(files, read, strict=True)):
            line.show(f"{number} of {len(files)}")
            entry = {"file": str(file)}
            answers.append(entry)
            try:
                answer(entry, prediction, classifier, options.top, maps.get(file))
            except (DataError, OSError) as error:
                if options.debug:
                    raise
                failed += 1
                entry["error"] = str(error)
                line.clear()
                print(f"cnncore: error: {error}", file=sys.stderr)
                continue
            odd += [] if entry["familiar"] else [prediction]
            unlike += [(prediction.file, prediction.unlike)] if prediction.unlike else []
            if not options.json:
                named = ", ".join(f"{name} {p:.1%}" for name, p in prediction.top(options.top))
                place = f"  {entry['cam']}" if maps else ""
                print(f"{file}  {prediction.size[0]}×{prediction.size[1]}  {named}{place}", flush=True)
    if odd:
        print(f"cnncore: note: {size_note(odd, classifier)}", file=sys.stderr)
    note_unlike(unlike)
    if options.json:
        print(json.dumps(answers, indent=2, ensure_ascii=False))
    return 2 if failed else 0


def note_unlike(found):
    """One line about images, (file, difference) of each, that differ from those of the training: how, and what to do."""
    if found:
        others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        print(f"cnncore: note: {found[0][0]}{others}: {found[0][1]}", file=sys.stderr)


def answer(entry, prediction, classifier, count, map_file):
    """Add a prediction to ``entry``, and write its class activation map to ``map_file``; raise an image's error."""
    if isinstance(prediction, DataError):
        raise prediction
    entry["size"], entry["read_at"] = list(prediction.size), list(prediction.read_at)
    framed = prediction.size != prediction.read_at and classifier.preprocessing.frames
    entry["familiar"] = framed or classifier.familiar_size(prediction.size) == prediction.size
    if prediction.unlike:
        entry["unlike"] = prediction.unlike
    entry["class"], entry["probability"] = prediction.answer, prediction.probability
    entry["top"] = [{"class": name, "probability": p} for name, p in prediction.top(count)]
    if map_file is not None:
        from ..vision.explain import write_map

        write_map(map_file, prediction, classifier.activation_map(prediction))
        entry["cam"] = str(map_file)


PREDICT_HELP = """\
examples:
  cnncore predict runs/digits digit.png
  cnncore predict runs/digits scans --top 3 --json
  cnncore predict runs/digits photo.jpg --invert --cam where.svg

Networks with global average pooling take images of any size, and each image is classified at its own size. They
recognise objects only at the scales of their training, for the digits 28×28 to 62×62. An image outside that range is
resized to the nearest size within it, and a note says so ("familiar": false in JSON). --own-size classifies every image
at its own size, --size at a given size. Models that were trained on resized or cropped images do the same with every
image. If background, brightness, contrast or colour of an image are unlike those of the training, a note says so, and
what to do.

Preprocessing for networks from other frameworks is stored in the file or given by options:
  cnncore predict mobilenet.onnx photo.jpg --top 5 --preprocessing imagenet --classes imagenet.txt
  cnncore predict resnet50 photo.jpg --weights resnet50.safetensors --preprocessing imagenet
  cnncore predict net.onnx photo.png --mean 104,117,123 --scale 1 --channels bgr --resize 256 --crop 224"""


def add_predict(commands):
    """``cnncore predict`` and its options."""
    sub = commands.add(predict, "classify images of any size", PREDICT_HELP)
    sub.add_argument("model", metavar="MODEL", help=ANY_MODEL)
    sub.add_argument("image", nargs="+", metavar="FILE", help="images, or folders of images")
    sub.add_argument("--top", type=int, default=1, metavar="K", help="print the K most probable classes (default: 1)")
    sub.add_argument(
        "--json", action="store_true", help="print JSON: file, size, read_at, familiar, class, probability, top"
    )
    sub.add_argument("--batch", type=positive_integer, default=32, metavar="N", help="images per batch (default: 32)")
    sub.add_argument(
        "--cam",
        metavar="FILE",
        help="write class activation maps, which show the evidence for the predicted class: .png or .svg, or a folder",
    )
    sub.add_argument("--invert", action="store_true", help="invert the image: for digits in dark ink on light paper")
    place = sub.add_mutually_exclusive_group()
    place.add_argument(
        "--size",
        type=size,
        metavar="HxW",
        help="resize images first (default: their own size, or the nearest size of the training)",
    )
    place.add_argument(
        "--own-size",
        action="store_true",
        help="use every image at its own size, even outside the range of the training",
    )
    preprocessing_options(sub)


def size_note(odd, classifier):
    """The note about images whose sizes are outside the range of the training."""
    least, most = ("×".join(map(str, size)) for size in classifier.trained_sizes())
    first, others = odd[0], f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
    read = "at its own size" if first.read_at == first.size else f"at {'×'.join(map(str, first.read_at))}"
    return (
        f"{first.file}{others}: {'×'.join(map(str, first.size))} is outside the sizes of the training, "
        f"{least if least == most else f'{least} to {most}'}; classified {read}"
    )


def image_files(names):
    """The files named, and the images in the folders named."""
    from ..vision.images import IMAGE_SUFFIXES, UNREAD_SUFFIXES, warn_of_unread

    files = []
    for name in names:
        path = pathlib.Path(name)
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not inside:
            raise DataError(f"{path}: the folder contains no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        unread = [p for p in path.iterdir() if p.suffix.lower() in UNREAD_SUFFIXES and p.is_file()]
        if unread:
            warn_of_unread(path, unread)
        files += inside
    return list(dict.fromkeys(files))


def map_paths(place, files):
    """Where the class activation map of each file goes: one .png or .svg file for one image, a folder for several."""
    if place is None:
        return {}
    place = pathlib.Path(place)
    if place.suffix.lower() in (".png", ".svg"):
        if len(files) != 1:
            raise SettingError(f"predict: --cam {place} is one file for {len(files)} images; give a folder: --cam maps")
        return {files[0]: place}
    if place.suffix and not place.is_dir():
        raise SettingError(f"predict: --cam {place}: maps are written as .png or .svg, or into a folder")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{place}: cannot be created ({error.strerror}); choose another folder for --cam") from None
    paths, taken = {}, set()
    for file in files:
        name, count = file.stem, 1
        while name in taken:
            count += 1
            name = f"{file.stem}_{count}"
        taken.add(name)
        paths[file] = place / f"{name}.png"
    return paths
