"""Save a fitted model to one file, and load it.

The file is a NumPy .npz archive of plain arrays without pickle, so an untrusted file cannot run
code, and ``numpy.load(path, allow_pickle=False)`` reads it:

    model                       uint8; a JSON document in UTF-8: versions, parameters, history
    coef_0, coef_1, ...         (fan_in, fan_out) per layer
    intercept_0, ...            (fan_out,) per layer
    classes                     (n_classes,), of a classifier; str objects as fixed-width text
    input_scale, input_shift    (n_features,), if the model scales its input
    target_scale, target_shift  (n_outputs,), if a regressor scales its targets
    feature_names               (n_features,), if the training data had them
    optimizer_0, optimizer_1    (n_parameters,), on request: the optimiser's state, for the weights
                                layer by layer, then for the intercepts

The JSON is Python's dialect, with Infinity and NaN.

`pipelines` embeds such files for models that are parts of others, such as the last step of a
pipeline. There, models may be unfitted, such as the `estimator` of a search.
"""

import io
import json
import math
import os
import platform
import re
import reprlib
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.metadata import version
from itertools import chain
from numbers import Integral, Real
from typing import IO, Any, BinaryIO, TypeAlias

import numpy as np
import scipy.sparse as sp
import sklearn
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted

from fastmlp import augment, exceptions
from fastmlp.augment import Augmentation, Compose
from fastmlp.core.functions import ACTIVATIONS, LOSSES
from fastmlp.core.inputs import affine_map, target_map
from fastmlp.core.network import Network, Parameters
from fastmlp.core.optimizers import OPTIMIZERS, Optimizer
from fastmlp.estimators import MLPClassifier, MLPRegressor, constraints, prediction
from fastmlp.estimators.base import BaseMLP, _dropout_rates, _hidden_units
from fastmlp.exceptions import ModelFileWarning
from fastmlp.training import TrainingState
from fastmlp.utils.archives import read_npz
from fastmlp.utils.files import atomic_write, write_npz
from fastmlp.utils.generators import as_generator, plain_generator
from fastmlp.utils.interrupts import uninterrupted

__all__ = ["ModelFileError", "is_model_file", "load", "save"]

PathArgument: TypeAlias = str | os.PathLike[str]
FileArgument: TypeAlias = PathArgument | BinaryIO

#: Incremented when readers of the old format would misread the new one. New parameters of an
#: estimator need no new format: old readers refuse them, new ones know their defaults.
_FORMAT = 1
#: The version of fastmlp that writes files.
WRITER = version("fastmlp")
_ESTIMATORS = {cls.__name__: cls for cls in (MLPClassifier, MLPRegressor)}
#: The steps that are saved: all of the package, but none of its users' own.
_AUGMENTATIONS = {
    name: getattr(augment, name)
    for name in augment.__all__
    if name not in ("Augmentation", "Compose")
}

#: Names in the archive of a model; the second is for `pipelines`.
_MEMBERS = {"model.npy", "coef_0.npy"}
HEADER, SCHEMA = "fastmlp.json", "schema.json"


# ------------------------------------------------------------------------------- what a file holds


@dataclass(frozen=True)
class _Field:
    """The valid values of a field of the JSON document."""

    words: str
    accepts: Callable[[Any], bool]
    is_optional: bool = False  # for files written before the field was introduced


_MAX_INTEGER = 2**63 - 1


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_INTEGER


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) <= _MAX_INTEGER)


def _is_numbers(value: Any) -> bool:
    return type(value) is list and all(map(_is_number, value))


def _is_history(value: Any) -> bool:
    return (
        type(value) is dict
        and all(map(_is_numbers, value.values()))
        and len(set(map(len, value.values()))) <= 1
    )


def _one_of(options: Iterable[str], *, is_optional: bool = False) -> _Field:
    names = sorted(set(options))
    words = f"one of {', '.join(map(repr, names))}"
    return _Field(words, lambda value: type(value) is str and value in names, is_optional)


_COUNT = _Field(f"an integer from 0 to {_MAX_INTEGER}", _is_count)
_NUMBER = _Field("a number", _is_number)
_NUMBERS = _Field("a list of numbers", _is_numbers)
_FLAG = _Field("true or false", lambda value: type(value) is bool)
_TEXT = _Field("text in one line", lambda value: type(value) is str and value.isprintable())
_OBJECT = _Field("an object", lambda value: type(value) is dict)
FORMAT = _Field("an integer from 1", lambda value: _is_count(value) and value > 0)
#: The user's metadata.
METADATA = _Field("an object", lambda value: type(value) is dict, is_optional=True)

