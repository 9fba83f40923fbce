"""How weights change over time: optimisers, epochs, shuffling, stopping rules, L-BFGS.

The loop asks the engine that it receives for one epoch at a time. What it
draws from the random state, and in which order, is scikit-learn's.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize
from sklearn.exceptions import ConvergenceWarning

from fastmlp.core.optimizers import Optimizer
from fastmlp.core.random_bits import Dropout
from fastmlp.exceptions import warn_as_sklearn
from fastmlp.utils import searches
from fastmlp.utils.logs import LOGGER


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
    history: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Moment:
    """What is true after some epochs of a call of fit, but for what they leave one by one.

    Parameters
    ----------
    n_epochs : int
    loss : float
        Of the last of them.
    flat : array of shape (n_parameters,) or None
        The parameters to end with, unless those of the engine: with early
        stopping the best ones, with L-BFGS those of the last iteration.
    n_samples_seen, best_loss, no_improvement_count, best_validation_score
        As in `TrainingState`.
    """

    n_epochs: int
    loss: float
    flat: NDArray | None
    n_samples_seen: int
    best_loss: float
    no_improvement_count: int
    best_validation_score: float


class Progress:
    """A call of fit under way: the state it began with, and what its epochs add.

    Ctrl-C may come between any two statements. An epoch counts from a single
    assignment on, so all that can be asked here describes the same epochs
    whenever it comes.

    Parameters
    ----------
    before : TrainingState
        Not changed.
    names : iterable of str
        What the history has an entry of for every epoch.
    has_curve : bool
        Whether epochs have a place in the loss curve (iterations of L-BFGS have none).
    early_stopping : bool
        Watch the validation score instead of the loss, and end with the
        parameters of the best one.
    tol : float
        Improvement that counts as such.
    flat : array of shape (n_parameters,), optional
        The parameters to end with if no epoch has better ones.

    Attributes
    ----------
    interrupted : bool
        Whether Ctrl-C has ended it.
    """

    def __init__(
        self,
        before: TrainingState,
        names: Iterable[str] = ("loss", "learning_rate", "seconds"),
        *,
        has_curve: bool = True,
        early_stopping: bool = False,
        tol: float = 0.0,
        flat: NDArray | None = None,
    ) -> None:
        self._before = before
        self._names = tuple(names)
        self._has_curve = has_curve
        self._tol = float(tol)  # in float32 it would round the losses
        self.early_stopping = early_stopping
        self.interrupted = False
        self._entries: list[dict[str, float]] = []  # the last one may not count yet
        self._moment = _Moment(
            0,
            np.nan,
            flat,
            before.n_samples_seen,
            before.best_loss,
            before.no_improvement_count,
            before.best_validation_score,
        )

    @property
    def n_epochs(self) -> int:
        """Epochs finished in this call."""
        return self._moment.n_epochs

    @property
    def number(self) -> int:
        """The next epoch's number, counted from 1 over all calls."""
        return len(self._before.loss_curve) + self._moment.n_epochs + 1

    @property
    def loss(self) -> float:
        """The last epoch's loss."""
        return self._moment.loss

    @property
    def n_samples_seen(self) -> int:
        """Training samples seen in all calls."""
        return self._moment.n_samples_seen

    @property
    def no_improvement_count(self) -> int:
        """Epochs in a row without improvement."""
        return self._moment.no_improvement_count

    @property
    def flat(self) -> NDArray | None:
        """The parameters to end with, unless those of the engine."""
        return self._moment.flat

    def add(self, entries: dict[str, float], n_samples: int, flat: NDArray) -> None:
        """Count an epoch.

        Parameters
        ----------
        entries : dict of str to float
            Of the history.
        n_samples : int
        flat : array of shape (n_parameters,)
            The parameters now. Copied if training is to end with them.
        """
        loss, now = entries["loss"], self._moment
        if not self._has_curve:
            moment = replace(now, loss=loss, flat=flat.copy())
        elif self.early_stopping:
            score, best = entries["val_score"], now.best_validation_score
            stalled = score < best + self._tol
            moment = replace(now, loss=loss, no_improvement_count=self._counted(stalled))
            if score > best:
                moment = replace(moment, best_validation_score=score, flat=flat.copy())
        else:
            stalled = loss > now.best_loss - self._tol  # a rise above that is no improvement
            moment = replace(
                now,
                loss=loss,
                no_improvement_count=self._counted(stalled),
                best_loss=min(now.best_loss, loss),
            )
        moment = replace(
            moment, n_epochs=now.n_epochs + 1, n_samples_seen=now.n_samples_seen + n_samples
        )
        self._entries.append(entries)
        self._moment = moment

    def _counted(self, stalled: bool) -> int:
        return self._moment.no_improvement_count + 1 if stalled else 0

    def restart_patience(self) -> None:
        """Begin to count epochs without improvement anew."""
        self._moment = replace(self._moment, no_improvement_count=0)

    def settle(self, loss: float, flat: NDArray) -> None:
        """End with these parameters."""
        self._moment = replace(self._moment, loss=loss, flat=flat)

    def state(self) -> TrainingState:
        """Return the state after the epochs that count."""
        now, before = self._moment, self._before
        entries = self._entries[: now.n_epochs]
        length = max(map(len, before.history.values()), default=0)
        history = {}
        for name in dict.fromkeys((*before.history, *self._names)):
            history[name] = [
                *before.history.get(name, [np.nan] * length),
                *(epoch.get(name, np.nan) for epoch in entries),
            ]
        curve = [epoch["loss"] for epoch in entries] if self._has_curve else []
        scores = [epoch["val_score"] for epoch in entries] if self.early_stopping else []
        return TrainingState(
            now.n_samples_seen,
            before.loss_curve + curve,
            now.best_loss,
            now.no_improvement_count,
            before.validation_scores + scores,
            now.best_validation_score,
            history,
        )


