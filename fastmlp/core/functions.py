"""Activations and losses.

A hidden activation is an entry of `ACTIVATIONS`. Its two scalar functions are compiled by Numba,
for the host and for devices, and computed on arrays by the NumPy backend: `bound` replaces `exp`,
`tanh`, `logistic` and `where` by those of the backend. The C engine has the same in a line of
functions.h; its names are compared with these on import.
"""

import math
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# --------------------------------------------------------------------------------------- primitives


def exp(z: Any) -> Any:
    """Return e to the power of z."""
    return math.exp(z)


def tanh(z: Any) -> Any:
    """Return the hyperbolic tangent."""
    return math.tanh(z)


def logistic(z: Any) -> Any:
    """Return 1 / (1 + exp(-z)), without overflow."""
    e = math.exp(-abs(z))
    return (e if z < 0 else 1) / (1 + e)


def where(condition: Any, a: Any, b: Any) -> Any:
    """Return a if the condition is true, otherwise b."""
    return a if condition else b


def bound(function: Any, **primitives: Any) -> Any:
    """Return a function of the table with its primitives replaced.

    Examples
    --------
    >>> bound(ACTIVATIONS["tanh"].f, tanh=lambda z: 0.5)(1.0, float)
    0.5
    """
    return types.FunctionType(
        function.__code__, {**function.__globals__, **primitives}, function.__name__
    )


# -------------------------------------------------------------------------------------- activations


@dataclass(frozen=True)
class Activation:
    """An activation of the hidden layers.

    Constants are written ``real(0.5)``, where `real` is the floating-point type: without it,
    compiled float32 code would compute in float64.

    Parameters
    ----------
    f : callable
        ``f(z, real)``: the value at the pre-activation z. NaN must give NaN.
    df : callable
        ``df(z, a, real)``: the derivative at z, where a is the value there.
    reads_z : bool
        Whether `df` needs z. If so, derivatives are computed and stored in the forward pass,
        otherwise in the backward pass from the values.
    is_sklearns : bool
        Whether scikit-learn has it.
    """

    f: Callable[..., Any]
    df: Callable[..., Any]
    reads_z: bool = False
    is_sklearns: bool = False


def _identity(z, real):  # type: ignore[no-untyped-def]
    return z


def _d_identity(z, a, real):  # type: ignore[no-untyped-def]
    return real(1)


def _logistic(z, real):  # type: ignore[no-untyped-def]
    return logistic(z)


def _d_logistic(z, a, real):  # type: ignore[no-untyped-def]
    return a * (real(1) - a)


def _tanh(z, real):  # type: ignore[no-untyped-def]
    return tanh(z)


def _d_tanh(z, a, real):  # type: ignore[no-untyped-def]
    return real(1) - a * a


def _relu(z, real):  # type: ignore[no-untyped-def]
    return where(z < real(0), real(0), z)


def _d_relu(z, a, real):  # type: ignore[no-untyped-def]
    return where(a == real(0), real(0), real(1))


def _leaky_relu(z, real):  # type: ignore[no-untyped-def]
    return where(z > real(0), z, real(0.01) * z)


def _d_leaky_relu(z, a, real):  # type: ignore[no-untyped-def]
    return where(a > real(0), real(1), real(0.01))


def _gelu(z, real):  # type: ignore[no-untyped-def]
    """Return its tanh form (Hendrycks and Gimpel, 2016), within 5e-4 of z times Phi(z)."""
    u = real(0.7978845608028654) * (z + real(0.044715) * z * z * z)  # sqrt(2 / pi)
    return real(0.5) * z * (real(1) + tanh(u))


def _d_gelu(z, a, real):  # type: ignore[no-untyped-def]
    t = tanh(real(0.7978845608028654) * (z + real(0.044715) * z * z * z))
    du = real(0.7978845608028654) * (real(1) + real(0.134145) * z * z)
    return real(0.5) * (real(1) + t) + real(0.5) * z * (real(1) - t * t) * du


def _silu(z, real):  # type: ignore[no-untyped-def]
    return z * logistic(z)


def _d_silu(z, a, real):  # type: ignore[no-untyped-def]
    share = logistic(z)
    return share + a * (real(1) - share)


#: The activations of the hidden layers, by name.
ACTIVATIONS = {
    "identity": Activation(_identity, _d_identity, is_sklearns=True),
    "logistic": Activation(_logistic, _d_logistic, is_sklearns=True),
    "tanh": Activation(_tanh, _d_tanh, is_sklearns=True),
    "relu": Activation(_relu, _d_relu, is_sklearns=True),
    "leaky_relu": Activation(_leaky_relu, _d_leaky_relu),
    "gelu": Activation(_gelu, _d_gelu, reads_z=True),
    "silu": Activation(_silu, _d_silu, reads_z=True),
}

#: Activations of output layers only: of the whole row, and elementwise.
OUTPUT_ONLY = ("softmax", "exp")

#: Codes of activations in compiled code.
CODES = {name: code for code, name in enumerate((*OUTPUT_ONLY, *ACTIVATIONS))}


# ------------------------------------------------------------------------------------------- losses

#: Output activation -> its possible losses. The first is canonical: its gradient
#: through the activation is ``output - target`` (as in a generalized linear model).
LOSSES = {
    "softmax": ("log_loss",),
    "logistic": ("log_loss", "squared_error"),
    "identity": ("squared_error",),
    "exp": ("poisson",),
}

#: Codes of losses in compiled code.
LOSS_CODES = {"log_loss": 0, "squared_error": 1, "poisson": 2}
