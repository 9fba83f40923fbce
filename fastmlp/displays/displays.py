"""Pictures of models and of what they get wrong, in the style of scikit-learn's displays.

A display holds what is to be seen; making one needs no matplotlib. `plot` draws it, as
``from_estimator`` and ``from_predictions`` do at once, and leaves the figure in ``figure_``. All
displays take the fitted MLPs of fastmlp and of scikit-learn, also as the last step of a pipeline.

Like scikit-learn's, a display without `ax` opens a figure of pyplot's, so that a notebook shows it.
With `ax`, pyplot is not touched: ``Figure(layout="constrained").subplots()`` is an `ax` for
programs without a screen. A display of several images divides the place that `ax` has in its grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.validation import check_is_fitted

from fastmlp.utils.image_shapes import shape_of_images

__all__ = [
    "ConfusionDisplay",
    "DigitDisplay",
    "LossCurveDisplay",
    "MistakesDisplay",
    "WeightsDisplay",
    "as_images",
    "check_matplotlib",
    "count_confusions",
    "kept_epoch",
]

_INK = "gray_r"  # large values are dark, as on paper
_MOST_COLUMNS = 8  # of a gallery
_LONGEST_LABEL = 14
_LONGEST_LINE = 15  # in the title of an image
_MOST_COUNTS = 25  # classes up to which counts are written into the matrix
_MOST_TICKS = 50
_UNEQUAL = 1.5  # ratio of class sizes from which on rates are shown beside counts
_CHARACTER = 0.009  # inches that a character takes on average, per point of its size
_MOST_MARKERS = 30  # epochs


def check_matplotlib() -> None:
    """Raise ValueError if there is no matplotlib, which draws."""
    if find_spec("matplotlib") is None:
        raise ValueError("a picture needs matplotlib: pip install 'fastmlp[plot]'.")


def as_images(X: Any, shape: tuple[int, int] | None = None) -> NDArray:
    """Return samples as images.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features) or (n_samples, height, width)
    shape : (height, width), optional
        By default that of `X` if it holds images already, else a square.

    Returns
    -------
    array of shape (n_samples, height, width)

    Raises
    ------
    ValueError
        If the features do not fill such an image.

    Examples
    --------
    >>> as_images([[1, 2, 3, 4]]).tolist()
    [[[1, 2], [3, 4]]]
    """
    X = X.toarray() if issparse(X) else np.asarray(X)
    if X.ndim == 3 and shape is not None:  # then the shape of the array is not that of the images
        X = X.reshape(len(X), math.prod(X.shape[1:]))
    return X.reshape(len(X), *shape_of_images(X.shape, shape))


class DigitDisplay:
    """One or several samples as images, on one scale of greys.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features) or (n_samples, height, width)
        One sample is ``X[[i]]``.
    y : array-like of shape (n_samples,), optional
        What stands above the images.
    shape : (height, width), optional
        Of an image; otherwise it is square.

    Attributes
    ----------
    images : array of shape (n_samples, height, width)
    axes_ : array of Axes of shape (n_samples,)
    figure_ : Figure
    figsize_ : tuple of float
        Width and height in inches that suit the picture; those of a new figure.

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
            Its place is divided among the images.

        Returns
        -------
        self
        """
        titles = None if self.y is None else [_label(label) for label in self.y]
        self.figsize_ = _gallery_size(len(self.images))
        ax = _bounding_axes(ax, self.figsize_)
        self.axes_ = _draw_gallery(ax, self.images, titles)
        self.figure_ = ax.figure
        return self


class WeightsDisplay:
    """What the first hidden units look for: their incoming weights as images.

    All images share one symmetric scale, of which grey is zero. It ends at half of the largest
    weight, as in scikit-learn's example, because few weights are that large.

    Parameters
    ----------
    weights : array of shape (n_features, n_units)
        Of the first layer, a column per unit.
    shape : (height, width), optional
        Of an image; otherwise it is square.

    Attributes
    ----------
    images : array of shape (n_units, height, width)
    limit : float
        The scale goes from ``-limit`` to ``limit``.
    axes_ : array of Axes of shape (n,)
    figure_ : Figure
    figsize_ : tuple of float
        Width and height in inches that suit the picture; those of a new figure.

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
            Of an image; otherwise it is square.
        n, cmap, ax
            See `plot`.

        Returns
        -------
        WeightsDisplay
        """
        check_matplotlib()
        return cls(_network(estimator).coefs_[0], shape=shape).plot(ax, n=n, cmap=cmap)

    def plot(self, ax: Any = None, *, n: int | None = 16, cmap: str = "gray") -> Self:
        """Draw the weights.

        Parameters
        ----------
        ax : Axes, optional
            Its place is divided among the images.
        n : int or None, default=16
            Units at most, the first ones; None is all.
        cmap : str, default="gray"
            A colour map of matplotlib's; "RdBu_r" makes signs colours.

        Returns
        -------
        self
        """
        shown = self.images[: _number(n, len(self.images))]
        n_columns = math.ceil(math.sqrt(len(shown)))
        self.figsize_ = n_columns + 1.0, float(-(-len(shown) // n_columns))
        ax = _bounding_axes(ax, self.figsize_)
        self.axes_ = _grid(ax, len(shown), n_columns)
        for axes, image in zip(self.axes_, shown, strict=True):
            picture = axes.imshow(image, cmap=cmap, vmin=-self.limit, vmax=self.limit)
        bar = ax.figure.colorbar(picture, ax=list(self.axes_), extend="both", aspect=40)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_color("#888")  # the ends of the scale may be white
        self.figure_ = ax.figure
        return self


class LossCurveDisplay:
    """The course of a training: loss and, where there is any, validation loss and score.

    Parameters
    ----------
    loss : array-like of shape (n_epochs,)
        Training loss.
    val_loss, val_score : array-like of shape (n_epochs,), optional
        On validation data; not a number in epochs without.
    score_name : str, default="score"
        What the score is.
    kept_epoch : int, optional
        The epoch, counted from 1, whose weights early stopping has kept. It is marked.
    val_name : str, default="validation"
        What the validation data are called, such as "test".

    Attributes
    ----------
    ax_ : Axes
        The losses.
    score_ax_ : Axes or None
        The scores, on an axis of their own at the right.
    figure_ : Figure
    figsize_ : tuple of float
        Width and height in inches that suit the picture; those of a new figure.

    Examples
    --------
    >>> display = LossCurveDisplay([0.9, 0.5, 0.4], val_score=[0.7, 0.8, 0.8])
    >>> len(display.loss)
    3
    """

    figsize_ = (6.4, 4.0)
    ax_: Any
    score_ax_: Any
    figure_: Any

    def __init__(
        self,
        loss: ArrayLike,
        *,
        val_loss: ArrayLike | None = None,
        val_score: ArrayLike | None = None,
        score_name: str = "score",
        kept_epoch: int | None = None,
        val_name: str = "validation",
    ) -> None:
        self.kept_epoch, self.val_name = kept_epoch, val_name
        self.loss = np.asarray(loss, np.float64)
        self.val_loss = None if val_loss is None else np.asarray(val_loss, np.float64)
        self.val_score = None if val_score is None else np.asarray(val_score, np.float64)
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, val_name: str = "validation", ax: Any = None
    ) -> Self:
        """Draw the training of a fitted MLP.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor, or a pipeline that ends in one
            Validation figures are in fastmlp's `history_`, or in scikit-learn's
            `validation_scores_` after early stopping.
        val_name : str, default="validation"
            What the validation data are called, such as "test".
        ax
            See `plot`.

        Returns
        -------
        LossCurveDisplay
        """
        check_matplotlib()
        model = _network(estimator)
        history = dict(getattr(model, "history_", {}))
        if not history:
            history = {"loss": getattr(model, "loss_curve_", [])}
            history["val_score"] = getattr(model, "validation_scores_", None)
        if not len(history.get("loss", [])):
            raise ValueError(
                f"{type(model).__name__} must have kept its losses to have them drawn, got none "
                f"(solver={model.solver!r}): scikit-learn's lbfgs keeps none, fastmlp's does."
            )
        val_score = history.get("val_score")
        return cls(
            history["loss"],
            val_loss=history.get("val_loss"),
            val_score=val_score,
            score_name=_score_name(model),
            kept_epoch=kept_epoch(model, val_score),
            val_name=val_name,
        ).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : Axes, optional

        Returns
        -------
        self
        """
        from matplotlib.ticker import MaxNLocator

        ax = _bounding_axes(ax, self.figsize_)
        epochs = np.arange(1, len(self.loss) + 1)
        style: dict[str, Any] = {"marker": "."} if len(epochs) <= _MOST_MARKERS else {}
        lines = ax.plot(epochs, self.loss, label="training loss", **style)
        if self.val_loss is not None:
            style |= {"color": lines[0].get_color(), "linestyle": "--"}
            lines += ax.plot(epochs, self.val_loss, label=f"{self.val_name} loss", **style)
        ax.set_xlabel("epoch")
        ax.set_ylabel("loss")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.grid(color="#ddd")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        self.score_ax_ = None
        if self.val_score is not None:
            self.score_ax_ = ax.twinx()
            style |= {"color": "tab:green", "linestyle": ":", "linewidth": 2}
            name = f"{self.val_name} {self.score_name}"
            lines += self.score_ax_.plot(epochs, self.val_score, label=name, **style)
            self.score_ax_.set_ylabel(name, color="tab:green")
            self.score_ax_.tick_params(axis="y", colors="tab:green")
            self.score_ax_.spines[["top", "left"]].set_visible(False)
        if self.kept_epoch is not None:
            name = f"kept: epoch {self.kept_epoch}"
            lines += [ax.axvline(self.kept_epoch, label=name, color="#999", linewidth=1)]
        # Above the axes, where no curve goes.
        n_columns = len(lines) if len(lines) < 4 else 2
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": n_columns}
        ax.legend(handles=lines, frameon=False, **place)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def kept_epoch(model: Any, val_score: ArrayLike | None) -> int | None:
    """Return the epoch, counted from 1, whose weights early stopping has kept.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
        Fitted.
    val_score : array-like of shape (n_epochs,) or None
        Its validation scores.

    Returns
    -------
    int or None
        None without early stopping.
    """
    if not model.early_stopping or val_score is None or not np.isfinite(val_score).any():
        return None
    return int(np.nanargmax(val_score)) + 1  # the first of equals, as early stopping does


