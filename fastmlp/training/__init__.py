"""Training: epochs, stopping rules, L-BFGS, the state of a fit, and observers."""

from fastmlp.core.optimizers import SGD, Adam
from fastmlp.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    CheckpointInMemory,
    Run,
    differences,
    digest,
    in_words,
)
from fastmlp.training.lbfgs import train_lbfgs
from fastmlp.training.loop import train
from fastmlp.training.observing import Fit, Observation, Observer, Outcome, observing
from fastmlp.training.passes import InMemory, Noise, Pass
from fastmlp.training.schedules import SCHEDULES, scheduled_rate
from fastmlp.training.state import EpochReport, Progress, TrainingState, finish, say
from fastmlp.training.sums import PartialSum, SummedObjective, partial_sum, without_penalty

__all__ = [
    "Adam",
    "Checkpoint",
    "CheckpointError",
    "CheckpointInMemory",
    "EpochReport",
    "Fit",
    "InMemory",
    "Noise",
    "Observation",
    "Observer",
    "Outcome",
    "PartialSum",
    "Pass",
    "Progress",
    "Run",
    "SCHEDULES",
    "SGD",
    "SummedObjective",
    "TrainingState",
    "differences",
    "digest",
    "finish",
    "in_words",
    "observing",
    "partial_sum",
    "say",
    "scheduled_rate",
    "train",
    "train_lbfgs",
    "without_penalty",
]
