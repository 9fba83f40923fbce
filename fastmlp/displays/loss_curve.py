"""The loss curve."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastmlp.displays.inputs import fitted_network
from fastmlp.displays.layout import bounding_axes, check_matplotlib

__all__ = ["LossCurveDisplay", "kept_epoch"]

_MOST_MARKERS = 30  # epochs


class LossCurveDisplay:
    """The loss curve, with validation loss and score if available.

    Parameters
    ----------
    loss : array-like of shape (n_epochs,)
        Training loss.
    val_loss, val_score : array-like of shape (n_epochs,), optional
        On validation data; NaN in epochs without.
    score_name : str, default="score"
        Name of the score.
    kept_epoch : int, optional
        The epoch, counted from 1, whose weights early stopping has kept. It is marked.
    val_name : str, default="validation"
        Name of the validation data, such as "test".

    Attributes
    ----------
    ax_ : Axes
        The losses.
    score_ax_ : Axes or None
        The scores, with their own axis on the right.
    figure_ : Figure
    figsize_ : tuple of float
        Suitable width and height in inches, used for new figures.

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
        """Draw the loss curve of a fitted MLP.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor, or a pipeline that ends in one
            Validation scores are taken from fastmlp's `history_`, or from scikit-learn's
            `validation_scores_` after early stopping.
        val_name : str, default="validation"
            Name of the validation data, such as "test".
        ax
            See `plot`.

        Returns
        -------
        LossCurveDisplay
        """
        check_matplotlib()
        model = fitted_network(estimator)
        history = dict(getattr(model, "history_", {}))
        if not history:
            history = {"loss": getattr(model, "loss_curve_", [])}
            history["val_score"] = getattr(model, "validation_scores_", None)
        if not len(history.get("loss", [])):
            raise ValueError(
                f"{type(model).__name__} must have stored its losses to draw them, got none "
                f"(solver={model.solver!r}): scikit-learn's lbfgs stores none, fastmlp's does."
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

        ax = bounding_axes(ax, self.figsize_)
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
        # Above the axes, to not overlap curves.
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
    return int(np.nanargmax(val_score)) + 1  # the first of equal scores, as in early stopping


def _score_name(model: Any) -> str:
    """Return the name of a model's `score`."""
    return "accuracy" if hasattr(model, "classes_") else "R²"
