"""The GPU backend; see `fastmlp.backends.cuda_backend.engine`."""

from fastmlp.backends.cuda_backend.engine import Engine, decode, predict

__all__ = ["Engine", "decode", "predict"]
