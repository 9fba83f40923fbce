"""Types of the columns of a table and how they are encoded; target and task."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fastmlp.exceptions import TableWarning, warn
from fastmlp.tables import text
from fastmlp.utils.suggestions import closest

__all__ = ["Column", "describe", "find_target", "find_task", "take_target"]

#: Common names of targets, in lower case, in order of preference.
TARGET_NAMES = ("target", "label", "class", "y")

TASKS = ("classification", "regression")

#: Maximum number of categories per column with their own input; the others share one.
MAX_CATEGORIES = 512

#: Categories with fewer rows share an input, which is also used for unknown ones.
MIN_ROWS_OF_CATEGORY = 4

#: Integers with at most this many distinct values ...
_MAX_CLASSES = 20

#: ... and this many rows per value on average are treated as classes.
_MIN_ROWS_OF_CLASS = 3

#: From this number of rows, distinct values in all rows are not a coincidence.
_MIN_IDENTIFIERS = 20

_NAME_OF_IDENTIFIER = re.compile(
    r"(?i)(.*[^a-z])?(id|index|key|uuid|guid|row|rownames)|.*[a-z]I[dD]"
)

_UNLEARNABLE = "left out: neither numbers, text nor dates"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : str
    kind : {"number", "category", "date", "boolean", "text", "constant", "identifier"}
    n_missing : int
        Rows without a value.
    n_distinct : int
        Number of distinct values, without missing ones.
    action : str
        How a pipeline encodes it, in words: "scaled", "one-hot of 5", "left out: constant".
    """

    name: str
    kind: str
    n_missing: int
    n_distinct: int
    action: str

    @property
    def is_used(self) -> bool:
        """Whether the column is used."""
        return not self.action.startswith(("left out", "target"))


def describe(frame: pd.DataFrame, target: str | None = None) -> list[Column]:
    """Describe the type of each column and how a pipeline fitted on it encodes it.

    Parameters
    ----------
    frame : DataFrame
    target : str, optional
        The column whose action is "target".

    Returns
    -------
    columns : list of Column
        In the order of the table.

    Examples
    --------
    >>> frame = pd.DataFrame({"size": [1.5, 2.5, None], "sold": ["yes", "no", "yes"]})
    >>> for column in describe(frame):
    ...     print(column.name, column.kind, column.n_missing, "|", column.action)
    size number 1 | scaled, the missing ones filled with the median and marked
    sold boolean 0 | as 0 and 1
    """
    columns = []
    for place, name in enumerate(frame.columns):
        column = judge(frame.iloc[:, place], str(name))
        if target is not None and name == target:
            column = Column(column.name, column.kind, column.n_missing, column.n_distinct, "target")
        columns.append(column)
    return columns


# --------------------------------------------------------------------------------- what a column is


def plain(values: pd.Series) -> tuple[str, Any]:
    """Convert a column of any dtype to an array of one of a few kinds.

    Returns
    -------
    family : {"number", "boolean", "date", "text", "other"}
    values : array
        number: NumPy integers or floats, NaN is missing. boolean: float32 of 0, 1 and NaN.
        date: datetime64, in UTC. text: Categorical of str. other: unchanged.
    """
    dtype = values.dtype
    if isinstance(dtype, pd.SparseDtype):
        values = values.sparse.to_dense()
        dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _plain_categories(values)
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean", values.to_numpy(dtype=np.float32, na_value=np.nan)
    if pd.api.types.is_numeric_dtype(dtype):
        if pd.api.types.is_complex_dtype(dtype):
            return "other", values.to_numpy()
        if isinstance(dtype, np.dtype):
            return "number", values.to_numpy()
        if values.isna().any() or not pd.api.types.is_integer_dtype(dtype):
            return "number", values.to_numpy(dtype=np.float64, na_value=np.nan)
        return "number", values.to_numpy(dtype=np.int64)
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return "date", _naive(values)
    if isinstance(dtype, pd.PeriodDtype):
        return "date", values.dt.to_timestamp().to_numpy()
    if pd.api.types.is_timedelta64_dtype(dtype):
        return "number", values.dt.total_seconds().to_numpy(np.float64)
    return _plain_objects(values)


