"""Converters for skl2onnx, so that it converts pipelines and meta-estimators with our networks."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier, VotingRegressor

from fastmlp.estimators import MLPClassifier, MLPEnsemble, MLPRegressor, TTAClassifier
from fastmlp.export.common import exportable
from fastmlp.export.onnx_graph import OPSET, element, label_classes, labels, predictions
from fastmlp.portable import PlainModel

__all__ = ["converted", "register_skl2onnx"]

#: skl2onnx's converters need a later opset than ours.
_OPSETS = {"": 17, "ai.onnx.ml": 3}

_OURS = (MLPClassifier, MLPRegressor, MLPEnsemble)


def register_skl2onnx() -> None:
    """Tell skl2onnx how to convert MLPClassifier, MLPRegressor and MLPEnsemble.

    Its functions then convert scikit-learn's pipelines and meta-estimators that contain them, with
    the options "zipmap", "output_class_labels" and "nocl" of classifiers. `to_onnx` calls this
    function.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X = np.arange(8, dtype=np.float32).reshape(4, 2)
    >>> network = MLPRegressor(hidden_layer_sizes=3, solver="lbfgs", random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), network).fit(X, X[:, 0])
    >>> register_skl2onnx()  # doctest: +SKIP
    >>> import skl2onnx  # doctest: +SKIP
    >>> proto = skl2onnx.to_onnx(pipeline, X[:1])  # doctest: +SKIP
    """
    skl2onnx = _import_skl2onnx()
    from skl2onnx._supported_operators import sklearn_classifier_list

    if MLPEnsemble not in sklearn_classifier_list:  # it may be a regressor: see `_parse_ensemble`
        sklearn_classifier_list.append(MLPEnsemble)
    options = {
        "zipmap": [True, False, "columns"],
        "output_class_labels": [False, True],
        "nocl": [True, False],
    }
    register = skl2onnx.update_registered_converter
    register(MLPClassifier, "FastmlpMLPClassifier", _set_types, _convert, options=options)
    register(MLPRegressor, "FastmlpMLPRegressor", _set_types, _convert)
    register(
        MLPEnsemble,
        "FastmlpMLPEnsemble",
        _set_types,
        _convert,
        options=options,
        parser=_parse_ensemble,
    )


def converted(model: Any, dtype: str | None, input_dtype: str | None) -> Any:
    """Return the graph of a model that contains ours, by skl2onnx.

    Parameters
    ----------
    model : estimator
    dtype, input_dtype : str or None
        See `fastmlp.export.to_onnx`; skl2onnx computes with the type of the input.

    Returns
    -------
    onnx.ModelProto
    """
    if any(isinstance(part, TTAClassifier) for part in _parts(model)):
        raise TypeError(
            "model must not have a TTAClassifier, whose copies of images are made in Python: "
            "export its estimator_."
        )
    networks = [
        part
        for part in _parts(model)
        if isinstance(part, MLPClassifier | MLPRegressor) and hasattr(part, "coefs_")
    ]
    if not networks:
        raise TypeError(
            "model must be an MLPClassifier, MLPRegressor or MLPEnsemble of fastmlp, or a pipeline "
            f"or meta-estimator that contains one, got {type(model).__name__}."
        )
    for network in networks:
        exportable(network)
    if dtype is not None and input_dtype not in (None, dtype):
        raise ValueError(
            "dtype and input_dtype must be the same for pipelines and meta-estimators of "
            f"scikit-learn, got {dtype!r} and {input_dtype!r}: give one of them."
        )
    chosen = dtype or input_dtype or str(np.result_type(*(n.coefs_[0] for n in networks)))
    skl2onnx = _import_skl2onnx()
    from skl2onnx.common import data_types

    register_skl2onnx()
    types = {
        "uint8": data_types.UInt8TensorType,
        "float32": data_types.FloatTensorType,
        "float64": data_types.DoubleTensorType,
    }
    model = _supported(model)
    names = ["label", "probabilities"] if is_classifier(model) else ["prediction"]
    try:
        return skl2onnx.to_onnx(
            model,
            initial_types=[("X", types[chosen]([None, model.n_features_in_]))],
            options={id(model): {"zipmap": False}} if is_classifier(model) else None,
            target_opset=_OPSETS,
            final_types=[(name, None) for name in names],
        )
    except Exception as error:  # of many kinds
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(f"skl2onnx cannot convert the model: {reason}.") from error


def _import_skl2onnx() -> Any:
    try:
        import skl2onnx
    except ImportError:
        raise ImportError(
            "exporting pipelines and meta-estimators of scikit-learn to ONNX needs skl2onnx, which "
            "is not installed: pip install skl2onnx."
        ) from None
    return skl2onnx


def _parts(value: Any) -> Iterator[Any]:
    """Yield the fitted estimators in an estimator, itself first."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _parts(part)
    elif isinstance(value, BaseEstimator):
        yield value
        if not isinstance(value, MLPClassifier | MLPRegressor):
            yield from _parts([part for name, part in vars(value).items() if name.endswith("_")])
            yield from _parts(getattr(value, "steps", []))
    elif type(value).__module__.startswith("sklearn.") and hasattr(value, "__dict__"):
        yield from _parts(vars(value))  # a part of CalibratedClassifierCV