def count_confusions(
    y_true: ArrayLike, y_pred: ArrayLike, labels: ArrayLike | None = None
) -> tuple[NDArray, NDArray]:
    """Count how often each class is taken for each other.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples,)
    labels : array-like of shape (n_classes,), optional
        The classes to be counted, in their order; otherwise all that occur, sorted.

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
    y_true, y_pred = _classes(y_true, "y_true"), _classes(y_pred, "y_pred")
    check_consistent_length(y_true, y_pred)
    wanted = y_true[:0] if labels is None else column_or_1d(labels)
    classes, codes = np.unique(np.concatenate([y_true, y_pred, wanted]), return_inverse=True)
    true, predicted, order = np.split(codes, [len(y_true), 2 * len(y_true)])
    cells = np.bincount(true * len(classes) + predicted, minlength=len(classes) ** 2)
    matrix = cells.reshape(len(classes), len(classes))
    return (matrix, classes) if labels is None else (matrix[np.ix_(order, order)], wanted)


class ConfusionDisplay:
    """The confusion matrix, and beside it the most confused pairs of classes.

    What is predicted correctly is written in grey; colours compare the mistakes. Where one class
    is more than one and a half times as frequent as another, counts say little: colours, and a
    second line, give the share of the true class.

    Parameters
    ----------
    confusion_matrix : array of shape (n_classes, n_classes)
        Rows are true classes, columns predicted ones.
    display_labels : array-like of shape (n_classes,), optional
        Names of the classes; otherwise their numbers.

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
        Width and height in inches that suit the picture; those of a new figure.

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
        """Draw what some predictions confuse.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_samples,)
            True and predicted classes.
        labels : array-like of shape (n_classes,), optional
            The classes, in the order to be drawn; otherwise all that occur, sorted.
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
        """Draw what a fitted classifier confuses.

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
        y_pred = _predictions(estimator, X)
        return cls.from_predictions(y, y_pred, labels=labels, n_pairs=n_pairs, ax=ax)

    def plot(self, ax: Any = None, *, n_pairs: int | None = None) -> Self:
        """Draw the matrix and the list of pairs.

        Parameters
        ----------
        ax : Axes, optional
            Its place is divided between the two; without pairs it is drawn on itself.
        n_pairs : int or None, default=None
            Pairs at most; None is as many as have room, 0 leaves the list out.

        Returns
        -------
        self
        """
        side = min(max(4.0, 0.42 * len(self.confusion_matrix) + 1.2), 12.0)
        room = int(2 * side)
        n_pairs = room if n_pairs is None else n_pairs
        height = max(side, 0.25 * min(n_pairs, len(self.pairs_)) + 0.5) + 0.3  # the title
        self.figsize_ = side + 3.0 * bool(n_pairs), height
        ax = _bounding_axes(ax, self.figsize_)
        self.figure_ = ax.figure
        self.ax_, self.pairs_ax_ = ax, None
        if n_pairs:
            self.ax_, self.pairs_ax_ = _split(ax, [len(self.confusion_matrix) ** 0.5 + 1, 1.6])
            self._list_pairs(self.pairs_ax_, n_pairs, room)
        self._draw_matrix(self.ax_, 0.8 * (side - 1.2))
        return self

    def _title(self) -> str:
        """Return what the matrix comes to."""
        total, correct = self.confusion_matrix.sum(), np.trace(self.confusion_matrix)
        if self.confusion_matrix.dtype.kind not in "iu" or not total:
            return ""  # rates, or nothing
        wrong = total - correct
        mistakes = "1 mistake" if wrong == 1 else f"{wrong or 'no'} mistakes"
        return f"accuracy {correct / total:.3f}: {mistakes} of {total}"

    def _rates(self) -> NDArray | None:
        """Return the shares of the true classes, if they are of very different sizes."""
        sizes = self.confusion_matrix.sum(axis=1, keepdims=True)
        present = sizes[sizes > 0]
        if self.confusion_matrix.dtype.kind not in "iu" or not len(present):
            return None
        if present.max() <= _UNEQUAL * present.min():
            return None
        return self.confusion_matrix / np.maximum(sizes, 1)

    def _draw_matrix(self, ax: Any, inches: float) -> None:
        """Draw the matrix, of which all columns together are some inches wide."""
        matrix, rates = self.confusion_matrix, self._rates()
        n_classes = len(matrix)
        correct = np.eye(n_classes, dtype=bool)
        weights = matrix if rates is None else rates  # what colours compare
        mistakes = np.ma.masked_where(correct | (matrix == 0), weights)
        largest = weights[~correct].max(initial=0) or 1
        ax.set_title(self._title(), fontsize=10)
        ax.imshow(np.where(correct, 0.12, 0), cmap="gray_r", vmin=0, vmax=1)
        picture = ax.imshow(mistakes, cmap="YlOrRd", vmin=0, vmax=largest)
        step = -(-n_classes // _MOST_TICKS)
        ticks = np.arange(0, n_classes, step)
        names = [_label(label) for label in self.display_labels[ticks]]
        small = 9 if n_classes <= _MOST_COUNTS else 7
        longest = max(map(len, names), default=0)
        upright = longest > 2 and longest * _CHARACTER * small > inches / max(1, len(names))
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
        pairs = self.pairs_[: _number(n_pairs, len(self.pairs_), "n_pairs")]
        if not pairs:
            ax.set_axis_off()
            ax.text(0.5, 0.5, "no mistakes", ha="center", transform=ax.transAxes)
            return
        counts = [count for _, _, count in pairs]
        bars = ax.barh(range(len(pairs)), counts, color="#e5602f", height=0.7)
        ax.bar_label(bars, padding=3, fontsize=9)
        names = [f"{_label(true)} → {_label(predicted)}" for true, predicted, _ in pairs]
        ax.set_yticks(range(len(pairs)), names, fontsize=9)
        # The most frequent on top, and bars of the same height in every figure.
        ax.set_ylim(max(len(pairs), room) - 0.5, -0.5)
        ax.spines["left"].set_bounds(-0.5, len(pairs) - 0.5)
        ax.set_xlim(0, 1.3 * max(counts))
        ax.set_xticks([])
        ax.tick_params(length=0)
        ax.spines[["top", "right", "bottom"]].set_visible(False)


class MistakesDisplay:
    """A gallery of the samples that a classifier gets wrong, the most confident mistakes first.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features) or (n_samples, height, width)
    y_true, y_pred : array-like of shape (n_samples,)
        True and predicted classes.
    confidence : array-like of shape (n_samples,), optional
        The probability of the predicted class. Without it, mistakes stay in the order of `X`.
    pair : (class, class), optional
        Only mistakes between these two, in either direction.
    shape : (height, width), optional
        Of an image; otherwise it is square.

    Attributes
    ----------
    indices : array of shape (n_mistakes,)
        Where the mistakes are in `X`, in their order.
    axes_ : array of Axes of shape (n,)
    figure_ : Figure
    figsize_ : tuple of float
        Width and height in inches that suit the picture; those of a new figure.

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
        self.y_true, self.y_pred = _classes(y_true, "y_true"), _classes(y_pred, "y_pred")
        self.confidence = None
        if confidence is not None:
            self.confidence = np.asarray(confidence, np.float64)
            if self.confidence.ndim != 1:
                raise ValueError(
                    "confidence must be the probability of each prediction, shape (n_samples,), "
                    f"got {self.confidence.shape}: predict_proba(X).max(axis=1) is that."
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
        """Draw the mistakes among some predictions.

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
        y_pred = _predictions(estimator, X)
        confidence = None
        if hasattr(estimator, "predict_proba"):
            confidence = np.asarray(estimator.predict_proba(X)).max(axis=1)
        return cls(X, y, y_pred, confidence, pair=pair, shape=shape).plot(ax, n=n)

    def images(self, n: int | None = None) -> NDArray:
        """Return the first `n` mistakes, or all, as an array of shape (n, height, width)."""
        return as_images(self.X[self.indices[:n]], self.shape)

    def caption(self, index: int, line: int = 1000, *, with_index: bool = False) -> str:
        """Return what is said of a sample: true → predicted, and the confidence.

        Parameters
        ----------
        index : int
            Into `X`.
        line : int, default=1000
            Characters at most before the text goes on in the next line.
        with_index : bool, default=False
            Begin with the index, on a line of its own if lines are short.
        """
        if with_index:
            text = self.caption(index, line)
            return f"#{index}: {text}" if len(text) + 10 <= line else f"#{index}\n{text}"
        true, predicted = _label(self.y_true[index]), _label(self.y_pred[index])
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
            Its place is divided among the images.
        n : int or None, default=24
            Mistakes at most; None is all.

        Returns
        -------
        self
        """
        n = _number(n, len(self.indices))
        images = self.images(n)
        width, height = _gallery_size(n)
        height += 0.15 * _gallery_grid(n)[0]  # captions have a line more than labels
        self.figsize_ = max(width, 6.4), height + 0.5  # room for the title
        ax = _bounding_axes(ax, self.figsize_)
        captions = [
            self.caption(index, _LONGEST_LINE, with_index=True) for index in self.indices[:n]
        ]
        top, below = _split(ax, heights=[0.5, height])
        top.set_axis_off()
        top.text(0.5, 0.5, self._title(n), ha="center", va="center")
        self.axes_ = _draw_gallery(below, images, captions)
        self.figure_ = ax.figure
        return self

    def _title(self, n: int) -> str:
        total, n_samples = len(self.indices), len(self.y_true)
        text = "1 mistake" if total == 1 else f"{total or 'no'} mistakes"
        if n < total:
            text = f"{n} of {text}"
        if self.pair is not None:
            text += " between {} and {}".format(*map(_label, self.pair))
        elif n_samples:
            text = f"accuracy {1 - total / n_samples:.3f}: {text} of {n_samples} samples"
        if not total:
            return text
        order = "the most confident first, " if total > 1 and self.confidence is not None else ""
        return f"{text}\n({order}#row: true → predicted)"


# ----------------------------------------------------------------------------------------- helpers


def _network(estimator: Any) -> Any:
    """Return the fitted MLP itself."""
    model = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    check_is_fitted(model)
    if not hasattr(model, "coefs_"):
        raise ValueError(
            "estimator must be a fitted MLPClassifier or MLPRegressor, or a pipeline that ends in "
            f"one, got {type(model).__name__}."
        )
    return model


def _predictions(estimator: Any, X: Any) -> NDArray:
    """Return the classes that an estimator predicts."""
    if not hasattr(estimator, "classes_"):
        check_is_fitted(estimator)
        raise ValueError(f"estimator must be a classifier, got {type(estimator).__name__}.")
    return estimator.predict(X)


def _score_name(model: Any) -> str:
    """Return what `score` of a model is."""
    return "accuracy" if hasattr(model, "classes_") else "R²"


def _classes(y: ArrayLike, name: str) -> NDArray:
    """Return labels as an array, if they are one class per sample."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] > 1:
        raise ValueError(
            f"{name} must be one class per sample, got shape {y.shape}; of one-hot labels, "
            f"{name}.argmax(axis=1) is that."
        )
    return column_or_1d(y)


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


def _number(n: int | None, available: int, name: str = "n") -> int:
    """Return how many are drawn."""
    if n is not None and n < 1:
        raise ValueError(f"{name} must be at least 1, got {n}.")
    return available if n is None else min(n, available)


def _label(label: Any) -> str:
    """Return a class as a text that is not too long; names may differ in their ends only."""
    text = str(label)
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 6]}…{text[-5:]}"


