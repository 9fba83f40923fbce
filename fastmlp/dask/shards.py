"""What workers hold and do: samples, and the sums and steps that are computed on them.

Everything here runs on workers. A `Shard` stays where it is; weights come as arguments, and results
go back to the client.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
from dask.sizeof import sizeof
from numpy.typing import NDArray
from scipy.sparse import issparse, vstack

from fastmlp import backends
from fastmlp.core.inputs import Inputs
from fastmlp.core.network import Network, Parameters
from fastmlp.core.optimizers import Optimizer
from fastmlp.core.random_bits import Dropout
from fastmlp.estimators.parts import Encoding
from fastmlp.estimators.summaries import Moments, Questions, Summary, checked_part, summarized
from fastmlp.training import PartialSum, partial_sum, without_penalty

#: Columns whose bytes tell data from others when a fit goes on with a checkpoint.
_CHECKED_COLUMNS = 16


@dataclass(frozen=True)
class Task:
    """What does not change during a fit.

    Parameters
    ----------
    token : str
        Of the fit; engines that were made for another are not used.
    network : Network
    encoding : Encoding
    scale : tuple of array, or None
        The scaling of the inputs.
    backend : str
    held_out : float
        Fraction of each shard's samples, the last ones, that are not trained on.
    is_weighted : bool
    """

    token: str
    network: Network
    encoding: Encoding
    scale: tuple[NDArray, NDArray] | None
    backend: str
    held_out: float
    is_weighted: bool


@dataclass
class Shard:
    """Samples that stay on a worker.

    Parameters
    ----------
    X, y, weight : array
        Checked; `weight` may be None.
    """

    X: Any
    y: NDArray
    weight: NDArray | None
    _lock: Any = field(default_factory=threading.Lock, repr=False)
    _ready: dict[str, Any] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return what other workers need."""
        return {"X": self.X, "y": self.y, "weight": self.weight}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.X.shape[0]

    def __sizeof__(self) -> int:
        """Return the bytes, by which Dask decides where to compute and what to spill."""
        X = self.X
        of_X = X.data.nbytes + X.indices.nbytes if issparse(X) else X.nbytes
        return of_X + self.y.nbytes + (0 if self.weight is None else self.weight.nbytes)

    def n_trained(self, task: Task) -> int:
        """Return the number of samples that are not held out."""
        return len(self) - round(task.held_out * len(self))

    def inputs(self, task: Task, rows: Any = slice(None)) -> Inputs:
        """Return samples for an engine."""
        X, dtype = self.X[rows], task.encoding.dtype
        if issparse(X) or X.dtype != np.uint8:
            X = X.astype(dtype, copy=False)
        return Inputs(X if issparse(X) else np.ascontiguousarray(X), dtype, *(task.scale or ()))

    def targets(self, task: Task, rows: Any = slice(None)) -> tuple[NDArray, NDArray | None]:
        """Return the targets and weights of samples."""
        y = self.y[rows]
        weight = None if self.weight is None else self.weight[rows]
        weight = task.encoding.weights(y, weight)
        if weight is None and task.is_weighted:
            weight = np.ones(len(y), task.encoding.dtype)
        return task.encoding.targets(y), weight

    def engine(self, task: Task, *, penalty: bool) -> Any:
        """Return the engine for all samples that are trained on; made once per worker."""
        key = f"{task.token}-{penalty}"
        if key not in self._ready:
            rows = slice(0, self.n_trained(task))
            network = task.network if penalty else without_penalty(task.network)
            flat = np.zeros(network.n_parameters, task.encoding.dtype)
            self._ready.clear()  # of another fit
            self._ready[key] = backends.get(task.backend).Engine(
                network,
                Parameters(network, flat),
                self.inputs(task, rows),
                *self.targets(task, rows),
                _threads(),
                many_passes=True,
            )
        return self._ready[key]


