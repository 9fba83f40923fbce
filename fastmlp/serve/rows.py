"""Rows of numbers as a request has them: JSON, CSV or tensors."""

import csv
import io
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.serve.errors import RequestError
from fastmlp.utils.suggestions import did_you_mean

__all__ = [
    "ALONE_BYTES",
    "NumberRows",
    "check_count",
    "check_names",
    "flat",
    "kind_of",
    "shown",
    "text_of",
]

#: Rows of so many bytes are not predicted together with those of other requests.
ALONE_BYTES = 256 << 10

#: Names that are compared with a missing one, and their length: comparing takes a while.
_MOST_COMPARED = 50


class NumberRows:
    """Reads rows of numbers.

    Parameters
    ----------
    n_features : int
        0 if it is not known.
    dtype : dtype
        Of the network, in which numbers without a type, as JSON has them, are read.
    names : sequence of str, optional
        Of the features.
    max_rows : int
        Of a request.
    has_own_names : bool, default=False
        Whether the model was trained on features of these names, so that a CSV must have them.
    are_gray_levels : bool, default=False
        Whether integers are read as bytes, which is faster, with the same predictions.
    """

    def __init__(
        self,
        n_features: int,
        dtype: np.dtype,
        names: Sequence[str] | None,
        max_rows: int,
        *,
        has_own_names: bool = False,
        are_gray_levels: bool = False,
    ) -> None:
        self.n_features = n_features
        self.dtype = dtype
        self.names = None if names is None else list(names)
        self.max_rows = max_rows
        self.has_own_names = has_own_names
        self._are_gray_levels = are_gray_levels

    def of_rows(self, rows: Sequence[Any]) -> NDArray:
        """Return an array of rows: lists of numbers, or objects by the names of features.

        Raises
        ------
        RequestError
        """
        check_count(len(rows), self.max_rows)
        if isinstance(rows[0], dict):
            rows = self._in_order(rows)
        n_features = self.n_features or (len(rows[0]) if isinstance(rows[0], list) else 1)
        for place, row in enumerate(rows):
            if not isinstance(row, list):
                raise RequestError(
                    f"a row must be a list of {n_features} numbers, got {kind_of(row)} in row "
                    f"{place}."
                )
            if len(row) != n_features:
                raise RequestError(
                    f"a row must have {n_features} numbers, got {len(row)} in row {place}."
                )
        if self._are_gray_levels:
            with suppress(TypeError, ValueError):  # not all of them are integers from 0 to 255
                return np.frombuffer(b"".join(map(bytes, rows)), np.uint8).reshape(len(rows), -1)
        numbers = np.empty((len(rows), n_features), np.float64)
        for place, (row, into) in enumerate(zip(rows, numbers, strict=True)):
            try:
                into[:] = array("d", row)  # which takes numbers only; NumPy parses text, too
            except (TypeError, OverflowError):
                raise RequestError(_not_a_number(row, place)) from None
        return self.checked(self._narrowed(numbers))

    def of_columns(self, columns: Mapping[str, Sequence[Any]]) -> NDArray:
        """Return an array of columns: lists of numbers by the names of features."""
        if not columns:
            raise RequestError("there must be a column for each feature, got none.")
        lengths = {len(column) for column in columns.values()}
        if len(lengths) > 1:
            raise RequestError(
                f"the columns must be of the same length, got {', '.join(map(str, lengths))}."
            )
        check_count(next(iter(lengths)), self.max_rows)
        names = list(columns)
        values = zip(*columns.values(), strict=True)
        return self.of_rows([dict(zip(names, row, strict=True)) for row in values])

    def of_csv(self, content: memoryview) -> NDArray:
        """Return an array of lines of numbers, with or without a header."""
        try:
            lines = [line for line in csv.reader(io.StringIO(text_of(content))) if line]
        except csv.Error as error:
            raise RequestError(f"the body must be valid CSV, got an error: {error}.") from None
        if not lines:
            raise RequestError("the CSV must have a line per row, got none.")
        header = None if all(map(_is_number, lines[0])) else [name.strip() for name in lines.pop(0)]
        check_count(len(lines), self.max_rows)
        width = len(header or lines[0])
        for place, line in enumerate(lines):
            if len(line) != width:
                raise RequestError(
                    f"the lines of the CSV must have {width} numbers, got {len(line)} in row "
                    f"{place}."
                )
        try:
            numbers = np.array(lines, np.float64)
        except ValueError:
            place = next(i for i, line in enumerate(lines) if not all(map(_is_number, line)))
            word = next(word for word in lines[place] if not _is_number(word))
            raise RequestError(
                f"the CSV must have numbers only, got {shown(word)} in row {place}."
            ) from None
        if header is not None and self.names is not None:
            places = {name: place for place, name in enumerate(header)}
            if self.has_own_names:
                check_names(self.names, places)
            if set(self.names) <= set(places):
                numbers = numbers[:, [places[name] for name in self.names]]
        return self.checked(self._narrowed(numbers))

    def _narrowed(self, numbers: NDArray[np.float64]) -> NDArray:
        """Return numbers in the dtype of the network."""
        if self.dtype == numbers.dtype:
            return numbers
        with np.errstate(over="ignore"):
            return numbers.astype(self.dtype)

    def of_tensor(self, tensor: NDArray) -> NDArray:
        """Return an array of a tensor; its first dimension is that of the rows."""
        check_count(len(tensor), self.max_rows)
        return self.checked(tensor.reshape(len(tensor), -1))

    def checked(self, X: NDArray) -> NDArray:
        """Return rows that the model can take."""
        if self.n_features and X.shape[1] != self.n_features:
            raise RequestError(
                f"a row must have {self.n_features} numbers, as the model was trained on, got "
                f"{X.shape[1]}."
            )
        is_merged = X.nbytes < ALONE_BYTES  # the estimator looks for itself, but refuses all rows
        if X.dtype.kind == "f" and is_merged and not np.isfinite(X).all():
            place = int(np.argmin(np.isfinite(X).all(axis=1)))
            raise RequestError(
                f"numbers must be finite in {X.dtype}, got NaN, infinity or one beyond its range "
                f"in row {place}."
            )
        return X

    def _in_order(self, rows: Sequence[Any]) -> list[Any]:
        """Return objects as lists, in the order of the features."""
        if self.names is None:
            raise RequestError(
                f"a row must be a list of {self.n_features} numbers, as the features of the model "
                "have no names, got an object."
            )
        found = []
        for place, row in enumerate(rows):
            if not isinstance(row, dict):
                raise RequestError(
                    f"the rows must all be objects or all be lists, got {kind_of(row)} in row "
                    f"{place}."
                )
            check_names(self.names, row, f" in row {place}")
            found.append([row[name] for name in self.names])
        return found


