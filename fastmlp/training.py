"""How weights change over time: optimisers, epochs, shuffling, stopping rules, L-BFGS.

The loop asks the engine that it receives for one epoch at a time. What it
draws from the random state, and in which order, is scikit-learn's.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize
from sklearn.exceptions import ConvergenceWarning

from fastmlp import searches
from fastmlp.network import Parameters
from fastmlp.notices import warn_as_sklearn
from fastmlp.random_bits import Dropout


def _fitting(state: NDArray, flat: NDArray) -> NDArray:
    """Return an optimiser's state vector as an engine needs it for the parameters `flat`."""
    if state.shape != flat.shape:
        raise ValueError(
            f"the optimiser's state is of a network with {state.size} parameters, this one has "
            f"{flat.size}; fit anew, or put the fitted coefs_ back."
        )
    return np.require(state, flat.dtype, ["C_CONTIGUOUS", "ALIGNED", "WRITEABLE"])


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

    def adapt(self, flat: NDArray) -> None:
        """Make the state fit the parameters `flat`, whatever it was when it was pickled."""
        self.velocity = _fitting(self.velocity, flat)

    @property
    def rate(self) -> float:
        """The rate of the next epoch; may be set."""
        return self.learning_rate

    @rate.setter
    def rate(self, value: float) -> None:
        self.learning_rate = value

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

    def adapt(self, flat: NDArray) -> None:
        """Make the state fit the parameters `flat`, whatever it was when it was pickled."""
        self.m = _fitting(self.m, flat)
        self.v = _fitting(self.v, flat)

    @property
    def rate(self) -> float:
        """The rate of the next epoch, before the bias correction; may be set."""
        return self.learning_rate_init

    @rate.setter
    def rate(self, value: float) -> None:
        self.learning_rate_init = value

    def corrected_rate(self) -> float:
        """Return the step size of update `t`, which corrects the bias of both moments."""
        # np.sqrt, because with hyperparameters in float32 that is scikit-learn's precision here.
        return float(
            self.learning_rate_init * np.sqrt(1 - self.beta_2**self.t) / (1 - self.beta_1**self.t)
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
    validation_loss, validation_score : float or None
        Of the held-out data, if there is any.
    training_score : float or None
        Of the training data, without dropout and augmentation, if it was asked for.
    """

    epoch: int
    max_iter: int
    loss: float
    n_samples: int
    seconds: float
    validation_loss: float | None = None
    validation_score: float | None = None
    training_score: float | None = None


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
        The parameters of the best validation score, during a fit.
    history : dict of str to list of float
        Lists of equal length, one entry per epoch: "loss", "learning_rate",
        "seconds" and, while there is validation data, "val_loss" and
        "val_score" (not a number in epochs without).
    """

    n_samples_seen: int = 0
    loss_curve: list[float] = field(default_factory=list)
    best_loss: float = np.inf
    no_improvement_count: int = 0
    validation_scores: list[float] = field(default_factory=list)
    best_validation_score: float = -np.inf
    best_flat: NDArray | None = None
    history: dict[str, list[float]] = field(default_factory=dict)

    def add_history(self, **values: float) -> None:
        """Record an epoch's entries of the history."""
        length = max(map(len, self.history.values()), default=0)
        for name in {**self.history, **values}:
            entries = self.history.setdefault(name, [np.nan] * length)
            entries.append(values.get(name, np.nan))

    def add_loss(self, loss: float, tol: float) -> None:
        """Record an epoch's training loss; a rise above best - tol is no improvement."""
        self.loss_curve.append(loss)
        self._count(stalled=loss > self.best_loss - float(tol))
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


#: Augmented samples that are held at a time, about; enough for some batches and all threads.
_AUGMENTED_ROWS = 4096


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
    validate: Callable[[], tuple[float, float]] | None = None,
    score_training: Callable[[], float] | None = None,
    early_stopping: bool = False,
    lr_schedule: Callable[[int], float] | None = None,
    dropout: Dropout | None = None,
    augmented: Callable[[NDArray, int], tuple[Any, NDArray, NDArray | None]] | None = None,
    incremental: bool = False,
    verbose: bool = False,
    before_epoch: Callable[[], None] | None = None,
    on_epoch: Callable[[EpochReport], bool] | None = None,
) -> int:
    """Train epoch by epoch until a stopping rule, `max_iter` or Ctrl-C ends it.

    With `early_stopping` the engine's parameters end as those of the best
    validation score seen, otherwise as those of the last epoch. Ctrl-C ends
    training with a warning and keeps what has been learned; so does an
    exception of a callable, which is passed on, as Ctrl-C is in a search.

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
    validate : callable, optional
        Returns the loss and the score of the engine's current parameters on
        validation data.
    score_training : callable, optional
        Returns their score on the training data, for the reports.
    early_stopping : bool
        Watch the validation score instead of the training loss.
    lr_schedule : callable, optional
        Epoch (counted from 1 over all calls that share `state`) to learning
        rate.
    dropout : Dropout, optional
        Hidden units to leave out; its epoch is set to the current one, counted
        likewise.
    augmented : callable, optional
        Indices of samples and epoch, counted likewise, to these samples as
        they are in that epoch: inputs, targets and weights, for `Engine.bind`.
    incremental : bool
        One epoch, with no word about convergence (partial_fit).
    verbose : bool
        Print scikit-learn's lines.
    before_epoch : callable, optional
        Called before every epoch.
    on_epoch : callable, optional
        Called with an `EpochReport` after every epoch; a true result ends
        training.

    Returns
    -------
    int
        Epochs finished in this call.
    """
    order = np.arange(n_samples)
    watched = "Validation score" if early_stopping else "Training loss"
    epoch = 0
    try:
        while epoch < max_iter:
            if before_epoch is not None:
                before_epoch()
            started = time.perf_counter()
            number = len(state.loss_curve) + 1
            if lr_schedule is not None:
                optimizer.rate = float(lr_schedule(number))
            if dropout is not None:
                dropout = replace(dropout, epoch=number)
            rate = optimizer.rate
            if shuffle:
                permutation = np.arange(n_samples)
                random_state.shuffle(permutation)
                order = order[permutation]
            if augmented is None:
                loss = engine.train_epoch(order, batch_size, optimizer, dropout) / n_samples
            else:
                loss = _train_part_by_part(
                    engine, augmented, number, order, batch_size, optimizer, dropout
                )
                loss /= n_samples
            _say(verbose, f"Iteration {epoch + 1}, loss = {loss:.8f}")

            score = None
            entries = {"loss": loss, "learning_rate": rate}
            if validate is not None:
                entries["val_loss"], score = validate()
                entries["val_score"] = score
            epoch += 1
            state.n_samples_seen += n_samples
            if early_stopping:
                assert score is not None
                state.loss_curve.append(loss)
                _say(verbose, f"Validation score: {score:f}")
                engine.sync()
                state.add_validation_score(score, tol, engine.parameters)
            else:
                state.add_loss(loss, tol)
            seconds = time.perf_counter() - started
            state.add_history(**entries, seconds=seconds)
            optimizer.epoch_ended(state.n_samples_seen)

            if on_epoch is not None:
                report = EpochReport(
                    *(epoch, max_iter, loss, n_samples, seconds, entries.get("val_loss"), score),
                    training_score=None if score_training is None else score_training(),
                )
                if on_epoch(report):
                    break
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
            if incremental:
                break
            if epoch == max_iter:
                warn_as_sklearn(
                    f"Stochastic Optimizer: Maximum iterations ({max_iter}) reached and the "
                    "optimization hasn't converged yet.",
                    ConvergenceWarning,
                )
    except KeyboardInterrupt:
        if searches.is_running():
            raise
        warn_as_sklearn("Training interrupted by user.")
    finally:
        engine.sync()
        if early_stopping and state.best_flat is not None:
            engine.parameters.flat[...] = state.best_flat
            state.best_flat = None
    return epoch


