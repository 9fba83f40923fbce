"""Pruning of unpromising trials of Optuna (https://optuna.org): they are not trained to the end.

Optuna is imported when a `PruningCallback` is made: ``pip install optuna``.
"""

import math
from typing import Any

from fastmlp.training import EpochReport, Fit, Observer

__all__ = ["PruningCallback"]

_MONITORS = {
    "loss": lambda report: report.loss,
    "val_loss": lambda report: report.validation_loss,
    "val_score": lambda report: report.validation_score,
}


class PruningCallback(Observer):
    """Report every epoch to an Optuna trial, and end the fit if the trial should be pruned.

    Pass it to ``set_callbacks`` with scikit-learn 1.9 or later, or use it in a ``with`` statement
    of `fastmlp.training.observing`, which also works in pipelines and with older versions.

    Parameters
    ----------
    trial : optuna.trial.Trial
    monitor : {"val_score", "val_loss", "loss"}, default="val_score"
        What is reported: the score or the loss on the validation data (`X_val`, or
        `early_stopping`), or the training loss. It should be what the objective returns: the
        study's direction is "maximize" for the score, and "minimize" for losses.

    Raises
    ------
    ImportError
        If Optuna is not installed.
    ValueError
        If `monitor` is none of these or, during a fit, if there is no validation data.
    optuna.TrialPruned
        During a fit, if the trial should be pruned.

    Examples
    --------
    >>> import optuna
    >>> from fastmlp import MLPClassifier
    >>> from fastmlp.optuna import PruningCallback
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> X_val, y_val = X[1000:], y[1000:]
    >>> def objective(trial):
    ...     rate = trial.suggest_float("learning_rate_init", 1e-4, 1e-1, log=True)
    ...     model = MLPClassifier(
    ...         learning_rate_init=rate, input_scale=1 / 16, max_iter=20, n_iter_no_change=20
    ...     )
    ...     model.set_callbacks(PruningCallback(trial))
    ...     model.fit(X[:1000], y[:1000], X_val=X_val, y_val=y_val)
    ...     return model.score(X_val, y_val)
    >>> study = optuna.create_study(direction="maximize")  # doctest: +SKIP
    >>> study.optimize(objective, n_trials=30)  # doctest: +SKIP
    """

    def __init__(self, trial: Any, monitor: str = "val_score") -> None:
        try:
            import optuna
        except ImportError:
            raise ImportError(
                "PruningCallback needs Optuna, which is not installed: pip install optuna"
            ) from None
        if monitor not in _MONITORS:
            raise ValueError(f"monitor must be one of {list(_MONITORS)}, got {monitor!r}.")
        self._pruned = optuna.TrialPruned
        self.trial, self.monitor = trial, monitor

    def epoch_ended(self, fit: Fit, report: EpochReport) -> None:
        """Report an epoch; raise TrialPruned if the trial should end."""
        value = _MONITORS[self.monitor](report)
        if value is None:
            raise ValueError(
                f"monitor={self.monitor!r} needs validation data: pass X_val and y_val to fit, set "
                "early_stopping=True, or use monitor='loss'."
            )
        if math.isfinite(value):
            self.trial.report(float(value), step=report.epoch)
        if not math.isfinite(value) or self.trial.should_prune():
            raise self._pruned(
                f"Trial was pruned at epoch {report.epoch}, {self.monitor} = {value:g}."
            )
