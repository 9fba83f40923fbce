"""The Numba backend: compiled on first use, for machines without a C compiler.

- `engine`: the interface of the backend; memory, and the arguments of the kernels.
- `kernels`: the algorithm, and all that is compiled but for the formulas of `fastmlp.core`. What
  has been compiled stays on disk (``NUMBA_CACHE_DIR`` says where) until this file, or one of those
  with the formulas, changes.
- `team`: the threads.
"""

from fastmlp.backends.numba_backend.engine import Engine, predict

__all__ = ["Engine", "predict"]
