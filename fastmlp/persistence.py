"""Saving a fitted model to one file, and loading it again.

The file is a NumPy .npz archive of plain arrays. There is no pickle in it, so a file from a
stranger can at worst be a wrong model, and ``numpy.load(path, allow_pickle=False)`` reads it:

    model                       uint8; a JSON document in UTF-8: versions, parameters, history
    coef_0, coef_1, ...         (fan_in, fan_out) per layer
    intercept_0, ...            (fan_out,) per layer
    classes                     (n_classes,), of a classifier; str objects as fixed-width text
    input_scale, input_shift    (n_features,), if the model has such a map
    target_scale, target_shift  (n_outputs,), float64, likewise
    feature_names               (n_features,), if the training data had them

The JSON is Python's dialect: infinite and undefined numbers are written Infinity and NaN.
"""

import dataclasses
import json
import math
import os
import zipfile
from collections.abc import Mapping
from typing import IO, Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted

from fastmlp import __version__, constraints
from fastmlp.base import BaseMLP
from fastmlp.estimators import MLPClassifier, MLPRegressor
from fastmlp.files import atomic_write
from fastmlp.inputs import is_map
from fastmlp.network import Parameters
from fastmlp.training import TrainingState

__all__ = ["ModelFileError", "is_model_file", "load", "save"]

PathArgument: TypeAlias = str | os.PathLike[str]

#: Raised when a reader of the old format would misunderstand the new one. A parameter that is
#: new to an estimator needs no new format: old readers refuse it, new ones know its default.
_FORMAT = 1
_ESTIMATORS = {cls.__name__: cls for cls in (MLPClassifier, MLPRegressor)}


class ModelFileError(ValueError):
    """The file is not a model, is damaged, or is of a newer fastmlp."""


