"""Gentle hints: what scikit-learn's users often get wrong without being told.

Each is one warning of a class of its own, with the remedy; nothing else changes.
"""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from fastmlp.core.optimizers import OPTIMIZERS
from fastmlp.exceptions import (
    ConstantFeatureWarning,
    IneffectiveParameterWarning,
    InputScaleWarning,
    NegativeWeightWarning,
    OneHotLabelsWarning,
    TargetScaleWarning,
    warn,
)

#: Inputs that span more than this, unscaled, get an `InputScaleWarning`: 25 times the
#: range of a standardised feature's central 95 %, well below the 255 of raw pixels.
_WIDE_RANGE = 100.0

#: Samples that are looked at for it, evenly spaced.
_RANGE_SAMPLES = 4096

#: Targets with a larger mean, or a larger standard deviation, get a `TargetScaleWarning`. Of 1500
#: samples of Friedman's first problem, with all else at its default, R^2 is 0.98 for targets of
#: mean 0 and variance 1. At a mean of 10, 100 and 300 Adam reaches 0.40, -90 and -1000; at a
#: deviation of 100, 1000 and 10 000 it reaches 0.82, 0.64 and 0.12. L-BFGS reaches 0.83 at a mean
#: of 100, and does not mind the deviation.
_FAR_MEAN = 100.0
_WIDE_SPREAD = 1000.0

_STOCHASTIC = (
    *("learning_rate_init", "batch_size", "shuffle", "early_stopping", "validation_fraction"),
    *("n_iter_no_change", "lr_schedule", "dropout", "augment", "max_grad_norm"),
)

#: The parameters that some optimisers read.
_OF_OPTIMIZERS = tuple(dict.fromkeys(chain(*(cls.parameters for cls in OPTIMIZERS.values()))))

#: Solver -> the parameters that it ignores.
WITHOUT_EFFECT = {
    name: (*(p for p in _OF_OPTIMIZERS if p not in cls.parameters), "max_fun")
    for name, cls in OPTIMIZERS.items()
} | {"lbfgs": (*_STOCHASTIC, *_OF_OPTIMIZERS)}


def about_parameters(
    solver: str, parameters: Mapping[str, Any], defaults: Mapping[str, Any]
) -> None:
    """Warn of parameters that are not at their defaults and have no effect on the solver."""
    idle = [
        f"{name}={_shortened(repr(parameters[name]))}"
        for name in WITHOUT_EFFECT[solver]
        # A subclass need not have all of them, nor defaults.
        if name in parameters
        and name in defaults
        and not _is_default(parameters[name], defaults[name])
    ]
    if idle:
        verb = "has" if len(idle) == 1 else "have"
        warn(
            f"{', '.join(idle)} {verb} no effect with solver={solver!r}; leave "
            f"{'it' if len(idle) == 1 else 'them'} out, or choose another solver.",
            IneffectiveParameterWarning,
        )


def _is_default(value: Any, default: Any) -> bool:
    """Return whether a parameter is as good as not set."""
    return value is default or bool(np.all(np.asarray(value) == default))


def _shortened(text: str) -> str:
    """Return the beginning of a text that would drown the message."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def about_labels(Y: NDArray) -> None:
    """Warn of 0/1 columns of labels that are one-hot encoded classes in truth."""
    # A few samples may have one label each by chance.
    if len(Y) > Y.shape[1] > 1 and (np.count_nonzero(Y, axis=1) == 1).all():
        warn(
            f"y has {Y.shape[1]} columns with exactly one 1 per row. Columns mean labels that are "
            "not exclusive, so that predict may answer with none or several of them; for one "
            "class per sample pass the classes themselves, such as y.argmax(axis=1).",
            OneHotLabelsWarning,
        )


def about_range(X: Any) -> None:
    """Warn of features that are far from unit scale."""
    values = X.data if issparse(X) else X
    values = values[:: -(-len(values) // _RANGE_SAMPLES) or 1]  # whoever is out of scale shows
    low, high = values.min(initial=0), values.max(initial=0)
    if float(high) - float(low) > _WIDE_RANGE:
        warn(
            f"The features span {low:g} to {high:g}; a network trains well on about unit "
            "scale and may diverge or stall on this. Pass input_scale='standard' (or "
            "input_scale=1/255 for byte images), or scale X first.",
            InputScaleWarning,
        )


def about_constant_features(X: NDArray) -> None:
    """Warn of features that are the same in all samples, except for bytes.

    Images, which bytes usually are, have such features by nature: their borders.
    """
    if X.dtype == np.uint8 or len(X) < 2:
        return
    constant = np.flatnonzero((X == X[0]).all(axis=0))
    if len(constant):
        shown = ", ".join(map(str, constant[:5])) + (", ..." if len(constant) > 5 else "")
        warn(
            f"{len(constant)} of {X.shape[1]} features are the same in all samples (columns "
            f"{shown}); standardised, they are 0 and teach nothing. Leave them out, or ignore "
            "this if they are images' borders.",
            ConstantFeatureWarning,
        )


def about_targets(Y: NDArray, solver: str) -> None:
    """Warn of numbers to be predicted that are far from unit scale."""
    mean, spread = (np.abs(part).max() for part in (Y.mean(axis=0), Y.std(axis=0)))
    if mean > _FAR_MEAN or (spread > _WIDE_SPREAD and solver != "lbfgs"):
        warn(
            f"The targets have means of up to {mean:.3g} and standard deviations of up to "
            f"{spread:.3g}; a network begins near 0 and takes small steps, so it may never get "
            "there. Pass target_scale='standard', or scale y first.",
            TargetScaleWarning,
        )


def about_weights(weights: NDArray) -> None:
    """Warn of samples that the network is to be wrong about."""
    n_negative = np.count_nonzero(weights < 0)
    if n_negative:
        warn(
            f"{n_negative} of {len(weights)} sample weights are negative: training makes the loss "
            "of these samples larger, without end, and the sum of a batch may come near 0. Pass "
            "weights >= 0, unless that is what you want.",
            NegativeWeightWarning,
        )
