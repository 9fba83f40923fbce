"""What a fit must know of all samples before it begins, put together from parts of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse, vstack
from sklearn.utils import check_array

#: About so many rows are kept, evenly spread, to look at scale and density.
_SOME = 512


@dataclass(frozen=True)
class Moments:
    """Number, mean and sum of squared deviations of the rows of a matrix, in float64.

    Those of two parts together are exact up to rounding (Chan, Golub and LeVeque, "Updating
    formulae and a pairwise algorithm for computing sample variances", 1979).
    """

    n: float  # or the sum of their weights
    mean: NDArray
    squares: NDArray

    @classmethod
    def of(cls, values: NDArray) -> Moments:
        """Return those of an array of shape (n, n_columns)."""
        n = len(values)
        mean = values.sum(axis=0, dtype=np.float64) / n
        squares = np.zeros_like(mean)
        for start in range(0, n, 4096):  # a float64 copy of bytes has eight times their size
            squares += ((values[start : start + 4096] - mean) ** 2).sum(axis=0)
        return cls(n, mean, squares)

    def __add__(self, other: Moments) -> Moments:
        """Return those of the rows of both."""
        n = self.n + other.n
        step = other.mean - self.mean
        mean = self.mean + step * (other.n / n)
        squares = self.squares + other.squares + step**2 * (self.n * (other.n / n))
        return Moments(n, mean, squares)


@dataclass(frozen=True)
class Summary:
    """What is known of some samples.

    Parameters
    ----------
    n_samples : int
    X : array or CSR matrix of shape (n, n_features)
        Some rows, evenly spread.
    y : array of shape (m,) or (m, n_outputs)
        All labels, once and sorted; of other targets some rows, with the smallest and largest.
    counts : array of shape (m,) or None
        Samples by label.
    moments_X, moments_y : Moments or None
        If they were asked for.
    weight : tuple of float or None
        Of the weights: sum, sum of magnitudes, smallest and largest.
    columns : sequence or None
        Names of the features, if the samples are a DataFrame.
    """

    n_samples: int
    X: Any
    y: NDArray
    counts: NDArray | None
    moments_X: Moments | None
    moments_y: Moments | None
    weight: tuple[float, float, float, float] | None
    columns: Any = None

    def __add__(self, other: Summary) -> Summary:
        """Return that of the samples of both, which are in this order."""
        y, counts = other.y, other.counts
        if self.y.ndim != y.ndim or self.y.shape[1:] != y.shape[1:]:
            raise ValueError(
                "y must have the same columns everywhere, got parts of shape (n, "
                f"{', '.join(map(str, self.y.shape[1:]))}) and (n, "
                f"{', '.join(map(str, y.shape[1:]))})."
            )
        if self.X.shape[1] != other.X.shape[1] or issparse(self.X) != issparse(other.X):
            raise ValueError(
                "X must have the same columns everywhere, got parts of "
                f"{_described(self.X)} and of {_described(other.X)}."
            )
        if counts is not None and self.counts is not None:
            y, inverse = np.unique(np.concatenate([self.y, y]), return_inverse=True)
            counts = np.bincount(inverse, np.concatenate([self.counts, counts])).astype(np.int64)
        else:
            y = _some_targets(np.concatenate([self.y, y]))
        weight = None
        if self.weight is not None and other.weight is not None:
            a, b = self.weight, other.weight
            weight = (a[0] + b[0], a[1] + b[1], min(a[2], b[2]), max(a[3], b[3]))
        both = (self.X, other.X)
        X = vstack(both, format="csr") if issparse(self.X) else np.concatenate(both)
        if X.shape[0] > 2 * _SOME:
            X = X[::2]
        return Summary(
            self.n_samples + other.n_samples,
            X,
            y,
            counts,
            _sum(self.moments_X, other.moments_X),
            _sum(self.moments_y, other.moments_y),
            weight,
            self.columns,
        )

    def with_rows(self, X: Any, columns: Any = None) -> Summary:
        """Return it with other rows of X."""
        return replace(self, X=X, columns=columns)


@dataclass(frozen=True)
class Questions:
    """What a `Summary` is to have.

    Parameters
    ----------
    classifies : bool
        Whether y has labels.
    dtype : dtype or None
        Of the network; None if it depends on X.
    moments_X, moments_y : bool
        Whether their moments are needed.
    """

    classifies: bool
    dtype: Any
    moments_X: bool
    moments_y: bool


def summarized(
    X: Any, y: Any, sample_weight: Any, ask: Questions, *, where: str = ""
) -> Summary | None:
    """Return the summary of a part of the samples, None if it is empty.

    Parameters
    ----------
    X, y, sample_weight
        As for `fit`.
    ask : Questions
    where : str
        The part, for messages.

    Raises
    ------
    ValueError
        If they are invalid.
    """
    columns = getattr(X, "columns", None)
    X, y, weight = checked_part(X, y, sample_weight, ask, where)
    if not len(y):
        return None
    if not ask.classifies:
        found, counts = _some_targets(y), None
    elif y.ndim == 1:
        found, counts = _distinct(y)
    else:
        found, counts = np.unique(y, axis=0)[:_SOME], None
    total = None
    if weight is not None:
        total = tuple(float(f(weight)) for f in (np.sum, _magnitude, np.min, np.max))
    return Summary(
        len(y),
        X[:: -(-len(y) // _SOME)].copy(),
        found,
        counts,
        Moments.of(X) if ask.moments_X and not issparse(X) else None,
        Moments.of(y[:, np.newaxis] if y.ndim == 1 else y) if ask.moments_y else None,
        total,  # type: ignore[arg-type]
        columns,
    )


def checked_part(
    X: Any, y: Any, sample_weight: Any, ask: Questions, where: str = ""
) -> tuple[Any, NDArray, NDArray | None]:
    """Return samples as arrays for an engine, checked as scikit-learn does; they may be none."""
    floats = (np.float64, np.float32) if ask.dtype is None else (np.dtype(ask.dtype),)
    try:
        X = check_array(
            X,
            accept_sparse="csr",
            dtype=floats if issparse(X) else (*floats, np.uint8),
            order="C",
            ensure_min_samples=0,
            input_name="X",
        )
        y = check_array(
            y,
            dtype=None if ask.classifies else "numeric",
            ensure_2d=False,
            ensure_min_samples=0,
            ensure_all_finite=_is_number(y),
            input_name="y",
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = y.ravel()
        if len(y) != X.shape[0]:
            raise ValueError(f"X has {X.shape[0]} rows, but y has {len(y)}.")
        weight = None
        if sample_weight is not None:
            weight = check_array(
                sample_weight,
                dtype=np.float64,
                ensure_2d=False,
                ensure_min_samples=0,
                input_name="sample_weight",
            )
            if weight.shape != (len(y),):
                raise ValueError(
                    f"sample_weight must have one number for each of {len(y)} rows, got the shape "
                    f"{weight.shape}."
                )
    except ValueError as error:
        raise ValueError(f"{where}{error}{_first_bad(X)}") from None
    return X, y, weight


def _first_bad(X: Any) -> str:
    """Return where the first number is that is not finite, in words; nothing if there is none."""
    values: NDArray = np.asarray(X) if hasattr(X, "shape") and not issparse(X) else np.zeros(0)
    if values.dtype.kind != "f" or values.ndim != 2:
        return ""
    found = np.argwhere(~np.isfinite(values))
    if not len(found):
        return ""
    row, column = found[0].tolist()
    name = getattr(X, "columns", range(values.shape[1]))[column]
    return f" The first one is in row {row} of these, column {name!r}."


def added(summaries: Iterable[Summary | None]) -> Summary | None:
    """Return the summary of all parts, None if all are empty."""
    total = None
    for summary in summaries:
        if summary is not None:
            total = summary if total is None else total + summary
    return total


def _sum(a: Moments | None, b: Moments | None) -> Moments | None:
    return None if a is None or b is None else a + b


def _magnitude(weight: NDArray) -> float:
    return float(np.abs(weight).sum())


def _is_number(y: Any) -> bool:
    return getattr(getattr(y, "dtype", None), "kind", "f") in "biuf"


def _distinct(y: NDArray) -> tuple[NDArray, NDArray]:
    """Return the labels, sorted, and their counts."""
    if y.dtype.kind in "biu" and len(y) > 1000:  # sorting takes most of the time
        low, high = int(y.min()), int(y.max())
        if high - low < 1000:
            counts = np.bincount(y.astype(np.int64) - low)
            (there,) = np.nonzero(counts)
            return (there + low).astype(y.dtype), counts[there]
    labels, counts = np.unique(y, return_counts=True)
    return labels, counts


def _some_targets(y: NDArray) -> NDArray:
    """Return some rows of targets, with the smallest and the largest of each column."""
    if len(y) <= _SOME:
        return y
    ends = np.unique([y.argmin(axis=0), y.argmax(axis=0)])
    return np.concatenate([y[ends], y[:: -(-len(y) // (_SOME // 2))]])


def _described(X: Any) -> str:
    return f"{'sparse' if issparse(X) else 'dense'} X with {X.shape[1]} columns"
