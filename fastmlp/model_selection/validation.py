"""scikit-learn's functions for cross-validation, whose fits share data and run in threads."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import sklearn.model_selection

from fastmlp.model_selection.threads import in_threads

__all__ = [
    "cross_val_predict",
    "cross_val_score",
    "cross_validate",
    "learning_curve",
    "validation_curve",
]


def _sharing_data(function: Callable[..., Any], summary: str) -> Any:
    """Return scikit-learn's function, which trains networks in threads."""

    @wraps(function)
    def shared(estimator: Any, *args: Any, **options: Any) -> Any:
        with in_threads(estimator, title=function.__name__, verbose=options.get("verbose", 0)):
            return function(estimator, *args, **options)

    shared.__module__ = "fastmlp.model_selection"
    shared.__doc__ = f"""{summary}

    As :func:`sklearn.model_selection.{function.__name__}`, with the same parameters and results;
    networks are trained as by `GridSearchCV`: in threads, by default as many as there are CPUs, and
    without copies of X.
    """
    return shared


cross_val_predict = _sharing_data(
    sklearn.model_selection.cross_val_predict,
    "Predict each sample by a network that was not trained on it.",
)
cross_val_score = _sharing_data(
    sklearn.model_selection.cross_val_score, "Compute the scores of a cross-validation."
)
cross_validate = _sharing_data(
    sklearn.model_selection.cross_validate,
    "Compute scores and times of a cross-validation, with one or several metrics.",
)
learning_curve = _sharing_data(
    sklearn.model_selection.learning_curve,
    "Compute training and test scores for several sizes of the training set.",
)
validation_curve = _sharing_data(
    sklearn.model_selection.validation_curve,
    "Compute training and test scores for several values of a parameter.",
)
