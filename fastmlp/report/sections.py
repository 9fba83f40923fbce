"""The sections of the page, as HTML."""

import inspect
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.metrics import roc_curve
from sklearn.pipeline import Pipeline

from fastmlp.report.analysis import (
    CONFIDENT,
    Classification,
    Curves,
    Importance,
    Metric,
    Regression,
    calibration,
    take_rows,
)
from fastmlp.report.figures import Plot, bar_chart, data_uri, legend, thinned
from fastmlp.report.markup import Child, Markup, element, scrolling, table
from fastmlp.report.rows import Pictures, cell_text, shortened

__all__ = [
    "Section",
    "class_means_section",
    "confusion_section",
    "curves_section",
    "data_section",
    "errors_section",
    "importance_section",
    "mistakes_section",
    "parameters_section",
    "regression_section",
    "summary_section",
    "training_section",
    "versions_section",
]

_MOST_CELLS = 25  # classes up to which the confusion matrix is a table
_MOST_PAIRS = 24
_MOST_CURVES = 30
_COLOURS = 5  # line styles in the style sheet
_MOST_POINTS = 3000
_MOST_BARS = 20
_MOST_COLUMNS = 100
_MOST_MEANS = 40
_MOST_OUTPUTS = 6  # that are drawn
_LONGEST_NAME = 14


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    name: str  # the anchor of links
    title: str
    content: Sequence[Child]

    def markup(self) -> Markup:
        """Return the section."""
        return element("section", element("h2", self.title), self.content, id=self.name)


def _note(text: str) -> Markup:
    return element("p", text, class_="note")


def _number(value: float | None, pattern: str = ".4f") -> Child:
    """Return a formatted number with its full value as a tooltip."""
    if value is None or np.isnan(value):
        return "–"
    text = f"{value:{pattern}}".replace("-", "\N{MINUS SIGN}")
    return element("data", text, value=repr(float(value)))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}".replace(
        ",", "\N{NARROW NO-BREAK SPACE}"
    )


def _figure(plot: Plot, title: str, *below: Child) -> Markup:
    return element("figure", element("h3", title), plot.svg(), below)


def _limits(*values: Any) -> tuple[float, float]:
    """Return the minimum and maximum of all finite numbers."""
    joined = np.concatenate([np.ravel(np.asarray(v, np.float64)) for v in values])
    joined = joined[np.isfinite(joined)]
    return (float(joined.min()), float(joined.max())) if len(joined) else (0.0, 1.0)


def _padded(low: float, high: float) -> tuple[float, float]:
    """Return limits with a margin."""
    room = 0.04 * (high - low)
    return low - room, high + room


# -------------------------------------------------------------------------------- summary and data


def summary_section(result: Classification | Regression) -> Section:
    """Return the scores and those of a baseline."""
    content: list[Child] = []
    if isinstance(result, Classification):
        content.append(_scores(result.metrics, "Scores"))
        baseline = "predicts the most frequent class, and the frequencies as probabilities"
        content.extend(_notices(result))
    else:
        for name, metrics in zip(result.names, result.metrics, strict=True):
            if len(result.names) > 1:
                content.append(element("h3", name))
            content.append(_scores(metrics, f"Scores {name}"))
        baseline = "predicts the mean target"
        content.append(_note("MAE and RMSE are in the units of the target."))
    origin = "training rows" if result.train is not None else "held-out rows themselves"
    content.append(
        _note(
            f"On {_count(len(result.true), 'held-out row')}. The baseline {baseline}, of the "
            f"{origin}."
        )
    )
    return Section("scores", "Scores", content)


def _scores(metrics: Iterable[Metric], label: str) -> Markup:
    rows = [
        [
            [
                metric.name,
                element("small", "higher" if metric.higher_is_better else "lower", " is better"),
            ],
            _number(metric.model, _pattern(metric)),
            _number(metric.baseline, _pattern(metric)),
        ]
        for metric in metrics
    ]
    return table(["", "model", "baseline"], rows, label=label, class_="numbers headline")


def _pattern(metric: Metric) -> str:
    """Return a number format; values in the units of a target have any magnitude."""
    return ".5g" if metric.name in ("MAE", "RMSE") else ".4f"


