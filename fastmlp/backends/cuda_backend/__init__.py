"""The GPU backend; see `fastmlp.backends.cuda_backend.engine`."""

from fastmlp.backends.cuda_backend.engine import Engine, predict

__all__ = ["Engine", "predict"]
