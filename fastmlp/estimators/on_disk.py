"""Fits on data larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from fastmlp import backends
from fastmlp.blocks import Rows, Windows, gathered, is_on_disk
from fastmlp.core.optimizers import Optimizer
from fastmlp.estimators.parts import Encoding, Job, Source, Trainer
from fastmlp.estimators.samples import Samples, Share
from fastmlp.estimators.summaries import Questions, Summary, added, summarized
from fastmlp.estimators.weights import check_any_weight
from fastmlp.training import InMemory, Noise, SummedObjective, digest, partial_sum, without_penalty
from fastmlp.utils import memory

#: Parts of `max_memory`: what data in memory may take, and each of the two windows. The rest is for
#: the process itself, converted data, and the engine.
_IN_MEMORY, _WINDOW = 0.5, 0.25

#: Part of the machine's memory that a file may take to be kept there by the operating system.
_CACHED = 0.5

#: Bytes of a window of held-out samples.
_HELD_OUT_BYTES = 32 << 20

#: Rows that are summarised at a time, in bytes.
_SUMMARY_BYTES = 16 << 20

#: Rows that are compared when a fit goes on with a checkpoint.
_COMPARED = 256


@contextmanager
def opened(X: Any, y: Any, sample_weight: Any, max_memory: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Make of what was passed to `fit` what `_fit` takes.

    Parameters
    ----------
    X, y, sample_weight
        As for `fit`.
    max_memory : int, str or None

    Yields
    ------
    X, y, sample_weight
        As they were, or in memory; or a `Source` and twice None.
    """
    if max_memory is None and not is_large_kind(X, y):
        yield X, y, sample_weight
        return
    limit = memory.of_this_machine() if max_memory is None else memory.as_bytes(max_memory)
    budget = float("inf") if limit is None else float(limit)
    if not is_batches(X, y):
        yield _in_memory_or_source(X, y, sample_weight, budget, max_memory)
        return
    if sample_weight is not None:
        raise ValueError(
            "sample_weight must be part of the batches, (X, y, sample_weight), got a separate one."
        )
    with gathered(X, _IN_MEMORY / 2 * budget) as found:  # joining them takes as much again
        X = found.X
        if found.columns is not None and not isinstance(X, Rows):
            import pandas as pd

            X = pd.DataFrame(X, columns=found.columns)
        yield _in_memory_or_source(
            X, found.y, found.sample_weight, budget, max_memory, found.columns
        )


def is_batches(X: Any, y: Any) -> bool:
    """Return whether X is an iterable of batches: without y it can be nothing else."""
    is_table = hasattr(X, "shape") or hasattr(X, "__array__") or isinstance(X, str | bytes | Share)
    return y is None and isinstance(X, Iterable) and not is_table and not isinstance(X, Source)


def is_large_kind(X: Any, y: Any) -> bool:
    """Return whether X may be larger than memory."""
    return is_on_disk(X) or is_batches(X, y)


def _in_memory_or_source(
    X: Any, y: Any, sample_weight: Any, budget: float, max_memory: Any, columns: Any = None
) -> tuple[Any, Any, Any]:
    n_bytes = np.dtype(X.dtype).itemsize * float(np.prod(X.shape)) if is_on_disk(X) else 0.0
    if not isinstance(X, Rows) and (n_bytes <= _IN_MEMORY * budget or y is None):
        if is_on_disk(X) and not isinstance(X, np.ndarray):
            X = X[:]
        return X, y, sample_weight
    if X.ndim != 2 if hasattr(X, "ndim") else len(X.shape) != 2:
        raise ValueError(f"X must have two dimensions, got the shape {X.shape}; reshape it.")
    return OnDisk(X, y, sample_weight, budget, columns), None, None


@dataclass
class _Data:
    X: Rows
    y: Any
    weight: Any
    encoding: Encoding

    def targets(self, start: int, stop: int) -> NDArray:
        return self.encoding.targets(self.y[start:stop])

    def raw(self, start: int, stop: int) -> NDArray:
        return self.encoding.raw(self.y[start:stop])

    def weights(self, start: int, stop: int) -> NDArray:
        weight = None if self.weight is None else self.weight[start:stop]
        found = self.encoding.weights(self.y[start:stop], weight)
        assert found is not None
        return found

    @property
    def has_weights(self) -> bool:
        return self.weight is not None or self.encoding.weighs


