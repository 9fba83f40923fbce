"""Predictions of a fitted model, at a cost proportional to the input.

The weights are used without a copy and nothing is cached between calls, so edits of `coefs_` take
effect immediately. If dtypes differ, the input is converted, not the weights. A plain array or CSR
matrix is checked here, in a few microseconds; other input is passed to scikit-learn's validation,
which has the error messages.
"""

from collections.abc import Iterable
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, csr_matrix, issparse
from sklearn.utils.validation import check_is_fitted, validate_data

from fastmlp import backends
from fastmlp.core.arrays import activate
from fastmlp.core.functions import ACTIVATIONS, LOSSES
from fastmlp.core.inputs import Inputs
from fastmlp.core.network import Network
from fastmlp.estimators import constraints, hints
from fastmlp.estimators.samples import Share

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

#: Parameters that affect predictions and may have been changed since the fit.
_PARAMETERS = ("activation", "backend", "n_threads", "dtype")


def outputs(model: Any, X: Any) -> NDArray:
    """Return the values of the output units.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
        Fitted, or assembled by hand: `coefs_`, `intercepts_` and `out_activation_` are enough.
    X : array-like or sparse matrix of shape (n_samples, n_features)

    Returns
    -------
    array of shape (n_samples, n_outputs)
        With the model's `dtype` if it is set, otherwise the common dtype of the weights and X:
        float32 or float64.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If there are no weights.
    ValueError
        If X is invalid, or an attribute or parameter was changed to something invalid.
    """
    if "coefs_" not in vars(model):
        check_is_fitted(model)  # raises; too slow to be called first
    coefs, intercepts = layers(model)
    if isinstance(X, Share):
        X = X.inputs()
    if not _is_plain(model, X):
        return _compute(model, coefs, intercepts, _validated(model, X))[0]
    result, is_finite = _compute(model, coefs, intercepts, X)
    if not is_finite:
        _validated(model, X)  # raises, unless the number only overflows in the model's dtype
    return result


def activations(model: Any, X: Any) -> list[Any]:
    """Return the values of all layers for a validated matrix, starting with X itself."""
    coefs, intercepts = layers(model)
    check_features(coefs, X)
    numpy_backend: Any = backends.get("numpy")
    network, activate_outputs = _network(model, coefs, intercepts)
    dtype = X.dtype if X.dtype in _FLOATS else np.dtype(np.float64)
    values = numpy_backend.forward(network, coefs, intercepts, mapped(model, X, dtype))
    if activate_outputs is not None:
        activate_outputs(values[-1])
    return [X, *values[1:]]


def layers(model: Any) -> tuple[list[NDArray], list[NDArray]]:
    """Return the fitted weights for backends, after checking them.

    Returns
    -------
    coefs : list of array of shape (fan_in, fan_out)
    intercepts : list of array of shape (fan_out,)
        All C-contiguous and aligned, and all float32 or all float64; the model's own arrays if
        possible.

    Raises
    ------
    ValueError
        If they are not numbers, or their shapes do not match.
    """
    try:
        coefs, intercepts = list(model.coefs_), list(model.intercepts_)
    except TypeError:  # not even lists
        coefs = intercepts = []
    if not coefs or len(coefs) != len(intercepts):
        raise ValueError(
            "coefs_ and intercepts_ must be lists with an array per layer, got "
            f"{len(coefs)} and {len(intercepts)} of these; restore the fitted ones."
        )
    dtype = getattr(coefs[0], "dtype", None)
    if not (dtype in _FLOATS and all(_is_ready(array, dtype) for array in coefs + intercepts)):
        coefs, intercepts = _made_ready(coefs, intercepts)
    fan_in = None
    for layer, (coef, intercept) in enumerate(zip(coefs, intercepts, strict=True)):
        fits = coef.ndim == 2 and intercept.shape == coef.shape[1:] and coef.size > 0
        if not fits or (fan_in is not None and coef.shape[0] != fan_in):
            raise ValueError(
                f"coefs_[{layer}] and intercepts_[{layer}] must have the shapes (n, m) and (m,), "
                f"where n is {fan_in or 'the number of features'}; got {coef.shape} and "
                f"{intercept.shape}; restore the fitted ones."
            )
        fan_in = coef.shape[1]
    return coefs, intercepts


def _made_ready(coefs: list[Any], intercepts: list[Any]) -> tuple[list[NDArray], list[NDArray]]:
    """Convert weights that were set by hand to arrays for backends."""
    try:
        arrays = [np.asarray(array) for array in coefs + intercepts]
    except (TypeError, ValueError):
        arrays = []
    if not arrays or not all(array.dtype.kind in "biuf" for array in arrays):
        raise ValueError(
            "coefs_ and intercepts_ must be arrays of numbers; restore the fitted ones."
        )
    is_narrow = all(array.dtype.kind == "f" and array.dtype.itemsize <= 4 for array in arrays)
    dtype = np.float32 if is_narrow else np.float64
    ready = [np.require(array, dtype, ["C", "ALIGNED"]) for array in arrays]
    return ready[: len(coefs)], ready[len(coefs) :]


def _is_ready(array: Any, dtype: Any) -> bool:
    """Return whether it is an array of this dtype that can be used without a copy."""
    if type(array) is not np.ndarray or array.dtype != dtype:
        return False
    flags = array.flags
    return flags.c_contiguous and flags.aligned


