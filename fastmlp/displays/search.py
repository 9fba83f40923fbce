"""Searches for parameters: the score of every candidate, and its loss per epoch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from fastmlp.displays.layout import (
    CHARACTER,
    bounding_axes,
    check_matplotlib,
    short_label,
    split,
)

__all__ = ["SearchDisplay"]

_KINDS = ("scores", "curves")
_BEST = "#e5602f"  # color of the best candidate
_PANEL = (2.9, 2.3)  # inches, without the names below
_SMALL = 8  # points, of ticks
_LONGEST_VALUE = 22  # characters
_LONGEST_NAME = 30
_MOST_TICKS = 8  # distinct numbers up to which each is a tick
_MOST_NUMBERS = 12  # distinct numbers, next to None or the like, that are drawn as categories
_MOST_CELLS = (12, 20)  # columns and rows of a heat map up to which scores are written into it
_FAR = 10  # times farther from the best than three quarters: drawn at the edge
_NOT_SET = type("NotSet", (), {"__repr__": lambda self: "not set"})()


class SearchDisplay:
    """The scores of a search over its parameters, or the loss curves of all candidates.

    Scores are drawn in a panel per parameter that varies, or as a heat map if two parameters vary
    and all their combinations were tried once. Bars show the standard deviation over the splits.
    Candidates without a score, since fits failed, are left out and counted.

    Parameters
    ----------
    cv_results : dict
        The ``cv_results_`` of a search; used are "params", "mean_test_score", "std_test_score" and,
        of successive halving, "iter" and "n_resources".
    metric : str, default="score"
        The scores are those in "mean_test_<metric>".
    best_index : int, optional
        The candidate to be marked; by default the one with the highest score, in the last
        iteration of successive halving.
    histories : list of list of dict, optional
        For each candidate and split the history of the fit: lists of numbers per epoch, such as
        "loss" and "val_score". Those of failed fits are empty.
    resource : str, default="n_resources"
        What the iterations of successive halving give more of, such as "n_samples".

    Attributes
    ----------
    candidates : list of dict
        The parameters of each.
    scores, spreads : array of shape (n_candidates,)
        Mean and standard deviation over the splits.
    varying : list of str
        Names of the parameters that have several values.
    axes_ : array of Axes
        One per parameter that varies, in that order; a single one for a heat map or curves, and if
        no parameter varies.
    figure_ : Figure
    figsize_ : tuple of float
        Suitable width and height in inches, used for new figures.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> from fastmlp import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier(hidden_layer_sizes=(5,), tol=0.1, random_state=0)
    >>> search = GridSearchCV(model, {"alpha": [0.1, 1.0], "activation": ["relu", "tanh"]})
    >>> display = SearchDisplay(search.fit(X, y).cv_results_)
    >>> display.varying, display.scores.shape
    (['activation', 'alpha'], (4,))
    """

    axes_: NDArray
    figure_: Any
    figsize_: tuple[float, float]

    def __init__(
        self,
        cv_results: Mapping[str, Any],
        *,
        metric: str = "score",
        best_index: int | None = None,
        histories: Sequence[Sequence[Mapping[str, Sequence[float]]]] | None = None,
        resource: str = "n_resources",
    ) -> None:
        metrics = _metrics(cv_results)
        if metric not in metrics:
            names = " or ".join(map(repr, metrics))
            raise ValueError(f"metric must be {names}, which the search has, got {metric!r}.")
        self.metric, self.histories, self.resource = metric, histories, resource
        self.candidates: list[dict[str, Any]] = [dict(params) for params in cv_results["params"]]
        self.scores = np.asarray(cv_results[f"mean_test_{metric}"], np.float64)
        n_candidates = len(self.scores)
        spreads = cv_results.get(f"std_test_{metric}", np.zeros(n_candidates))
        self.spreads = np.nan_to_num(np.asarray(spreads, np.float64), posinf=0)
        self.iterations: NDArray | None = None
        if "iter" in cv_results and "n_resources" in cv_results:
            self.iterations = np.asarray(cv_results["iter"])
            self.n_resources = np.asarray(cv_results["n_resources"])
        if not np.isfinite(self.scores).any():
            raise ValueError(
                f"cv_results must have a score to draw, got none from {n_candidates} candidates: "
                "all fits failed; the search raises why with error_score='raise'."
            )
        if histories is not None and len(histories) != n_candidates:
            raise ValueError(
                f"histories must have an entry for each of {n_candidates} candidates, got "
                f"{len(histories)}."
            )
        self.best_index = self._highest() if best_index is None else int(best_index)
        # In iterations, what they give more of varies, too; that is what their colors show.
        apart = None if self.iterations is None else resource
        self._parameters = [p for p in _varying(self.candidates) if p.name != apart]
        self.varying = [parameter.name for parameter in self._parameters]

    @classmethod
    def from_estimator(
        cls,
        search: Any,
        *,
        kind: str = "scores",
        metric: str | None = None,
        curve: str = "loss",
        ax: Any = None,
    ) -> Self:
        """Draw a fitted search.

        Parameters
        ----------
        search : GridSearchCV, RandomizedSearchCV, HalvingGridSearchCV or HalvingRandomSearchCV
            Of scikit-learn or fastmlp, or a pipeline that ends in one. Curves need
            ``fit_histories_``, which fastmlp's have.
        metric : str, optional
            One of several metrics; by default the one in the parameter `refit` of the search.
        kind, curve, ax
            See `plot`.

        Returns
        -------
        SearchDisplay
        """
        check_matplotlib()
        _check_kind(kind)
        search = search.steps[-1][1] if isinstance(search, Pipeline) else search
        if not hasattr(search, "cv_results_"):
            if hasattr(search, "refit") and hasattr(search, "error_score"):
                check_is_fitted(search, "cv_results_")
            raise ValueError(
                "search must be a fitted GridSearchCV, RandomizedSearchCV or the like, which have "
                f"cv_results_, got {type(search).__name__}."
            )
        metrics = _metrics(search.cv_results_)
        refit = search.refit if isinstance(getattr(search, "refit", None), str) else None
        default = refit if refit in metrics else metrics[0]
        if metric is None and refit is None and len(metrics) > 1:
            names = ", ".join(map(repr, metrics))
            raise ValueError(
                f"metric must be given if refit does not name one, got None: choose of {names}."
            )
        metric = default if metric is None else metric
        return cls(
            search.cv_results_,
            metric=metric,
            best_index=getattr(search, "best_index_", None) if metric == default else None,
            histories=getattr(search, "fit_histories_", None),
            resource=getattr(search, "resource", "n_resources"),
        ).plot(ax, kind=kind, curve=curve)

    def plot(self, ax: Any = None, *, kind: str = "scores", curve: str = "loss") -> Self:
        """Draw the scores or the curves.

        Parameters
        ----------
        ax : Axes, optional
            Its area is divided among the panels. Heat maps and curves are drawn on it.
        kind : {"scores", "curves"}, default="scores"
        curve : str, default="loss"
            The list of `histories` that ``kind="curves"`` draws: per epoch, the mean over the
            splits, where a fit that has ended counts with its last value.

        Returns
        -------
        self
        """
        check_matplotlib()
        _check_kind(kind)
        if kind == "curves":
            self._draw_curves(ax, curve)
        elif self.iterations is None and _is_full_grid(self._parameters):
            self._draw_heat_map(ax)
        else:
            self._draw_panels(ax)
        self.figure_ = self.axes_[0].figure
        return self

    def _highest(self) -> int:
        """Return the candidate with the highest score, in the last iteration."""
        scores = self.scores
        if self.iterations is not None:
            last = self.iterations[np.isfinite(scores)].max()
            scores = np.where(self.iterations == last, scores, np.nan)
        return int(np.nanargmax(scores))

    def _best(self) -> str:
        score, spread = self.scores[self.best_index], self.spreads[self.best_index]
        return f"{_score_text(score)} ± {_score_text(spread)}"

    def _score_name(self) -> str:
        return "mean test score" if self.metric == "score" else f"mean test {self.metric}"

    def _notes(self, n_far: int = 0, far: str = "") -> list[str]:
        """Return what is to be said about scores that cannot be seen."""
        notes = []
        n_failed = int((~np.isfinite(self.scores)).sum())
        if n_failed:
            verb = "is" if n_failed == 1 else "are"
            notes.append(f"{n_failed} of {len(self.scores)} scores {verb} left out: fits failed")
        if n_far:
            notes.append(f"{n_far} of {len(self.scores)} scores far below {far}")
        return notes

    def _draw_panels(self, ax: Any) -> None:
        """Draw each candidate as a point over each parameter."""
        from matplotlib import colormaps
        from matplotlib.lines import Line2D

        parameters = self._parameters or [_single(len(self.scores))]
        n_columns, n_rows = _panel_grid(len(parameters))
        below = max(parameter.inches_below(_PANEL[0]) for parameter in parameters)
        shown = np.isfinite(self.scores)
        floor = _floor(self.scores)
        far = np.zeros(len(self.scores), bool) if floor is None else shown & (self.scores < floor)
        notes = self._notes(int(far.sum()), "stand at the lower edge (triangles)")
        levels = np.zeros(len(self.scores), int)
        handles = [_star(Line2D, f"best: {self._best()}")]
        colors: Any = ["tab:blue"]
        if self.iterations is not None:
            names, levels = np.unique(self.iterations, return_inverse=True)
            colors = colormaps["viridis_r"](np.linspace(0.1, 1, len(names)))
            for i, name in enumerate(names.tolist()):
                amount = self.n_resources[levels == i][0]
                label = f"iteration {name} ({self.resource}={amount})"
                handles.append(Line2D([], [], color=colors[i], marker="o", ls="", label=label))
        width = max(n_columns * _PANEL[0] + 0.8, 4.8)
        longest = max(len(handle.get_label()) for handle in handles)

        def columns_of_names(width: float) -> int:
            return max(1, min(len(handles), int(width / (CHARACTER * 10 * longest + 0.6))))

        def height_of_names(width: float) -> float:
            n_lines = len(notes) + math.ceil(len(handles) / columns_of_names(width))
            return 0.3 + 0.2 * n_lines

        height = n_rows * (_PANEL[1] + 0.45 + below)
        self.figsize_ = width, height + height_of_names(width)
        ax = bounding_axes(ax, self.figsize_)
        width, n_inches = _inches(ax)
        key, n_names = height_of_names(width), columns_of_names(width)
        height = max(n_inches - key, 2 * key)
        top, area = split(ax, heights=[key, height])
        top.set_axis_off()
        _legend(top, handles, notes, loc="center", ncols=n_names)
        places = split(area, [1] * n_columns, [1] * n_rows)
        for unused in places[len(parameters) :]:
            unused.remove()
        self.axes_ = np.empty(len(parameters), dtype=object)
        self.axes_[:] = places[: len(parameters)]
        bottom, upper = self._limits(shown & ~far)
        heights = np.where(far, bottom + 0.03 * (upper - bottom), self.scores)
        size = 5 if len(self.scores) <= 60 else 4 if len(self.scores) <= 200 else 3
        faint = float(np.clip(30 / len(self.scores), 0.12, 0.5))
        for i, (place, parameter) in enumerate(zip(self.axes_, parameters, strict=True)):
            x = parameter.draw_axis(place, shown)
            for level in range(len(colors)):
                inside = shown & (levels == level)
                style = {"color": colors[level], "linestyle": "", "zorder": 2 + level}
                near, below_all = inside & ~far, inside & far
                place.errorbar(
                    x[near], heights[near], self.spreads[near], fmt="none", elinewidth=1,
                    ecolor=colors[level], alpha=faint, zorder=1,
                )  # fmt: skip
                place.plot(
                    x[near], heights[near], marker="o", markersize=size, markeredgewidth=0.4,
                    markeredgecolor="white", **style,
                )  # fmt: skip
                place.plot(x[below_all], heights[below_all], marker="v", markersize=size, **style)
            best = slice(self.best_index, self.best_index + 1)
            place.add_line(_star(Line2D, "best", x[best], heights[best]))
            place.set_ylim(bottom, upper)
            place.set_xlabel(_plain(short_label(parameter.label, _LONGEST_NAME)))
            place.tick_params(labelsize=_SMALL)
            if i % n_columns:
                place.tick_params(labelleft=False)
            elif not i or height / n_rows > 1.8:  # inches, as long as the name
                place.set_ylabel(self._score_name())
            place.grid(color="#ddd", axis="y")
            place.set_axisbelow(True)
            place.spines[["top", "right"]].set_visible(False)

    def _limits(self, drawn: NDArray) -> tuple[float, float]:
        """Return limits for these scores, of which the bars of some may be far longer."""
        scores, spreads = self.scores[drawn], self.spreads[drawn]
        extent = np.ptp(scores)
        bars = np.minimum(spreads, extent) if extent else spreads
        low, high = (scores - bars).min(), (scores + bars).max()
        margin = 0.06 * (high - low) or 0.05 * abs(low) or 0.05
        return float(low - margin), float(high + margin)

    def _draw_heat_map(self, ax: Any) -> None:
        """Draw the scores of all combinations of two parameters."""
        from matplotlib.patches import Rectangle

        rows, columns = self._parameters
        longest = [max(map(len, parameter.texts)) for parameter in (rows, columns)]
        if longest[1] > max(longest[0], 6) or (
            longest[0] <= 6 and len(rows.texts) > len(columns.texts)
        ):
            rows, columns = columns, rows
        n_rows, n_columns = len(rows.texts), len(columns.texts)
        shape = (n_rows, n_columns)
        scores = np.full(shape, np.nan)
        scores[rows.codes, columns.codes] = self.scores
        floor = _floor(self.scores)
        n_far = 0 if floor is None else int(np.sum(self.scores < floor))
        written = n_columns <= _MOST_CELLS[0] and n_rows <= _MOST_CELLS[1]
        width = min(max(0.65 * n_columns, 3.0), 9.0)
        beside = CHARACTER * _SMALL * max(map(len, rows.texts)) + 0.6
        below = columns.inches_below(width)
        self.figsize_ = (
            width + beside + 0.9 * (not written),
            min(max(0.42 * n_rows, 1.5), 8.0) + below + 1.4,
        )
        ax = bounding_axes(ax, self.figsize_)
        low = np.nanmin(scores) if floor is None else floor
        high = np.nanmax(scores)
        picture = ax.imshow(
            np.ma.masked_invalid(scores), cmap="viridis", vmin=low, vmax=high, aspect="auto"
        )
        columns.draw_ticks(ax, ax.xaxis, width)
        rows.draw_ticks(ax, ax.yaxis, self.figsize_[1] - below - 1.4)
        ax.tick_params(length=0)
        ax.spines[:].set_color("#ccc")
        ax.set_xlabel(_plain(short_label(columns.label, _LONGEST_NAME)))
        ax.set_ylabel(_plain(short_label(rows.label, _LONGEST_NAME)))
        longest_text = max(len(_score_text(score)) for score in self.scores.tolist())
        size = min(9.0, width / n_columns / (CHARACTER * longest_text) * 0.9)
        middle = (low + high) / 2
        for i, j in np.ndindex(*shape) if written else ():
            dark = np.isfinite(scores[i, j]) and scores[i, j] < middle
            text = _score_text(float(scores[i, j])) if np.isfinite(scores[i, j]) else "–"
            color = "white" if dark else "black"
            ax.text(j, i, text, ha="center", va="center", color=color, fontsize=size)
        if not written:
            end = "neither" if floor is None else "min"
            bar = ax.figure.colorbar(picture, ax=ax, label=self._score_name(), extend=end)
            bar.outline.set_visible(False)
        corner = columns.codes[self.best_index] - 0.5, rows.codes[self.best_index] - 0.5
        frame: dict[str, Any] = {
            "fill": False,
            "edgecolor": _BEST,
            "linewidth": 3,
            "clip_on": False,
            "zorder": 3,
        }
        ax.add_patch(Rectangle(corner, 1, 1, **frame))
        notes = self._notes(n_far, "have the darkest color")
        title = [self._score_name(), f"best (framed): {self._best()}", *notes]
        ax.set_title("\n".join(title), fontsize=10)
        self.axes_ = np.empty(1, dtype=object)
        self.axes_[0] = ax

    def _draw_curves(self, ax: Any, curve: str) -> None:
        """Draw the mean curve of each candidate."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.ticker import MaxNLocator

        means = self._mean_curves(curve)
        self.figsize_ = (7.4, 4.8)
        ax = bounding_axes(ax, self.figsize_)
        scores = self.scores[list(means)]
        floor = _floor(scores)
        norm = Normalize(scores.min() if floor is None else floor, scores.max())
        colors = ScalarMappable(norm, "viridis")
        thin = 1.2 if len(means) <= 30 else 0.8
        order = sorted(means, key=lambda i: (i == self.best_index, self.scores[i]))
        handles: list[Any] = []
        for i in order:
            style: dict[str, Any] = {"color": colors.to_rgba(self.scores[i]), "linewidth": thin}
            style |= {"alpha": 0.9 if len(means) <= 30 else 0.6}
            if i == self.best_index:
                style = {"color": _BEST, "linewidth": 2.5, "label": self._best_in_words(ax)}
            epochs = np.arange(1, len(means[i]) + 1)
            drawn = np.isfinite(means[i])
            if np.count_nonzero(drawn) == 1:
                style["marker"] = "o"
            lines = ax.plot(epochs[drawn], means[i][drawn], **style)
            handles += lines if i == self.best_index else []
        values = np.concatenate([mean[np.isfinite(mean)] for mean in means.values()])
        lowest = values.min(initial=np.inf)
        if "loss" in curve and lowest > 0 and values.max() >= 100 * lowest:
            ax.set_yscale("log")
        elif "score" in curve and _floor(values) is not None:
            bottom, top = _floor(values), values.max()
            ax.set_ylim(bottom, top + 0.05 * (top - bottom))
        names = {"loss": "training loss", "val_loss": "validation loss"}
        names["val_score"] = "validation score"
        ax.set_xlabel("epoch")
        ax.set_ylabel(names.get(curve, curve) + ", mean over splits")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.grid(color="#ddd")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        bar = ax.figure.colorbar(
            colors, ax=ax, label=self._score_name(), extend="neither" if floor is None else "min"
        )
        bar.outline.set_visible(False)
        notes = self._notes()
        missing = int(np.isfinite(self.scores).sum()) - len(means)
        if missing:
            of = f"{missing} of {len(self.scores)} candidates"
            notes.append(f"{of} {'has' if missing == 1 else 'have'} no such curve")
        _legend(ax, handles, notes, loc="lower center", bbox_to_anchor=(0.5, 1))
        self.axes_ = np.empty(1, dtype=object)
        self.axes_[0] = ax

    def _mean_curves(self, curve: str) -> dict[int, NDArray]:
        """Return the curves of all candidates that have a score, and some."""
        if self.histories is None:
            raise ValueError(
                "kind='curves' needs the history of every fit, got none: the searches of "
                "fastmlp.model_selection store them as fit_histories_, scikit-learn's do not; "
                "kind='scores' needs none."
            )
        names: set[str] = set()
        means = {}
        for i, fits in enumerate(self.histories):
            names.update(name for fit in fits for name, values in fit.items() if len(values))
            curves = [np.asarray(fit[curve], np.float64) for fit in fits if len(fit.get(curve, ()))]
            mean = _mean_curve(curves)
            if np.isfinite(self.scores[i]) and np.isfinite(mean).any():
                means[i] = mean
        if not means:
            came = " and ".join(sorted(map(repr, names))) or "nothing"
            way = "; validation needs early_stopping or X_val" if curve.startswith("val_") else ""
            raise ValueError(
                f"curve must be a list of numbers that fits have recorded, got {curve!r}: they "
                f"recorded {came}{way}."
            )
        return means

    def _best_in_words(self, ax: Any) -> str:
        """Return the parameters of the best candidate, in lines as wide as the Axes."""
        longest = max(30, int(_inches(ax)[0] / (CHARACTER * 9)))
        params = self.candidates[self.best_index]
        varying = {p.name: p.label for p in self._parameters if p.name in params}
        items = [
            f"{label}={short_label(_text(params[name]), _LONGEST_NAME)}"
            for name, label in (varying or {name: name for name in params}).items()
        ]
        lines = [f"best: {self._best()}"]
        for i, item in enumerate(items):
            item += "," if i + 1 < len(items) else ""
            if i and len(lines[-1]) + len(item) < longest:
                lines[-1] += f" {item}"
            else:
                lines.append(item)
        return _plain("\n".join(lines))


