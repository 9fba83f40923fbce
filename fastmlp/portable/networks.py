"""The networks of a fitted model as arrays, and what is made of their outputs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from fastmlp.core.arrays import activate
from fastmlp.core.functions import ACTIVATIONS, OUTPUT_ONLY
from fastmlp.estimators import MLPClassifier, MLPEnsemble, MLPRegressor, TTAClassifier, prediction
from fastmlp.portable.tables import PlainTable

__all__ = ["TASKS", "PlainModel", "PlainNetwork", "plain"]

#: What a model predicts: one of two classes, one of several, any number of labels, or numbers.
TASKS = ("binary", "multiclass", "multilabel", "regression")


@dataclass(frozen=True)
class PlainNetwork:
    """A network: layers of ``activation(x @ coef + intercept)``.

    Attributes
    ----------
    coefs : list of array of shape (fan_in, fan_out)
    intercepts : list of array of shape (fan_out,)
        All of the same dtype, float32 or float64.
    activation, output : str
        Activation of the hidden layers and of the outputs; see `fastmlp.core.functions`.
    input_scale : (scale, shift) or None
        Arrays of shape (n_features,): the first layer reads ``scale * x + shift``.
    target_scale : (scale, shift) or None
        Arrays of shape (n_outputs,), float64: predictions are ``(output - shift) / scale``.
    """

    coefs: list[NDArray]
    intercepts: list[NDArray]
    activation: str
    output: str
    input_scale: tuple[NDArray, NDArray] | None = None
    target_scale: tuple[NDArray, NDArray] | None = None

    @property
    def units(self) -> tuple[int, ...]:
        """Units per layer, including inputs and outputs."""
        return (len(self.coefs[0]), *map(len, self.intercepts))

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the weights."""
        return self.coefs[0].dtype

    def folded(self) -> "PlainNetwork":
        """Return the network with both scalings inside its first and last layers, in float64.

        For formats that have no place for them. In float32, inputs that are large compared with
        their spread lose digits. Targets can be inside only if the outputs are linear.
        """
        coefs, intercepts = (
            [array.astype(np.float64) for array in arrays]
            for arrays in (self.coefs, self.intercepts)
        )
        target_scale = self.target_scale
        if self.input_scale is not None:
            scale, shift = self.input_scale
            intercepts[0] = intercepts[0] + shift.astype(np.float64) @ coefs[0]
            coefs[0] = coefs[0] * scale[:, np.newaxis].astype(np.float64)
        if target_scale is not None and self.output == "identity":
            scale, shift = target_scale
            coefs[-1] = coefs[-1] / scale
            intercepts[-1] = (intercepts[-1] - shift) / scale
            target_scale = None
        return replace(
            self,
            coefs=coefs,
            intercepts=intercepts,
            input_scale=None,
            target_scale=target_scale,
        )

    def outputs(self, X: NDArray) -> NDArray:
        """Return the outputs for samples, in the dtype of the weights."""
        return self.values(X)[-1]

    def values(self, X: NDArray) -> list[NDArray]:
        """Return the values of each layer after the inputs, for samples."""
        x = X.astype(self.dtype)
        if self.input_scale is not None:
            scale, shift = self.input_scale
            x = x * scale.astype(self.dtype) + shift.astype(self.dtype)
        values: list[NDArray] = []
        for coef, intercept in zip(self.coefs, self.intercepts, strict=True):
            x = x @ coef + intercept
            is_last = len(values) == len(self.coefs) - 1
            activate(self.output if is_last else self.activation, x)
            values.append(x)
        if self.target_scale is not None:
            scale, shift = self.target_scale
            values[-1] = ((values[-1] - shift) / scale).astype(self.dtype)
        return values


