"""Ensembles of networks with different random states, whose outputs are averaged."""

from __future__ import annotations

import numbers
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.metrics import accuracy_score, r2_score
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from fastmlp.estimators.base import BaseMLP
from fastmlp.estimators.classifier import MLPClassifier
from fastmlp.estimators.many import Job, checked_jobs, run
from fastmlp.estimators.regressor import MLPRegressor
from fastmlp.estimators.samples import Share, SharedData
from fastmlp.exceptions import InterruptedWarning, warn
from fastmlp.utils import searches

__all__ = ["MLPEnsemble", "check_n_estimators"]


def _classifies(ensemble: MLPEnsemble) -> bool:
    return not isinstance(ensemble._example, MLPRegressor)


# scikit-learn's BaggingClassifier draws rows: without drawing, it ignores sample weights. It also
# encodes the classes first, which breaks class_weight, and refuses multilabel targets.
class MLPEnsemble(MetaEstimatorMixin, BaseEstimator):
    """An average of several networks that differ in their random states.

    Each network is trained on all samples. The ensemble is a classifier or a regressor, as its
    networks are.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor, optional
        The networks are clones of it. By default ``MLPClassifier()``.
    n_estimators : int, default=5
        Number of networks.
    n_jobs : int, optional
        How many networks are trained at a time: by default, and for -1, as many as there are CPUs.
        The result does not depend on it. 1 keeps the lines of `verbose` networks apart.
    random_state : int, RandomState instance or None, default=None
        Determines the random states of the networks. That of `estimator` is not used.

    Attributes
    ----------
    estimators_ : list of MLPClassifier or MLPRegressor
        The fitted networks.
    classes_ : array of shape (n_classes,)
        Of classifiers: the classes, in the order of the columns of `predict_proba`.
    n_features_in_ : int
    feature_names_in_ : array of shape (`n_features_in_`,)
        If X has feature names.
    n_outputs_ : int

    Examples
    --------
    >>> from fastmlp import MLPClassifier, MLPEnsemble
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"]
    >>> network = MLPClassifier(solver="lbfgs", alpha=0.01)
    >>> MLPEnsemble(network, 3, random_state=0).fit(X, y).predict([[0.1], [2.9]])
    array(['low', 'high'], dtype='<U4')
    """

    estimators_: list[Any]

    def __init__(
        self,
        estimator: MLPClassifier | MLPRegressor | None = None,
        n_estimators: int = 5,
        *,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.n_estimators = n_estimators
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Train the networks, several at a time.

        Ctrl-C keeps the networks that are trained, and stops the others; a search or
        cross-validation is stopped as a whole. The first error stops all networks.

        Parameters
        ----------
        X, y, sample_weight, X_val, y_val, sample_weight_val
            As in the `fit` of the networks.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `n_estimators` or `n_jobs` is invalid, or as raised by the networks.
        TypeError
            If `estimator` is not one of fastmlp's.
        KeyboardInterrupt
            After Ctrl-C, if no network has been trained; the ensemble is not changed.

        Warns
        -----
        fastmlp.exceptions.InterruptedWarning
            After Ctrl-C, if some have been.
        """
        network = self._unfitted
        if not isinstance(network, BaseMLP):
            name = network.__name__ if isinstance(network, type) else type(network).__name__
            way_out = "for others, use scikit-learn's VotingClassifier or VotingRegressor"
            if isinstance(network, type) and issubclass(network, BaseMLP):
                way_out = f"pass {name}()"
            elif isinstance(network, numbers.Number):
                way_out = f"pass n_estimators={network!r}"
            elif isinstance(network, Pipeline):
                way_out = "make the ensemble the last step of the pipeline"
            raise TypeError(
                "estimator must be fastmlp's MLPClassifier or MLPRegressor, or None, got "
                f"{'the class ' if isinstance(network, type) else ''}{name}; {way_out}."
            )
        check_n_estimators(self.n_estimators)
        n_threads = checked_jobs(self.n_jobs)
        given = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}
        options = {name: value for name, value in given.items() if value is not None}
        random_state = check_random_state(self.random_state)
        share = Share(SharedData(X, y))
        jobs = []
        for i in range(self.n_estimators):
            seed = random_state.randint(np.iinfo(np.int32).max)
            model = clone(network).set_params(random_state=seed)
            jobs.append(Job(model, share, sample_weight, f"network {i}", options))
        interrupted = run(jobs, 1, 1, n_threads, _refuse_failed)  # as long as each other
        for job in jobs:  # Ctrl-C may have come before one was told of
            _refuse_failed(job)
        done = [job.model for job in jobs if job.is_done]
        if interrupted and (not done or searches.is_running()):
            raise KeyboardInterrupt
        self.estimators_ = done
        if interrupted:
            warn(
                f"interrupted: {len(done)} of {len(jobs)} networks are trained; the ensemble is "
                "the average of these.",
                InterruptedWarning,
            )
        return self

    def predict(self, X: ArrayLike, return_std: bool = False) -> Any:
        """Predict classes or targets.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        return_std : bool, default=False
            Of regressors: whether to return the standard deviation of the networks' predictions,
            too.

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_outputs)
            Of classifiers, the class with the highest mean probability; for multilabel problems, 1
            where the mean probability exceeds 0.5. Of regressors, the mean prediction.
        std : array like `y`
            If `return_std` is True. It measures how much the networks differ, not the noise of the
            targets.
        """
        check_is_fitted(self, "estimators_")
        if not _classifies(self):
            predictions = self._outputs("predict", X)
            mean = _mean(predictions)
            return (mean, np.std(predictions, axis=0)) if return_std else mean
        if return_std:
            raise ValueError(
                f"return_std must be False for classifiers, got {return_std!r}; the spread of "
                "probabilities is that of predict_proba of the networks in estimators_."
            )
        probabilities = _mean(self._outputs("predict_proba", X))
        if not self._example._is_multiclass() and self.n_outputs_ > 1:
            return (probabilities > 0.5).astype(int)
        # For one class, a network returns two columns.
        return self.classes_[probabilities[:, : len(self.classes_)].argmax(axis=1)]

    @available_if(_classifies)
    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating]:
        """Predict the probability of each class: the mean of the networks' probabilities.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        probabilities : array of shape (n_samples, n_classes)
            In the networks' dtype.
        """
        return _mean(self._outputs("predict_proba", X))

    @available_if(_classifies)
    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.floating]:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples, n_classes)
            ``log(predict_proba(X))``; -inf for a probability of 0.
        """
        return np.log(self.predict_proba(X))

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy of a classifier, or R^2 of a regressor.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        score : float
        """
        metric = accuracy_score if _classifies(self) else r2_score
        return float(metric(y, self.predict(X), sample_weight=sample_weight))

    @property
    def classes_(self) -> NDArray[Any]:
        """The classes, in the order of the columns of `predict_proba`."""
        return self._first.classes_

    @property
    def n_features_in_(self) -> int:
        """Number of features seen during fit."""
        return int(self._first.n_features_in_)

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Names of the features seen during fit, if X had names; array of str objects."""
        return self._first.feature_names_in_

    @property
    def n_outputs_(self) -> int:
        """Number of outputs of each network."""
        return int(self._first.n_outputs_)

    @property
    def _first(self) -> Any:
        """The first fitted network."""
        if not hasattr(self, "estimators_"):
            raise AttributeError(f"this {type(self).__name__} is not fitted yet.")
        return self.estimators_[0]

    @property
    def _unfitted(self) -> Any:
        """What the networks are clones of."""
        return MLPClassifier() if self.estimator is None else self.estimator

    @property
    def _example(self) -> Any:
        """A network that predicts, or one that will be trained."""
        return self.estimators_[0] if hasattr(self, "estimators_") else self._unfitted

    def _outputs(self, method: str, X: Any) -> list[NDArray[Any]]:
        """Return the result of a method for each network."""
        check_is_fitted(self, "estimators_")
        return [getattr(network, method)(X) for network in self.estimators_]

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: those of the networks."""
        network = self._unfitted
        return get_tags(network) if isinstance(network, BaseMLP) else super().__sklearn_tags__()


def _mean(outputs: list[NDArray[Any]]) -> NDArray[Any]:
    """Return the mean of arrays, summed in their order."""
    total = outputs[0]
    for more in outputs[1:]:
        total = total + more
    return total / len(outputs)


def _refuse_failed(job: Job) -> None:
    if job.error is not None:
        raise job.error


def check_n_estimators(n_estimators: Any) -> None:
    """Refuse an invalid number of networks."""
    if (
        not isinstance(n_estimators, numbers.Integral)
        or isinstance(n_estimators, bool)
        or n_estimators < 1
    ):
        raise ValueError(f"n_estimators must be an integer >= 1, got {n_estimators!r}.")
