"""Arrays whose rows are read when they are needed."""

import os
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Rows:
    """The rows of an array in memory or on disk.

    Rows of a C-contiguous memory map are read from its file: that is faster than touching pages,
    and leaves nothing of them in this process's memory.

    Parameters
    ----------
    array : array-like of shape (n_rows, ...)
        With `shape`, `dtype` and slices, as NumPy's arrays and memory maps, h5py's datasets or
        Zarr's arrays.
    """

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype = np.dtype(array.dtype)
        self._path, self._offset = _file_of(array)
        self._file: int | None = None

    @classmethod
    def of_file(cls, file: BinaryIO, shape: tuple[int, ...], dtype: DTypeLike) -> Self:
        """Return the rows of a file that holds nothing else; it is closed by its owner."""
        rows = cls(np.memmap(file, dtype, "r", shape=shape))
        if hasattr(os, "preadv"):
            rows._file = file.fileno()
        return rows

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray:
        """Return a copy of consecutive rows."""
        start, stop, _ = rows.indices(len(self))
        out = np.empty((stop - start, *self.shape[1:]), self.dtype)
        self.read(start, out)
        return out

    def read(self, start: int, out: NDArray) -> None:
        """Read the rows from `start` on into an array of their shape, and of any dtype."""
        if self._file is None and self._path is None:
            out[...] = self._array[start : start + len(out)]
            return
        if out.dtype != self.dtype or not out.flags.c_contiguous:
            out[...] = self[start : start + len(out)]
            return
        if self._file is None:
            self._file = os.open(self._path, os.O_RDONLY)
        place = self._offset + start * (out.nbytes // max(1, len(out)))
        left = out.reshape(-1).view(np.uint8).data
        while left:
            n_read = os.preadv(self._file, [left], place)
            if n_read == 0:
                raise OSError(
                    f"{self._path} has become shorter than the array that was opened, of shape "
                    f"{self.shape}; open it again."
                )
            left, place = left[n_read:], place + n_read

    def __del__(self) -> None:
        """Close the file that was opened here."""
        if self._path is not None and self._file is not None:
            os.close(self._file)


def is_on_disk(array: Any) -> bool:
    """Return whether an array is not in memory: a memory map, or the like of h5py and Zarr."""
    if isinstance(array, np.ndarray | Rows):
        return isinstance(array, Rows) or isinstance(array, np.memmap)
    # They have chunks, and no data until they are sliced; Dask's have a graph besides.
    return all(
        hasattr(array, name) for name in ("shape", "dtype", "chunks", "__getitem__")
    ) and not hasattr(array, "__dask_graph__")


def _file_of(array: Any) -> tuple[Any, int]:
    """Return the file of a contiguous memory map and where its first element is, or None and 0."""
    if not (isinstance(array, np.memmap) and array.flags.c_contiguous and hasattr(os, "preadv")):
        return None, 0
    whole = array
    while isinstance(whole.base, np.memmap):
        whole = whole.base
    if array.filename is None or whole.offset is None or array.mode == "c":
        return None, 0
    start = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return array.filename, whole.offset + start