def _plain_categories(values: pd.Series) -> tuple[str, Any]:
    """Convert a categorical column according to its categories, which may be numbers."""
    codes = values.cat.codes.to_numpy()
    categories = pd.Series(values.cat.categories)
    if pd.api.types.infer_dtype(categories, skipna=False) == "string":
        return _plain_words(np.asarray(categories, dtype=object), codes)
    family, words = plain(categories)
    if family in ("number", "boolean"):
        words = words if words.dtype.kind == "f" else words.astype(np.float64)
        return family, np.append(words, words.dtype.type(np.nan))[codes]
    if family == "date":
        return family, np.append(words, np.datetime64("NaT"))[codes]
    if family == "other":
        return family, values.to_numpy(dtype=object)
    return "text", pd.Categorical.from_codes(
        np.append(words.codes, -1)[codes], categories=words.categories
    )


def _plain_words(words: NDArray[Any], codes: NDArray[Any]) -> tuple[str, Any]:
    """Convert text, given as codes and words, to its actual type."""
    missing = np.fromiter((word in text.MISSING_WORDS for word in words), bool, len(words))
    if missing.any():
        moved = np.where(missing, -1, np.cumsum(~missing) - 1)
        codes, words = np.append(moved, -1)[codes], words[~missing]
    if (dated := text.dates(words)) is not None:
        return "date", np.append(dated[0], np.datetime64("NaT"))[codes]
    if (numbers := text.numbers(words)) is not None and not numbers[1]:
        return "number", np.append(numbers[0], np.nan)[codes]
    return "text", pd.Categorical.from_codes(codes, categories=words)


def _plain_objects(values: pd.Series) -> tuple[str, Any]:
    """Convert a column of Python objects or text to its actual type."""
    found = pd.api.types.infer_dtype(values, skipna=True)
    if found == "empty":
        return "number", np.full(len(values), np.nan, np.float32)
    if found == "boolean":
        return "boolean", values.astype("boolean").to_numpy(dtype=np.float32, na_value=np.nan)
    if found in ("integer", "floating", "mixed-integer-float", "decimal"):
        return "number", pd.to_numeric(values.map(float, na_action="ignore")).to_numpy(np.float64)
    if found in ("date", "datetime", "datetime64"):
        try:
            return "date", _naive(pd.to_datetime(values, utc=True))
        except (ValueError, OverflowError):  # years out of pandas' range
            return "other", values.to_numpy()
    if found == "string":
        objects = np.asarray(values, dtype=object)
    else:
        objects = np.array(
            [None if _is_missing(value) else as_word(value) for value in values], dtype=object
        )
        if any(value is _NO_WORD for value in objects):
            return "other", values.to_numpy()
    codes, words = pd.factorize(objects)
    return _plain_words(words, codes)


_NO_WORD = object()


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or value != value  # noqa: PLR0124


