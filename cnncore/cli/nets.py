"""``cnncore summary``, ``profile``, ``tune`` and ``export``."""

import difflib
import io
import json
import os
import pathlib
import sys

import numpy as np

from ..errors import ModelFileError, SettingError
from .progress import ProgressLine, bar


def summary(options):
    """Print shapes, parameters, multiply-adds and receptive fields of a model file or a network by name."""
    net = model_or_network(options.model, seed=None)
    print(net.summary(*input_shapes(net, options)))
    return 0


def input_shapes(net, options, batch=1):
    """Shapes of the net's inputs: of --size, of the preprocessing, of the training, or usual ones."""
    shapes = []
    for row in net.graph.inputs:
        size = options.size if len(row.size) == 2 else None
        if None in row.size:
            said = [net.metadata.get(name) for name in ("crop", "size")]
            said = next((known for known in said if isinstance(known, list) and len(known) == len(row.size)), None)
            size = size or tuple(said or (USUAL_SIZE.get(row.channels, 224),) * len(row.size))
        elif size is not None and size != row.size:
            raise SettingError(
                f"{options.function.__name__}: {options.model} takes images of {'×'.join(map(str, row.size))} only; leave "
                "--size out"
            )
        shapes.append(row.given((batch, row.channels, *(size or row.size))))
    return shapes


USUAL_SIZE = {1: 28, 3: 224}  # digits, and the photographs of ImageNet


def model_or_network(name, seed=0):
    """A net from a model file, ours or an ONNX file, or one of that seed from the name of a network in cnncore.models."""
    from ..models import NETWORKS
    from ..vision.classify import read_model

    if name not in NETWORKS or os.path.exists(name):
        if not (os.path.exists(name) or os.sep in name or name.endswith((".safetensors", ".onnx"))):
            near = difflib.get_close_matches(name, NETWORKS, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise SettingError(f"{name}: neither a file nor a network{hint}; networks are {', '.join(NETWORKS)}")
        net, _ = read_model(name)
        return net
    return NETWORKS[name](seed=seed)


def opened(options, fresh=True):
    """The net that the options name, with what they say of weights, classes, preprocessing; ``fresh``: drawn weights will do."""
    from ..models import NETWORKS
    from ..vision.classify import read_model
    from ..vision.preprocessing import Preprocessing

    named = options.model in NETWORKS and not os.path.exists(options.model)
    if named and options.weights is None and not fresh:
        raise SettingError(
            f"{options.model}: a network without trained weights; give a model file, or its weights by --weights FILE"
        )
    entries = described(options)
    if named:
        classes = {"classes": len(entries["classes"])} if "classes" in entries else {}
        net = NETWORKS[options.model](seed=0 if options.weights is None else None, **classes)
    elif fresh:
        net = model_or_network(options.model)
    else:
        net, _ = read_model(options.model)
    if options.weights is not None:
        from ..io import load_weights

        layout = "HWIO" if options.weight_names == "keras" else "OIHW"
        load_weights(net, options.weights, names=options.weight_names, layout=layout, strict=True)
    given = {name for name, value in entries.items() if value is not None}
    entries = {**net.metadata, **entries}
    net.metadata = {name: value for name, value in entries.items() if value is not None}
    try:
        Preprocessing.from_metadata("", net.metadata, net.graph.inputs[0].channels or 1)
    except ModelFileError as error:
        name = str(error).removeprefix(": ").partition(" ")[0]
        if name in given:  # by an option: the file is not to blame
            option = {"channel_order": "channels"}.get(name, name)
            raise SettingError(str(error).replace(f": {name} in its metadata is", f"--{option} is", 1)) from None
    return net


def described(options):
    """What the options say of preprocessing and classes, as entries of a net's metadata."""
    from ..vision.preprocessing import preset, read_classes

    entries = {} if options.preprocessing is None else preset(options.preprocessing)
    for name in ("mean", "std", "scale", "resize"):
        if getattr(options, name) is not None:
            entries[name] = getattr(options, name)
    if options.channels is not None:
        entries["channel_order"] = options.channels
    if options.crop is not None:
        entries["crop"] = list(options.crop)
    elif options.resize is not None:
        entries["crop"] = None  # that of a preset, or of the file, belongs to another size
    if options.classes is not None:
        entries["classes"] = read_classes(options.classes)
    return entries


def profile(options):
    """Show where a network's time goes: milliseconds per node, GFLOP/s, share of the machine's peak, bytes."""
    net = model_or_network(options.model)
    shapes = input_shapes(net, options, options.batch)
    if options.plan:
        print(net.algorithms(*shapes, training=options.training))
        return 0
    with ProgressLine(sys.stderr) as line:
        found = net.profile(*shapes, rounds=options.rounds, training=options.training, progress=turns_under(line))
    if options.json:
        print(json.dumps(found.data(), indent=1))
    else:
        print(found)
    return 0


def tune(options):
    """Measure which algorithm computes each convolution fastest here, and keep that in the model file."""
    net = model_or_network(options.model)
    model = pathlib.Path(options.model)
    if model.is_dir():
        model = model / "model.safetensors"
    ours = model.is_file() and model.suffix.lower() != ".onnx"
    output = options.output or (model if ours else None)
    with ProgressLine(sys.stderr) as line:
        table = net.tune(
            *input_shapes(net, options, options.batch),
            training=options.training,
            rounds=options.rounds,
            progress=turns_under(line),
        )
    print(table)
    if output is not None:
        net.save(output)
        print(f"{output}: saved with {len(net.tuned)} choices")
    elif model.is_file():
        print(f"{model}: an ONNX file has no place for choices; keep them with --output FILE.safetensors")
    return 0


def turns_under(line):
    """Progress of rounds as a line on the terminal."""
    return lambda done, total, what: line.show(f"{bar(done / total)} {done} of {total}  {what}")


def export(options):
    """Convert a model: the kind of OUTPUT follows from its suffix."""
    from ..io.files import write_atomically

    output = pathlib.Path(options.output)
    kind = output.suffix.lower()
    if kind not in EXPORTED:
        kinds = ", ".join(f"{suffix} ({what})" for suffix, what in EXPORTED.items())
        raise SettingError(f"export: {output}: the kind of file follows from its name; write {kinds}")
    if kind != ".onnx":
        for name in ("opset", "fold", "size"):
            if getattr(options, name):
                raise SettingError(f"export: --{name} belongs to ONNX files; leave it out for {output}")
    net = opened(options)
    arrays = {**net.parameters, **net.buffers}
    if kind == ".onnx":
        from ..io import save_onnx

        chosen = {"fold": options.fold} | ({} if options.opset is None else {"opset": options.opset})
        shape = None
        if options.size is not None:
            shape = [(None, *shape[1:]) for shape in input_shapes(net, options)]
            shape = shape if len(shape) > 1 else shape[0]
        try:
            save_onnx(net, output, shape, **chosen)
        except SettingError as error:
            raise SettingError(str(error).replace("give input_shape=", "fix the size by --size HxW")) from None
    elif kind == ".safetensors":
        net.save(output)
    else:
        with io.BytesIO() as buffer:
            np.savez(buffer, **arrays)
            write_atomically(output, buffer.getvalue())
    print(f"{output}: {len(arrays)} arrays, {sum(a.size for a in arrays.values()):,} numbers")
    return 0


EXPORTED = {
    ".onnx": "for ONNX Runtime and others",
    ".safetensors": "our model file, whose weights other tools read by name",
    ".npz": "parameters by name, for numpy.load",
}
