"""Training: optimizers, schedules, data, and the training loop."""

from . import checkpoint, data
from .augment import Augment
from .averaging import ExponentialAverage, StochasticWeightAverage, WeightAverage
from .data import load_dataset
from .file_data import FileDataset
from .finder import LearningRates, find_learning_rate
from .history import write_history
from .job import Job, Options
from .loop import Callback, Checkpoint, EarlyStopping, Epoch, Evaluation, Progress, Trainer
from .metrics import METRICS
from .optimizers import SGD, Adam, AdamW, NAdam, Optimizer, RMSprop, optimizer
from .schedules import by_step, constant, cosine, one_cycle, schedule, steps

__all__ = [
    "METRICS",
    "SGD",
    "Adam",
    "AdamW",
    "Augment",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "Epoch",
    "Evaluation",
    "ExponentialAverage",
    "FileDataset",
    "Job",
    "LearningRates",
    "NAdam",
    "Optimizer",
    "Options",
    "Progress",
    "RMSprop",
    "StochasticWeightAverage",
    "Trainer",
    "WeightAverage",
    "by_step",
    "checkpoint",
    "constant",
    "cosine",
    "data",
    "find_learning_rate",
    "load_dataset",
    "one_cycle",
    "optimizer",
    "schedule",
    "steps",
    "write_history",
]
