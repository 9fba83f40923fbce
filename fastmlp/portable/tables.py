"""What the pipeline for tables does with a row, as plain numbers.

The pipelines are those of `fastmlp.tables.make_table_pipeline`; this module recognises them by the
names of their parts, so that it works without pandas.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

__all__ = ["PlainColumn", "PlainTable"]

_STEPS = ["columns", "encode", "mlp"]
#: A word that no table has.
_UNKNOWN = "\x00 unknown \x00"


@dataclass(frozen=True)
class PlainColumn:
    """A column, and the inputs of the network that are made of it.

    Attributes
    ----------
    name : str
    kind : {"number", "boolean", "date", "category"}
        Booleans are the numbers 0 and 1, dates are days since 1970 (UTC), with fractions.
    input : int
        Of numbers: the input with the scaled value, which is 0 if it is missing. That is
        ``x / sqrt(1 + (x / 3)**2)`` of ``x = (value - center) * scale``; of a binary column,
        ``value - center``, clipped to 0 and 1 before.
    center, scale : float
    is_binary : bool
    missing : int
        The input that is 1 if the value is missing, -1 if there is none.
    words : (str, str) or None
        Of booleans written as text: the words for false and true.
    inputs : dict of str to int
        Of categories: the input that is 1 for each, -1 if there is none.
    unknown : int
        Likewise for other categories.
    """

    name: str
    kind: str
    input: int = -1
    center: float = 0.0
    scale: float = 1.0
    is_binary: bool = False
    missing: int = -1
    words: tuple[str, str] | None = None
    inputs: dict[str, int] = field(default_factory=dict)
    unknown: int = -1

    def encode(self, value: float | str | None, row: NDArray[np.float32]) -> None:
        """Set the inputs of a row, which are 0 before.

        Parameters
        ----------
        value : float, str (of categories) or None
            None and NaN are missing.
        row : array of shape (n_inputs,)
        """
        is_missing = value is None or value != value  # noqa: PLR0124
        if is_missing:
            if self.missing >= 0:
                row[self.missing] = 1
        elif self.kind == "category":
            place = self.inputs.get(str(value), self.unknown)
            if place >= 0:
                row[place] = 1
        else:
            row[self.input] = self.scaled(float(value))  # type: ignore[arg-type]

    def number(self, value: Any) -> float:
        """Return a value as `encode` takes it, of columns other than categories.

        Parameters
        ----------
        value : float, str or date
            Dates may be ISO texts or objects of NumPy, pandas or Python; booleans one of the two
            words.
        """
        if self.kind == "date" and not isinstance(value, Real):
            return float(np.datetime64(value, "us").astype(int) / 86_400e6)
        if self.words is not None and isinstance(value, str):
            return float(self.words.index(value))
        return float(value)

    def scaled(self, value: float) -> float:
        """Return a number as the network reads it."""
        if self.is_binary:
            return min(max(value, 0.0), 1.0) - self.center
        x = min(max((value - self.center) * self.scale, -1e9), 1e9)
        return float(x / np.sqrt(1 + (x / 3) ** 2))


@dataclass(frozen=True)
class PlainTable:
    """The columns that a pipeline uses, and the number of inputs that are made of them.

    Attributes
    ----------
    columns : tuple of PlainColumn
        In the order of the training table.
    n_inputs : int
    """

    columns: tuple[PlainColumn, ...]
    n_inputs: int

    @classmethod
    def of(cls, pipeline: Pipeline) -> Self | None:
        """Return what a pipeline for tables does, or None if it is another pipeline."""
        if [name for name, _ in pipeline.steps] != _STEPS:
            return None
        kinds = getattr(pipeline["columns"], "kinds_", None)
        parts = getattr(pipeline["encode"], "named_transformers_", {})
        if kinds is None or not {"numbers", "categories"} <= set(parts):
            return None
        numbers, n_inputs = _numbers(parts["numbers"])
        categories, n_inputs = _categories(parts["categories"], n_inputs)
        words = pipeline["columns"].words_
        found = {
            name: PlainColumn(
                name,
                kind,
                words=tuple(words[name]) if name in words else None,
                **(categories if kind == "category" else numbers)[name],
            )
            for name, kind in kinds.items()
        }
        return cls(tuple(found.values()), n_inputs)

    def inputs(self, rows: Sequence[Mapping[str, float | str | None]]) -> NDArray[np.float32]:
        """Return the inputs of the network for rows.

        Parameters
        ----------
        rows : sequence of mapping
            Values by the names of columns; what is not there is missing.

        Returns
        -------
        array of shape (n_rows, n_inputs), float32
        """
        inputs = np.zeros((len(rows), self.n_inputs), np.float32)
        for row, into in zip(rows, inputs, strict=True):
            for column in self.columns:
                column.encode(row.get(column.name), into)
        return inputs


def _numbers(transformer: Any) -> tuple[dict[str, dict[str, Any]], int]:
    """Return what is done with the columns of numbers, and the number of their inputs."""
    if not hasattr(transformer, "named_steps"):
        return {}, 0
    scaler, imputer = transformer.named_steps["scale"], transformer.named_steps["impute"]
    if not hasattr(scaler, "feature_names_in_"):  # there were no such columns to fit it on
        return {}, 0
    names = list(map(str, scaler.feature_names_in_))
    with_missing = list(imputer.indicator_.features_)
    found = {
        name: {
            "input": place,
            "center": float(scaler.center_[place]),
            "scale": float(scaler.scale_[place]),
            "is_binary": bool(scaler.is_binary_[place]),
            "missing": len(names) + with_missing.index(place) if place in with_missing else -1,
        }
        for place, name in enumerate(names)
    }
    return found, len(names) + len(with_missing)


def _categories(transformer: Any, n_before: int) -> tuple[dict[str, dict[str, Any]], int]:
    """Return the inputs of the categories, which come after `n_before` others, and their number.

    The encoder is asked for each category, as scikit-learn's rules for infrequent ones are many.
    """
    if not hasattr(transformer, "categories_"):
        return {}, n_before
    names = list(map(str, transformer.feature_names_in_))
    known = [[word for word in words if isinstance(word, str)] for words in transformer.categories_]
    asked = [[*words, _UNKNOWN, None] for words in known]
    n_rows = max(map(len, asked))
    table = np.full((n_rows, len(names)), None, object)
    for place, words in enumerate(asked):
        table[: len(words), place] = words
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoded = transformer.transform(_frame(table, transformer.feature_names_in_))
    dense = encoded.toarray() if hasattr(encoded, "toarray") else np.asarray(encoded)
    found, start = {}, 0
    for place, (name, words) in enumerate(zip(names, asked, strict=True)):
        rare = transformer.infrequent_categories_[place]
        width = len(transformer.categories_[place]) - (0 if rare is None else len(rare) - 1)
        own = dense[: len(words), start : start + width]
        inputs = np.where(own.any(axis=1), own.argmax(axis=1) + start + n_before, -1).tolist()
        found[name] = {
            "inputs": dict(zip(words[:-2], inputs[:-2], strict=True)),
            "unknown": inputs[-2],
            "missing": inputs[-1],
        }
        start += width
    return found, n_before + start


def _frame(table: NDArray[Any], names: Any) -> Any:
    """Return a table of categories as the encoder gets it."""
    import pandas as pd

    return pd.DataFrame({name: pd.Categorical(table[:, place]) for place, name in enumerate(names)})
