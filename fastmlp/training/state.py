"""What a fit leaves from epoch to epoch, and from one call of fit to the next."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def finish(engine: Any, progress: Progress) -> None:
    """Make the engine's parameters those to end with. Once more does no harm."""
    engine.sync()
    if progress.flat is not None:
        engine.parameters.flat[...] = progress.flat


def say(verbose: bool, line: str) -> None:
    """Print a line of scikit-learn's training log, which is a log record in any case."""
    LOGGER.debug(line)
    if verbose:
        print(line)  # noqa: T201
