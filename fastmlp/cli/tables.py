"""Tables on the command line: reading, training data, scores and predictions."""

import hashlib
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import typer

from fastmlp.cli.output import (
    note,
    note_unknown_classes,
    noting_warnings,
    print_facts,
    print_table,
)

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline

    from fastmlp.report.analysis import Metric
    from fastmlp.tables import Column

#: Fraction of the rows held out for testing.
HELD_OUT = 0.2

#: Minimum number of rows.
MIN_ROWS = 10

#: Default of train's --out.
DEFAULT_FILE = Path("model.skops")

OUT_ENDINGS = (".csv", ".parquet", ".jsonl")

_ROWS_AT_ONCE = 100_000  # that are predicted
_MOST_CATEGORIES = 512  # of a column that are remembered
_MOST_COLUMNS = 40  # that are listed
_ROWS_TO_JUDGE = 20  # the median of fewer is unreliable
_FAR = 3.0  # distances of the quartiles between two medians
_MOST_COLUMNS_ACROSS = 8  # of rows that are printed
_IDX_MAGIC = {bytes([0, 0, kind, n]) for kind in (8, 9, 11, 12, 13, 14) for n in range(1, 5)}


def is_table(data: str) -> bool:
    """Return whether a source is a file with a table, a folder of Parquet files, or a stream."""
    from fastmlp import datasets

    if data == "-":
        return True
    path = Path(data).expanduser()
    if data in datasets.DATASETS or data == "digits":
        return False
    if path.is_dir():
        return is_parquet(data)
    return path.is_file() and not _holds_images(path)


def is_parquet(data: str) -> bool:
    """Return whether a source is a Parquet file, or a folder of them."""
    path = Path(data).expanduser()
    if path.is_dir():
        entries = [entry for entry in path.iterdir() if not entry.name.startswith((".", "_"))]
        has_folders = any(entry.is_dir() for entry in entries)  # of images
        return not has_folders and any(entry.suffix == ".parquet" for entry in entries)
    if data == "-" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _holds_images(path: Path) -> bool:
    """Return whether a file holds images: IDX, or the arrays that Keras publishes."""
    import gzip
    import zlib

    with path.open("rb") as file:
        start = file.read(4)
        if start[:2] == b"\x1f\x8b":
            file.seek(0)
            try:
                start = gzip.GzipFile(fileobj=file).read(4)
            except (OSError, EOFError, zlib.error):
                return False
    if start in _IDX_MAGIC:
        return True
    if start[:2] != b"PK":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return "x_train.npy" in archive.namelist()
    except zipfile.BadZipFile:
        return False


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(data: str) -> "pd.DataFrame":
    """Read a table from a file or folder, or from standard input if its name is "-"."""
    from fastmlp.tables import ParquetTable, read_table

    source: Path | BinaryIO = sys.stdin.buffer if data == "-" else Path(data).expanduser()
    with noting_warnings():
        if isinstance(source, Path) and source.is_dir():
            return ParquetTable(source).read()
        return read_table(source)


def name_of(data: str) -> str:
    """Return the name of a source for messages."""
    return "standard input" if data == "-" else data


# ---------------------------------------------------------------------------------------- training


