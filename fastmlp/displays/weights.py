"""The weights of the first layer as images."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp.displays.inputs import as_images, fitted_network
from fastmlp.displays.layout import bare_axes, bounding_axes, check_matplotlib, number_drawn

__all__ = ["WeightsDisplay"]


class WeightsDisplay:
    """The input weights of the first hidden units, as images.

    All images share a symmetric scale with gray as zero. It ends at half of the largest weight, as
    in scikit-learn's example, because few weights are that large.

    Parameters
    ----------
    weights : array of shape (n_features, n_units)
        Weights of the first layer, one column per unit.
    shape : (height, width), optional
        Shape of an image; by default square.

    Attributes
    ----------
    images : array of shape (n_units, height, width)
    limit : float
        The scale goes from ``-limit`` to ``limit``.
    axes_ : array of Axes of shape (n,)
    figure_ : Figure
    figsize_ : tuple of float
        Suitable width and height in inches, used for new figures.

    Examples
    --------
    >>> display = WeightsDisplay(np.eye(4) * 0.5)
    >>> display.images.shape, float(display.limit)
    ((4, 2, 2), 0.25)
    """

    axes_: NDArray
    figure_: Any
    figsize_: tuple[float, float]

    def __init__(self, weights: ArrayLike, *, shape: tuple[int, int] | None = None) -> None:
        weights = np.asarray(weights)
        self.images = as_images(weights.T, shape)
        self.limit = np.abs(weights[np.isfinite(weights)]).max(initial=0) / 2 or 1.0

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        shape: tuple[int, int] | None = None,
        n: int | None = 16,
        cmap: str = "gray",
        ax: Any = None,
    ) -> Self:
        """Draw the weights of a fitted MLP.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor, or a pipeline that ends in one
        shape : (height, width), optional
            Shape of an image; by default square.
        n, cmap, ax
            See `plot`.

        Returns
        -------
        WeightsDisplay
        """
        check_matplotlib()
        return cls(fitted_network(estimator).coefs_[0], shape=shape).plot(ax, n=n, cmap=cmap)

    def plot(self, ax: Any = None, *, n: int | None = 16, cmap: str = "gray") -> Self:
        """Draw the weights.

        Parameters
        ----------
        ax : Axes, optional
            Its area is divided among the images.
        n : int or None, default=16
            Maximum number of units, the first ones; None is all.
        cmap : str, default="gray"
            A matplotlib colormap; "RdBu_r" shows signs as colors.

        Returns
        -------
        self
        """
        shown = self.images[: number_drawn(n, len(self.images))]
        n_columns = math.ceil(math.sqrt(len(shown)))
        self.figsize_ = n_columns + 1.0, float(-(-len(shown) // n_columns))
        ax = bounding_axes(ax, self.figsize_)
        self.axes_ = bare_axes(ax, len(shown), n_columns)
        for axes, image in zip(self.axes_, shown, strict=True):
            picture = axes.imshow(image, cmap=cmap, vmin=-self.limit, vmax=self.limit)
        bar = ax.figure.colorbar(picture, ax=list(self.axes_), extend="both", aspect=40)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_color("#888")  # the ends of the scale may be white
        self.figure_ = ax.figure
        return self
