"""Blocks of rows in random order, read ahead: how data larger than memory are shuffled.

An epoch takes the blocks, some hundred consecutive rows each, in random order. As many as memory
allows make a window, whose rows are shuffled together, while the next window is read. Rows of a
window come from places all over the data, so even sorted data are mixed (Xu et al., "In-Database
Machine Learning with CorgiPile: Stochastic Gradient Descent without Full Data Shuffle", 2022).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastmlp.blocks.rows import Rows

#: Bytes of a block: from here on, disks are as fast in random order as in sequence.
BLOCK_BYTES = 1 << 20

#: A small window has smaller blocks, so that it has at least so many.
_MIN_BLOCKS = 64

#: Blocks that are read at a time; one after the other leaves disks idle in between.
_READERS = 4


@dataclass(frozen=True)
class Window:
    """Some of the samples.

    Parameters
    ----------
    X : array of shape (n, n_features)
    Y : array of shape (n, n_outputs)
    weight : array of shape (n,) or None
        All three are overwritten two windows later.
    order : array of shape (m,), int64
        The rows to take, in this order.
    """

    X: NDArray
    Y: NDArray
    weight: NDArray | None
    order: NDArray


class Windows:
    """The windows of an epoch.

    Parameters
    ----------
    X : Rows
    dtype : dtype
        That X is converted to.
    targets : callable
        Maps the start and the end of some rows to their targets, of shape (n, n_outputs).
    weights : callable or None
        Maps them to their weights.
    n_bytes : int
        Of a window. There are two in memory.
    batch_size : int
        A multiple of it is taken from each window; what is left comes first in the next one.
    block_rows : int, optional
        Rows of a block; the last block may be smaller. By default those of 1 MiB, or of a part of a
        small window.
    """

    def __init__(
        self,
        X: Rows,
        dtype: DTypeLike,
        targets: Callable[[int, int], NDArray],
        weights: Callable[[int, int], NDArray] | None,
        *,
        n_bytes: int,
        batch_size: int,
        block_rows: int | None = None,
    ) -> None:
        self._X, self._targets, self._weights = X, targets, weights
        self._batch_size = batch_size
        self.n_rows = len(X)
        like = targets(0, 1)
        row_bytes = X.shape[1] * np.dtype(dtype).itemsize + like.nbytes + like.itemsize + 8
        rows = n_bytes // row_bytes - batch_size
        #: Whether a window holds a batch besides the one that is left of the window before.
        self.fits = rows >= min(batch_size, self.n_rows)
        stored = max(1, X.shape[1] * X.dtype.itemsize)
        self.block_rows = block_rows or max(1, min(BLOCK_BYTES // stored, rows // _MIN_BLOCKS))
        #: Blocks of a window.
        self.window_blocks = max(1, rows // self.block_rows)
        self.n_blocks = -(-self.n_rows // self.block_rows)
        rows = self.window_blocks * self.block_rows + batch_size
        self._rows_in_memory = min(rows, self.n_rows + batch_size)
        self._dtype, self._like = np.dtype(dtype), like
        self._buffers: list[tuple[NDArray, NDArray, NDArray | None]] = []

    def rows_of(self, block: int) -> int:
        """Return the number of rows of a block."""
        return min(self.block_rows, self.n_rows - block * self.block_rows)

    def __call__(
        self, blocks: NDArray, random_state: np.random.RandomState | None = None
    ) -> Iterator[Window]:
        """Read the blocks with these numbers, in this order.

        Parameters
        ----------
        blocks : array of int
        random_state : RandomState, optional
            Shuffles the rows of each window; none keeps them in order.

        Yields
        ------
        window : Window
        """
        while len(self._buffers) < 2:
            self._buffers.append(self._buffer())
        n = self.window_blocks
        parts = [blocks[start : start + n] for start in range(0, len(blocks), n)]
        size, carried = self._batch_size, np.zeros(0, np.int64)
        previous = self._buffers[1]
        with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(_READERS) as readers:
            pending = ahead.submit(self._fill, self._buffers[0], parts[0], readers)
            for number, _ in enumerate(parts):
                buffer, n_read = self._buffers[number % 2], pending.result()
                kept = len(carried)
                for to, source in zip(buffer, previous, strict=True):
                    if to is not None and source is not None:
                        to[size - kept : size] = source[carried]
                is_last = number + 1 == len(parts)
                if not is_last:  # into the buffer whose last rows were copied just now
                    other = self._buffers[(number + 1) % 2]
                    pending = ahead.submit(self._fill, other, parts[number + 1], readers)
                order = np.arange(size - kept, size + n_read)
                if random_state is not None:
                    random_state.shuffle(order)
                taken = len(order) if is_last else len(order) // size * size
                order, carried = order[:taken], order[taken:]
                X, Y, weight = buffer
                yield Window(X, Y, weight, order)
                previous = buffer

    def _buffer(self) -> tuple[NDArray, NDArray, NDArray | None]:
        n, like = self._rows_in_memory, self._like
        return (
            np.empty((n, self._X.shape[1]), self._dtype),
            np.empty((n, like.shape[1]), like.dtype),
            None if self._weights is None else np.empty(n, like.dtype),
        )

    def _fill(
        self,
        buffer: tuple[NDArray, NDArray, NDArray | None],
        blocks: NDArray,
        readers: ThreadPoolExecutor,
    ) -> int:
        """Read blocks into a buffer, after the place of a batch, and return their rows."""
        places, place = [], self._batch_size
        for block in blocks:
            start = int(block) * self.block_rows
            stop = start + self.rows_of(int(block))
            places.append((start, stop, place))
            place += stop - start

        def read(one: tuple[int, int, int]) -> None:
            start, stop, place = one
            X, Y, weight = buffer
            there = slice(place, place + stop - start)
            self._X.read(start, X[there])
            Y[there] = self._targets(start, stop)
            if weight is not None and self._weights is not None:
                weight[there] = self._weights(start, stop)

        list(readers.map(read, places))
        return place - self._batch_size