class TrainingTable:
    """A table, its target, and its training and test rows.

    Parameters
    ----------
    data : str
        A file, or "-" for standard input.
    target, task : str or None
        See `fastmlp.tables.find_target` and `find_task`.
    seed : int
        Determines which rows are held out.
    frame : DataFrame, optional
        The table, if it was read.
    """

    def __init__(
        self,
        data: str,
        target: str | None,
        task: str | None,
        seed: int,
        frame: "pd.DataFrame | None" = None,
    ) -> None:
        from fastmlp import tables

        started = time.perf_counter()
        frame = read(data) if frame is None else frame
        self.seconds_reading = time.perf_counter() - started
        self.n_rows, self.name = len(frame), name_of(data)
        self.target, self.why_target = tables.find_target(frame, target)
        self.task, self.why_task = tables.find_task(frame[self.target], task)
        self.columns = tables.describe(frame, self.target)
        X, y = tables.take_target(frame, self.target, self.task)
        if len(X) < MIN_ROWS:
            raise ValueError(
                f"{self.name} must have at least {MIN_ROWS} rows with a target, got {len(X)}: a "
                "fifth of them is held out for testing."
            )
        (self.X, self.y), (self.X_test, self.y_test) = _split(X, y, self.task, seed)

    @property
    def n_train(self) -> int:
        """Number of rows to train on."""
        return len(self.X)

    @property
    def rows_in_words(self) -> str:
        """The numbers of rows that are trained on and held out."""
        return f"{self.n_train:,} trained on, {len(self.X_test):,} held out"

    @property
    def has_single_row_of_class(self) -> bool:
        """Whether one of two classes has a single training row."""
        import pandas as pd

        counts = pd.Series(self.y).value_counts()
        return self.task == "classification" and len(counts) == 2 and counts.min() == 1

    def print_columns(self) -> None:
        """Print the columns, the target and the task."""
        print_columns(self.name, self.n_rows, self.columns)
        typer.echo(f"\ntarget: {self.target} ({self.why_target})")
        typer.echo(f"task: {self.task} ({self.why_task})")
        typer.echo(f"{self.n_train:,} rows to train on, {len(self.X_test):,} held out\n")

    def card(self, scores: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
        """Return what the card of a model says of the table, and of its scores.

        Parameters
        ----------
        scores : mapping
            On the held-out rows, as `metrics_as_json` returns them.
        """
        from fastmlp.cards import record

        held_out = f"on {len(self.X_test)} rows held out"
        return record(
            self.X,
            self.y,
            name=self.name,
            sha256=self._sha256(),
            scores={
                f"{name} {held_out}": score["model"]
                for name, score in scores.items()
                if score["model"] is not None
            },
            **{"target column": self.target},
        )

    def _sha256(self) -> str | None:
        """Return the digest of the file, None of standard input."""
        path = Path(self.name).expanduser()
        return file_digest(path) if path.is_file() else None

    def metadata(self, pipeline: "Pipeline") -> dict[str, Any]:
        """Return the metadata of the table, to be saved with a model fitted on it."""
        return {
            "kind": "table",
            "data": self.name,
            "target": self.target,
            "task": self.task,
            "columns": {
                column.name: column.kind for column in self.columns if column.name != self.target
            },
            "ranges": _ranges(pipeline["columns"].transform(self.X[:_ROWS_AT_ONCE])),
        }


def _ranges(frame: "pd.DataFrame") -> dict[str, list[Any]]:
    """Return low, typical and high numbers of columns, or their categories, frequent ones first.

    Low and high are percentiles, so that a single outlier does not stretch a slider.
    """
    import numpy as np

    found: dict[str, list[Any]] = {}
    for name, column in frame.items():
        if column.dtype == "category":
            found[str(name)] = column.value_counts().index[:_MOST_CATEGORIES].tolist()
            continue
        values = column.to_numpy(np.float64)
        values = values[np.isfinite(values)]
        if len(values):
            found[str(name)] = np.percentile(values, (1, 50, 99)).tolist()
    return found


def print_columns(name: str, n_rows: int, columns: Sequence["Column"]) -> None:
    """Print the types of the columns of a table, and how they are encoded."""
    typer.echo(f"{name}: {n_rows:,} rows, {len(columns)} columns\n")
    rows = [
        (
            column.name,
            column.kind,
            f"{column.n_missing:,}" if column.n_missing else "",
            f"{column.n_distinct:,}",
            column.action,
        )
        for column in columns
    ]
    headings = ("column", "type", "missing", "distinct", "what is done")
    print_table(headings, rows[:_MOST_COLUMNS], right=(2, 3))
    if len(rows) > _MOST_COLUMNS:
        typer.echo(f"... and {len(rows) - _MOST_COLUMNS} more")


def columns_as_json(columns: Sequence["Column"]) -> list[dict[str, Any]]:
    """Return the columns of a table, for --json."""
    return [
        {
            "name": column.name,
            "type": column.kind,
            "missing": column.n_missing,
            "distinct": column.n_distinct,
            "action": column.action,
        }
        for column in columns
    ]


def print_rows(frame: "pd.DataFrame") -> None:
    """Print rows of a table with their index; a single row as a column."""
    cells = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    names = list(map(str, frame.columns))
    if len(cells) == 1:
        typer.echo(f"row {frame.index[0]}\n")
        print_table(("column", "value"), list(zip(names, cells[0], strict=True)))
        return
    shown = names[:_MOST_COLUMNS_ACROSS]
    rows = [
        (str(number), *row[: len(shown)]) for number, row in zip(frame.index, cells, strict=True)
    ]
    print_table(("row", *shown), rows, right=(0,))
    if len(names) > len(shown):
        typer.echo(f"... and {len(names) - len(shown)} more columns")


def _cell(value: Any) -> str:
    """Return a value of a table as text."""
    import pandas as pd

    if pd.isna(value):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value).removesuffix(" 00:00:00")


