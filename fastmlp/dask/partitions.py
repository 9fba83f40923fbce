"""From Dask's collections to shards on the workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask
import numpy as np
from dask.core import flatten
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from fastmlp.dask import shards
from fastmlp.estimators.summaries import Questions

#: Rows are dealt out so that a shard has pieces of about so many partitions, or of all.
_MIXED = 64


@dataclass(frozen=True)
class Partitions:
    """The partitions of X, y and the weights, in pairs.

    Parameters
    ----------
    collections : tuple
        X, y and, perhaps, weights.
    keys : list of list
        Dask's keys, one list per partition.
    shape : tuple
        Of X; the number of rows may be NaN, which is "unknown".
    n_bytes : float
        Of X, or NaN.
    """

    collections: tuple[Any, ...]
    keys: list[list[Any]]
    shape: tuple[float, int]
    n_bytes: float

    def __len__(self) -> int:
        """Return the number of partitions."""
        return len(self.keys)


def paired(X: Any, y: Any, sample_weight: Any) -> Partitions:
    """Return collections whose partitions belong together.

    Parameters
    ----------
    X : dask.array.Array or dask.dataframe.DataFrame
    y : dask.array.Array, Series or DataFrame
    sample_weight : dask.array.Array or Series, or None

    Raises
    ------
    TypeError, ValueError
        If they are no collections, or do not fit together.
    """
    named = {"X": X, "y": y, "sample_weight": sample_weight}
    if sample_weight is None:
        del named["sample_weight"]
    for name, values in named.items():
        if not dask.is_dask_collection(values) or not hasattr(values, "npartitions"):
            raise TypeError(
                f"{name} must be a Dask array or data frame, got {type(values).__name__}; use "
                "dask.array.from_array, or MLPClassifier and MLPRegressor for data in memory."
            )
    if X.ndim != 2:
        raise ValueError(f"X must have two dimensions, got {X.ndim}; reshape it.")
    named = {name: _whole_rows(values) for name, values in named.items()}
    X = named["X"]
    for name, values in list(named.items())[1:]:
        if _row_chunks(X) is not None and _row_chunks(values) is not None:
            if sum(_row_chunks(X)) != sum(_row_chunks(values)):
                raise ValueError(
                    f"X and {name} must have the same number of rows, got {sum(_row_chunks(X))} "
                    f"and {sum(_row_chunks(values))}."
                )
            if _row_chunks(X) != _row_chunks(values):
                named[name] = values.rechunk({0: _row_chunks(X)})
        elif _n_partitions(values) != _n_partitions(X):
            raise ValueError(
                f"X and {name} must have the same partitions where their lengths are unknown, got "
                f"{_n_partitions(X)} and {_n_partitions(values)}; call compute_chunk_sizes() or "
                "repartition them."
            )
    collections = tuple(named.values())
    keys = [list(flatten(values.__dask_keys__())) for values in collections]
    rows, columns = (*X.shape, 0)[:2]
    n_rows = float(rows) if isinstance(rows, int | float) else float("nan")
    n_bytes = float(X.nbytes) if hasattr(X, "chunks") else float("nan")
    together = [list(of_partition) for of_partition in zip(*keys, strict=True)]
    return Partitions(collections, together, (n_rows, columns), n_bytes)


def _whole_rows(values: Any) -> Any:
    """Return a collection whose partitions have all columns."""
    if hasattr(values, "chunks") and values.ndim == 2 and len(values.chunks[1]) > 1:
        return values.rechunk({1: -1})
    return values


def _row_chunks(values: Any) -> Any:
    """Return the lengths of an array's chunks, None if they are not known."""
    if not hasattr(values, "chunks") or np.isnan(values.chunks[0]).any():
        return None
    return values.chunks[0]


def _n_partitions(values: Any) -> int:
    return len(values.chunks[0]) if hasattr(values, "chunks") else values.npartitions


