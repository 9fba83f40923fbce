"""The numbers of the report, independent of their presentation.

Classes are numbered: first the model's, in the order of `classes_`, then labels that occur only in
`y`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.metrics import (
    log_loss,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from fastmlp.displays import kept_epoch

__all__ = [
    "CONFIDENT",
    "Classification",
    "Curves",
    "Importance",
    "Metric",
    "Regression",
    "calibration",
    "chosen_mistakes",
    "column_names",
    "importance",
    "is_missing",
    "nearest_rows",
    "networks",
    "suspected_labels",
    "take_rows",
    "training_curves",
]

# Permutation importance: rows and repetitions, and the maximum number of predicted rows.
_IMPORTANCE_ROWS = 1000
_IMPORTANCE_REPEATS = 5
_IMPORTANCE_PREDICTIONS = 1_000_000
_MOST_FEATURES = 500
# Nearest neighbors: maximum number of training rows, and of their elements.
_NEIGHBOUR_ROWS = 5000
_NEIGHBOUR_NUMBERS = 20_000_000
#: Minimum probability of a prediction for a label to be suspected.
CONFIDENT = 0.9
# The confusion matrix has all pairs of classes.
_MOST_CLASSES = 2000
_BINS = 10  # of the calibration

# A score of predicted classes and probabilities; None if it is not defined.
_Score: TypeAlias = Callable[[NDArray, NDArray], float | None]


@dataclass(frozen=True)
class Metric:
    """A score of the model and of the baseline; None if it is not defined."""

    name: str
    model: float | None
    baseline: float | None
    higher_is_better: bool


# --------------------------------------------------------------------------------- model and rows


def networks(model: Any) -> list[Any]:
    """Return the fitted MLPs of a model: itself, the last step of a pipeline, or an ensemble's.

    Raises
    ------
    sklearn.exceptions.NotFittedError
    ValueError
        There is none.
    """
    last = model.steps[-1][1] if isinstance(model, Pipeline) else model
    if isinstance(last, FrozenEstimator):  # first: it has the attributes of what is in it
        return networks(last.estimator)
    check_is_fitted(last)
    if hasattr(last, "coefs_"):
        return [last]
    inner = list(np.ravel(getattr(last, "estimators_", [])))
    # The estimator_ of scikit-learn's ensembles is not fitted.
    inner = inner or [getattr(last, name, None) for name in ("regressor_", "estimator_")]
    found = [network for part in inner if part is not None for network in networks(part)]
    if not found:
        raise ValueError(
            "model must be a fitted MLPClassifier or MLPRegressor, or a pipeline that ends in one, "
            f"got {type(last).__name__}."
        )
    return found


def take_rows(X: Any, rows: NDArray[np.intp]) -> Any:
    """Return some rows of an array, a sparse matrix or a frame, with the same type."""
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def column_names(X: Any, model: Any, names: Sequence[str] | None) -> list[str]:
    """Return the names of the features: as given, of a frame, of the model, or x0, x1, ..."""
    n_features = X.shape[1]
    if names is not None:
        if len(names) != n_features:
            raise ValueError(
                f"feature_names must hold one name per feature, {n_features}, got {len(names)}."
            )
        return [str(name) for name in names]
    own = getattr(X, "columns", None)
    if own is None:
        own = getattr(model, "feature_names_in_", None)
    if own is None or len(own) != n_features:
        return [f"x{i}" for i in range(n_features)]
    return [str(name) for name in own]


def is_missing(value: Any) -> bool:
    """Return whether a cell or label is missing: None, NaN, or pandas' NA and NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)


# ----------------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class Curves:
    """The loss curves of a training, with one entry per epoch.

    Attributes
    ----------
    loss, val_loss, val_score : array of shape (n_epochs,), or None
    seconds : float or None
        Of all epochs.
    kept_epoch : int or None
        The epoch, counted from 1, whose weights early stopping has kept.
    """

    loss: NDArray
    val_loss: NDArray | None
    val_score: NDArray | None
    seconds: float | None
    kept_epoch: int | None


