"""Models as ONNX graphs: input scaling, network and target scaling, as the model computes them.

The operators are those of opset 13, which runtimes have had since 2020.
"""

import copy
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import OneToOneFeatureMixin, is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from fastmlp.estimators import MLPClassifier, MLPEnsemble, MLPRegressor
from fastmlp.export.checks import Check, compared
from fastmlp.export.common import FLOATS, exportable, given, predicted, rows_to_check, seconds
from fastmlp.export.onnx_graph import OPSET, Graph, element, label_classes, labels, predictions
from fastmlp.export.onnx_tables import column_input, is_text, table_inputs
from fastmlp.portable import PlainModel, PlainTable, about
from fastmlp.utils.files import AnyPath, atomic_write

if TYPE_CHECKING:
    import onnx

__all__ = ["check_onnx", "to_onnx"]

_OPSET_ML = 2  # has LabelEncoder of text
_IR_VERSION = 7  # of onnx 1.8, which introduced the opset

#: The types of inputs.
_INPUTS = ("uint8", *FLOATS)

#: Bytes of a file: protobuf's limit is 2 GiB.
_LARGEST = 2**31 - 2**20

#: A factor of all features at most this large is one of bytes, such as 1/255 or 1/16.
_FACTOR_OF_BYTES = 1 / 8


# ------------------------------------------------------------------------------------ public names


def to_onnx(
    model: Any,
    path: AnyPath | None = None,
    *,
    dtype: str | None = None,
    input_dtype: str | None = None,
) -> "onnx.ModelProto":
    """Convert a fitted model to ONNX.

    Classifiers have the outputs "label" and "probabilities", regressors "prediction" of shape
    (n_rows, n_outputs). A label is text or an integer: booleans become 0 and 1, and labels such as
    1.0 become 1. The labels of multilabel problems are 0 and 1, of shape (n_rows, n_labels).

    The input is "X", of shape (n_rows, n_features), as `predict` takes it: scalings are inside. For
    pipelines of `fastmlp.tables` each column is an input of shape (n_rows, 1), with the column's
    name (an output whose name is a column's has an underscore at its end):

    - numbers: NaN is missing;
    - booleans: 0, 1 and NaN; if they were text in training, that text;
    - dates: days since 1970 in UTC, with fractions; NaN is missing;
    - categories: text, "" is missing. Numbers that are categories are written as ``"3"``.

    Parameters
    ----------
    model : estimator
        Fitted: MLPClassifier, MLPRegressor or MLPEnsemble; a pipeline of `fastmlp.tables`; a search
        of one. Other pipelines and meta-estimators that contain one of fastmlp's are converted by
        skl2onnx; see `register_skl2onnx`.
    path : path, optional
        Where to write the graph, too. An existing file is replaced.
    dtype : {"float32", "float64"}, optional
        Precision of the arithmetic. By default that of the weights.
    input_dtype : {"uint8", "float32", "float64"}, optional
        Type of the input. By default uint8 for models of images, if they were trained on bytes,
        otherwise `dtype`; for the columns of tables, float64.

    Returns
    -------
    onnx.ModelProto
        With the metadata "task", "classes" (JSON), "estimator", "fastmlp" (the version) and, if
        known, "feature_names" (JSON).

    Raises
    ------
    sklearn.exceptions.NotFittedError
    TypeError
        If the model neither is nor contains one of fastmlp's.
    ValueError
        If the graph cannot be made.
    ImportError
        If onnx is not installed, or skl2onnx where it is needed.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import MLPClassifier
    >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), ["low", "low", "high", "high"]
    >>> model = MLPClassifier((3,), solver="lbfgs", random_state=0).fit(X, y)
    >>> proto = to_onnx(model, input_dtype="float32")
    >>> import onnxruntime  # doctest: +SKIP
    >>> session = onnxruntime.InferenceSession(proto.SerializeToString())  # doctest: +SKIP
    >>> label, probabilities = session.run(None, {"X": X.astype("float32")})  # doctest: +SKIP
    """
    _import_onnx()
    _check_one_of("dtype", dtype, FLOATS)
    _check_one_of("input_dtype", input_dtype, _INPUTS)
    check_is_fitted(model)
    model = _searched(model)
    if _is_own(model):
        proto = _converted(model, dtype, input_dtype)
    else:
        from fastmlp.export import sklearn_onnx

        proto = sklearn_onnx.converted(model, dtype, input_dtype)
    _describe(proto, model)
    if path is not None:
        with atomic_write(path) as file:
            file.write(proto.SerializeToString())
    return proto


