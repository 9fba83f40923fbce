"""The GPU backend: whole epochs in one cooperative launch, by numba.cuda.

- `plan`: how batches pass through the device; the numbers that host and kernels agree on.
- `kernels`: what the device computes.
- `device`: whether a device can be used, its arrays, and how kernels are launched on it.
- `engine`: the backend's contract, kept with these.

Where the device cannot launch cooperatively, every stage is a launch of its own, of the same
functions. The simulator of numba (NUMBA_ENABLE_CUDASIM=1) runs both, with one block at a time.
"""

from fastmlp.backends.cuda_backend import device  # noqa: F401 - first: it says why none can be used
from fastmlp.backends.cuda_backend.engine import Engine, predict

__all__ = ["Engine", "predict"]
