"""`DaskMLPClassifier` and `DaskMLPRegressor`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from numbers import Integral
from typing import Any, Self

import dask
import dask.array as da
import numpy as np

from fastmlp.dask import shards
from fastmlp.dask.cluster import Call, Cluster, NoClientError, without_a_slot
from fastmlp.dask.partitions import paired
from fastmlp.dask.training import Partitioned
from fastmlp.estimators import MLPClassifier, MLPRegressor, constraints
from fastmlp.training import Checkpoint
from fastmlp.utils.threads import one_blas_thread

#: Bytes of a model from which Dask advises against a place in the graph.
_LARGE_MODEL = 8 << 20

#: Batches between two averages; see docs/scaling.md for the measurement.
SYNC_EVERY = 300


class _DaskMLP:
    """What both estimators have in common."""

    _local: type
    client: Any
    sync_every: int

    def __init__(self, *args: Any, client: Any = None, sync_every: int = SYNC_EVERY, **others: Any):
        super().__init__(*args, **others)
        self.client, self.sync_every = client, sync_every

    @classmethod
    def _get_param_names(cls) -> list[str]:
        """Return the names of the parameters, which can be cloned; a client cannot."""
        names: list[str] = super()._get_param_names()  # type: ignore[misc]
        return [name for name in names if name != "client"]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle: a client stays in its process."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        return {**state, "client": None}

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    ) -> Self:
        """Train the network where the partitions are.

        Parameters
        ----------
        X : dask.array.Array or dask.dataframe.DataFrame of shape (n_samples, n_features)
            Partitions may be empty, of any length, unknown lengths, or sparse matrices. If they
            are lazy, they are computed once and kept on the workers.
        y : dask.array.Array, Series or DataFrame
            Labels, 0/1 columns (multilabel) or numbers; chunked as X, or in another way if all
            lengths are known.
        sample_weight : dask.array.Array or Series, optional
        X_val, y_val, sample_weight_val : array-like, optional
            Validation data, in the client's memory.
        checkpoint : path or fastmlp.Checkpoint, optional
            Written by the client; see `MLPClassifier.fit`.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If data or parameters are invalid, or there is no client.
        NoWorkersError
            If all workers are gone for a minute.
        """
        constraints.validate({"sync_every": self.sync_every}, _CONSTRAINTS, type(self).__name__)
        options: dict[str, Any] = {}
        if any(part is not None for part in (X_val, y_val, sample_weight_val)):
            options["validation"] = (X_val, y_val, sample_weight_val)
        if checkpoint is not None:
            options["checkpoint"] = Checkpoint.of(checkpoint)
        every = 1 if self.solver == "lbfgs" else self.sync_every  # type: ignore[attr-defined]
        cluster = Cluster(self.client)
        # The client's sums are small, and threads of BLAS libraries spin when they are done.
        with cluster.client.as_current(), one_blas_thread, without_a_slot():
            source = Partitioned(cluster, paired(X, y, sample_weight), every)
            try:
                return self._fit(source, None, **options)  # type: ignore[attr-defined]
            finally:
                source.release()

    def partial_fit(self, X: Any, y: Any, *_: Any, **__: Any) -> Any:
        """Refuse: epochs of parts are for local models."""
        raise TypeError(
            f"{type(self).__name__} has no partial_fit; use fit with warm_start=True, or "
            "to_local().partial_fit."
        )

    def predict(self, X: Any) -> Any:
        """Predict labels or targets; lazily for Dask's collections.

        Parameters
        ----------
        X : dask.array.Array, dask.dataframe.DataFrame, or array-like

        Returns
        -------
        dask.array.Array, Series or DataFrame, or array
        """
        return self._lazily(X, "predict")

    def _lazily(self, X: Any, method: str) -> Any:
        """Return a method's result for a collection, a partition at a time, or for an array."""
        local = self.to_local()
        if not dask.is_dask_collection(X):
            return getattr(local, method)(X)
        like = getattr(local, method)(_one_row(local))
        model = self._sent(local)
        call: Callable[..., Any] = _called
        if not hasattr(X, "chunks"):
            meta = _as_frame(like[:0], X._meta.index[:0], local, method)
            return X.map_partitions(call, model, method, meta=meta, enforce_metadata=False)
        if len(X.chunks[1]) > 1:
            X = X.rechunk({1: -1})
        shape = {"drop_axis": 1} if like.ndim == 1 else {"chunks": (X.chunks[0], like.shape[1:])}
        return da.map_blocks(call, X, model, method, dtype=like.dtype, meta=like[:0], **shape)

    def _sent(self, local: Any) -> Any:
        """Return a model for Dask's graphs; a large one is sent at once, and only once."""
        size = sum(part.nbytes for part in local.coefs_)
        if size > _LARGE_MODEL:
            try:
                return Cluster(self.client).submit(Call("mlp-model", shards.same, (local,)))
            except NoClientError:
                pass
        return dask.delayed(local, pure=False)

    def to_local(self) -> Any:
        """Return the estimator for arrays, with this one's parameters and weights.

        Returns
        -------
        MLPClassifier or MLPRegressor
        """
        names = self._local._get_param_names()  # type: ignore[attr-defined]
        local = self._local(**{name: getattr(self, name) for name in names})
        state = {k: v for k, v in self.__getstate__().items() if k not in ("client", "sync_every")}
        local.__setstate__({**local.__getstate__(), **state})
        return local