def _train_part_by_part(
    engine: Any,
    augmented: Callable[[NDArray, int], tuple[Any, NDArray, NDArray | None]],
    epoch: int,
    order: NDArray,
    batch_size: int,
    optimizer: SGD | Adam,
    dropout: Dropout | None,
) -> float:
    """Train on samples that are made when it is their turn, and return the summed loss."""
    rows = batch_size * max(1, _AUGMENTED_ROWS // batch_size)
    summed_loss = 0.0
    for start in range(0, len(order), rows):
        part = order[start : start + rows]
        engine.bind(*augmented(part, epoch))
        masks = None if dropout is None else replace(dropout, start=start)
        summed_loss += engine.train_epoch(np.arange(len(part)), batch_size, optimizer, masks)
    return summed_loss


def train_lbfgs(
    engine: Any,
    state: TrainingState,
    *,
    max_iter: int,
    max_fun: int,
    tol: float,
    validate: Callable[[], tuple[float, float]] | None = None,
    verbose: bool = False,
    before_epoch: Callable[[], None] | None = None,
    on_epoch: Callable[[EpochReport], bool] | None = None,
) -> tuple[int, float]:
    """Minimise the objective over all samples by L-BFGS (scipy's L-BFGS-B).

    scipy's vector is the flat parameter vector itself, in float64; a network
    in float32 is evaluated in float32. Ctrl-C ends training with a warning and
    keeps the parameters of the last iteration; so does an exception of a
    callable, which is passed on, as Ctrl-C is in a search.

    Parameters
    ----------
    engine : Engine of any backend
        Bound to the training data. Its parameters are the starting point, and
        become the solution.
    state : TrainingState
        Its history gets an entry per iteration.
    max_iter, max_fun : int
        Iterations and evaluations at most.
    tol : float
        Largest component of the gradient at which to stop.
    validate : callable, optional
        Returns the loss and the score of the engine's current parameters on
        validation data.
    verbose : bool
        Print a line per iteration.
    before_epoch : callable, optional
        Called before every iteration, and after the last one.
    on_epoch : callable, optional
        Called with an `EpochReport` after every iteration; a true result ends
        training.

    Returns
    -------
    n_iter : int
    loss : float
        The objective at the solution.
    """
    parameters = engine.parameters
    dtype = parameters.flat.dtype
    n_samples = engine.inputs.n_samples
    started = time.perf_counter()
    iterations = 0
    # What Ctrl-C leaves: the point and the objective of the last iteration.
    latest = parameters.flat.astype(np.float64)
    loss = np.nan

    def objective(x: NDArray) -> tuple[float, NDArray]:
        gradient = np.empty_like(parameters.flat)  # scipy keeps it
        value = engine.loss_and_gradient(x.astype(dtype, copy=False), gradient)
        return value, gradient.astype(np.float64, copy=False)

    def iteration_ended(intermediate_result: OptimizeResult) -> None:
        nonlocal latest, loss, iterations, started
        latest, loss = intermediate_result.x.copy(), float(intermediate_result.fun)
        parameters.flat[...] = latest
        entries, score = {"loss": loss}, None
        if validate is not None:
            entries["val_loss"], score = validate()
            entries["val_score"] = score
        iterations += 1
        seconds = time.perf_counter() - started
        started += seconds
        state.add_history(**entries, seconds=seconds)
        _say(verbose, f"Iteration {iterations}, loss = {loss:.8f}")
        if on_epoch is not None and on_epoch(
            EpochReport(
                *(iterations, max_iter, loss, n_samples, seconds, entries.get("val_loss"), score)
            )
        ):
            raise StopIteration
        if before_epoch is not None:
            before_epoch()

    try:
        if before_epoch is not None:
            before_epoch()
        result = minimize(
            objective,
            latest,
            method="L-BFGS-B",
            jac=True,
            options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
            callback=iteration_ended,
        )
    except KeyboardInterrupt:
        if searches.is_running():
            raise
        warn_as_sklearn("Training interrupted by user.")
    else:
        latest, loss = result.x, float(result.fun)
        iterations = min(result.nit, max_iter)
        stopped_by_callback = result.status == 99
        if result.status != 0 and not stopped_by_callback:
            _warn_not_converged(result, iterations, max_iter)
    finally:
        parameters.flat[...] = latest
    return iterations, loss


def _warn_not_converged(result: OptimizeResult, n_iter: int, max_iter: int) -> None:
    """Say in scikit-learn's words that L-BFGS has not converged."""
    message = (
        f"lbfgs failed to converge after {n_iter} iteration(s) (status={result.status}):\n"
        f"{result.message}\n"
    )
    if n_iter == max_iter:
        message += (
            f"\nIncrease the number of iterations to improve the convergence (max_iter={max_iter})."
        )
    message += (
        "\nYou might also want to scale the data as shown in:\n"
        "    https://scikit-learn.org/stable/modules/preprocessing.html"
    )
    warn_as_sklearn(message, ConvergenceWarning, at=r'_check_optimize_result\("lbfgs"')


def _say(verbose: bool, line: str) -> None:
    """Print a line of scikit-learn's training log."""
    if verbose:
        print(line)  # noqa: T201
