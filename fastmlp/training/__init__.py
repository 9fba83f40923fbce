"""How weights change over time: epochs, stopping rules, L-BFGS, and what a fit leaves."""

from fastmlp.core.optimizers import SGD, Adam
from fastmlp.training.loop import (
    SCHEDULES,
    EpochReport,
    Progress,
    TrainingState,
    finish,
    scheduled_rate,
    train,
    train_lbfgs,
)
from fastmlp.training.observing import Fit, Observation, Observer, Outcome, observing

__all__ = [
    "Adam",
    "EpochReport",
    "Fit",
    "Observation",
    "Observer",
    "Outcome",
    "Progress",
    "SCHEDULES",
    "SGD",
    "TrainingState",
    "finish",
    "observing",
    "scheduled_rate",
    "train",
    "train_lbfgs",
]
