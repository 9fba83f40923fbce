"""Rows of tables as a request has them: JSON, CSV or a tensor per column."""

import csv
import io
import math
import threading
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.portable import PlainColumn, PlainTable
from fastmlp.serve.errors import RequestError, sentence_of
from fastmlp.serve.rows import check_count, check_names, kind_of

__all__ = ["FrameRows", "TableRows", "read_csv"]

#: Rows that are encoded one by one; of more, columns are encoded one by one.
_FEW = 32

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BOOLEANS = ("False", "True")

#: How content begins that `fastmlp.tables.read_table` reads, too, but that is no text.
_NOT_TEXT = (
    b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd", b"PAR1", b"ARROW1", b"FEA1", b"\xff\xff\xff\xff",
    b"\x93NUMPY", b"PK",
)  # fmt: skip
_MOST_COLUMNS = 10_000
_DELIMITERS = (b",", b";", b"\t", b"|", b" ")

#: Filters of warnings are those of the process.
_filtering = threading.Lock()


class TableRows:
    """Reads rows for a pipeline of `fastmlp.tables`, and encodes them as it does.

    Parameters
    ----------
    table : PlainTable
        What the pipeline does with a row.
    pipeline : Pipeline
    max_rows : int
        Of a request.

    Attributes
    ----------
    names : list of str
        Of the columns that the model uses.
    """

    def __init__(self, table: PlainTable, pipeline: Any, max_rows: int) -> None:
        from fastmlp.tables.text import MISSING_WORDS

        self.table = table
        self.names = [column.name for column in table.columns]
        self.max_rows = max_rows
        self._encoder = pipeline[:-1]
        self._missing = frozenset(MISSING_WORDS)

    def of_rows(self, rows: Sequence[Any]) -> NDArray[np.float32]:
        """Return the inputs of the network for rows, which are objects by the names of columns.

        A value is a number, text, true or false, or null if it is missing; dates are ISO texts.

        Raises
        ------
        RequestError
        """
        check_count(len(rows), self.max_rows)
        cells = []
        for place, row in enumerate(rows):
            if not isinstance(row, dict):
                raise RequestError(
                    "a row of a table must be an object with a value per column, got "
                    f"{kind_of(row)} in row {place}."
                )
            check_names(self.names, row, f" in row {place}")
            cells.append(
                {
                    column.name: self._cell(column, row[column.name], place)
                    for column in self.table.columns
                }
            )
        return self.table.inputs(cells) if len(cells) <= _FEW else self._by_columns(cells)

    def of_columns(self, columns: Mapping[str, Sequence[Any]]) -> NDArray[np.float32]:
        """Return the inputs of the network for columns: lists of values by their names."""
        return self.of_rows(_rows_of(columns, self.names, self.max_rows))

    def of_frame(self, frame: Any) -> Any:
        """Return the inputs of the network for a DataFrame, as an array or CSR matrix."""
        check_count(len(frame), self.max_rows)
        try:
            return self._encoder.transform(frame)
        except ValueError as error:
            raise RequestError(sentence_of(error)) from None

    def of_csv(self, content: memoryview) -> Any:
        """Return the inputs of the network for a CSV with a header."""
        return self.of_frame(read_csv(content))

    def _cell(self, column: PlainColumn, value: Any, place: int) -> float | str | None:
        """Return a value as the encoding takes it."""
        if value is None or (isinstance(value, str) and value in self._missing):
            return None
        if isinstance(value, float) and math.isnan(value):  # of a tensor
            return None
        read = {"number": _number, "boolean": _boolean, "date": _days, "category": _word}
        found = read[column.kind](column, value)
        if found is None:
            raise RequestError(
                f"the column {column.name!r} must hold {_rule(column)}, as in training, got "
                f"{kind_of(value)} in row {place}."
            )
        return found

    def _by_columns(self, cells: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """Return what `PlainTable.inputs` does, a column at a time."""
        inputs = np.zeros((len(cells), self.table.n_inputs), np.float32)
        every = np.arange(len(cells))
        for column in self.table.columns:
            values = [row[column.name] for row in cells]
            if column.kind == "category":
                known: dict[Any, int] = {**column.inputs, None: column.missing}
                ones = np.array([known.get(value, column.unknown) for value in values])
            else:
                x = np.array(values, np.float64)
                ones = np.where(np.isnan(x), column.missing, -1)
                inputs[:, column.input] = np.where(np.isnan(x), 0, _scaled(column, x))
            inputs[every[ones >= 0], ones[ones >= 0]] = 1
        return inputs


def _scaled(column: PlainColumn, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what `PlainColumn.scaled` does, for an array."""
    if column.is_binary:
        return np.clip(x, 0, 1) - column.center
    with np.errstate(over="ignore"):
        x = np.clip((x - column.center) * column.scale, -1e9, 1e9)
    return x / np.sqrt(1 + (x / 3) ** 2)


def _number(column: PlainColumn, value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, int | float):
        return None
    try:
        value = float(value)
    except OverflowError:
        return None
    return None if math.isnan(value) else value  # infinity is clipped


def _boolean(column: PlainColumn, value: Any) -> float | None:
    if isinstance(value, bool) or (value in (0, 1) and column.words is None):
        return float(value)
    if not isinstance(value, str):
        return None
    words = [word.strip().lower() for word in column.words or _BOOLEANS]
    word = value.strip().lower()
    return float(words.index(word)) if word in words else None


def _days(column: PlainColumn, value: Any) -> float | None:
    """Return days since 1970 of an ISO date or time; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(value.strip())
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (AttributeError, ValueError, OverflowError):
        return None
    return (moment - _EPOCH) // timedelta(microseconds=1) / 86_400e6


def _word(column: PlainColumn, value: Any) -> str | None:
    """Return a category as text, the same for 3, 3.0 and "3"."""
    from fastmlp.tables.columns import as_word

    if not isinstance(value, str | int | float):
        return None
    try:
        return as_word(value)
    except OverflowError:  # an integer beyond the range of floats
        return str(value)


def _rule(column: PlainColumn) -> str:
    if column.kind == "boolean" and column.words is not None:
        return f"true, false, {' or '.join(map(repr, column.words))}"
    rules = {
        "number": "numbers",
        "boolean": "true, false, 0 or 1",
        "date": "dates such as '2024-12-31'",
        "category": "text or numbers",
    }
    return rules[column.kind]


class FrameRows:
    """Reads rows for another estimator that was trained on a table: it gets a DataFrame.

    Parameters
    ----------
    names : sequence of str
        Of the columns.
    max_rows : int
        Of a request.
    """

    def __init__(self, names: Sequence[str], max_rows: int) -> None:
        self.names = list(names)
        self.max_rows = max_rows

    def of_rows(self, rows: Sequence[Any]) -> Any:
        """Return a frame of rows: objects by the names of columns, or lists in their order."""
        import pandas as pd

        check_count(len(rows), self.max_rows)
        for place, row in enumerate(rows):
            if type(row) is not type(rows[0]) or not isinstance(row, dict | list):
                raise RequestError(
                    "the rows must all be objects with a value per column, or all be lists, got "
                    f"{kind_of(row)} in row {place}."
                )
            if isinstance(row, dict):
                check_names(self.names, row, f" in row {place}")
            elif len(row) != len(self.names):
                raise RequestError(
                    f"a row must have {len(self.names)} values, got {len(row)} in row {place}."
                )
            for value in row.values() if isinstance(row, dict) else row:
                if isinstance(value, dict | list):
                    raise RequestError(
                        f"a value must be a number, text, true, false or null, got "
                        f"{kind_of(value)} in row {place}."
                    )
        try:
            return pd.DataFrame(list(rows), columns=self.names)
        except (ValueError, OverflowError) as error:  # such as text that is not Unicode
            raise RequestError(sentence_of(error)) from None

    def of_columns(self, columns: Mapping[str, Sequence[Any]]) -> Any:
        """Return a frame of columns: lists of values by their names."""
        return self.of_rows(_rows_of(columns, self.names, self.max_rows))

    def of_frame(self, frame: Any) -> Any:
        """Return the columns of a frame that the model needs."""
        check_count(len(frame), self.max_rows)
        check_names(self.names, dict.fromkeys(map(str, frame.columns)))
        return frame[self.names]

    def of_csv(self, content: memoryview) -> Any:
        """Return a frame of a CSV with a header."""
        return self.of_frame(read_csv(content))


def _rows_of(
    columns: Mapping[str, Sequence[Any]], names: Sequence[str], max_rows: int
) -> list[dict[str, Any]]:
    """Return columns as rows."""
    check_names(names, columns)
    lengths = {name: len(columns[name]) for name in names}
    n_rows = lengths[names[0]]
    check_count(n_rows, max_rows)
    for name, length in lengths.items():
        if length != n_rows:
            raise RequestError(
                f"the columns must be of the same length, got {n_rows} values of {names[0]!r} and "
                f"{length} of {name!r}."
            )
    values = zip(*(columns[name] for name in names), strict=True)
    return [dict(zip(names, row, strict=True)) for row in values]


def read_csv(content: memoryview) -> Any:
    """Read a CSV of any delimiter, in memory, as ``fastmlp predict`` does.

    Returns
    -------
    DataFrame

    Raises
    ------
    RequestError
        If it is not text, or not a table.
    """
    from fastmlp.tables import read_table

    text = bytes(content)
    if text.startswith(_NOT_TEXT) or b"\0" in text[:4096]:
        raise RequestError(
            f"the body must be CSV, got other content, which begins with {text[:8]!r}."
        )
    if text.lstrip()[:1] in (b"{", b"["):
        raise RequestError("the body must be CSV, got JSON: say so in Content-Type.")
    header = text.partition(b"\n")[0]
    if max(map(header.count, _DELIMITERS)) >= _MOST_COLUMNS:
        raise RequestError(f"a table must have fewer than {_MOST_COLUMNS:,} columns, got more.")
    with _filtering, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read_table(io.BytesIO(text))
        except (ValueError, OSError, OverflowError, csv.Error) as error:
            raise RequestError(sentence_of(error).replace("the stream", "the CSV")) from None