class OnDisk(Source):
    """Rows that are read in blocks.

    Parameters
    ----------
    X : array-like on disk, or Rows, of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    sample_weight : array-like of shape (n_samples,), or None
    budget : float
        Bytes of memory for everything.
    columns : sequence, optional
        The names of the features.
    """

    def __init__(self, X: Any, y: Any, sample_weight: Any, budget: float, columns: Any) -> None:
        self.shape = tuple(X.shape)
        self._budget, self._columns = budget, columns
        machine = memory.of_this_machine() or float("inf")
        n_bytes = float(np.prod(X.shape)) * np.dtype(X.dtype).itemsize
        self._X = X if isinstance(X, Rows) else Rows(X, caches=n_bytes < _CACHED * machine)
        self._y, self._weight = _as_rows(y, "y"), None
        if sample_weight is not None:
            self._weight = _as_rows(sample_weight, "sample_weight")
        for name, rows in (("y", self._y), ("sample_weight", self._weight)):
            if rows is not None and len(rows) != len(self._X):
                raise ValueError(
                    f"X and {name} must have the same number of rows, got {len(self._X)} and "
                    f"{len(rows)}."
                )

    def summarize(self, ask: Questions) -> Summary:
        """Go through all samples once; through the bytes of X only to standardise them."""
        n = len(self._X)
        rows = max(1, _SUMMARY_BYTES // max(1, 8 * self.shape[1]))
        reads_X = ask.moments_X or self._X.dtype != np.uint8
        step = -(-n // 512)
        some = np.concatenate([self._X[start : start + 1] for start in range(0, n, step)])

        def parts() -> Iterator[Summary | None]:
            for start in range(0, n, rows):
                stop = min(start + rows, n)
                y = self._y[start:stop]
                weight = None if self._weight is None else self._weight[start:stop]
                X = self._X[start:stop] if reads_X else np.zeros((stop - start, 1), np.uint8)
                where = f"In rows {start} to {stop - 1}: "
                found = summarized(X, y, weight, ask, where=where)
                yield None if found is None else found.with_rows(X[:0])

        found = added(parts())
        if found is None:
            raise ValueError(f"X must have at least one row, got the shape {self.shape}.")
        kept = (np.uint8, np.float32, np.float64) if ask.dtype is None else (np.uint8, ask.dtype)
        X_dtype = self._X.dtype if self._X.dtype in kept else np.dtype(ask.dtype or np.float64)
        return found.with_rows(some.astype(X_dtype), self._columns)

    def facts(self) -> dict[str, str]:
        """Return digests of y and the weights, and of some rows of X."""
        n = len(self._X)
        rows = [self._X[start : start + 1] for start in range(0, n, -(-n // _COMPARED))]
        return {
            "data: X": f"{self.shape} {digest(np.concatenate(rows))}",
            "data: y": _digest_of(self._y),
            "data: sample_weight": _digest_of(self._weight),
            "max_memory": f"{self._budget:.0f}",  # the windows depend on it
        }

    def trainer(self, job: Job) -> Trainer:
        """Make an engine, and the passes that give it windows."""
        data = _Data(self._X, self._y, self._weight, job.encoding)
        model, is_lbfgs = job.model, job.model.solver == "lbfgs"
        batch_rows = 1 if is_lbfgs else model._batch_rows(len(self._X))
        X_dtype = np.dtype(np.uint8) if self._X.dtype == np.uint8 else job.dtype
        window_bytes = int(min(_WINDOW * self._budget, 1 << 40))

        def windows(targets: Any, n_bytes: int, block_rows: int | None = None) -> Windows:
            weights = data.weights if data.has_weights else None
            return Windows(
                *(self._X, X_dtype, targets, weights),
                n_bytes=n_bytes,
                batch_size=batch_rows,
                block_rows=block_rows,
            )

        trained_on = windows(data.targets, window_bytes)
        if trained_on.n_blocks and not trained_on.fits:
            raise ValueError(
                f"max_memory={self._budget:.0f} is too small: a quarter of it must hold a batch of "
                f"{batch_rows} rows by {self.shape[1]} features and as many again; pass a larger "
                "max_memory or a smaller batch_size."
            )
        blocks = np.arange(trained_on.n_blocks)
        validate, n_samples = None, len(self._X)
        if job.holds_out:
            blocks, aside = _split(blocks, model.validation_fraction, job.random_state)
            n_samples = sum(map(trained_on.rows_of, blocks.tolist()))
            held_out = windows(data.raw, min(window_bytes, _HELD_OUT_BYTES), trained_on.block_rows)
            validate = partial(_validate, job, held_out, aside)
        dropout, seed = job.dropout()
        job.resume(0 if is_lbfgs else len(blocks))
        some = np.ascontiguousarray(job.some.X[:_COMPARED], X_dtype)
        engine = backends.get(model.backend).Engine(
            without_penalty(job.network) if is_lbfgs else job.network,
            job.parameters,
            job.inputs(some),
            np.zeros((len(some), job.network.n_outputs), job.dtype),
            np.ones(len(some), job.dtype) if data.has_weights else None,
            model.n_threads,
            many_passes=False,
        )
        if validate is not None:
            validate = partial(validate, engine)
        passes: Callable[..., _Pass] = partial(
            _Pass, engine, trained_on, blocks, n_samples, job, Noise(dropout), seed
        )
        if not is_lbfgs:
            return Trainer(engine, passes, validate, n_samples)

        def sums(flat: NDArray) -> Iterator[Any]:
            for window in trained_on(blocks):
                rows = slice(window.order[0], window.order[-1] + 1)
                weight = None if window.weight is None else window.weight[rows]
                engine.bind(job.inputs(window.X[rows]), window.Y[rows], weight)
                yield partial_sum(engine, flat)

        objective = SummedObjective(job.network, job.parameters, sums, engine.predict)
        return Trainer(objective, passes, None, n_samples)


class _Pass:
    """Epochs over windows; see `Pass`."""

    def __init__(
        self,
        engine: Any,
        windows: Windows,
        blocks: NDArray,
        n_samples: int,
        job: Job,
        noise: Noise,
        seed: int,
        batch_size: int,
        *,
        order: NDArray | None = None,
    ) -> None:
        self.order = np.arange(len(blocks)) if order is None else order
        self._engine, self._windows, self._blocks = engine, windows, blocks
        self._n_samples, self._job, self._noise, self._seed = n_samples, job, noise, seed
        self._batch_size = batch_size

    def train_epoch(
        self, number: int, optimizer: Optimizer, on_samples: Callable[[int], None] | None
    ) -> float:
        """Train on every window once."""
        job = self._job
        shuffles = bool(job.model.shuffle)
        if shuffles:
            permutation = np.arange(len(self.order))
            job.random_state.shuffle(permutation)
            self.order = self.order[permutation]
        summed_loss, n_before = 0.0, 0
        blocks = self._blocks[self.order]
        for window in self._windows(blocks, job.random_state if shuffles else None):
            self._engine.bind(job.inputs(window.X), window.Y, window.weight)
            n = len(window.order)
            part = InMemory(
                self._engine,
                n,
                self._batch_size,
                shuffle=False,
                random_state=job.random_state,
                noise=self._of_window(window, n_before),
                order=window.order,
                n_before=n_before,
            )
            summed_loss += part.train_epoch(number, optimizer, None) * n
            n_before += n
            if on_samples is not None:
                on_samples(n_before)
        return summed_loss / self._n_samples

    def _of_window(self, window: Any, n_before: int) -> Noise:
        model = self._job.model
        if model.augment is None:
            return self._noise
        samples = Samples(window.X, window.Y, window.weight)
        augmented = model._augmented(samples, self._job.dtype, self._seed + n_before)
        return Noise(self._noise.dropout, augmented)


def _validate(job: Job, windows: Windows, blocks: NDArray, engine: Any) -> tuple[float, float]:
    """Return loss and score on held-out blocks."""
    outputs, raws, weights = [], [], []
    for window in windows(blocks):
        rows = slice(window.order[0], window.order[-1] + 1)
        out = np.empty((len(window.order), job.network.n_outputs), job.dtype)
        engine.predict(job.inputs(window.X[rows]), out)
        outputs.append(out)
        raws.append(window.Y[rows].copy())
        if window.weight is not None:
            weights.append(window.weight[rows].copy())
    raw, output = np.concatenate(raws), np.concatenate(outputs)
    weight = np.concatenate(weights) if weights else None
    if weight is not None:
        check_any_weight(weight)
    targets = job.encoding.from_raw(raw)
    loss = job.network.loss_value(targets, output, weight)
    return float(loss), job.encoding.score(raw, output, weight)


def _split(
    blocks: NDArray, fraction: float, random_state: np.random.RandomState
) -> tuple[NDArray, NDArray]:
    """Return blocks to train on, and those that are held out, both in order."""
    n_held_out = max(1, round(fraction * len(blocks)))
    if n_held_out >= len(blocks):
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of your "
            "dataset."
        )
    chosen = np.zeros(len(blocks), bool)
    chosen[random_state.permutation(len(blocks))[:n_held_out]] = True
    return blocks[~chosen], blocks[chosen]


def _as_rows(values: Any, name: str) -> Any:
    """Return y or weights as an array, or as they are on disk."""
    if values is None or issparse(values):
        raise ValueError(f"{name} must be a dense array, got {type(values).__name__}.")
    if isinstance(values, Rows):
        return values
    if not np.ndim(values):
        raise ValueError(f"{name} must have one element per row of X, got {values!r}.")
    return Rows(values) if is_on_disk(values) else np.asarray(values)


def _digest_of(rows: Any) -> str:
    if rows is None:
        return "none"
    if not isinstance(rows, Rows):
        return digest(rows)
    return " ".join(
        digest(rows[start : start + (1 << 20)]) for start in range(0, len(rows), 1 << 20)
    )