#: Versions stored in files.
VERSIONS: dict[str, Any] = {"python": _TEXT, "numpy": _TEXT, "scikit-learn": _TEXT}

#: The JSON document. Its parameters are checked by the estimator's constraints and by
#: `_check_parameters`.
_DOCUMENT: dict[str, Any] = {
    "format": FORMAT,
    "fastmlp": _TEXT,
    "versions": _Field(
        f"the text of {', '.join(VERSIONS)}",
        lambda value: (
            type(value) is dict
            and value.keys() == VERSIONS.keys()
            and all(map(_TEXT.accepts, value.values()))
        ),
        is_optional=True,
    ),
    "metadata": METADATA,
    "estimator": _TEXT,
    "parameters": _OBJECT,
    "fitted": _Field("true or false", lambda value: type(value) is bool, is_optional=True),
    "n_iter": _COUNT,
    "loss": _Field("a number or null", lambda value: value is None or _is_number(value)),
    "fitted_loss": _one_of(("", *chain(*LOSSES.values())), is_optional=True),
    "out_activation": _one_of((*LOSSES, *ACTIVATIONS), is_optional=True),
    "state": {
        "n_samples_seen": _COUNT,
        "loss_curve": _NUMBERS,
        "best_loss": _NUMBER,
        "no_improvement_count": _COUNT,
        "validation_scores": _NUMBERS,
        "best_validation_score": _NUMBER,
        "history": _Field("lists of numbers of equal length, by name", _is_history),
    },
}
#: The fields of an unfitted model.
_UNFITTED = ("format", "fastmlp", "versions", "metadata", "estimator", "parameters", "fitted")
#: Only in files that were saved with the optimiser.
_OPTIMIZER = {
    "optimizer": _Field(
        "numbers by name, and the name of an optimiser",
        lambda value: (
            type(value) is dict
            and value.get("name") in OPTIMIZERS
            and all(type(number) in (int, float, bool, str) for number in value.values())
        ),
        is_optional=True,
    )
}
_LABELS = {"multilabel": _FLAG, "sparse": _FLAG, "objects": _FLAG}

#: Fitted attribute, a pair (scale, shift) or None -> the names of its arrays, and the property of
#: the network that is their length.
_INPUT_MAPS = {"input_scale_": ("input_scale", "input_shift", "n_features")}
_MAPS = {
    MLPClassifier: _INPUT_MAPS,
    MLPRegressor: _INPUT_MAPS | {"target_scale_": ("target_scale", "target_shift", "n_outputs")},
}


class ModelFileError(ValueError):
    """The file is not a model, is damaged, or was written by a newer fastmlp."""


# ------------------------------------------------------------------------------------------- saving


def save(
    model: BaseMLP,
    path: PathArgument,
    *,
    metadata: Mapping[str, Any] | None = None,
    optimizer: bool = False,
) -> None:
    """Save a fitted model to a file, atomically.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
        Fitted, converted, or with manually set weights.
    path : path
        No suffix is added. An existing file is replaced.
    metadata : mapping of str to JSON-serializable values, optional
        Stored with the model; the loaded model has it as ``metadata_``. By default the
        ``metadata_`` of `model`, if it has any.
    optimizer : bool, default=False
        Whether to store the optimiser, too, so that ``partial_fit`` of the loaded model continues
        exactly. It is one or two times as large as the weights.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model has not been fitted.
    ValueError
        If class labels are objects other than strings, or if a parameter or attribute is invalid,
        so that `load` would refuse the file.
    TypeError
        If the model has another type, or the metadata are not JSON-serializable.
    OSError
        If the file cannot be written.

    Warns
    -----
    fastmlp.exceptions.ModelFileWarning
        If `lr_schedule` or `augment` is a function, or `random_state` uses another generator than
        NumPy's default: None is stored instead.

    See Also
    --------
    load : Load the file.
    fastmlp.save : Also for pipelines.
    """
    if hasattr(model, "to_local"):  # of fastmlp.dask
        model = model.to_local()
    if not is_ours(model):
        raise TypeError(f"model must be one of {list(_ESTIMATORS)}, got {type(model).__name__}.")
    check_is_fitted(model)
    remembered = metadata_field(model, metadata)
    with saying_why():
        arrays = packed(model, remembered, optimizer)
    with uninterrupted(), atomic_write(path) as file:
        write_npz(file, arrays)


