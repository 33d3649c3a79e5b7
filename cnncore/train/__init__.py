"""Training: optimizers, schedules, data, and the training loop."""

from . import checkpoint, data
from .augment import Augment
from .file_data import FileDataset
from .job import Job, Options
from .loop import Callback, Checkpoint, EarlyStopping, Epoch, Evaluation, Progress, Trainer
from .optimizers import SGD, Adam, AdamW, Optimizer, optimizer
from .schedules import constant, cosine, one_cycle, schedule, steps

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Augment",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "Epoch",
    "Evaluation",
    "FileDataset",
    "Job",
    "Optimizer",
    "Options",
    "Progress",
    "Trainer",
    "checkpoint",
    "constant",
    "cosine",
    "data",
    "one_cycle",
    "optimizer",
    "schedule",
    "steps",
]
