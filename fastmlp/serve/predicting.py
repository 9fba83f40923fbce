"""From arrays to predictions, of the requests that arrive together at once.

A batch is what has arrived while the one before was predicted, so no request waits for more. Small
batches, for which a thread would have to be woken, are predicted on the event loop.
"""

import asyncio
import copy
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmlp import backends
from fastmlp.estimators import MLPClassifier, MLPEnsemble, MLPRegressor
from fastmlp.portable import PlainModel
from fastmlp.serve.errors import RequestError, is_late, sentence_of
from fastmlp.serve.rows import ALONE_BYTES

__all__ = ["Batches", "Outcome", "Predictor", "joined"]

#: Multiply-adds of a batch that is predicted on the event loop: half a millisecond or so.
_FEW = 10_000_000

#: Rows of a batch of several requests, at most.
_BATCH_ROWS = 8192


@dataclass(frozen=True)
class Outcome:
    """Predictions for rows.

    Attributes
    ----------
    values : array of shape (n_rows,) or (n_rows, n_outputs)
        As `predict` returns them.
    probabilities : array of shape (n_rows, n_classes) or None
        As `predict_proba` returns them, of classifiers that have it.
    """

    values: NDArray
    probabilities: NDArray | None

    def rows(self, start: int, stop: int) -> "Outcome":
        """Return the predictions for some of the rows."""
        proba = self.probabilities
        return Outcome(self.values[start:stop], None if proba is None else proba[start:stop])


def joined(parts: Sequence[Outcome]) -> Outcome:
    """Return the predictions for the rows of all parts."""
    values = np.concatenate([part.values for part in parts])
    found = [part.probabilities for part in parts if part.probabilities is not None]
    return Outcome(values, np.concatenate(found) if found else None)


class Predictor:
    """What an estimator predicts.

    Parameters
    ----------
    model : estimator
        Of fastmlp, an ensemble of such, or another that has `predict`.
    plain : PlainModel or None
        The same model, if it is known as plain arrays.

    Attributes
    ----------
    is_row_wise : bool
        Whether the predictions for a row are the same, to the last bit, whatever rows are predicted
        with it.
    work : int
        Multiply-adds per row; 0 if it is not known.
    """

    def __init__(self, model: Any, plain: PlainModel | None) -> None:
        self._model = _without_names(model) if plain is not None else model
        self._is_own = plain is not None
        self._classes = None
        self._is_multilabel = plain is not None and plain.task == "multilabel"
        if plain is not None and plain.is_classifier and not _may_tie(plain):
            self._classes = plain.classes
        self._has_probabilities = hasattr(model, "predict_proba")
        self.is_row_wise = plain is not None and _is_row_wise(model, plain)
        self.work = 0
        if plain is not None:
            coefs = [coef for network in plain.networks for coef in network.coefs]
            self.work = sum(coef.size for coef in coefs)

    def __call__(self, X: Any) -> Outcome:
        """Predict rows.

        Raises
        ------
        ValueError
            If the estimator refuses them.
        """
        try:
            return self._outcome(X)
        except (TypeError, LookupError, OverflowError) as error:
            if self._is_own:
                raise
            raise ValueError(sentence_of(error)) from error  # others' have no rule for that

    def _outcome(self, X: Any) -> Outcome:
        if not self._has_probabilities:
            return Outcome(np.asarray(self._model.predict(X)), None)
        probabilities = self._model.predict_proba(X)
        if self._is_multilabel:
            return Outcome((probabilities > 0.5).astype(int), probabilities)
        if self._classes is not None:
            return Outcome(self._classes[probabilities.argmax(axis=1)], probabilities)
        if isinstance(probabilities, list):  # scikit-learn's, of several targets
            probabilities = None
        return Outcome(np.asarray(self._model.predict(X)), probabilities)


def _may_tie(plain: PlainModel) -> bool:
    """Return whether rounding may make the largest probabilities equal that `predict` tells apart.

    It compares the outputs; probabilities are the outputs divided by their sum.
    """
    is_divided = plain.task == "multiclass" and plain.networks[0].output == "logistic"
    return is_divided and len(plain.networks) == 1


def _is_row_wise(model: Any, plain: PlainModel) -> bool:
    """Return whether the engine sums in the same order whatever the number of rows.

    The compiled one does, unless the inputs are shifted: the shift is added to the intercepts if
    most of the inputs of a batch are zeros.
    """
    shifts = [n.input_scale[1] for n in plain.networks if n.input_scale is not None]
    names = {backends.resolve(network.backend) for network in _members(model)}
    return names == {"cython"} and not any(shift.any() for shift in shifts)


def _members(model: Any) -> list[Any]:
    return list(model.estimators_) if isinstance(model, MLPEnsemble) else [model]