def is_ours(model: Any) -> bool:
    """Return whether an object is an instance of fastmlp's estimators, and not of a subclass."""
    return type(model) in _ESTIMATORS.values()


@contextmanager
def saying_why() -> Iterator[None]:
    """Convert errors while saving a model to one sentence."""
    try:
        yield
    except (MemoryError, ImportError, Warning):
        raise
    except Exception as error:
        raise ValueError(f"the model cannot be saved: {in_words(error)}.") from error


def packed(
    model: BaseMLP, remembered: dict[str, Any], optimizer: bool = False
) -> dict[str, NDArray]:
    """Return the arrays of a model's file; the model may be unfitted."""
    moment = object.__new__(type(model))
    moment.__dict__ = vars(model).copy()  # another thread may be fitting it
    document, arrays = _contents(moment)
    if optimizer and isinstance(vars(moment).get("_optimizer"), Optimizer):
        document["optimizer"], states = _plain_optimizer(moment._optimizer)
        arrays |= states
    text = json.dumps(document | remembered, indent=1, default=to_json)
    arrays["model"] = np.frombuffer(text.encode(), np.uint8)
    _rebuild(json.loads(text), arrays)  # so that every saved model can be loaded
    lost = [
        name
        for name, value in moment.get_params(deep=False).items()
        if value is not None and document["parameters"][name] is None
    ]
    if lost:
        exceptions.warn(
            f"{' and '.join(lost)} cannot be saved, because functions and other random generators "
            "are not supported, and will be None in the loaded model: set it with set_params.",
            ModelFileWarning,
        )
    return arrays


def _contents(model: BaseMLP) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Return the document and the arrays of a model's file."""
    document: dict[str, Any] = {
        "format": _FORMAT,
        "fastmlp": WRITER,
        "versions": versions(),
        "estimator": type(model).__name__,
        "parameters": {k: _as_plain(v) for k, v in model.get_params(deep=False).items()},
    }
    if not hasattr(model, "coefs_"):
        return document | {"fitted": False}, {}
    state = vars(model._state_to_resume()).copy()  # missing for a model made by hand
    state["history"] = _padded(state["history"])
    for name in ("n_samples_seen", "no_improvement_count"):
        if float(state[name]).is_integer():  # by hand, they may be set to 0.0
            state[name] = int(state[name])
    document |= {
        "n_iter": getattr(model, "n_iter_", 0),
        "fitted_loss": model._fitted_loss or LOSSES.get(model.out_activation_, ("",))[0],
        "out_activation": model.out_activation_,
        "loss": getattr(model, "loss_", None),
        "state": state,
    }
    arrays = {}
    if isinstance(model, MLPClassifier):
        labels = getattr(model, "_label_binarizer", None)
        document["labels"] = {
            "multilabel": labels is not None and labels.y_type_.startswith("multilabel"),
            "sparse": labels is not None and labels.sparse_input_,
            "objects": model.classes_.dtype == object,
        }
        arrays["classes"] = _as_plain_labels(model.classes_)
    coefs, intercepts = prediction.layers(model)
    for i, (coef, intercept) in enumerate(zip(coefs, intercepts, strict=True)):
        arrays[f"coef_{i}"], arrays[f"intercept_{i}"] = coef, intercept
    for attribute, (scale, shift, _) in _MAPS[type(model)].items():
        pair = getattr(model, attribute, None)
        if pair is not None:
            arrays[scale], arrays[shift] = map(_as_floats, pair)
    if hasattr(model, "feature_names_in_"):
        arrays["feature_names"] = _as_plain_labels(np.asarray(model.feature_names_in_))
    return document, arrays


def _plain_optimizer(optimizer: Any) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Return the numbers of an optimiser, and its state as arrays by name."""
    numbers = {
        name: value
        for name, value in vars(optimizer).items()
        if name != "max_grad_norm" and _is_setting(value)
    }
    states = {f"optimizer_{i}": state.copy() for i, state in enumerate(optimizer.state)}
    return {"name": optimizer.name, **numbers}, states


def _is_setting(value: Any) -> bool:
    return isinstance(value, Real | str | bool)


def _padded(history: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Return a complete history: an interrupted model may lack its last entries."""
    length = max(map(len, history.values()), default=0)
    return {
        name: [*map(float, entries), *[math.nan] * (length - len(entries))]
        for name, entries in history.items()
    }


