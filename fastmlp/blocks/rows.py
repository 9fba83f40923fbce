"""Arrays whose rows are read when they are needed."""

import mmap
import os
import threading
from contextlib import suppress
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Bytes of a page, of which direct reads take whole ones; and of the largest of them.
_PAGE = mmap.PAGESIZE
_MOST_DIRECT = (1 << 20) + 4 * _PAGE

#: Rows of a memory map that are compared with its file, which may have been replaced.
_COMPARED = 16

_of_thread = threading.local()


class Rows:
    """The rows of an array in memory or on disk.

    Rows of a C-contiguous memory map are read from its file: that is faster than touching pages,
    and leaves nothing of them in this process's memory.

    Parameters
    ----------
    array : array-like of shape (n_rows, ...)
        With `shape`, `dtype` and slices, as NumPy's arrays and memory maps, h5py's datasets or
        Zarr's arrays.
    caches : bool
        Whether the operating system keeps what is read from a file, for the next time. If there is
        not enough memory for that, trying takes more of the processor than reading.
    """

    def __init__(self, array: Any, *, caches: bool = True) -> None:
        self._array = array
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype = np.dtype(array.dtype)
        self._file: int | None = None
        self._direct: int | None = None
        self._path, self._offset = _file_of(array)
        if self._path is not None:
            self._open(caches)

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
        if self._file is None:
            out[...] = self._array[start : start + len(out)]
            return
        if out.dtype != self.dtype or not out.flags.c_contiguous:
            out[...] = self[start : start + len(out)]
            return
        place = self._offset + start * (out.nbytes // max(1, len(out)))
        if self._direct is not None and _read_directly(self._direct, place, out):
            return
        left = out.reshape(-1).view(np.uint8).data
        while left:
            n_read = os.preadv(self._file, [left], place)
            if n_read == 0:
                raise OSError(
                    f"{self._path} has become shorter than the array that was opened, of shape "
                    f"{self.shape}; open it again."
                )
            left, place = left[n_read:], place + n_read

    def _open(self, caches: bool) -> None:
        """Open the file of a memory map, also for reading past the cache, if that is wanted."""
        with suppress(FileNotFoundError):
            self._file = os.open(self._path, os.O_RDONLY)
        if self._file is None or not self._is_of_the_map():
            self._close()  # another file has its name now; the map still has what it had
            return
        if not caches and hasattr(os, "O_DIRECT"):
            with suppress(OSError):  # not every file system can
                self._direct = os.open(self._path, os.O_RDONLY | os.O_DIRECT)

    def _is_of_the_map(self) -> bool:
        """Return whether the file has the rows of the map; some are compared.

        A shorter one counts as the map's, which must not be touched then; reading refuses it.
        """
        assert self._file is not None
        n = len(self)
        if os.fstat(self._file).st_size < self._offset + self._array.nbytes:
            return True
        for start in range(0, n, max(1, -(-n // _COMPARED))):
            row = self._array[start : start + 1]
            place = self._offset + start * row.nbytes
            if os.pread(self._file, row.nbytes, place) != row.tobytes():
                return False
        return True

    def _close(self) -> None:
        """Close the file that was opened here."""
        if self._path is not None:
            for file in (self._file, self._direct):
                if file is not None:
                    os.close(file)
        self._path = self._file = self._direct = None

    def __del__(self) -> None:
        """Close the file that was opened here."""
        if hasattr(self, "_path"):
            self._close()


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


def _read_directly(file: int, place: int, out: NDArray) -> bool:
    """Read whole pages past the operating system's cache; return whether that was possible."""
    first = place // _PAGE * _PAGE
    n_bytes = -(-(place + out.nbytes) // _PAGE) * _PAGE - first
    if n_bytes > _MOST_DIRECT:
        return False
    buffer = getattr(_of_thread, "buffer", None)
    if buffer is None:  # of mmap, because it begins at a page
        buffer = _of_thread.buffer = mmap.mmap(-1, _MOST_DIRECT)
    try:
        n_read = os.preadv(file, [memoryview(buffer)[:n_bytes]], first)
    except OSError:
        return False
    if n_read < place - first + out.nbytes:  # at the end of the file, or interrupted
        return False
    there = np.frombuffer(buffer, np.uint8, out.nbytes, place - first)
    out.reshape(-1).view(np.uint8)[...] = there
    return True
