"""Models and training curves in MLflow (https://mlflow.org).

MLflow is imported when it is needed: ``pip install 'fastmlp[mlflow,tables]'``.
"""

import copy
import time
from collections.abc import Iterable
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from fastmlp import cards
from fastmlp.persistence.pipelines import trusted_types
from fastmlp.training import EpochReport, Fit, Observer, Outcome

__all__ = ["EpochLogger", "log_model"]

#: Estimators of fastmlp, which in a file of MLflow are types like any other.
_OURS = tuple(f"fastmlp.estimators.{name}" for name in ("MLPClassifier", "MLPRegressor"))

_SECONDS_BETWEEN = 1.0  # batches of metrics: an epoch may take less time than a request


def log_model(
    model: Any, name: str = "model", *, trusted: Iterable[str] = (), **options: Any
) -> Any:
    """Log a fitted model, to be loaded with ``mlflow.sklearn.load_model`` without pickle.

    It is stored in MLflow's format for scikit-learn, by skops, with the types in it that fastmlp
    trusts; and with the model card as metadata.

    Parameters
    ----------
    model : estimator
        Of fastmlp, or an estimator of scikit-learn with those of fastmlp in it.
    name : str, default="model"
    trusted : iterable of str
        Full names of your own types and functions in the model, such as "my_module.MyScaler".
    **options : object
        Further arguments of ``mlflow.sklearn.log_model``, such as `input_example` or
        `registered_model_name`.

    Returns
    -------
    mlflow.models.model.ModelInfo

    Raises
    ------
    ImportError
        If MLflow or skops is not installed.
    sklearn.exceptions.NotFittedError
    ValueError
        If the model contains other types, which the message names.

    Examples
    --------
    >>> import mlflow  # doctest: +SKIP
    >>> with mlflow.start_run():  # doctest: +SKIP
    ...     model.set_callbacks(fastmlp.mlflow.EpochLogger()).fit(X, y)
    ...     info = fastmlp.mlflow.log_model(model)
    >>> mlflow.sklearn.load_model(info.model_uri).predict(X)  # doctest: +SKIP
    """
    mlflow = _mlflow()
    check_is_fitted(model)
    model = _without_callbacks(model)
    needed = _untrusted(model)
    known = {*trusted_types(), *_OURS, *trusted}
    if unknown := sorted(set(needed) - known):
        raise ValueError(
            f"the model must hold types of fastmlp, scikit-learn and NumPy, got {unknown}: if you "
            "trust them, pass them as trusted=[...]."
        )
    return mlflow.sklearn.log_model(
        model,
        name=name,
        serialization_format="skops",
        skops_trusted_types=needed,
        **{"metadata": {"card": cards.card(model)}, **options},
    )


class EpochLogger(Observer):
    """Log loss and validation scores of every epoch to a run of MLflow.

    Pass it to ``set_callbacks`` with scikit-learn 1.9 or later, or use it in a ``with`` statement
    of `fastmlp.training.observing`, which also works in pipelines and with older versions. The
    metrics are called "loss", "val_loss", "val_score" and "training_score", and their step is the
    epoch; use a run for each fit. They are sent once a second and at the end of the fit.

    Parameters
    ----------
    run_id : str, optional
        By default the active run, or a new one, in the thread that makes the logger.
    prefix : str, default=""
        Of the names, such as "first network/".

    Raises
    ------
    ImportError
        If MLflow is not installed.
    """

    def __init__(self, run_id: str | None = None, prefix: str = "") -> None:
        mlflow = _mlflow()
        if run_id is None:
            run = mlflow.active_run() or mlflow.start_run()
            run_id = run.info.run_id
        self.run_id, self.prefix = run_id, prefix
        self._client = mlflow.MlflowClient()
        self._metric = mlflow.entities.Metric
        self._waiting: list[Any] = []
        self._sent = time.monotonic()

    def epoch_ended(self, fit: Fit, report: EpochReport) -> None:
        """Remember the metrics of an epoch, and send them if the last ones were sent long ago."""
        found = {
            "loss": report.loss,
            "val_loss": report.validation_loss,
            "val_score": report.validation_score,
            "training_score": report.training_score,
        }
        now = int(1000 * time.time())
        self._waiting += [
            self._metric(self.prefix + name, float(value), now, report.epoch)
            for name, value in found.items()
            if value is not None
        ]
        if time.monotonic() - self._sent > _SECONDS_BETWEEN:
            self._send()

    def fit_ended(self, fit: Fit, outcome: Outcome) -> None:
        """Send what is left."""
        self._send()

    def _send(self) -> None:
        metrics, self._waiting = self._waiting, []
        for start in range(0, len(metrics), 1000):  # as many as a request may have
            self._client.log_batch(self.run_id, metrics=metrics[start : start + 1000])
        self._sent = time.monotonic()


def _mlflow() -> Any:
    """Return the module mlflow, or raise an error that it is needed."""
    try:
        import mlflow.sklearn
    except ImportError:
        raise ImportError(
            "fastmlp.mlflow needs MLflow, which is not installed: pip install "
            "'fastmlp[mlflow,tables]'"
        ) from None
    return mlflow


def _without_callbacks(model: Any) -> Any:
    """Return a model, or a pipeline, without what was told of its training."""
    if not isinstance(model, BaseEstimator):  # "passthrough"
        return model
    model = copy.copy(model)
    vars(model).pop("_skl_callbacks", None)
    if isinstance(model, Pipeline):
        model.steps = [(name, _without_callbacks(step)) for name, step in model.steps]
    return model


def _untrusted(model: Any) -> list[str]:
    """Return the types and functions in a model that skops does not trust."""
    try:
        import skops.io
    except ImportError:
        raise ImportError(
            "fastmlp.mlflow needs skops, which is not installed: pip install 'fastmlp[tables]'"
        ) from None
    return list(skops.io.get_untrusted_types(data=skops.io.dumps(model)))
