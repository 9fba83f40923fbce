"""The kernel for machines without a C compiler, cached on disk by Numba."""

from numba import njit
from numpy.typing import NDArray


def scale_bytes(payload: NDArray, scale: float, shift: float, out: NDArray) -> None:
    """Scale bytes in one pass."""
    _compiled(payload, out.dtype.type(scale), out.dtype.type(shift), out)


def _loop(payload: NDArray, scale: float, shift: float, out: NDArray) -> None:
    for i in range(len(out)):
        out[i] = scale * out.dtype.type(payload[i]) + shift


try:
    _compiled = njit(nogil=True, cache=True)(_loop)
except RuntimeError:  # no writable cache directory
    _compiled = njit(nogil=True)(_loop)
