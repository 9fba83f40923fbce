"""The device: its availability, its arrays, and kernel launches."""

import threading
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.cuda_backend.plan import Shape
from fastmlp.core.inputs import Inputs

try:
    # numba-cuda, the maintained package, takes the place of the numba.cuda inside numba by itself;
    # what is used here both have.
    from numba import config, cuda
except ImportError as error:
    raise ImportError("numba is not installed (pip install 'fastmlp[cuda]')") from error

SIMULATED = bool(config.ENABLE_CUDASIM)


def _reason_against() -> str:
    """Return why kernels cannot run, in words; empty if they can."""
    if SIMULATED:
        return ""
    reason = cuda.cuda_error()
    if not reason and cuda.is_available():
        return "" if len(cuda.gpus) else "no CUDA device was found"
    reason = str(cuda.cuda_error() or "")
    if "NO_DEVICE" in reason or "no CUDA-capable device" in reason:
        return "no CUDA device was found"
    if not reason:
        return "the CUDA toolkit was not found (pip install 'fastmlp[cuda]')"
    if "cannot be found" in reason:
        return "no CUDA driver was found; if there is one, set NUMBA_CUDA_DRIVER to its library"
    return f"no CUDA driver can be used: {' '.join(reason.split())}"


if _reason_against():
    raise ImportError(_reason_against())


def shape_for(dtype: np.dtype) -> Shape:
    """Return the shape of the blocks; its depth is limited by 48 kB of shared memory."""
    if SIMULATED:  # a thread of it costs a millisecond, and edges of tiles are to occur
        return Shape(4, 4, 2, 16)
    return Shape(16, 32, 4, 128 if dtype.itemsize == 4 else 64)


class Arrays(dict):
    """Device arrays by the names of the kernels' arguments; reused if sizes do not change."""

    inputs: Inputs

    def room(self, name: str, size: int, dtype: Any) -> Any:
        """Return an array of this size; new arrays are uninitialized."""
        if name not in self or self[name].size != size or self[name].dtype != dtype:
            self.pop(name, None)  # before there is another
            self[name] = _allocate(name, size, np.dtype(dtype))
        return self[name]

    def put(self, name: str, values: NDArray) -> None:
        """Copy an array to the device."""
        self.room(name, values.size, values.dtype).copy_to_device(np.ascontiguousarray(values))


def _allocate(name: str, size: int, dtype: np.dtype) -> Any:
    """Return a new array on the device.

    Raises
    ------
    MemoryError
        With the required and the free memory.
    """
    try:
        return cuda.device_array(size, dtype)
    except Exception as error:  # the two packages and the simulator have no common class
        if "OUT_OF_MEMORY" not in str(error):
            raise
        free = cuda.current_context().get_memory_info()[0]
        raise MemoryError(
            f"the GPU has too little memory for the {name} array: "
            f"{size * dtype.itemsize / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB are free; use "
            "less data or a smaller network, end other programs on the GPU, or set "
            "backend='cython'."
        ) from error


_configuring = threading.Lock()


def configured(kernel: Any, n_blocks: int, n_threads: int) -> Any:
    """Return a configured kernel."""
    with _configuring, warnings.catch_warnings():
        # Few blocks are said to be slow. Here they are as many as there is work for.
        warnings.filterwarnings("ignore", message="Grid size .* under-utilization")
        return kernel[n_blocks, n_threads]
