"""Inputs of displays: samples as images, classes, and fitted estimators."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.pipeline import Pipeline
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_is_fitted

from fastmlp.utils.image_shapes import shape_of_images

__all__ = ["as_classes", "as_images", "fitted_network", "predicted_classes"]


def as_images(X: Any, shape: tuple[int, int] | None = None) -> NDArray:
    """Return samples as images.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features) or (n_samples, height, width)
    shape : (height, width), optional
        By default that of `X` if it is three-dimensional, otherwise square.

    Returns
    -------
    array of shape (n_samples, height, width)

    Raises
    ------
    ValueError
        If the number of features does not match the shape.

    Examples
    --------
    >>> as_images([[1, 2, 3, 4]]).tolist()
    [[[1, 2], [3, 4]]]
    """
    X = X.toarray() if issparse(X) else np.asarray(X)
    if X.ndim == 3 and shape is not None:  # the shape of the array is not that of the images
        X = X.reshape(len(X), math.prod(X.shape[1:]))
    return X.reshape(len(X), *shape_of_images(X.shape, shape))


def as_classes(y: ArrayLike, name: str) -> NDArray:
    """Return labels as an array, if they are one class per sample."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] > 1:
        raise ValueError(
            f"{name} must be one class per sample, got shape {y.shape}; for one-hot labels, "
            f"use {name}.argmax(axis=1)."
        )
    return column_or_1d(y)


def fitted_network(estimator: Any) -> Any:
    """Return the fitted MLP itself."""
    model = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    check_is_fitted(model)
    if not hasattr(model, "coefs_"):
        raise ValueError(
            "estimator must be a fitted MLPClassifier or MLPRegressor, or a pipeline that ends in "
            f"one, got {type(model).__name__}."
        )
    return model


def predicted_classes(estimator: Any, X: Any) -> NDArray:
    """Return the classes that an estimator predicts."""
    if not hasattr(estimator, "classes_"):
        check_is_fitted(estimator)
        raise ValueError(f"estimator must be a classifier, got {type(estimator).__name__}.")
    return estimator.predict(X)