def _gallery_grid(n: int) -> tuple[int, int]:
    """Return the rows of a gallery, and columns that fill them evenly."""
    n_rows = max(1, -(-n // _MOST_COLUMNS))
    return n_rows, max(1, -(-n // n_rows))


def _gallery_size(n: int) -> tuple[float, float]:
    """Return the inches of a gallery."""
    n_rows, n_columns = _gallery_grid(n)
    return 1.15 * n_columns, 1.35 * n_rows


def _bounding_axes(ax: Any, figsize: tuple[float, float]) -> Any:
    """Return `ax`, or that of a new figure, which pyplot shows if there is where to show it."""
    check_matplotlib()
    if ax is None:
        import matplotlib.pyplot as plt

        return plt.figure(figsize=figsize, layout="constrained").add_subplot()
    return ax


def _divide(ax: Any, n_rows: int, n_columns: int, **options: Any) -> Any:
    """Return the grid into which the place of an Axes is divided."""
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError("ax must be one that plt.subplots or figure.subplots made, got another.")
    ax.set_axis_off()
    return place.subgridspec(n_rows, n_columns, **options)


def _grid(ax: Any, n: int, n_columns: int) -> NDArray:
    """Divide the place of an Axes into n bare ones; return them as an array."""
    grid = _divide(ax, max(1, -(-n // n_columns)), n_columns)
    axes = np.empty(n, dtype=object)
    for i in range(n):
        axes[i] = ax.figure.add_subplot(grid[i])
        axes[i].set_xticks([])
        axes[i].set_yticks([])
        axes[i].spines[:].set_visible(False)
    return axes


def _split(ax: Any, widths: Sequence[float] = (1,), heights: Sequence[float] = (1,)) -> list[Any]:
    """Divide the place of an Axes into columns or rows of these relative sizes."""
    sizes = {"width_ratios": widths, "height_ratios": heights}
    grid = _divide(ax, len(heights), len(widths), **sizes)
    return [ax.figure.add_subplot(place) for place in grid]


def _draw_gallery(ax: Any, images: NDArray, titles: list[str] | None) -> NDArray:
    """Draw images with their titles; return their Axes."""
    axes = _grid(ax, len(images), _gallery_grid(len(images))[1])
    limits = {"vmin": images.min(initial=0), "vmax": images.max(initial=0)}
    for i, (place, image) in enumerate(zip(axes, images, strict=True)):
        place.imshow(image, cmap=_INK, **limits)
        if titles is not None:
            place.set_title(titles[i], fontsize=9)
    return axes