class DaskMLPClassifier(_DaskMLP, MLPClassifier):  # type: ignore[misc]
    """Multilayer perceptron classification on Dask's arrays and data frames.

    ``solver="lbfgs"`` is exact: the gradient is the sum over all partitions, in their order, and
    differs from that of one machine by rounding only. With the other solvers, rows are dealt out to
    the workers at random, once; each worker trains a replica of the network on its rows, with a
    part of `batch_size`; after `sync_every` batches, weights and the optimiser's state are
    averaged. A worker that dies costs the calls that it was computing; those that join are used
    from the next epoch on. The seconds, and what averaging costs, are in docs/scaling.md.

    Parameters
    ----------
    client : distributed.Client, optional
        By default the current one. Not a parameter for searches and clones.
    sync_every : int
        Batches of each worker between two averages. 1 is exact: a batch's gradient is the sum over
        all workers, in the order of samples of `MLPClassifier`; it takes a message to each of them
        per batch.
    **others
        Those of `MLPClassifier`, except for `augment`.

    Attributes
    ----------
    coefs_, intercepts_, classes_, loss_curve_, history_, ...
        Those of `MLPClassifier`.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client
    >>> from fastmlp.dask import DaskMLPClassifier
    >>> client = Client(processes=False, n_workers=2, dashboard_address=None)
    >>> X = da.random.default_rng(0).normal(size=(1000, 5), chunks=(250, 5))
    >>> y = X[:, 0] > X[:, 1]
    >>> model = DaskMLPClassifier((20,), solver="lbfgs", random_state=0).fit(X, y)
    >>> bool((model.predict(X) == y).mean().compute() > 0.99)
    True
    >>> model.to_local().predict([[1.0, 0, 0, 0, 0]])
    array([ True])
    >>> client.close()
    """

    _local = MLPClassifier

    def predict_proba(self, X: Any) -> Any:
        """Predict the probability of each class; lazily for Dask's collections.

        Parameters
        ----------
        X : dask.array.Array, dask.dataframe.DataFrame, or array-like

        Returns
        -------
        dask.array.Array or DataFrame, or array, of shape (n_samples, n_classes)
        """
        return self._lazily(X, "predict_proba")

    def predict_log_proba(self, X: Any) -> Any:
        """Predict the logarithm of the probability of each class; lazily as `predict_proba`."""
        return self._lazily(X, "predict_log_proba")


class DaskMLPRegressor(_DaskMLP, MLPRegressor):  # type: ignore[misc]
    """Multilayer perceptron regression on Dask's arrays and data frames.

    See `DaskMLPClassifier`.

    Parameters
    ----------
    client : distributed.Client, optional
    sync_every : int
        As for `DaskMLPClassifier`.
    **others
        Those of `MLPRegressor`, except for `augment`.
    """

    _local = MLPRegressor


_CONSTRAINTS = {"sync_every": [constraints.Interval(Integral, 1, None, "[)")]}


def _with_signature(estimator: type, local: type) -> None:
    """Give an estimator's __init__ the signature of the local one, and the two parameters."""
    own = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in (("client", None), ("sync_every", SYNC_EVERY))
    ]
    there = list(inspect.signature(local.__init__).parameters.values())  # type: ignore[misc]

    def __init__(self: Any, *args: Any, **others: Any) -> None:
        _DaskMLP.__init__(self, *args, **others)

    __init__.__signature__ = inspect.Signature([*there, *own])  # type: ignore[attr-defined]
    estimator.__init__ = __init__  # type: ignore[misc]


_with_signature(DaskMLPClassifier, MLPClassifier)
_with_signature(DaskMLPRegressor, MLPRegressor)


def _one_row(model: Any) -> Any:
    """Return a row of zeros, with names if the model has seen some."""
    row = np.zeros((1, model.n_features_in_))
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        return row
    import pandas as pd

    return pd.DataFrame(row, columns=names)


def _called(part: Any, model: Any, method: str) -> Any:
    """Return a method's result for a partition."""
    if not len(part) and part.shape[1:]:
        result = getattr(model, method)(_one_row(model))[:0]
    else:
        result = getattr(model, method)(part)
    index = getattr(part, "index", None)
    return result if index is None else _as_frame(result, index, model, method)


def _as_frame(result: Any, index: Any, model: Any, method: str) -> Any:
    """Return predictions with the index of a data frame."""
    import pandas as pd

    if result.ndim == 1:
        return pd.Series(result, index)
    return pd.DataFrame(result, index, getattr(model, "classes_", None))
