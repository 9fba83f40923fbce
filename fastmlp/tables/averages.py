"""Averages of several networks with different random states."""

import numbers
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.validation import check_is_fitted

__all__ = ["AveragedMLPClassifier", "AveragedMLPRegressor"]


# scikit-learn's BaggingClassifier draws rows: without drawing, it ignores sample weights. It also
# encodes the classes first, which breaks class_weight, and refuses multilabel targets.
class _Averaged(MetaEstimatorMixin, BaseEstimator):
    """Base class: every network is trained on all samples."""

    def __init__(
        self,
        estimator: Any,
        n_estimators: int = 5,
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.n_estimators = n_estimators
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **fit_params: Any) -> Self:
        """Train the networks, one after another.

        Parameters
        ----------
        X, y, sample_weight
            As in the `fit` of the estimator.
        **fit_params
            Further arguments of the estimator's `fit`: ``X_val``, ``y_val``.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `n_estimators` is not an integer >= 1, or as raised by the estimator.
        """
        check_n_estimators(self.n_estimators)
        random_state = check_random_state(self.random_state)
        fitted = []
        for _ in range(self.n_estimators):
            seed = random_state.randint(np.iinfo(np.int32).max)
            network = clone(self.estimator).set_params(random_state=seed)
            fitted.append(network.fit(X, y, sample_weight=sample_weight, **fit_params))
        self.estimators_ = fitted
        return self

    @property
    def n_features_in_(self) -> int:
        """Number of features seen during fit."""
        return int(self._first.n_features_in_)

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Names of the features seen during fit, if X had names; array of str objects."""
        return self._first.feature_names_in_

    @property
    def _first(self) -> Any:
        if not hasattr(self, "estimators_"):
            raise AttributeError(f"this {type(self).__name__} is not fitted yet.")
        return self.estimators_[0]

    def _mean(self, method: str, X: Any) -> NDArray[Any]:
        """Return the mean result of a method of the networks."""
        check_is_fitted(self, "estimators_")
        total = getattr(self._first, method)(X)
        for network in self.estimators_[1:]:
            total = total + getattr(network, method)(X)
        return total / len(self.estimators_)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: those of the estimator for inputs and targets."""
        tags, own = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.input_tags, tags.target_tags = own.input_tags, own.target_tags
        if own.classifier_tags is not None:
            tags.classifier_tags = own.classifier_tags
        return tags


class AveragedMLPClassifier(ClassifierMixin, _Averaged):
    """Average the probabilities of several networks with different random states.

    Parameters
    ----------
    estimator : MLPClassifier
    n_estimators : int, default=5
    random_state : int, RandomState instance or None, default=None
        Determines the random states of the networks.

    Attributes
    ----------
    estimators_ : list of MLPClassifier
    classes_ : array of shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)
        If X has feature names.

    Examples
    --------
    >>> from fastmlp import MLPClassifier
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"]
    >>> network = MLPClassifier(solver="lbfgs", alpha=0.01)
    >>> AveragedMLPClassifier(network, 3, random_state=0).fit(X, y).predict([[0.1], [2.9]])
    array(['low', 'high'], dtype='<U4')
    """

    @property
    def classes_(self) -> NDArray[Any]:
        """The classes, in the order of the columns of `predict_proba`."""
        return self._first.classes_

    def predict_proba(self, X: Any) -> NDArray[np.floating]:
        """Compute the mean of the networks' probabilities.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        probabilities : array of shape (n_samples, n_classes)
            In the networks' dtype.
        """
        return self._mean("predict_proba", X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the classes with the highest mean probability, or multilabel indicators.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        y : array of shape (n_samples,), or (n_samples, n_labels) of 0 and 1
        """
        probabilities = self.predict_proba(X)
        if not self._first._is_multiclass() and self._first.n_outputs_ > 1:
            return (probabilities > 0.5).astype(int)
        # For one class, a network returns two columns.
        return self.classes_[probabilities[:, : len(self.classes_)].argmax(axis=1)]


class AveragedMLPRegressor(RegressorMixin, _Averaged):
    """Average the predictions of several networks with different random states.

    Parameters
    ----------
    estimator : MLPRegressor
    n_estimators : int, default=5
    random_state : int, RandomState instance or None, default=None
        Determines the random states of the networks.

    Attributes
    ----------
    estimators_ : list of MLPRegressor
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)
        If X has feature names.
    """

    def predict(self, X: Any) -> NDArray[np.floating]:
        """Compute the mean of the networks' predictions.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._mean("predict", X)


def check_n_estimators(n_estimators: Any) -> None:
    """Refuse an invalid number of networks."""
    if (
        not isinstance(n_estimators, numbers.Integral)
        or isinstance(n_estimators, bool)
        or n_estimators < 1
    ):
        raise ValueError(f"n_estimators must be an integer >= 1, got {n_estimators!r}.")