def check_names(names: Sequence[str], given: Mapping[str, Any], where: str = "") -> None:
    """Refuse a row or a table that lacks columns."""
    missing = [name for name in names if name not in given]
    if missing:
        shown = ", ".join(map(repr, missing[:5]))
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        others = [name for name in given if name not in names and len(name) <= _MOST_COMPARED]
        hint = did_you_mean(missing[0], others[:_MOST_COMPARED])
        plural = "s" if len(missing) > 1 else ""
        raise RequestError(
            f"the column{plural} {shown}{more} that the model was trained on must be given, if "
            f"necessary as null, got none{where}{hint}"
        )


def check_count(n_rows: int, max_rows: int) -> None:
    """Refuse no rows, and too many."""
    if n_rows == 0:
        raise RequestError("there must be a row to predict, got none.")
    if n_rows > max_rows:
        raise RequestError(
            f"a request must have at most {max_rows:,} rows, got {n_rows:,}: send them in parts.",
            413,
        )


def text_of(content: memoryview | bytes) -> str:
    """Decode text."""
    try:
        return bytes(content).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"text must be encoded in UTF-8, got the byte 0x{content[error.start]:02x} at "
            f"{error.start}."
        ) from None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _not_a_number(row: Sequence[Any], place: int) -> str:
    """Say which entry of a row is none."""
    for column, value in enumerate(row):
        if not isinstance(value, int | float):
            return f"a row must have numbers only, got {kind_of(value)} at {column} of row {place}."
    return f"numbers must be finite, got one beyond float64's range in row {place}."


_KINDS = {dict: "an object", list: "a list", type(None): "null", bool: "a boolean"}


def kind_of(value: Any) -> str:
    """Name a value of JSON for a message."""
    return _KINDS.get(type(value), shown(value))


def shown(value: Any) -> str:
    """Return a value for a message, shortened."""
    text = repr(value) if isinstance(value, str | int | float) else type(value).__name__
    return text if len(text) <= 40 else f"{text[:37]}..."


def flat(values: Any) -> list[Any]:
    """Return the elements of nested lists, in their order."""
    while values and isinstance(values[0], list):
        if not all(isinstance(value, list) for value in values):
            raise RequestError("nested lists of data must be of one depth, got a mixture.")
        values = list(chain.from_iterable(values))
    return list(values)
