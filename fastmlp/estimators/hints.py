"""Warnings on common mistakes that scikit-learn does not report.

Each has its own class and names the remedy; they change nothing else.
"""

import re
from collections.abc import Mapping
from itertools import chain
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from fastmlp import backends
from fastmlp.core.optimizers import OPTIMIZERS
from fastmlp.exceptions import (
    ConstantFeatureWarning,
    IneffectiveParameterWarning,
    InputScaleWarning,
    NegativeWeightWarning,
    OneHotLabelsWarning,
    SlowBackendWarning,
    TargetScaleWarning,
    warn,
)

#: Unscaled inputs with a larger range give an `InputScaleWarning`: 25 times the range of the
#: central 95 % of a standardized feature, well below the 255 of raw pixels.
_WIDE_RANGE = 100.0

#: Number of samples checked, evenly spaced.
RANGE_SAMPLES = 4096

#: Targets with a larger mean or standard deviation give a `TargetScaleWarning`. For 1500 samples
#: of Friedman's first problem, with default parameters, R^2 is 0.98 for targets with mean 0 and
#: variance 1. With a mean of 10, 100 and 300 Adam reaches 0.40, -90 and -1000; with a deviation
#: of 100, 1000 and 10 000 it reaches 0.82, 0.64 and 0.12. L-BFGS reaches 0.83 with a mean of 100,
#: and does not depend on the deviation.
_FAR_MEAN = 100.0
_WIDE_SPREAD = 1000.0

_STOCHASTIC = (
    *("learning_rate_init", "batch_size", "shuffle", "early_stopping", "validation_fraction"),
    *("n_iter_no_change", "lr_schedule", "dropout", "augment", "max_grad_norm"),
)

#: The parameters of the optimizers.
_OF_OPTIMIZERS = tuple(dict.fromkeys(chain(*(cls.parameters for cls in OPTIMIZERS.values()))))

#: Solver -> the parameters that it ignores.
WITHOUT_EFFECT = {
    name: (*(p for p in _OF_OPTIMIZERS if p not in cls.parameters), "max_fun")
    for name, cls in OPTIMIZERS.items()
} | {"lbfgs": (*_STOCHASTIC, *_OF_OPTIMIZERS)}


#: Whether this process has given a `SlowBackendWarning`.
_warned_of_backend = False


def about_backend(name: str, module: ModuleType) -> None:
    """Warn, once per process, if "auto" has chosen NumPy because nothing is compiled."""
    global _warned_of_backend
    if name != "auto" or module.__name__ != "fastmlp.backends.numpy_backend" or _warned_of_backend:
        return
    reasons = backends.unavailable()
    if "cython" in reasons and "numba" in reasons:
        # In short: advice follows a semicolon, and details a line break.
        cython, numba = (re.split("[;\n]", reasons[faster])[0] for faster in ("cython", "numba"))
        warn(
            "backend='auto' uses NumPy, which is slower, because no compiled backend is available "
            f"(cython: {cython}; numba: {numba}). Install a C compiler and reinstall fastmlp, or "
            "run 'pip install numba'. backend='numpy' does not warn.",
            SlowBackendWarning,
        )
    _warned_of_backend = True  # not before, because a filter may make an error of it


def about_parameters(
    solver: str, parameters: Mapping[str, Any], defaults: Mapping[str, Any]
) -> None:
    """Warn about non-default parameters that the solver ignores."""
    idle = [
        f"{name}={_shortened(repr(parameters[name]))}"
        for name in WITHOUT_EFFECT[solver]
        # Subclasses may lack some of them, or defaults.
        if name in parameters
        and name in defaults
        and not _is_default(parameters[name], defaults[name])
    ]
    if idle:
        verb = "has" if len(idle) == 1 else "have"
        warn(
            f"{', '.join(idle)} {verb} no effect with solver={solver!r}; omit "
            f"{'it' if len(idle) == 1 else 'them'}, or choose another solver.",
            IneffectiveParameterWarning,
        )


def _is_default(value: Any, default: Any) -> bool:
    """Return whether a parameter has its default value."""
    return value is default or bool(np.all(np.asarray(value) == default))


def _shortened(text: str) -> str:
    """Truncate a long text."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def about_labels(Y: NDArray) -> None:
    """Warn about multilabel targets that look like one-hot encoded classes."""
    # A few samples may have one label each by chance.
    if len(Y) > Y.shape[1] > 1 and (np.count_nonzero(Y, axis=1) == 1).all():
        warn(
            f"y has {Y.shape[1]} columns with exactly one 1 per row. They are treated as "
            "multilabel, so predict may return none or several of the labels; for one class per "
            "sample, pass the classes themselves, such as y.argmax(axis=1).",
            OneHotLabelsWarning,
        )


def about_range(X: Any) -> None:
    """Warn about features that are far from unit scale."""
    values = X.data if issparse(X) else X
    values = values[:: -(-len(values) // RANGE_SAMPLES) or 1]  # a sample is enough
    low, high = values.min(initial=0), values.max(initial=0)
    if float(high) - float(low) > _WIDE_RANGE:
        warn(
            f"The features span {low:g} to {high:g}; a network trains well at about unit "
            "scale and may diverge or stall otherwise. Pass input_scale='standard' (or "
            "input_scale=1/255 for uint8 images), or scale X first.",
            InputScaleWarning,
        )


def about_constant_features(X: NDArray) -> None:
    """Warn about constant features, except for uint8.

    uint8 data are usually images, whose borders are often constant.
    """
    if X.dtype == np.uint8 or len(X) < 2:
        return
    constant = np.flatnonzero((X == X[0]).all(axis=0))
    if len(constant):
        shown = ", ".join(map(str, constant[:5])) + (", ..." if len(constant) > 5 else "")
        warn(
            f"{len(constant)} of {X.shape[1]} features are constant (columns {shown}); they are "
            "standardized to 0 and carry no information. Remove them, or ignore this if they are "
            "borders of images.",
            ConstantFeatureWarning,
        )


def about_targets(Y: NDArray, solver: str) -> None:
    """Warn about regression targets that are far from unit scale."""
    mean, spread = (np.abs(part).max() for part in (Y.mean(axis=0), Y.std(axis=0)))
    if mean > _FAR_MEAN or (spread > _WIDE_SPREAD and solver != "lbfgs"):
        warn(
            f"The targets have means of up to {mean:.3g} and standard deviations of up to "
            f"{spread:.3g}; a network starts near 0 and takes small steps, so training may take "
            "too long. Pass target_scale='standard', or scale y first.",
            TargetScaleWarning,
        )


def about_weights(weights: NDArray) -> None:
    """Warn about negative sample weights."""
    n_negative = np.count_nonzero(weights < 0)
    if n_negative:
        warn(
            f"{n_negative} of {len(weights)} sample weights are negative: training increases the "
            "loss of these samples without bound, and the sum of a batch may be close to 0. Pass "
            "weights >= 0, unless this is intended.",
            NegativeWeightWarning,
        )
