"""Parse numbers, dates and booleans written as text.

All functions take the distinct words of a column, not its cells, so their cost is proportional to
the number of distinct words.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Words: TypeAlias = Sequence[str] | NDArray[Any]

#: Words for a missing value.
MISSING_WORDS = (
    "", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "-nan", "NULL", "Null", "null",
    "?",
)  # fmt: skip

#: Pairs of words for false and true, in lower case.
_BOOLEANS = {
    ("false", "true"), ("no", "yes"), ("n", "y"), ("f", "t"), ("off", "on"),
}  # fmt: skip

#: Number of words that are checked first.
_GLANCE = 50

#: Thousands separators, including non-breaking spaces and the Swiss apostrophe.
_THOUSANDS = (",", ".", "'", "\u2019", " ", "\u00a0", "\u202f")

#: Orders of day, month and year by separator. If two orders match, the first is used.
_DATES = {
    "-": ("%Y-%m-%d", "%d-%m-%Y", "%m-%d-%Y"),
    "/": ("%Y/%m/%d", "%m/%d/%Y", "%d/%m/%Y"),
    ".": ("%Y.%m.%d", "%d.%m.%Y"),
}
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", "T%H:%M", "T%H:%M:%S", "T%H:%M:%S.%f")


def boolean_pair(words: Iterable[str]) -> tuple[str, str] | None:
    """Return the words for false and true as spelled, if the two words are such a pair."""
    words = list(words)
    if len(words) != 2:
        return None
    for false, true in (words, words[::-1]):
        if (false.strip().lower(), true.strip().lower()) in _BOOLEANS:
            return false, true
    return None


def is_number(word: str) -> bool:
    """Return whether a word is a number, infinity included, with a decimal point or comma."""
    try:
        float(word.strip().replace(",", "."))
    except ValueError:
        return False
    return "_" not in word and word.strip().lower().lstrip("+-") != "nan"


def some_numbers(words: Words) -> NDArray[np.float64]:
    """Return plain numbers, with NaN for other words."""
    texts = pd.Series(np.asarray(words, dtype=object))
    return pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)


def numbers(words: Words, *, decimal_comma: bool = False) -> tuple[NDArray[np.float64], str] | None:
    """Convert words to numbers, if all of them are.

    Parameters
    ----------
    words : sequence of str
    decimal_comma : bool, default=False
        How to read "1,234", which is 1234 if False.

    Returns
    -------
    (values, how) or None
        `how` is empty for plain numbers, otherwise it describes the notation.
    """
    if not len(words) or not all(any(map(str.isdigit, word)) for word in words[:_GLANCE]):
        return None
    if np.isfinite(some_numbers(words[:_GLANCE])).all():
        plain = some_numbers(words)
        if np.isfinite(plain).all():
            return plain, ""
    texts = pd.Series(np.asarray(words, dtype=object)).str.strip()
    ways = [(".", mark) for mark in _THOUSANDS if mark != "."]
    commas = [(",", mark) for mark in ("", *_THOUSANDS) if mark != ","]
    for decimal, mark in commas + ways if decimal_comma else ways + commas:
        thousands = rf"|[0-9]{{1,3}}(?:[{mark}][0-9]{{3}})+" if mark else ""
        pattern = rf"[-+]?(?:[0-9]+{thousands})(?:[{decimal}][0-9]*)?(?:[eE][-+]?[0-9]+)?"
        if not texts[:_GLANCE].str.fullmatch(pattern).all():
            continue
        if texts.str.fullmatch(pattern).all():
            digits = texts.str.replace(mark, "", regex=False) if mark else texts
            digits = digits.str.replace(decimal, ".", regex=False)
            grouped = bool(mark) and texts.str.contains(mark, regex=False).any()
            how = f"{mark!r} between thousands" if grouped else f"{decimal!r} before decimals"
            return digits.to_numpy(object).astype(np.float64), how
    return None


def dates(words: Words) -> tuple[NDArray[Any], str] | None:
    """Convert words to dates, if all of them are.

    Returns
    -------
    (values, doubt) or None
        `values` is an array of datetime64 in UTC; `doubt` is the order of day and month that was
        used if another is possible, too, and empty otherwise.
    """
    if not len(words) or not all(map(_may_be_date, words[:_GLANCE])):
        return None
    texts = pd.Series(np.asarray(words, dtype=object)).str.strip()
    fits = []
    for layout in _DATES.get(_separator(texts.iloc[0]), ()):
        for time in _TIMES:
            if (found := _parsed(texts, layout + time)) is not None:
                fits.append((layout, found))
                break
    if not fits:
        if "T" in texts.iloc[0] or ":" in texts.iloc[0]:  # with a time zone
            found = _parsed(texts, "ISO8601", utc=True)
            return None if found is None else (found, "")
        return None
    (layout, values), *others = fits
    doubt = ""
    if others and not np.array_equal(values, others[0][1]):
        doubt = "the month first" if layout.startswith("%m") else "the day first"
    return values, doubt


def _separator(text: str) -> str:
    """Return the separator of a date."""
    return next((letter for letter in text if not letter.isdigit()), "")


def _may_be_date(word: str) -> bool:
    """Return whether a word looks like a date at first sight."""
    word = word.strip()
    return 6 <= len(word) <= 40 and word[0].isdigit() and _separator(word) in _DATES


def _parsed(texts: pd.Series, layout: str, *, utc: bool = False) -> NDArray[Any] | None:
    """Return dates of one layout, or None if not all words match."""
    try:
        pd.to_datetime(texts[:_GLANCE], format=layout, utc=utc)
        found = pd.to_datetime(texts, format=layout, utc=utc)
    except (ValueError, OverflowError):  # OutOfBoundsDatetime is a ValueError
        return None
    if utc:
        found = found.dt.tz_localize(None)
    return found.to_numpy()