def plan(
    partitions: Partitions,
    ask: Questions,
    n_shards: int,
    *,
    deals: bool,
    workers: Sequence[str] = (),
    token: str = "",
) -> list[Delayed]:
    """Return shards, not computed yet.

    Parameters
    ----------
    partitions : Partitions
    ask : Questions
    n_shards : int
        At least so many; with few partitions, these are cut.
    deals : bool
        Whether rows are dealt out at random. Otherwise the shards are consecutive rows, in order.
    workers : sequence of str, optional
        Addresses; shards are spread over them if they are still there.
    token : str, optional
        Part of the keys: those of other fits are others.
    """
    n = len(partitions)
    if deals:
        n_pieces = min(n_shards, -(-_MIXED * n_shards // n))
        groups: list[list[tuple[int, int]]] = [[] for _ in range(n_shards)]
        # Neighbours in a random order share shards, since neighbouring partitions are often alike.
        for place, part in enumerate(np.random.RandomState(0).permutation(n).tolist()):
            for piece in range(n_pieces):
                groups[(place * n_pieces + piece) % n_shards].append((part, piece))
    else:
        n_pieces = -(-n_shards // n)
        pieces = [(part, piece) for part in range(n) for piece in range(n_pieces)]
        ends = np.linspace(0, len(pieces), min(n_shards, len(pieces)) + 1).round().astype(int)
        groups = [pieces[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)]
    groups = [group for group in groups if group]
    return _graph(partitions, ask, groups, n_pieces, deals, workers, token)


def some_partitions(
    partitions: Partitions, ask: Questions, groups: Sequence[Sequence[int]], token: str = ""
) -> list[Delayed]:
    """Return a shard of whole partitions for each group of their numbers."""
    pieces = [[(part, 0) for part in group] for group in groups]
    return _graph(partitions, ask, pieces, 1, False, (), token)


def first_of(partitions: Partitions, function: Any) -> Delayed:
    """Return a function of the first partition of X, not computed yet."""
    name = f"mlp-first-{dask.base.tokenize(partitions.keys[0])}"
    layer = {name: (function, partitions.keys[0][0])}
    graph = HighLevelGraph.from_collections(name, layer, dependencies=partitions.collections)
    return Delayed(name, graph, layer=name)


def _graph(
    partitions: Partitions,
    ask: Questions,
    groups: Sequence[Sequence[tuple[int, int]]],
    n_pieces: int,
    deals: bool,
    workers: Sequence[str],
    token: str,
) -> list[Delayed]:
    """Return the shards of groups of pieces."""
    unique = dask.base.tokenize(
        partitions.keys[0], len(partitions), groups, n_pieces, deals, ask, token
    )
    name, cut = f"mlp-shard-{unique}", f"mlp-deal-{unique}"
    layer: dict[Any, Any] = {}
    cuts: dict[Any, Any] = {}
    if n_pieces > 1:
        for part in sorted({part for group in groups for part, _ in group}):
            cuts[cut, part] = (
                *(shards.cut, _padded(partitions.keys[part]), ask, part, n_pieces, deals),
            )
    for number, group in enumerate(groups):
        numbers = [part for part, _ in group]
        if n_pieces > 1:
            pieces = [(shards.piece_of, (cut, part), piece) for part, piece in group]
            layer[name, number] = (shards.make_shard, pieces, None, numbers)
        else:
            values = [_padded(partitions.keys[part]) for part in numbers]
            layer[name, number] = (shards.make_shard, values, ask, numbers)
    # Only shards are restricted: Dask never computes a task that has no dependency if it is
    # restricted to a worker that is gone, not even loosely, and no other was there at the time.
    where = {"workers": partial(_place, workers), "allow_other_workers": True} if workers else None
    before = HighLevelGraph.from_collections(cut, cuts, dependencies=partitions.collections)
    graph = HighLevelGraph(
        {**before.layers, name: MaterializedLayer(layer, annotations=where)},
        {**before.dependencies, name: set(before.layers)},
    )
    return [Delayed((name, number), graph, layer=name) for number in range(len(groups))]


def _place(workers: Sequence[str], key: tuple[str, int]) -> list[str]:
    """Return the worker for a shard."""
    return [workers[key[1] % len(workers)]]


def _padded(keys: list[Any]) -> list[Any]:
    """Return the keys of X, y and weights; None for weights if there are none."""
    return keys if len(keys) == 3 else [*keys, None]
