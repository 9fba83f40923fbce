"""``fastmlp train --max-memory`` on a table that takes too much memory: rows in batches."""

import gzip
import json
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fastmlp.cli import tables
from fastmlp.cli.progress import file_display
from fastmlp.cli.train_output import Outputs
from fastmlp.exceptions import TableWarning
from fastmlp.utils import memory
from fastmlp.utils.terminal import shows_progress

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

    from fastmlp.tables import ParquetTable

#: Part of the memory that a table may take to be read as a whole: its training and test rows, and
#: what is encoded on the way to the network, take several times as much.
_FITS = 1 / 8

#: Part of the memory for the sample. Encoded, for a moment, it may take ten times as much.
_SAMPLE = 1 / 32

#: Rows of a sample at least, whatever they take.
_MIN_SAMPLE = 2000

_CHUNK = 1 << 22

#: What pyarrow reads in parts, by the end of the name.
_FORMATS = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".feather": "feather",
    ".arrow": "feather",
}


def larger_than(max_memory: str, data: str) -> "ParquetTable | None":
    """Return a table that takes too much memory to be read as a whole; None if it does not.

    Parameters
    ----------
    max_memory : str
    data : str
        A file, a folder of Parquet files, or "-".

    Raises
    ------
    ValueError
        If it takes too much memory, but is no Parquet file.
    """
    from fastmlp.tables import ParquetTable

    most = _FITS * memory.as_bytes(max_memory)
    if data == "-":
        raise ValueError(
            "--max-memory needs a file, whose size can be known before it is read, got standard "
            "input: write it to a Parquet file, or omit --max-memory."
        )
    if tables.is_parquet(data):
        table = ParquetTable(Path(data).expanduser())
        return table if table.n_bytes > most else None
    if (n_bytes := _size_of_text(Path(data).expanduser(), most)) > most:
        raise ValueError(
            f"{data} takes about {memory.in_words(n_bytes)} in memory, which must be at most an "
            f"eighth of --max-memory {max_memory} for other files than Parquet: {_way_out(data)}."
        )
    return None


def _size_of_text(path: Path, most: float) -> int:
    """Return the size of a file, or of as much of a compressed one as is more than `most`."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return path.stat().st_size
    n_bytes = 0
    with gzip.open(path) as content:
        while n_bytes <= most and (chunk := content.read(_CHUNK)):
            n_bytes += len(chunk)
    return n_bytes


def _way_out(data: str) -> str:
    """Return how a file becomes Parquet, in words."""
    name = data.removesuffix(".gz")
    kind = _FORMATS.get(Path(name).suffix.lower())
    if kind is None:
        return "convert it to Parquet, of which rows are read when they are needed"
    folder = Path(name).with_suffix("").name + "_parquet"
    program = (
        "from pyarrow.dataset import dataset, write_dataset; "
        f"write_dataset(dataset({json.dumps(data)}, format={json.dumps(kind)}), "
        f"{json.dumps(folder)}, format={json.dumps('parquet')})"
    )
    return (
        f"convert it to Parquet, in parts, with python -c {shlex.quote(program)}, and pass --data "
        f"{shlex.quote(folder)}"
    )


class LargeTable(tables.TrainingTable):
    """A table of which a sample is in memory: its test rows, and rows to judge columns by.

    Parameters
    ----------
    source : ParquetTable
    data, target, task, seed
        See `TrainingTable`.
    max_memory : str
    shows_progress : bool
    """

    def __init__(
        self,
        source: "ParquetTable",
        data: str,
        target: str | None,
        task: str | None,
        seed: int,
        max_memory: str,
        *,
        shows_progress: bool,
    ) -> None:
        started = time.perf_counter()
        wanted = _SAMPLE * memory.as_bytes(max_memory) * source.n_rows / source.n_bytes
        with file_display(shows_progress, "sampling rows") as progress:
            sample = source.sample(max(_MIN_SAMPLE, int(wanted)), seed, progress=progress)
        with warnings.catch_warnings():  # rows without a target are counted later, in all batches
            warnings.simplefilter("ignore", TableWarning)
            super().__init__(data, target, task, seed, frame=sample)
        self.seconds_reading = time.perf_counter() - started
        self.source, self.max_memory = source, max_memory
        self.sample = sample.drop(self.X_test.index)  # what encodings are determined by
        self.n_rows, self.n_sampled = source.n_rows, len(sample)
        self._n_train = self.n_rows - len(self.X_test)

    @property
    def n_train(self) -> int:
        """Number of rows to train on; after training, without those that lack a target."""
        return self._n_train

    @property
    def rows_in_words(self) -> str:
        """The numbers of rows that are trained on and held out, and of what is in memory."""
        return f"{super().rows_in_words}; columns and training rows are shown of a sample"

    @property
    def has_single_row_of_class(self) -> bool:
        """Whether the rows cannot be split again: blocks of them always can."""
        return False

    def print_columns(self) -> None:
        """Print the columns, the target and the task."""
        super().print_columns()
        typer.echo(
            f"types, missing and distinct values are those of a sample of {self.n_sampled:,} rows; "
            "its held-out rows are the test rows\n"
        )

    def training_rows(self) -> "Iterator[pd.DataFrame]":
        """Yield all rows except for the test rows, in batches."""
        import pandas as pd

        from fastmlp.tables.columns import plain

        n_train = 0
        for frame in self.source.batches():
            rest = frame[~frame.index.isin(self.X_test.index)]
            n_train += int(pd.notna(plain(rest[self.target])[1]).sum())
            yield rest
        self._n_train = n_train

    def card(self, scores: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
        """Return what the card of a model says of the table, and of its scores."""
        found = super().card(scores)
        data = found["data"]
        data["rows"] = self.n_train
        for fact in ("classes", "target"):
            if fact in data:
                data[f"{fact} in a sample of {len(self.X)} rows"] = data.pop(fact)
        return found


def fit_on_all_rows(
    pipeline: "Pipeline", table: LargeTable, outputs: Outputs
) -> tuple[float, bool]:
    """Fit a pipeline with progress; return the seconds, and whether Ctrl-C was pressed."""
    from fastmlp.cli.epoch_display import EpochDisplay
    from fastmlp.tables import fit_in_batches
    from fastmlp.training import observing

    display = EpochDisplay(
        pipeline[-1].max_iter,
        outputs.shows_epochs,
        lines=not shows_progress(sys.stdout),  # where there is no bar
        log=outputs.epoch_log,
    )
    started = time.perf_counter()
    options = {} if outputs.checkpoint is None else {"checkpoint": outputs.checkpoint}
    # A terminal has one bar at a time: that of the epochs follows that of the rows.
    with ExitStack() as epochs, ExitStack() as rows:
        progress = rows.enter_context(file_display(outputs.shows_epochs, "reading rows"))

        def batches() -> "Iterator[pd.DataFrame]":
            n_read = 0
            for frame in table.training_rows():
                yield frame
                n_read += len(frame)
                progress(n_read, table.n_train)
            rows.close()
            epochs.enter_context(display)

        epochs.enter_context(observing(display))
        try:
            fit_in_batches(
                pipeline,
                batches(),
                table.sample,
                table.target,
                max_memory=table.max_memory,
                **options,
            )
        except KeyboardInterrupt:  # not during training, which keeps its weights
            display.interrupted = True
    return time.perf_counter() - started, display.interrupted
