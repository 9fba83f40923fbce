"""Predictions as JSON and CSV."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from fastmlp.serve.models import ServedModel
from fastmlp.serve.predicting import Outcome
from fastmlp.serve.service import json_answer

__all__ = ["csv_answer", "predictions_answer", "wants_csv"]


def predictions_answer(outcome: Outcome, model: ServedModel, note: str | None = None) -> Response:
    """Return predictions as JSON, with a note on what was done to the rows, if it is given."""
    document: dict[str, Any] = {"model": model.name, "predictions": outcome.values.tolist()}
    if model.classes is not None:
        document["classes"] = model.classes
    if outcome.probabilities is not None:
        document["probabilities"] = outcome.probabilities.tolist()
    if note is not None:
        document["note"] = note
    return json_answer(document)


def wants_csv(request: Request) -> bool:
    """Return whether the client accepts CSV rather than JSON."""
    return "text/csv" in request.headers.get("accept", "")


def csv_answer(outcome: Outcome, model: ServedModel, frame: Any = None) -> Response:
    """Return predictions as CSV, with the columns of a table before them if it is given."""
    names, columns = _columns(model, outcome)
    if frame is not None:
        taken = set(map(str, frame.columns))
        frame = frame.assign(
            **{_free(name, taken): column for name, column in zip(names, columns, strict=True)}
        )
        text = frame.to_csv(index=False, lineterminator="\n")
    else:
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(zip(*(column.tolist() for column in columns), strict=True))
        text = file.getvalue()
    return Response(text, media_type="text/csv")


def _columns(model: ServedModel, outcome: Outcome) -> tuple[list[str], Sequence[NDArray]]:
    """Return the names of the columns of predictions, and the columns."""
    values = outcome.values
    if values.ndim == 1:
        names, columns = ["prediction"], [values]
    else:
        labels = model.classes or range(values.shape[1])
        names = [f"prediction of {label}" for label in labels]
        columns = list(values.T)
    if outcome.probabilities is not None:
        names += [f"probability of {label}" for label in model.classes or ()]
        columns += list(outcome.probabilities.T)
    return names, [_exactly(np.asarray(column)) for column in columns]


def _exactly(column: NDArray) -> NDArray:
    """Return numbers in float64 that print with the digits of float32: 268.4, not 268.3999939."""
    return column.astype(str).astype(np.float64) if column.dtype == np.float32 else column


def _free(name: str, taken: set[str]) -> str:
    """Return a name that no other column has."""
    while name in taken:
        name += "_"
    return name