def _without_names(model: Any) -> Any:
    """Return a model that takes arrays although it was trained on named features."""
    if isinstance(model, MLPEnsemble):
        model = copy.copy(model)
        model.estimators_ = list(map(_without_names, model.estimators_))
    elif isinstance(model, MLPClassifier | MLPRegressor) and hasattr(model, "feature_names_in_"):
        model = copy.copy(model)
        del model.feature_names_in_
    return model


class _Waiting(NamedTuple):
    """A request that waits for predictions."""

    X: Any
    future: asyncio.Future[Outcome]
    since: float  # of the event loop


class Batches:
    """The requests for a model, in the order in which they arrive.

    Parameters
    ----------
    predictor : Predictor
    executor : Executor
        Predicts large batches.
    observe : callable
        Called with the numbers of requests and of rows of each batch.
    """

    def __init__(
        self, predictor: Predictor, executor: Executor, observe: Callable[[int, int], None]
    ) -> None:
        self._predictor = predictor
        self._executor = executor
        self._observe = observe
        self._waiting: list[_Waiting] = []
        self._predicted: list[_Waiting] = []  # by a thread
        self._is_busy = False  # or about to begin

    @property
    def is_row_wise(self) -> bool:
        """Whether rows may be predicted in parts."""
        return self._predictor.is_row_wise

    async def predict(self, X: Any) -> Outcome:
        """Predict the rows of a request, together with those of others.

        Parameters
        ----------
        X : array, matrix or frame of shape (n_rows, n_features)
            If it has less than `ALONE_BYTES`, all numbers are finite: others would be refused
            together with it.

        Raises
        ------
        RequestError
            If the estimator refuses them.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append(_Waiting(X, future, loop.time()))
        if not self._is_busy:
            self._is_busy = True
            loop.call_soon(self._begin)  # once the other requests that are here have come this far
        try:
            return await future
        except ValueError as error:
            raise RequestError(sentence_of(error)) from error
        except MemoryError as error:
            raise RequestError("there is not enough memory: send fewer rows.", 413) from error

    def check_time(self, now: float, seconds: float) -> None:
        """Refuse requests that have waited for more than some seconds."""
        for request in (*self._waiting, *self._predicted):
            if now - request.since > seconds and not request.future.done():
                request.future.set_exception(is_late(seconds))

    def _begin(self) -> None:
        """Predict batches until there are none, or until one is left to a thread."""
        while batch := self._next():
            n_rows = sum(request.X.shape[0] for request in batch)
            self._observe(len(batch), n_rows)
            if not 0 < n_rows * self._predictor.work <= _FEW:
                self._predicted = batch
                loop = asyncio.get_running_loop()
                done = loop.run_in_executor(self._executor, self._predict, batch)
                done.add_done_callback(self._finish)
                return
            try:
                _tell(batch, self._predict(batch))
            except Exception as error:
                _fail(batch, error)
        self._is_busy = False

    def _predict(self, batch: list[_Waiting]) -> Outcome:
        if len(batch) == 1:
            return self._predictor(batch[0].X)
        return self._predictor(np.concatenate([request.X for request in batch]))

    def _next(self) -> list[_Waiting]:
        """Take what may be predicted at once; it has one dtype, which determines the result's."""
        batch: list[_Waiting] = []
        rest = []
        n_rows = 0
        for request in self._waiting:
            if request.future.done():  # its client has gone
                continue
            if not batch or (self._fits(request.X, batch[0].X, n_rows)):
                batch.append(request)
                n_rows += request.X.shape[0]
            else:
                rest.append(request)
        self._waiting = rest
        return batch

    def _fits(self, X: Any, first: Any, n_rows: int) -> bool:
        """Return whether rows may be predicted together with others."""
        return (
            self._predictor.is_row_wise
            and isinstance(X, np.ndarray)
            and isinstance(first, np.ndarray)
            and X.dtype == first.dtype
            and max(X.nbytes, first.nbytes) < ALONE_BYTES
            and n_rows + len(X) <= _BATCH_ROWS
        )

    def _finish(self, done: asyncio.Future[Outcome]) -> None:
        """Answer the requests that a thread has predicted, and go on."""
        batch, self._predicted = self._predicted, []
        error = done.exception()
        if error is None:
            _tell(batch, done.result())
        else:
            _fail(batch, error)
        self._begin()


def _tell(batch: list[_Waiting], outcome: Outcome) -> None:
    """Give each request its rows."""
    start = 0
    for X, future, _ in batch:
        stop = start + X.shape[0]
        if not future.done():
            future.set_result(outcome if len(batch) == 1 else outcome.rows(start, stop))
        start = stop


def _fail(batch: list[_Waiting], error: BaseException) -> None:
    for request in batch:
        if not request.future.done():
            request.future.set_exception(error)