def as_word(value: Any) -> Any:
    """Return an object as text, the same for 3 and 3.0; refuse objects that are not scalar."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | float | np.integer | np.floating):
        return str(int(value)) if float(value).is_integer() else str(float(value))
    if isinstance(value, list | tuple | dict | set | np.ndarray | bytes | complex):
        return _NO_WORD
    return str(value)


def _naive(values: pd.Series) -> NDArray[Any]:
    """Return dates as UTC without a time zone."""
    if getattr(values.dtype, "tz", None) is not None or isinstance(values.dtype, pd.ArrowDtype):
        values = pd.to_datetime(values, utc=True).dt.tz_localize(None)
    return values.to_numpy(dtype="datetime64[us]")


def judge(values: pd.Series, name: str) -> Column:
    """Return the type of a column, and how a pipeline encodes it."""
    family, array = plain(values)
    if family == "other":
        return Column(name, "text", int(values.isna().sum()), len(values), _UNLEARNABLE)
    if family == "text":
        counts = np.bincount(array.codes[array.codes >= 0], minlength=len(array.categories))
        n_known, n_distinct = int(counts.sum()), int(np.count_nonzero(counts))
    else:
        n_known, n_distinct = _counts(array)
    n_missing = len(array) - n_known

    def column(kind: str, action: str) -> Column:
        return Column(name, kind, n_missing, n_distinct, action)

    filled = ", the missing ones filled with the median and marked" if n_missing else ""
    if not n_known:
        return column("constant", "left out: all values are missing")
    if n_distinct == 1 and not n_missing:
        return column("constant", "left out: constant")
    if family == "number":
        if (why := _identifier(name, array, n_distinct)) and not n_missing:
            return column("identifier", why)
        return column("number", f"scaled{filled}")
    if family == "boolean":
        return column("boolean", f"as 0 and 1{filled}")
    if family == "date":
        return column("date", f"as days since 1970, scaled{filled}")
    if text.boolean_pair(array.categories[counts > 0][:3]) is not None:
        return column("boolean", f"as 0 and 1{filled}")
    if n_known >= _MIN_IDENTIFIERS and n_distinct == n_known:
        return column("identifier", "left out: a different value in every row")
    if n_distinct > max(_MIN_IDENTIFIERS, n_known / 2):
        return column("text", f"left out: free text, {n_distinct} different in {n_known} rows")
    return column("category", _one_hot(counts[counts > 0], n_missing))


def _counts(values: NDArray[Any]) -> tuple[int, int]:
    """Return the number of non-missing numbers or dates, and of distinct ones."""
    n_known = int(np.count_nonzero(~pd.isna(values)))
    known = np.sort(values)[:n_known]  # missing ones are last; several times faster than hashing
    return n_known, int(np.count_nonzero(known[1:] != known[:-1])) + bool(n_known)


def _identifier(name: str, numbers: NDArray[Any], n_distinct: int) -> str:
    """Return why numbers are not used, if they enumerate the rows; otherwise an empty string."""
    n_rows = len(numbers)
    if n_distinct < n_rows or n_rows < _MIN_IDENTIFIERS or not np.isfinite(numbers).all():
        return ""
    if numbers.dtype.kind == "f" and not np.array_equal(numbers, np.trunc(numbers)):
        return ""
    if 0 <= numbers.min() and numbers.max() < 2 * n_rows:
        return "left out: it numbers the rows"
    if _NAME_OF_IDENTIFIER.fullmatch(name.strip()):
        return "left out: a different value in every row"
    return ""


def _one_hot(counts: NDArray[Any], n_missing: int) -> str:
    """Return the encoding of a column of categories in words, by the rows of each."""
    n_distinct = len(counts)
    n_frequent = int((counts >= MIN_ROWS_OF_CATEGORY).sum())
    n_others = n_distinct - n_frequent
    # As in OneHotEncoder: the input of infrequent ones counts in max_categories.
    most = MAX_CATEGORIES - (1 if n_missing else 0)
    if n_frequent + bool(n_others) > most:
        n_frequent = most - 1
        n_others = n_distinct - n_frequent
    missing = ", missing is one more" if n_missing else ""
    if not n_others:
        return f"one-hot of {n_distinct}{missing}"
    if not n_frequent:
        return f"one-hot of {n_distinct}, all of them rare{missing}"
    return f"one-hot of {n_frequent}, {n_others} rare ones share another{missing}"


# ---------------------------------------------------------------------------------- target and task


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a suggestion for a name, or the list of names."""
    names = list(map(str, names))
    if (found := closest(name, reversed(names))) is not None:  # the first of similar names
        return f"did you mean {found!r}?"
    shown = ", ".join(map(repr, names[:8]))
    return f"there are {shown}{f' and {len(names) - 8} more' if len(names) > 8 else ''}."


def find_target(frame: pd.DataFrame, target: str | None = None) -> tuple[str, str]:
    """Find the target column.

    Parameters
    ----------
    frame : DataFrame
    target : str, optional
        Its name, if it is known. By default a column named target, label, class or y (in lower or
        upper case), otherwise the last one.

    Returns
    -------
    name, reason : str

    Raises
    ------
    ValueError
        If there is no such column, or no other column.

    Examples
    --------
    >>> find_target(pd.DataFrame({"Class": [0, 1], "size": [2, 3]}))
    ('Class', "it is called 'Class'")
    """
    names = list(frame.columns)
    if target is None:
        lower = {str(name).strip().lower(): name for name in reversed(names)}
        target = next((lower[name] for name in TARGET_NAMES if name in lower), None)
        if target is not None:
            reason = f"it is called {target!r}"
        elif not names:
            raise ValueError("the table has no columns; it needs a target and features.")
        else:
            target, reason = names[-1], "it is the last column"
    elif target in names:
        reason = "it was asked for"
    else:
        raise ValueError(
            f"the target must be a column of the table, got {target!r}; "
            f"{did_you_mean(str(target), names)}"
        )
    if names.count(target) > 1:
        raise ValueError(
            f"the target must be one column, got {names.count(target)} named {target!r}; rename "
            "or drop the others."
        )
    if len(names) == 1:
        raise ValueError(f"a table needs another column than the target, got only {target!r}.")
    return target, reason


