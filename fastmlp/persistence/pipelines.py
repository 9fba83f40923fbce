"""Save and load whole pipelines in one file, without pickle.

fastmlp's estimators are written by `models`: arrays and JSON. Objects that contain such estimators,
such as scikit-learn's pipelines, searches and ensembles, are written by skops, which stores the
type and attributes of every part. The file is a ZIP archive:

    fastmlp.json     JSON; versions and metadata
    schema.json      skops' description of the parts
    *.npy, *.npz     arrays; each of fastmlp's estimators is one, the bytes of its own file

So fastmlp's estimators are checked by `models`. The types of the other parts are checked before any
of them is created: only those of `trusted_types`, those that skops trusts, and those named by the
caller of `load` are accepted.
"""

import io
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import check_is_fitted

from fastmlp import exceptions
from fastmlp.augment import Augmentation
from fastmlp.estimators.base import BaseMLP
from fastmlp.exceptions import ModelFileWarning
from fastmlp.persistence import models
from fastmlp.persistence.models import (
    HEADER,
    METADATA,
    SCHEMA,
    VERSIONS,
    WRITER,
    FileArgument,
    ModelFileError,
    PathArgument,
    in_words,
)
from fastmlp.utils.archives import check_array_header, check_sizes
from fastmlp.utils.files import atomic_write
from fastmlp.utils.generators import as_generator, plain_generator
from fastmlp.utils.interrupts import uninterrupted

__all__ = ["load", "save"]

_FORMAT = 1
_VERSIONS = {"fastmlp": VERSIONS["python"], **VERSIONS, "skops": VERSIONS["python"]}
_HEADER_FIELDS: dict[str, Any] = {
    "format": models.FORMAT,
    "versions": _VERSIONS,
    "metadata": METADATA,
}


# ------------------------------------------------------------------------------------------ trusted


class StoredModel:
    """Placeholder of a fastmlp estimator in a skops file.

    skops stores it as a call of its class with the bytes of the estimator's file. The call returns
    the estimator itself, after `fastmlp.persistence.models` has checked it.
    """

    content: np.ndarray

    def __new__(cls, content: Any) -> Any:
        """Return the estimator of a file's bytes."""
        if not isinstance(content, np.ndarray) or content.dtype != np.uint8:
            raise ValueError("it has an estimator that is not the bytes of a file")
        return models.unpacked(io.BytesIO(content.tobytes()))

    @classmethod
    def of(cls, model: BaseMLP, optimizer: bool = False) -> "StoredModel":
        """Return the placeholder of an estimator, fitted or not."""
        file = io.BytesIO()
        remembered = models.metadata_field(model, None)
        arrays = models.packed(model, remembered, optimizer)
        np.savez(file, **arrays)  # type: ignore[arg-type]
        stored: StoredModel = object.__new__(cls)
        stored.content = np.frombuffer(file.getbuffer(), np.uint8)
        return stored

    def __reduce__(self) -> tuple[type, tuple[Any]]:
        """Return the call that skops stores."""
        return type(self), (self.content,)


class StoredGenerator:
    """Placeholder of a `RandomState`: NumPy reads out of bounds if its position is invalid."""

    state: str

    def __new__(cls, state: Any) -> Any:
        """Return the generator of a state, after checking it."""
        return as_generator(json.loads(state))

    @classmethod
    def of(cls, generator: np.random.RandomState) -> "StoredGenerator":
        """Return the placeholder of a generator."""
        state = plain_generator(generator)
        if state is None:
            raise ValueError(
                "one of its RandomStates uses another generator than a Mersenne Twister"
            )
        stored: StoredGenerator = object.__new__(cls)
        stored.state = json.dumps(state)
        return stored

    def __reduce__(self) -> tuple[type, tuple[str]]:
        """Return the call that skops stores."""
        return type(self), (self.state,)


