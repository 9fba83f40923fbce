"""The state of training, within a call of fit and between calls."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.utils.logs import LOGGER


@dataclass(frozen=True)
class EpochReport:
    """The results of an epoch, for progress displays.

    Parameters
    ----------
    epoch : int
        Number of finished epochs in this fit.
    max_iter : int
        Maximum number of epochs.
    loss : float
    n_samples : int
        Number of samples of this epoch.
    seconds : float
        Time of the epoch, including validation.
    validation_loss, validation_score : float or None
        On the validation data, if any.
    training_score : float or None
        On the training data, without dropout and augmentation, if requested.
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
    """The state that is kept between calls of fit, for a warm start.

    Parameters
    ----------
    n_samples_seen : int
    loss_curve : list of float
        One loss per epoch.
    best_loss : float
    no_improvement_count : int
        Consecutive epochs without improvement.
    validation_scores : list of float
    best_validation_score : float
    history : dict of str to list of float
        Lists of equal length, one entry per epoch: "loss", "learning_rate",
        "seconds" and, while there is validation data, "val_loss" and
        "val_score" (NaN in epochs without).
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
    """The state after some epochs of a call of fit, without the entries per epoch.

    Parameters
    ----------
    n_epochs : int
    loss : float
        Of the last epoch.
    flat : array of shape (n_parameters,) or None
        The final parameters, if not those of the engine: with early stopping
        the best ones, with L-BFGS those of the last iteration.
    n_samples_seen, best_loss, no_improvement_count, best_validation_score
        As in `TrainingState`.
    merit : float
        Of the best epoch, if `Progress` keeps its parameters.
    """

    n_epochs: int
    loss: float
    flat: NDArray | None
    n_samples_seen: int
    best_loss: float
    no_improvement_count: int
    best_validation_score: float
    merit: float = -np.inf


#: The numbers of `Progress.snapshot`.
SNAPSHOT_NUMBERS = tuple(f.name for f in fields(_Moment) if f.name != "flat")


class Progress:
    """A running call of fit: its initial state, and the results of its epochs.

    Ctrl-C may occur between any two statements. An epoch is committed by a
    single assignment, so all attributes describe the same epochs at any time.

    Parameters
    ----------
    before : TrainingState
        Not changed.
    names : iterable of str
        Names of the history's lists.
    has_curve : bool
        Whether epochs are added to the loss curve (not for L-BFGS).
    early_stopping : bool
        Monitor the validation score instead of the loss, and keep the
        parameters of the best one.
    keeps_best : bool
        Keep the parameters of the epoch with the best validation score or, without one, the lowest
        loss.
    tol : float
        Minimum improvement.
    flat : array of shape (n_parameters,), optional
        The final parameters if no epoch has better ones.

    Attributes
    ----------
    interrupted : bool
        Whether it was stopped by Ctrl-C.
    """

    def __init__(
        self,
        before: TrainingState,
        names: Iterable[str] = ("loss", "learning_rate", "seconds"),
        *,
        has_curve: bool = True,
        early_stopping: bool = False,
        keeps_best: bool = False,
        tol: float = 0.0,
        flat: NDArray | None = None,
    ) -> None:
        self._before = before
        self._names = tuple(names)
        self._has_curve = has_curve
        self._tol = float(tol)  # in float32 it would round the losses
        self.early_stopping = early_stopping
        self.keeps_best = keeps_best
        self.interrupted = False
        self._entries: list[dict[str, float]] = []  # the last one may not be committed yet
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
        """Number of finished epochs in this call."""
        return self._moment.n_epochs

    @property
    def number(self) -> int:
        """The next epoch's number, counted from 1 over all calls."""
        return len(self._before.loss_curve) + self._moment.n_epochs + 1

    @property
    def loss(self) -> float:
        """The loss of the last epoch."""
        return self._moment.loss

    @property
    def n_samples_seen(self) -> int:
        """Training samples seen in all calls."""
        return self._moment.n_samples_seen

    @property
    def no_improvement_count(self) -> int:
        """Consecutive epochs without improvement."""
        return self._moment.no_improvement_count

    @property
    def flat(self) -> NDArray | None:
        """The final parameters, if not those of the engine."""
        return self._moment.flat

    def add(self, entries: dict[str, float], n_samples: int, flat: NDArray) -> None:
        """Commit an epoch.

        Parameters
        ----------
        entries : dict of str to float
            Entries of the history.
        n_samples : int
        flat : array of shape (n_parameters,)
            The current parameters. Copied if they are the best ones.
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
            stalled = loss > now.best_loss - self._tol  # a smaller increase is no improvement
            moment = replace(
                now,
                loss=loss,
                no_improvement_count=self._counted(stalled),
                best_loss=min(now.best_loss, loss),
            )
        merit = entries.get("val_score", -loss)
        if self.keeps_best and merit > now.merit:
            moment = replace(moment, merit=merit, flat=flat.copy())
        moment = replace(
            moment, n_epochs=now.n_epochs + 1, n_samples_seen=now.n_samples_seen + n_samples
        )
        self._entries.append(entries)
        self._moment = moment

    def _counted(self, stalled: bool) -> int:
        return self._moment.no_improvement_count + 1 if stalled else 0

    def restart_patience(self) -> None:
        """Reset the count of epochs without improvement."""
        self._moment = replace(self._moment, no_improvement_count=0)

    def settle(self, loss: float, flat: NDArray) -> None:
        """Set the final parameters."""
        self._moment = replace(self._moment, loss=loss, flat=flat)

    def snapshot(self) -> tuple[list[dict[str, float]], dict[str, Any], NDArray | None]:
        """Return the entries of this call's epochs, the other numbers, and the final parameters.

        What `resume` needs. Nothing of it changes later, but for entries that follow these.
        """
        now = self._moment
        numbers = {name: _as_plain(getattr(now, name)) for name in SNAPSHOT_NUMBERS}
        return self._entries, numbers, now.flat

    def resume(
        self, entries: list[dict[str, float]], numbers: dict[str, Any], flat: NDArray | None
    ) -> None:
        """Continue where another call of the same fit has ended, with what `snapshot` returned."""
        self._entries = entries
        self._moment = replace(self._moment, **numbers, flat=flat)

    def state(self) -> TrainingState:
        """Return the state after the committed epochs."""
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


def _as_plain(number: Any) -> Any:
    """Return Python's number for one of NumPy, which a user may have set."""
    return number.item() if isinstance(number, np.generic) else number


def finish(engine: Any, progress: Progress) -> None:
    """Set the engine's parameters to the final ones. Idempotent."""
    engine.sync()
    if progress.flat is not None:
        engine.parameters.flat[...] = progress.flat


def say(verbose: bool, line: str) -> None:
    """Print a line of scikit-learn's training log, and always log it."""
    LOGGER.debug(line)
    if verbose:
        print(line)  # noqa: T201
