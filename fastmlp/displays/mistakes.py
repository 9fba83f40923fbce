"""The misclassified samples."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.utils import check_consistent_length

from fastmlp.displays.inputs import as_classes, as_images, predicted_classes
from fastmlp.displays.layout import (
    bounding_axes,
    check_matplotlib,
    draw_gallery,
    gallery_grid,
    gallery_size,
    number_drawn,
    short_label,
    split,
)

__all__ = ["MistakesDisplay"]

_LONGEST_LINE = 15  # in the title of an image


class MistakesDisplay:
    """A gallery of misclassified samples, the most confident mistakes first.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features) or (n_samples, height, width)
    y_true, y_pred : array-like of shape (n_samples,)
        True and predicted classes.
    confidence : array-like of shape (n_samples,), optional
        The probability of the predicted class. Without it, mistakes are in the order of `X`.
    pair : (class, class), optional
        Only mistakes between these two, in either direction.
    shape : (height, width), optional
        Shape of an image; by default square.

    Attributes
    ----------
    indices : array of shape (n_mistakes,)
        Indices of the mistakes in `X`, in the order shown.
    axes_ : array of Axes of shape (n,)
    figure_ : Figure
    figsize_ : tuple of float
        Suitable width and height in inches, used for new figures.

    Examples
    --------
    >>> X = np.zeros((4, 9))
    >>> display = MistakesDisplay(X, [3, 8, 3, 5], [8, 8, 5, 3], confidence=[0.6, 1, 0.9, 0.7])
    >>> display.indices.tolist(), display.caption(2)
    ([2, 3, 0], '3 → 5, 90.0%')
    >>> display.caption(2, with_index=True)
    '#2: 3 → 5, 90.0%'
    >>> MistakesDisplay(X, [3, 8, 3, 5], [8, 8, 5, 3], pair=(8, 3)).indices.tolist()
    [0]
    """

    axes_: NDArray
    figure_: Any
    figsize_: tuple[float, float]

    def __init__(
        self,
        X: Any,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        confidence: ArrayLike | None = None,
        *,
        pair: tuple[Any, Any] | None = None,
        shape: tuple[int, int] | None = None,
    ) -> None:
        self.X = X.tocsr() if issparse(X) else np.asarray(X)
        self.shape = shape
        self.y_true, self.y_pred = as_classes(y_true, "y_true"), as_classes(y_pred, "y_pred")
        self.confidence = None
        if confidence is not None:
            self.confidence = np.asarray(confidence, np.float64)
            if self.confidence.ndim != 1:
                raise ValueError(
                    "confidence must be the probability of each prediction, shape (n_samples,), "
                    f"got {self.confidence.shape}: use predict_proba(X).max(axis=1)."
                )
        check_consistent_length(self.X, self.y_true, self.y_pred, self.confidence)
        self.pair = pair
        self.indices = _mistakes(self.y_true, self.y_pred, pair)
        if self.confidence is not None:
            order = np.argsort(-self.confidence[self.indices], kind="stable")
            self.indices = self.indices[order]

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        confidence: ArrayLike | None = None,
        *,
        pair: tuple[Any, Any] | None = None,
        n: int | None = 24,
        shape: tuple[int, int] | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw the mistakes among predictions.

        Parameters
        ----------
        X, y_true, y_pred, confidence, pair, shape
            See the class.
        n, ax
            See `plot`.

        Returns
        -------
        MistakesDisplay
        """
        check_matplotlib()
        return cls(X, y_true, y_pred, confidence, pair=pair, shape=shape).plot(ax, n=n)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        pair: tuple[Any, Any] | None = None,
        n: int | None = 24,
        shape: tuple[int, int] | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw the mistakes of a fitted classifier.

        Parameters
        ----------
        estimator : classifier
            Without `predict_proba`, mistakes have no confidence.
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
            True classes.
        pair, shape
            See the class.
        n, ax
            See `plot`.

        Returns
        -------
        MistakesDisplay
        """
        check_matplotlib()
        y_pred = predicted_classes(estimator, X)
        confidence = None
        if hasattr(estimator, "predict_proba"):
            confidence = np.asarray(estimator.predict_proba(X)).max(axis=1)
        return cls(X, y, y_pred, confidence, pair=pair, shape=shape).plot(ax, n=n)

    def images(self, n: int | None = None) -> NDArray:
        """Return the first `n` mistakes, or all, as an array of shape (n, height, width)."""
        return as_images(self.X[self.indices[:n]], self.shape)

    def caption(self, index: int, line: int = 1000, *, with_index: bool = False) -> str:
        """Return the caption of a sample: true → predicted, and the confidence.

        Parameters
        ----------
        index : int
            Into `X`.
        line : int, default=1000
            Maximum number of characters per line.
        with_index : bool, default=False
            Begin with the index, on a separate line if lines are short.
        """
        if with_index:
            text = self.caption(index, line)
            return f"#{index}: {text}" if len(text) + 10 <= line else f"#{index}\n{text}"
        true, predicted = short_label(self.y_true[index]), short_label(self.y_pred[index])
        gap = " " if len(true) + len(predicted) + 3 <= line else "\n"
        text = f"{true} →{gap}{predicted}"
        if self.confidence is None:
            return text
        gap = " " if len(true) + len(predicted) + 10 <= line else "\n"
        return f"{text},{gap}{self.confidence[index]:.1%}"

    def plot(self, ax: Any = None, *, n: int | None = 24) -> Self:
        """Draw the mistakes.

        Parameters
        ----------
        ax : Axes, optional
            Its area is divided among the images.
        n : int or None, default=24
            Maximum number of mistakes; None is all.

        Returns
        -------
        self
        """
        n = number_drawn(n, len(self.indices))
        images = self.images(n)
        width, height = gallery_size(n)
        height += 0.15 * gallery_grid(n)[0]  # captions have one line more than labels
        self.figsize_ = max(width, 6.4), height + 0.5  # room for the title
        ax = bounding_axes(ax, self.figsize_)
        captions = [
            self.caption(index, _LONGEST_LINE, with_index=True) for index in self.indices[:n]
        ]
        top, below = split(ax, heights=[0.5, height])
        top.set_axis_off()
        top.text(0.5, 0.5, self._title(n), ha="center", va="center")
        self.axes_ = draw_gallery(below, images, captions)
        self.figure_ = ax.figure
        return self

    def _title(self, n: int) -> str:
        total, n_samples = len(self.indices), len(self.y_true)
        text = "1 mistake" if total == 1 else f"{total or 'no'} mistakes"
        if n < total:
            text = f"{n} of {text}"
        if self.pair is not None:
            text += " between {} and {}".format(*map(short_label, self.pair))
        elif n_samples:
            text = f"accuracy {1 - total / n_samples:.3f}: {text} of {n_samples} samples"
        if not total:
            return text
        order = "the most confident first, " if total > 1 and self.confidence is not None else ""
        return f"{text}\n({order}#row: true → predicted)"


def _mistakes(y_true: NDArray, y_pred: NDArray, pair: tuple[Any, Any] | None) -> NDArray:
    """Return the indices of the mistakes, or of those between two classes."""
    wrong = y_true != y_pred
    if pair is not None:
        classes = np.unique(np.concatenate([y_true, y_pred]))
        if len(pair) != 2 or pair[0] == pair[1] or not all(np.isin(pair, classes)):
            raise ValueError(
                f"pair must be two different classes of {classes.tolist()}, got {pair}."
            )
        wrong &= np.isin(y_true, pair) & np.isin(y_pred, pair)
    return np.flatnonzero(wrong)
