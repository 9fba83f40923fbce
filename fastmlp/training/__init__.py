"""Training: epochs, stopping rules, L-BFGS, the state of a fit, and observers."""

from fastmlp.core.optimizers import SGD, Adam
from fastmlp.training.lbfgs import train_lbfgs
from fastmlp.training.loop import Noise, train
from fastmlp.training.observing import Fit, Observation, Observer, Outcome, observing
from fastmlp.training.schedules import SCHEDULES, scheduled_rate
from fastmlp.training.state import EpochReport, Progress, TrainingState, finish

__all__ = [
    "Adam",
    "EpochReport",
    "Fit",
    "Noise",
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