def _as_floats(numbers: Any) -> NDArray:
    """Return scale or shift unchanged or, if it was set by hand to other dtypes, in float64."""
    array = np.asarray(numbers)
    is_other = array.dtype.kind in "biu" or array.dtype == np.float16
    return array.astype(np.float64) if is_other else array


def _as_plain(value: Any) -> Any:
    """Convert a parameter for JSON, to None if it is not supported.

    Dicts, whose keys JSON would change, generators and augmentations become objects with one field,
    whose name is the type.
    """
    if isinstance(value, Mapping):
        return {"items": [[key, _as_plain(item)] for key, item in value.items()]}
    if isinstance(value, np.random.RandomState):
        state = plain_generator(value)
        return None if state is None else {"RandomState": state}
    if type(value) is Compose or type(value) in _AUGMENTATIONS.values():
        return {"augmentation": plain_augmentation(value)}
    if callable(value):
        return None
    return [_as_plain(item) for item in value] if isinstance(value, list | tuple) else value


def is_plain_augmentation(step: Any) -> bool:
    """Return whether an augmentation is of this package, and not of a subclass."""
    if type(step) is Compose:
        return all(map(is_plain_augmentation, step.steps))
    return type(step) in _AUGMENTATIONS.values()


def plain_augmentation(step: Any) -> list[Any] | None:
    """Return the name of an augmentation and its parameters or, for a composition, its steps."""
    if isinstance(step, Compose):
        return ["Compose", [plain_augmentation(part) for part in step.steps]]
    if type(step) not in _AUGMENTATIONS.values():
        raise ValueError(f"augment has a step that cannot be saved, {type(step).__name__}")
    return [type(step).__name__, {field.name: getattr(step, field.name) for field in fields(step)}]


def to_json(value: Any) -> Any:
    """Return the JSON object for a value of a type that JSON does not have."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else float(value)
    return list(value)


def _as_plain_labels(labels: NDArray) -> NDArray:
    """Return labels as an array that does not need pickle."""
    if labels.dtype.kind in "biufU":
        return labels
    if all(isinstance(label, str) for label in labels):
        text = labels.astype(np.str_)
        if (text == labels).all():  # fixed-width text cannot end with NUL
            return text
    raise ValueError(
        "class labels must be numbers, booleans or strings to be saved, got "
        f"{labels[:3].tolist()} of {labels.dtype}: encode them, for example with LabelEncoder."
    )


def metadata_field(model: BaseEstimator, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the field of a model's metadata; empty if there are none."""
    if metadata is None:
        metadata = getattr(model, "metadata_", None)
    return {} if metadata is None else {"metadata": as_json(metadata)}


def as_json(value: Any, name: str = "metadata") -> Any:
    """Return metadata as they will be after loading.

    Arrays, NumPy scalars and tuples become lists and Python numbers.

    Raises
    ------
    TypeError
        A value is not JSON-serializable; the message says where.
    """
    if name == "metadata" and not isinstance(value, Mapping):
        raise TypeError(f"metadata must be a dict, got {type(value).__name__}.")
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{name} must have text for keys, got {reprlib.repr(key)}.")
        return {str(key): as_json(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item, f"{name}[{i}]") for i, item in enumerate(value)]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(
        f"{name} must be JSON-serializable (text, numbers, booleans, None, and lists and dicts of "
        f"them), got {type(value).__name__}: convert it to text."
    )


# ------------------------------------------------------------------------------------------ loading


def load(file: FileArgument) -> BaseMLP:
    """Load a model written by `save`.

    The result has the parameters and fitted attributes of the saved model, makes bit-identical
    predictions, and can be trained further with ``warm_start``.

    Parameters
    ----------
    file : path or binary file object

    Returns
    -------
    MLPClassifier or MLPRegressor
        With ``metadata_``, if the file has metadata.

    Raises
    ------
    ModelFileError
        If the file is not a model, is damaged, or was written by a newer fastmlp; the message names
        the invalid field or array.
    OSError
        If the file cannot be read.

    Warns
    -----
    fastmlp.exceptions.ModelFileWarning
        If the file was written by a newer fastmlp.
    """
    with opened(file) as (stream, name), refusing(name):
        model, writer = _unpacked(stream)
    if release(writer) > release(WRITER):
        exceptions.warn(
            f"{name} was written by fastmlp {writer}, but this is {WRITER}: newer features may be "
            "missing; upgrade fastmlp.",
            ModelFileWarning,
        )
    return model


