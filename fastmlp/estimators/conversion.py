"""Conversion of fitted models to scikit-learn, and back.

Everything is copied, so neither model changes when the other is trained further. Subclasses are
refused, because they may change predictions.
"""

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fastmlp.core.functions import ACTIVATIONS
from fastmlp.core.network import Parameters
from fastmlp.core.optimizers import OPTIMIZERS
from fastmlp.training import SGD, Adam, TrainingState

__all__ = ["from_sklearn", "to_sklearn"]

#: Fitted attributes with the same name and meaning in both; which of them exist depends on the
#: estimator and the solver.
_FITTED_ATTRIBUTES = (
    "classes_",
    "_label_binarizer",
    "n_features_in_",
    "feature_names_in_",
    "n_outputs_",
    "n_layers_",
    "out_activation_",
    "n_iter_",
    "t_",
    "loss_",
    "loss_curve_",
    "best_loss_",
    "validation_scores_",
    "best_validation_score_",
)


def to_sklearn(model: Any, sklearn_class: type) -> Any:
    """Return scikit-learn's estimator with this model's weights; see `BaseMLP.to_sklearn`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import MLPRegressor
    >>> X = np.arange(8.0).reshape(4, 2)
    >>> model = MLPRegressor(hidden_layer_sizes=3, solver="lbfgs", random_state=0).fit(X, X[:, 0])
    >>> theirs = model.to_sklearn()
    >>> type(theirs).__module__.split(".")[0]
    'sklearn'
    >>> np.allclose(theirs.predict(X), model.predict(X))
    True
    """
    if "_sklearn_class" not in vars(type(model)):
        raise TypeError(
            f"only fastmlp's own classes can be converted, got {_name(type(model))}; scikit-learn "
            "has no counterpart of a subclass."
        )
    check_is_fitted(model)
    _check_has_counterpart(model)
    theirs = _with_parameters_of(model, sklearn_class)
    _copy_fitted_attributes(model, theirs)
    theirs.coefs_ = [coef.copy() for coef in model.coefs_]
    theirs.intercepts_ = [intercept.copy() for intercept in model.intercepts_]
    input_scale = getattr(model, "input_scale_", None)  # missing if it was made by hand
    if input_scale is not None:
        _fold(input_scale, theirs.coefs_[0], theirs.intercepts_[0])
    if getattr(model, "target_scale_", None) is not None:
        _unfold(
            model.target_scale_, model.out_activation_, theirs.coefs_[-1], theirs.intercepts_[-1]
        )
    # Read when its fit continues.
    # The same lists, as in scikit-learn: its warm start updates them in place.
    theirs._best_coefs = theirs.coefs_
    theirs._best_intercepts = theirs.intercepts_
    theirs._no_improvement_count = getattr(model, "_no_improvement_count", 0)
    theirs._random_state = check_random_state(theirs.random_state)
    return theirs


def from_sklearn(model: Any, sklearn_class: type, our_class: type) -> Any:
    """Return fastmlp's estimator with the parameters and weights of scikit-learn's.

    Its predictions are the same, up to rounding, and further training (`warm_start`,
    `partial_fit`) continues from scikit-learn's, including the state of the optimizer.

    Parameters
    ----------
    model : sklearn.neural_network.MLPClassifier or sklearn.neural_network.MLPRegressor
        If it is not fitted, only its parameters are copied.
    sklearn_class : type
        The required class of the model.
    our_class : type
        fastmlp's class.

    Returns
    -------
    MLPClassifier or MLPRegressor

    Raises
    ------
    TypeError
        If the model is an instance of another class.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmlp
    >>> from sklearn.neural_network import MLPRegressor
    >>> X = np.arange(8.0).reshape(4, 2)
    >>> model = MLPRegressor(hidden_layer_sizes=3, solver="lbfgs", random_state=0).fit(X, X[:, 0])
    >>> np.allclose(fastmlp.MLPRegressor.from_sklearn(model).predict(X), model.predict(X))
    True
    """
    if type(model) is not sklearn_class:
        raise TypeError(
            f"model must be scikit-learn's {sklearn_class.__name__}, got {_name(type(model))}."
        )
    ours = _with_parameters_of(model, our_class)
    theirs: Any = model
    if not hasattr(theirs, "coefs_"):
        return ours
    _copy_fitted_attributes(theirs, ours)
    network = ours._network((len(theirs.coefs_[0]), *map(len, theirs.intercepts_)))
    dtype = np.result_type(*theirs.coefs_)
    parameters = Parameters.from_layers(network, theirs.coefs_, theirs.intercepts_, dtype)
    ours.coefs_, ours.intercepts_ = parameters.coefs, parameters.intercepts
    ours.input_scale_ = None
    if hasattr(ours, "target_scale"):
        ours.target_scale_ = None
    ours._fitted_loss = network.loss
    ours._state = _training_state(ours, theirs)
    ours.history_ = ours._state.history
    if hasattr(theirs, "_optimizer"):
        ours._optimizer = _optimizer(theirs._optimizer, dtype)
    return ours