def _is_plain(model: Any, X: Any) -> bool:
    """Return whether scikit-learn's validation would neither change nor refuse X.

    Except for non-finite elements, which the backends check while reading. For a few rows,
    validation takes ten times as long as the network, and for many it is another pass over X.
    """
    if type(X) in (csr_matrix, csr_array):
        if X.data.dtype not in _FLOATS or not np.isfinite(X.data).all():
            return False
    elif type(X) is not np.ndarray or not (X.dtype in _FLOATS or X.dtype.kind in "biu"):
        return False
    fitted = vars(model)
    return (
        X.ndim == 2
        and X.shape[0] > 0
        and X.shape[1] == fitted.get("n_features_in_")
        and "feature_names_in_" not in fitted
    )


def _validated(model: Any, X: Any) -> Any:
    """Return X after scikit-learn's validation."""
    refuse_batches(X)
    return validate_data(model, X, reset=False, accept_sparse="csr", dtype="numeric", order="C")


def refuse_batches(X: Any) -> None:
    """Refuse generators and the like, of which scikit-learn would make an array of one object."""
    is_array = any(hasattr(X, name) for name in ("__len__", "__array__", "shape"))
    if isinstance(X, Iterable) and not is_array:
        raise TypeError(
            f"X must be array-like, got {type(X).__name__}; pass batches of (X, y) to fit, "
            "without y, and the X of one batch at a time to predict and score."
        )


def _compute(
    model: Any, coefs: list[NDArray], intercepts: list[NDArray], X: Any
) -> tuple[NDArray, bool]:
    """Return the outputs for an array or CSR matrix, and whether an array is finite."""
    if model.n_threads is not None or model.backend != "auto" or model.dtype is not None:
        _check_parameters(model)
    check_features(coefs, X)
    dtype = coefs[0].dtype
    if model.dtype is not None:
        dtype = np.dtype(model.dtype)
    elif X.dtype != dtype:
        dtype = np.result_type(dtype, X.dtype)
        if dtype not in _FLOATS:
            dtype = np.dtype(np.float64)
    if dtype != coefs[0].dtype and dtype == np.float32:
        coefs, intercepts = ([a.astype(dtype) for a in arrays] for arrays in (coefs, intercepts))
    network, activate_outputs = _network(model, coefs, intercepts)
    result = np.empty((X.shape[0], network.n_outputs), dtype)
    backend: Any = backends.get(model.backend)
    hints.about_backend(model.backend, backend)
    inputs = mapped(model, X, dtype)
    is_finite = backend.predict(network, coefs, intercepts, inputs, model.n_threads, result)
    if activate_outputs is not None:
        activate_outputs(result)
    return result, is_finite


def _check_parameters(model: Any) -> None:
    """Refuse parameters that were set to invalid values after the fit."""
    parameters = {name: getattr(model, name) for name in _PARAMETERS}
    constraints.validate(parameters, model._constraints, type(model).__name__)


def check_features(coefs: list[NDArray], X: Any) -> None:
    """Refuse weights that were replaced and do not match the data."""
    if len(coefs[0]) != X.shape[1]:
        raise ValueError(
            f"coefs_ are for {len(coefs[0])} features, but X has {X.shape[1]}; pass the model's "
            "features, or restore the fitted coefs_."
        )


def _network(model: Any, coefs: list[NDArray], intercepts: list[NDArray]) -> tuple[Network, Any]:
    """Return the network, and an additional activation of its outputs.

    Activations of hidden layers may be set for the outputs, for example to clip them at 0. As
    trained networks do not have them there, backends do not support them.
    """
    units = (len(coefs[0]), *map(len, intercepts))
    output = model.out_activation_
    if not isinstance(model.activation, str) or model.activation not in ACTIVATIONS:
        raise ValueError(
            f"activation must be one of {tuple(sorted(ACTIVATIONS))}, got {model.activation!r}."
        )
    if not isinstance(output, str):
        output = repr(output)  # not an activation
    if output in LOSSES:
        return _shared_network(units, model.activation, output), None
    if output not in ACTIVATIONS:
        raise ValueError(
            f"out_activation_ must be one of {(*LOSSES, *sorted(set(ACTIVATIONS) - set(LOSSES)))}, "
            f"got {output!r}."
        )
    network = _shared_network(units, model.activation, "identity")
    return network, partial(activate, output)


#: Cached, because networks are immutable and slow to create.
_shared_network = lru_cache(Network)


def mapped(model: Any, X: Any, dtype: np.dtype) -> Inputs:
    """Return X in the network's dtype, after the fitted input scaling."""
    if not _is_ready(X, dtype):
        if issparse(X) or X.dtype != np.uint8:
            X = X.astype(dtype, copy=False)
        if not issparse(X):
            X = np.require(X, requirements=["C", "ALIGNED"])
    input_scale = getattr(model, "input_scale_", None)
    if input_scale is None:
        return Inputs(X, dtype)
    return Inputs(X, dtype, *fitted_map(input_scale, X.shape[1], dtype))


def fitted_map(input_scale: Any, n_features: int, dtype: np.dtype) -> tuple[NDArray, NDArray]:
    """Return the fitted input scaling (scale, shift) for backends, after checking it.

    Raises
    ------
    ValueError
        If it is not a pair of numeric arrays of shape (n_features,).
    """
    parts = input_scale if isinstance(input_scale, tuple | list) else ()
    if len(parts) == 2 and all(
        isinstance(part, np.ndarray) and part.shape == (n_features,) and part.dtype.kind in "biuf"
        for part in parts
    ):
        scale, shift = (np.require(part, dtype, ["C", "ALIGNED"]) for part in parts)
        return scale, shift
    raise ValueError(
        f"input_scale_ must be None or a pair (scale, shift) of arrays of shape ({n_features},); "
        "restore the fitted one, or set the parameter input_scale and fit again."
    )
