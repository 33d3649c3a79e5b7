"""Training: optimizers, schedules, data, and the loop that brings them together."""

from . import data
from .augment import Augment
from .loop import Callback, EarlyStopping, Epoch, Evaluation, Progress, Trainer
from .optimizers import SGD, Adam, AdamW, Optimizer, optimizer
from .schedules import constant, cosine, one_cycle, schedule, steps

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Augment",
    "Callback",
    "EarlyStopping",
    "Epoch",
    "Evaluation",
    "Optimizer",
    "Progress",
    "Trainer",
    "constant",
    "cosine",
    "data",
    "one_cycle",
    "optimizer",
    "schedule",
    "steps",
]
