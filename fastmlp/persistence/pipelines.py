"""Saving a fitted model to one file, and loading it again: whole pipelines, without pickle.

One of our own estimators is written as `models` does: arrays and JSON. What has such
estimators in it, as scikit-learn's pipelines, searches and ensembles do, is written by skops, which
names the type of every part and stores its attributes. The file is a ZIP archive:

    fastmlp.json     JSON; what it was written with, and the metadata
    schema.json      skops' description of the parts
    *.npy, *.npz     arrays; each of our estimators is one, the bytes of its own file

So every estimator of ours is checked as `models` checks it. Of the other parts the
types are checked, before any of them is made: only those of `_trusted_types` and those that skops
trusts by itself are accepted, and those that the caller of `load` names.
"""

import io
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import check_is_fitted

from fastmlp import exceptions
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
from fastmlp.utils.files import atomic_write, uninterrupted

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
    """Stands for one of our estimators in a skops file.

    skops stores it as a call of its class with the bytes of the estimator's file. The call gives
    the estimator itself, once `fastmlp.persistence.models` has checked all of it.
    """

    content: np.ndarray

    def __new__(cls, content: Any) -> Any:
        """Return the estimator of a file's bytes."""
        if not isinstance(content, np.ndarray) or content.dtype != np.uint8:
            raise ValueError("it has an estimator that is not the bytes of a file")
        return models.unpacked(io.BytesIO(content.tobytes()))

    @classmethod
    def of(cls, model: BaseMLP) -> "StoredModel":
        """Return what stands for an estimator, fitted or not."""
        file = io.BytesIO()
        remembered = models.metadata_field(model, None)
        np.savez(file, **models.packed(model, remembered))  # type: ignore[arg-type]
        stored: StoredModel = object.__new__(cls)
        stored.content = np.frombuffer(file.getbuffer(), np.uint8)
        return stored

    def __reduce__(self) -> tuple[type, tuple[Any]]:
        """Return the call that skops stores."""
        return type(self), (self.content,)


class StoredGenerator:
    """Stands for a `RandomState`: NumPy reads beyond its numbers if its position is wrong."""

    state: str

    def __new__(cls, state: Any) -> Any:
        """Return the generator of a state, once it is checked."""
        return models.as_generator(json.loads(state))

    @classmethod
    def of(cls, generator: np.random.RandomState) -> "StoredGenerator":
        """Return what stands for a generator."""
        state = models.plain_generator(generator)
        if state is None:
            raise ValueError(
                "a RandomState of it draws from another generator than a Mersenne Twister"
            )
        stored: StoredGenerator = object.__new__(cls)
        stored.state = json.dumps(state)
        return stored

    def __reduce__(self) -> tuple[type, tuple[str]]:
        """Return the call that skops stores."""
        return type(self), (self.state,)


#: What skops reads without a check, and our files have no need of.
_REFUSED_NODES = {"RandomStateNode", "RandomGeneratorNode"}

