"""The IDX format, in which the MNIST family is published: read, write, memory-map."""

from fastmlp.idx.format import IDXError, IDXInfo, info, read, write

__all__ = ["IDXError", "IDXInfo", "info", "read", "write"]