def check_onnx(model: Any, graph: "onnx.ModelProto | AnyPath", rows: Any = None) -> Check:
    """Compare the predictions of a graph with those of the model it was made of.

    Parameters
    ----------
    model : estimator
        See `to_onnx`.
    graph : onnx.ModelProto or path
    rows : array of shape (n_rows, n_features), or list of dict, optional
        What to predict; for tables, values by the names of columns. By default 256 rows such as the
        model could get.

    Returns
    -------
    Check
        By onnxruntime on one thread if it is installed, otherwise by onnx's reference evaluator.

    Raises
    ------
    ImportError
        If onnx is not installed.
    ValueError
        If the rows do not fit the type of the graph's input.
    """
    onnx = _import_onnx()
    model = _searched(model)
    proto = graph if isinstance(graph, onnx.ModelProto) else onnx.load(graph)
    wanted: Any
    if _is_own(model):
        plain = exportable(model)
        rows = rows_to_check(model, plain, rows)
        wanted, own = predicted(model, plain, rows), model.predict(given(plain, rows))
    else:
        plain = _described(model)
        rows = _rows_for(model, proto) if rows is None else np.asarray(rows)
        X = given(plain, rows)
        own = model.predict(X)
        wanted = model.predict_proba(X) if hasattr(model, "predict_proba") else None
    feeds = _feeds(proto, plain, rows)
    by, run = _evaluator(proto)
    outputs = run(feeds)
    found = outputs[-1]
    if wanted is None and plain.is_classifier:  # such as a vote, which has labels only
        wanted, found = (part[:, np.newaxis] == plain.classes for part in (own, outputs[0]))
    elif wanted is None:
        wanted = own.reshape(len(rows), -1)
    microseconds = 1e6 * seconds(lambda: run(feeds)) / len(rows)
    check = compared(plain, wanted, found, by, proto.ByteSize(), microseconds)
    if not plain.is_classifier:
        return check
    labels = outputs[0].reshape(own.shape)  # of the graph, which `compared` has not read
    differ = (labels != own).reshape(len(rows), -1).any(axis=1)
    return replace(check, n_labels=int(differ.sum()))


# ------------------------------------------------------------------------------------------ graphs


def _converted(model: Any, dtype: str | None, input_dtype: str | None) -> "onnx.ModelProto":
    """Return one of our models as a graph."""
    from onnx import TensorProto, helper

    plain = exportable(model)
    real = np.dtype(dtype or plain.dtype)
    n_bytes = real.itemsize * sum(part.size for n in plain.networks for part in n.coefs)
    if n_bytes > _LARGEST:
        raise ValueError(
            f"a file of ONNX holds at most 2 GiB, but the weights have {n_bytes / 2**30:.1f}: use "
            "dtype='float32', or export to safetensors."
        )
    inputs = _inputs(model, plain, real, input_dtype)
    last, *_ = names = _output_names(plain, inputs)
    graph = Graph([*inputs, *names])
    X = "X" if plain.table is None else table_inputs(graph, plain.table)
    X = graph.node("Cast", X, to=element(real))
    probabilities = predictions(graph, X, plain, real, output=last)
    outputs = [helper.make_tensor_value_info(last, element(real), ["N", plain.n_outputs])]
    if plain.is_classifier:
        kind: int = TensorProto.INT64
        shape: list[str | int] = ["N"]
        if plain.task == "multilabel":
            shape.append(plain.n_outputs)
        elif label_classes(plain).dtype == object:
            kind = TensorProto.STRING
        label = labels(graph, probabilities, plain, real, output=names[1])
        outputs.insert(0, helper.make_tensor_value_info(label, kind, shape))
    width = plain.n_features if plain.table is None else 1
    opsets = [helper.make_opsetid("", OPSET)]
    if plain.table is not None:
        opsets.append(helper.make_opsetid("ai.onnx.ml", _OPSET_ML))
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            plain.estimator,
            [
                helper.make_tensor_value_info(name, element(dtype), ["N", width])
                for name, dtype in inputs.items()
            ],
            outputs,
            graph.constants,
        ),
        opset_imports=opsets,
        ir_version=_IR_VERSION,
        producer_name="fastmlp",
        producer_version=version("fastmlp"),
    )


def _inputs(
    model: Any, plain: PlainModel, real: np.dtype, input_dtype: str | None
) -> dict[str, np.dtype]:
    """Return the inputs of a graph by name; the dtype of text is object."""
    if plain.table is None:
        chosen = input_dtype or ("uint8" if _reads_bytes(model, plain) else real)
        return {"X": np.dtype(chosen)}
    if input_dtype == "uint8":
        raise ValueError(
            "input_dtype must be 'float32' or 'float64' for the columns of a table, got 'uint8'."
        )
    if any(not column.name for column in plain.table.columns):
        raise ValueError(
            "the columns of the table must have names, because they are inputs of the graph, got "
            "one without: rename it and train again."
        )
    return {
        column.name: np.dtype(object if is_text(column) else input_dtype or "float64")
        for column in plain.table.columns
    }