def _notices(result: Classification) -> Iterable[Child]:
    """Return notices on limitations of the scores."""
    counts = np.bincount(result.true, minlength=len(result.classes))
    n_unknown = int(counts[result.n_known :].sum())
    if n_unknown:
        names = _enumerated(
            result.classes[k] for k in range(result.n_known, len(counts)) if counts[k]
        )
        yield element(
            "p",
            f"{_count(n_unknown, 'row')} of a class that the model does not know ({names}) count "
            "as mistakes; log loss, ROC and calibration exclude them.",
            class_="notice",
        )
    absent = [result.classes[k] for k in range(result.n_known) if not counts[k]]
    if absent:
        yield element(
            "p",
            f"No held-out row is of class {_enumerated(absent)}: balanced accuracy and ROC AUC are "
            "means over the other classes.",
            class_="notice",
        )


def _enumerated(labels: Iterable[Any], most: int = 10) -> str:
    names = [shortened(str(label), _LONGEST_NAME) for label in labels]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def data_section(
    about: Mapping[str, str],
    result: Classification | Regression,
    X: Any,
    X_train: Any,
    frame: Any,
    image_shape: tuple[int, int] | None,
) -> Section:
    """Return the section on the data."""
    facts: list[tuple[Child, Child]] = [(str(name), str(text)) for name, text in about.items()]
    facts.append(("held-out rows", str(len(result.true))))
    if result.train is not None:
        facts.append(("training rows", str(len(result.train))))
    form = f"{X.shape[1]}, {_form(X)}"
    if image_shape is not None:
        form += f", images of {image_shape[0]} x {image_shape[1]}"
    facts.append(("features", form))
    if isinstance(result, Classification):
        facts.append(
            ("classes", f"{result.n_known}: {_enumerated(result.classes[: result.n_known])}")
        )
    else:
        facts.extend(
            (
                name or "target",
                f"from {cell_text(y.min())} to {cell_text(y.max())}, mean {cell_text(y.mean())}, "
                f"standard deviation {cell_text(y.std())}",
            )
            for name, y in zip(result.names, result.true.T, strict=True)
        )
    content: list[Child] = [table([], facts, label="The data", class_="about")]
    if frame is not None:
        content.append(_columns(frame))
    return Section("data", "Data", content)


def _form(X: Any) -> str:
    if issparse(X):
        share = X.nnz / max(1, X.shape[0] * X.shape[1])
        return f"sparse {X.dtype}, {share:.2%} filled"
    return "columns of a table" if hasattr(X, "iloc") else f"{X.dtype}"


def _columns(frame: Any) -> Markup:
    """Return the columns of a frame with their values."""
    rows: list[list[Child]] = []
    for i, name in enumerate(frame.columns[:_MOST_COLUMNS]):
        column = frame.iloc[:, i]
        present = column[~column.isna()]
        try:
            distinct = present.nunique()
        except TypeError:  # lists and similar, which are not hashable
            distinct = present.map(str).nunique()
        example = ""
        if column.dtype.kind in "iuf" and len(present):
            example = f"{cell_text(present.min())} to {cell_text(present.max())}"
        elif len(present):
            example = ", ".join(dict.fromkeys(shortened(str(v), 20) for v in present.iloc[:20]))
            example = shortened(example, 60)
        rows.append(
            [
                shortened(str(name), 40),
                str(column.dtype),
                str(len(column) - len(present)),
                str(distinct),
                example,
            ]
        )
    head = ["column", "type", "missing", "distinct", "values"]
    more = len(frame.columns) - len(rows)
    return element(
        "details",
        element("summary", f"The {_count(len(frame.columns), 'column')} of the held-out rows"),
        table(head, rows, label="Columns"),
        _note(f"and {more} more") if more > 0 else None,
    )


# ----------------------------------------------------------------------------------------- training