@dataclass
class _Parameter:
    """A parameter that varies, as an axis.

    `codes` are the candidates' values as indices into `texts`; `numbers` are the values
    themselves, NaN for others, or None where categories are drawn.
    """

    name: str
    label: str
    codes: NDArray
    texts: list[str]
    numbers: NDArray | None = None

    def inches_below(self, width: float) -> float:
        """Return the height of the names below a panel of this width."""
        if self.numbers is not None or not self._upright(width):
            return 0.0
        return CHARACTER * _SMALL * max(map(len, self.texts))

    def _upright(self, width: float) -> bool:
        """Return whether the names have no room next to each other."""
        step = self._step(width)
        longest = max(map(len, self.texts))
        return longest * CHARACTER * _SMALL > 0.9 * width * step / len(self.texts)

    def _step(self, width: float) -> int:
        """Return how many categories share a tick, because more have no room."""
        return math.ceil(len(self.texts) * 1.3 * _SMALL / 72 / width)

    def draw_ticks(self, ax: Any, axis: Any, inches: float) -> None:
        """Draw the names of the categories along an axis of this length."""
        ticks = range(0, len(self.texts), self._step(inches))
        upright = axis is ax.xaxis and self._upright(inches)
        names = [_plain(self.texts[i]) for i in ticks]
        axis.set_ticks(ticks, names, fontsize=_SMALL, rotation=90 if upright else 0)

    def draw_axis(self, ax: Any, shown: NDArray) -> NDArray:
        """Draw the x axis of a panel; return the candidates' places on it.

        Those with the same category stand next to each other, within its place.
        """
        from matplotlib.ticker import LogLocator

        inches = _inches(ax)[0]
        if self.numbers is None:
            self.draw_ticks(ax, ax.xaxis, inches)
            ax.set_xlim(-0.6, len(self.texts) - 0.4)
            return self.codes + 0.3 * _beside(self.codes, shown)
        finite = np.unique(self.numbers[np.isfinite(self.numbers)])
        scale, options = _scale(finite)
        ax.set_xscale(scale, **options)
        transform = ax.xaxis.get_transform()
        places = np.full(len(self.numbers), np.nan)
        has_place = np.isfinite(self.numbers)
        places[has_place] = transform.transform(self.numbers[has_place])
        known = transform.transform(finite)
        gap = np.diff(known).min()
        extent = known[-1] - known[0]
        if len(finite) <= _MOST_TICKS:
            names = _with_room([_text(number) for number in finite], known, extent, inches)
            ax.set_xticks(finite, names)
            ax.set_xticks([], minor=True)
        elif scale == "log" and extent < 2.5:  # decades, of which each has one tick otherwise
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            ax.xaxis.set_major_formatter(lambda number, _: _text(number))
            ax.set_xticks([], minor=True)
        elif scale == "linear":
            ax.locator_params(axis="x", nbins=max(2, int(2 * inches)))
        margin = max(0.05 * extent, 0.45 * min(gap, extent / 3) * (len(finite) <= _MOST_TICKS))
        limits = np.array([known[0] - margin, known[-1] + margin])
        ax.set_xlim(*transform.inverted().transform(limits))
        places[has_place] = transform.inverted().transform(places[has_place])
        return places


