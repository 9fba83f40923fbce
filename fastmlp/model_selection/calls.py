"""Calls of scikit-learn's functions that fit and score: the same results, without copies of data.

scikit-learn's searches and cross-validations call a function for each candidate and split, with an
estimator, X, and the rows to train and to test on. A `Calls` looks at each of these calls. If the
estimator is one of ours, or a pipeline that ends in one, the function is called with

- the network, with the candidate's parameters, in the place of the estimator;
- a `_Rows` in the place of X, from which the function takes a `Share` to train on: X is validated
  once, and not copied for each fold;
- for a pipeline, what its other steps make of the rows: they are fitted once for each split and
  set of their own parameters;
- in a halving search over epochs, the state of the same candidate's last fit, which goes on.

Everything else, as errors, scores, and times, remains scikit-learn's work. A call that is not
understood, or whose data cannot be validated as a whole, is called as it is.
"""

import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from numbers import Integral
from typing import Any

import joblib
import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.metrics import check_scoring, make_scorer, r2_score
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing

from fastmlp.estimators import MLPClassifier, MLPRegressor
from fastmlp.estimators.base import BaseMLP
from fastmlp.estimators.many import estimated_cost, generator_in_order
from fastmlp.estimators.samples import Share, SharedData
from fastmlp.model_selection.journal import Journal
from fastmlp.training import CheckpointInMemory

__all__ = ["Call", "Calls", "network_of"]

#: scikit-learn's functions that fit an estimator on the rows `train` of X, and use it on `test`.
_FUNCTIONS = ("_fit_and_score", "_fit_and_predict")

#: Scorers that do nothing with X but to pass it to methods of the estimator; and those of several.
_SCORERS = tuple(
    type(check_scoring(MLPRegressor(), scoring)) for scoring in (None, make_scorer(r2_score))
)
_SEVERAL = type(check_scoring(MLPRegressor(), ["r2"]))


def network_of(estimator: Any) -> BaseMLP | None:
    """Return the network that does the work of an estimator, or None.

    Parameters
    ----------
    estimator : estimator

    Returns
    -------
    MLPClassifier, MLPRegressor or None
        The estimator or the last step of a pipeline, if it is one of our classes. Subclasses may
        do anything with X, so they are not.
    """
    if type(estimator) is Pipeline and estimator.steps and not estimator.verbose:
        plain = estimator.memory is None and getattr(estimator, "transform_input", None) is None
        estimator = estimator.steps[-1][1] if plain else None
    return estimator if type(estimator) in (MLPClassifier, MLPRegressor) else None