def training_section(
    curves: Sequence[Curves | None], score_name: str, val_name: str = "validation"
) -> Section:
    """Return loss and validation curves; those of several networks are overlaid."""
    known = [c for c in curves if c is not None]
    if not known:
        text = "The model has no loss curve (scikit-learn's lbfgs stores none)."
        return Section("training", "Training", [_note(text)])
    first = known[0]
    n_epochs = max(len(c.loss) for c in known)
    figures = [
        _curve_figure(
            "Loss",
            "loss",
            [(c.loss, c.val_loss, c.kept_epoch) for c in known],
            n_epochs,
            val_name,
        )
    ]
    if any(c.val_score is not None for c in known):
        figures.append(
            _curve_figure(
                f"{val_name.capitalize()} {score_name}",
                score_name,
                [(None, c.val_score, c.kept_epoch) for c in known],
                n_epochs,
                val_name,
            )
        )
    words = [_count(len(first.loss), "epoch")]
    if first.seconds is not None:
        words.append(f"{first.seconds:.3g} seconds")
    words.append(f"last loss {first.loss[-1]:.5g}")
    text = ", ".join(words) + "."
    if len(known) > 1:
        text = f"{len(known)} networks; of the first: {text}"
    if first.kept_epoch is not None:
        text += f" Early stopping has kept the weights of epoch {first.kept_epoch}."
    elif first.val_score is not None:
        best = int(np.nanargmax(first.val_score)) + 1
        text += (
            f" The best {val_name} {score_name} was that of epoch {best}; the weights are those of "
            "the last epoch."
        )
    elif first.val_loss is None:
        text += " No validation data were used."
    return Section("training", "Training", [_note(text), element("div", figures, class_="charts")])


def _curve_figure(
    title: str,
    y_label: str,
    curves: Sequence[tuple[NDArray | None, NDArray | None, int | None]],
    n_epochs: int,
    val_name: str,
) -> Markup:
    values = [part for training, validation, _ in curves for part in (training, validation)]
    kept = {epoch for *_, epoch in curves if epoch is not None}
    plot = Plot(
        (1, n_epochs),
        _padded(*_limits(*(v for v in values if v is not None))),
        "epoch",
        y_label,
        f"{title} per epoch",
        whole_x=True,
    )
    entries: dict[tuple[str, str], None] = {}
    for training, validation, _ in curves:
        for y, name, class_ in (
            (training, "training", "s0"),
            (validation, val_name, "s1 dashed"),
        ):
            if y is not None:
                epochs = np.arange(1, len(y) + 1, dtype=np.float64)
                plot.line(*thinned(epochs, y, 400), class_)
                if len(y) == 1:
                    plot.points(epochs, y, f"{class_} big")
                entries[(class_, name)] = None
    for epoch in sorted(kept)[:1] if len(kept) == 1 else []:
        falls = y_label == "loss"  # then there is space above
        plot.mark_x(epoch, f"kept: epoch {epoch}", at_top=falls)
    return _figure(plot, title, legend(entries))


# ----------------------------------------------------------------------------------- classification


def confusion_section(result: Classification, pairs: set[tuple[int, int]]) -> Section:
    """Return the confusion matrix, the most confused pairs, and the scores of the classes.

    `pairs` are those with mistakes on the page.
    """
    n_classes = len(result.classes)
    matrix = _matrix(result, pairs) if n_classes <= _MOST_CELLS else _heat_map(result)
    content: list[Child] = []
    if n_classes <= _MOST_CELLS:
        content.append(
            element(
                "div",
                _radio("as-counts", "counts", is_checked=True),
                _radio("as-rates", "percent of the true class", is_checked=False),
                class_="switch",
            )
        )
    confused = element("div", element("h3", "Most confused"), _most_confused(result, pairs))
    content += [element("div", matrix, confused, class_="matrix-box"), _class_table(result)]
    return Section("confusion", "Confusion matrix", content)


def _radio(name: str, text: str, *, is_checked: bool) -> Markup:
    field = element("input", type="radio", name="as", id=name, checked=is_checked)
    return element("label", field, " ", text)


def _link(
    true: int, predicted: int, title: str, *children: Child, pairs: set[tuple[int, int]]
) -> Markup:
    """Return a link to the mistakes of a pair, if they are on the page."""
    if (true, predicted) not in pairs:
        return element("span", children, title=title)
    return element(
        "a", children, href="#mistakes", data_true=true, data_predicted=predicted, title=title
    )