def _varying(candidates: list[dict[str, Any]]) -> list[_Parameter]:
    """Return the parameters that have several values, in the order of the candidates'."""
    names = list(dict.fromkeys(name for candidate in candidates for name in candidate))
    found = {}
    for name in names:
        values = [candidate.get(name, _NOT_SET) for candidate in candidates]
        codes, distinct = _grouped(values)
        if len(distinct) > 1:
            found[name] = values, codes, distinct
    ends = Counter(name.rsplit("__", 1)[-1] for name in found)
    parameters = []
    for name, (values, codes, distinct) in found.items():
        end = name.rsplit("__", 1)[-1]
        label = end if ends[end] == 1 else name
        n_numbers = sum(map(_is_number, distinct))
        numbers = None
        if n_numbers == len(distinct) or n_numbers > _MOST_NUMBERS:
            numbers = np.array([float(v) if _is_number(v) else np.nan for v in values])
            n_others = np.count_nonzero(np.isnan(numbers))
            label += f" ({n_others} are no numbers)" if n_others else ""
        parameters.append(_Parameter(name, label, codes, _texts(distinct), numbers))
    return parameters


def _single(n_candidates: int) -> _Parameter:
    """Return the axis of a search in which nothing varies."""
    numbers = np.arange(n_candidates)
    return _Parameter("candidate", "candidate", numbers, [str(i) for i in numbers])


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _grouped(values: list[Any]) -> tuple[NDArray, list[Any]]:
    """Return indices into the distinct values, and these: numbers in order, then others."""
    groups: dict[Any, Any] = {}
    keys = []
    for value in values:
        key = ("", float(value)) if _is_number(value) else (type(value).__name__, repr(value))
        groups.setdefault(key, value)
        keys.append(key)
    numbers = sorted(key for key in groups if not key[0])
    others = [key for key in groups if key[0]]
    try:  # sizes of layers; the order of words may mean something
        if all(isinstance(groups[key], tuple) for key in others):
            others.sort(key=groups.__getitem__)
    except TypeError:
        pass
    order = {key: i for i, key in enumerate(numbers + others)}
    return np.array([order[key] for key in keys]), [groups[key] for key in order]


