"""Models as JSON, for the page that computes with them."""

import base64
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmlp.portable import PlainColumn, PlainModel, PlainNetwork, PlainTable

__all__ = ["DTYPES", "decoded", "encoded"]

#: What weights can be stored as.
DTYPES = ("float16", "int8", "float32")

#: An array as JSON: a number if all elements are equal, otherwise its dtype and base64.
Stored: TypeAlias = "float | dict[str, str]"


def encoded(model: PlainModel, dtype: str = "float16") -> dict[str, Any]:
    """Return a model as JSON.

    Parameters
    ----------
    model : PlainModel
    dtype : {"float16", "int8", "float32"}
        Of the weights. They are divided by a power of two per layer before they are float16, and
        by a scale per unit before they are int8. Intercepts and the scalings of inputs and targets
        keep their dtype.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If `dtype` is another one.

    Examples
    --------
    >>> from fastmlp import MLPRegressor
    >>> from fastmlp.portable import plain
    >>> X = np.arange(8.0).reshape(4, 2)
    >>> model = MLPRegressor(hidden_layer_sizes=(3,), solver="lbfgs").fit(X, X[:, 0])
    >>> encoded(plain(model))["networks"][0]["layers"][0]["units"]
    [2, 3]
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    table = model.table
    return {
        "task": model.task,
        "dtype": str(model.dtype),
        "stored": dtype,
        "networks": [_network(network, dtype) for network in model.networks],
        "table": None if table is None else asdict(table),
    }


def decoded(stored: Mapping[str, Any], classes: NDArray | None = None) -> PlainModel:
    """Return the model that was stored, with the precision that its weights were stored with.

    Parameters
    ----------
    stored : mapping
        From `encoded`.
    classes : array, optional
        Labels, which are not stored.

    Returns
    -------
    PlainModel
    """
    dtype = np.dtype(stored["dtype"])
    table = stored["table"]
    if table is not None:
        columns = tuple(PlainColumn(**column) for column in table["columns"])
        table = PlainTable(columns, table["n_inputs"])
    networks = tuple(_decoded_network(network, dtype) for network in stored["networks"])
    return PlainModel(stored["task"], networks, classes, "", table=table)


def _network(network: PlainNetwork, dtype: str) -> dict[str, Any]:
    layers = zip(network.coefs, network.intercepts, strict=True)
    return {
        "activation": network.activation,
        "output": network.output,
        "input_scale": _pair(network.input_scale),
        "target_scale": _pair(network.target_scale),
        "layers": [
            {"units": list(coef.shape), **_scaled(coef, dtype), "intercept": _array(intercept)}
            for coef, intercept in layers
        ],
    }


def _decoded_network(stored: Mapping[str, Any], dtype: np.dtype) -> PlainNetwork:
    coefs, intercepts = [], []
    for layer in stored["layers"]:
        shape = tuple(layer["units"])
        coef = _decoded(layer["coef"], shape[0] * shape[1]).reshape(shape).astype(np.float32)
        scale = _decoded(layer["scale"], shape[1])
        coefs.append((coef * scale).astype(np.float32).astype(dtype))
        intercepts.append(_decoded(layer["intercept"], shape[1]).astype(dtype))
    n_inputs, n_outputs = len(coefs[0]), len(intercepts[-1])
    return PlainNetwork(
        coefs,
        intercepts,
        stored["activation"],
        stored["output"],
        _decoded_pair(stored["input_scale"], n_inputs, dtype),
        _decoded_pair(stored["target_scale"], n_outputs, np.dtype(np.float64)),
    )


# ------------------------------------------------------------------------------------------ arrays


def _scaled(coef: NDArray, dtype: str) -> dict[str, Stored]:
    """Return weights in another dtype, and the scale by which they are to be multiplied."""
    scale: NDArray = np.ones(coef.shape[1])
    if dtype == "float16":
        # The largest is between 1 and 2: then none overflows, and only tiny ones lose digits.
        largest = np.abs(coef).max()
        scale[:] = 2.0 ** np.floor(np.log2(largest)) if largest else 1.0
    elif dtype == "int8":
        scale = np.abs(coef).max(axis=0).astype(np.float32).astype(np.float64) / 127
        scale[scale == 0] = 1.0
    numbers = coef / scale
    if dtype == "int8":
        numbers = np.clip(np.rint(numbers), -127, 127)
    return {"coef": _array(numbers.astype(dtype)), "scale": _array(scale)}


def _array(array: NDArray) -> Stored:
    if array.size and (array == array.flat[0]).all():
        return float(array.flat[0])
    little = array.astype(array.dtype.newbyteorder("<"))
    return {"dtype": array.dtype.name, "base64": base64.b64encode(little.tobytes()).decode()}


def _decoded(stored: Stored, length: int) -> NDArray:
    if not isinstance(stored, dict):
        return np.full(length, float(stored))
    return np.frombuffer(
        base64.b64decode(stored["base64"]), np.dtype(stored["dtype"]).newbyteorder("<")
    )


def _pair(pair: tuple[NDArray, NDArray] | None) -> list[Stored] | None:
    return None if pair is None else [_array(part) for part in pair]


def _decoded_pair(
    pair: list[Stored] | None, length: int, dtype: np.dtype
) -> tuple[NDArray, NDArray] | None:
    if pair is None:
        return None
    scale, shift = (_decoded(part, length).astype(dtype) for part in pair)
    return scale, shift
