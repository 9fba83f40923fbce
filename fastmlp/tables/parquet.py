"""Tables in Parquet files that are larger than memory: sampled, and fitted on in batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline

from fastmlp.estimators import MLPClassifier, MLPRegressor
from fastmlp.exceptions import TableWarning, warn
from fastmlp.tables import columns, text
from fastmlp.tables.reading import TableSource, from_arrow
from fastmlp.utils import memory

__all__ = ["ParquetTable", "fit_in_batches"]

#: Bytes of a batch of rows, decoded or transformed.
_BATCH_BYTES = 4 << 20
_MOST_BATCH_ROWS = 1 << 16

#: Bytes of a column of a file that are read at a time, however large its row groups are.
_BUFFER_BYTES = 1 << 15

#: Bytes that pyarrow, pandas and the steps before the network may take while it is trained.
_OTHERS_BYTES = 256 << 20

#: How the size in memory is estimated: rows that are decoded, in each of so many row groups.
_ROWS_TO_MEASURE = 1024
_GROUPS_TO_MEASURE = 16


class ParquetTable:
    """A table in a Parquet file, or in a folder of them, whose rows are read when needed.

    Rows are numbered from 0, in the order of the files' names; all frames have these numbers as
    their index. The dtypes are those of `read_table`.

    Parameters
    ----------
    path : path
        A file; or a folder with files whose names end in .parquet, which have the same columns.

    Attributes
    ----------
    n_rows : int
    n_bytes : int
        Estimate of the size in memory: from the types of the columns, the files' metadata, and the
        length of text in some rows of several row groups.

    Raises
    ------
    ValueError
        If a file is not a Parquet file, or the files of a folder have different columns.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "rows.parquet")
    >>> pd.DataFrame({"x": [0.0, 1.0, 2.0], "kind": list("aba")}).to_parquet(path)
    >>> table = ParquetTable(path)
    >>> table.n_rows
    3
    >>> [len(frame) for frame in table.batches()]
    [3]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._name, place = os.fspath(path), Path(path)
        self._files = sorted(place.glob("*.parquet")) if place.is_dir() else [place]
        if not self._files:
            raise ValueError(f"{self._name} must hold files that end in .parquet, got none.")
        self.n_rows, n_stored, measured = 0, 0, []
        for file in self._files:
            with self._open(file) as opened:
                if file == self._files[0]:
                    self._schema = opened.schema_arrow.remove_metadata()
                elif not opened.schema_arrow.equals(self._schema):
                    raise ValueError(
                        f"all files of {self._name} must have the same columns, got others in "
                        f"{file.name} than in {self._files[0].name}: move it elsewhere."
                    )
                found = opened.metadata
                self.n_rows += found.num_rows
                groups = range(found.num_row_groups)
                n_stored += sum(found.row_group(group).total_byte_size for group in groups)
                measured.append((file, found.num_row_groups))
        if not self.n_rows:
            raise ValueError(f"{self._name} has no rows; a table needs rows.")
        # Stored text without repetitions has its size in memory; with them, it is larger there.
        self.n_bytes = max(n_stored, round(self.n_rows * self._bytes_of_row(measured)))

    def read(self) -> pd.DataFrame:
        """Return all rows."""
        return self.sample(self.n_rows)

    def sample(
        self, n_rows: int, random_state: int | None = None, *, progress: Any = None
    ) -> pd.DataFrame:
        """Return a uniform random sample of the rows, in order, read in one pass.

        Parameters
        ----------
        n_rows : int
            Its expected size: each row is chosen with the same probability, independently.
        random_state : int, optional
        progress : callable, optional
            Called with the number of rows that have been read, and of all rows.

        Returns
        -------
        frame : DataFrame
            Its index are the numbers of the rows.
        """
        generator = np.random.default_rng(random_state)
        share = n_rows / self.n_rows
        parts, numbers = [], []
        for start, batch in self._record_batches():
            chosen = np.flatnonzero(generator.random(len(batch)) < share)
            parts.append(batch.take(pa.array(chosen)) if len(chosen) < len(batch) else batch)
            numbers.append(start + chosen)
            if progress is not None:
                progress(start + len(batch), self.n_rows)
        frame = self._as_frame(pa.Table.from_batches(parts, self._schema), np.concatenate(numbers))
        del parts
        pa.default_memory_pool().release_unused()
        return frame

    def batches(self) -> Iterator[pd.DataFrame]:
        """Yield all rows, in batches of some megabytes."""
        for start, batch in self._record_batches():
            numbers = np.arange(start, start + len(batch))
            yield self._as_frame(pa.Table.from_batches([batch]), numbers)

    def _open(self, file: Path) -> parquet.ParquetFile:
        """Open a file whose pages are read one after the other: row groups may be large."""
        try:
            return parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{file} cannot be read: {str(error).splitlines()[0]}.") from error

    def _record_batches(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield batches of rows, and the number of the first row of each."""
        row_bytes = self.n_bytes / self.n_rows
        batch_rows = int(min(max(1, _BATCH_BYTES // row_bytes), _MOST_BATCH_ROWS))
        start = 0
        for file in self._files:
            with self._open(file) as opened:
                for batch in opened.iter_batches(batch_rows, use_threads=False):
                    if len(batch):
                        yield start, batch
                        start += len(batch)

    def _as_frame(self, table: pa.Table, numbers: NDArray[Any]) -> pd.DataFrame:
        frame = from_arrow(table, TableSource(self._name, self._name))
        frame.index = pd.Index(numbers)
        return frame

    def _bytes_of_row(self, n_groups: list[tuple[Path, int]]) -> float:
        """Return the mean size of some rows from everywhere, decoded."""
        places = [(file, group) for file, n in n_groups for group in range(n)]
        n_rows, n_bytes = 0, 0
        for file, group in places[:: -(-len(places) // _GROUPS_TO_MEASURE)]:
            with self._open(file) as opened:
                batch = next(
                    opened.iter_batches(_ROWS_TO_MEASURE, row_groups=[group], use_threads=False),
                    None,
                )
                if batch is not None:
                    n_rows, n_bytes = n_rows + len(batch), n_bytes + batch.nbytes
        return n_bytes / max(1, n_rows)


def fit_in_batches(
    pipeline: Pipeline,
    batches: Iterable[pd.DataFrame],
    sample: pd.DataFrame,
    target: str,
    *,
    max_memory: int | str | None = None,
    **fit_params: Any,
) -> Pipeline:
    """Fit a pipeline on a table that is larger than memory.

    All steps before the network are fitted on a sample of the rows; the network is fitted on all
    rows, as the other steps transform them. Categories that the sample lacks are treated as
    infrequent ones. Labels may occur in any batch.

    Parameters
    ----------
    pipeline : Pipeline
        Such as ``make_table_pipeline(task, n_rows=..., n_estimators=1)``. It is fitted in place.
    batches : iterable of DataFrames
        All rows to train on, gone through once, such as ``ParquetTable(path).batches()``.
    sample : DataFrame
        Some of the rows, from everywhere, such as ``ParquetTable(path).sample(100_000)``.
    target : str
        The column to predict. Rows without it are dropped, with a warning.
    max_memory : int or str, optional
        Memory for this process, such as "1G". The `fit` of the network gets it without 256 MB, or
        without half of it if that is less; transformed rows that take more than a quarter of this
        are written to temporary files. By default the memory of the machine, or of the container.
    **fit_params
        More for the `fit` of the network, such as ``checkpoint=path``.

    Returns
    -------
    pipeline : Pipeline

    Raises
    ------
    ValueError
        If the last step is not a single network, or if columns have other values than in the
        sample, such as text among numbers.

    Examples
    --------
    >>> import os, tempfile
    >>> from fastmlp.tables import make_table_pipeline
    >>> path = os.path.join(tempfile.mkdtemp(), "rows.parquet")
    >>> frame = pd.DataFrame({"size": range(3000), "label": np.arange(3000) % 7 < 4})
    >>> frame["size"] %= 7
    >>> frame.to_parquet(path)
    >>> table = ParquetTable(path)
    >>> sample = table.sample(1000, random_state=0)
    >>> test = sample[:200]
    >>> rest = (frame.drop(test.index, errors="ignore") for frame in table.batches())
    >>> pipeline = make_table_pipeline(
    ...     "classification", n_rows=table.n_rows, n_estimators=1, max_iter=10, random_state=0
    ... )
    >>> pipeline = fit_in_batches(pipeline, rest, sample, "label", max_memory="1G")
    >>> pipeline.score(test[["size"]], test["label"])
    1.0
    """
    network = pipeline[-1]
    if not isinstance(network, MLPClassifier | MLPRegressor):
        raise ValueError(
            "the last step must be MLPClassifier or MLPRegressor to be fitted in batches, got "
            f"{type(network).__name__}: pass n_estimators=1 to make_table_pipeline."
        )
    steps = pipeline[:-1]
    targets = _Targets(sample, target, classifies=is_classifier(network))
    X, _ = targets.split(sample)
    steps.fit(X)
    n_columns = steps.transform(X[:1]).shape[1]
    rows = max(1, _BATCH_BYTES // (4 * n_columns))
    n_dropped = n_rows = 0

    def transformed() -> Iterator[tuple[NDArray, NDArray]]:
        nonlocal n_dropped, n_rows
        for frame in batches:
            X, y = targets.split(frame)
            n_dropped, n_rows = n_dropped + len(frame) - len(X), n_rows + len(frame)
            for start in range(0, len(X), rows):
                part = X[start : start + rows]
                try:
                    found = steps.transform(part)
                except ValueError as error:
                    raise ValueError(
                        f"rows {part.index[0]} to {part.index[-1]}: {error}"
                    ) from error
                # Rows in files are dense, also where the pipeline encodes categories as CSR.
                dense = found.toarray() if issparse(found) else np.asarray(found)
                yield dense.astype(np.float32, copy=False), y[start : start + rows]
        pa.default_memory_pool().release_unused()

    network.fit(transformed(), max_memory=_of_network(max_memory), **fit_params)
    if n_dropped:
        warn(f"{n_dropped} of {n_rows} rows have no {target!r} and are dropped.", TableWarning)
    return pipeline


def _of_network(max_memory: int | str | None) -> int | None:
    """Return what is left for the network."""
    limit = memory.of_this_machine() if max_memory is None else memory.as_bytes(max_memory)
    return None if limit is None else max(limit // 2, limit - _OTHERS_BYTES)


class _Targets:
    """The target of a table, converted as in a sample of it.

    Parameters
    ----------
    sample : DataFrame
    name : str
        The column.
    classifies : bool
    """

    def __init__(self, sample: pd.DataFrame, name: str, *, classifies: bool) -> None:
        columns.find_target(sample, name)
        columns.find_task(sample[name], "classification" if classifies else "regression")
        self._name, self._classifies = name, classifies
        self._family, _ = columns.plain(sample[name])

    def split(self, frame: pd.DataFrame) -> tuple[pd.DataFrame, NDArray]:
        """Return the features and the target of the rows that have one."""
        values = frame[self._name]
        array = _words(values) if self._family == "text" else self._numbers(values)
        known = np.asarray(~pd.isna(array))
        X = frame.drop(columns=self._name)
        y = np.asarray(array)
        if not known.all():
            X, y = X[known], y[known]
        return X, self._as_target(y)

    def _numbers(self, values: pd.Series) -> NDArray:
        family, array = columns.plain(values)
        if family != self._family and not pd.isna(array).all():
            words = {"number": "numbers", "boolean": "booleans"}
            shown = next(value for value in array if not pd.isna(value))
            raise ValueError(
                f"the target {self._name!r} must hold {words[self._family]}, as in the sample, got "
                f"{str(shown)!r} in rows {values.index[0]} to {values.index[-1]}; correct it."
            )
        return array.astype(np.float64)

    def _as_target(self, y: NDArray) -> NDArray:
        """Return labels of the same dtype in all parts, or numbers."""
        if self._family == "text" or not (self._classifies and len(y)):
            return y
        if self._family == "boolean":
            return y.astype(bool)
        if not (np.isfinite(y).all() and np.array_equal(y, np.trunc(y))):
            raise ValueError(
                f"the target {self._name!r} must hold integers to be classified, as in the sample, "
                f"got {y[y != np.trunc(y)][0]:g}; choose the task 'regression'."
            )
        return y.astype(np.int64)


def _words(values: pd.Series) -> pd.Categorical:
    """Return labels as text: as they are written, even if all of a batch could be numbers."""
    array = pd.Categorical(values)
    words = [columns.as_word(value) for value in array.categories]
    missing = np.array([word in text.MISSING_WORDS for word in words] + [True])
    codes = np.where(missing[array.codes], -1, array.codes)
    return pd.Categorical.from_codes(codes, categories=words)
