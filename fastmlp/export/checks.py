"""Whether an exported model predicts what the model predicts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.portable import PlainModel, about

__all__ = ["Check", "compared", "expected", "sample_rows"]

#: A row of a table: values by the names of columns.
Row = dict[str, Any]


@dataclass(frozen=True)
class Check:
    """How far the predictions of an exported model are from those of the model.

    Attributes
    ----------
    by : str
        What computed them: "onnxruntime 1.23", "gcc 12, float32".
    n_rows : int
    n_labels : int or None
        Rows whose label differs; None for regressors.
    largest : float
        Largest difference of a probability or, for regressors, of a prediction divided by the
        standard deviation of all predictions.
    n_bytes : int
        Size of the export.
    microseconds : float or None
        Per row, if it was measured.
    found : array of shape (n_rows, n_outputs) or None
        The predictions of the export.
    """

    by: str
    n_rows: int
    n_labels: int | None
    largest: float
    n_bytes: int
    microseconds: float | None = None
    found: NDArray | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        labels = ""
        if self.n_labels is not None:
            labels = f"{self.n_labels} of {self.n_rows} labels differ, "
        what = "difference of a prediction, in standard deviations"
        if self.n_labels is not None:
            what = "difference of a probability"
        return f"{labels}largest {what}: {self.largest:.1e} ({self.by}, {self.n_rows} rows)"


def sample_rows(model: Any, plain: PlainModel, n_rows: int, seed: int = 0) -> Any:
    """Return rows such as a model could get, for a check without data.

    Parameters
    ----------
    model : estimator
    plain : PlainModel
        The same model.
    n_rows : int
    seed : int

    Returns
    -------
    list of dict, or array of shape (n_rows, n_features)
        For tables, values by names of columns, some of them None and some unknown categories.
        Bytes, most of them 0, for images; otherwise numbers in the dtype of the weights, such that
        the first layer reads values near 0.
    """
    random = np.random.RandomState(seed)
    found = about(model, "")
    if plain.table is not None:
        return [_table_row(found["columns"], random) for _ in range(n_rows)]
    shape = (n_rows, plain.n_features)
    if found["kind"] == "images":
        bytes_ = random.randint(0, 256, shape).astype(np.uint8)
        bytes_[random.uniform(size=shape) < 0.8] = 0
        return bytes_
    X = random.normal(size=shape)
    network = plain.networks[0]
    if network.input_scale is not None:
        scale, shift = (part.astype(np.float64) for part in network.input_scale)
        X = (X - shift) / np.where(scale == 0, 1, scale)
    return X.astype(plain.dtype)


def _table_row(columns: Sequence[dict[str, Any]], random: np.random.RandomState) -> Row:
    row: Row = {}
    for column in columns:
        chance = random.uniform()
        if chance < 0.05:
            row[column["name"]] = None
        elif "values" in column:
            values = column["values"]
            is_new = column["kind"] == "category" and (chance > 0.97 or not values)
            row[column["name"]] = "not seen" if is_new else values[random.randint(len(values))]
        elif column["kind"] == "date":
            low, high = (np.datetime64(column[end]).astype(int) for end in ("low", "high"))
            row[column["name"]] = str(np.datetime64(int(random.randint(low, high + 1)), "D"))
        else:
            row[column["name"]] = float(random.uniform(column["low"], column["high"]))
    return row


def as_frame(plain: PlainModel, rows: Sequence[Row]) -> Any:
    """Return rows of a table as a DataFrame with the columns that the model needs."""
    import pandas as pd

    assert plain.table is not None
    frame = pd.DataFrame(list(rows), columns=[column.name for column in plain.table.columns])
    for column in plain.table.columns:
        if column.kind == "date":
            frame[column.name] = pd.to_datetime(frame[column.name])
    return frame


def as_inputs(plain: PlainModel, rows: Any) -> NDArray:
    """Return rows as inputs of the networks, by the plain description of a table if it is one."""
    if plain.table is None:
        return np.asarray(rows)
    columns = [column for column in plain.table.columns if column.kind != "category"]
    numbers = [
        {c.name: c.number(row[c.name]) for c in columns if row.get(c.name) is not None}
        for row in rows
    ]
    return plain.table.inputs([{**row, **own} for row, own in zip(rows, numbers, strict=True)])


def expected(model: Any, plain: PlainModel, rows: Any) -> NDArray:
    """Return what the model itself predicts: probabilities, or numbers, of shape (n_rows, n)."""
    X = rows if plain.table is None else as_frame(plain, rows)
    found = model.predict_proba(X) if plain.is_classifier else model.predict(X)
    return np.asarray(found).reshape(len(rows), -1)


def compared(
    plain: PlainModel,
    wanted: NDArray,
    found: NDArray,
    by: str,
    n_bytes: int,
    microseconds: float | None = None,
) -> Check:
    """Compare predictions.

    Parameters
    ----------
    plain : PlainModel
    wanted, found : array of shape (n_rows, n_outputs)
        Probabilities of classes or predicted numbers: of the model, and of the export.
    by, n_bytes, microseconds
        See `Check`.

    Returns
    -------
    Check
    """
    found = np.asarray(found, np.float64).reshape(wanted.shape)
    differences = np.abs(found - wanted)
    # NaN, too, is as far as can be.
    largest = float(np.max(np.where(np.isnan(differences), np.inf, differences), initial=0.0))
    if not plain.is_classifier:
        spread = float(np.std(wanted, axis=0).max(initial=0.0))
        largest /= spread or 1.0
        return Check(by, len(wanted), None, largest, n_bytes, microseconds, found)
    labels, own = (plain.labels(numbers) for numbers in (found, wanted))
    differ = (labels != own).reshape(len(wanted), -1).any(axis=1)
    return Check(by, len(wanted), int(differ.sum()), largest, n_bytes, microseconds, found)