def _split(X: "pd.DataFrame", y: "NDArray", task: str, seed: int) -> list[tuple[Any, Any]]:
    """Return the training and test rows, stratified if possible."""
    import numpy as np
    import pandas as pd
    from sklearn.model_selection import train_test_split

    strata = None
    if task == "classification":
        codes, _ = pd.factorize(y, sort=True)  # text is sorted slowly, and more than once
        counts = np.bincount(codes)
        n_test = int(np.ceil(HELD_OUT * len(y)))
        if counts.min() >= 2 and len(counts) <= min(n_test, len(y) - n_test):
            strata = codes
    X, X_test, y, y_test = train_test_split(
        X, y, test_size=HELD_OUT, random_state=seed, stratify=strata
    )
    return [(X, y), (X_test, y_test)]


# ----------------------------------------------------------------------------------------- scoring


def metrics(pipeline: "Pipeline", X: Any, y: Any, y_train: Any = None) -> list["Metric"]:
    """Return scores of a model and of a constant prediction."""
    from sklearn.base import is_classifier

    from fastmlp.report.analysis import Classification, Regression

    if is_classifier(pipeline):
        return Classification(pipeline, X, y, y_train).metrics
    return Regression(pipeline, X, y, y_train).metrics[0]


def print_metrics(found: Sequence["Metric"], heading: str) -> None:
    """Print scores and those of the baseline."""
    rows = [
        (metric.name, *(_in_words(value) for value in (metric.model, metric.baseline)))
        for metric in found
    ]
    print_table((heading, "model", "baseline"), rows, right=(1, 2))


def metrics_as_json(found: Sequence["Metric"]) -> dict[str, Any]:
    """Return scores by their names, for --json."""
    return {metric.name: {"model": metric.model, "baseline": metric.baseline} for metric in found}


