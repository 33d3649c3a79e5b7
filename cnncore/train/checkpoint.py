"""Checkpoints: everything needed to resume training as if it had never stopped.

A checkpoint is a file like a model file (model_file.py: safetensors with a digest, no pickle, written atomically) whose
arrays are the net's ("net/conv.w") and the optimizer's ("optimizer/velocity:conv.w"). Its description holds what is not
an array: the number of completed epochs, the number of the next training pass (from which random operators are seeded),
the history, and the caller's ``notes``. The order of the images and their augmentation need not be stored: they follow
from seed and epoch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelFileError
from ..nets import model_file
from ..nets.net import Net
from ..typing import FilePath
from .averaging import WeightAverage
from .clipping import Accumulation
from .optimizers import Optimizer

__all__ = ["read", "restore", "write"]

logger = logging.getLogger(__name__)

KIND = "checkpoint"
ENTRIES = {
    "kind": str,
    "epochs": int,
    "seed": int,
    "steps": int,
    "dtype": str,
    "optimizer": dict,
    "history": list,
    "notes": dict,
}
LATER = {"trainer": dict}  # entries that early files lack
# Counts of parts_of, beside their arrays: name → type.
PARTS: dict[str, dict[str, type]] = {
    "accumulation": {"pending": int, "weight": float},
    "averaging": {"steps": int, "count": int},
}


class Resumable(Protocol):
    """What a checkpoint needs of a :class:`cnncore.train.Trainer`."""

    net: Net
    optimizer: Optimizer
    history: list[Any]
    accumulation: Accumulation
    averaging: WeightAverage | None

    def arrays(self) -> dict[str, NDArray[Any]]: ...

    def restore_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None: ...


def parts_of(trainer: Resumable) -> dict[str, Accumulation | WeightAverage]:
    """Name → what has a state of its own beside the net and the optimizer."""
    found: dict[str, Accumulation | WeightAverage] = {}
    if trainer.accumulation.pending:
        found["accumulation"] = trainer.accumulation
    if trainer.averaging is not None:
        found["averaging"] = trainer.averaging
    return found


def write(path: FilePath, trainer: Resumable, notes: Mapping[str, Any] | None = None) -> None:
    """Write the state of ``trainer`` after its last complete epoch, atomically.

    Parameters
    ----------
    path : path
    trainer : Trainer
    notes : mapping, optional
        Plain values (JSON) to keep with it.

    Raises
    ------
    DataError
        The file cannot be written.
    """
    optimizer = trainer.optimizer
    model = {
        "kind": KIND,
        "epochs": len(trainer.history),
        "seed": trainer.net.seed,
        "steps": trainer.net.steps,
        "dtype": trainer.net.dtype.name,
        "optimizer": {
            "class": type(optimizer).__name__,
            "steps": optimizer.steps,
            "steps_of": dict(optimizer.steps_of),
        },
        "history": [{name: as_plain(value) for name, value in vars(epoch).items()} for epoch in trainer.history],
        "notes": {} if notes is None else notes,
        "trainer": {
            name: {kind: getattr(part, kind) for kind in PARTS[name]} for name, part in parts_of(trainer).items()
        },
    }
    arrays = {f"net/{name}": array for name, array in trainer.arrays().items()}
    for part, kept in parts_of(trainer).items():
        arrays |= {f"{part}/{name}": array for name, array in kept.arrays.items()}
    for name, state in optimizer.state.items():
        for kind, array in zip(optimizer.state_names, state, strict=True):
            arrays[f"optimizer/{kind}:{name}"] = array
    model_file.write(path, model, arrays)
    logger.info("%s: checkpoint after epoch %d, step %d", path, len(trainer.history), optimizer.steps)


# How JSON, which has no infinity and NaN, represents a validation loss that is not finite.
NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def as_plain(value: Any) -> Any:
    """A number of the history, or several by name, as JSON represents it."""
    if isinstance(value, Mapping):
        return {name: as_plain(each) for name, each in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def read(path: FilePath) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """(description, arrays) of a checkpoint, validated; a ModelFileError says what is wrong with any other file.

    Parameters
    ----------
    path : path

    Returns
    -------
    description : dict
        What is not an array: epochs, steps, seed, history, notes …
    arrays : dict
        Name → array; the net's begin with "net/", the optimizer's with "optimizer/".

    Raises
    ------
    ModelFileError
        The file is damaged, or no checkpoint.
    """
    model, arrays = model_file.read(path)
    if not isinstance(model, dict) or model.get("kind") != KIND:
        raise ModelFileError(f"{path}: not a checkpoint; expected a file that training wrote")
    empty: dict[str, Any] = {name: kind() for name, kind in LATER.items()}
    model = empty | model
    entries = ENTRIES | LATER
    if model.keys() != entries.keys() or any(type(model[name]) is not kind for name, kind in entries.items()):
        raise ModelFileError(f"{path}: the checkpoint's description has wrong entries")
    counts = (model["epochs"], model["steps"], model["optimizer"].get("steps"))
    if any(type(count) is not int or not 0 <= count < 2**63 for count in counts):
        raise ModelFileError(
            f"{path}: the checkpoint counts {counts} epochs, passes and steps; expected numbers from 0 up"
        )
    if len(model["history"]) != model["epochs"]:
        raise ModelFileError(
            f"{path}: the history has {len(model['history'])} epochs, the checkpoint {model['epochs']}"
        )
    return model, arrays


def restore(path: FilePath, trainer: Resumable, record: type[Any]) -> dict[str, Any]:
    """Restore the state of ``trainer`` from a checkpoint and return its notes. Nothing is changed unless everything
    fits.

    Parameters
    ----------
    path : path
    trainer : Trainer
    record : callable
        Makes an entry of the history from its fields: :class:`cnncore.train.Epoch`.

    Returns
    -------
    dict
        The notes.

    Raises
    ------
    ModelFileError
        The file is damaged, no checkpoint, or of another net, seed or optimizer.
    """
    model, arrays = read(path)
    net, optimizer = trainer.net, trainer.optimizer
    wanted = trainer.arrays()
    found = {name.removeprefix("net/"): array for name, array in arrays.items() if name.startswith("net/")}
    if found.keys() != wanted.keys():
        odd = min(found.keys() ^ wanted.keys())
        where = "the checkpoint" if odd in found else "the net"
        raise ModelFileError(f"{path}: the checkpoint is of another network: only {where} has {odd!r}")
    for name, array in found.items():
        fitting(path, name, array, wanted[name])
    if model["seed"] != net.seed:
        raise ModelFileError(
            f"{path}: the checkpoint's net draws from seed {model['seed']}, this one from {net.seed}; build it with that seed"
        )
    known = model["optimizer"].get("class")
    if known != type(optimizer).__name__:
        raise ModelFileError(
            f"{path}: the checkpoint is of optimizer {known}, the trainer has {type(optimizer).__name__}"
        )
    states = {name: array for name, array in arrays.items() if name.startswith("optimizer/")}
    others = states_of_parts(path, trainer, model["trainer"], arrays, wanted)
    if len(states) + len(found) + sum(len(kept) for _, kept in others.values()) != len(arrays):
        raise ModelFileError(f"{path}: the checkpoint holds arrays that are neither the net's nor the optimizer's")
    state = {}
    for name in net.parameters:
        parts = [states.pop(f"optimizer/{kind}:{name}", None) for kind in optimizer.state_names]
        if all(part is None for part in parts):
            continue  # the parameter was never changed
        whole = [part for part in parts if part is not None]
        if len(whole) < len(parts):
            raise ModelFileError(f"{path}: the optimizer's state of {name!r} is incomplete")
        state[name] = tuple(fitting(path, name, part, wanted[name]) for part in whole)
    if states:
        raise ModelFileError(f"{path}: the optimizer has no place for {min(states)!r}")
    steps_of = steps_by_parameter(path, model["optimizer"], net.parameters, state)
    history = [history_entry(path, record, row) for row in model["history"]]

    trainer.restore_arrays(found)
    net.steps = model["steps"]
    optimizer.state, optimizer.steps, optimizer.steps_of = state, model["optimizer"]["steps"], steps_of
    trainer.history[:] = history
    trainer.accumulation.arrays, trainer.accumulation.pending, trainer.accumulation.weight = {}, 0, 0.0
    for name, (counts, kept) in others.items():
        part = trainer.accumulation if name == "accumulation" else trainer.averaging
        vars(part).update(counts, arrays=kept)
    logger.info("%s: training continues after epoch %d, step %d", path, len(history), optimizer.steps)
    return model["notes"]


def states_of_parts(
    path: FilePath,
    trainer: Resumable,
    described: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    wanted: Mapping[str, NDArray[Any]],
) -> dict[str, tuple[dict[str, Any], dict[str, NDArray[Any]]]]:
    """Name of a part → (its counts, its arrays), validated."""
    found = {}
    for name, counts in described.items():
        kinds = PARTS.get(name)
        if kinds is None or not isinstance(counts, dict) or counts.keys() != kinds.keys():
            raise ModelFileError(f"{path}: the checkpoint's description has wrong entries")
        if any(type(counts[kind]) is not of or not 0 <= counts[kind] < 2**63 for kind, of in kinds.items()):
            raise ModelFileError(f"{path}: {name} counts {counts}; expected numbers from 0 up")
        kept = {row.removeprefix(f"{name}/"): array for row, array in arrays.items() if row.startswith(f"{name}/")}
        if name == "averaging" and trainer.averaging is None:
            raise ModelFileError(f"{path}: the checkpoint has averaged weights; give Trainer(…, averaging=…) as before")
        if not kept.keys() <= wanted.keys() or (name == "averaging" and kept and kept.keys() != wanted.keys()):
            raise ModelFileError(f"{path}: the arrays of {name} are those of another network")
        found[name] = counts, {row: fitting(path, row, array, wanted[row]) for row, array in kept.items()}
    if trainer.averaging is not None and "averaging" not in found:
        raise ModelFileError(f"{path}: the checkpoint has no averaged weights; omit averaging=… of the trainer")
    return found


def steps_by_parameter(
    path: FilePath, optimizer: Mapping[str, Any], parameters: Mapping[str, NDArray[Any]], state: Mapping[str, Any]
) -> dict[str, int]:
    """Parameter name → number of its steps. Early files have only the total, which then applies to every parameter with
    a state.
    """
    steps_of = optimizer.get("steps_of", dict.fromkeys(state, optimizer["steps"]))
    if not isinstance(steps_of, dict) or not steps_of.keys() <= parameters.keys():
        raise ModelFileError(f"{path}: the optimizer's steps by parameter are of other parameters than the net's")
    odd = next((n for n in steps_of.values() if type(n) is not int or not 1 <= n <= optimizer["steps"]), None)
    if odd is not None or not state.keys() <= steps_of.keys():
        what = f"{odd!r} steps of a parameter" if odd is not None else "no steps of a parameter that has a state"
        raise ModelFileError(f"{path}: the optimizer counts {what}; expected 1 to {optimizer['steps']}")
    return steps_of


def fitting(path: FilePath, name: str, array: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
    """``array``, after checking that it has the shape and dtype of ``like``."""
    if array.shape != like.shape or array.dtype != like.dtype:
        raise ModelFileError(
            f"{path}: {name!r} is {array.dtype} {array.shape} in the checkpoint, {like.dtype} {like.shape} in the net"
        )
    return np.array(array)


def history_entry(path: FilePath, record: type[Any], row: Any) -> Any:
    """One epoch of the history."""
    fields = record.__dataclass_fields__
    row = {"validation_metrics": {}, **row} if isinstance(row, dict) else row  # early files have none
    if not isinstance(row, dict) or row.keys() != fields.keys() or not isinstance(row["validation_metrics"], dict):
        raise ModelFileError(f"{path}: an entry of the history has wrong fields")
    loss = row["validation_loss"]
    loss = NOT_FINITE.get(loss, loss) if isinstance(loss, str) else loss
    metrics = {name: NOT_FINITE.get(v, v) if isinstance(v, str) else v for name, v in row["validation_metrics"].items()}
    if any(type(value) not in (int, float) for value in metrics.values()):
        raise ModelFileError(f"{path}: metrics in the history are {metrics}; expected numbers")
    for name, value in row.items():
        if name == "validation_metrics":
            continue
        if name == "validation_loss" and isinstance(loss, float):
            continue
        number = type(value) in (int, float) and math.isfinite(value)
        if not number and not (value is None and (name.startswith("validation") or name == "accuracy")):
            raise ModelFileError(f"{path}: {name} in the history is {value!r}; expected a number")
    return record(**row | {"validation_loss": loss, "validation_metrics": metrics})