def _matrix(result: Classification, pairs: set[tuple[int, int]]) -> Markup:
    counts = result.matrix[:, : result.n_known]
    sizes = np.maximum(result.matrix.sum(axis=1, keepdims=True), 1)
    shares = counts / sizes
    is_wrong = np.not_equal.outer(*map(np.arange, counts.shape))
    most_count = counts[is_wrong].max(initial=0) or 1
    most_share = shares[is_wrong].max(initial=0) or 1
    names = [str(label) for label in result.classes]
    short = [shortened(name, _LONGEST_NAME) for name in names]
    turned = "turned" if max(map(len, short[: result.n_known])) > 3 else None
    head = [
        element("td", element("span", "true ↓"), element("span", "predicted →"), class_="corner")
    ]
    head += [
        element("th", element("span", short[j]), scope="col", title=names[j], class_=turned)
        for j in range(result.n_known)
    ]
    body = []
    for i, row in enumerate(counts):
        cells = []
        for j, count in enumerate(row.tolist()):
            if not count:
                cells.append(element("td"))
                continue
            percent = f"{100 * shares[i, j]:.0f}" if shares[i, j] >= 0.005 else "<1"
            title = f"{names[i]} predicted as {names[j]}: {count}, {shares[i, j]:.2%}"
            texts = [element("span", str(count), class_="count")]
            texts += [element("span", percent, class_="rate")]
            weights = f"--count:{count / most_count:.3f};--share:{shares[i, j] / most_share:.3f}"
            cells.append(
                element(
                    "td",
                    _link(i, j, title, *texts, pairs=pairs),
                    class_="right" if i == j else None,
                    style=None if i == j else weights,
                )
            )
        body.append(element("tr", element("th", short[i], scope="row", title=names[i]), cells))
    return scrolling(
        element(
            "table", element("thead", element("tr", head)), element("tbody", body), class_="matrix"
        ),
        "Confusion matrix",
    )


def _heat_map(result: Classification) -> Markup:
    """Return the matrix of many classes as an image; larger shares are darker."""
    shares = result.matrix / np.maximum(result.matrix.sum(axis=1, keepdims=True), 1)
    n_classes = len(shares)
    is_right = np.eye(n_classes, dtype=bool)
    largest = shares[~is_right].max(initial=0) or 1
    pixels = np.zeros((n_classes, n_classes, 4), np.uint8)
    pixels[..., :3] = (228, 87, 46)
    pixels[..., 3] = np.round(
        255 * np.sqrt(shares / largest).clip(0, 1)
    )  # so that small ones are visible
    pixels[is_right, :3] = 128
    pixels[is_right, 3] = 90
    picture = element(
        "img",
        src=data_uri(pixels),
        alt="Confusion matrix as an image",
        class_="heat",
        width=n_classes,
        height=n_classes,
    )
    return element(
        "figure",
        picture,
        element(
            "figcaption",
            "Rows are true classes, columns predicted ones, in the order of the table below. The "
            f"stronger the color, the larger the share of the true class, up to {largest:.0%}.",
        ),
    )


def _most_confused(result: Classification, pairs: set[tuple[int, int]]) -> Markup:
    wrong = result.matrix * ~np.eye(len(result.matrix), dtype=bool)
    rows, columns = np.nonzero(wrong)
    order = np.argsort(-wrong[rows, columns], kind="stable")[:_MOST_PAIRS]
    if not len(order):
        return element("p", "No mistakes.")
    names = [shortened(str(label), 30) for label in result.classes]
    entries = []
    for i, j in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        text = f"{names[i]} → {names[j]}"
        title = f"Mistakes: {names[i]} predicted as {names[j]}"
        entries.append(element("li", _link(i, j, title, text, pairs=pairs), f" {wrong[i, j]}"))
    return element("ul", entries, class_="pairs")


def _class_table(result: Classification) -> Markup:
    sizes = result.matrix.sum(axis=1)
    recalls, precisions = result.recalls(), result.precisions()
    train = None
    if result.train is not None:
        train = np.bincount(result.train, minlength=len(sizes))
    head: list[Child] = ["class", "held-out rows", "recall", "precision", "ROC AUC"]
    if train is not None:
        head.insert(1, "training rows")
    rows: list[list[Child]] = []
    for k, label in enumerate(result.classes):
        area = result.areas[k] if k < result.n_known else None
        row = [
            shortened(str(label), 30),
            str(sizes[k]),
            _number(recalls[k], ".3f"),
            _number(precisions[k], ".3f"),
            _number(area, ".3f"),
        ]
        if train is not None:
            row.insert(1, str(train[k]))
        rows.append(row)
    return element(
        "div",
        element("h3", "Classes"),
        table(head, rows, label="Scores of the classes", tall=True, class_="numbers"),
    )


def curves_section(result: Classification) -> Section:
    """Return ROC curves and the calibration curve."""
    figures = [part for part in (_roc(result), _calibration(result)) if part is not None]
    return Section("curves", "ROC and calibration", [element("div", figures, class_="charts")])