def _supported(model: Any) -> Any:
    """Return a model without what skl2onnx refuses although the predictions do not depend on it."""
    model = copy.deepcopy(model)
    for part in _parts(model):
        if isinstance(part, CalibratedClassifierCV) and part.method == "isotonic":
            raise ValueError(
                "skl2onnx takes the nearest value where isotonic calibration interpolates, so "
                "probabilities would differ: calibrate with method='sigmoid'."
            )
        if isinstance(part, VotingClassifier):
            part.flatten_transform = False
        if isinstance(part, VotingClassifier | VotingRegressor) and part.weights is not None:
            part.weights = np.asarray(part.weights)
        classes = vars(part).get("classes_")
        if isinstance(classes, np.ndarray) and classes.dtype.kind == "u":
            part.classes_ = classes.astype(np.int64)
    return model


# -------------------------------------------------------------------------- what skl2onnx is given


def _parse_ensemble(scope: Any, model: Any, inputs: list[Any], custom_parsers: Any = None) -> Any:
    """Declare the outputs of an ensemble, which is a classifier or a regressor."""
    from skl2onnx._parse import _parse_sklearn_classifier
    from skl2onnx.common.data_types import guess_tensor_type

    if is_classifier(model):
        return _parse_sklearn_classifier(scope, model, inputs, custom_parsers)
    operator = scope.declare_local_operator("FastmlpMLPEnsemble", model)
    operator.inputs = inputs
    kind = guess_tensor_type(inputs[0].type)
    operator.outputs.append(scope.declare_local_variable("variable", kind))
    return operator.outputs


def _set_types(operator: Any) -> None:
    """Set the types and shapes of the outputs."""
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    plain = _described(operator.scope_inst, operator.raw_operator)
    n_rows = operator.inputs[0].get_first_dimension()
    operator.outputs[-1].set_type(_real(operator)([n_rows, plain.n_outputs]))
    if plain.task == "multilabel":
        operator.outputs[0].set_type(Int64TensorType([n_rows, plain.n_outputs]))
    elif plain.is_classifier:
        is_text = label_classes(plain).dtype == object
        kind = StringTensorType if is_text else Int64TensorType
        operator.outputs[0].set_type(kind([n_rows]))


def _described(scope: Any, model: Any) -> PlainModel:
    """Return a model as plain arrays, its classes as numbers if the option "nocl" is set."""
    plain = exportable(model)
    if plain.classes is not None and scope.get_options(model, {"nocl": False})["nocl"]:
        return replace(plain, classes=np.arange(len(plain.classes)))
    return plain


def _real(operator: Any) -> Any:
    """Return the type that skl2onnx computes with: float64 for such inputs, otherwise float32."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    is_wide = isinstance(operator.inputs[0].type, DoubleTensorType)
    return DoubleTensorType if is_wide else FloatTensorType


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of a network or an ensemble."""
    from skl2onnx.common.data_types import DoubleTensorType

    if container.target_opset_any_domain("") < OPSET:
        raise RuntimeError(
            f"fastmlp's networks need target_opset of at least {OPSET}, got "
            f"{container.target_opset_any_domain('')}."
        )
    plain = _described(scope, operator.raw_operator)
    real = np.dtype(np.float64 if _real(operator) is DoubleTensorType else np.float32)
    graph = _Container(scope, container)
    X = graph.node("Cast", operator.inputs[0].full_name, to=element(real))
    names = [output.full_name for output in operator.outputs]
    probabilities = predictions(graph, X, plain, real, output=names[-1])
    if plain.is_classifier:
        labels(graph, probabilities, plain, real, output=names[0])


class _Container:
    """Adds nodes to a container of skl2onnx; see `fastmlp.export.onnx_graph.Builder`."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container

    def constant(self, values: Any, dtype: Any = None) -> str:
        """Add a constant; return its name."""
        from onnx import numpy_helper

        name = self._scope.get_unique_variable_name("fastmlp")
        array = np.asarray(values, dtype)
        if array.dtype == object:
            words = [word.encode() for word in array.tolist()]
            string = numpy_helper.from_array(array).data_type
            self._container.add_initializer(name, string, array.shape, words)
        else:
            tensor = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape))
            self._container.add_initializer(name, None, array.shape, tensor)
        return name

    def node(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output; return its name."""
        domain = attributes.pop("domain", "")
        name = output or self._scope.get_unique_variable_name("fastmlp")
        self._container.add_node(
            op,
            list(inputs),
            name,
            op_domain=domain,
            name=self._scope.get_unique_operator_name(f"Fastmlp{op}"),
            **attributes,
        )
        return name