#: Beside what skops trusts by itself: parts of scikit-learn's fitted estimators that it leaves out
#: though nothing that they hold is run, or read by compiled code without a check, as the nodes of
#: trees are. A file may have each of them called with anything, so none may be a function that
#: reads, writes or starts something.
_TRUSTED = (
    "fastmlp.persistence.StoredGenerator",
    "fastmlp.persistence.StoredModel",
    "builtins.object",
    "fastmlp.tables.averages.AveragedMLPClassifier",
    "fastmlp.tables.averages.AveragedMLPRegressor",
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


def _trusted_types() -> list[str]:
    """Return the full names of the types and functions that any file may name."""
    from sklearn.metrics import get_scorer, get_scorer_names

    metrics = {get_scorer(name)._score_func for name in get_scorer_names()}
    return [*_TRUSTED, *(f"{metric.__module__}.{metric.__name__}" for metric in metrics)]


def _skops() -> Any:
    """Return the library's module, or say that it is needed."""
    try:
        import skops.io
    except ImportError:
        raise ImportError(
            "models of several parts, such as pipelines, are saved with skops, which is missing: "
            "pip install 'fastmlp[tables]'"
        ) from None
    return skops


# ------------------------------------------------------------------------------------------- saving


def save(
    model: BaseEstimator, path: PathArgument, *, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a fitted model to a file, which appears whole or not at all; there is no pickle in it.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor, or an estimator of scikit-learn with any of them in it
        A `Pipeline`, `ColumnTransformer`, `TransformedTargetRegressor`, a search or its
        ``best_estimator_``, an ensemble, and so on.
    path : path
        Used as it is: no suffix is added. A file that is there is replaced. ``.npz`` is usual for
        our estimators by themselves, which `numpy.load` reads, and ``.skops`` for others.
    metadata : mapping of str to anything that JSON can hold, optional
        What is to be remembered beside the model, such as the columns of its training data. The
        model that is loaded has it as ``metadata_``, with lists in the place of arrays and tuples.
        By default the ``metadata_`` of `model`, if it has any. ``{}`` keeps nothing.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model has not been fitted.
    ValueError
        If a part cannot be saved, such as a lambda, or could not be loaded.
    TypeError
        If the model is not an estimator, or has a subclass of ours in it, or the metadata are not
        what JSON can hold.
    ImportError
        If the model has several parts and skops is not installed.
    OSError
        If the file cannot be written.

    Warns
    -----
    fastmlp.exceptions.ModelFileWarning
        If parameters are left out (see `fastmlp.persistence.save`), or if the model has parts that
        `load` accepts only if they are named, such as your own functions.

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
        models.save(model, path, metadata=metadata)
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
        copy = _with_stored_models(model)
        vars(copy).pop("metadata_", None)
        _skops().io.dump(copy, file)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(HEADER, json.dumps(header, indent=1))
        needed = _untrusted(file, ())
        _read(file, needed)  # so that whatever is saved can be loaded
    if needed:
        exceptions.warn(
            f"the model has parts that fastmlp does not know, so it loads with "
            f"fastmlp.load({os.fspath(path)!r}, trusted={needed}) only.",
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


def _with_stored_models(model: BaseEstimator) -> BaseEstimator:
    """Return a copy of a model that has stand-ins for our estimators and for random generators.

    pickle knows how to find them, wherever they are, and copies what is around them; it never
    leaves this function. Arrays are not copied.
    """
    stored: list[StoredModel | StoredGenerator] = []
    places: dict[int, int] = {}  # one that occurs twice is stored once
    buffers: list[pickle.PickleBuffer] = []

    class Replacing(pickle.Pickler):
        def persistent_id(self, value: Any) -> int | None:
            if not isinstance(value, BaseMLP | np.random.RandomState):
                return None
            if isinstance(value, BaseMLP) and not models.is_ours(value):
                raise ValueError(
                    f"it has a {type(value).__name__} in it, a subclass that its file could not "
                    "describe; use the class itself"
                )
            if id(value) not in places:
                places[id(value)] = len(stored)
                if isinstance(value, BaseMLP):
                    stored.append(StoredModel.of(value))
                else:
                    stored.append(StoredGenerator.of(value))
            return places[id(value)]

    class Restoring(pickle.Unpickler):
        def persistent_load(self, place: int) -> StoredModel | StoredGenerator:
            return stored[place]

    file = io.BytesIO()
    try:
        Replacing(file, protocol=5, buffer_callback=buffers.append).dump(model)
    except (pickle.PicklingError, AttributeError) as error:  # of lambdas and local functions
        raise ValueError(
            f"{in_words(error)}; a function must be one that a module has under its name"
        ) from error
    file.seek(0)
    return Restoring(file, buffers=buffers).load()


# ------------------------------------------------------------------------------------------ loading


def load(file: FileArgument, *, trusted: Iterable[str] = ()) -> Any:
    """Read a model that `save` has written; nothing is unpickled.

    It predicts the same bits as the one that was saved.

    Parameters
    ----------
    file : path or binary file object
    trusted : iterable of str
        Full names of types and functions that the file may name, beside fastmlp's own, those of
        scikit-learn and of NumPy: your own transformers and functions, for example. Their modules
        are imported, and they may be called with anything that the file holds.

    Returns
    -------
    estimator
        As it was saved, with ``metadata_`` if the file has metadata.

    Raises
    ------
    ModelFileError
        If the file is not a model, is damaged, is of a newer fastmlp, or names a type that is not
        trusted; the message says which.
    ImportError
        If the file is of a model of several parts and skops is not installed.
    OSError
        If the file cannot be read.

    Warns
    -----
    fastmlp.exceptions.ModelFileWarning
        If a newer fastmlp has written the file or, unless it is one of our estimators by itself,
        another minor version of scikit-learn.

    Notes
    -----
    A few of scikit-learn's parts are not trusted, because compiled code reads what they hold
    without a check, so that a file could end the process: its trees are the best known. Name them
    in `trusted` if the file is your own.

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
                f"{name} is not a model that fastmlp can load: fastmlp.save has not written it; "
                "skops.io.load reads what skops.io.dump has."
            )
        _skops()
        with models.refusing(name):
            header = _read_header(stream)
        differences = _differences(header["versions"])
        if differences:
            exceptions.warn(
                f"{name} was written with {differences}: what has changed between them may be "
                "wrong or missing; use the same versions, or train the model again.",
                ModelFileWarning,
            )
        trusted = list(trusted)
        with models.refusing(name):
            if unknown := _untrusted(stream, trusted):
                raise ValueError(
                    f"it names {', '.join(unknown)}, which fastmlp does not trust; if you trust "
                    f"whoever wrote it, pass trusted={[*trusted, *unknown]}"
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
    """Return the names in an archive; none if it is not one."""
    try:
        with zipfile.ZipFile(stream) as archive:
            return set(archive.namelist())
    except Exception:  # whatever is wrong, the reader of models will say it
        return set()


def _read_header(stream: BinaryIO) -> dict[str, Any]:
    """Return what a file was written with and its metadata, once they are checked."""
    with zipfile.ZipFile(stream) as archive:
        _check_archive(archive, stream.seek(0, os.SEEK_END))
        header = json.loads(archive.read(HEADER))
    models.check_is_object(header)
    models.check_field(header, "format", _HEADER_FIELDS["format"])
    written = header.get("versions")
    by = written.get("fastmlp") if isinstance(written, dict) else None
    writer = f"it was written by fastmlp {by}, and this is {WRITER}: upgrade"
    if header["format"] > _FORMAT:
        raise ValueError(f"it is in format {header['format']}; {writer}")
    models.check_fields(header, _HEADER_FIELDS, writer)
    return header


def _check_archive(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive that says that its arrays are larger than they are."""
    models.check_sizes(archive, size)
    for member in archive.infolist():
        if member.filename.endswith(".npy"):
            models.check_array_header(archive, member)
        elif member.filename.endswith(".npz"):  # a sparse array, which SciPy compresses
            with zipfile.ZipFile(io.BytesIO(archive.read(member))) as sparse:
                for part in sparse.infolist():
                    models.check_array_header(sparse, part)


def _differences(written: Mapping[str, str]) -> str:
    """Return in words which versions a file needs that this process has not."""
    installed = _versions()
    names = []
    if models.release(written["fastmlp"]) > models.release(WRITER):
        names.append("fastmlp")
    minors = {models.release(of["scikit-learn"])[:2] for of in (written, installed)}
    if len(minors) > 1:
        names.append("scikit-learn")
    return " and ".join(
        f"{name} {written[name]}, where {installed[name]} is installed" for name in names
    )


def _untrusted(stream: BinaryIO, trusted: Iterable[str]) -> list[str]:
    """Return what a file names that must not be made; nothing is imported or made."""
    with zipfile.ZipFile(stream) as archive:
        if found := _REFUSED_NODES & _loaders(json.loads(archive.read(SCHEMA))):
            raise ValueError(
                f"it has random generators as {', '.join(sorted(found))}, whose state nothing "
                "checks; fastmlp saves NumPy's RandomState with its usual generator only"
            )
    names = _skops().io.get_untrusted_types(file=stream)
    return sorted(set(names) - {*_trusted_types(), *trusted})


def _loaders(schema: Any) -> set[str]:
    """Return which of skops' nodes a description has, anywhere in it."""
    if isinstance(schema, list):
        return set().union(*map(_loaders, schema))
    if not isinstance(schema, dict):
        return set()
    return {str(schema.get("__loader__"))}.union(*map(_loaders, schema.values()))


def _read(stream: BinaryIO, trusted: Iterable[str]) -> BaseEstimator:
    """Make the model of a file."""
    with warnings.catch_warnings():
        # One for each part; a single one of ours says it.
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        model = _skops().io.load(stream, trusted=[*_trusted_types(), *trusted])
    if not isinstance(model, BaseEstimator | BaseMLP):
        raise ValueError(f"it holds no model, but an object of type {type(model).__name__}")
    return model