def _roc(result: Classification) -> Markup | None:
    rows = result.is_known
    drawn = np.flatnonzero(~np.isnan(result.areas))
    if not len(drawn):
        return element("figure", _note("ROC curves need held-out rows of at least two classes."))
    if result.n_known == 2:
        drawn = drawn[-1:]  # the other one is its mirror image
    drawn = drawn[np.argsort(result.areas[drawn], kind="stable")][:_MOST_CURVES]
    plot = Plot((0, 1), (0, 1), "false positive rate", "true positive rate", "ROC curves")
    plot.line([0, 1], [0, 1], "faint dashed")
    entries = []
    coloured = drawn if len(drawn) <= _COLOURS else drawn[:3]
    for k in drawn[::-1].tolist():  # the worst on top
        false, true, _ = roc_curve(result.true[rows] == k, result.probabilities[rows, k])
        place = coloured.tolist().index(k) if k in coloured else None
        class_ = "faint" if place is None else f"s{place}"
        text = f"{shortened(str(result.classes[k]), 30)}: {result.areas[k]:.4f}"
        plot.line(*thinned(false, true, 200 if len(drawn) <= 10 else 60), class_, text)
        if place is not None:
            entries.append((class_, text))
    if result.n_known == 2:
        title = f"ROC curve of class {shortened(str(result.classes[drawn[0]]), 30)}"
        below = "The area under the curve is next to its class."
    else:
        title = "ROC curves, each class against all others"
        below = "The area under the curve is next to each class."
    if len(coloured) < len(drawn):
        below += f" The three smallest are in color, {len(drawn) - 3} others in gray."
    if len(drawn) == _MOST_CURVES < np.isfinite(result.areas).sum():
        below += " All areas are in the table of the classes."
    return _figure(plot, title, legend(reversed(entries)), element("figcaption", below))


def _calibration(result: Classification) -> Markup:
    rows = result.is_known
    if result.n_known == 2:
        name = shortened(str(result.classes[1]), 30)
        x_label, y_label = "predicted probability", "frequency"
        probability, happened = result.probabilities[rows, 1], result.true[rows] == 1
        what = f"Predicted probability of class {name}, against the frequency of that class."
    else:
        x_label, y_label = "confidence", "accuracy"
        probability = result.confidence[rows]
        happened = result.predicted[rows] == result.true[rows]
        what = "Probability of the predicted class, against the frequency of correct predictions."
    predicted, observed, counts = calibration(probability, happened)
    plot = Plot((0, 1), (0, 1), x_label, y_label, "Calibration")
    titles = [f"{_count(int(count), 'row')}" for count in counts]
    plot.bars(
        np.linspace(0, 1, len(counts) + 1), 0.3 * counts / max(1, counts.max()), "faint", titles
    )
    plot.line([0, 1], [0, 1], "faint dashed")
    present = counts > 0
    plot.line(predicted[present], observed[present], "s0")
    plot.points(predicted[present], observed[present], "s0 big")
    error = float(np.sum(counts[present] * np.abs(predicted - observed)[present]) / counts.sum())
    caption = element(
        "figcaption",
        what,
        " Bars are numbers of rows. Probabilities and frequencies differ by ",
        _number(error),
        " on average (expected calibration error).",
    )
    return _figure(plot, "Calibration", caption)


# --------------------------------------------------------------------------------------- regression


