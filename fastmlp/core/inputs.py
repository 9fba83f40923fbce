"""The input matrix, and the affine scaling of inputs and targets."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.sparse import issparse

#: Zeros of dense inputs are skipped if at most this fraction of the inputs is nonzero ...
MAX_DENSITY = 0.5

#: ... in about this many evenly spaced samples, ...
_DENSITY_ROWS = 256

#: ... and if no feature is shifted by more than this (in scaled units): the shift is added to sums
#: computed without it, so a large shift loses precision.
_MAX_SHIFT = 16


@dataclass(frozen=True)
class Inputs:
    """An input matrix and the scaling ``x' = scale * x + shift`` per feature.

    uint8 and sparse data are not converted: the scaling, and the conversion to
    the network's dtype, are applied when a batch is gathered, so there is no
    float copy of the data set.

    Parameters
    ----------
    values : array or CSR matrix of shape (n_samples, n_features)
        An array is C-contiguous, of uint8 or the network's dtype; a CSR matrix
        has the network's dtype.
    dtype : float32 or float64
        The dtype of the network.
    scale, shift : array of shape (n_features,) of `dtype`, or both None
        None is the identity.
    rows : array of int, optional
        The rows that are trained on, if not all of them: whether zeros are skipped depends on them.

    Attributes
    ----------
    is_sparse : bool
        Whether the values are a CSR matrix.
    """

    values: Any
    dtype: np.dtype
    scale: NDArray | None = None
    shift: NDArray | None = None
    rows: NDArray | None = None
    is_sparse: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_sparse", issparse(self.values))
        if self.is_sparse:
            if self.values.format != "csr" or self.values.dtype != self.dtype:
                raise ValueError(
                    f"sparse values must be CSR of {self.dtype}, got {self.values.format} of "
                    f"{self.values.dtype}; convert them first."
                )
            _check_structure(self.values)
            if self.shift is not None and np.any(self.shift):
                raise ValueError("sparse values cannot be shifted: zeros would become nonzero.")
        elif self.values.ndim != 2 or not self.values.flags.c_contiguous:
            raise ValueError("values must be a C-contiguous matrix.")
        elif self.values.dtype not in (np.dtype(np.uint8), self.dtype):
            raise ValueError(
                f"values must be uint8 or {self.dtype}, got {self.values.dtype}; cast them first."
            )
        if self.scale is not None or self.shift is not None:
            for name, part in (("scale", self.scale), ("shift", self.shift)):
                self._check_part(name, part)

    def _check_part(self, name: str, part: Any) -> None:
        """Refuse a scale or shift that compiled code cannot read."""
        if not (
            isinstance(part, np.ndarray)
            and part.shape == (self.n_features,)
            and part.dtype == self.dtype
            and part.flags.c_contiguous
            and part.flags.aligned
        ):
            got = (
                f"an array of {part.dtype} of shape {part.shape}"
                if isinstance(part, np.ndarray)
                else type(part).__name__
            )
            raise ValueError(
                f"{name} must be a contiguous array of {self.dtype} of shape "
                f"({self.n_features},), got {got}."
            )

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return self.values.shape[0]

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return self.values.shape[1]

    def is_mostly_zeros(self) -> bool:
        """Return whether an array has enough zeros that skipping them is faster."""
        if self.is_sparse or (self.shift is not None and np.abs(self.shift).max() > _MAX_SHIFT):
            return False
        n = self.n_samples if self.rows is None else len(self.rows)
        step = -(-n // _DENSITY_ROWS) or 1
        some = self.values[::step] if self.rows is None else self.values[self.rows[::step]]
        return bool(np.count_nonzero(some) <= MAX_DENSITY * some.size)


def _check_structure(values: Any) -> None:
    """Refuse a CSR matrix with indices out of bounds; scipy allows editing them."""
    indices, indptr, n_stored = values.indices, values.indptr, len(values.data)
    if len(indices) and not 0 <= indices.min() <= indices.max() < values.shape[1]:
        raise ValueError(
            f"the column indices of a sparse X must be from 0 to {values.shape[1] - 1}, got "
            f"{indices.min()} to {indices.max()}; rebuild the matrix."
        )
    if (
        len(indptr) != values.shape[0] + 1
        or indptr[0] != 0
        or np.any(indptr[1:] < indptr[:-1])
        or indptr[-1] > min(n_stored, len(indices))
    ):
        raise ValueError(
            f"the row pointers of a sparse X must be non-decreasing, from 0 to at most {n_stored}, "
            "the number of stored elements; rebuild the matrix."
        )


def affine_map(
    input_scale: object, X: Any, dtype: DTypeLike
) -> tuple[NDArray | None, NDArray | None]:
    """Return the (scale, shift) vectors for `input_scale`.

    Parameters
    ----------
    input_scale : None, "standard", float, or (scale, shift)
        None is the identity. "standard" gives every feature of `X` mean 0 and
        variance 1; a constant feature becomes 0. A float multiplies every
        feature. A pair holds a scale and a shift, each a number or an array
        of shape (n_features,): ``x' = scale * x + shift``.
    X : array or sparse matrix of shape (n_samples, n_features)
        The training data; only "standard" reads it.
    dtype : float32 or float64
        Of the result. The statistics are computed in float64.

    Returns
    -------
    scale, shift : array of shape (n_features,), or both None

    Raises
    ------
    ValueError
        If `input_scale` is none of these, not finite, or 0 for every feature.

    Examples
    --------
    >>> scale, shift = affine_map((1 / 255, -0.5), np.zeros((3, 2), np.uint8), "float64")
    >>> scale * 255 + shift
    array([0.5, 0.5])
    """
    rule = (
        "input_scale must be None, 'standard', a number, or a pair (scale, shift) of "
        "numbers or arrays of shape (n_features,)"
    )
    if input_scale is None:
        return None, None
    if isinstance(input_scale, str):
        if input_scale != "standard":
            raise ValueError(f"{rule}, got {input_scale!r}.")
        scale, shift = (1.0, 1.0) if issparse(X) else _standard_map(X)
    else:
        scale, shift = _pair(input_scale, X.shape[1], f"{rule}, got {input_scale!r}", "features")
    if issparse(X) and np.any(shift):
        raise ValueError(
            "input_scale must not shift sparse input, whose zeros would become nonzero, got "
            f"{input_scale!r}; use a factor or (scale, 0), or make X dense."
        )
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        raise ValueError(f"{rule}, all finite, got {input_scale!r}.")
    if X.shape[1] and not np.any(scale):
        raise ValueError(
            f"input_scale must not be 0, which makes all samples the same, got {input_scale!r}: "
            "use a factor such as 1/255, or None."
        )
    return (
        np.ascontiguousarray(scale, dtype=dtype),
        np.ascontiguousarray(shift, dtype=dtype),
    )


def target_map(
    target_scale: object, Y: NDArray, *, keeps_sign: bool = False
) -> tuple[NDArray, NDArray] | None:
    """Return the (scale, shift) vectors for `target_scale`; None for the identity.

    Parameters
    ----------
    target_scale : None, "standard", float, or (scale, shift)
        None is the identity. "standard" gives every output mean 0 and variance
        1; a constant one becomes 0. A float multiplies every output. A pair
        holds a scale and a shift, each a number or an array of shape
        (n_outputs,): ``y' = scale * y + shift``.
    Y : array of shape (n_samples, n_outputs)
        The training targets; only "standard" reads them.
    keeps_sign : bool
        Allow only positive factors, so that non-negative targets remain so.

    Returns
    -------
    scale, shift : array of shape (n_outputs,), float64
        The scale has no zeros, so that the scaling is invertible.

    Raises
    ------
    ValueError
        If `target_scale` is none of these, not finite, or 0.

    Examples
    --------
    >>> scale, shift = target_map("standard", np.array([[1.0], [3.0]]))
    >>> (scale * 5 + shift).tolist()
    [3.0]
    """
    if target_scale is None:
        return None
    rule = (
        "target_scale must be None, 'standard', a number other than 0, or a pair (scale, shift) of "
        f"numbers or arrays of shape (n_outputs,), all finite, got {target_scale!r}"
    )
    if not isinstance(target_scale, str):
        scale, shift = _pair(target_scale, Y.shape[1], rule, "outputs")
    elif target_scale == "standard":
        scale, shift = _standard_map(Y)
    else:
        raise ValueError(f"{rule}.")
    if not (np.isfinite(scale).all() and np.isfinite(shift).all() and np.all(scale)):
        raise ValueError(f"{rule}.")
    if keeps_sign and (np.any(scale < 0) or np.any(shift)):
        raise ValueError(
            "target_scale must be a positive factor if targets must not be negative "
            f"(loss='poisson'), got {target_scale!r}; pass one, such as 1 / y.mean()."
        )
    return np.array(scale), np.array(shift)


def _pair(value: Any, n: int, rule: str, columns: str) -> tuple[NDArray, NDArray]:
    """Return a factor, or a pair (scale, shift), as two vectors of length n."""
    pair = value if isinstance(value, tuple | list) else (value, 0.0)
    if len(pair) != 2:
        raise ValueError(f"{rule}.")
    try:
        scale, shift = (np.broadcast_to(np.asarray(part, np.float64), (n,)) for part in pair)
    except (TypeError, ValueError):
        raise ValueError(f"{rule} for {n} {columns}.") from None
    return scale, shift


def is_map(fitted: Any, n: int) -> bool:
    """Return whether this is None or a pair (scale, shift) of vectors of n numbers."""
    return fitted is None or (
        isinstance(fitted, tuple | list)
        and len(fitted) == 2
        and all(
            isinstance(part, np.ndarray) and part.shape == (n,) and part.dtype.kind in "iuf"
            for part in fitted
        )
    )


def _standard_map(X: NDArray) -> tuple[NDArray, NDArray]:
    """Return the scaling that gives every feature of `X` mean 0 and variance 1."""
    # In chunks, because a float64 copy of bytes has eight times their size.
    n_samples = X.shape[0]
    starts = range(0, n_samples, 4096)
    mean = sum(X[s : s + 4096].sum(axis=0, dtype=np.float64) for s in starts) / n_samples
    variance = sum(((X[s : s + 4096] - mean) ** 2).sum(axis=0) for s in starts) / n_samples
    return standard_map_of(n_samples, mean, variance)


def standard_map_of(n_samples: int, mean: NDArray, variance: NDArray) -> tuple[NDArray, NDArray]:
    """Return the scaling (scale, shift) that gives columns mean 0 and variance 1.

    Parameters
    ----------
    n_samples : int
    mean, variance : array of shape (n_columns,)
        Of the samples.

    Returns
    -------
    scale, shift : array of shape (n_columns,)
        A constant column becomes 0.
    """
    # Rounding error of a constant feature: the mean has an error of up to n_samples * eps * mean.
    eps = np.finfo(np.float64).eps
    constant = variance <= n_samples * eps * variance + (n_samples * eps * mean) ** 2
    scale = 1 / np.sqrt(np.where(constant, 1.0, variance))
    return scale, -mean * scale