def _in_words(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def what_next(commands: Mapping[str, str]) -> None:
    """Print suggested next commands and their purpose."""
    typer.echo("\nWhat next:")
    width = max(map(len, commands))
    for command, purpose in commands.items():
        typer.echo(f"  {command.ljust(width)}  # {purpose}")


# -------------------------------------------------------------------------------------- predicting


def target_of(pipeline: "Pipeline") -> str | None:
    """Return the target column of a saved pipeline, or None if it is not known."""
    target = getattr(pipeline, "metadata_", {}).get("target")
    return None if target is None else str(target)


def note_strangers(pipeline: "Pipeline", frame: "pd.DataFrame", y: "NDArray | None" = None) -> None:
    """Print notes on unused columns, and on data that differ from the training data."""
    known = getattr(pipeline, "feature_names_in_", None)
    target = target_of(pipeline)
    if known is not None:
        names = set(known)
        extra = [str(name) for name in frame.columns if name not in names and name != target]
        if extra:
            shown = ", ".join(map(repr, extra[:5])) + (", ..." if len(extra) > 5 else "")
            note(f"columns that the model does not know are ignored: {shown}.")
    if y is not None and hasattr(pipeline, "classes_"):
        note_unknown_classes(pipeline, y.astype(str), "rows have")
    for name, words, n_rows in _new_categories(pipeline, frame):
        shown = ", ".join(map(repr, words[:5])) + (", ..." if len(words) > 5 else "")
        note(
            f"the column {name!r} has values that were not in the training data, in {n_rows:,} "
            f"of {len(frame):,} rows ({shown}): they are treated as infrequent."
        )
    for name, here, then in _shifted_columns(pipeline, frame):
        note(
            f"the column {name!r} has the median {here:.4g}, but had {then:.4g} in the training "
            "data, far outside its quartiles: are the units the same?"
        )


def _new_categories(
    pipeline: "Pipeline", frame: "pd.DataFrame"
) -> Iterator[tuple[str, list[str], int]]:
    """Yield columns with unknown categories, these categories, and their number of rows."""
    import numpy as np

    if list(pipeline.named_steps) != ["columns", "encode", "mlp"]:
        return
    encoder = pipeline["encode"].named_transformers_.get("categories")
    if not hasattr(encoder, "categories_"):
        return
    categorical = pipeline["columns"].transform(frame)
    for name, known in zip(encoder.feature_names_in_, encoder.categories_, strict=True):
        column = categorical[name].array
        codes, words = np.asarray(column.codes), np.asarray(column.categories, dtype=object)
        counts = np.bincount(codes[codes >= 0], minlength=len(words))
        is_new = (counts > 0) & ~np.isin(words, [word for word in known if isinstance(word, str)])
        if is_new.any():
            yield name, words[is_new].tolist(), int(counts[is_new].sum())


def _shifted_columns(
    pipeline: "Pipeline", frame: "pd.DataFrame"
) -> Iterator[tuple[str, float, float]]:
    """Yield numeric columns whose median is far from that of the training rows."""
    import numpy as np

    if len(frame) < _ROWS_TO_JUDGE or list(pipeline.named_steps) != ["columns", "encode", "mlp"]:
        return
    numbers = pipeline["encode"].named_transformers_.get("numbers")
    kinds = pipeline["columns"].kinds_
    if not hasattr(numbers, "named_steps"):
        return
    scaler = numbers.named_steps["scale"]
    for name, center, scale in zip(
        scaler.feature_names_in_, scaler.center_, scaler.scale_, strict=True
    ):
        if kinds[name] != "number" or name not in frame or frame[name].dtype.kind not in "iuf":
            continue
        values = frame[name].to_numpy(np.float64)
        values = values[np.isfinite(values)]
        if len(values) >= _ROWS_TO_JUDGE and scale:
            median = float(np.median(values))
            if abs(median - center) * scale > _FAR:
                yield name, median, float(center)


def predictions_of(
    pipeline: "Pipeline", frame: "pd.DataFrame", proba: bool, keep: bool
) -> "pd.DataFrame":
    """Return a row of predictions per row of a table."""
    import numpy as np
    import pandas as pd

    def in_parts(method: str) -> "NDArray":  # in chunks, to limit memory
        starts = range(0, max(len(frame), 1), _ROWS_AT_ONCE)
        parts = [getattr(pipeline, method)(frame[at : at + _ROWS_AT_ONCE]) for at in starts]
        return np.concatenate(parts)

    with noting_warnings():
        columns: dict[str, Any] = {_free_name("prediction", frame, keep): in_parts("predict")}
        if proba:
            probabilities = in_parts("predict_proba")
            for place, label in enumerate(pipeline.classes_.tolist()):
                columns[f"probability of {label}"] = probabilities[:, place]
    predicted = pd.DataFrame(columns, index=frame.index)
    return pd.concat([frame, predicted], axis=1) if keep else predicted


def _free_name(name: str, frame: "pd.DataFrame", keep: bool) -> str:
    """Return a name that is not that of a kept column."""
    while keep and name in frame.columns:
        name += "_"
    return name


def check_out(out: Path, *read: Path) -> None:
    """Check the output file before anything is computed; inputs are not replaced."""
    from fastmlp.cli.pictures import check_writable

    if out.exists() and any(path.exists() and out.samefile(path) for path in read):
        raise ValueError(f"--out must not be an input file, got {out}: use another file.")
    if out.suffix.lower() not in OUT_ENDINGS:
        raise ValueError(f"--out must end in {', '.join(OUT_ENDINGS)}, got {out}.")
    if out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"--out must be a file in a directory that exists, got {out}.")
    check_writable(out.resolve().parent, out)


def write(predicted: "pd.DataFrame", out: Path | None) -> None:
    """Write predictions to a file, atomically, or as CSV to standard output."""
    from fastmlp.utils.files import atomic_write

    if out is None:
        exactly(predicted).to_csv(sys.stdout, index=False, lineterminator="\n")
        return
    with atomic_write(out) as file:
        if out.suffix.lower() == ".parquet":
            predicted.to_parquet(file, index=False)
        elif out.suffix.lower() == ".jsonl":
            text = exactly(predicted).to_json(orient="records", lines=True, date_format="iso")
            file.write(text.encode())
        else:
            file.write(exactly(predicted).to_csv(index=False, lineterminator="\n").encode())
    typer.echo(f"{out}: {len(predicted):,} predictions")


def exactly(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table whose float32 values print with their own digits: 268.4, not 268.3999939."""
    import numpy as np

    narrow = [name for name in frame.columns if frame[name].dtype == np.float32]
    return frame.assign(**{name: frame[name].astype(str).astype(float) for name in narrow})


def print_summary(facts: Mapping[str, str]) -> None:
    """Print an empty line and a summary of the training."""
    typer.echo()
    print_facts(facts)
