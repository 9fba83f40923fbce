"""Batches that come one after the other, gathered in memory or in temporary files."""

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse, vstack

from fastmlp.blocks.rows import Rows

_NAMES = ("X", "y", "sample_weight")


@dataclass(frozen=True)
class Gathered:
    """The samples of all batches.

    Parameters
    ----------
    X : array, CSR matrix or Rows
    y, sample_weight : array or Rows
        `sample_weight` is None if the batches have none.
    columns : sequence or None
        The names of the features, if the batches are DataFrames.
    """

    X: Any
    y: Any
    sample_weight: Any
    columns: Any


class LabelRows(Rows):
    """Labels that are stored as numbers.

    Parameters
    ----------
    codes : Rows
    labels : array of shape (n_labels,)
    """

    def __init__(self, codes: Rows, labels: NDArray) -> None:
        super().__init__(np.empty(0, labels.dtype))
        self.shape = codes.shape
        self._codes, self._labels = codes, labels

    def __getitem__(self, rows: slice) -> NDArray:
        """Return the labels of consecutive rows."""
        return self._labels[self._codes[rows]]


@contextmanager
def gathered(batches: Iterable[Any], max_bytes: float) -> Iterator[Gathered]:
    """Go through batches once, and gather their samples.

    Parameters
    ----------
    batches : iterable of (X, y) or (X, y, sample_weight)
        Arrays, DataFrames, sparse matrices, or tensors that NumPy can read; the same columns in
        each.
    max_bytes : float
        More than this is written to files, which cease to exist with this context or the process.

    Yields
    ------
    samples : Gathered

    Raises
    ------
    TypeError, ValueError
        If the batches are no pairs or triples, or do not fit together.
    OSError
        If the disk is full.
    """
    parts: list[_Column] = []
    try:
        columns = None
        for number, batch in enumerate(batches):
            if not (isinstance(batch, tuple | list) and len(batch) in (2, 3)):
                raise TypeError(
                    "batches must be tuples (X, y) or (X, y, sample_weight), got "
                    f"{type(batch).__name__} as batch {number}; yield tuples."
                )
            if not number:
                columns = getattr(batch[0], "columns", None)
                parts = [_Column(name) for name, _ in zip(_NAMES, batch, strict=False)]
            batch = (_with_columns(batch[0], columns, number), *batch[1:])
            if len(batch) != len(parts):
                raise ValueError(
                    f"all batches must have {len(parts)} elements as the first one, got "
                    f"{len(batch)} in batch {number}."
                )
            lengths = {part.add(value, number) for part, value in zip(parts, batch, strict=True)}
            if len(lengths) > 1:
                raise ValueError(
                    f"X and y of a batch must have the same number of rows, got "
                    f"{sorted(lengths)} in batch {number}."
                )
            if sum(part.n_bytes for part in parts) > max_bytes:
                for part in parts:
                    part.write()
        if not parts:
            raise ValueError("there must be at least one batch, got none.")
        X, y, *rest = (part.joined() for part in parts)
        yield Gathered(X, y, rest[0] if rest else None, columns)
    finally:
        for part in parts:
            part.close()