@contextmanager
def opened(file: FileArgument) -> Iterator[tuple[BinaryIO, str]]:
    """Open a path, or use an open file; yield it with its name for messages."""
    if isinstance(file, str | os.PathLike):
        with open(file, "rb") as stream:
            yield stream, os.fspath(file)
        return
    if not hasattr(file, "read") or not isinstance(file.read(0), bytes):
        raise TypeError(f"file must be a path or an open binary file, got {type(file).__name__}.")
    name = getattr(file, "name", None)
    # Pipes are read completely: archives have their directory at the end.
    yield file if file.seekable() else io.BytesIO(file.read()), str(name or "the file")


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Convert all parser errors of a damaged file to one sentence."""
    try:
        yield
    except (MemoryError, ModelFileError):
        raise
    # From zip, NumPy's headers and JSON.
    except Exception as error:
        reason = in_words(error)
        if isinstance(error, zipfile.BadZipFile):
            reason += "; name one that fastmlp.save or 'fastmlp train' has written"
    else:
        return
    raise ModelFileError(f"{name} is not a model that fastmlp can load: {reason}.")


def unpacked(file: IO[bytes]) -> BaseMLP:
    """Return the model of a file, which may be unfitted."""
    return _unpacked(file)[0]


def _unpacked(file: IO[bytes]) -> tuple[BaseMLP, str]:
    """Return the model of a file, and the version of fastmlp that wrote it."""
    arrays = _read_arrays(file)
    document = json.loads(_get(arrays, "model").tobytes())
    model = _rebuild(document, arrays)
    if hasattr(model, "coefs_"):
        dtype = model.coefs_[0].dtype.newbyteorder("=")
        parameters = Parameters.from_layers(_network(model), model.coefs_, model.intercepts_, dtype)
        model.coefs_, model.intercepts_ = parameters.coefs, parameters.intercepts
    return model, document["fastmlp"]


def is_model_file(path: PathArgument) -> bool:
    """Return whether a file seems to be written by `save` or `fastmlp.save`, even if damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return names >= _MEMBERS or names >= {HEADER, SCHEMA}


