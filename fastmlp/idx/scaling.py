"""Scale bytes to floating-point numbers, with the fastest available kernel.

All kernels compute ``scale * byte + shift`` in the dtype of the result, rounded after the product
and after the sum, so that results are bit-identical.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

try:
    from fastmlp.idx._scaling import scale_bytes as _built
except ModuleNotFoundError:  # not built without a C compiler
    _built = None

#: Called with bytes (n,), uint8, the scale, the shift, and the output (n,), float32 or float64;
#: all contiguous.
Kernel: TypeAlias = Callable[[NDArray, float, float, NDArray], None]

#: NumPy's two passes take about 0.3 ns per byte longer than a compiled kernel, and importing Numba
#: takes half a second or more.
_WORTH_NUMBA = 1 << 30


def kernel_for(n_bytes: int) -> Kernel:
    """Return the kernel for this number of bytes."""
    if _built is not None:
        return _built
    if n_bytes >= _WORTH_NUMBA:
        try:
            from fastmlp.idx.scaling_numba import scale_bytes as compiled

            return compiled
        except ImportError:  # NumPy does it, too
            pass
    return scale_bytes


def scale_bytes(payload: NDArray, scale: float, shift: float, out: NDArray) -> None:
    """Scale bytes with NumPy, in two passes."""
    np.multiply(payload, out.dtype.type(scale), out=out, dtype=out.dtype)
    out += out.dtype.type(shift)