class Calls:
    """What the calls of a search or a cross-validation share.

    Parameters
    ----------
    n_kept : int
        How many splits are kept after the first steps of a pipeline.
    resource : str, optional
        The parameter that grows from round to round of a halving search.
    """

    def __init__(self, n_kept: int, resource: str | None = None) -> None:
        self._resource = resource
        self._lock = threading.Lock()
        self._data: dict[tuple[int, int], SharedData] = {}
        self._transformed = _Cache(n_kept)
        self._groups: dict[Any, int] = {}
        self._checkpoints: dict[str, CheckpointInMemory] = {}

    def of(self, call: Any, args: tuple[Any, ...], options: dict[str, Any]) -> "Call":
        """Return a call of scikit-learn's function, which is joblib's task."""
        function = getattr(call, "function", call)  # without scikit-learn's wrapper
        config = getattr(call, "config", {})
        given: dict[str, Any] = {}
        name = getattr(function, "__name__", "")
        if name in _FUNCTIONS and function.__module__.startswith("sklearn.model_selection"):
            given = _signature(function).bind(*args, **options).arguments
        made = Call(args, options, function, config, given, self)
        made.prepare()
        return made

    def shared(self, X: Any, y: Any) -> SharedData:
        """Return X and y as the data that fits share."""
        with self._lock:
            return self._data.setdefault((id(X), id(y)), SharedData(X, y))

    def group(self, steps: Pipeline, split: "_Split") -> int:
        """Return the number of the calls with the same split and steps, from 0 on."""
        key = joblib.hash((steps.steps, split.train, split.test)), id(split.X), id(split.y)
        with self._lock:
            return self._groups.setdefault(key, len(self._groups))

    def transformed(self, group: int, steps: Pipeline, split: "_Split") -> "_Transformed":
        """Return what steps make of a split, fitted on the rows to train on."""
        return self._transformed.get(group, lambda: _Transformed.of(steps, split))

    def continues(self, prefix: str) -> bool:
        """Return whether candidates are trained further in each round, by more epochs.

        `prefix` is that of the network's parameters.
        """
        return self._resource == f"{prefix}max_iter"

    def checkpoint(
        self, network: BaseMLP, parameters: Mapping[str, Any], inputs: Any
    ) -> CheckpointInMemory | None:
        """Return where a candidate's fits of all rounds are kept, or None if none goes on.

        `inputs` tell what it is trained on: after random steps, something else in each round.
        """
        seed = network.random_state
        # The rates of a named schedule depend on the number of epochs.
        if isinstance(network.lr_schedule, str) or not (seed is None or isinstance(seed, Integral)):
            return None
        others = {name: v for name, v in parameters.items() if name != self._resource}
        with self._lock:
            key = joblib.hash((sorted(others.items()), inputs))
            return self._checkpoints.setdefault(key, CheckpointInMemory())


@dataclass
class _Split:
    """Rows to train and to test on."""

    X: Any
    y: Any
    train: NDArray
    test: NDArray

    def inputs(self, name: str) -> Any:
        """Return the rows of X to "train" or to "test" on."""
        return _safe_indexing(self.X, getattr(self, name))


@dataclass
class _Transformed:
    """The rows of a split after fitted steps."""

    split: _Split
    steps: Pipeline
    to_fit: SharedData
    to_predict: dict[str, Any]

    @cached_property
    def digest(self) -> str:
        """A digest of the inputs to train on."""
        return str(joblib.hash(self.to_fit.X))

    @classmethod
    def of(cls, steps: Pipeline, split: _Split) -> "_Transformed":
        y = _safe_indexing(split.y, split.train)
        train = steps.fit_transform(split.inputs("train"), y)
        test = steps.transform(split.inputs("test"))
        return cls(split, steps, SharedData(train, y), {"test": test})

    def inputs(self, name: str) -> Any:
        if name not in self.to_predict:  # by `transform`, which may give other last bits
            self.to_predict[name] = self.steps.transform(self.split.inputs(name))
        return self.to_predict[name]


@dataclass(frozen=True)
class _TransformedShare(Share):
    """All rows after fitted steps."""

    source: _Transformed | None = None

    def inputs(self) -> Any:
        assert self.source is not None
        return self.source.inputs("train")


