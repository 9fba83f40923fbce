"""A self-contained HTML page about a fitted model: data, scores and mistakes.

`analysis` computes the numbers, `sections` and `explorer` render them, and `page.html`, `page.css`
and `page.js` are the template.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.utils import check_random_state

from fastmlp.report import explorer, sections
from fastmlp.report.analysis import (
    Classification,
    Importance,
    Regression,
    chosen_mistakes,
    column_names,
    importance,
    nearest_rows,
    networks,
    suspected_labels,
    take_rows,
    training_curves,
)
from fastmlp.report.markup import Markup, element
from fastmlp.report.rows import Cells, Pictures, cell_text, shortened
from fastmlp.report.sections import Section
from fastmlp.utils.files import AnyPath, atomic_write

__all__ = ["write_report"]

_MOST_MISTAKES = 300
_NEIGHBOURS = {True: 5, False: 3}  # for images, and for rows of a table


def write_report(
    path: AnyPath,
    model: Any,
    X: Any,
    y: Any,
    *,
    X_train: Any = None,
    y_train: Any = None,
    frame: Any = None,
    image_shape: tuple[int, int] | None = None,
    title: str | None = None,
    feature_names: Sequence[str] | None = None,
    data_about: Mapping[str, str] | None = None,
    val_name: str = "validation",
    random_state: int | np.random.RandomState | None = 0,
) -> Path:
    """Write an HTML page about a fitted model and its predictions on held-out rows.

    The page is self-contained: scores compared with a baseline, loss curves, the confusion matrix
    or predicted against true targets, ROC and calibration, permutation importance or the mean
    images of the classes, the mistakes with their nearest training rows and possibly wrong labels,
    parameters and versions. Its size is limited: some hundred mistakes, and neighbors among some
    thousand training rows.

    Parameters
    ----------
    path : path
        Written atomically; an existing file is replaced.
    model : MLPClassifier or MLPRegressor, or a pipeline that ends in one
        Fitted; fastmlp's or scikit-learn's. Or an ensemble of them.
    X : array-like, sparse matrix or DataFrame of shape (n_samples, n_features)
        Held-out rows, the input of `model.predict`.
    y : array-like of shape (n_samples,) or, for a regressor, (n_samples, n_outputs)
        Their labels or targets. Unknown labels count as mistakes.
    X_train, y_train : like X and y, optional
        The training rows, for the neighbors of mistakes; `y_train` is also used for the baseline,
        which otherwise uses `y`. `X_train` needs `y_train`.
    frame : DataFrame with n_samples rows, optional
        The held-out rows as shown to the user, if `X` is transformed. Its index names the rows. By
        default `X`, if that is a DataFrame.
    image_shape : (rows, columns), optional
        Shape of the images, if rows are images.
    title : str, optional
    feature_names : sequence of str, optional
        By default the columns of `X`, the model's `feature_names_in_`, or x0, x1, ...
    data_about : mapping of str to str, optional
        Facts about the data to show: names and texts.
    val_name : str, default="validation"
        Name of the data that the model was scored on after every epoch.
    random_state : int, RandomState or None, default=0
        For permutations and, if there are many rows, for subsampling.

    Returns
    -------
    Path
        The written file.

    Raises
    ------
    ValueError
        The model is not supported, or does not match the data.
    sklearn.exceptions.NotFittedError
    OSError
        The file cannot be written.

    Examples
    --------
    >>> from fastmlp import MLPClassifier
    >>> from fastmlp.datasets import load_digits
    >>> (X, y), (X_test, y_test) = load_digits()
    >>> model = MLPClassifier(input_scale=1 / 16, tol=1e-3, random_state=1).fit(X, y)
    >>> write_report(  # doctest: +SKIP
    ...     "report.html", model, X_test, y_test, X_train=X, y_train=y, image_shape=(8, 8)
    ... )
    """
    found = networks(model)
    X, X_train = _matrix(X, "X"), None if X_train is None else _matrix(X_train, "X_train")
    _check_rows(X, y, X_train, y_train, frame)
    names = column_names(X, model, feature_names)
    random = check_random_state(random_state)
    result = (Classification if is_classifier(model) else Regression)(model, X, y, y_train)
    pictures = None if image_shape is None else Pictures(X, image_shape)
    is_frame = hasattr(X, "iloc")
    known = X if frame is None and is_frame else frame

    score_name = "accuracy" if isinstance(result, Classification) else "R²"
    ranks: NDArray = np.arange(X.shape[1])
    feature_section = None
    if pictures is None:
        importances = importance(model, X, result, random)
        if isinstance(importances, Importance):
            ranks = np.argsort(-importances.means, kind="stable")
        feature_section = sections.importance_section(importances, names, score_name)
    elif isinstance(result, Classification):
        of_train = X_train is not None and result.train is not None
        feature_section = sections.class_means_section(
            result,
            X_train if of_train else X,
            result.train if result.train is not None and of_train else result.true,
            pictures,
            is_training=of_train,
        )
    view = explorer.RowView(
        names=_row_names(known, "row"),
        X=X,
        X_train=X_train,
        pictures=pictures,
        cells=Cells(X, names),
        train_cells=None if X_train is None else Cells(X_train, names),
        frame_cells=None if frame is None else Cells(frame, [str(c) for c in frame.columns]),
        order=ranks,
    )
    parts: list[Section | None] = [
        sections.summary_section(result),
        sections.data_section(data_about or {}, result, X, X_train, known, image_shape),
        sections.training_section(
            [training_curves(network) for network in found], score_name, val_name
        ),
    ]
    if isinstance(result, Classification):
        parts += _classification_parts(result, model, view, random, feature_section)
    else:
        parts += _regression_parts(result, model, view, random, feature_section)
    parts += [sections.parameters_section(model, found), sections.versions_section()]
    name = type(found[0]).__name__
    page = _page(title or f"Report on {name}", name, [part for part in parts if part is not None])
    with atomic_write(path) as file:
        # Text from data may contain unpaired surrogates, which cannot be encoded.
        file.write(page.encode("utf-8", "backslashreplace"))
    return Path(path)


# -------------------------------------------------------------------------------------------- input


def _matrix(X: Any, name: str) -> Any:
    """Return rows in a type that can be indexed."""
    if issparse(X):
        X = X.tocsr()
    elif not hasattr(X, "iloc"):
        X = np.asarray(X)
    if X.ndim != 2:
        raise ValueError(f"{name} must have shape (n_samples, n_features), got {X.shape}.")
    return X


def _check_rows(X: Any, y: Any, X_train: Any, y_train: Any, frame: Any) -> None:
    """Check that the arguments are consistent."""
    n_samples = X.shape[0]
    if not n_samples:
        raise ValueError("X must hold at least one row, got none.")
    if frame is not None and not hasattr(frame, "iloc"):
        raise ValueError(f"frame must be a pandas DataFrame, got {type(frame).__name__}.")
    if X_train is not None and y_train is None:
        raise ValueError("X_train needs y_train, to label the neighbors, got none.")
    parts = [("y", y, "X", n_samples), ("frame", frame, "X", n_samples)]
    if X_train is not None:
        if X_train.shape[1] != X.shape[1]:
            raise ValueError(
                f"X_train must have the {X.shape[1]} features of X, got {X_train.shape[1]}."
            )
        parts.append(("y_train", y_train, "X_train", X_train.shape[0]))
    for name, rows, other, expected in parts:
        got = expected if rows is None else rows.shape[0] if hasattr(rows, "shape") else len(rows)
        if got != expected:
            raise ValueError(
                f"{name} must have a row for each of the {expected} of {other}, got {got}."
            )


def _row_names(frame: Any, noun: str) -> Callable[[int], str]:
    """Return the name of a row: from the index of a frame, or its number from 0."""
    index = getattr(frame, "index", None)
    if index is None:
        return lambda row: f"{noun} {row}"
    return lambda row: f"{noun} {shortened(str(index[row]), 30)}"


# --------------------------------------------------------------------------------------- the parts


def _classification_parts(
    result: Classification,
    model: Any,
    view: explorer.RowView,
    random: np.random.RandomState,
    features: Section | None,
) -> list[Section | None]:
    """Return the sections of a classifier, including that on features."""
    is_suspected = suspected_labels(result)
    rows = chosen_mistakes(result, is_suspected, _MOST_MISTAKES)
    neighbours, about = None, ""
    if len(rows) and view.X_train is not None and result.train is not None:
        train = result.train
        neighbours, about = _neighbours(
            model, view, rows, random, lambda row: shortened(str(result.classes[train[row]]), 14)
        )
    cards = explorer.class_cards(result, rows, is_suspected, view, neighbours)
    rows = rows[: len(cards)]
    pairs = set(zip(result.true[rows].tolist(), result.predicted[rows].tolist(), strict=True))
    return [
        sections.confusion_section(result, pairs),
        sections.curves_section(result),
        features,
        sections.mistakes_section(
            result, cards, pairs, int(is_suspected.sum()), about, wide=view.pictures is None
        ),
    ]


def _regression_parts(
    result: Regression,
    model: Any,
    view: explorer.RowView,
    random: np.random.RandomState,
    features: Section | None,
) -> list[Section | None]:
    """Return the sections of a regressor, including that on features."""
    rows = result.order[:_MOST_MISTAKES]
    neighbours, about = None, ""
    if view.X_train is not None and result.train is not None:
        train = result.train
        neighbours, about = _neighbours(
            model, view, rows, random, lambda row: ", ".join(map(cell_text, train[row]))
        )
    return [
        sections.regression_section(result, random),
        features,
        sections.errors_section(
            result, explorer.error_cards(result, rows, view, neighbours), about
        ),
    ]


def _neighbours(
    model: Any,
    view: explorer.RowView,
    rows: NDArray[np.intp],
    random: np.random.RandomState,
    texts: Callable[[int], str],
) -> tuple[explorer.Neighbours, str]:
    """Return the nearest training rows of some rows, and a note about them."""
    is_picture = view.pictures is not None
    nearest, n_searched = nearest_rows(
        model,
        view.X_train,
        take_rows(view.X, rows),
        _NEIGHBOURS[is_picture],
        random,
        standardize=not is_picture,  # a border pixel, which is almost always 0, would dominate
    )
    n_train = view.X_train.shape[0]
    which = f"all {n_train}" if n_searched == n_train else f"{n_searched} of {n_train}"
    space = "pixels" if is_picture else "standardized inputs of the network"
    about = f"Nearest training rows are by Euclidean distance in the {space}, among {which}."
    names = _row_names(view.X_train, "row")
    return explorer.Neighbours(nearest, texts, names), about


# ----------------------------------------------------------------------------------------- the page


def _page(title: str, subtitle: str, parts: Sequence[Section]) -> str:
    """Render the page with its sections."""
    folder = files("fastmlp.report")
    template, style, script = (
        folder.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js")
    )
    links = [element("li", element("a", part.title, href=f"#{part.name}")) for part in parts]
    return Template(template).substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        version=escape(version("fastmlp")),
        time=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z"),
        style=style,
        script=script,
        navigation=element("ul", links),
        sections=Markup("\n".join(part.markup() for part in parts)),
    )
