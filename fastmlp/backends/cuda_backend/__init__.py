"""The GPU backend: whole epochs in one cooperative launch, by numba.cuda.

- `plan`: the partition of batches into stages; constants shared by host and kernels.
- `kernels`: the device code.
- `device`: availability of a device, its arrays, and kernel launches.
- `engine`: the interface of the backend.

If the device does not support cooperative launches, every stage is a separate launch of the same
functions. Numba's simulator (NUMBA_ENABLE_CUDASIM=1) runs both, with one block at a time.
"""

from fastmlp.backends.cuda_backend import device  # noqa: F401 - first: raises if no device is available
from fastmlp.backends.cuda_backend.engine import Engine, predict

__all__ = ["Engine", "predict"]
