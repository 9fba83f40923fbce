"""How weights change over time: epochs, stopping rules, L-BFGS, and what a fit leaves."""

from fastmlp.core.optimizers import SGD, Adam
from fastmlp.training.loop import (
    SCHEDULES,
    EpochReport,
    Progress,
    TrainingState,
    Watch,
    current_watch,
    finish,
    scheduled_rate,
    train,
    train_lbfgs,
    watched,
)

__all__ = [
    "Adam",
    "EpochReport",
    "Progress",
    "SCHEDULES",
    "SGD",
    "TrainingState",
    "Watch",
    "current_watch",
    "finish",
    "scheduled_rate",
    "train",
    "train_lbfgs",
    "watched",
]
