"""Test-time augmentation: predictions that are averaged over augmented copies of an image."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fastmlp.augment import Augmentation
from fastmlp.augment.applying import Augment, apply, check_augment

__all__ = ["TTAClassifier"]

#: How images are validated.
_IMAGES: Mapping[str, Any] = {"dtype": [np.float64, np.float32, np.uint8], "order": "C"}

#: Rows whose copies are in memory at a time.
_BLOCK = 4096

#: Where a meta-estimator or pipeline has what it trains, or has chosen.
_INNER = ("best_estimator_", "estimator_", "estimator", "_final_estimator")


# scikit-learn has no estimator for it. Its VotingClassifier averages models, not inputs.
class TTAClassifier(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """A classifier of images with test-time augmentation.

    It predicts several augmented copies of each image, and averages their probabilities. A network
    that was trained on augmented images usually makes fewer mistakes then. Prediction takes
    `n_copies` times as long.

    Parameters
    ----------
    estimator : estimator
        A classifier with `predict_proba`: an `MLPClassifier`, an `MLPEnsemble`, a pipeline, or a
        fitted one as ``sklearn.frozen.FrozenEstimator(model)``.
    augment : Augmentation or function, optional
        How copies are made: by an augmentation of `fastmlp.augment`, or by a function that is
        called with an array of images and returns one like it. Weaker than in training is usually
        better. By default it is half of the `augment` of `estimator`.
    n_copies : int, default=32
        Number of copies of each image.
    random_state : int, default=0
        Determines the copies, together with an `augment` of `fastmlp.augment`. All images are
        augmented in the same ways, so that the prediction for an image depends neither on the
        others nor on the call. Functions are called once for each copy of some images, and may
        return something else each time.

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
    >>> network = MLPClassifier(augment=augment, input_scale=1 / 16, random_state=1, tol=0.01)
    >>> network = network.fit(X[:1000], y[:1000])
    >>> averaged = TTAClassifier(FrozenEstimator(network)).fit(X[:1000], y[:1000])
    >>> averaged.augment_
    RandomAffine(rotate=5.0, shift=0.25, zoom=0.05, shear=0.0, image_shape=None)
    >>> averaged.predict(X[1000:1005])
    array([1, 4, 0, 5, 3])
    """

    def __init__(
        self,
        estimator: Any,
        augment: Augment | None = None,
        *,
        n_copies: int = 32,
        random_state: int = 0,
    ) -> None:
        self.estimator = estimator
        self.augment = augment
        self.n_copies = n_copies
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        **fit_params: Any,
    ) -> Self:
        """Train the classifier, unless it is frozen.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels)
            Images, unchanged if they are uint8, float32 or float64.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), optional
        **fit_params
            Passed to the `fit` of `estimator`, such as `X_val` and `y_val`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter or the data are invalid.
        TypeError
            If `estimator` is not a classifier with `predict_proba`.
        """
        self._check_parameters()
        estimator = clone(self.estimator)
        if not hasattr(estimator, "predict_proba"):
            raise TypeError(
                "estimator must have predict_proba, whose results are averaged, got "
                f"{type(estimator).__name__}."
            )
        augment = _half_of_own(estimator) if self.augment is None else self.augment
        images: NDArray[Any]
        images, labels = validate_data(self, X, y, multi_output=True, **_IMAGES)
        check_classification_targets(labels)
        if np.ndim(labels) > 1 and np.shape(labels)[1] > 1:
            raise ValueError(
                f"y must hold one label per image, got {np.shape(labels)[1]} columns: train a "
                "model for each."
            )
        check_augment(augment, images)
        if sample_weight is not None:
            fit_params["sample_weight"] = sample_weight
        estimator.fit(X, y, **fit_params)
        _check_fitted(estimator, images, labels)
        self.estimator_, self.augment_ = estimator, augment
        self.classes_ = estimator.classes_
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
        check_is_fitted(self, "estimator_")
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
        # All images are row 0 of a data set, and copies are its epochs.
        rows = np.zeros(len(images), np.int64)
        how = {"seed": self.random_state, "n_threads": _found(self.estimator_, "n_threads")}
        total: Any = 0
        for copy in range(self.n_copies):
            changed = apply(self.augment_, images.copy(), epoch=copy, rows=rows, **how)
            total = total + self.estimator_.predict_proba(_with_names(self.estimator_, changed))
        mean: NDArray[np.floating] = total / self.n_copies
        return mean

    def _check_parameters(self) -> None:
        for name, least, most in [("n_copies", 1, 2**32 - 1), ("random_state", 0, 2**64 - 1)]:
            value = getattr(self, name)
            is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
            if not is_integer or not least <= value <= most:
                rule = f"an integer from {least} to 2**{most.bit_length()} - 1"
                raise ValueError(f"{name} must be {rule}, got {value!r}.")
        if self.augment is not None and not callable(self.augment):
            raise ValueError(
                "augment must be an augmentation of fastmlp.augment, a function or None, got "
                f"{self.augment!r}."
            )

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = False
        tags.input_tags.sparse = False
        return tags


def _half_of_own(estimator: Any) -> Augmentation:
    """Return half of a network's augmentation."""
    own = _found(estimator, "augment")
    if not isinstance(own, Augmentation):
        kind = "a function" if callable(own) else "None"
        raise ValueError(
            f"augment must be given, as the estimator's own is {kind}, of which half cannot be "
            "taken, got None: pass an augmentation of fastmlp.augment, or a function."
        )
    return own.scaled(0.5)


def _found(model: Any, parameter: str) -> Any:
    """Return a parameter of a model, or of the network in it; None if there is none."""
    value = getattr(model, parameter, None)
    if value is not None:
        return value
    parts = (getattr(model, name, None) for name in _INNER)
    inner = next((part for part in parts if part is not None), None)
    return None if inner is None else _found(inner, parameter)


def _with_names(estimator: Any, images: NDArray[Any]) -> Any:
    """Return images as a data frame, if a classifier was trained on one."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return images
    import pandas as pd

    return pd.DataFrame(images, columns=names, copy=False)


def _check_fitted(estimator: Any, images: NDArray[Any], labels: NDArray[Any]) -> None:
    """Refuse a fitted classifier, which may have been frozen, that does not suit the data."""
    n_pixels = getattr(estimator, "n_features_in_", images.shape[1])
    if n_pixels != images.shape[1]:
        raise ValueError(
            f"X must have {n_pixels} pixels, as estimator was trained on, got {images.shape[1]}."
        )
    predicted = estimator.predict(_with_names(estimator, images[:1]))
    if np.ndim(estimator.classes_) != 1 or np.ndim(predicted) != 1:
        raise ValueError(
            f"estimator must predict one label per image, got a multilabel "
            f"{type(estimator).__name__}: train a model for each label."
        )
    unknown = set(np.ravel(labels).tolist()) - set(estimator.classes_.tolist())
    if unknown:
        raise ValueError(
            f"y must hold labels that estimator was trained on, got {list(unknown)[:3]}."
        )
