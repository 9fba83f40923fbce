"""Why a model predicts what it does, for one row."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.portable import PlainNetwork
from fastmlp.serve.errors import RequestError
from fastmlp.serve.models import ServedModel
from fastmlp.serve.predicting import Outcome
from fastmlp.serve.rows import kind_of
from fastmlp.serve.service import Service

__all__ = ["columns", "pixels", "unit"]

_MOST_UNITS = 8


async def pixels(service: Service, model: ServedModel, document: dict[str, Any]) -> dict[str, Any]:
    """Return the prediction for an image, and the units of the first layer that answered most.

    Parameters
    ----------
    service : Service
    model : ServedModel
        Of images.
    document : dict
        With the gray levels of the image as "pixels".
    """
    values = document.get("pixels")
    if not isinstance(values, list):
        raise RequestError(
            f'the body must have the gray levels of the image as a list "pixels", got '
            f"{kind_of(values)}."
        )
    X = model.rows.of_rows([values])
    answer = _prediction(model, await service.predict(model, X))
    if model.plain is not None:
        answer["units"] = _units(model.plain.networks[0], X)
    return answer


def _units(network: PlainNetwork, X: NDArray) -> list[dict[str, Any]]:
    """Return the units whose values, times the norm of the weights that read them, are largest."""
    values = network.values(X)[0][0]
    if len(network.coefs) > 1:
        values = values * np.linalg.norm(network.coefs[1], axis=1)
    order = np.argsort(-np.abs(values), kind="stable")[:_MOST_UNITS]
    return [{"unit": int(unit), "value": float(values[unit])} for unit in order]


def unit(model: ServedModel, number: str) -> dict[str, str]:
    """Return the weights of a unit of the first layer as 8-bit integers, in base64."""
    if model.plain is None:
        raise RequestError(f"the model {model.name!r} is not a network that has units.", 404)
    coefs = model.plain.networks[0].coefs[0]
    n_units = coefs.shape[1]
    if not (number.isascii() and number.isdecimal() and len(number) < 10 and int(number) < n_units):
        raise RequestError(
            f"a unit must be a number from 0 to {n_units - 1}, got {number[:40]!r}.", 404
        )
    weights = coefs[:, int(number)]
    largest = np.abs(weights).max()
    scaled = np.rint(weights / (largest or 1) * 127).astype(np.int8)
    return {"weights": base64.b64encode(scaled.tobytes()).decode()}


async def columns(service: Service, model: ServedModel, document: dict[str, Any]) -> dict[str, Any]:
    """Return the prediction for a row, and how much each column changed it.

    That is the difference to the prediction if this column alone had its typical value: of the
    probability of the predicted class or, for numbers, of the number.

    Parameters
    ----------
    service : Service
    model : ServedModel
        Of rows or tables.
    document : dict
        With the values of the row, by the names of columns, as "row".
    """
    row = document.get("row")
    if not isinstance(row, dict):
        raise RequestError(
            f'the body must have the values of the row as an object "row", got {kind_of(row)}.'
        )
    known = [column for column in model.columns if column["typical"] is not None]
    variants = [{**row, column["name"]: column["typical"]} for column in known]
    X = model.rows.of_rows([row, *variants])
    outcome = await service.predict(model, X)
    answer = _prediction(model, outcome.rows(0, 1))
    effects = _effects(outcome)
    found = [
        {"name": column["name"], "effect": float(effect)}
        for column, effect in zip(known, effects, strict=True)
    ]
    answer["columns"] = sorted(found, key=lambda entry: -abs(entry["effect"]))
    return answer


def _effects(outcome: Outcome) -> NDArray:
    """Return how much the first row's prediction exceeds that of each of the others."""
    if outcome.probabilities is not None:
        values = outcome.probabilities[:, outcome.probabilities[0].argmax()]
    elif outcome.values.dtype.kind in "iuf":
        values = outcome.values.reshape(len(outcome.values), -1)[:, 0]
    else:
        raise RequestError("the model must predict probabilities to explain a class.", 404)
    values = values.astype(np.float64)
    return values[0] - values[1:]


def _prediction(model: ServedModel, outcome: Outcome) -> dict[str, Any]:
    """Return the prediction for one row."""
    name = "label" if model.is_classifier else "prediction"
    answer: dict[str, Any] = {"model": model.name, name: outcome.values[:1].tolist()[0]}
    if model.classes is not None:
        answer["classes"] = model.classes
    if outcome.probabilities is not None:
        answer["probabilities"] = outcome.probabilities[0].tolist()
    return answer
