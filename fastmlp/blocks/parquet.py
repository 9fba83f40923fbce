"""Batches of a Parquet file."""

import os
from collections.abc import Iterator, Sequence
from typing import Any


class ParquetBatches:
    """The rows of a Parquet file, or of a folder of them, in batches; see `read_parquet`."""

    def __init__(
        self,
        path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        target: str | Sequence[str],
        columns: Sequence[str] | None,
        sample_weight: str | None,
        batch_rows: int,
    ) -> None:
        try:
            from pyarrow import dataset
        except ImportError:
            raise ImportError(
                "reading Parquet needs pyarrow, which is not installed: "
                "pip install 'fastmlp[tables]'"
            ) from None
        paths = [path] if isinstance(path, str | os.PathLike) else list(path)
        names = [os.fspath(one) for one in paths]
        self._source = dataset.dataset(names[0] if len(names) == 1 else names, format="parquet")
        there = self._source.schema.names
        if not there:
            raise ValueError(f"{', '.join(names)} must hold Parquet files, got none.")
        targets = [target] if isinstance(target, str) else list(target)
        aside = [*targets, *([] if sample_weight is None else [sample_weight])]
        if columns is None:
            columns = [name for name in there if name not in aside]
        for name in (*columns, *aside):
            if name not in there:
                listed = ", ".join(there[:20]) + (", ..." if len(there) > 20 else "")
                raise ValueError(f"{', '.join(names)} has no column {name!r}; it has {listed}.")
        _refuse_text(self._source.schema, columns)
        self._columns, self._target = list(columns), target
        self._weight, self._batch_rows = sample_weight, batch_rows

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self._source.count_rows()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Yield DataFrames of the columns, targets and, if asked for, weights."""
        targets = [self._target] if isinstance(self._target, str) else list(self._target)
        weight = [] if self._weight is None else [self._weight]
        read = dict.fromkeys([*self._columns, *targets, *weight])
        for batch in self._source.to_batches(columns=list(read), batch_size=self._batch_rows):
            if batch.num_rows:
                frame = batch.to_pandas()
                y = frame[self._target if isinstance(self._target, str) else targets].to_numpy()
                yield (frame[self._columns], y, *(frame[name].to_numpy() for name in weight))


def _refuse_text(schema: Any, columns: Sequence[str]) -> None:
    """Refuse features that are not numbers, before anything is read."""
    from pyarrow import types

    tests = types.is_integer, types.is_floating, types.is_boolean, types.is_decimal
    others = [
        f"{name!r} ({kind})"
        for name in columns
        if not any(test(kind := schema.field(name).type) for test in tests)
    ]
    if others:
        raise ValueError(
            f"all features must be numbers, got {', '.join(others[:5])}"
            f"{' and others' * (len(others) > 5)}: choose some with columns=[...], or use "
            "fastmlp.tables.fit_in_batches or 'fastmlp train --max-memory', which encode text and "
            "dates."
        )


def read_parquet(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    target: str | Sequence[str],
    *,
    columns: Sequence[str] | None = None,
    sample_weight: str | None = None,
    batch_rows: int = 65536,
) -> ParquetBatches:
    """Read a Parquet file in batches, for ``fit(batches, max_memory=...)``.

    Parameters
    ----------
    path : path, or list of paths
        A file, a folder of them, or some files.
    target : str or list of str
        The column, or columns, to be predicted.
    columns : list of str, optional
        The features; by default all other columns. All must be numbers.
    sample_weight : str, optional
        The column of weights.
    batch_rows : int, default=65536
        Rows that are decoded at a time.

    Returns
    -------
    batches : iterable of (DataFrame, array) or (DataFrame, array, array)
        `n_rows` is the number of rows.

    Raises
    ------
    ImportError
        Without pyarrow.
    ValueError
        If a column does not exist, or features are not numbers.

    Examples
    --------
    >>> import os, tempfile
    >>> import pandas as pd
    >>> from fastmlp import MLPClassifier
    >>> from fastmlp.blocks import read_parquet
    >>> path = os.path.join(tempfile.mkdtemp(), "rows.parquet")
    >>> pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "label": list("aabb")}).to_parquet(path)
    >>> model = MLPClassifier(max_iter=300, learning_rate_init=0.1, random_state=0)
    >>> model.fit(read_parquet(path, "label"), max_memory="1G").feature_names_in_
    array(['x'], dtype=object)
    """
    if batch_rows < 1:
        raise ValueError(f"batch_rows must be at least 1, got {batch_rows!r}.")
    return ParquetBatches(path, target, columns, sample_weight, int(batch_rows))