def regression_section(result: Regression, random: np.random.RandomState) -> Section:
    """Return predicted against true targets, and residuals."""
    n_samples, n_outputs = result.true.shape
    rows = np.arange(n_samples)
    content: list[Child] = []
    if n_samples > _MOST_POINTS:
        rows = np.sort(random.choice(n_samples, _MOST_POINTS, replace=False))
        content.append(_note(f"Shown are {_MOST_POINTS} random rows."))
    for k in range(min(n_outputs, _MOST_OUTPUTS)):
        true, predicted = result.true[:, k], result.predicted[:, k]
        name = result.names[k]
        if n_outputs > 1:
            content.append(element("h3", name))
        both = _limits(true, predicted)
        against = Plot(
            _padded(*both), _padded(*both), "true", "predicted", f"Predicted against true {name}"
        )
        against.line(both, both, "faint dashed")
        against.points(true[rows], predicted[rows], "s0")
        residuals = true - predicted
        low, high = _padded(*_limits(residuals, [0]))
        spread = Plot(
            _padded(*_limits(predicted)),
            (low, high),
            "predicted",
            "true − predicted",
            f"Residuals {name}",
        )
        spread.line(_limits(predicted), (0, 0), "faint dashed")
        spread.points(predicted[rows], residuals[rows], "s0")
        counts, edges = np.histogram(residuals, bins=min(30, max(5, int(n_samples**0.5))))
        bars = Plot(
            _limits(edges), (0, counts.max()), "true − predicted", "rows", f"Histogram {name}"
        )
        titles = [
            f"{_count(int(n), 'row')} from {cell_text(a)} to {cell_text(b)}"
            for n, a, b in zip(counts, edges[:-1], edges[1:], strict=True)
        ]
        bars.bars(edges, counts, "s0", titles)
        figures = [
            _figure(against, "Predicted against true"),
            _figure(spread, "Residuals"),
            _figure(bars, "Distribution of the residuals"),
        ]
        content.append(element("div", figures, class_="charts"))
    if n_outputs > _MOST_OUTPUTS:
        content.append(_note(f"Shown are the first {_MOST_OUTPUTS} of {n_outputs} outputs."))
    return Section("predictions", "Predicted against true", content)


# ----------------------------------------------------------------------------------------- features


def importance_section(found: Importance | str, names: Sequence[str], score_name: str) -> Section:
    """Return the permutation importance of the features."""
    title = "Permutation importance"
    if isinstance(found, str):
        return Section("importance", title, [_note(found)])
    order = np.argsort(-found.means, kind="stable")[:_MOST_BARS]
    text = (
        f"Decrease of the {score_name} when the values of a feature are permuted among "
        f"{_count(found.n_rows, 'held-out row')}: mean ± standard deviation of "
        f"{_count(found.n_repeats, 'repetition')}. Of correlated features, none may seem "
        "important."
    )
    if len(names) > len(order):
        text += f" The first {len(order)} of {len(names)} features."
    chart = bar_chart(
        [shortened(names[i], 40) for i in order],
        found.means[order],
        found.deviations[order],
        head=("feature", f"decrease of the {score_name}"),
        description=title,
    )
    return Section("importance", title, [_note(text), chart])


def class_means_section(
    result: Classification, X: Any, classes: NDArray, pictures: Pictures, *, is_training: bool
) -> Section:
    """Return the mean image of each class."""
    shown = []
    present = np.unique(classes)
    for k in present[:_MOST_MEANS].tolist():
        mean = np.asarray(take_rows(X, np.flatnonzero(classes == k)).mean(axis=0)).reshape(1, -1)
        name = shortened(str(result.classes[k]), 30)
        shown.append(
            element("figure", pictures(mean, f"mean of class {name}"), element("figcaption", name))
        )
    text = f"The mean of all {'training' if is_training else 'held-out'} rows of a class"
    if len(present) > _MOST_MEANS:
        text += f", of the first {_MOST_MEANS} of {len(present)} classes"
    return Section(
        "means", "Mean images", [_note(f"{text}."), element("div", shown, class_="gallery")]
    )


# ----------------------------------------------------------------------------------------- mistakes


def mistakes_section(
    result: Classification,
    cards: Sequence[Markup],
    pairs: set[tuple[int, int]],
    n_suspected: int,
    about_neighbours: str,
    *,
    wide: bool,
) -> Section:
    """Return the mistakes of a classifier, with their filter."""
    n_mistakes = int((result.predicted != result.true).sum())
    if not n_mistakes:
        return Section("mistakes", "Mistakes", [element("p", "There are no mistakes.")])
    text = f"{_count(n_mistakes, 'mistake')}, the most confident first."
    if len(cards) < n_mistakes:
        text += (
            f" {len(cards)} of them are on this page: a few of each pair of classes, suspected "
            "labels, then the most confident."
        )
    rule = (
        f"Suspected label errors ({n_suspected}): the model predicts another class than the label, "
        f"with a probability of at least {CONFIDENT:.0%}, and at least the average probability of "
        "that class on the held-out rows labeled so. Check them: most may be mistakes of the model."
    )
    options = [
        _select("true", "True class", result, sorted({i for i, _ in pairs})),
        _select("predicted", "Predicted class", result, sorted({j for _, j in pairs})),
        _check("suspected", "only suspected label errors"),
    ]
    return _explorer("Mistakes", [text, rule, about_neighbours], options, cards, wide=wide)


