"""Checks of sample weights."""

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array


def check_sample_weight(sample_weight: Any, X: Any) -> NDArray:
    """Validate sample weights as scikit-learn does, with its messages."""
    n_samples = X.shape[0]
    dtype = X.dtype if X.dtype in (np.float32, np.float64) else np.float64
    if isinstance(sample_weight, Real):
        if not np.isfinite(float(sample_weight)):
            raise ValueError(f"sample_weight must be finite, got {sample_weight!r}.")
        weights = np.full(n_samples, sample_weight, dtype=dtype)
    else:
        try:
            weights = check_array(
                sample_weight,
                accept_sparse=False,
                ensure_2d=False,
                dtype=(np.float64, np.float32),
                order="C",
                input_name="sample_weight",
            )
        except ValueError as error:
            raise ValueError(f"{error}{_first_not_finite(sample_weight)}") from None
        given = np.asarray(sample_weight)
        if given.dtype.kind in "USO" and (
            text := [weight for weight in given.flat if isinstance(weight, str | bytes)]
        ):
            raise ValueError(
                f"sample_weight must be numbers, got text such as {str(text[0])!r}; convert it, "
                "for example with np.asarray(sample_weight, float)."
            )
        if weights.ndim != 1:
            raise ValueError(
                f"Sample weights must be 1D array or scalar, got {weights.ndim}D array. Expected "
                f"either a scalar value or a 1D array of length {n_samples}."
            )
        if weights.shape != (n_samples,):
            raise ValueError(f"sample_weight.shape == {weights.shape}, expected {(n_samples,)}!")
    check_any_weight(weights)
    return weights


def _first_not_finite(sample_weight: Any) -> str:
    """Return the row of the first non-finite weight as a sentence; empty if all are finite."""
    try:
        rows = np.flatnonzero(~np.isfinite(np.asarray(sample_weight, np.float64)))
    except (TypeError, ValueError):
        return ""
    return f" The first one is in row {rows[0]}." if len(rows) else ""


def check_weight_range(weights: NDArray, dtype: np.dtype) -> None:
    """Refuse weights whose sum overflows or underflows."""
    with np.errstate(over="ignore"):
        total = np.abs(weights, dtype=np.float64).sum()
    limits = np.finfo(dtype)
    # With a margin: losses and penalties, some orders of magnitude larger or smaller, are
    # multiplied with it and divided by it.
    smallest, largest = float(limits.tiny) * 1e8, float(limits.max) / 1e8
    if total and not smallest <= total <= largest:
        raise ValueError(
            f"the sample weights sum to {total:.3g} in magnitude, but {dtype} needs sums from "
            f"{smallest:.0e} to {largest:.0e}; divide them by their mean."
        )


def check_any_weight(weights: NDArray) -> None:
    """Refuse weights that are all zero, with scikit-learn's message."""
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