def _text(value: Any) -> str:
    """Return a value as readable text."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple | list):
        inside = ", ".join(map(_text, value)) + "," * (isinstance(value, tuple) and len(value) == 1)
        return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e7 else f"{value:.4g}"
    if isinstance(value, str):
        return " ".join(value.split()) or "''"
    if callable(value) and isinstance(getattr(value, "__name__", None), str):
        return value.__name__
    text = repr(value)  # of objects without a text of their own, the address
    return type(value).__name__ if " at 0x" in text else " ".join(text.split())


def _texts(values: list[Any]) -> list[str]:
    """Return the values as short texts that differ."""
    short = [short_label(_text(value), _LONGEST_VALUE) for value in values]
    seen: Counter[str] = Counter()
    texts = []
    for text in short:
        seen[text] += 1
        texts.append(f"{text} #{seen[text]}" if seen[text] > 1 else text)
    return texts


def _plain(text: str) -> str:
    """Return the text so that matplotlib does not read it as a formula."""
    return text.replace("$", r"\$")


def _score_text(score: float) -> str:
    if score == 0 or 1e-3 <= abs(score) < 1000:
        return f"{score:.3f}"
    return f"{score:.0f}" if 1000 <= abs(score) < 1e7 else f"{score:.3g}"


def _metrics(cv_results: Mapping[str, Any]) -> list[str]:
    """Return the names of the metrics of a search."""
    start = "mean_test_"
    metrics = [key.removeprefix(start) for key in cv_results if key.startswith(start)]
    if not metrics or "params" not in cv_results:
        raise ValueError(
            "cv_results must be the cv_results_ of a search, with 'params' and 'mean_test_score', "
            f"got the keys {sorted(cv_results)}."
        )
    return metrics


def _check_kind(kind: str) -> None:
    if kind not in _KINDS:
        raise ValueError(f"kind must be 'scores' or 'curves', got {kind!r}.")


def _is_full_grid(parameters: list[_Parameter]) -> bool:
    """Return whether these are two parameters, of which each combination occurs once."""
    if len(parameters) != 2:
        return False
    first, second = parameters
    n_cells = len(first.texts) * len(second.texts)
    pairs = set(zip(first.codes.tolist(), second.codes.tolist(), strict=True))
    return len(pairs) == n_cells == len(first.codes)


def _inches(ax: Any) -> tuple[float, float]:
    """Return width and height of an Axes, about what its layout will give it."""
    box = ax.get_window_extent()
    return box.width / ax.figure.dpi, box.height / ax.figure.dpi


def _panel_grid(n: int) -> tuple[int, int]:
    """Return the number of columns and rows of panels."""
    n_columns = n if n <= 3 else 2 if n == 4 else 3 if n <= 9 else 4
    return n_columns, -(-n // n_columns)


def _floor(scores: NDArray) -> float | None:
    """Return the lowest score to be drawn in its place, if others are far below."""
    scores = scores[np.isfinite(scores)]
    highest = scores.max(initial=-np.inf)
    usual = highest - np.percentile(scores, 25) if len(scores) else 0
    far = usual > 0 and highest - scores.min() > _FAR * usual
    return float(highest - _FAR / 2 * usual) if far else None


def _scale(numbers: NDArray) -> tuple[str, dict[str, Any]]:
    """Return the scale of an axis for distinct numbers in order, and its options.

    It is logarithmic if the numbers span a decade and are spread more evenly on that scale.
    """
    positive = numbers[numbers > 0]
    if numbers[0] < 0 or len(positive) < 2 or positive[-1] < 10 * positive[0]:
        return "linear", {}
    middle = positive[(len(positive) - 1) // 2]
    geometric, arithmetic = math.sqrt(positive[0] * positive[-1]), positive[[0, -1]].mean()
    if middle > math.sqrt(geometric * arithmetic):
        return "linear", {}
    if len(positive) == len(numbers):
        return "log", {}
    return "symlog", {"linthresh": positive[0]}


def _with_room(names: list[str], places: NDArray, extent: float, inches: float) -> list[str]:
    """Return the names, those without room next to the one before as empty texts."""
    end = -np.inf
    kept = []
    for name, place in zip(names, places / (1.1 * extent) * inches, strict=True):
        half = CHARACTER * _SMALL * (len(name) + 1) / 2
        kept.append(name if place - half >= end else "")
        end = place + half if place - half >= end else end
    return kept


def _beside(codes: NDArray, shown: NDArray) -> NDArray:
    """Return places from -1 to 1 for candidates that share a value, 0 for single ones."""
    places = np.zeros(len(codes))
    for code in np.unique(codes[shown]):
        group = np.flatnonzero((codes == code) & shown)
        if len(group) > 1:
            places[group] = np.linspace(-1, 1, len(group)) * min(1, len(group) / 6)
    return places


def _mean_curve(curves: list[NDArray]) -> NDArray:
    """Return the mean per epoch, in which curves that have ended count with their last value."""
    n_epochs = max(map(len, curves), default=0)
    padded = np.array([np.pad(curve, (0, n_epochs - len(curve)), "edge") for curve in curves])
    known = ~np.isnan(padded)
    if not n_epochs:
        return np.empty(0)
    counts = known.sum(axis=0)
    sums = np.where(known, padded, 0).sum(axis=0)
    return np.divide(sums, counts, out=np.full(n_epochs, np.nan), where=counts > 0)


def _star(line: Any, label: str, x: Any = (), y: Any = ()) -> Any:
    """Return the mark of the best candidate."""
    style = {"markersize": 13, "markerfacecolor": _BEST, "markeredgecolor": "white"}
    return line(x, y, marker="*", linestyle="", label=label, zorder=10, **style)


def _legend(ax: Any, handles: list[Any], notes: list[str], **place: Any) -> None:
    """Draw the legend, below the notes."""
    if handles or notes:
        legend = ax.legend(handles=handles, title="\n".join(notes), frameon=False, **place)
        legend.get_title().set_fontsize(9)