class StoredAugmentation:
    """Placeholder of an augmentation, whose parameters are checked when it is read."""

    content: str

    def __new__(cls, content: Any) -> Any:
        """Return the augmentation of a description."""
        return models.as_augmentation(json.loads(content))

    @classmethod
    def of(cls, augmentation: Augmentation) -> "StoredAugmentation":
        """Return the placeholder of an augmentation."""
        stored: StoredAugmentation = object.__new__(cls)
        stored.content = json.dumps(models.plain_augmentation(augmentation), default=models.to_json)
        return stored

    def __reduce__(self) -> tuple[type, tuple[str]]:
        """Return the call that skops stores."""
        return type(self), (self.content,)


_Placeholder: TypeAlias = StoredModel | StoredGenerator | StoredAugmentation

#: Nodes that skops reads without checks, and that fastmlp's files do not need.
_REFUSED_NODES = {"RandomStateNode", "RandomGeneratorNode"}

#: In addition to those trusted by skops: parts of scikit-learn's fitted estimators whose content is
#: not run, and not read by compiled code without checks, as the nodes of trees are. A file may call
#: each of them with any arguments, so none may be a function that reads, writes or runs something.
_TRUSTED = (
    "fastmlp.persistence.StoredGenerator",
    "fastmlp.persistence.StoredAugmentation",
    "fastmlp.persistence.StoredModel",
    "builtins.object",
    "fastmlp.estimators.MLPEnsemble",
    "fastmlp.estimators.TTAClassifier",
    "fastmlp.tables.pipeline.ColumnsOfDtype",
    "fastmlp.tables.pipeline.RobustSmoothScaler",
    "fastmlp.tables.pipeline.TableColumns",
    "fastmlp.tables.pipeline.TableOneHotEncoder",
    "numpy.dtype",
    "numpy.number",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.feature_selection._mutual_info.mutual_info_classif",
    "sklearn.feature_selection._mutual_info.mutual_info_regression",
    "sklearn.feature_selection._univariate_selection.chi2",
    "sklearn.feature_selection._univariate_selection.f_classif",
    "sklearn.feature_selection._univariate_selection.f_regression",
    "sklearn.feature_selection._univariate_selection.r_regression",
    "sklearn.impute._iterative.IterativeImputer",
    "sklearn.impute._iterative._ImputerTriplet",
    "sklearn.metrics._scorer._CurveScorer",
    "sklearn.metrics._scorer._MultimetricScorer",
    "sklearn.metrics._scorer._PassthroughScorer",
    "sklearn.metrics._scorer._Scorer",
    "sklearn.model_selection._search_successive_halving.HalvingGridSearchCV",
    "sklearn.model_selection._search_successive_halving.HalvingRandomSearchCV",
    "sklearn.model_selection._search_successive_halving._SubsampleMetaSplitter",
    "sklearn.model_selection._split.GroupKFold",
    "sklearn.model_selection._split.GroupShuffleSplit",
    "sklearn.model_selection._split.KFold",
    "sklearn.model_selection._split.LeaveOneGroupOut",
    "sklearn.model_selection._split.LeaveOneOut",
    "sklearn.model_selection._split.LeavePGroupsOut",
    "sklearn.model_selection._split.LeavePOut",
    "sklearn.model_selection._split.PredefinedSplit",
    "sklearn.model_selection._split.RepeatedKFold",
    "sklearn.model_selection._split.RepeatedStratifiedKFold",
    "sklearn.model_selection._split.ShuffleSplit",
    "sklearn.model_selection._split.StratifiedGroupKFold",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.model_selection._split.StratifiedShuffleSplit",
    "sklearn.model_selection._split.TimeSeriesSplit",
    "sklearn.model_selection._split._CVIterableWrapper",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils._metadata_requests.MetadataRequest",
    "sklearn.utils._metadata_requests.MethodMetadataRequest",
)


