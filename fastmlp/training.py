"""How weights change over time: optimisers, epochs, shuffling and stopping rules.

The loop asks the engine that it receives for one epoch at a time. What it
draws from the random state, and in which order, is scikit-learn's.
"""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from fastmlp.network import Parameters


@dataclass
class SGD:
    """Stochastic gradient descent with momentum, and its learning-rate schedule.

    Parameters
    ----------
    velocity : array of shape (n_parameters,)
        The state, in the layout of `Parameters`.
    learning_rate_init : float
    schedule : {"constant", "invscaling", "adaptive"}
    power_t : float
        Exponent of "invscaling".
    momentum : float
    nesterov : bool

    Attributes
    ----------
    learning_rate : float
        The rate of the next epoch.
    """

    name: ClassVar[str] = "sgd"

    velocity: NDArray
    learning_rate_init: float = 0.001
    schedule: str = "constant"
    power_t: float = 0.5
    momentum: float = 0.9
    nesterov: bool = True
    learning_rate: float = field(init=False)

    def __post_init__(self) -> None:
        self.learning_rate = float(self.learning_rate_init)

    def epoch_ended(self, n_samples_seen: int) -> None:
        """Follow the schedule after an epoch."""
        if self.schedule == "invscaling":
            self.learning_rate = (
                float(self.learning_rate_init) / (n_samples_seen + 1) ** self.power_t
            )

    def progress_stalled(self) -> tuple[bool, str]:
        """Return whether to stop now that progress has stalled, and what to tell the user.

        "adaptive" divides the learning rate by 5 and goes on until it is 1e-6 or less.
        """
        if self.schedule != "adaptive":
            return True, "Stopping."
        if self.learning_rate <= 1e-6:
            return True, "Learning rate too small. Stopping."
        self.learning_rate /= 5.0
        return False, f"Setting learning rate to {self.learning_rate:f}"


@dataclass
class Adam:
    """Adam (Kingma and Ba, 2014).

    Parameters
    ----------
    m, v : array of shape (n_parameters,)
        First and second moments, in the layout of `Parameters`.
    learning_rate_init, beta_1, beta_2, epsilon : float

    Attributes
    ----------
    t : int
        Updates made so far.
    learning_rate : float
        The bias-corrected rate of the last update.
    """

    name: ClassVar[str] = "adam"

    m: NDArray
    v: NDArray
    learning_rate_init: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    t: int = 0
    learning_rate: float = field(init=False)

    def __post_init__(self) -> None:
        self.learning_rate = float(self.learning_rate_init)

    def corrected_rate(self) -> float:
        """Return the step size of update `t`, which corrects the bias of both moments."""
        return (
            self.learning_rate_init * math.sqrt(1 - self.beta_2**self.t) / (1 - self.beta_1**self.t)
        )

    def epoch_ended(self, n_samples_seen: int) -> None:
        """Adam has no schedule."""

    def progress_stalled(self) -> tuple[bool, str]:
        """Return whether to stop now that progress has stalled, and what to tell the user."""
        return True, "Stopping."


@dataclass(frozen=True)
class EpochReport:
    """What is known after an epoch; for progress displays.

    Parameters
    ----------
    epoch : int
        Epochs finished in this fit.
    max_iter : int
        Epochs at most.
    loss : float
    n_samples : int
        Samples of this epoch.
    seconds : float
        Time that the epoch took, validation included.
    validation_score : float or None
    """

    epoch: int
    max_iter: int
    loss: float
    n_samples: int
    seconds: float
    validation_score: float | None


