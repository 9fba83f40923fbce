"""The input matrix as it lies, and the affine maps that inputs and targets are seen through."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.sparse import issparse

#: Zeros of dense inputs are worth skipping if at most this part of the inputs is not zero ...
MAX_DENSITY = 0.5

#: ... as seen in about this many samples, evenly spaced, ...
_DENSITY_ROWS = 256

#: ... and if no feature is shifted by more standard deviations (or whatever its unit): the shift
#: is added to sums that begin without it, so digits are lost where it is large.
_MAX_SHIFT = 16


@dataclass(frozen=True)
class Inputs:
    """An input matrix and the map ``x' = scale * x + shift`` per feature.

    Byte images stay bytes and sparse rows stay sparse: the map, and the
    conversion to the network's dtype, happen where a batch is gathered, so no
    float copy of the data set ever exists.

    Parameters
    ----------
    values : array or CSR matrix of shape (n_samples, n_features)
        An array is C-contiguous, of uint8 or the network's dtype; a CSR matrix
        has the network's dtype.
    dtype : float32 or float64
        The dtype that the network computes in.
    scale, shift : array of shape (n_features,) of `dtype`, or both None
        None stands for the identity.

    Attributes
    ----------
    is_sparse : bool
        Whether the values are a CSR matrix.
    """

    values: Any
    dtype: np.dtype
    scale: NDArray | None = None
    shift: NDArray | None = None
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
                raise ValueError("sparse values cannot be shifted: their zeros would be no zeros.")
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
        """Refuse half of a map that compiled code could not read."""
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
        """Return whether so many elements of an array are zeros that looking for them pays."""
        if self.is_sparse or (self.shift is not None and np.abs(self.shift).max() > _MAX_SHIFT):
            return False
        some = self.values[:: -(-self.n_samples // _DENSITY_ROWS) or 1]
        return bool(np.count_nonzero(some) <= MAX_DENSITY * some.size)


def _check_structure(values: Any) -> None:
    """Refuse a CSR matrix whose index arrays point outside it; scipy lets them be edited."""
    indices, indptr, n_stored = values.indices, values.indptr, len(values.data)
    if len(indices) and not 0 <= indices.min() <= indices.max() < values.shape[1]:
        raise ValueError(
            f"the column indices of a sparse X must be from 0 to {values.shape[1] - 1}, got "
            f"{indices.min()} to {indices.max()}; build the matrix anew."
        )
    if (
        len(indptr) != values.shape[0] + 1
        or indptr[0] != 0
        or np.any(indptr[1:] < indptr[:-1])
        or indptr[-1] > min(n_stored, len(indices))
    ):
        raise ValueError(
            f"the row pointers of a sparse X must rise from 0 to at most {n_stored}, the number of "
            "stored elements; build the matrix anew."
        )


def affine_map(
    input_scale: object, X: Any, dtype: DTypeLike
) -> tuple[NDArray | None, NDArray | None]:
    """Return the (scale, shift) vectors that `input_scale` asks for.

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
            "input_scale must not shift sparse input, whose zeros would be zeros no more, got "
            f"{input_scale!r}; use a factor or (scale, 0), or make X dense."
        )
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        raise ValueError(f"{rule}, all finite, got {input_scale!r}.")
    if X.shape[1] and not np.any(scale):
        raise ValueError(
            f"input_scale must not be 0, which makes all samples the same, got {input_scale!r}: "
            "use a factor such as 1/255, or None for none."
        )
    return (
        np.ascontiguousarray(scale, dtype=dtype),
        np.ascontiguousarray(shift, dtype=dtype),
    )


def target_map(
    target_scale: object, Y: NDArray, *, keeps_sign: bool = False
) -> tuple[NDArray, NDArray] | None:
    """Return the (scale, shift) vectors that `target_scale` asks for; None for the identity.

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
        Allow only positive factors: what is not negative must stay so.

    Returns
    -------
    scale, shift : array of shape (n_outputs,), float64
        The scale is nowhere 0, so that the map can be undone.

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
            "target_scale must be a positive factor where targets must not be negative "
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
    """Return whether this is a pair (scale, shift) of vectors of n numbers, or None."""
    return fitted is None or (
        isinstance(fitted, tuple | list)
        and len(fitted) == 2
        and all(
            isinstance(part, np.ndarray) and part.shape == (n,) and part.dtype.kind in "iuf"
            for part in fitted
        )
    )


def _standard_map(X: NDArray) -> tuple[NDArray, NDArray]:
    """Return the map that gives every feature of `X` mean 0 and variance 1."""
    # In chunks, because a float64 copy of a byte image set is eight times its size.
    n_samples = X.shape[0]
    starts = range(0, n_samples, 4096)
    mean = sum(X[s : s + 4096].sum(axis=0, dtype=np.float64) for s in starts) / n_samples
    variance = sum(((X[s : s + 4096] - mean) ** 2).sum(axis=0) for s in starts) / n_samples
    # What rounding leaves of a constant: the mean is off by up to n_samples * eps * mean.
    eps = np.finfo(np.float64).eps
    constant = variance <= n_samples * eps * variance + (n_samples * eps * mean) ** 2
    scale = 1 / np.sqrt(np.where(constant, 1.0, variance))
    return scale, -mean * scale
