"""scikit-learn's callbacks (SLEP 23), where the installed scikit-learn has them (1.9 and later).

On an older scikit-learn the estimators simply have no ``set_callbacks``.
"""

from collections.abc import Callable
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing: this scikit-learn has no callbacks."""

    def with_callbacks(method: Callable) -> Callable:
        """Return the method as it is: this scikit-learn has no callbacks."""
        return method


__all__ = ["CallbackSupportMixin", "FitTasks", "with_callbacks"]


class FitTasks:
    """The tasks of one call of fit, as callbacks see them: the fit, and an epoch at a time.

    Parameters
    ----------
    estimator : estimator
    max_epochs : int
        Epochs at most, or iterations of L-BFGS and one more that is begun in vain.
    X, y : array
        The training data, handed to callbacks that ask for it.
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
        """Tell callbacks that the next epoch begins."""
        if self._fit is not None and getattr(self._estimator, "_skl_callbacks", None):
            self._epoch = self._fit.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(**self._data)

    def epoch_ended(self, fitted_attributes: Callable[[], dict[str, Any]]) -> bool:
        """Tell callbacks that the epoch is over; return whether one of them wants to stop."""
        if self._epoch is None:
            return False
        epoch, self._epoch = self._epoch, None
        return epoch.call_on_fit_task_end(**self._data, reconstruction_attributes=fitted_attributes)

    def fit_ended(self, fitted_attributes: Callable[[], dict[str, Any]]) -> None:
        """Tell callbacks that the fit is over."""
        if self._epoch is not None:  # one that began and was interrupted, or never run by scipy
            self._epoch.call_on_fit_task_end(estimator=self._estimator)
            self._epoch = None
        if self._fit is not None:
            self._fit.call_on_fit_task_end(
                **self._data, reconstruction_attributes=fitted_attributes
            )