def _check_has_counterpart(model: Any) -> None:
    """Refuse what scikit-learn's estimator does not support."""
    known = {
        "activation": [name for name, a in ACTIVATIONS.items() if a.is_sklearns],
        "solver": ["lbfgs", *(name for name, o in OPTIMIZERS.items() if o.is_sklearns)],
    }
    for parameter, names in known.items():
        value = getattr(model, parameter)
        if value not in names:
            raise ValueError(
                f"scikit-learn has no {parameter}={value!r}, so the model cannot be converted; "
                f"train with one of {names}, or save it with fastmlp.save."
            )
    if model.max_grad_norm is not None:
        raise ValueError(
            f"scikit-learn does not clip gradients (max_grad_norm={model.max_grad_norm!r}), so the "
            "model cannot be converted; set it to None, or save the model with fastmlp.save."
        )


def _name(cls: type) -> str:
    """Return the full name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _with_parameters_of(model: Any, cls: type) -> Any:
    """Return a new estimator of this class, with the parameters and requests that both have."""
    estimator = cls()
    known = estimator.get_params()
    shared = {name: v for name, v in model.get_params(deep=False).items() if name in known}
    estimator.set_params(**copy.deepcopy(shared))
    if hasattr(model, "_metadata_request"):
        _copy_requests(model, estimator)
    return estimator


def _copy_requests(source: Any, target: Any) -> None:
    """Request the same metadata, as far as the target's methods accept it."""
    theirs, ours = source.get_metadata_routing(), target.get_metadata_routing()
    for method in ("fit", "partial_fit", "score"):
        wanted, request = getattr(theirs, method).requests, getattr(ours, method)
        for name in wanted.keys() & request.requests.keys():
            request.add_request(param=name, alias=wanted[name])
    target._metadata_request = ours


def _copy_fitted_attributes(source: Any, target: Any) -> None:
    """Copy the fitted attributes with the same meaning in both."""
    for name in _FITTED_ATTRIBUTES:
        if hasattr(source, name):
            setattr(target, name, copy.deepcopy(getattr(source, name)))


def _fold(input_scale: tuple[NDArray, NDArray], coef: NDArray, intercept: NDArray) -> None:
    """Fold the input scaling ``x' = scale * x + shift`` into a layer, in place.

    x' W + b = x (scale[:, None] * W) + (b + shift W), computed in float64.
    """
    scale, shift = (part.astype(np.float64) for part in input_scale)
    intercept[...] = intercept + shift @ coef
    coef[...] = scale[:, np.newaxis] * coef


def _unfold(
    target_scale: tuple[NDArray, NDArray], activation: str, coef: NDArray, intercept: NDArray
) -> None:
    """Fold the inverse of the target scaling ``y' = scale * y + shift`` into a layer, in place."""
    scale, shift = target_scale
    if activation == "identity":
        coef[...] = coef / scale
        intercept[...] = (intercept - shift) / scale
    elif activation == "exp" and not np.any(shift):  # exp(z) / scale = exp(z - log(scale))
        intercept[...] = intercept - np.log(scale)
    else:
        raise ValueError(
            f"target_scale_ cannot become part of an output layer with {activation!r} activation; "
            "set target_scale_ to None, convert, and divide the predictions yourself."
        )


def _training_state(ours: Any, model: Any) -> TrainingState:
    """Return the training state for fastmlp's fit, from scikit-learn's fitted attributes."""
    state = TrainingState(n_samples_seen=ours.t_)
    state.loss_curve = getattr(ours, "loss_curve_", [])
    state.no_improvement_count = getattr(model, "_no_improvement_count", 0)
    if state.loss_curve:
        state.history = {"loss": list(state.loss_curve)}
    if getattr(ours, "validation_scores_", None):
        state.validation_scores = ours.validation_scores_
        state.best_validation_score = ours.best_validation_score_
        state.history["val_score"] = list(state.validation_scores)
    elif state.loss_curve:
        state.best_loss = ours.best_loss_
    return state


def _optimizer(theirs: Any, dtype: np.dtype) -> SGD | Adam:
    """Convert scikit-learn's optimizer to fastmlp's, whose state is flat."""

    def flat(layers: Iterable[NDArray]) -> NDArray:
        return np.concatenate([layer.ravel() for layer in layers]).astype(dtype, copy=False)

    ours: SGD | Adam
    if hasattr(theirs, "velocities"):
        ours = SGD(
            flat(theirs.velocities),
            theirs.learning_rate_init,
            theirs.lr_schedule,
            theirs.power_t,
            theirs.momentum,
            theirs.nesterov,
        )
    else:
        ours = Adam(
            flat(theirs.ms),
            flat(theirs.vs),
            theirs.learning_rate_init,
            theirs.beta_1,
            theirs.beta_2,
            theirs.epsilon,
            theirs.t,
        )
    ours.learning_rate = float(theirs.learning_rate)
    return ours
