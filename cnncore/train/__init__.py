"""Training: optimizers, schedules, data, and the training loop."""

from . import checkpoint, data
from .augment import Augment
from .file_data import FileDataset
from .finder import LearningRates, find_learning_rate
from .history import write_history
from .job import Job, Options
from .loop import Callback, Checkpoint, EarlyStopping, Epoch, Evaluation, Progress, Trainer
from .optimizers import SGD, Adam, AdamW, Optimizer, optimizer
from .schedules import by_step, constant, cosine, one_cycle, schedule, steps

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
    "LearningRates",
    "Optimizer",
    "Options",
    "Progress",
    "Trainer",
    "by_step",
    "checkpoint",
    "constant",
    "cosine",
    "data",
    "find_learning_rate",
    "one_cycle",
    "optimizer",
    "schedule",
    "steps",
    "write_history",
]
