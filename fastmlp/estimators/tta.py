"""Test-time augmentation: predictions that are averaged over augmented copies of an image."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fastmlp.augment import Augmentation
from fastmlp.estimators.classifier import MLPClassifier

__all__ = ["TTAClassifier"]

#: How images are validated.
_IMAGES: Mapping[str, Any] = {"dtype": [np.float64, np.float32, np.uint8], "order": "C"}

#: Rows whose copies are in memory at a time.
_BLOCK = 4096


# scikit-learn has no estimator for it. Its VotingClassifier averages models, not inputs.
class TTAClassifier(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """A classifier of images with test-time augmentation.

    It predicts several augmented copies of each image, and averages their probabilities. A network
    that was trained on augmented images makes fewer mistakes so, and prediction takes `n_copies`
    times as long.

    Parameters
    ----------
    estimator : estimator, optional
        A classifier with `predict_proba`: an `MLPClassifier`, an `MLPEnsemble`, a pipeline, or a
        fitted one as ``sklearn.frozen.FrozenEstimator(model)``. By default ``MLPClassifier()``.
    augment : Augmentation or function, optional
        How copies are made: by an augmentation of `fastmlp.augment`, or by a function that is
        called with an array of images and returns one like it. Weaker than in training is usually
        better. By default it is half of the `augment` of `estimator`.
    n_copies : int, default=32
        Number of copies of each image.
    random_state : int, default=0
        Determines the copies, together with `augment`. All images are augmented in the same ways,
        so that the prediction for an image depends neither on the others nor on the call.

    Attributes
    ----------
    estimator_ : estimator
        The fitted classifier.
    augment_ : Augmentation or function
        How copies are made.
    classes_ : array of shape (n_classes,)
        The classes, in the order of the columns of `predict_proba`.
    n_features_in_ : int
        Number of pixels.
    feature_names_in_ : array of shape (`n_features_in_`,)
        If X has feature names.

    See Also
    --------
    fastmlp.MLPEnsemble : Averages networks; the two can be combined.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.frozen import FrozenEstimator
    >>> from fastmlp import MLPClassifier, TTAClassifier
    >>> from fastmlp.augment import RandomAffine
    >>> X, y = load_digits(return_X_y=True)
    >>> augment = RandomAffine(rotate=10, shift=0.5)
    >>> network = MLPClassifier(augment=augment, max_iter=30, random_state=1, n_iter_no_change=30)
    >>> network = network.set_params(input_scale=1 / 16).fit(X[:1000], y[:1000])
    >>> averaged = TTAClassifier(FrozenEstimator(network)).fit(X[:1000], y[:1000])
    >>> averaged.augment_
    RandomAffine(rotate=5.0, shift=0.25, zoom=0.05, shear=0.0, image_shape=None)
    >>> averaged.predict(X[1000:1005])
    array([1, 4, 0, 5, 3])
    """

    def __init__(
        self,
        estimator: Any = None,
        augment: Augmentation | Callable[[NDArray[Any]], NDArray[Any]] | None = None,
        *,
        n_copies: int = 32,
        random_state: int = 0,
    ) -> None:
        self.estimator = estimator
        self.augment = augment
        self.n_copies = n_copies
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, **fit_params: Any) -> Self:
        """Train the classifier, unless it is frozen.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels)
            Images, unchanged if they are uint8, float32 or float64.
        y : array-like of shape (n_samples,)
            Labels.
        **fit_params
            Passed to the `fit` of `estimator`, such as `sample_weight`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter or the data are invalid.
        """
        self._check_parameters()
        estimator = MLPClassifier() if self.estimator is None else clone(self.estimator)
        augment = self._augmentation(estimator)
        images: NDArray[Any]
        images, y = validate_data(self, X, y, multi_output=True, **_IMAGES)
        check_classification_targets(y)
        if np.ndim(y) > 1 and np.shape(y)[1] > 1:
            raise ValueError(
                f"y must hold one label per image, got {np.shape(y)[1]} columns: train a model for "
                "each."
            )
        if isinstance(augment, Augmentation):
            augment(images[:1])  # an error should come before training
        self.estimator_ = estimator.fit(images, y, **fit_params)
        self.augment_ = augment
        self.classes_ = self.estimator_.classes_
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict the class with the highest mean probability.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels)

        Returns
        -------
        y : array of shape (n_samples,)
        """
        probabilities = self.predict_proba(X)  # raises NotFittedError
        return self.classes_[probabilities[:, : len(self.classes_)].argmax(axis=1)]

    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating]:
        """Predict the probability of each class: the mean over the copies.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels)

        Returns
        -------
        probabilities : array of shape (n_samples, n_classes)
        """
        check_is_fitted(self)
        self._check_parameters()
        images: NDArray[Any] = validate_data(self, X, reset=False, **_IMAGES)
        starts = range(0, len(images), _BLOCK)
        return np.concatenate([self._mean(images[start : start + _BLOCK]) for start in starts])

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.floating]:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels)

        Returns
        -------
        array of shape (n_samples, n_classes)
            ``log(predict_proba(X))``; -inf for a probability of 0.
        """
        return np.log(self.predict_proba(X))

    def _mean(self, images: NDArray[Any]) -> NDArray[np.floating]:
        """Return the mean probabilities of some images."""
        total: Any = 0
        for copy in range(self.n_copies):
            if isinstance(self.augment_, Augmentation):
                # All images are row 0 of a data set, and copies are its epochs.
                rows = np.zeros(len(images), np.int64)
                changed = self.augment_(images, seed=self.random_state, epoch=copy, rows=rows)
            else:
                changed = self.augment_(images)
            total = total + self.estimator_.predict_proba(changed)
        mean: NDArray[np.floating] = total / self.n_copies
        return mean

    def _check_parameters(self) -> None:
        for name, lowest in [("n_copies", 1), ("random_state", 0)]:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < lowest:
                raise ValueError(f"{name} must be an integer >= {lowest}, got {value!r}.")

    def _augmentation(self, estimator: Any) -> Any:
        """Return how copies are made."""
        if self.augment is not None:
            if not callable(self.augment):
                raise ValueError(
                    "augment must be an augmentation of fastmlp.augment, a function or None, got "
                    f"{self.augment!r}."
                )
            return self.augment
        network = estimator
        while (inner := getattr(network, "estimator", None)) is not None:  # of an ensemble, ...
            network = inner
        network = getattr(network, "_final_estimator", network)  # of a pipeline
        own = getattr(network, "augment", None)
        if not isinstance(own, Augmentation):
            raise ValueError(
                "augment must be an augmentation or a function, as the estimator has no "
                "augmentation of its own to take half of, got None: pass augment=RandomAffine()."
            )
        return own.scaled(0.5)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = False
        tags.input_tags.sparse = False
        return tags