def training_curves(network: Any) -> Curves | None:
    """Return the loss curves of a network; None if not available, as for scikit-learn's lbfgs."""
    history = dict(getattr(network, "history_", None) or {})
    if not history:
        history = {"loss": getattr(network, "loss_curve_", None)}
        history["val_score"] = getattr(network, "validation_scores_", None)
    loss, val_loss, val_score = (
        None if values is None or not np.isfinite(values).any() else np.asarray(values, np.float64)
        for values in (history.get(name) or None for name in ("loss", "val_loss", "val_score"))
    )
    if loss is None:
        return None
    seconds = history.get("seconds")
    return Curves(
        loss,
        val_loss,
        val_score,
        None if seconds is None else float(np.nansum(seconds)),
        kept_epoch(network, val_score),
    )


# ----------------------------------------------------------------------------------- classification


class Classification:
    """A classifier's predictions on held-out rows.

    Parameters
    ----------
    model : fitted classifier
    X : array, sparse matrix or frame of shape (n_samples, n_features)
    y : array-like of shape (n_samples,)
        Labels.
    y_train : array-like, optional
        Labels of the training rows. Without them, the baseline uses `y`.

    Attributes
    ----------
    classes : list
        The labels; the model's come first.
    n_known : int
        Number of classes of the model.
    true, predicted : array of shape (n_samples,)
        Indices of classes.
    train : array or None
        Those of the training rows.
    probabilities : array of shape (n_samples, n_known)
    confidence : array of shape (n_samples,)
        The probability of the predicted class.
    matrix : array of shape (n_classes, n_classes)
        The confusion matrix; rows are true classes.
    areas : array of shape (n_known,)
        ROC AUC of each class against all others; NaN if `y` has only one of both.
    metrics : list of Metric
    """

    def __init__(self, model: Any, X: Any, y: ArrayLike, y_train: ArrayLike | None) -> None:
        labels = _labels(y, "y")
        train_labels = None if y_train is None else _labels(y_train, "y_train")
        predicted = model.predict(X)
        if np.ndim(predicted) != 1:
            raise ValueError(
                "model must predict one class per row, got a multilabel classifier: report a "
                "model for each label."
            )
        known = list(np.asarray(model.classes_).tolist())
        unknown = set(labels).union(train_labels or ()) - set(known)
        self.n_known = len(known)
        self.classes = known + sorted(unknown, key=str)
        self._numbers = {label: number for number, label in enumerate(self.classes)}
        self.true = self.encode(labels)
        if not (self.true < self.n_known).any():
            raise ValueError(
                f"y must hold classes that the model knows, {_listed(known)}, got only "
                f"{_listed(list(dict.fromkeys(labels)))}: pass labels of the same type and "
                "spelling as in fit."
            )
        if len(self.classes) > _MOST_CLASSES:
            raise ValueError(
                f"at most {_MOST_CLASSES} classes can be reported, got {self.n_known} of the model "
                f"and {len(unknown)} more in the labels: are these the labels of a regression?"
            )
        self.train = None if train_labels is None else self.encode(train_labels)
        self.predicted = self.encode(np.asarray(predicted).tolist())
        # For one class, MLPs return two columns, too.
        self.probabilities = np.asarray(model.predict_proba(X))[:, : self.n_known]
        self.confidence = self.probabilities[np.arange(len(self.predicted)), self.predicted]
        n_classes = len(self.classes)
        cells = np.bincount(self.true * n_classes + self.predicted, minlength=n_classes**2)
        self.matrix = cells.reshape(n_classes, n_classes)
        self.areas = _areas(self.true, self.probabilities)
        self.metrics = self._metrics()

    def encode(self, labels: Sequence[Any]) -> NDArray[np.intp]:
        """Return the indices of labels."""
        return np.fromiter(map(self._numbers.__getitem__, labels), np.intp, len(labels))

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Whether the model knows the true class of a row."""
        return self.true < self.n_known

    def recalls(self) -> NDArray:
        """Return the recall per class, of shape (n_classes,); NaN if not in y."""
        return _ratio(np.diag(self.matrix), self.matrix.sum(axis=1))

    def precisions(self) -> NDArray:
        """Return the precision per class; NaN if it was never predicted."""
        return _ratio(np.diag(self.matrix), self.matrix.sum(axis=0))

    def _metrics(self) -> list[Metric]:
        learned = self.true if self.train is None else self.train
        learned = learned[learned < self.n_known]
        dummy = DummyClassifier().fit(np.zeros((len(learned), 1)), learned)
        n_samples = len(self.true)
        prior = np.zeros(self.n_known)
        prior[dummy.classes_] = dummy.class_prior_
        baseline = np.broadcast_to(prior, (n_samples, self.n_known))
        constant = np.full(n_samples, prior.argmax())

        def scores(score: _Score) -> tuple[float | None, float | None]:
            return score(self.predicted, self.probabilities), score(constant, baseline)

        def loss(_: NDArray, probabilities: NDArray) -> float | None:
            if self.n_known < 2:
                return None
            rows = self.is_known
            labels = range(self.n_known)
            # scikit-learn warns about float64 that sums to 1 in float32 precision, as averages do.
            # scikit-learn 1.7 sums the loss of float32 in float32.
            exact = probabilities[rows].astype(np.float64)
            exact /= exact.sum(axis=1, keepdims=True)
            return log_loss(self.true[rows], exact, labels=labels)

        def area(_: NDArray, probabilities: NDArray) -> float | None:
            return _mean_area(_areas(self.true, probabilities))

        return [
            Metric("Accuracy", *scores(lambda p, _: float(np.mean(p == self.true))), True),
            Metric(
                "Balanced accuracy", *scores(lambda p, _: _balanced_accuracy(self.true, p)), True
            ),
            Metric("Log loss", *scores(loss), False),
            Metric("ROC AUC", *scores(area), True),
        ]


def _labels(y: ArrayLike, name: str) -> list[Any]:
    """Return labels as Python objects, one per row."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise ValueError(
            f"{name} must hold one class per row, got shape {y.shape}; for one-hot labels, "
            f"use {name}.argmax(axis=1)."
        )
    labels = y.tolist()
    if any(map(is_missing, dict.fromkeys(labels))):
        missing = next(row for row, label in enumerate(labels) if is_missing(label))
        raise ValueError(
            f"{name} must have a label in every row, got none in row {missing}: leave such rows "
            "out."
        )
    return labels


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(repr, values[:5])) + (", ..." if len(values) > 5 else "")


