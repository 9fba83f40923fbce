# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The kernel that is used wherever it was built."""

from cython cimport floating
from libc.stdint cimport uint8_t


def scale_bytes(const uint8_t[::1] payload, double scale, double shift, floating[::1] out):
    """Scale bytes in one pass."""
    cdef Py_ssize_t i
    cdef floating a = <floating> scale, b = <floating> shift
    with nogil:
        for i in range(out.shape[0]):
            out[i] = a * payload[i] + b
