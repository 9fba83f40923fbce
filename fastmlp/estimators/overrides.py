"""Overrides of scikit-learn's private methods in subclasses.

In scikit-learn, training and prediction are Python methods that subclasses can override. Here they
are compiled. Overrides of `_init_coef`, `_fit` and `_check_solver` are supported, and of `_predict`
and `_forward_pass_fast` in predictions; overrides that the engine would ignore are refused.
"""

from typing import Any

#: Methods of scikit-learn 1.7 to 1.9 that are not called, and what the engine computes instead.
_ENGINES_PART = {
    "_backprop": "the loss and its gradient",
    "_compute_loss_grad": "the gradient of a layer",
    "_fit_lbfgs": "training by L-BFGS",
    "_fit_stochastic": "training in minibatches",
    "_forward_pass": "the values of all layers",
    "_forward_pass_fast": "the outputs for validation data",
    "_initialize": "the initial weights (override _init_coef to change them)",
    "_loss_grad_lbfgs": "the loss and its gradient",
    "_predict": "the predictions for validation data",
    "_score": "the score of validation data",
    "_score_with_function": "the score of validation data",
    "_unpack": "the weights",
    "_update_no_improvement_count": "the count of epochs without improvement",
    "_validate_input": "the validation of the training data",
}

_OF_PREDICTIONS = ("_forward_pass_fast", "_predict")


def check_overrides(model: Any) -> None:
    """Refuse a model that overrides a method, in its class or itself, which the engine ignores.

    Raises
    ------
    TypeError
        With the name of the method, the reason, and the way out.
    """
    for name, part in _ENGINES_PART.items():
        if name in _OF_PREDICTIONS and not model.early_stopping:
            continue  # called by predictions, but not for validation scores
        if owner := _overrider(model, name):
            # The base class, whose name is the same as scikit-learn's.
            base = next(cls for cls in type(model).__mro__ if _is_ours(cls)).__name__
            raise TypeError(
                f"{owner} overrides {name}, but fastmlp's engine computes {part} without calling "
                "it, so the override would have no effect; derive the class from scikit-learn's "
                f"own, fastmlp.accel.SKLEARN_ESTIMATORS[{base!r}]."
            )


def _overrider(model: Any, name: str) -> str:
    """Return what overrides a method, in words; empty if nothing does."""
    if name in vars(model):
        return f"this {type(model).__name__}"
    for cls in type(model).__mro__:
        if name in vars(cls):
            # fastmlp's class may have been patched.
            return "" if _is_ours(cls) and _is_ours(vars(cls)[name]) else cls.__qualname__
    return ""


def _is_ours(thing: Any) -> bool:
    """Return whether a class or a function is defined in fastmlp."""
    return str(getattr(thing, "__module__", "")).partition(".")[0] == "fastmlp"