@dataclass(frozen=True)
class PlainModel:
    """A model: the mean of some networks.

    Attributes
    ----------
    task : {"binary", "multiclass", "multilabel", "regression"}
    networks : tuple of PlainNetwork
        With the same inputs and outputs. A binary one has a single output, the probability of the
        second class; a multiclass one whose output is "logistic", not "softmax", has outputs that
        are divided by their sum.
    classes : array of shape (n_classes,) or None
        The labels of the columns of probabilities, of a classifier.
    estimator : str
        Name of the estimator's class.
    feature_names : list of str or None
    table : PlainTable or None
        What comes before the networks, for models of tables.
    """

    task: str
    networks: tuple[PlainNetwork, ...]
    classes: NDArray | None
    estimator: str
    feature_names: list[str] | None = None
    table: PlainTable | None = None

    @property
    def n_features(self) -> int:
        """Number of inputs of the networks."""
        return self.networks[0].units[0]

    @property
    def n_outputs(self) -> int:
        """Number of columns of `probabilities`, or of predicted numbers."""
        return 2 if self.task == "binary" else self.networks[0].units[-1]

    @property
    def is_classifier(self) -> bool:
        """Whether it predicts classes."""
        return self.task != "regression"

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the weights."""
        return self.networks[0].dtype

    def mapped(self, function: Callable[[PlainNetwork], PlainNetwork]) -> "PlainModel":
        """Return the model with other networks."""
        return replace(self, networks=tuple(map(function, self.networks)))

    def probabilities(self, X: NDArray) -> NDArray:
        """Return the probabilities of the classes, or the predicted numbers, for inputs.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Inputs of the networks.

        Returns
        -------
        array of shape (n_samples, n_outputs)
        """
        parts = [self._of_network(network, network.outputs(X)) for network in self.networks]
        return sum(parts[1:], parts[0]) / len(parts)

    def labels(self, probabilities: NDArray) -> NDArray:
        """Return the predicted labels: of shape (n_samples,), or 0 and 1 per label."""
        if self.task == "multilabel":
            return (probabilities > 0.5).astype(int)
        assert self.classes is not None
        return self.classes[probabilities.argmax(axis=1)]

    def _of_network(self, network: PlainNetwork, outputs: NDArray) -> NDArray:
        if self.task == "binary":
            return np.hstack([1 - outputs, outputs])
        if self.task == "multiclass" and network.output == "logistic":
            outputs = outputs + np.finfo(outputs.dtype).tiny  # equal if all are 0
            return outputs / outputs.sum(axis=1, keepdims=True)
        return outputs


def plain(model: Any) -> PlainModel:
    """Return a fitted model as plain arrays.

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor, MLPEnsemble, or a pipeline for tables that ends in one

    Returns
    -------
    PlainModel

    Raises
    ------
    sklearn.exceptions.NotFittedError
    TypeError
        If it is something else.
    ValueError
        If its attributes are invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import MLPRegressor
    >>> X = np.arange(8.0).reshape(4, 2)
    >>> model = MLPRegressor(hidden_layer_sizes=(3,), solver="lbfgs").fit(X, X[:, 0])
    >>> found = plain(model)
    >>> found.task, found.networks[0].units
    ('regression', (2, 3, 1))
    >>> bool(np.allclose(found.probabilities(X).ravel(), model.predict(X)))
    True
    """
    if isinstance(model, Pipeline):
        table = PlainTable.of(model)
        if table is None:
            steps = ", ".join(type(step).__name__ for _, step in model.steps)
            raise TypeError(
                "of pipelines, only those of fastmlp.tables are known as plain arrays, got the "
                f"steps {steps}: export to ONNX with skl2onnx, or only the last step."
            )
        return replace(plain(model.steps[-1][1]), table=table)
    if isinstance(model, TTAClassifier):
        raise TypeError(
            "model must not be a TTAClassifier, whose copies of images are made in Python: export "
            "its estimator_."
        )
    if not isinstance(model, MLPClassifier | MLPRegressor | MLPEnsemble):
        raise TypeError(
            "model must be an MLPClassifier, MLPRegressor or MLPEnsemble of fastmlp, or a pipeline "
            f"of fastmlp.tables, got {type(model).__name__}."
        )
    check_is_fitted(model)
    members = model.estimators_ if isinstance(model, MLPEnsemble) else [model]
    first = members[0]
    names = getattr(first, "feature_names_in_", None)
    classes = first.classes_ if isinstance(first, MLPClassifier) else None
    if classes is not None and classes.dtype.kind not in "biufUO":
        raise ValueError(
            f"class labels must be numbers, booleans or text, got {classes.dtype}: encode them "
            "as text, for example, and train again."
        )
    return PlainModel(
        task=_task(first),
        networks=tuple(map(_network, members)),
        classes=classes,
        estimator=type(first).__name__,
        feature_names=None if names is None else list(map(str, names)),
    )


def _task(model: Any) -> str:
    if isinstance(model, MLPRegressor):
        return "regression"
    if len(model.classes_) < 2 and model._label_binarizer.y_type_ == "binary":
        raise ValueError(
            f"the model must know two classes or more, got only {model.classes_.tolist()}: train "
            "it on samples of several."
        )
    kind: str = model._label_binarizer.y_type_
    return kind if kind in ("binary", "multiclass") else "multilabel"


def _network(model: Any) -> PlainNetwork:
    """Return one network, with its scalings after checks."""
    coefs, intercepts = prediction.layers(model)
    if not all(np.isfinite(array).all() for array in coefs + intercepts):
        raise ValueError("the weights must be finite, but contain NaN or infinity.")
    output = model.out_activation_
    if output not in (*ACTIVATIONS, *OUTPUT_ONLY):
        raise ValueError(f"out_activation_ must be the name of an activation, got {output!r}.")
    input_scale = getattr(model, "input_scale_", None)
    if input_scale is not None:
        input_scale = prediction.fitted_map(input_scale, len(coefs[0]), coefs[0].dtype)
    target_scale = getattr(model, "target_scale_", None)
    if target_scale is not None:
        scale, shift = (np.asarray(part, np.float64) for part in target_scale)
        target_scale = scale, shift
    return PlainNetwork(
        list(coefs), list(intercepts), model.activation, output, input_scale, target_scale
    )
