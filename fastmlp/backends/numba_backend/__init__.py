"""The Numba backend: compiled when it is first used, for machines without a C compiler.

- `engine`: the backend's contract; memory, and what the kernels are given.
- `kernels`: the algorithm, and all that is compiled. One file, because what has been compiled stays
  on disk (``NUMBA_CACHE_DIR`` says where) until the file of a kernel changes, and that file only.
- `team`: the threads.
"""

from fastmlp.backends.numba_backend.engine import Engine, predict

__all__ = ["Engine", "predict"]