@dataclass
class TrainingState:
    """What outlives one call of fit, so that a warm start goes on where training ended.

    Parameters
    ----------
    n_samples_seen : int
    loss_curve : list of float
        One loss per epoch.
    best_loss : float
    no_improvement_count : int
        Epochs in a row without improvement.
    validation_scores : list of float
    best_validation_score : float
    best_flat : array of shape (n_parameters,) or None
        The parameters of the best validation score.
    """

    n_samples_seen: int = 0
    loss_curve: list[float] = field(default_factory=list)
    best_loss: float = np.inf
    no_improvement_count: int = 0
    validation_scores: list[float] = field(default_factory=list)
    best_validation_score: float = -np.inf
    best_flat: NDArray | None = None

    def add_loss(self, loss: float, tol: float) -> None:
        """Record an epoch's training loss; a rise above best - tol is no improvement."""
        self.loss_curve.append(loss)
        self._count(stalled=loss > self.best_loss - tol)
        self.best_loss = min(self.best_loss, loss)

    def add_validation_score(self, score: float, tol: float, parameters: Parameters) -> None:
        """Record an epoch's validation score and keep the best parameters."""
        self.validation_scores.append(score)
        self._count(stalled=score < self.best_validation_score + tol)
        if score > self.best_validation_score:
            self.best_validation_score = score
            self.best_flat = parameters.flat.copy()

    def _count(self, *, stalled: bool) -> None:
        self.no_improvement_count = self.no_improvement_count + 1 if stalled else 0


def train(
    engine: Any,
    optimizer: SGD | Adam,
    state: TrainingState,
    *,
    n_samples: int,
    batch_size: int,
    max_iter: int,
    shuffle: bool,
    random_state: np.random.RandomState,
    tol: float,
    n_iter_no_change: float,
    validation_score: Callable[[], float] | None = None,
    verbose: bool = False,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> int:
    """Train epoch by epoch until a stopping rule, `max_iter` or Ctrl-C ends it.

    With a `validation_score` the engine's parameters end as those of the best
    score seen, otherwise as those of the last epoch. Ctrl-C ends training
    with a warning and keeps what has been learned.

    Parameters
    ----------
    engine : Engine of any backend
        Bound to the training data.
    optimizer : SGD or Adam
    state : TrainingState
        Continued, and updated after every epoch.
    n_samples, batch_size, max_iter : int
    shuffle : bool
        Draw a new order for every epoch, on top of the last one.
    random_state : RandomState
    tol : float
        Improvement that counts as such.
    n_iter_no_change : int or inf
        Epochs without improvement after which training stops.
    validation_score : callable, optional
        Scores the engine's current parameters on held-out data.
    verbose : bool
        Print scikit-learn's lines.
    on_epoch : callable, optional
        Called with an `EpochReport` after every epoch.

    Returns
    -------
    int
        Epochs finished in this call.
    """
    order = np.arange(n_samples)
    watched = "Training loss" if validation_score is None else "Validation score"
    epoch = 0
    try:
        while epoch < max_iter:
            started = time.perf_counter()
            if shuffle:
                permutation = np.arange(n_samples)
                random_state.shuffle(permutation)
                order = order[permutation]
            loss = engine.train_epoch(order, batch_size, optimizer) / n_samples
            epoch += 1
            state.n_samples_seen += n_samples
            _say(verbose, f"Iteration {epoch}, loss = {loss:.8f}")

            score = None
            if validation_score is None:
                state.add_loss(loss, tol)
            else:
                state.loss_curve.append(loss)
                score = validation_score()
                _say(verbose, f"Validation score: {score:f}")
                engine.sync()
                state.add_validation_score(score, tol, engine.parameters)
            if on_epoch is not None:
                seconds = time.perf_counter() - started
                on_epoch(EpochReport(epoch, max_iter, loss, n_samples, seconds, score))

            optimizer.epoch_ended(state.n_samples_seen)
            if state.no_improvement_count > n_iter_no_change:
                stop, consequence = optimizer.progress_stalled()
                _say(
                    verbose,
                    f"{watched} did not improve more than tol={tol:f} for "
                    f"{int(n_iter_no_change)} consecutive epochs. {consequence}",
                )
                if stop:
                    break
                state.no_improvement_count = 0
            if epoch == max_iter:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({max_iter}) reached and the "
                    "optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=2,
                )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
    engine.sync()
    if validation_score is not None and state.best_flat is not None:
        engine.parameters.flat[...] = state.best_flat
    return epoch


def _say(verbose: bool, line: str) -> None:
    """Print a line of scikit-learn's training log."""
    if verbose:
        print(line)  # noqa: T201