#: The schedules of the learning rate that have a name.
SCHEDULES = ("linear", "cosine")


def scheduled_rate(name: str, rate: float, epoch: int, n_epochs: int) -> float:
    """Return the rate of an epoch, counted from 1.

    ``"linear"`` is ``rate * (n + 1 - epoch) / n``, and ``"cosine"`` is
    ``rate / 2 * (1 + cos(pi * (epoch - 1) / n))``: both begin at `rate` and would be 0 in epoch
    n + 1. Epochs after the n-th, of a warm start, have the rate of the n-th.

    Examples
    --------
    >>> [scheduled_rate("linear", 0.5, epoch, 4) for epoch in (1, 2, 3, 4, 5)]
    [0.5, 0.375, 0.25, 0.125, 0.125]
    """
    done = min(epoch, n_epochs) - 1
    if name == "linear":
        return rate * (n_epochs - done) / n_epochs
    return rate / 2 * (1 + math.cos(math.pi * done / n_epochs))


def finish(engine: Any, progress: Progress) -> None:
    """Make the engine's parameters those to end with. Once more does no harm."""
    engine.sync()
    if progress.flat is not None:
        engine.parameters.flat[...] = progress.flat


#: Augmented samples that are held at a time, about; enough for some batches and all threads.
_AUGMENTED_ROWS = 4096


def train(
    engine: Any,
    optimizer: Optimizer,
    progress: Progress,
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
    lr_schedule: Callable[[int], float] | None = None,
    dropout: Dropout | None = None,
    augmented: Callable[[NDArray, int], tuple[Any, NDArray, NDArray | None]] | None = None,
    incremental: bool = False,
    verbose: bool = False,
    before_epoch: Callable[[], None] | None = None,
    on_epoch: Callable[[EpochReport], bool] | None = None,
    on_samples: Callable[[int], None] | None = None,
    handles_interrupts: bool = False,
) -> None:
    """Train epoch by epoch until a stopping rule, `max_iter` or Ctrl-C ends it.

    With early stopping the engine's parameters end as those of the best
    validation score seen, otherwise as those of the last epoch. Ctrl-C ends
    training with a warning and keeps what has been learned; so does an
    exception of a callable, which is passed on, as Ctrl-C is in a search.

    Parameters
    ----------
    engine : Engine of any backend
        Bound to the training data.
    optimizer : Optimizer
    progress : Progress
        Gets every epoch that is finished.
    n_samples, batch_size, max_iter : int
    shuffle : bool
        Draw a new order for every epoch, on top of the last one.
    random_state : RandomState
    tol : float
        Improvement that counts, to be printed.
    n_iter_no_change : int or inf
        Epochs without improvement after which training stops.
    validate : callable, optional
        Returns the loss and the score of the engine's current parameters on
        validation data.
    score_training : callable, optional
        Returns their score on the training data, for the reports.
    lr_schedule : callable, optional
        Epoch (counted from 1 over all calls, see `Progress.number`) to learning
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
    on_samples : callable, optional
        Called now and then within an epoch, with the number of its samples that are done.
    handles_interrupts : bool
        Whether Ctrl-C ends no more than this training even in a search; see `Observer`.
    """
    order = np.arange(n_samples)
    watched = "Validation score" if progress.early_stopping else "Training loss"
    try:
        while progress.n_epochs < max_iter:
            if before_epoch is not None:
                before_epoch()
            started = time.perf_counter()
            number = progress.number
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
                loss = engine.train_epoch(order, batch_size, optimizer, dropout, on_samples)
                loss /= n_samples
            else:
                loss = _train_part_by_part(
                    engine, augmented, number, order, batch_size, optimizer, dropout, on_samples
                )
                loss /= n_samples
            _say(verbose, f"Iteration {progress.n_epochs + 1}, loss = {loss:.8f}")

            score = None
            entries = {"loss": loss, "learning_rate": rate}
            if validate is not None:
                entries["val_loss"], score = validate()
                entries["val_score"] = score
            if progress.early_stopping:
                _say(verbose, f"Validation score: {score:f}")
                engine.sync()
            entries["seconds"] = seconds = time.perf_counter() - started
            progress.add(entries, n_samples, engine.parameters.flat)
            optimizer.epoch_ended(progress.n_samples_seen)

            epoch = progress.n_epochs
            if on_epoch is not None:
                report = EpochReport(
                    *(epoch, max_iter, loss, n_samples, seconds, entries.get("val_loss"), score),
                    training_score=None if score_training is None else score_training(),
                )
                if on_epoch(report):
                    break
            if progress.no_improvement_count > n_iter_no_change:
                stop, consequence = optimizer.progress_stalled()
                _say(
                    verbose,
                    f"{watched} did not improve more than tol={tol:f} for "
                    f"{int(n_iter_no_change)} consecutive epochs. {consequence}",
                )
                if stop:
                    break
                progress.restart_patience()
            if incremental:
                break
            if epoch == max_iter and lr_schedule is None:  # a schedule ends there on purpose
                warn_as_sklearn(
                    f"Stochastic Optimizer: Maximum iterations ({max_iter}) reached and the "
                    "optimization hasn't converged yet.",
                    ConvergenceWarning,
                )
    except KeyboardInterrupt:
        progress.interrupted = True
        if searches.is_running() and not handles_interrupts:
            raise
        warn_as_sklearn("Training interrupted by user.")
    finally:
        finish(engine, progress)