def versions() -> dict[str, str]:
    """Return the versions of this process."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }


def release(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version."""
    found = re.match(r"\d{1,9}(?:\.\d{1,9})*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def in_words(error: Exception) -> str:
    """Return the message of an error, in one line without a full stop."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= 500 else f"{text[:500]} ..."


def _read_arrays(file: IO[bytes]) -> dict[str, NDArray]:
    """Return the arrays of an archive, without allocating more than the size of the file."""
    with zipfile.ZipFile(file) as archive:
        if HEADER in archive.namelist():
            raise ValueError("it holds more than one of fastmlp's estimators; use fastmlp.load")
    return read_npz(file)


def _rebuild(document: Any, arrays: Mapping[str, NDArray]) -> BaseMLP:
    """Create the estimator from the content of a file; its weights are the arrays themselves.

    Raises
    ------
    ValueError
        Something is missing or invalid; the message names it.
    """
    check_is_object(document)
    for name in ("format", "fastmlp", "estimator"):
        check_field(document, name, _DOCUMENT[name])
    writer = f"it was written by fastmlp {document['fastmlp']}, but this is {WRITER}: upgrade"
    if document["format"] > _FORMAT or document["estimator"] not in _ESTIMATORS:
        kind = f"its estimator is {document['estimator']!r} in format {document['format']}"
        raise ValueError(f"{kind}; {writer}")
    estimator = _ESTIMATORS[document["estimator"]]
    is_classifier = estimator is MLPClassifier
    check_field(document, "fitted", _DOCUMENT["fitted"])
    is_fitted = document.get("fitted", True)
    if is_fitted:
        table = _DOCUMENT | _OPTIMIZER | ({"labels": _LABELS} if is_classifier else {})
    else:
        table = {name: _DOCUMENT[name] for name in _UNFITTED}
    check_fields(document, table, writer)

    parameters = {
        name: _as_parameter(value, name) for name, value in document["parameters"].items()
    }
    if unknown := sorted(parameters.keys() - estimator().get_params()):
        raise ValueError(f"{estimator.__name__} has no parameters {unknown}; {writer}")
    for name, value in parameters.items():
        with _naming(f"its parameter {name}"):
            constraints.validate({name: value}, estimator._constraints, estimator.__name__)
        alternatives = estimator._constraints.get(name, ())
        if type(value) is bool and constraints.BOOLEAN[0] not in alternatives:
            parameters[name] = int(value)  # True == 1 in Python

    model = estimator(**parameters)
    if "metadata" in document:
        model.metadata_ = document["metadata"]
    known = _restore_weights(model, arrays) if is_fitted else []
    if not is_fitted:
        _check_no_others(arrays, known, writer)
        return model
    if isinstance(model, MLPClassifier):
        known.append("classes")
        model.n_outputs_ = _restore_labels(model, document["labels"], _get(arrays, "classes"))
    else:
        model.n_outputs_ = len(model.intercepts_[-1])
    # Not the parameters, which may have been changed since the fit.
    model.out_activation_ = document.get("out_activation", model._output_activation())
    model._fitted_loss = document.get("fitted_loss", model.loss)
    with _naming("its fields out_activation and fitted_loss"):
        network = _network(model)
    if network.n_outputs != model.n_outputs_:
        raise ValueError(f"it has {network.n_outputs} outputs, but {model.n_outputs_} are needed")
    known += _restore_maps(model, arrays, network)
    if "optimizer" in document:
        known += _restore_optimizer(model, document["optimizer"], arrays, network)
    _check_no_others(arrays, known, writer)
    _check_parameters(model, network)

    model.n_iter_ = document["n_iter"]
    if document["loss"] is not None:
        model.loss_ = float(document["loss"])
    model._state = TrainingState(**_with_floats(document["state"]))
    model._publish_history()
    return model


def _check_no_others(arrays: Mapping[str, NDArray], known: list[str], writer: str) -> None:
    if unknown := sorted(arrays.keys() - {"model", *known}):
        raise ValueError(f"it has arrays {unknown} that are unknown; {writer}")


def _network(model: BaseMLP) -> Network:
    """Return the network, with the output activation used in training."""
    units = (len(model.coefs_[0]), *map(len, model.intercepts_))
    output, loss = model.out_activation_, model._fitted_loss
    if output not in LOSSES:  # set by hand, for example to clip outputs at 0
        output, loss = model._output_activation(), ""
    return Network(units, model.activation, output, float(model.alpha), loss)


def check_is_object(document: Any) -> None:
    """Refuse a JSON document that is not an object."""
    if type(document) is not dict:
        raise ValueError(f"its document must be an object, got {reprlib.repr(document)}")


def check_fields(fields: Any, table: Mapping[str, Any], writer: str, where: str = "") -> None:
    """Refuse missing, invalid or unknown fields."""
    for name, field in table.items():
        if isinstance(field, _Field):
            check_field(fields, name, field, where)
        else:
            check_field(fields, name, _OBJECT, where)
            check_fields(fields[name], field, writer, f"{where}{name}.")
    if unknown := sorted(fields.keys() - table.keys()):
        names = [where + name for name in unknown]
        raise ValueError(f"it has fields {names} that are unknown; {writer}")


def check_field(fields: Mapping[str, Any], name: str, field: _Field, where: str = "") -> None:
    """Refuse a field that is missing, unless it is optional, or invalid."""
    if name in fields:
        if not field.accepts(fields[name]):
            got = reprlib.repr(fields[name])
            raise ValueError(f"its field {where}{name} must be {field.words}, got {got}")
    elif not field.is_optional:
        raise ValueError(f"it lacks {where + name!r}")


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Add the context to an error."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what} cannot be used: {in_words(error)}") from error


def _with_floats(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state whose numbers, and lists of numbers, are float."""
    converted = dict(state)
    for name, field in _DOCUMENT["state"].items():
        if field is _NUMBER:
            converted[name] = float(state[name])
        elif field is _NUMBERS:
            converted[name] = list(map(float, state[name]))
    history = {name: list(map(float, entries)) for name, entries in state["history"].items()}
    return converted | {"history": history}


def _get(arrays: Mapping[str, NDArray], name: str) -> NDArray:
    if name not in arrays:
        raise ValueError(f"it lacks {name!r}")
    return arrays[name]


# -------------------------------------------------------------------------------------- parameters


def _as_parameter(value: Any, name: str) -> Any:
    """Return a parameter with tuples instead of JSON lists, and dicts for lists of items."""
    if isinstance(value, list):
        sequence = list if name == "class_weight" else tuple
        return sequence(_as_element(item, name) for item in value)
    if isinstance(value, dict):
        if value.keys() == {"RandomState"}:
            with _naming(f"its parameter {name}"):
                return as_generator(value["RandomState"])
        if value.keys() == {"augmentation"}:
            with _naming(f"its parameter {name}"):
                return as_augmentation(value["augmentation"])
        items: Any = value.get("items")
        are_pairs = type(items) is list and all(
            type(item) is list and len(item) == 2 and not isinstance(item[0], list | dict)
            for item in items
        )
        if value.keys() != {"items"} or not are_pairs:
            raise ValueError(f"its parameter {name} must hold pairs, got {reprlib.repr(value)}")
        return {_as_element(key, name): _as_element(item, name) for key, item in items}
    if type(value) is int and abs(value) > _MAX_INTEGER:
        raise ValueError(f"its parameter {name} must be below 2**63, got {reprlib.repr(value)}")
    return value


def _as_element(value: Any, name: str) -> Any:
    """Return an element of a parameter, which must be finite."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"its parameter {name} must hold finite numbers, got {value}")
    return _as_parameter(value, name)


def as_augmentation(content: Any) -> Augmentation:
    """Return an augmentation, whose class checks its parameters."""
    name, parameters = content
    if name == "Compose":
        return Compose(*map(as_augmentation, parameters))
    if name not in _AUGMENTATIONS:
        raise ValueError(f"{name!r} is not one of {['Compose', *_AUGMENTATIONS]}")
    return _AUGMENTATIONS[name](**parameters)


def _check_parameters(model: BaseMLP, network: Network) -> None:
    """Refuse parameters that the next fit would refuse, beyond the constraints."""
    dtype = model.coefs_[0].dtype.newbyteorder("=")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reported by fit
        with _naming("its parameter hidden_layer_sizes"):
            _hidden_units(model.hidden_layer_sizes)
        with _naming("its parameter dropout"):
            _dropout_rates(model.dropout, len(network.layer_units) - 2)
        with _naming("its parameter input_scale"):
            samples = np.zeros((2, network.n_features), np.uint8)
            _check_finite(affine_map(model.input_scale, samples, dtype))
        if isinstance(model, MLPRegressor):
            with _naming("its parameter target_scale"):
                keeps_sign = model.out_activation_ == "exp"
                target_map(
                    model.target_scale, np.zeros((2, network.n_outputs)), keeps_sign=keeps_sign
                )
        with _naming("its parameter lr_schedule"):
            model._schedule()
        if isinstance(model.augment, Augmentation):
            with _naming("its parameter augment"):
                model.augment._shape_of(samples)
        if isinstance(model, MLPClassifier):
            with _naming("its parameter label_smoothing"):
                model._targets(np.zeros((1, network.n_outputs), bool), dtype)
            y = model.classes_
            if model._label_binarizer.y_type_.startswith("multilabel"):
                y = np.stack([np.ones(len(y), int), np.zeros(len(y), int)])
            with _naming("its parameter class_weight"):
                _check_finite([model._weights(y, None, np.zeros((len(y), 1)), incremental=False)])


def _check_finite(arrays: Iterable[NDArray | None]) -> None:
    if not all(array is None or np.isfinite(array).all() for array in arrays):
        raise ValueError("not all of its numbers are finite")


# ------------------------------------------------------------------------------------------- arrays


def _restore_weights(model: BaseMLP, arrays: Mapping[str, NDArray]) -> list[str]:
    """Set the weights, after checking their shapes; return the names of their arrays."""
    n_layers = max(
        sum(name.startswith(prefix) for name in arrays) for prefix in ("coef_", "intercept_")
    )
    # By number, not by name: 10 comes after 9.
    layers = range(max(n_layers, 1))
    coefs = {f"coef_{i}": _get(arrays, f"coef_{i}") for i in layers}
    intercepts = {f"intercept_{i}": _get(arrays, f"intercept_{i}") for i in layers}
    weights = coefs | intercepts
    dtypes = {array.dtype.newbyteorder("=") for array in weights.values()}
    if dtypes not in ({np.dtype(np.float32)}, {np.dtype(np.float64)}):
        got = sorted(map(str, dtypes))
        raise ValueError(f"its weights must all be float32 or all float64, got {got}")
    n_in: int | None = None
    for (name, coef), intercept in zip(coefs.items(), intercepts.values(), strict=True):
        if coef.ndim != 2 or not coef.size or coef.shape != (n_in or len(coef), *intercept.shape):
            raise ValueError(
                f"its {name} and intercept must have the shapes ({n_in or 'n_features'}, n) and "
                f"(n,), n at least 1, got {coef.shape} and {intercept.shape}"
            )
        n_in = len(intercept)
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise ValueError(f"its {name} must be finite")
    model.coefs_, model.intercepts_ = list(coefs.values()), list(intercepts.values())
    model.n_layers_ = n_layers + 1
    model.n_features_in_ = len(model.coefs_[0])
    return list(weights)


def _restore_optimizer(
    model: BaseMLP, numbers: Mapping[str, Any], arrays: Mapping[str, NDArray], network: Network
) -> list[str]:
    """Set the optimiser, and return the names of its arrays."""
    dtype = model.coefs_[0].dtype.newbyteorder("=")
    with _naming("its optimizer"):
        flat = np.empty(network.n_parameters, dtype)
        optimizer = OPTIMIZERS[numbers["name"]].of(model.get_params(deep=False), flat)
        settings = {name: value for name, value in numbers.items() if name != "name"}
        for name, value in settings.items():
            if name not in vars(optimizer) or name in optimizer.state_names:
                raise ValueError(f"it has no {name!r}")
            kinds = {bool: (bool,), str: (str,)}.get(type(getattr(optimizer, name)), (int, float))
            is_valid = _is_count(value) if name == "t" else type(value) in kinds
            if not is_valid or (type(value) is float and not math.isfinite(value)):
                raise ValueError(f"{name} is {reprlib.repr(value)}")
            setattr(optimizer, name, value)
        names = [f"optimizer_{i}" for i in range(len(optimizer.state))]
        for name, attribute in zip(names, optimizer.state_names, strict=True):
            state = _numbers(arrays, name, network.n_parameters)
            setattr(optimizer, attribute, state.astype(dtype, copy=False))
    model._optimizer = optimizer
    return names


def _restore_labels(model: MLPClassifier, labels: Mapping[str, bool], classes: NDArray) -> int:
    """Set the classes, and return their number of outputs."""
    kinds = "U" if labels["objects"] else "biufU"
    if classes.ndim != 1 or not classes.size or classes.dtype.kind not in kinds:
        raise ValueError(
            "its classes must be a 1d array of numbers, booleans or text (text only, if they were "
            f"objects), got {classes.dtype} of shape {classes.shape}"
        )
    if labels["objects"]:
        classes = classes.astype(object)
    if labels["multilabel"]:
        y = np.stack([np.ones(len(classes), int), np.zeros(len(classes), int)])
        y = sp.csr_matrix(y) if labels["sparse"] else y
    else:
        y = np.repeat(
            classes, 2
        )  # with one class per sample, they would look like regression targets
    with _naming("its classes"), np.errstate(invalid="ignore"):
        binarizer = LabelBinarizer().fit(y)
    if binarizer.y_type_ not in ("binary", "multiclass", "multilabel-indicator"):
        raise ValueError(f"its classes must be labels, got {binarizer.y_type_} numbers")
    if not np.array_equal(binarizer.classes_, classes):
        raise ValueError(
            "its classes are not sorted and unique, or not the indices of multilabel targets"
        )
    model._label_binarizer, model.classes_ = binarizer, binarizer.classes_
    return 1 if binarizer.y_type_ == "binary" else len(classes)


def _restore_maps(model: BaseMLP, arrays: Mapping[str, NDArray], network: Network) -> list[str]:
    """Set attributes with an entry per feature or output; return the names of these arrays."""
    known = []
    for attribute, (scale, shift, unit) in _MAPS[type(model)].items():
        pair = None
        if scale in arrays or shift in arrays:
            n_units = getattr(network, unit)
            pair = tuple(_numbers(arrays, name, n_units) for name in (scale, shift))
            known += [scale, shift]
        setattr(model, attribute, pair)
    if "target_scale" in known and not np.all(arrays["target_scale"]):
        raise ValueError("its target_scale must not be 0")
    if "feature_names" in arrays:
        names = arrays["feature_names"]
        if names.dtype.kind != "U" or names.shape != (network.n_features,):
            raise ValueError(
                f"its feature_names must be a text for each of {network.n_features} features, got "
                f"{names.dtype} of shape {names.shape}"
            )
        model.feature_names_in_ = names.astype(object)
        known.append("feature_names")
    return known


def _numbers(arrays: Mapping[str, NDArray], name: str, n_units: int) -> NDArray:
    """Return an array with a finite number per unit."""
    array = _get(arrays, name)
    dtype = array.dtype.newbyteorder("=")
    if dtype not in (np.float32, np.float64) or array.shape != (n_units,):
        raise ValueError(
            f"its {name} must be {n_units} numbers of float32 or float64, got {array.dtype} of "
            f"shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"its {name} must be finite")
    return array.astype(dtype, copy=False)
