"""The confusion matrix."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length, column_or_1d

from fastmlp.displays.inputs import as_classes, predicted_classes
from fastmlp.displays.layout import (
    CHARACTER,
    bounding_axes,
    check_matplotlib,
    number_drawn,
    short_label,
    split,
)

__all__ = ["ConfusionDisplay", "count_confusions"]

_MOST_COUNTS = 25  # classes up to which counts are written into the matrix
_MOST_TICKS = 50
_UNEQUAL = 1.5  # ratio of class sizes above which rates are shown in addition to counts


def count_confusions(
    y_true: ArrayLike, y_pred: ArrayLike, labels: ArrayLike | None = None
) -> tuple[NDArray, NDArray]:
    """Compute the confusion matrix.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples,)
    labels : array-like of shape (n_classes,), optional
        The classes, in this order; by default all that occur, sorted.

    Returns
    -------
    confusion_matrix : array of shape (n_classes, n_classes)
        Rows are true classes, columns predicted ones.
    labels : array of shape (n_classes,)

    Examples
    --------
    >>> matrix, labels = count_confusions(["cat", "dog", "dog"], ["cat", "cat", "dog"])
    >>> matrix.tolist(), labels.tolist()
    ([[1, 0], [1, 1]], ['cat', 'dog'])
    """
    y_true, y_pred = as_classes(y_true, "y_true"), as_classes(y_pred, "y_pred")
    check_consistent_length(y_true, y_pred)
    wanted = y_true[:0] if labels is None else column_or_1d(labels)
    classes, codes = np.unique(np.concatenate([y_true, y_pred, wanted]), return_inverse=True)
    true, predicted, order = np.split(codes, [len(y_true), 2 * len(y_true)])
    cells = np.bincount(true * len(classes) + predicted, minlength=len(classes) ** 2)
    matrix = cells.reshape(len(classes), len(classes))
    return (matrix, classes) if labels is None else (matrix[np.ix_(order, order)], wanted)


class ConfusionDisplay:
    """The confusion matrix, with the most confused pairs of classes next to it.

    Correct predictions are gray; colors compare the mistakes. If one class is more than 1.5 times
    as frequent as another, colors and a second line show the share of the true class.

    Parameters
    ----------
    confusion_matrix : array of shape (n_classes, n_classes)
        Rows are true classes, columns predicted ones.
    display_labels : array-like of shape (n_classes,), optional
        Names of the classes; by default their numbers.

    Attributes
    ----------
    pairs_ : list of tuple
        ``(true, predicted, count)``, the most frequent first.
    ax_ : Axes
        The matrix.
    pairs_ax_ : Axes or None
        The pairs.
    figure_ : Figure
    figsize_ : tuple of float
        Suitable width and height in inches, used for new figures.

    Examples
    --------
    >>> display = ConfusionDisplay([[5, 0, 1], [0, 6, 0], [3, 1, 2]])
    >>> display.pairs_
    [(2, 0, 3), (0, 2, 1), (2, 1, 1)]
    """

    ax_: Any
    pairs_ax_: Any
    figure_: Any
    figsize_: tuple[float, float]

    def __init__(
        self, confusion_matrix: ArrayLike, display_labels: ArrayLike | None = None
    ) -> None:
        self.confusion_matrix = matrix = np.asarray(confusion_matrix)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"confusion_matrix must be square, got shape {matrix.shape}.")
        labels = np.arange(len(matrix)) if display_labels is None else np.asarray(display_labels)
        check_consistent_length(matrix, labels)
        self.display_labels = labels
        rows, columns = np.nonzero(matrix * ~np.eye(len(matrix), dtype=bool))
        order = np.argsort(-matrix[rows, columns], kind="stable")
        names = labels.tolist()
        self.pairs_ = [
            (names[i], names[j], matrix[i, j].item())
            for i, j in zip(rows[order], columns[order], strict=True)
        ]

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        labels: ArrayLike | None = None,
        n_pairs: int | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw the confusion matrix of predictions.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_samples,)
            True and predicted classes.
        labels : array-like of shape (n_classes,), optional
            The classes, in this order; by default all that occur, sorted.
        n_pairs, ax
            See `plot`.

        Returns
        -------
        ConfusionDisplay
        """
        check_matplotlib()
        return cls(*count_confusions(y_true, y_pred, labels)).plot(ax, n_pairs=n_pairs)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        labels: ArrayLike | None = None,
        n_pairs: int | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw the confusion matrix of a fitted classifier.

        Parameters
        ----------
        estimator : classifier
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
            True classes.
        labels, n_pairs, ax
            See `from_predictions`.

        Returns
        -------
        ConfusionDisplay
        """
        check_matplotlib()
        y_pred = predicted_classes(estimator, X)
        return cls.from_predictions(y, y_pred, labels=labels, n_pairs=n_pairs, ax=ax)

    def plot(self, ax: Any = None, *, n_pairs: int | None = None) -> Self:
        """Draw the matrix and the list of pairs.

        Parameters
        ----------
        ax : Axes, optional
            Its area is divided between the two; without pairs, it contains the matrix.
        n_pairs : int or None, default=None
            Maximum number of pairs; None is as many as fit, 0 omits the list.

        Returns
        -------
        self
        """
        side = min(max(4.0, 0.42 * len(self.confusion_matrix) + 1.2), 12.0)
        room = int(2 * side)
        n_pairs = room if n_pairs is None else n_pairs
        height = max(side, 0.25 * min(n_pairs, len(self.pairs_)) + 0.5) + 0.3  # the title
        self.figsize_ = side + 3.0 * bool(n_pairs), height
        ax = bounding_axes(ax, self.figsize_)
        self.figure_ = ax.figure
        self.ax_, self.pairs_ax_ = ax, None
        if n_pairs:
            self.ax_, self.pairs_ax_ = split(ax, [len(self.confusion_matrix) ** 0.5 + 1, 1.6])
            self._list_pairs(self.pairs_ax_, n_pairs, room)
        self._draw_matrix(self.ax_, 0.8 * (side - 1.2))
        return self

    def _title(self) -> str:
        """Return the accuracy in words."""
        total, correct = self.confusion_matrix.sum(), np.trace(self.confusion_matrix)
        if self.confusion_matrix.dtype.kind not in "iu" or not total:
            return ""  # rates, or empty
        wrong = total - correct
        mistakes = "1 mistake" if wrong == 1 else f"{wrong or 'no'} mistakes"
        return f"accuracy {correct / total:.3f}: {mistakes} of {total}"

    def _rates(self) -> NDArray | None:
        """Return the shares of the true classes, if their sizes differ much."""
        sizes = self.confusion_matrix.sum(axis=1, keepdims=True)
        present = sizes[sizes > 0]
        if self.confusion_matrix.dtype.kind not in "iu" or not len(present):
            return None
        if present.max() <= _UNEQUAL * present.min():
            return None
        return self.confusion_matrix / np.maximum(sizes, 1)

    def _draw_matrix(self, ax: Any, inches: float) -> None:
        """Draw the matrix, with the given total width of the columns in inches."""
        matrix, rates = self.confusion_matrix, self._rates()
        n_classes = len(matrix)
        correct = np.eye(n_classes, dtype=bool)
        weights = matrix if rates is None else rates  # shown by colors
        mistakes = np.ma.masked_where(correct | (matrix == 0), weights)
        largest = weights[~correct].max(initial=0) or 1
        ax.set_title(self._title(), fontsize=10)
        ax.imshow(np.where(correct, 0.12, 0), cmap="gray_r", vmin=0, vmax=1)
        picture = ax.imshow(mistakes, cmap="YlOrRd", vmin=0, vmax=largest)
        step = -(-n_classes // _MOST_TICKS)
        ticks = np.arange(0, n_classes, step)
        names = [short_label(label) for label in self.display_labels[ticks]]
        small = 9 if n_classes <= _MOST_COUNTS else 7
        longest = max(map(len, names), default=0)
        upright = longest > 2 and longest * CHARACTER * small > inches / max(1, len(names))
        ax.set_xticks(ticks, names, rotation=90 if upright else 0, fontsize=small)
        ax.set_yticks(ticks, names, fontsize=small)
        ax.tick_params(length=0)
        ax.set_xlabel("predicted class")
        ax.set_ylabel("true class")
        ax.spines[:].set_color("#ccc")
        if n_classes > _MOST_COUNTS:
            label = "mistakes" if rates is None else "share of the true class"
            bar = ax.figure.colorbar(picture, ax=ax, label=label, shrink=0.6)
            bar.outline.set_visible(False)
            return
        for i, j in zip(*np.nonzero(matrix), strict=True):
            dark = i != j and weights[i, j] > 0.6 * largest
            colour = "#777" if i == j else "white" if dark else "black"
            text = f"{matrix[i, j]:d}" if matrix.dtype.kind in "iu" else f"{matrix[i, j]:.2g}"
            size = 9 if len(text) <= 4 else 6
            if rates is not None:
                text = f"{text}\n{rates[i, j]:.0%}" if rates[i, j] >= 0.01 else f"{text}\n<1%"
                size = min(size, 9 if n_classes <= 10 else 5)
            ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=size)

    def _list_pairs(self, ax: Any, n_pairs: int, room: int) -> None:
        ax.set_title("true → predicted", fontsize=10)
        pairs = self.pairs_[: number_drawn(n_pairs, len(self.pairs_), "n_pairs")]
        if not pairs:
            ax.set_axis_off()
            ax.text(0.5, 0.5, "no mistakes", ha="center", transform=ax.transAxes)
            return
        counts = [count for _, _, count in pairs]
        bars = ax.barh(range(len(pairs)), counts, color="#e5602f", height=0.7)
        ax.bar_label(bars, padding=3, fontsize=9)
        names = [f"{short_label(true)} → {short_label(predicted)}" for true, predicted, _ in pairs]
        ax.set_yticks(range(len(pairs)), names, fontsize=9)
        # The most frequent on top, with the same bar height in all figures.
        ax.set_ylim(max(len(pairs), room) - 0.5, -0.5)
        ax.spines["left"].set_bounds(-0.5, len(pairs) - 0.5)
        ax.set_xlim(0, 1.3 * max(counts))
        ax.set_xticks([])
        ax.tick_params(length=0)
        ax.spines[["top", "right", "bottom"]].set_visible(False)