def _threads() -> int:
    """Return the threads of this task: Dask limits those of libraries to one per task."""
    from distributed import get_worker

    try:
        state = get_worker().state
    except ValueError:  # not on a worker
        return 1
    return max(1, state.nthreads // max(1, len(state.executing)))


def for_each(
    shards: Sequence[Shard],
    function: Any,
    arguments: Sequence[Any],
    each: Sequence[Any] | None,
    adds: bool,
) -> list[Any]:
    """Return the results of a function of each shard, or their sum."""
    if each is None:
        found = (function(shard, *arguments) for shard in shards)
    else:
        found = (function(s, *arguments, own) for s, own in zip(shards, each, strict=True))
    return [reduce(operator.add, found)] if adds else list(found)


def same(value: Any) -> Any:
    """Return it: what a worker keeps for calls that need it."""
    return value


# ---------------------------------------------------------------------------- from partitions


def cut(parts: Sequence[Any], ask: Questions, number: int, n_pieces: int, deals: bool) -> list[Any]:
    """Return the pieces of a partition: consecutive rows, or rows dealt out at random."""
    X, y, weight = _checked(parts, ask, number)
    n = len(y)
    if deals:
        order = np.random.RandomState(number).permutation(n)  # the same when it is made again
        rows = [np.sort(order[i::n_pieces]) for i in range(n_pieces)]
    else:
        rows = np.array_split(np.arange(n), n_pieces)
    return [(X[r], y[r], None if weight is None else weight[r]) for r in rows]


def piece_of(pieces: list[Any], number: int) -> Any:
    """Return one of the pieces of `cut`."""
    return pieces[number]


def make_shard(pieces: Sequence[Any], ask: Questions | None, numbers: Sequence[int]) -> Shard:
    """Return the shard of some pieces or, if `ask` is given, of whole partitions."""
    if ask is not None:
        pieces = [_checked(parts, ask, n) for parts, n in zip(pieces, numbers, strict=True)]
    found = [piece for piece in pieces if len(piece[1])] or list(pieces[:1])
    Xs, ys, weights = zip(*found, strict=True)
    _refuse_mixed(Xs)
    X = vstack(Xs, format="csr") if issparse(Xs[0]) else np.concatenate(Xs)
    return Shard(X, np.concatenate(ys), None if weights[0] is None else np.concatenate(weights))


def _refuse_mixed(Xs: Sequence[Any]) -> None:
    kinds = {(issparse(X), X.shape[1]) for X in Xs}
    if len(kinds) > 1:
        words = sorted(f"{'sparse' if kind else 'dense'} ones of {n} columns" for kind, n in kinds)
        raise ValueError(f"all partitions of X must have the same columns, got {words}.")


def _checked(parts: Sequence[Any], ask: Questions, number: int) -> tuple[Any, Any, Any]:
    """Return a partition as arrays."""
    X, y, weight = parts
    if hasattr(X, "tocsr") and not issparse(X):  # of the package sparse
        X = X.tocsr()
    if issparse(X) and X.format != "csr":
        X = X.tocsr()
    return checked_part(X, y, weight, ask, where=f"In partition {number}: ")


def summarize(shard: Shard, ask: Questions) -> tuple[Summary | None, NDArray]:
    """Return what is known of a shard's samples, and their checksum."""
    if not len(shard):
        return None, np.zeros(0, np.uint64)
    checksum = _checksum(shard.X)
    if not ask.classifies:  # labels are counted
        checksum = np.append(checksum, _checksum(shard.y.reshape(len(shard), -1)))
    return summarized(shard.X, shard.y, shard.weight, ask), checksum


def _checksum(X: Any) -> NDArray:
    """Return sums over the rows of the bytes of some columns; they add up in any order."""
    if issparse(X):
        some = np.frombuffer(X.data, np.uint8).reshape(X.nnz, -1)
        indices = [np.uint64(X.nnz), X.indices.sum(dtype=np.uint64)]
        return np.append(some.sum(axis=0, dtype=np.uint64), np.array(indices, np.uint64))
    some = np.ascontiguousarray(X[:, :: -(-X.shape[1] // _CHECKED_COLUMNS)])
    return some.view(np.uint8).sum(axis=0, dtype=np.uint64)


def added_checksums(a: NDArray, b: NDArray) -> NDArray:
    """Return the checksum of the rows of both; one of no rows is empty."""
    return a + b if len(a) == len(b) else a if len(a) else b


def size_of(part: Any) -> int:
    """Return the bytes of a partition."""
    return int(sizeof(part))


# ------------------------------------------------------------------------------- while training


def gradient(shard: Shard, task: Task, flat: NDArray) -> PartialSum:
    """Return the sums over all samples of a shard, for L-BFGS."""
    if not shard.n_trained(task):
        return PartialSum.of(np.zeros(len(flat)), 0.0, 0.0)
    with shard._lock:
        return partial_sum(shard.engine(task, penalty=False), flat)


def gradient_of_rows(shard: Shard, task: Task, flat: NDArray, rows: NDArray) -> PartialSum:
    """Return the sums over some samples of a shard, for a batch of all workers together."""
    with shard._lock:
        engine = shard.engine(task, penalty=False)
        kept = engine.inputs, engine.targets, engine.sample_weight
        engine.bind(shard.inputs(task, rows), *shard.targets(task, rows))
        try:
            return partial_sum(engine, flat)
        finally:
            engine.bind(*kept)


@dataclass(frozen=True)
class Steps:
    """Some batches of an epoch, for one replica of the network.

    Parameters
    ----------
    flat : array of shape (n_parameters,)
    optimizer : Optimizer
        With its state.
    batch_size : int
    first, n_batches : int
        Of the replica's batches in this epoch.
    seed : int
        Of the epoch; each shard shuffles its samples by it, and by its own number.
    numbers, starts : sequence of int
        Of the replica's shards, and how many samples come before each of them.
    shuffles : bool
    dropout : Dropout or None
    """

    flat: NDArray
    optimizer: Optimizer
    batch_size: int
    first: int
    n_batches: int
    seed: int
    numbers: Sequence[int]
    starts: Sequence[int]
    shuffles: bool
    dropout: Dropout | None


@dataclass(frozen=True)
class Stepped:
    """What a replica has after its steps: weights, optimiser, summed loss, and samples."""

    flat: NDArray
    state: list[NDArray]
    t: int
    loss: float
    n_samples: int


def local_steps(shards: Sequence[Shard], task: Task, steps: Steps) -> Stepped:
    """Train a replica on its next batches."""
    flat, optimizer = steps.flat.copy(), steps.optimizer
    optimizer.adapt(flat)
    for name, state in zip(optimizer.state_names, optimizer.state, strict=True):
        setattr(optimizer, name, state.copy())  # what Dask hands over may be read-only
    loss, n_samples = 0.0, 0
    skipped, left, size = steps.first, steps.n_batches, steps.batch_size
    for shard, number, start in zip(shards, steps.numbers, steps.starts, strict=True):
        n = shard.n_trained(task)
        n_batches = -(-n // size)
        first = min(skipped, n_batches)
        taken = min(left, n_batches - first)
        skipped, left = skipped - first, left - taken
        if not taken:
            continue
        order = np.arange(n)
        if steps.shuffles:
            np.random.RandomState([steps.seed, number]).shuffle(order)
        order = order[first * size : (first + taken) * size]
        dropout = steps.dropout and replace(steps.dropout, start=start + first * size)
        with shard._lock:
            engine = shard.engine(task, penalty=True)
            engine.parameters.flat[...] = flat
            engine.load()
            loss += engine.train_epoch(order, size, optimizer, dropout)
            engine.sync()
            flat[...] = engine.parameters.flat
        n_samples += len(order)
    return Stepped(flat, optimizer.state, optimizer.t, loss, n_samples)


@dataclass(frozen=True)
class Scored:
    """Held-out samples of a shard: sums of weights and losses, and what a score is made of.

    Parameters
    ----------
    weight, loss : float
    score : float
        A classifier's, times the weight.
    residuals : array of shape (n_outputs,), or None
        Of a regressor: weighted squares of what is left of the targets.
    targets : Moments or None
        Of the targets, weighted.
    """

    weight: float
    loss: float
    score: float
    residuals: NDArray | None = None
    targets: Moments | None = None


def validate(shard: Shard, task: Task, flat: NDArray) -> Scored:
    """Return what is known of held-out samples."""
    rows = slice(shard.n_trained(task), len(shard))
    y = shard.y[rows]
    if not len(y):
        return Scored(0.0, 0.0, 0.0)
    inputs, (targets, weight) = shard.inputs(task, rows), shard.targets(task, rows)
    parameters = Parameters(task.network, np.ascontiguousarray(flat))
    outputs = np.empty(targets.shape, targets.dtype)
    backends.get(task.backend).predict(
        task.network, parameters.coefs, parameters.intercepts, inputs, _threads(), outputs
    )
    total = float(len(y) if weight is None else weight.sum(dtype=np.float64))
    if total == 0:
        return Scored(0.0, 0.0, 0.0)
    loss = total * float(task.network.loss_value(targets, outputs, weight))
    raw = task.encoding.raw(y)
    if task.encoding.classifies:
        return Scored(total, loss, total * task.encoding.score(raw, outputs, weight))
    predicted = task.encoding.unscaled(outputs)
    w = np.ones((len(y), 1)) if weight is None else weight[:, np.newaxis].astype(np.float64)
    mean = (w * raw).sum(axis=0) / total
    return Scored(
        total,
        loss,
        0.0,
        (w * (raw - predicted) ** 2).sum(axis=0),
        Moments(total, mean, (w * (raw - mean) ** 2).sum(axis=0)),
    )
