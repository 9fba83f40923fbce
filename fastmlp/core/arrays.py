"""The functions of `functions.py` on NumPy arrays."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fastmlp.core import functions

# Functions overwrite pre-activations Z of shape (n_samples, n_units); derivatives multiply delta by
# the derivative, in terms of the value A. The operations are bit-identical to scikit-learn's.


def _logistic(Z: NDArray) -> None:
    expit(Z, out=Z)


def _tanh(Z: NDArray) -> None:
    np.tanh(Z, out=Z)


def _relu(Z: NDArray) -> None:
    np.maximum(Z, 0, out=Z)


def _exp(Z: NDArray) -> None:
    np.exp(Z, out=Z)


def _softmax(Z: NDArray) -> None:
    np.exp(Z - Z.max(axis=1)[:, np.newaxis], out=Z)
    Z /= Z.sum(axis=1)[:, np.newaxis]


def _nothing(*_: NDArray) -> None:
    pass


def _d_logistic(A: NDArray, delta: NDArray) -> None:
    delta *= A
    delta *= 1 - A


def _d_tanh(A: NDArray, delta: NDArray) -> None:
    delta *= 1 - A**2


def _d_relu(A: NDArray, delta: NDArray) -> None:
    delta[A == 0] = 0


#: The primitives of the functions in the table, on arrays.
_PRIMITIVES = {"exp": np.exp, "tanh": np.tanh, "logistic": expit, "where": np.where}

_IN_PLACE: dict[str, tuple[Callable[..., None], Callable[..., None]]] = {
    "identity": (_nothing, _nothing),
    "logistic": (_logistic, _d_logistic),
    "tanh": (_tanh, _d_tanh),
    "relu": (_relu, _d_relu),
    "exp": (_exp, _nothing),
    "softmax": (_softmax, _nothing),
}

#: The functions that scikit-learn does not have, on arrays.
_ON_ARRAYS = {
    name: (
        functions.bound(activation.f, **_PRIMITIVES),
        functions.bound(activation.df, **_PRIMITIVES),
    )
    for name, activation in functions.ACTIVATIONS.items()
    if name not in _IN_PLACE
}


def activate(name: str, Z: NDArray) -> None:
    """Overwrite pre-activations with activations."""
    if name in _IN_PLACE:
        _IN_PLACE[name][0](Z)
    else:
        Z[...] = _ON_ARRAYS[name][0](Z, Z.dtype.type)


def slope_of(name: str, Z: NDArray) -> NDArray | None:
    """Return the derivative at pre-activations, if it cannot be computed from the values."""
    if not functions.ACTIVATIONS[name].reads_z:
        return None
    f, df = _ON_ARRAYS[name]
    return df(Z, f(Z, Z.dtype.type), Z.dtype.type)


def multiply_by_derivative(name: str, A: NDArray, delta: NDArray) -> None:
    """Multiply deltas by the derivative, in terms of the values."""
    if name in _IN_PLACE:
        _IN_PLACE[name][1](A, delta)
    else:
        delta *= _ON_ARRAYS[name][1](None, A, A.dtype.type)
