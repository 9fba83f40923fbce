"""Fitted models from fastmlp to scikit-learn, and back.

Both directions copy everything, so neither model changes when the other is trained further. Only
the exact classes cross over: what a subclass does to predictions is not known here.
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

#: What a fit leaves under the same name and with the same meaning in both; which of these there
#: are depends on the estimator and the solver.
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
    """Return scikit-learn's estimator with this model's weights; see `MLPClassifier.to_sklearn`.

    It predicts the same, up to rounding, and neither it nor its pickle needs fastmlp. (Only the
    probabilities of several classes after ``loss="squared_error"`` do not sum to 1 there.)
    Parameters that only fastmlp has are left behind; ``input_scale_`` becomes part of the first
    layer, and ``target_scale_`` of the last one (losses stay those of the scaled targets). It can
    be trained further (`warm_start`, `partial_fit`), with a new optimiser.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
        Fitted.
    sklearn_class : type
        Its class's counterpart.

    Returns
    -------
    sklearn.neural_network.MLPClassifier or sklearn.neural_network.MLPRegressor

    Raises
    ------
    TypeError
        If the model is of a subclass.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If scikit-learn has not its activation or solver.

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
            f"only fastmlp's own classes cross over, got {_name(type(model))}; scikit-learn has "
            f"none that predicts as a subclass does."
        )
    check_is_fitted(model)
    _check_has_counterpart(model)
    theirs = _with_parameters_of(model, sklearn_class)
    _copy_fitted_attributes(model, theirs)
    theirs.coefs_ = [coef.copy() for coef in model.coefs_]
    theirs.intercepts_ = [intercept.copy() for intercept in model.intercepts_]
    input_scale = getattr(model, "input_scale_", None)  # not there if it was made by hand
    if input_scale is not None:
        _fold(input_scale, theirs.coefs_[0], theirs.intercepts_[0])
    if getattr(model, "target_scale_", None) is not None:
        _unfold(
            model.target_scale_, model.out_activation_, theirs.coefs_[-1], theirs.intercepts_[-1]
        )
    # What its fit reads when it continues.
    # The same lists, as scikit-learn itself leaves them: its warm start trains them on in place.
    theirs._best_coefs = theirs.coefs_
    theirs._best_intercepts = theirs.intercepts_
    theirs._no_improvement_count = getattr(model, "_no_improvement_count", 0)
    theirs._random_state = check_random_state(theirs.random_state)
    return theirs


def from_sklearn(model: Any, sklearn_class: type, our_class: type) -> Any:
    """Return our estimator with the parameters and weights of scikit-learn's.

    It predicts the same, up to rounding, and training it further (`warm_start`, `partial_fit`)
    goes on where scikit-learn's has ended, the optimiser's state included.

    Parameters
    ----------
    model : sklearn.neural_network.MLPClassifier or sklearn.neural_network.MLPRegressor
        If it is not fitted, its parameters are all that is taken over.
    sklearn_class : type
        What the model must be.
    our_class : type
        Its counterpart.

    Returns
    -------
    MLPClassifier or MLPRegressor

    Raises
    ------
    TypeError
        If the model is of another class.

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
    """Refuse what scikit-learn's estimator could not go on with."""
    known = {
        "activation": [name for name, a in ACTIVATIONS.items() if a.is_sklearns],
        "solver": ["lbfgs", *(name for name, o in OPTIMIZERS.items() if o.is_sklearns)],
    }
    for parameter, names in known.items():
        value = getattr(model, parameter)
        if value not in names:
            raise ValueError(
                f"scikit-learn has no {parameter}={value!r}, so the model cannot become one of "
                f"scikit-learn's; train with one of {names}, or save it with fastmlp.save."
            )
    if model.max_grad_norm is not None:
        raise ValueError(
            f"scikit-learn does not clip gradients (max_grad_norm={model.max_grad_norm!r}), so the "
            "model cannot go on there as here; set it to None, or save the model with fastmlp.save."
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
    """Request the same metadata, as far as the target's methods take it."""
    theirs, ours = source.get_metadata_routing(), target.get_metadata_routing()
    for method in ("fit", "partial_fit", "score"):
        wanted, request = getattr(theirs, method).requests, getattr(ours, method)
        for name in wanted.keys() & request.requests.keys():
            request.add_request(param=name, alias=wanted[name])
    target._metadata_request = ours


def _copy_fitted_attributes(source: Any, target: Any) -> None:
    """Copy the fitted attributes that mean the same in both."""
    for name in _FITTED_ATTRIBUTES:
        if hasattr(source, name):
            setattr(target, name, copy.deepcopy(getattr(source, name)))


def _fold(input_scale: tuple[NDArray, NDArray], coef: NDArray, intercept: NDArray) -> None:
    """Make the map ``x' = scale * x + shift`` part of the layer that x' enters, in place.

    x' W + b = x (scale[:, None] * W) + (b + shift W), computed in float64.
    """
    scale, shift = (part.astype(np.float64) for part in input_scale)
    intercept[...] = intercept + shift @ coef
    coef[...] = scale[:, np.newaxis] * coef


def _unfold(
    target_scale: tuple[NDArray, NDArray], activation: str, coef: NDArray, intercept: NDArray
) -> None:
    """Make undoing ``y' = scale * y + shift`` part of the layer that y' leaves, in place."""
    scale, shift = target_scale
    if activation == "identity":
        coef[...] = coef / scale
        intercept[...] = (intercept - shift) / scale
    elif activation == "exp" and not np.any(shift):  # exp(z) / scale = exp(z - log(scale))
        intercept[...] = intercept - np.log(scale)
    else:
        raise ValueError(
            f"target_scale_ cannot become part of a layer whose outputs are {activation!r}; undo "
            "it yourself: set target_scale_ to None, convert, and divide the predictions."
        )


def _training_state(ours: Any, model: Any) -> TrainingState:
    """Return what fastmlp's fit continues from: scikit-learn's fitted attributes."""
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
    """Return scikit-learn's optimiser as fastmlp's, whose state is flat."""

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
