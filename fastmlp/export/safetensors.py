"""Models as files of safetensors."""

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from fastmlp.core.arrays import activate
from fastmlp.export.checks import Check, compared
from fastmlp.export.common import exportable, predicted, rows_to_check, seconds, weights
from fastmlp.portable import PlainModel
from fastmlp.utils.files import AnyPath, atomic_write

__all__ = ["check_safetensors", "to_safetensors"]

_WHAT = "a file of safetensors"


def to_safetensors(
    model: Any, path: AnyPath | None = None, *, dtype: str | None = None
) -> dict[str, NDArray]:
    """Convert a fitted model to tensors for a file of safetensors.

    They have the names, shapes and values of PyTorch's ``state_dict``; see `to_torch`. The file's
    metadata are texts: "task" ("binary", "multiclass", "multilabel" or "regression"), "activation"
    of the hidden layers and "output" (that of the output layer; see below), "networks" (how many
    are averaged), "units" (JSON: the units per layer), "classes" (JSON, of classifiers),
    "feature_names" (JSON, if known), "estimator", "fastmlp" (the version) and "format" ("pt", the
    layout of the weights). The output activation of a multiclass problem is "softmax" or, if it is
    "logistic", the outputs are divided by their sum. That of a binary problem gives the probability
    of the second class.

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor or MLPEnsemble
        Fitted.
    path : path, optional
        Where to write the file. An existing file is replaced.
    dtype : {"float32", "float64"}, optional
        As in `to_torch`.

    Returns
    -------
    dict of str to array

    Raises
    ------
    sklearn.exceptions.NotFittedError
    TypeError, ValueError
        As in `to_torch`.
    ImportError
        If safetensors is not installed.
    OSError
        If the file cannot be written.
    """
    _import_safetensors()
    plain = exportable(model)
    found = weights(plain, _WHAT, dtype)
    if path is not None:
        with atomic_write(path) as file:
            file.write(_serialized(plain, found))
    return found


def check_safetensors(model: Any, tensors: dict[str, NDArray] | AnyPath, rows: Any = None) -> Check:
    """Compare the predictions of a file of safetensors with those of the model.

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor or MLPEnsemble
    tensors : dict of str to array, or path
        Of `to_safetensors`, or its file.
    rows : array of shape (n_rows, n_features), optional
        What to predict. By default 256 rows such as the model could get.

    Returns
    -------
    Check
        By NumPy on one thread, which is given nothing but the content of the file.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    """
    numpy = _import_safetensors()
    plain = exportable(model)
    rows = rows_to_check(model, plain, rows)
    if isinstance(tensors, str | os.PathLike):
        data = Path(tensors).read_bytes()
    else:
        data = _serialized(plain, tensors)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    loaded, X = numpy.load(data), np.asarray(rows)
    with threadpool_limits(1, "blas"):
        found = _forward(header["__metadata__"], loaded, X)
        elapsed = seconds(lambda: _forward(header["__metadata__"], loaded, X))
    return compared(
        plain,
        predicted(model, plain, rows),
        found,
        f"NumPy {np.__version__}",
        n_bytes=len(data),
        microseconds=1e6 * elapsed / len(rows),
    )


def _import_safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(
            "exporting to safetensors needs safetensors, which is not installed: pip install "
            "'fastmlp[export]'."
        ) from None
    return safetensors.numpy


def _serialized(plain: PlainModel, tensors: dict[str, NDArray]) -> bytes:
    """Return the content of the file."""
    network = plain.networks[0]
    metadata = {
        "format": "pt",
        "fastmlp": version("fastmlp"),
        "estimator": plain.estimator,
        "task": plain.task,
        "activation": network.activation,
        "output": network.output,
        "networks": str(len(plain.networks)),
        "units": json.dumps(network.units),
    }
    if plain.classes is not None:
        metadata["classes"] = json.dumps(plain.classes.tolist())
    if plain.feature_names is not None:
        metadata["feature_names"] = json.dumps(plain.feature_names)
    return _import_safetensors().save(tensors, metadata)


def _forward(metadata: dict[str, str], tensors: dict[str, NDArray], X: NDArray) -> NDArray:
    """Return probabilities or predicted numbers."""
    n_networks = int(metadata["networks"])
    n_layers = len(json.loads(metadata["units"])) - 1
    total: Any = 0
    for place in range(n_networks):
        prefix = f"{place}." if n_networks > 1 else ""
        x = X.astype(tensors[f"{prefix}0.weight"].dtype)
        for layer in range(n_layers):
            weight, bias = (tensors[f"{prefix}{2 * layer}.{name}"] for name in ("weight", "bias"))
            x = x @ weight.T + bias
            activate(metadata["output" if layer == n_layers - 1 else "activation"], x)
        if metadata["task"] == "binary":
            x = np.hstack([1 - x, x])
        elif metadata["task"] == "multiclass" and metadata["output"] == "logistic":
            x += np.finfo(x.dtype).tiny
            x /= x.sum(axis=1, keepdims=True)
        total = total + x
    return total / n_networks