class _Cache:
    """The last results by key, each computed by one thread."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._found: OrderedDict[Any, tuple[threading.Lock, list[Any]]] = OrderedDict()

    def get(self, key: Any, compute: Callable[[], Any]) -> Any:
        with self._lock:
            lock, results = self._found.setdefault(key, (threading.Lock(), []))
            self._found.move_to_end(key)
            while len(self._found) > self._size:
                self._found.popitem(last=False)
        with lock:
            if not results:
                results.append(compute())
            return results[0]


class _Rows:
    """Stands for X in a function of scikit-learn, which takes the rows of a split from it.

    Parameters
    ----------
    split : _Split
    to_train : object
        What is taken for the rows to train on.
    to_test : callable
        Returns what is taken for the rows to test on.
    """

    iloc = None  # with it, scikit-learn calls `take`

    def __init__(self, split: _Split, to_train: Any, to_test: Callable[[], Any]) -> None:
        X = split.X
        self.shape = X.shape if hasattr(X, "shape") else (len(X),)
        self._split, self._to_train, self._to_test = split, to_train, to_test
        self._is_first = True

    def __len__(self) -> int:
        return int(self.shape[0])

    def take(self, rows: Any, axis: int = 0) -> Any:
        if self._is_first:  # the same rows may be tested on
            assert np.array_equal(rows, self._split.train)
            self._is_first = False
            return self._to_train
        assert np.array_equal(rows, self._split.test)
        return self._to_test()


class _Configured:
    """Stands for the estimator, whose parameters have been set: it gives the network."""

    def __init__(self, network: BaseMLP) -> None:
        self._network = network

    def set_params(self, **_: Any) -> BaseMLP:
        return self._network


@dataclass
class Call:
    """A call of a function, which `Calls` has understood or not.

    Parameters
    ----------
    args, options
        Of joblib's task.
    function : callable
    config : dict
        scikit-learn's configuration for it.
    given : dict of str to object
        The arguments by name; empty if it is not one of the known functions.
    calls : Calls

    Attributes
    ----------
    network : MLPClassifier, MLPRegressor or None
        With the parameters of the candidate; None for a call that was not understood.
    is_known : bool
        Whether the result was that of before.
    history : dict of str to list of float
        That of the fit, when it has run; empty if it did not begin.
    order : tuple
        The calls with the smallest run first: for a pipeline one split after the other, so that
        few are kept; otherwise the longest fit.
    """

    args: tuple[Any, ...]
    options: dict[str, Any]
    function: Callable[..., Any]
    config: dict[str, Any]
    given: dict[str, Any]
    calls: Calls
    network: BaseMLP | None = None
    order: tuple[int, float] = (0, 0.0)
    _whole: Any = None  # the estimator with the candidate's parameters
    _drawing: Callable[[], AbstractContextManager[None]] = nullcontext
    is_known: bool = False
    history: dict[str, list[float]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Set the candidate's parameters, if the call can be understood."""
        given = self.given
        if not given or not self._is_plain():
            return
        try:
            # The estimator is a clone for this call. Parameters may be estimators, too.
            self._whole = given["estimator"]
            if given.get("parameters"):
                self._whole.set_params(**clone(given["parameters"], safe=False))
            self.network = network_of(self._whole)
        except Exception:  # the function will raise it in its place
            return
        if self.network is not None and not self._can_be_replaced():
            self.network = None
        if self.network is None:
            return
        self._drawing = generator_in_order(self.network)
        shape = getattr(given["X"], "shape", ())
        cost = estimated_cost(self.network, len(given["train"]), (*shape, 1, 1)[1])
        group = 0
        if self._has_steps:
            try:
                group = self.calls.group(self._whole[:-1], self._split)
            except Exception:  # steps that cannot be hashed
                self.network = None
                return
        self.order = group, -cost

    @property
    def _split(self) -> _Split:
        given = self.given
        return _Split(given["X"], given["y"], given["train"], given["test"])

    @property
    def _has_steps(self) -> bool:
        return self.network is not self._whole and len(self._whole.steps) > 1

    def _is_plain(self) -> bool:
        """Return whether the data and rows are of a kind that can be replaced."""
        given = self.given
        n_samples = _n_samples(given["X"])
        return (
            all(_are_rows(given[name], n_samples) for name in ("train", "test"))
            and given.get("y") is not None
            and not any(hasattr(given.get(k), "_skl_callbacks") for k in ("estimator", "caller"))
        )

    def _can_be_replaced(self) -> bool:
        """Return whether nobody but the network sees what stands for the estimator and X."""
        given = self.given
        if "scorer" not in given:  # but a method, of which the function checks whether it exists
            return hasattr(self.network, given["method"])
        is_whole = self.network is self._whole and not given.get("return_train_score", False)
        return is_whole or _only_passes_on(given["scorer"])

    def run(self, journal: Journal | None = None) -> Any:
        """Return what the function returns, or has returned before.

        Parameters
        ----------
        journal : Journal, optional
            Results of before; gets this one.
        """
        if journal is None or self.given.get("parameters") is None:
            return self._run()
        key = journal.key(self.given)
        known = journal.get(key)
        if known is not None:
            if not self._may_return(known["result"]):
                journal.refuse()
            self.history, self.is_known = known["history"], True
            return dict(known["result"])
        result = self._run()
        journal.add(key, result, self.history)
        return result

    def _may_return(self, result: Mapping[str, Any]) -> bool:
        """Return whether the function may return this result."""
        given = self.given
        scores = {"test_scores"} | ({"train_scores"} if given["return_train_score"] else set())
        if result["n_test_samples"] != len(given["test"]):
            return False
        if {name for name in result if name.endswith("_scores")} != scores:
            return False
        scorer = given["scorer"]
        several = scorer._scorers if isinstance(scorer, _SEVERAL) else {}
        for score in map(result.get, scores):
            found = score.keys() if isinstance(score, dict) else set()
            if found != several.keys() and isinstance(scorer, (*_SCORERS, _SEVERAL)):
                return False
        return True

    def _run(self) -> Any:
        with sklearn.config_context(**self.config), self._drawing():
            changed = self._changed()
            if changed is None:
                result = self.function(*self.args, **self.options)
            else:
                result = self.function(**changed)
                if self.given.get("return_estimator") and self.network is not self._whole:
                    result["estimator"] = self._whole
            found = getattr(self.network, "history_", {})
            self.history = {name: list(values) for name, values in found.items()}
            return result

    def release(self) -> None:
        """Let go of the network and the data; the history remains."""
        self.network = self._whole = None
        self.given, self.args, self.options = {}, (), {}

    def _changed(self) -> dict[str, Any] | None:
        """Return other arguments that give the same result, or None."""
        given, network, whole = self.given, self.network, self._whole
        if network is None:
            return None
        split = self._split
        fit_params = dict(given.get("fit_params") or {})
        try:
            data = self.calls.shared(split.X, split.y)
            to_train = Share(data, split.train)
            to_test: Callable[[], Any] = partial(split.inputs, "test")
            prefix = ""
            if whole is not network:
                prefix = f"{whole.steps[-1][0]}__"
                if any(not key.startswith(prefix) for key in fit_params):
                    return None
                fit_params = {k.removeprefix(prefix): v for k, v in fit_params.items()}
            if self._has_steps:
                found = self.calls.transformed(self.order[0], whole[:-1], split)
                data = found.to_fit
                to_train = _TransformedShare(data, source=found)
                to_test = partial(found.inputs, "test")
            data.of(network)
            checkpoint = None
            if self.calls.continues(prefix):
                inputs: Any = found.digest if self._has_steps else split.train
                parameters = given.get("parameters") or {}
                checkpoint = self.calls.checkpoint(network, parameters, inputs)
        except Exception:  # the function will raise it in its place, and perhaps for fewer rows
            return None
        if self._has_steps:
            whole.steps = [*found.steps.steps, whole.steps[-1]]
        if checkpoint is not None and "checkpoint" not in fit_params:
            fit_params["checkpoint"] = checkpoint
        has_parameters = given.get("parameters") is not None
        return {
            **given,
            "estimator": _Configured(network) if has_parameters else network,
            "X": _Rows(split, to_train, to_test),
            "fit_params": fit_params,
        }


def _only_passes_on(scorer: Any) -> bool:
    """Return whether a scorer does nothing with X but to pass it to methods of the estimator."""
    if isinstance(scorer, _SEVERAL):
        return all(map(_only_passes_on, scorer._scorers.values()))
    return isinstance(scorer, _SCORERS)


def _are_rows(rows: Any, n_samples: int) -> bool:
    """Return whether these are indices that are not negative."""
    return (
        isinstance(rows, np.ndarray)
        and rows.ndim == 1
        and rows.dtype.kind in "iu"
        and len(rows) > 0
        and 0 <= rows.min()
        and rows.max() < n_samples
    )


def _n_samples(X: Any) -> int:
    shape = getattr(X, "shape", ())
    return int(shape[0]) if shape else len(X)


@cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)