def _train_part_by_part(
    engine: Any,
    augmented: Callable[[NDArray, int], tuple[Any, NDArray, NDArray | None]],
    epoch: int,
    order: NDArray,
    batch_size: int,
    optimizer: Optimizer,
    dropout: Dropout | None,
    on_samples: Callable[[int], None] | None,
) -> float:
    """Train on samples that are made when it is their turn, and return the summed loss."""
    rows = batch_size * max(1, _AUGMENTED_ROWS // batch_size)
    summed_loss = 0.0
    for start in range(0, len(order), rows):
        part = order[start : start + rows]
        engine.bind(*augmented(part, epoch))
        masks = None if dropout is None else replace(dropout, start=start)
        summed_loss += engine.train_epoch(np.arange(len(part)), batch_size, optimizer, masks)
        if on_samples is not None:
            on_samples(start + len(part))
    return summed_loss


def train_lbfgs(
    engine: Any,
    progress: Progress,
    *,
    max_iter: int,
    max_fun: int,
    tol: float,
    validate: Callable[[], tuple[float, float]] | None = None,
    verbose: bool = False,
    before_epoch: Callable[[], None] | None = None,
    on_epoch: Callable[[EpochReport], bool] | None = None,
    handles_interrupts: bool = False,
) -> None:
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
    progress : Progress
        Gets every iteration that is finished; at the end its loss is the
        objective at the solution.
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
    handles_interrupts : bool
        As in `train`.
    """
    parameters = engine.parameters
    dtype = parameters.flat.dtype
    n_samples = engine.inputs.n_samples
    started = time.perf_counter()

    def objective(x: NDArray) -> tuple[float, NDArray]:
        gradient = np.empty_like(parameters.flat)  # scipy keeps it
        value = engine.loss_and_gradient(x.astype(dtype, copy=False), gradient)
        return value, gradient.astype(np.float64, copy=False)

    def iteration_ended(intermediate_result: OptimizeResult) -> None:
        nonlocal started
        x, loss = intermediate_result.x, float(intermediate_result.fun)
        parameters.flat[...] = x
        entries, score = {"loss": loss}, None
        if validate is not None:
            entries["val_loss"], score = validate()
            entries["val_score"] = score
        entries["seconds"] = seconds = time.perf_counter() - started
        started += seconds
        progress.add(entries, 0, x)
        iterations = progress.n_epochs
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
            parameters.flat.astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
            callback=iteration_ended,
        )
        progress.settle(float(result.fun), result.x)
    except KeyboardInterrupt:
        progress.interrupted = True
        if searches.is_running() and not handles_interrupts:
            raise
        warn_as_sklearn("Training interrupted by user.")
    else:
        stopped_by_callback = result.status == 99
        if result.status != 0 and not stopped_by_callback:
            _warn_not_converged(result, min(result.nit, max_iter), max_iter)
    finally:
        finish(engine, progress)


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
    """Print a line of scikit-learn's training log, which is a log record in any case."""
    LOGGER.debug(line)
    if verbose:
        print(line)  # noqa: T201