def trusted_types() -> list[str]:
    """Return the full names of the types and functions that files may contain."""
    from sklearn.metrics import get_scorer, get_scorer_names

    metrics = {get_scorer(name)._score_func for name in get_scorer_names()}
    return [*_TRUSTED, *(f"{metric.__module__}.{metric.__name__}" for metric in metrics)]


def _skops() -> Any:
    """Return the module skops, or raise an error that it is needed."""
    try:
        import skops.io
    except ImportError:
        raise ImportError(
            "models of several parts, such as pipelines, need skops, which is not installed: "
            "pip install 'fastmlp[tables]'"
        ) from None
    return skops


# ------------------------------------------------------------------------------------------- saving


def save(
    model: BaseEstimator,
    path: PathArgument,
    *,
    metadata: Mapping[str, Any] | None = None,
    optimizer: bool = False,
) -> None:
    """Save a fitted model to a file, atomically and without pickle.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor, or an estimator of scikit-learn that contains one
        A `Pipeline`, `ColumnTransformer`, `TransformedTargetRegressor`, a search or its
        ``best_estimator_``, an ensemble, and so on.
    path : path
        No suffix is added. An existing file is replaced. ``.npz`` is usual for fastmlp's
        estimators, which `numpy.load` reads, and ``.skops`` for others.
    metadata : mapping of str to JSON-serializable values, optional
        Stored with the model, such as the columns of its training data. The loaded model has it as
        ``metadata_``, with lists instead of arrays and tuples. By default the ``metadata_`` of
        `model`, if it has any; ``{}`` stores nothing.
    optimizer : bool, default=False
        Whether to store the optimisers, too, so that ``partial_fit`` of the loaded model continues
        exactly. They are one or two times as large as the weights.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model has not been fitted.
    ValueError
        If a part cannot be saved or loaded, such as a lambda.
    TypeError
        If the model is not an estimator, or contains a subclass of fastmlp's estimators, or the
        metadata are not JSON-serializable.
    ImportError
        If the model has several parts and skops is not installed.
    OSError
        If the file cannot be written.

    Warns
    -----
    fastmlp.exceptions.ModelFileWarning
        If parameters are omitted (see `fastmlp.persistence.save`), or if the model has parts that
        must be passed as `trusted` to `load`, such as your own functions.

    Examples
    --------
    >>> import fastmlp, numpy as np, tempfile
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X = np.random.RandomState(0).normal(size=(100, 2))
    >>> model = make_pipeline(StandardScaler(), fastmlp.MLPClassifier(solver="lbfgs", alpha=1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/model.skops"
    ...     fastmlp.save(model.fit(X, X[:, 0] > 0), path, metadata={"columns": ["width", "height"]})
    ...     fastmlp.load(path).metadata_
    {'columns': ['width', 'height']}
    """
    if isinstance(model, BaseMLP):
        models.save(model, path, metadata=metadata, optimizer=optimizer)
        return
    if not isinstance(model, BaseEstimator) or isinstance(model, type):
        raise TypeError(
            "model must be an estimator of fastmlp, or of scikit-learn with those of fastmlp in "
            f"it, got {type(model).__name__}."
        )
    check_is_fitted(model)
    header = {"format": _FORMAT, "versions": _versions()}
    header |= models.metadata_field(model, metadata)
    file = io.BytesIO()
    with models.saying_why():
        copy = _with_stored_models(model, optimizer)
        vars(copy).pop("metadata_", None)
        _skops().io.dump(copy, file)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(HEADER, json.dumps(header, indent=1))
        needed = _untrusted(file, ())
        _read(file, needed)  # so that every saved model can be loaded
    if needed:
        exceptions.warn(
            f"the model has parts that fastmlp does not know; load it with "
            f"fastmlp.load({os.fspath(path)!r}, trusted={needed}).",
            ModelFileWarning,
        )
    with uninterrupted(), atomic_write(path) as target:
        target.write(file.getbuffer())


def _versions() -> dict[str, str]:
    return {
        "fastmlp": WRITER,
        **models.versions(),
        "skops": _skops().__version__,
    }