def _output_names(plain: PlainModel, inputs: Iterable[str]) -> list[str]:
    """Return the names of the outputs, that of the numbers first."""
    names = ["probabilities", "label"] if plain.is_classifier else ["prediction"]
    for place, name in enumerate(names):
        while name in inputs:
            name += "_"
        names[place] = name
    return names


def _reads_bytes(model: Any, plain: PlainModel) -> bool:
    """Return whether a model was trained on the bytes of images, as far as that can be known."""
    if about(model, "")["kind"] != "images":
        return False
    if (getattr(model, "metadata_", None) or {}).get("kind") == "images":
        return True
    scale = plain.networks[0].input_scale
    return scale is not None and 0 < scale[0].min() == scale[0].max() <= _FACTOR_OF_BYTES


# ---------------------------------------------------------------------------------- models, before


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise ImportError(
            "exporting to ONNX needs onnx, which is not installed: pip install 'fastmlp[export]'."
        ) from None
    return onnx


def _check_one_of(name: str, value: str | None, choices: Sequence[str]) -> None:
    if value not in (None, *choices):
        shown = ", ".join(map(repr, choices))
        raise ValueError(f"{name} must be None or one of {shown}, got {value!r}.")


def _searched(model: Any) -> Any:
    """Return the best estimator of a search, or the model itself."""
    if not hasattr(model, "best_estimator_"):
        return model
    best = model.best_estimator_
    if hasattr(model, "metadata_") and not hasattr(best, "metadata_"):
        best = copy.copy(best)
        best.metadata_ = model.metadata_
    return _searched(best)


def _is_own(model: Any) -> bool:
    """Return whether a model is one that skl2onnx is not needed for."""
    if isinstance(model, Pipeline):
        return PlainTable.of(model) is not None
    return isinstance(model, MLPClassifier | MLPRegressor | MLPEnsemble)


def _describe(proto: "onnx.ModelProto", model: Any) -> None:
    """Add metadata."""
    from onnx import helper

    found = about(model, "")
    names = getattr(model, "feature_names_in_", None)
    metadata = {
        "fastmlp": version("fastmlp"),
        "estimator": type(model.steps[-1][1] if isinstance(model, Pipeline) else model).__name__,
        "task": found["task"],
    }
    if found["classes"] is not None:
        metadata["classes"] = json.dumps(found["classes"])
    if names is not None:
        metadata["feature_names"] = json.dumps(list(map(str, names)))
    helper.set_model_props(proto, metadata)


# --------------------------------------------------------------------------------------- execution


def _evaluator(
    proto: "onnx.ModelProto",
) -> tuple[str, Callable[[dict[str, NDArray]], list[NDArray]]]:
    """Return what evaluates a graph, in words, and a function that does."""
    try:
        import onnxruntime
    except ImportError:
        import onnx
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(proto)
        return f"onnx {onnx.__version__}, reference", lambda feeds: evaluator.run(None, feeds)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return f"onnxruntime {onnxruntime.__version__}", lambda feeds: session.run(None, feeds)


def _feeds(proto: "onnx.ModelProto", plain: PlainModel, rows: Any) -> dict[str, NDArray]:
    """Return rows as the inputs of a graph."""
    from onnx import helper

    dtypes = {
        value.name: helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        for value in proto.graph.input
    }
    if plain.table is not None:
        return {
            column.name: column_input(
                column, [row.get(column.name) for row in rows], dtypes[column.name]
            )
            for column in plain.table.columns
        }
    ((name, dtype),) = dtypes.items()
    X = np.asarray(rows)
    converted = X.astype(dtype)
    if dtype == np.uint8 and not np.array_equal(converted, X):
        raise ValueError(
            "the input of this graph is bytes, but the rows have other numbers: pass whole numbers "
            "from 0 to 255, or export with input_dtype='float32'."
        )
    return {name: converted}


# ------------------------------------------------------------------------- models with other steps


def _described(model: Any) -> PlainModel:
    """Return what a comparison needs to know of a model whose networks are inside others."""
    names = getattr(model, "feature_names_in_", None)
    return PlainModel(
        "multiclass" if is_classifier(model) else "regression",
        networks=(),
        classes=getattr(model, "classes_", None),
        estimator=type(model).__name__,
        feature_names=None if names is None else list(map(str, names)),
    )


def _rows_for(model: Any, proto: "onnx.ModelProto", n_rows: int = 256) -> NDArray:
    """Return rows such as a model could get: normally distributed after scaling."""
    from onnx import helper

    rows = np.random.RandomState(0).normal(size=(n_rows, model.n_features_in_))
    first = model[0] if isinstance(model, Pipeline) else None
    if isinstance(first, OneToOneFeatureMixin) and hasattr(first, "inverse_transform"):
        rows = first.inverse_transform(rows)
    kind = proto.graph.input[0].type.tensor_type.elem_type
    return np.asarray(rows).astype(helper.tensor_dtype_to_np_dtype(kind))
