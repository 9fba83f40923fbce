"""The served models: their names, and files that are replaced."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from fastmlp.portable import PlainModel, about, plain
from fastmlp.portable.about import first_network
from fastmlp.serve.errors import RequestError, sentence_of
from fastmlp.serve.metrics import Metrics
from fastmlp.serve.predicting import Batches, Outcome, Predictor
from fastmlp.serve.rows import NumberRows
from fastmlp.serve.tables import FrameRows, TableRows
from fastmlp.utils.logs import LOGGER
from fastmlp.utils.suggestions import did_you_mean

__all__ = ["Library", "ServedModel"]

#: Seconds between two looks at the files of models.
_LOOK_SECONDS = 0.5

#: What is compared to see whether a file has changed.
_State = tuple[int, int, int]

Load = Callable[[Path], Any]


class ServedModel:
    """A model, and what is needed to answer requests for it.

    A request keeps the one that it found, so the model is the same from its first byte to its last.

    Parameters
    ----------
    name : str
    model : estimator
        Fitted.
    executor : Executor
        Predicts large batches.
    max_rows : int
        Of a request.
    metrics : Metrics

    Attributes
    ----------
    about : dict
        See `fastmlp.portable.about`.
    plain : PlainModel or None
        None for estimators of others and pipelines with other steps.
    rows : NumberRows, TableRows or FrameRows
        Reads rows.
    example : Outcome
        A prediction, of the dtypes and shapes of all others.
    batches : Batches
        Predicts them.
    """

    def __init__(
        self, name: str, model: Any, executor: Executor, max_rows: int, metrics: Metrics
    ) -> None:
        self.name = name
        self.about = about(model, name)
        self.plain = _plain(model)
        is_table = self.plain is not None and self.plain.table is not None
        last = model.steps[-1][1] if is_table else model
        predictor = Predictor(last, self.plain)
        max_rows = max(max_rows, 1 + len(self.columns))  # as many as the page asks to explain one
        self.rows: NumberRows | TableRows | FrameRows
        if self.plain is not None and self.plain.table is not None:
            self.rows = TableRows(self.plain.table, model, max_rows)
        elif self.plain is None and hasattr(model, "feature_names_in_"):
            self.rows = FrameRows(list(map(str, model.feature_names_in_)), max_rows)
        else:
            self.rows = NumberRows(
                self.about["n_features"],
                _dtype(last),
                [column["name"] for column in self.columns] or self.about["names"],
                max_rows,
                has_own_names=hasattr(model, "feature_names_in_"),
                are_gray_levels=self.shape is not None,
            )
        self.is_classifier = self.about["task"] != "regression"
        self.example = _example(self, predictor)
        self.batches = Batches(predictor, executor, partial(metrics.batch, name))

    @property
    def is_table(self) -> bool:
        """Whether rows have named columns of several types."""
        return not isinstance(self.rows, NumberRows)

    @property
    def columns(self) -> list[dict[str, Any]]:
        """Columns of a table, or features of rows; empty for images."""
        return self.about["columns"] or []

    @property
    def shape(self) -> tuple[int, int] | None:
        """Rows and columns of the images that it takes, if it does."""
        shape = self.about["shape"]
        return None if shape is None else (shape[0], shape[1])

    @property
    def classes(self) -> list[Any] | None:
        """The classes, for JSON."""
        return self.about["classes"]

    @property
    def in_words(self) -> str:
        """Return what it is, such as "784-50-10, 10 classes"."""
        parts = []
        if self.is_table:
            parts.append(f"{len(self.columns)} columns")
        if self.plain is not None:
            network, *others = self.plain.networks
            units = "-".join(map(str, network.units))
            parts.append(f"{units} ({len(others) + 1} of them, averaged)" if others else units)
        if self.classes is not None:
            what = "labels" if self.about["task"] == "multilabel" else "classes"
            parts.append(f"{len(self.classes)} {what}")
        else:
            n = 1 if self.plain is None else self.plain.n_outputs
            parts.append("a number" if n == 1 else f"{n} numbers")
        return ", ".join(parts)


def _plain(model: Any) -> PlainModel | None:
    try:
        return plain(model)
    except (TypeError, ValueError):  # another estimator, or one that only predicts one class
        return None


def _example(model: ServedModel, predictor: Predictor) -> Outcome:
    """Return a prediction; the first one may also load or compile something."""
    if model.plain is not None:
        rows = model.rows
        dtype = rows.dtype if isinstance(rows, NumberRows) else np.dtype(np.float32)
        return predictor(np.zeros((1, model.plain.n_features), dtype))
    if model.classes is None:
        return Outcome(np.zeros(1), None)
    classes = np.asarray(model.classes)
    return Outcome(classes[:1], np.zeros((1, len(classes))))


def _dtype(model: Any) -> np.dtype:
    """Return the dtype in which a network computes, float64 for other estimators."""
    model = first_network(model)
    if getattr(model, "dtype", None) is not None:
        return np.dtype(model.dtype)
    coefs = getattr(model, "coefs_", None)
    return np.dtype(np.float64) if coefs is None else coefs[0].dtype


class Library:
    """Models by name: the stems of their files.

    Parameters
    ----------
    paths : iterable of path
    load : callable
        Returns the model of a file.
    executor : Executor
    max_rows : int
    metrics : Metrics

    Raises
    ------
    ValueError
        If two have the same name, or a file holds no model that can be served.
    OSError
        If a file cannot be read.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        load: Load,
        executor: Executor,
        max_rows: int,
        metrics: Metrics,
    ) -> None:
        self._load = load
        self._executor = executor
        self._max_rows = max_rows
        self._metrics = metrics
        self._paths = _named(paths)
        self._states = {name: _state(path) for name, path in self._paths.items()}
        self._models = {name: self._read(name) for name in self._paths}
        #: Increased when a model is replaced.
        self.version = 0

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def get(self, name: str | None) -> ServedModel:
        """Return a model, or the only one.

        Raises
        ------
        RequestError
            If there is none of this name, or several and no name is given.
        """
        if name is None and len(self._models) == 1:
            return next(iter(self._models.values()))
        if name in self._models:
            return self._models[name]
        names = list(self._models)
        shown = ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")
        if name is None:
            raise RequestError(
                f"several models are served, {shown}: say which one, by ?model={names[0]}."
            )
        given = name if len(name) <= 60 else f"{name[:57]}..."
        end = did_you_mean(given, names)
        raise RequestError(
            f"there is no model {given!r}{end if end != '.' else f', there is {shown}.'}", 404
        )

    async def watch(self) -> None:
        """Replace models when their files change, for ever."""
        settling: dict[str, _State | None] = {}
        failed: dict[str, _State | None] = {}
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for name, path in self._paths.items():
                state = _state(path)
                if state in (self._states[name], failed.get(name, ())):
                    settling.pop(name, None)
                elif name in settling and settling[name] == state:  # nobody writes it any more
                    del settling[name]
                    failed.pop(name, None)
                    if not await self._replace(name, state):
                        failed[name] = state
                else:
                    settling[name] = state

    async def _replace(self, name: str, state: _State | None) -> bool:
        """Load a changed file; keep the old model if that fails, and return whether it did."""
        path = self._paths[name]
        loop = asyncio.get_running_loop()
        try:
            if state is None:
                raise ValueError("the file is gone")
            model = await loop.run_in_executor(None, self._read, name)
        except Exception as error:  # whatever is in the file, the server goes on
            _note(f"{path} has changed, but the old model stays: {sentence_of(error)}")
            self._metrics.reload(name, succeeded=False)
            return False
        if _state(path) != state:  # somebody has gone on writing: what was read may be a mixture
            return True
        self._models[name] = model
        self._states[name] = state
        self.version += 1
        self._metrics.reload(name, succeeded=True)
        _note(f"{path} has changed and was loaded: {model.in_words}.")
        return True

    def _read(self, name: str) -> ServedModel:
        path = self._paths[name]
        model = self._load(path)
        if not hasattr(model, "predict"):
            raise ValueError(
                f"{path} must hold a classifier or regressor to be served, got "
                f"{type(model).__name__}."
            )
        try:
            check_is_fitted(model)
        except NotFittedError:
            raise ValueError(
                f"{path} must hold a fitted model to be served, got one that is not: train it, and "
                "save it again."
            ) from None
        return ServedModel(name, model, self._executor, self._max_rows, self._metrics)


def _named(paths: Iterable[Path]) -> dict[str, Path]:
    """Return paths by their stems."""
    found: dict[str, Path] = {}
    for path in paths:
        name = path.stem
        if name in found:
            raise ValueError(
                f"models must have different names, which are those of their files, got {name!r} "
                f"twice ({found[name]} and {path}): rename or copy one of them."
            )
        if not name.isprintable():
            raise ValueError(f"names of models must be printable, got {name!r}: rename the file.")
        found[name] = path
    if not found:
        raise ValueError("there must be a model to serve, got none: name its file.")
    return found


def _state(path: Path) -> _State | None:
    """Return what changes with the content of a file, None if it does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _note(text: str) -> None:
    LOGGER.log(logging.WARNING, "%s", text)