def _with_stored_models(model: BaseEstimator, optimizer: bool) -> BaseEstimator:
    """Return a copy of a model with placeholders for what fastmlp checks by itself.

    pickle is used to find and replace them, within this function only. Arrays are not copied.
    """
    stored: list[_Placeholder] = []
    places: dict[int, int] = {}  # repeated ones are stored once
    buffers: list[pickle.PickleBuffer] = []

    class Replacing(pickle.Pickler):
        def persistent_id(self, value: Any) -> int | None:
            if not isinstance(value, BaseMLP | np.random.RandomState | Augmentation):
                return None
            if isinstance(value, Augmentation) and not models.is_plain_augmentation(value):
                return None  # a class of the user's own is written as others are
            if isinstance(value, BaseMLP) and not models.is_ours(value):
                raise ValueError(
                    f"it has a {type(value).__name__} in it, a subclass that its file could not "
                    "describe; use the class itself"
                )
            if id(value) not in places:
                places[id(value)] = len(stored)
                if isinstance(value, BaseMLP):
                    stored.append(StoredModel.of(value, optimizer))
                elif isinstance(value, Augmentation):
                    stored.append(StoredAugmentation.of(value))
                else:
                    stored.append(StoredGenerator.of(value))
            return places[id(value)]

    class Restoring(pickle.Unpickler):
        def persistent_load(self, place: int) -> _Placeholder:
            return stored[place]

    file = io.BytesIO()
    try:
        Replacing(file, protocol=5, buffer_callback=buffers.append).dump(model)
    except (pickle.PicklingError, AttributeError) as error:  # for lambdas and local functions
        raise ValueError(
            f"{in_words(error)}; functions must be importable from a module by name"
        ) from error
    file.seek(0)
    return Restoring(file, buffers=buffers).load()


# ------------------------------------------------------------------------------------------ loading


def load(file: FileArgument, *, trusted: Iterable[str] = ()) -> Any:
    """Load a model written by `save`; nothing is unpickled.

    Its predictions are bit-identical to those of the saved model.

    Parameters
    ----------
    file : path or binary file object
    trusted : iterable of str
        Full names of types and functions that the file may contain in addition to those of fastmlp,
        scikit-learn and NumPy: for example, your own transformers and functions. Their modules
        are imported, and they may be called with any arguments from the file.

    Returns
    -------
    estimator
        The saved model, with ``metadata_`` if the file has metadata.

    Raises
    ------
    ModelFileError
        If the file is not a model, is damaged, was written by a newer fastmlp, or contains a type
        that is not trusted; the message says which.
    ImportError
        If the model has several parts and skops is not installed.
    OSError
        If the file cannot be read.

    Warns
    -----
    fastmlp.exceptions.ModelFileWarning
        If the file was written by a newer fastmlp or, for models of several parts, with another
        minor version of scikit-learn.

    Notes
    -----
    Some of scikit-learn's types, such as its trees, are not trusted, because compiled code reads
    their content without checks, so that a file could crash the process. Pass them as `trusted` if
    the file is your own.

    Examples
    --------
    See `save`.
    """
    if isinstance(trusted, str):
        trusted = [trusted]
    with models.opened(file) as (stream, name):
        members = _members(stream)
        if SCHEMA not in members and HEADER not in members:
            return models.load(stream)
        if not {SCHEMA, HEADER} <= members:
            raise ModelFileError(
                f"{name} is not a model that fastmlp can load: it was not written by fastmlp.save; "
                "skops.io.load reads files of skops.io.dump."
            )
        _skops()
        with models.refusing(name):
            header = _read_header(stream)
        differences = _differences(header["versions"])
        if differences:
            exceptions.warn(
                f"{name} was written with {differences}: results may be wrong; use the same "
                "versions, or train the model again.",
                ModelFileWarning,
            )
        trusted = list(trusted)
        with models.refusing(name):
            if unknown := _untrusted(stream, trusted):
                raise ValueError(
                    f"it contains {', '.join(unknown)}, which fastmlp does not trust; if you trust "
                    f"its author, pass trusted={[*trusted, *unknown]}"
                )
            try:
                model = _read(stream, trusted)
            except Exception as error:
                if not differences or isinstance(error, MemoryError):
                    raise
                raise ValueError(
                    f"{in_words(error)} (it was written with {differences})"
                ) from error
    if "metadata" in header:
        model.metadata_ = header["metadata"]
    return model


