"""The training loop of the stochastic solvers: epochs and stopping rules."""

import time
from collections.abc import Callable
from typing import Any

from sklearn.exceptions import ConvergenceWarning

from fastmlp.core.optimizers import Optimizer
from fastmlp.exceptions import warn_as_sklearn
from fastmlp.training.passes import Pass
from fastmlp.training.state import EpochReport, Progress, finish, say
from fastmlp.utils import searches


def train(
    engine: Any,
    optimizer: Optimizer,
    progress: Progress,
    passes: Pass,
    *,
    n_samples: int,
    max_iter: int,
    tol: float,
    n_iter_no_change: float,
    validate: Callable[[], tuple[float, float]] | None = None,
    score_training: Callable[[], float] | None = None,
    lr_schedule: Callable[[int], float] | None = None,
    incremental: bool = False,
    verbose: bool = False,
    before_epoch: Callable[[], None] | None = None,
    on_epoch: Callable[[EpochReport], bool] | None = None,
    on_samples: Callable[[int], None] | None = None,
    handles_interrupts: bool = False,
    resumes: bool = False,
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
    optimizer : Optimizer
    progress : Progress
        Records every finished epoch.
    passes : Pass
        Trains the engine on all samples, once per epoch.
    n_samples, max_iter : int
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
    resumes : bool
        Whether training goes on with a checkpoint.
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

    stopped = False
    try:
        if keep is not None:
            keep(passes.order)
        if resumes and progress.n_epochs > 0:  # what was kept had not been asked yet
            stopped = is_over()
        while progress.n_epochs < max_iter and not stopped:
            if before_epoch is not None:
                before_epoch()
            started = time.perf_counter()
            number = progress.number
            if lr_schedule is not None:
                optimizer.rate = float(lr_schedule(number))
            rate = optimizer.rate
            loss = passes.train_epoch(number, optimizer, on_samples)
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
                keep(passes.order)

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
            keep(passes.order, finished=stopped, is_final=True)
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