def errors_section(result: Regression, cards: Sequence[Markup], about_neighbours: str) -> Section:
    """Return the largest errors of a regressor, with their filter."""
    text = f"The {len(cards)} largest of {_count(len(result.true), 'error')}."
    if len(result.names) > 1:
        text += (
            " For several outputs, the error that is largest in standard deviations of its target."
        )
    choices = [("", "any"), ("high", "too high"), ("low", "too low")]
    options = [_choice("direction", "Predicted", choices)]
    return _explorer("Largest errors", [text, about_neighbours], options, cards, wide=True)


def _explorer(
    title: str, texts: Iterable[str], options: list[Markup], cards: Sequence[Markup], *, wide: bool
) -> Section:
    if any("<details>" in card for card in cards):
        options.append(_check("near", "open all"))
    options.append(element("button", "Reset", type="reset"))
    content = [
        *(_note(text) for text in texts if text),
        element("form", options, id="filter", hidden=True, aria_label="Which mistakes are shown"),
        element("p", id="shown", aria_live="polite", class_="note"),
        element("div", cards, class_="mistakes wide" if wide else "mistakes"),
        element("p", element("button", "Show more", id="more", type="button", hidden=True)),
    ]
    return Section("mistakes", title, content)


def _select(name: str, text: str, result: Classification, numbers: Iterable[int]) -> Markup:
    choices = [("", "any")]
    choices += [(str(k), shortened(str(result.classes[k]), 30)) for k in numbers]
    return _choice(name, text, choices)


def _choice(name: str, text: str, choices: Iterable[tuple[str, str]]) -> Markup:
    options = [element("option", label, value=value) for value, label in choices]
    return element("label", text, element("select", options, name=name))


def _check(name: str, text: str) -> Markup:
    return element("label", element("input", type="checkbox", name=name), " ", text)


# ------------------------------------------------------------------------- parameters and versions


def parameters_section(model: Any, networks: Sequence[Any]) -> Section:
    """Return the parameters of the network, non-default ones first."""
    network = networks[0]
    sizes = [network.coefs_[0].shape[0], *(len(b) for b in network.intercepts_)]
    n_parameters = sum(
        w.size + b.size for w, b in zip(network.coefs_, network.intercepts_, strict=True)
    )
    text = (
        f"{' – '.join(map(str, sizes))} units, {_count(n_parameters, 'weight')} and biases, "
        f"{network.activation}, output {network.out_activation_}."
    )
    if len(networks) > 1:
        text = f"{len(networks)} networks; of the first: {text}"
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(type(network).__init__).parameters.items()
    }
    parameters = network.get_params(deep=False)
    is_changed = {name: repr(parameters[name]) != repr(defaults.get(name)) for name in parameters}
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            element("td", shortened(repr(parameters[name]), 200)),
            class_="changed" if is_changed[name] else None,
        )
        for name in sorted(parameters, key=lambda name: not is_changed[name])
    ]
    content: list[Child] = [_note(text)]
    if network is not model:
        content.append(_steps(model))
    listed = element("table", element("tbody", rows), class_="about")
    content.append(
        element(
            "details",
            element("summary", f"Parameters of {type(network).__name__}"),
            scrolling(listed, "Parameters"),
            _note("Non-default values are bold."),
        )
    )
    return Section("parameters", "Parameters", content)


def _steps(model: Any) -> Markup:
    text = (
        repr(model)
        if not isinstance(model, Pipeline)
        else "\n".join(f"{name}: {step!r}" for name, step in model.steps)
    )
    return element("pre", shortened(text, 5000))


def versions_section() -> Section:
    """Return the versions of the libraries."""
    names = {"fastmlp": "fastmlp", "numpy": "NumPy", "scipy": "SciPy", "sklearn": "scikit-learn"}
    names |= {"pandas": "pandas"} if "pandas" in sys.modules else {}
    versions = [(text, str(sys.modules[name].__version__)) for name, text in names.items()]
    versions.insert(1, ("Python", platform.python_version()))
    versions.append(("system", f"{platform.system()} {platform.machine()}"))
    return Section("versions", "Versions", [table([], versions, label="Versions", class_="about")])