def _members(stream: BinaryIO) -> set[str]:
    """Return the names in an archive; empty if it is not one."""
    try:
        with zipfile.ZipFile(stream) as archive:
            return set(archive.namelist())
    except Exception:  # errors are reported by the reader of models
        return set()


def _read_header(stream: BinaryIO) -> dict[str, Any]:
    """Return the versions and metadata of a file, after checking them."""
    with zipfile.ZipFile(stream) as archive:
        _check_archive(archive, stream.seek(0, os.SEEK_END))
        header = json.loads(archive.read(HEADER))
    models.check_is_object(header)
    models.check_field(header, "format", _HEADER_FIELDS["format"])
    written = header.get("versions")
    by = written.get("fastmlp") if isinstance(written, dict) else None
    writer = f"it was written by fastmlp {by}, but this is {WRITER}: upgrade"
    if header["format"] > _FORMAT:
        raise ValueError(f"it is in format {header['format']}; {writer}")
    models.check_fields(header, _HEADER_FIELDS, writer)
    return header


def _check_archive(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive whose arrays have wrong sizes in their headers."""
    check_sizes(archive, size)
    for member in archive.infolist():
        if member.filename.endswith(".npy"):
            check_array_header(archive, member)
        elif member.filename.endswith(".npz"):  # a sparse array, which SciPy compresses
            with zipfile.ZipFile(io.BytesIO(archive.read(member))) as sparse:
                for part in sparse.infolist():
                    check_array_header(sparse, part)


def _differences(written: Mapping[str, str]) -> str:
    """Return the differences of versions between a file and this process, in words."""
    installed = _versions()
    names = []
    if models.release(written["fastmlp"]) > models.release(WRITER):
        names.append("fastmlp")
    minors = {models.release(of["scikit-learn"])[:2] for of in (written, installed)}
    if len(minors) > 1:
        names.append("scikit-learn")
    return " and ".join(
        f"{name} {written[name]}, but {installed[name]} is installed" for name in names
    )


def _untrusted(stream: BinaryIO, trusted: Iterable[str]) -> list[str]:
    """Return the untrusted types in a file, without importing or creating anything."""
    with zipfile.ZipFile(stream) as archive:
        if found := _REFUSED_NODES & _loaders(json.loads(archive.read(SCHEMA))):
            raise ValueError(
                f"it has random generators as {', '.join(sorted(found))}, whose state is not "
                "checked; fastmlp only saves NumPy's RandomState with its default generator"
            )
    names = _skops().io.get_untrusted_types(file=stream)
    return sorted(set(names) - {*trusted_types(), *trusted})


def _loaders(schema: Any) -> set[str]:
    """Return the nodes of skops in a description, recursively."""
    if isinstance(schema, list):
        return set().union(*map(_loaders, schema))
    if not isinstance(schema, dict):
        return set()
    return {str(schema.get("__loader__"))}.union(*map(_loaders, schema.values()))


def _read(stream: BinaryIO, trusted: Iterable[str]) -> BaseEstimator:
    """Create the model of a file."""
    with warnings.catch_warnings():
        # One for each part; a single one of fastmlp's summarizes them.
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        model = _skops().io.load(stream, trusted=[*trusted_types(), *trusted])
    if not isinstance(model, BaseEstimator | BaseMLP):
        raise ValueError(f"it contains an object of type {type(model).__name__} instead of a model")
    return model
