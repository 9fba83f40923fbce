"""From a fitted model and an input to the outputs, at a cost that follows the input.

The weights are used where they lie: nothing is kept between calls, so edits of `coefs_` count at
once and a model holds no second copy. What differs from the weights' dtype is the small input, and
that is converted. A plain array or CSR matrix is checked here, in some microseconds; whatever else
there is goes through scikit-learn's validation, which explains what is wrong with it.
"""

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
from fastmlp.estimators import constraints

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

#: Parameters that a prediction depends on, and that may have been set since the fit.
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
        Of the model's `dtype`, if it has one, and else of the dtype in which the weights and X
        meet: float32, or float64.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If there are no weights.
    ValueError
        If X is invalid, or an attribute or parameter that was changed since the fit.
    """
    if "coefs_" not in vars(model):
        check_is_fitted(model)  # refuses it; too slow to be asked before
    coefs, intercepts = layers(model)
    if not _is_plain(model, X):
        return _compute(model, coefs, intercepts, _validated(model, X))[0]
    result, is_finite = _compute(model, coefs, intercepts, X)
    if not is_finite:
        _validated(model, X)  # says so; a number that only the model's dtype has no room for passes
    return result


def activations(model: Any, X: Any) -> list[Any]:
    """Return the values of all layers for a validated matrix, beginning with X itself."""
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
    """Return the fitted weights as backends read them, once they fit together.

    Returns
    -------
    coefs : list of array of shape (fan_in, fan_out)
    intercepts : list of array of shape (fan_out,)
        All C-contiguous and aligned, and all float32 or all float64; the model's own arrays, if
        they are so.

    Raises
    ------
    ValueError
        If they are not numbers, or their shapes do not fit together.
    """
    try:
        coefs, intercepts = list(model.coefs_), list(model.intercepts_)
    except TypeError:  # not even lists
        coefs = intercepts = []
    if not coefs or len(coefs) != len(intercepts):
        raise ValueError(
            "coefs_ and intercepts_ must be lists with an array per layer, got "
            f"{len(coefs)} and {len(intercepts)} of these; put the fitted ones back."
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
                f"{intercept.shape}; put the fitted ones back."
            )
        fan_in = coef.shape[1]
    return coefs, intercepts


def _made_ready(coefs: list[Any], intercepts: list[Any]) -> tuple[list[NDArray], list[NDArray]]:
    """Return weights that somebody has assembled or replaced as arrays that backends can read."""
    try:
        arrays = [np.asarray(array) for array in coefs + intercepts]
    except (TypeError, ValueError):
        arrays = []
    if not arrays or not all(array.dtype.kind in "biuf" for array in arrays):
        raise ValueError(
            "coefs_ and intercepts_ must be arrays of numbers; put the fitted ones back."
        )
    is_narrow = all(array.dtype.kind == "f" and array.dtype.itemsize <= 4 for array in arrays)
    dtype = np.float32 if is_narrow else np.float64
    ready = [np.require(array, dtype, ["C", "ALIGNED"]) for array in arrays]
    return ready[: len(coefs)], ready[len(coefs) :]


def _is_ready(array: Any, dtype: Any) -> bool:
    """Return whether it is an array of this dtype whose memory can be used as it lies."""
    if type(array) is not np.ndarray or array.dtype != dtype:
        return False
    flags = array.flags
    return flags.c_contiguous and flags.aligned


def _is_plain(model: Any, X: Any) -> bool:
    """Return whether scikit-learn's validation would find nothing to change or to refuse.

    But for elements that are not finite: the backends look for them as they read. For a few rows,
    validation takes ten times as long as the network, and for many it reads them once more.
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
    """Return X as scikit-learn's validation leaves it."""
    return validate_data(model, X, reset=False, accept_sparse="csr", dtype="numeric", order="C")


def _compute(
    model: Any, coefs: list[NDArray], intercepts: list[NDArray], X: Any
) -> tuple[NDArray, bool]:
    """Return the outputs for an array or CSR matrix, and whether an array's elements are finite."""
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
    inputs = mapped(model, X, dtype)
    is_finite = backend.predict(network, coefs, intercepts, inputs, model.n_threads, result)
    if activate_outputs is not None:
        activate_outputs(result)
    return result, is_finite


def _check_parameters(model: Any) -> None:
    """Refuse parameters that were set to something invalid after the fit."""
    parameters = {name: getattr(model, name) for name in _PARAMETERS}
    constraints.validate(parameters, model._constraints, type(model).__name__)


def check_features(coefs: list[NDArray], X: Any) -> None:
    """Refuse weights that somebody has replaced by others that do not fit the data."""
    if len(coefs[0]) != X.shape[1]:
        raise ValueError(
            f"coefs_ take {len(coefs[0])} features, but X has {X.shape[1]}; pass the features that "
            "the model was made for, or put the fitted coefs_ back."
        )


def _network(model: Any, coefs: list[NDArray], intercepts: list[NDArray]) -> tuple[Network, Any]:
    """Return the network, and what else is to be applied to its outputs.

    Hidden layers' functions may be set as that of the outputs, to clip them at 0 for example. A
    network that is trained has none of these there, so backends need not know them.
    """
    units = (len(coefs[0]), *map(len, intercepts))
    output = model.out_activation_
    if not isinstance(model.activation, str) or model.activation not in ACTIVATIONS:
        raise ValueError(
            f"activation must be one of {tuple(sorted(ACTIVATIONS))}, got {model.activation!r}."
        )
    if not isinstance(output, str):
        output = repr(output)  # of no activation
    if output in LOSSES:
        return _shared_network(units, model.activation, output), None
    if output not in ACTIVATIONS:
        raise ValueError(
            f"out_activation_ must be one of {(*LOSSES, *sorted(set(ACTIVATIONS) - set(LOSSES)))}, "
            f"got {output!r}."
        )
    network = _shared_network(units, model.activation, "identity")
    return network, partial(activate, output)


#: A network, which never changes, takes longer to make than to find.
_shared_network = lru_cache(Network)


def mapped(model: Any, X: Any, dtype: np.dtype) -> Inputs:
    """Return X in the network's dtype, behind the fitted affine map."""
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
    """Return the fitted affine map (scale, shift) as backends read it, once it fits.

    Raises
    ------
    ValueError
        If it is no pair of arrays of shape (n_features,) of numbers.
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
        "put the fitted one back, or set the parameter input_scale and fit again."
    )
