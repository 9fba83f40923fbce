"""Samples as images."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length

from fastmlp.displays.inputs import as_images
from fastmlp.displays.layout import bounding_axes, draw_gallery, gallery_size, short_label

__all__ = ["DigitDisplay"]


class DigitDisplay:
    """One or several samples as images, on a common gray scale.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features) or (n_samples, height, width)
        One sample is ``X[[i]]``.
    y : array-like of shape (n_samples,), optional
        Titles of the images.
    shape : (height, width), optional
        Shape of an image; by default square.

    Attributes
    ----------
    images : array of shape (n_samples, height, width)
    axes_ : array of Axes of shape (n_samples,)
    figure_ : Figure
    figsize_ : tuple of float
        Suitable width and height in inches, used for new figures.

    Examples
    --------
    >>> from fastmlp.datasets import load_digits
    >>> (X, y), _ = load_digits()
    >>> display = DigitDisplay(X[:8], y[:8])
    >>> display.images.shape
    (8, 8, 8)
    >>> figure = display.plot().figure_  # doctest: +SKIP
    """

    axes_: NDArray
    figure_: Any
    figsize_: tuple[float, float]

    def __init__(
        self, X: Any, y: ArrayLike | None = None, *, shape: tuple[int, int] | None = None
    ) -> None:
        self.images = as_images(X, shape)
        self.y = None if y is None else np.asarray(y)
        if self.y is not None:
            check_consistent_length(self.images, self.y)

    def plot(self, ax: Any = None) -> Self:
        """Draw the images.

        Parameters
        ----------
        ax : Axes, optional
            Its area is divided among the images.

        Returns
        -------
        self
        """
        titles = None if self.y is None else [short_label(label) for label in self.y]
        self.figsize_ = gallery_size(len(self.images))
        ax = bounding_axes(ax, self.figsize_)
        self.axes_ = draw_gallery(ax, self.images, titles)
        self.figure_ = ax.figure
        return self
