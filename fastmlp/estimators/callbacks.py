"""scikit-learn's callbacks (SLEP 23), if the installed version has them (1.9 and later).

With an older scikit-learn, the estimators have no ``set_callbacks``.
"""

from collections.abc import Callable
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Empty: this scikit-learn has no callbacks."""

    def with_callbacks(method: Callable) -> Callable:
        """Return the method unchanged: this scikit-learn has no callbacks."""
        return method


from fastmlp.training import Checkpoint, Observer

__all__ = [
    "CallbackSupportMixin",
    "FitTasks",
    "checkpoint_among",
    "observers_among",
    "with_callbacks",
]


def checkpoint_among(estimator: Any) -> Checkpoint | None:
    """Return the checkpoint among an estimator's callbacks, if there is one."""
    callbacks = getattr(estimator, "_skl_callbacks", ())
    return next((found for found in callbacks if isinstance(found, Checkpoint)), None)


def observers_among(estimator: Any) -> list[Observer]:
    """Return the observers among an estimator's callbacks."""
    callbacks = getattr(estimator, "_skl_callbacks", ())
    return [found for found in callbacks if isinstance(found, Observer)]


class FitTasks:
    """The callback tasks of a call of fit: the fit, and its epochs.

    Parameters
    ----------
    estimator : estimator
    max_epochs : int
        Maximum number of epochs, or iterations of L-BFGS and one more, which is not finished.
    X, y : array
        The training data, passed to callbacks that request it.
    sample_weight : array or None
    """

    def __init__(self, estimator: Any, max_epochs: int, X: Any, y: Any, sample_weight: Any) -> None:
        self._estimator = estimator
        self._data = {
            "estimator": estimator,
            "X": X,
            "y": y,
            "metadata": None if sample_weight is None else {"sample_weight": sample_weight},
        }
        self._fit: Any = None
        self._epoch: Any = None
        if isinstance(estimator, CallbackSupportMixin) and hasattr(
            estimator, "_init_callback_context"
        ):
            self._fit = estimator._init_callback_context(max_subtasks=max_epochs)
            self._fit.call_on_fit_task_begin(**self._data)

    def epoch_begins(self) -> None:
        """Notify callbacks that an epoch begins."""
        if self._fit is not None and getattr(self._estimator, "_skl_callbacks", None):
            self._epoch = self._fit.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(**self._data)

    def epoch_ended(self, fitted_attributes: Callable[[], dict[str, Any]]) -> bool:
        """Notify callbacks that the epoch has ended; return whether one of them wants to stop."""
        if self._epoch is None:
            return False
        epoch, self._epoch = self._epoch, None
        return epoch.call_on_fit_task_end(**self._data, reconstruction_attributes=fitted_attributes)

    def fit_ended(self, fitted_attributes: Callable[[], dict[str, Any]]) -> None:
        """Notify callbacks that the fit has ended."""
        if self._epoch is not None:  # started and interrupted, or not run by scipy
            self._epoch.call_on_fit_task_end(estimator=self._estimator)
            self._epoch = None
        if self._fit is not None:
            self._fit.call_on_fit_task_end(
                **self._data, reconstruction_attributes=fitted_attributes
            )
