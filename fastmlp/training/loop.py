"""The training loop of the stochastic solvers: epochs, shuffling, stopping rules.

It calls the engine for one epoch at a time. It draws from the random state in the same order as
scikit-learn.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from fastmlp.core.optimizers import Optimizer
from fastmlp.core.random_bits import Dropout
from fastmlp.exceptions import warn_as_sklearn
from fastmlp.training.state import EpochReport, Progress, finish, say
from fastmlp.utils import searches

#: Approximate number of augmented samples in memory; enough for some batches and all threads.
_AUGMENTED_ROWS = 4096


@dataclass(frozen=True)
class Noise:
    """Dropout and augmentation, which differ between epochs.

    Parameters
    ----------
    dropout : Dropout, optional
        Its epoch is set to the current one, counted from 1 over all calls (see
        `Progress.number`).
    augmented : callable, optional
        Maps indices of samples and the epoch, counted in the same way, to the augmented samples:
        inputs, targets and weights, for `Engine.bind`.
    """

    dropout: Dropout | None = None
    augmented: Callable[[NDArray, int], tuple[Any, NDArray, NDArray | None]] | None = None


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
    rows: NDArray | None = None,
    noise: Noise = Noise(),
    incremental: bool = False,
    verbose: bool = False,
    before_epoch: Callable[[], None] | None = None,
    on_epoch: Callable[[EpochReport], bool] | None = None,
    on_samples: Callable[[int], None] | None = None,
    handles_interrupts: bool = False,
    order: NDArray | None = None,
    keep: Callable[..., None] | None = None,
) -> None:
    """Train until a stopping rule, `max_iter` or Ctrl-C.

    With early stopping, the engine ends with the parameters of the best
    validation score, otherwise with those of the last epoch. Ctrl-C stops
    training with a warning and keeps the weights of the finished epochs; so
    does an exception of a callable, which is re-raised, as is Ctrl-C in a
    search.

    Parameters
    ----------
    engine : Engine of any backend
        Bound to the training data.
    optimizer : Optimizer
    progress : Progress
        Records every finished epoch.
    n_samples, batch_size, max_iter : int
    shuffle : bool
        Shuffle the samples again in every epoch, starting from the last order.
    random_state : RandomState
    tol : float
        Minimum improvement, for the message.
    n_iter_no_change : int or inf
        Epochs without improvement after which training stops.
    validate : callable, optional
        Returns the loss and the score of the engine's current parameters on
        validation data.
    score_training : callable, optional
        Returns their score on the training data, for the reports.
    lr_schedule : callable, optional
        Maps the epoch (counted from 1 over all calls, see `Progress.number`) to
        the learning rate.
    rows : array of shape (n_samples,), optional
        The samples' rows of what the engine is bound to, if they are not all of them in order. Not
        with augmentation.
    noise : Noise
    incremental : bool
        One epoch, without a warning about convergence (partial_fit).
    verbose : bool
        Print scikit-learn's lines.
    before_epoch : callable, optional
        Called before every epoch.
    on_epoch : callable, optional
        Called with an `EpochReport` after every epoch; a true result stops
        training.
    on_samples : callable, optional
        Called periodically within an epoch, with the number of processed samples.
    handles_interrupts : bool
        Whether Ctrl-C stops only this training, even in a search; see `Observer`.
    order : array of shape (n_samples,), optional
        The order of the last epoch, where training goes on with that of a checkpoint.
    keep : callable, optional
        Called before the first epoch, after every one and at the end with the order of the last
        epoch and, at the end, with ``is_final=True`` and whether a stopping rule has ended the
        training as `finished`.
    """
    watched = "Validation score" if progress.early_stopping else "Training loss"

    def is_over() -> bool:
        if progress.no_improvement_count <= n_iter_no_change:
            return False
        stop, consequence = optimizer.progress_stalled()
        say(
            verbose,
            f"{watched} did not improve more than tol={tol:f} for "
            f"{int(n_iter_no_change)} consecutive epochs. {consequence}",
        )
        if not stop:
            progress.restart_patience()
        return stop

    resumes = order is not None and progress.n_epochs > 0
    order = np.arange(n_samples) if order is None else order
    stopped = False
    try:
        if keep is not None:
            keep(order)
        if resumes:  # what was kept had not been asked yet
            stopped = is_over()
        while progress.n_epochs < max_iter and not stopped:
            if before_epoch is not None:
                before_epoch()
            started = time.perf_counter()
            number = progress.number
            if lr_schedule is not None:
                optimizer.rate = float(lr_schedule(number))
            dropout = noise.dropout and replace(noise.dropout, epoch=number)
            rate = optimizer.rate
            if shuffle:
                permutation = np.arange(n_samples)
                random_state.shuffle(permutation)
                order = order[permutation]
            if noise.augmented is None:
                samples = order if rows is None else rows[order]
                loss = engine.train_epoch(samples, batch_size, optimizer, dropout, on_samples)
                loss /= n_samples
            else:
                loss = _train_part_by_part(
                    engine,
                    noise.augmented,
                    number,
                    order,
                    batch_size,
                    optimizer,
                    dropout,
                    on_samples,
                )
                loss /= n_samples
            say(verbose, f"Iteration {progress.n_epochs + 1}, loss = {loss:.8f}")

            score = None
            entries = {"loss": loss, "learning_rate": rate}
            if validate is not None:
                entries["val_loss"], score = validate()
                entries["val_score"] = score
            if progress.early_stopping:
                say(verbose, f"Validation score: {score:f}")
            if progress.early_stopping or progress.keeps_best:
                engine.sync()
            entries["seconds"] = seconds = time.perf_counter() - started
            progress.add(entries, n_samples, engine.parameters.flat)
            optimizer.epoch_ended(progress.n_samples_seen)
            if keep is not None:
                keep(order)

            epoch = progress.n_epochs
            if on_epoch is not None:
                report = EpochReport(
                    *(epoch, max_iter, loss, n_samples, seconds, entries.get("val_loss"), score),
                    training_score=None if score_training is None else score_training(),
                )
                if on_epoch(report):
                    stopped = True
                    break
            stopped = is_over()
            if stopped or incremental:
                break
        if keep is not None:
            keep(order, finished=stopped, is_final=True)
        if not (stopped or incremental or lr_schedule):  # a schedule ends there
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
    """Train on samples that are augmented in chunks, and return the summed loss."""
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