def _ratio(part: NDArray, whole: NDArray) -> NDArray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _balanced_accuracy(true: NDArray, predicted: NDArray) -> float:
    """Return the balanced accuracy, as in scikit-learn, but without warnings."""
    found = np.bincount(true, weights=predicted == true)
    return float(np.nanmean(_ratio(found, np.bincount(true))))


def _areas(true: NDArray, probabilities: NDArray) -> NDArray:
    """Return the area under the ROC curve of each class against all others, or NaN."""
    rows = true < probabilities.shape[1]
    areas = np.full(probabilities.shape[1], np.nan)
    for number in range(len(areas)):
        is_class = true[rows] == number
        if 0 < is_class.sum() < len(is_class):
            areas[number] = roc_auc_score(is_class, probabilities[rows, number])
    return areas


def _mean_area(areas: NDArray) -> float | None:
    """Return the mean over the classes with a value (for two classes both are the same)."""
    return None if np.isnan(areas).all() else float(np.nanmean(areas))


def calibration(probability: NDArray, happened: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Compute the calibration curve, in ten bins of equal width.

    Parameters
    ----------
    probability : array of shape (n_samples,)
    happened : array of shape (n_samples,), bool

    Returns
    -------
    predicted, observed : array of shape (n_bins,)
        The mean probability, and the frequency; NaN in empty bins.
    counts : array of shape (n_bins,)
    """
    # As in scikit-learn's calibration_curve, which does not return the counts of bins.
    edges = np.linspace(0, 1, _BINS + 1)
    bins = np.searchsorted(edges[1:-1], probability)
    counts = np.bincount(bins, minlength=_BINS)
    predicted = np.bincount(bins, weights=probability, minlength=_BINS)
    observed = np.bincount(bins, weights=happened, minlength=_BINS)
    return _ratio(predicted, counts), _ratio(observed, counts), counts


def suspected_labels(result: Classification) -> NDArray[np.bool_]:
    """Return which labels may be wrong.

    The rule is that of confident learning (Northcutt, Jiang and Chuang, 2021): the model predicts
    another class, with at least the average probability of that class on the rows labeled so. As
    a weak model would suspect most of its mistakes, the probability must also be at least
    `CONFIDENT`.

    Returns
    -------
    array of shape (n_samples,), bool
        Always False for unknown labels.
    """
    thresholds = np.full(result.n_known, CONFIDENT)
    for number in range(result.n_known):
        rows = result.true == number
        if rows.any():
            average = result.probabilities[rows, number].mean()
            thresholds[number] = max(CONFIDENT, average)
    is_confident = result.confidence >= thresholds[result.predicted]
    return result.is_known & (result.predicted != result.true) & is_confident


def chosen_mistakes(
    result: Classification, is_suspected: NDArray[np.bool_], most: int, per_pair: int = 3
) -> NDArray[np.intp]:
    """Return the rows of a limited number of mistakes, the most confident first.

    The first few of each pair of classes, by the frequency of pairs, and suspected labels take
    precedence, so that every pair is represented.
    """
    rows = np.flatnonzero(result.predicted != result.true)
    rows = rows[np.argsort(-result.confidence[rows], kind="stable")]
    pairs = result.true[rows] * len(result.classes) + result.predicted[rows]
    by_pair = np.argsort(pairs, kind="stable")
    starts = np.searchsorted(pairs[by_pair], pairs[by_pair])
    rank = np.empty(len(rows), np.intp)
    rank[by_pair] = np.arange(len(rows)) - starts
    is_later = (rank >= per_pair) & ~is_suspected[rows]
    frequency = np.bincount(pairs)[pairs]
    chosen = np.lexsort((np.arange(len(rows)), -frequency * ~is_later, rank * ~is_later, is_later))[
        :most
    ]
    return rows[np.sort(chosen)]


# --------------------------------------------------------------------------------------- regression


class Regression:
    """A regressor's predictions on held-out rows.

    Parameters
    ----------
    model : fitted regressor
    X : array, sparse matrix or frame of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    y_train : array-like, optional
        Targets of the training rows. Without them, the baseline uses `y`.

    Attributes
    ----------
    names : list of str
        Names of the outputs; an empty one for a single output without a name.
    true, predicted : array of shape (n_samples, n_outputs)
    train : array or None
        Targets of the training rows.
    errors : array of shape (n_samples,)
        Predicted minus true; for several outputs, the largest one in standard deviations of the
        targets.
    worst_output : array of shape (n_samples,)
        Index of that output.
    metrics : list of list of Metric
        Per output.
    """

    def __init__(self, model: Any, X: Any, y: Any, y_train: Any) -> None:
        names = getattr(y, "columns", None)
        self.true = _targets(y, "y")
        self.train = None if y_train is None else _targets(y_train, "y_train")
        self.predicted = np.asarray(model.predict(X), np.float64).reshape(len(self.true), -1)
        n_outputs = self.predicted.shape[1]
        for name, targets in (("y", self.true), ("y_train", self.train)):
            if targets is not None and targets.shape[1] != n_outputs:
                raise ValueError(
                    f"{name} must have the {n_outputs} outputs of the model, got "
                    f"{targets.shape[1]}."
                )
        if names is not None:
            self.names = [str(name) for name in names]
        elif n_outputs == 1:
            self.names = [str(getattr(y, "name", None) or "")]
        else:
            self.names = [f"output {i}" for i in range(n_outputs)]
        errors = self.predicted - self.true
        spread = self.true.std(axis=0)
        scaled = np.abs(errors) / np.where(spread > 0, spread, 1)
        self.worst_output = scaled.argmax(axis=1)
        self.errors = errors[np.arange(len(errors)), self.worst_output]
        self.order = np.argsort(-scaled.max(axis=1), kind="stable")
        learned = self.true if self.train is None else self.train
        dummy = DummyRegressor().fit(np.zeros((len(learned), 1)), learned)
        baseline = np.broadcast_to(np.ravel(dummy.constant_), self.true.shape)
        self.metrics = [
            _regression_metrics(self.true[:, i], self.predicted[:, i], baseline[:, i])
            for i in range(n_outputs)
        ]


def _targets(y: Any, name: str) -> NDArray[np.float64]:
    """Return targets as a matrix."""
    try:
        targets = np.asarray(y, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must hold numbers for a regressor, got other objects.") from None
    if targets.ndim not in (1, 2):
        raise ValueError(
            f"{name} must have shape (n_samples,) or (n_samples, n_outputs), got {targets.shape}."
        )
    targets = targets.reshape(len(targets), -1)
    rows = np.flatnonzero(~np.isfinite(targets).all(axis=1))
    if len(rows):
        raise ValueError(
            f"{name} must hold finite numbers, got {targets[rows[0]].tolist()} in row {rows[0]}: "
            "leave such rows out."
        )
    return targets


def _regression_metrics(true: NDArray, predicted: NDArray, baseline: NDArray) -> list[Metric]:
    def r2(y: NDArray) -> float | None:
        return r2_score(true, y) if len(true) > 1 else None

    return [
        Metric("R²", r2(predicted), r2(baseline), True),
        Metric(
            "MAE", mean_absolute_error(true, predicted), mean_absolute_error(true, baseline), False
        ),
        Metric(
            "RMSE",
            root_mean_squared_error(true, predicted),
            root_mean_squared_error(true, baseline),
            False,
        ),
    ]


# ---------------------------------------------------------------------------- features, neighbours


@dataclass(frozen=True)
class Importance:
    """Permutation importance of all features, and its settings."""

    means: NDArray
    deviations: NDArray
    n_rows: int
    n_repeats: int


def importance(
    model: Any, X: Any, result: Classification | Regression, random: np.random.RandomState
) -> Importance | str:
    """Compute the permutation importance, or return why it was not computed.

    The score is the accuracy, or R².
    """
    n_samples, n_features = X.shape
    if n_features > _MOST_FEATURES:
        return (
            f"Not computed: {n_features} features would take long, at most {_MOST_FEATURES} are "
            "permuted."
        )
    if n_samples < 2:
        return "Not computed: it needs at least two rows."
    n_rows = min(n_samples, _IMPORTANCE_ROWS)
    n_repeats = max(1, min(_IMPORTANCE_REPEATS, _IMPORTANCE_PREDICTIONS // (n_rows * n_features)))
    rows = np.sort(random.choice(n_samples, n_rows, replace=False))
    part = take_rows(X, rows)
    if issparse(part):
        part = part.toarray()

    def score(estimator: Any, X: Any, true: NDArray) -> float:
        predicted = estimator.predict(X)
        if isinstance(result, Classification):
            return float(np.mean(result.encode(predicted.tolist()) == true))
        return r2_score(true, predicted.reshape(true.shape))

    found = permutation_importance(
        model, part, result.true[rows], scoring=score, n_repeats=n_repeats, random_state=random
    )
    return Importance(found.importances_mean, found.importances_std, n_rows, n_repeats)


def nearest_rows(
    model: Any,
    X_train: Any,
    X: Any,
    n_neighbors: int,
    random: np.random.RandomState,
    *,
    standardize: bool,
) -> tuple[NDArray[np.intp], int]:
    """Find the nearest training rows of rows, in the inputs of the network.

    Parameters
    ----------
    model : estimator
        For a pipeline, the steps before the last are applied first.
    X_train, X : array, sparse matrix or frame
    n_neighbors : int
    random : RandomState
        For subsampling the training rows, if there are more than some thousand.
    standardize : bool
        Whether to divide each input by its standard deviation first.

    Returns
    -------
    rows : array of shape (len(X), n_neighbors)
        Indices into `X_train`, the nearest first; fewer columns if there are fewer rows.
    n_searched : int
        Number of training rows searched.
    """
    n_train = X_train.shape[0]
    most = max(1, min(_NEIGHBOUR_ROWS, _NEIGHBOUR_NUMBERS // max(1, X_train.shape[1])))
    searched = np.arange(n_train)
    if n_train > most:
        searched = np.sort(random.choice(n_train, most, replace=False))
    train, rows = take_rows(X_train, searched), X
    if isinstance(model, Pipeline) and len(model.steps) > 1:
        train, rows = model[:-1].transform(train), model[:-1].transform(rows)
    train, rows = (
        part.astype(np.float64) if issparse(part) else np.asarray(part, np.float64)
        for part in (train, rows)
    )
    if standardize:
        scaler = StandardScaler(with_mean=not issparse(train)).fit(train)
        train, rows = scaler.transform(train), scaler.transform(rows)
    search = NearestNeighbors(n_neighbors=min(n_neighbors, len(searched))).fit(train)
    return searched[search.kneighbors(rows, return_distance=False)], len(searched)
