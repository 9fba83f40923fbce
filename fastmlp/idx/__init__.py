"""Read, write and memory-map IDX files, the format of the MNIST family."""

from fastmlp.idx.format import IDXError, IDXInfo, info, read, write

__all__ = ["IDXError", "IDXInfo", "info", "read", "write"]