def save(model: BaseMLP, path: PathArgument) -> None:
    """Write a fitted model to a file, which appears whole or not at all.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
        Fitted. A `random_state` that is a generator, an `lr_schedule` that is a function, and
        `augment` are saved as None.
    path : path
        Used as it is: no suffix is added. A file that is there is replaced.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model has not been fitted.
    ValueError
        If the class labels are objects other than strings.
    OSError
        If the file cannot be written.

    See Also
    --------
    load : What is restored.
    """
    if type(model) not in _ESTIMATORS.values():
        raise TypeError(f"model must be one of {list(_ESTIMATORS)}, got {type(model).__name__}.")
    check_is_fitted(model)
    state = {field.name: getattr(model._state, field.name) for field in _state_fields()}
    document = {
        "format": _FORMAT,
        "fastmlp": __version__,
        "estimator": type(model).__name__,
        "parameters": {k: _as_plain(v) for k, v in model.get_params(deep=False).items()},
        "n_iter": model.n_iter_,
        "fitted_loss": model._network().loss,
        "out_activation": model.out_activation_,
        "loss": getattr(model, "loss_", None),
        "state": state,
    }
    arrays = {}
    if isinstance(model, MLPClassifier):
        labels = model._label_binarizer
        document["labels"] = {
            "multilabel": labels.y_type_.startswith("multilabel"),
            "sparse": labels.sparse_input_,
            "objects": model.classes_.dtype == object,
        }
        arrays["classes"] = _as_plain_labels(model.classes_)
    text = json.dumps(document, indent=1, default=_to_json)
    arrays["model"] = np.frombuffer(text.encode(), np.uint8)
    for i, (coef, intercept) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        arrays[f"coef_{i}"], arrays[f"intercept_{i}"] = coef, intercept
    if model.input_scale_ is not None:
        arrays["input_scale"], arrays["input_shift"] = model.input_scale_
    if isinstance(model, MLPRegressor) and model.target_scale_ is not None:
        arrays["target_scale"], arrays["target_shift"] = model.target_scale_
    if hasattr(model, "feature_names_in_"):
        arrays["feature_names"] = _as_plain_labels(model.feature_names_in_)
    with atomic_write(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load(path: PathArgument) -> BaseMLP:
    """Read a model that `save` has written.

    The result has the parameters (but for those that `save` leaves out) and fitted attributes of
    the one that was saved, predicts the same bits, and goes on training with ``warm_start``.

    Parameters
    ----------
    path : path

    Returns
    -------
    MLPClassifier or MLPRegressor

    Raises
    ------
    ModelFileError
        If the file is not a model, is damaged, or is of a newer fastmlp.
    OSError
        If the file cannot be read.
    """
    with open(path, "rb") as file:
        try:
            arrays = _read_arrays(file)
            return _rebuild(json.loads(arrays["model"].tobytes()), arrays)
        except KeyError as error:
            reason = f"it lacks {error}"
        # Whatever a damaged file makes of the parsers of zip, NumPy's headers and JSON.
        except Exception as error:
            reason = str(error).rstrip(".") or type(error).__name__
    raise ModelFileError(f"{os.fspath(path)} is not a model that fastmlp can load: {reason}.")


def is_model_file(path: PathArgument) -> bool:
    """Tell whether a file looks like one that `save` has written, sound or not."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"model.npy", "coef_0.npy"} <= set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def _state_fields() -> list[dataclasses.Field]:
    """Return what is saved of a `TrainingState`: all but the best weights, which are in use."""
    return [field for field in dataclasses.fields(TrainingState) if field.name != "best_flat"]


def _as_plain(value: Any) -> Any:
    """Return a parameter without generators, functions and dicts, whose keys JSON would change."""
    if isinstance(value, Mapping):
        return {"items": list(value.items())}
    if isinstance(value, np.random.RandomState) or callable(value):
        return None
    return [_as_plain(item) for item in value] if isinstance(value, list) else value


def _to_json(value: Any) -> Any:
    """Return what stands in JSON for a value that JSON has no type for."""
    return value.tolist() if hasattr(value, "tolist") else list(value)


def _as_plain_labels(labels: NDArray) -> NDArray:
    """Return labels as an array that needs no pickle."""
    if labels.dtype.kind in "biufU":
        return labels
    if all(isinstance(label, str) for label in labels):
        text = labels.astype(np.str_)
        if (text == labels).all():  # fixed-width text has no NUL at its end
            return text
    raise ValueError(
        "class labels must be numbers, booleans or strings to be saved, got "
        f"{labels[:3].tolist()} of {labels.dtype}: encode them, for example with LabelEncoder."
    )


def _read_arrays(file: IO[bytes]) -> dict[str, NDArray]:
    """Return the arrays of an archive; nothing larger than the file is ever allocated."""
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("its arrays are compressed, which fastmlp does not do")
        if sum(member.file_size for member in members) > size:
            raise ValueError("its arrays are larger than the file")
        return {
            member.filename.removesuffix(".npy"): _read_array(archive, member) for member in members
        }


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray:
    """Read one array, once its header is known to agree with its length."""
    with archive.open(member) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f"{member.filename} is not an array of fastmlp's")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        n_bytes = math.prod(shape) * dtype.itemsize
        if dtype.itemsize == 0 or n_bytes != member.file_size - stream.tell():
            raise ValueError(f"{member.filename} has not the length of {dtype} of shape {shape}")
    with archive.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _rebuild(document: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> BaseMLP:
    """Make the estimator of a file's content."""
    writer = f"it was written by fastmlp {document['fastmlp']}, and this is {__version__}: upgrade"
    if document["format"] > _FORMAT or document["estimator"] not in _ESTIMATORS:
        raise ValueError(writer)
    estimator = _ESTIMATORS[document["estimator"]]
    parameters = {name: _as_parameter(value) for name, value in document["parameters"].items()}
    if unknown := sorted(parameters.keys() - estimator().get_params()):
        raise ValueError(f"{estimator.__name__} has no parameters {unknown}; {writer}")
    constraints.validate(parameters, estimator._constraints, estimator.__name__)

    model = estimator(**parameters)
    if isinstance(model, MLPClassifier):
        n_outputs = _restore_labels(model, document["labels"], arrays["classes"])
    else:
        n_outputs = arrays[max(name for name in arrays if name.startswith("intercept_"))].size
    model.n_outputs_ = n_outputs
    # Not what the parameters ask for, which may have been set since.
    model.out_activation_ = document.get("out_activation", model._output_activation())
    model._fitted_loss = document.get("fitted_loss", model.loss)
    _restore_network(model, arrays)
    model.n_iter_ = int(document["n_iter"])
    if document["loss"] is not None:
        model.loss_ = document["loss"]
    model._state = TrainingState(**document["state"])
    model._publish_history()
    return model


def _as_parameter(value: Any) -> Any:
    """Return a parameter with tuples in place of JSON's lists, and dicts for lists of items."""
    if isinstance(value, Mapping):
        return {key: _as_parameter(item) for key, item in value["items"]}
    return tuple(_as_parameter(item) for item in value) if isinstance(value, list) else value


def _restore_labels(model: MLPClassifier, labels: Mapping[str, Any], classes: NDArray) -> int:
    """Set the classes, and return how many outputs stand for them."""
    if labels["objects"]:
        classes = classes.astype(object)
    if labels["multilabel"]:
        y = np.stack([np.ones(len(classes), int), np.zeros(len(classes), int)])
        y = sp.csr_matrix(y) if labels["sparse"] else y
    else:
        y = np.repeat(classes, 2)  # were every sample a class, it would look like a regression
    model._label_binarizer = LabelBinarizer().fit(y)
    model.classes_ = model._label_binarizer.classes_
    if not np.array_equal(model.classes_, classes):
        raise ValueError("its classes are not sorted and unique")
    return 1 if model._label_binarizer.y_type_ == "binary" else len(classes)


def _restore_network(model: BaseMLP, arrays: Mapping[str, NDArray]) -> None:
    """Set the weights and all that has the network's shape, once it fits together."""
    n_layers = sum(name.startswith("coef_") for name in arrays)
    model.coefs_ = [arrays[f"coef_{i}"] for i in range(n_layers)]
    model.intercepts_ = [arrays[f"intercept_{i}"] for i in range(n_layers)]
    dtypes = {layer.dtype.newbyteorder("=") for layer in (*model.coefs_, *model.intercepts_)}
    if dtypes not in ({np.dtype(np.float32)}, {np.dtype(np.float64)}):
        raise ValueError(f"its weights must all be float32 or all float64, got {sorted(dtypes)}")
    network = model._network()
    parameters = Parameters.from_layers(network, model.coefs_, model.intercepts_, dtypes.pop())
    model.coefs_, model.intercepts_ = parameters.coefs, parameters.intercepts
    model.n_layers_ = len(network.layer_units)
    model.n_features_in_ = network.n_features
    if network.n_outputs != model.n_outputs_:
        raise ValueError(f"it has {network.n_outputs} outputs where {model.n_outputs_} are needed")

    per_feature = [
        arrays[name] for name in ("input_scale", "input_shift", "feature_names") if name in arrays
    ]
    if any(array.shape != (network.n_features,) for array in per_feature):
        raise ValueError(f"its input map or feature names do not fit {network.n_features} features")
    model.input_scale_ = None
    if "input_scale" in arrays:
        model.input_scale_ = (arrays["input_scale"], arrays["input_shift"])
    if isinstance(model, MLPRegressor):
        model.target_scale_ = None
        if "target_scale" in arrays:
            scale, shift = arrays["target_scale"], arrays["target_shift"]
            if not is_map((scale, shift), network.n_outputs) or not np.all(scale):
                raise ValueError(f"its target map does not fit {network.n_outputs} outputs")
            model.target_scale_ = (scale, shift)
    if "feature_names" in arrays:
        model.feature_names_in_ = arrays["feature_names"].astype(object)
