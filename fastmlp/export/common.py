"""What several formats need: models that can be exported, weights by names, rows to check."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from fastmlp.estimators import MLPClassifier, MLPEnsemble, MLPRegressor
from fastmlp.export.checks import as_frame, expected, sample_rows
from fastmlp.portable import PlainModel, PlainNetwork, plain

__all__ = ["FLOATS", "exportable", "given", "predicted", "rows_to_check", "seconds", "weights"]

#: Names of the dtypes that networks compute with.
FLOATS = ("float32", "float64")

#: Scaled inputs farther than this from 0 where the inputs are 0: folded in float32, they lose
#: digits, as when years are scaled to mean 0 and variance 1.
_FAR = 4.0

_SECONDS_TO_MEASURE = 0.05


# ----------------------------------------------------------------------------------------- weights


def exportable(model: Any) -> PlainModel:
    """Return a fitted model as plain arrays; refuse subclasses, whose predictions may differ."""
    last = model.steps[-1][1] if isinstance(model, Pipeline) else model
    for part in (last, *getattr(last, "estimators_", [])):
        for own in (MLPClassifier, MLPRegressor, MLPEnsemble):
            if isinstance(part, own) and type(part) is not own:
                raise TypeError(
                    "only fastmlp's own estimators can be exported, because subclasses may predict "
                    f"something else, got {type(part).__name__}: copy its fitted attributes to an "
                    f"{own.__name__}."
                )
    return plain(model)


def weights(model: PlainModel, what: str, dtype: str | None = None) -> dict[str, NDArray]:
    """Return the weights of a model by PyTorch's names, with the scalings inside.

    An ``nn.Sequential`` of ``nn.Linear`` and activations has the weights "0.weight", "0.bias",
    "2.weight" and so on; in an ``nn.ModuleList`` of several, "0.0.weight" is of the first.

    Parameters
    ----------
    model : PlainModel
    what : str
        What they are for, in error messages.
    dtype : {"float32", "float64"} or None
        None is the model's own, but float64 if float32 has too few digits for folded scalings.

    Returns
    -------
    dict of str to array
        Weights of shape (fan_out, fan_in), biases of shape (fan_out,).

    Raises
    ------
    ValueError
        If the model needs more than weights.
    """
    if model.table is not None:
        raise ValueError(
            f"{what} has no place for what the pipeline does with the columns of a table: export "
            "to ONNX, or only the pipeline's last step, which reads encoded columns."
        )
    kinds = {(network.units, network.activation, network.output) for network in model.networks}
    if len(kinds) > 1:
        raise ValueError(
            f"{what} must hold networks of the same layers and activations, got an ensemble of "
            f"{len(kinds)} different kinds: export to ONNX."
        )
    if dtype not in (None, *FLOATS):
        raise ValueError(f"dtype must be None, 'float32' or 'float64', got {dtype!r}.")
    found = {}
    for place, network in enumerate(model.networks):
        prefix = f"{place}." if len(model.networks) > 1 else ""
        folded = _folded(network, what)
        layers = zip(folded.coefs, folded.intercepts, strict=True)
        for layer, (coef, intercept) in enumerate(layers):
            found[f"{prefix}{2 * layer}.weight"] = coef.T
            found[f"{prefix}{2 * layer}.bias"] = intercept
    chosen = dtype or ("float64" if any(map(_is_far, model.networks)) else model.dtype.name)
    return {name: np.ascontiguousarray(array, dtype=chosen) for name, array in found.items()}


def _folded(network: PlainNetwork, what: str) -> PlainNetwork:
    """Return a network without scalings, in float64."""
    folded = network.folded()
    if folded.target_scale is None:
        return folded
    scale, shift = folded.target_scale
    if folded.output != "exp" or shift.any() or (scale <= 0).any():
        raise ValueError(
            f"{what} has no place for target_scale_ after the output activation "
            f"{folded.output!r}: export to ONNX, or set target_scale_ to None and divide the "
            "predictions yourself."
        )
    folded.intercepts[-1] -= np.log(scale)  # exp(z) / scale = exp(z - log(scale))
    return folded


def _is_far(network: PlainNetwork) -> bool:
    return network.input_scale is not None and bool(np.abs(network.input_scale[1]).max() > _FAR)


# ------------------------------------------------------------------------------------------ checks


def rows_to_check(model: Any, plain: PlainModel, rows: Any) -> Any:
    """Return the rows to compare predictions of: by default 256 such as the model could get."""
    return sample_rows(model, plain, 256) if rows is None else rows


def given(plain: PlainModel, rows: Any) -> Any:
    """Return rows as the model expects them: as a DataFrame if it was trained on one."""
    if plain.table is not None:
        return as_frame(plain, rows)
    if plain.feature_names is None:
        return np.asarray(rows)
    import pandas as pd

    return pd.DataFrame(np.asarray(rows), columns=plain.feature_names)


def predicted(model: Any, plain: PlainModel, rows: Any) -> NDArray:
    """Return what the model itself predicts: probabilities, or numbers, of shape (n_rows, n)."""
    return expected(model, plain, rows if plain.table is not None else given(plain, rows))


def seconds(action: Callable[[], Any]) -> float:
    """Return how long an action takes: the shortest of some repetitions."""
    times: list[float] = []
    while not times or sum(times) < _SECONDS_TO_MEASURE:
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)