class _Column:
    """X, y or the weights of all batches."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._held: list[Any] = []
        self._file: BinaryIO | None = None
        self._n_rows = 0
        self._codes: dict[Any, int] | None = None  # of labels, once they are written
        self._like: Any = None

    @property
    def n_bytes(self) -> int:
        """Bytes in memory."""
        return sum(_bytes_of(array) for array in self._held)

    def add(self, value: Any, number: int) -> int:
        """Add a batch's part, and return its number of rows."""
        array = value if issparse(value) else np.asarray(value)
        if array.dtype.kind == "c":
            raise ValueError(
                f"{self._name} must be real, got {array.dtype} in batch {number}; pass real and "
                "imaginary parts as columns."
            )
        if self._name == "X" and not issparse(array) and array.dtype not in (np.uint8, np.float32):
            try:
                array = array.astype(np.float64, copy=False)
            except (TypeError, ValueError):
                raise ValueError(
                    f"X must be numbers, got {array.dtype} in batch {number}; encode text before."
                ) from None
        if array.ndim == 0:
            raise ValueError(f"{self._name} must be an array, got {value!r} in batch {number}.")
        if self._like is None:
            self._like = array[:0]
        like = self._like
        is_same = (
            issparse(array) == issparse(like)
            and array.shape[1:] == like.shape[1:]
            and (array.dtype == like.dtype or self._name != "X" or issparse(like))
        )
        if not is_same:
            raise ValueError(
                f"{self._name} must have the same columns and dtype in all batches, got "
                f"{_described(array)} in batch {number} and {_described(like)} in the first one."
            )
        if self._file is None:
            # A loader may use its memory again.
            self._held.append(array.copy() if array is value or array.base is not None else array)
        else:
            self._append(array)
        return array.shape[0]

    def write(self) -> None:
        """Move what is in memory to a file."""
        if self._file is None:
            if issparse(self._like):
                raise ValueError(
                    "sparse batches must fit in memory: pass a larger max_memory, or dense ones."
                )
            self._file = _new_file()
            if self._like.dtype.kind not in "biufmM":
                self._codes = {}
        for array in self._held:
            self._append(array)
        self._held = []

    def _append(self, array: NDArray) -> None:
        assert self._file is not None
        if self._codes is not None:
            array = self._coded(array)
        elif not np.can_cast(array.dtype, self._like.dtype, "safe"):
            raise ValueError(
                f"{self._name} must have the dtype of the first batch, {self._like.dtype}, in all "
                f"batches, got {array.dtype}; convert it."
            )
        else:
            array = np.ascontiguousarray(array, self._like.dtype)
        left = array.reshape(-1).view(np.uint8).data
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            if error.errno == errno.ENOSPC:
                error.strerror = (
                    f"{error.strerror}: the batches take more than {_directory()} has left; free "
                    "some, or set the environment variable TMPDIR to a directory on a larger disk"
                )
            raise
        self._n_rows += len(array)

    def _coded(self, labels: NDArray) -> NDArray:
        """Return numbers for labels, which must be text, as scikit-learn wants them."""
        codes = self._codes
        assert codes is not None
        found = labels.tolist()
        if labels.ndim > 1 or not all(isinstance(label, str) for label in found):
            other = next((x for x in found if not isinstance(x, str)), found)
            raise ValueError(
                f"{self._name} must be numbers, or text without missing values in one column, got "
                f"{other!r}; convert it."
            )
        return np.fromiter((codes.setdefault(x, len(codes)) for x in found), np.int32, len(found))

    def joined(self) -> Any:
        """Return all batches' parts as one."""
        if self._file is None:
            if issparse(self._like):
                return vstack(self._held, format="csr")
            return np.concatenate(self._held)
        shape = (self._n_rows, *self._like.shape[1:])
        if self._codes is None:
            return Rows.of_file(self._file, shape, self._like.dtype)
        codes = Rows.of_file(self._file, shape, np.int32)
        return LabelRows(codes, np.array(list(self._codes)))

    def close(self) -> None:
        """Delete the file."""
        if self._file is not None:
            self._file.close()


def _with_columns(X: Any, columns: Any, number: int) -> Any:
    """Return a batch with the columns of the first one, in their order."""
    there = getattr(X, "columns", None)
    if there is None if columns is None else there is not None and list(there) == list(columns):
        return X
    if columns is None or there is None or set(there) != set(columns):
        first, this = (
            "no names of columns" if names is None else f"the columns {list(names)[:5]}"
            for names in (columns, there)
        )
        raise ValueError(
            f"all batches of X must have the same columns, got {first} in the first one and {this} "
            f"in batch {number}."
        )
    return X[list(columns)]


def _bytes_of(array: Any) -> int:
    return array.data.nbytes + array.indices.nbytes if issparse(array) else array.nbytes


def _described(array: Any) -> str:
    kind = "sparse " if issparse(array) else ""
    width = f" with {array.shape[1]} columns" if array.ndim == 2 else f" of {array.ndim} dimensions"
    return f"{kind}{array.dtype}{width}"


def _directory() -> str:
    """Return the directory for large temporary files: /tmp may be in memory."""
    if "TMPDIR" in os.environ:
        return os.environ["TMPDIR"]
    return "/var/tmp" if os.path.isdir("/var/tmp") else tempfile.gettempdir()


def _new_file() -> BinaryIO:
    """Return a temporary file that has no name, and no buffer whose errors would come late."""
    try:
        return tempfile.TemporaryFile(prefix="fastmlp-", dir=_directory(), buffering=0)
    except OSError as error:
        error.strerror = (
            f"{error.strerror}: batches that do not fit in memory are written there; set the "
            "environment variable TMPDIR to a directory that can be written to"
        )
        raise