def find_task(values: Any, task: str | None = None) -> tuple[str, str]:
    """Determine whether a target is a class or a number.

    Parameters
    ----------
    values : Series or array-like of shape (n_rows,)
        The target. Missing values are ignored.
    task : {"classification", "regression"}, optional
        If it is known; then the target is checked.

    Returns
    -------
    task, reason : str

    Raises
    ------
    ValueError
        If the target is not suitable for the task, or for any task.

    Examples
    --------
    >>> find_task(["cat", "dog", "cat"])
    ('classification', 'the target is text with 2 different values')
    >>> find_task([0.5, 1.25, 3.0])
    ('regression', 'the target has numbers with fractions')
    """
    if task is not None and task not in TASKS:
        raise ValueError(
            f"task must be 'classification' or 'regression', got {task!r}; "
            f"{did_you_mean(str(task), TASKS)}"
        )
    values = values if isinstance(values, pd.Series) else pd.Series(values)
    family, array = plain(values)
    known = pd.Series(array).dropna() if family != "other" else values.dropna()
    if not len(known):
        raise ValueError("the target has only missing values; use another column.")
    if family in ("other", "date"):
        what = "dates" if family == "date" else "neither numbers, text nor booleans"
        raise ValueError(
            f"the target must be classes or numbers, got {what}; use another column or convert "
            "it to numbers."
        )
    n_distinct = known.nunique()
    if n_distinct == 1:
        raise ValueError(
            f"the target must have at least two distinct values, got only {known.iloc[0]!r}."
        )
    numeric = family == "number"
    if numeric and not np.isfinite(known.to_numpy()).all():
        raise ValueError("the target must be finite, got infinity; remove these rows.")
    fractions = numeric and not np.array_equal(known, np.trunc(known))
    if not numeric:
        found = "classification"
        what = "text" if family == "text" else "booleans"
        reason = f"the target is {what} with {n_distinct} different values"
        if family == "text" and n_distinct == len(known) and n_distinct >= _MIN_IDENTIFIERS:
            raise ValueError(
                "the target must have repeated values, got a different text in every row; "
                "use another column."
            )
    elif fractions:
        found, reason = "regression", "the target has numbers with fractions"
    elif n_distinct <= _MAX_CLASSES and len(known) >= _MIN_ROWS_OF_CLASS * n_distinct:
        found = "classification"
        reason = f"the target has only {n_distinct} different whole numbers"
    else:
        found = "regression"
        reason = f"the target has {n_distinct} different whole numbers"
    if task is None or task == found:
        return found, reason if task is None else "it was asked for"
    if task == "regression" and family == "text":
        raise ValueError(
            f"regression needs a numeric target, got text such as {known.iloc[0]!r}; choose "
            "task 'classification', or correct the column."
        )
    if task == "classification" and fractions:
        raise ValueError(
            "classification needs a target of classes, got numbers with fractions; choose task "
            "'regression', or convert them to classes with pandas.cut."
        )
    return task, "it was asked for"


def take_target(frame: pd.DataFrame, target: str, task: str) -> tuple[pd.DataFrame, NDArray[Any]]:
    """Split a table into features and target.

    Rows without a target are dropped, with a warning.

    Parameters
    ----------
    frame : DataFrame
    target : str
    task : {"classification", "regression"}

    Returns
    -------
    X : DataFrame
    y : array of shape (n_rows,)
        Classes as in the table (text as objects), or numbers.
    """
    find_target(frame, target)
    find_task(frame[target], task)
    family, values = plain(frame[target])
    missing = np.asarray(pd.isna(values))
    X = frame.drop(columns=target)
    if missing.any():
        warn(
            f"{missing.sum()} of {len(frame)} rows have no {target!r} and are dropped.",
            TableWarning,
        )
        X, values = X[~missing], values[~missing]
    y = np.asarray(values)
    if family == "boolean":
        y = y.astype(bool if task == "classification" else np.float32)
    elif task == "classification" and y.dtype.kind == "f":
        y = y.astype(np.int64)  # integers; floats because some were missing
    return X, y
