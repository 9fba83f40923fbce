"""``fastmlp export``: a saved model for other programs, compared with the model."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastmlp.cli import image_data, tables
from fastmlp.cli.models import check_features, is_pipeline, load_model, own_size, scored_rows
from fastmlp.cli.options import (
    DATA_NAMES,
    DataHome,
    Json,
    ModelFile,
    Quiet,
    complete,
    data_option,
    one_of,
)
from fastmlp.cli.output import noting_warnings, print_facts, print_json
from fastmlp.cli.pictures import check_writable

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Largest difference of an export that is not rounded to fewer bits: of a probability, and of a
#: prediction in standard deviations, which are small if all predictions are alike.
TOLERANCE, TOLERANCE_OF_NUMBERS = 1e-4, 1e-3

_ROWS_TO_CHECK = 256  # of data; of those that are rounded, all


@dataclass(frozen=True)
class _Format:
    """A format to export to.

    Attributes
    ----------
    default : str
        End of the default file name, after the model's.
    endings : tuple of str
        Of file names, the first for messages.
    marks : tuple of bytes
        One of them is in every file of this format that `fastmlp export` has written.
    dtypes : tuple of str
        The values of --dtype.
    rounded : tuple of str
        Those that may change labels.
    """

    default: str
    endings: tuple[str, ...]
    marks: tuple[bytes, ...]
    dtypes: tuple[str, ...] = ("float32", "float64")
    rounded: tuple[str, ...] = ()


_FORMATS = {
    "onnx": _Format(".onnx", (".onnx",), (b"fastmlp", b"skl2onnx")),
    "html": _Format(
        ".html",
        (".html", ".htm"),
        (b'href="#view"',),  # not in reports
        dtypes=("float16", "int8", "float32"),
        rounded=("float16", "int8"),
    ),
    "c": _Format(".h", (".h",), (b"_SELF_TEST",), dtypes=("float32", "int8"), rounded=("int8",)),
    "torch": _Format(".pt", (".pt", ".pth"), (b"data.pkl",)),
    "safetensors": _Format(".safetensors", (".safetensors",), (b'"__metadata__"',)),
    "card": _Format("_card.md", (".md",), (b"A multilayer perceptron",), dtypes=()),
}


@dataclass(frozen=True)
class _Rows:
    """Rows to compare predictions of.

    Attributes
    ----------
    X : array or list of dict, or None
        None leaves it to the check to make some.
    y : array or None
        Labels or targets.
    source : str or None
        Name of the data set.
    """

    X: Any = None
    y: "NDArray | None" = None
    source: str | None = None

    def some(self) -> Any:
        """Return not more rows than a check needs, from all parts of the data."""
        if self.X is None or len(self.X) <= _ROWS_TO_CHECK:
            return self.X
        places = [i * len(self.X) // _ROWS_TO_CHECK for i in range(_ROWS_TO_CHECK)]
        return [self.X[i] for i in places] if isinstance(self.X, list) else self.X[places]


def export(
    model_file: ModelFile,
    to: Annotated[
        str, typer.Option("--to", **one_of(*_FORMATS, help="Format"), show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The file to write. Default: the model's name in the current directory, with the "
            "format's ending.",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            **one_of(
                *("float16", "float32", "float64", "int8"),
                help="Type of the weights",
                more="Default: float16 for html, float32 for c, otherwise the model's.",
            )
        ),
    ] = None,
    small: Annotated[
        bool, typer.Option("--small", help="Short for --dtype int8, for html and c.")
    ] = False,
    data: Annotated[
        str | None,
        data_option(
            metavar="NAME|PATH",
            help="Data whose predictions are compared, as in 'fastmlp evaluate'. Default: the data "
            "set that the model was trained on, if it is here, otherwise generated rows.",
            autocompletion=complete(DATA_NAMES),
        ),
    ] = None,
    data_home: DataHome = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export a saved model, and compare what was exported with the model.

    onnx: a graph for onnxruntime and other runtimes. html: a page to try the model on, in one file
    that works offline. c: a header without dependencies. torch: a state_dict of PyTorch.
    safetensors: the weights. card: the model card as Markdown.

    For example:

        fastmlp export model.npz --to html

        fastmlp export model.npz --to html --small --data mnist
        fastmlp export model.npz --to onnx --out digits.onnx
        fastmlp export model.skops --to onnx --data houses.csv
    """
    chosen = _chosen_dtype(to, dtype, small)
    path = Path(model_file.stem + _FORMATS[to].default) if out is None else out
    _check_out(path, to, model_file)
    model = load_model(model_file, None, None)
    rows = _Rows() if to == "card" else _rows(model, model_file, data, data_home)
    try:
        with noting_warnings():
            exported = _EXPORTERS[to](model, path, chosen, rows)
    except TypeError as error:  # of other estimators
        raise ValueError(str(error)) from None
    exported.is_rounded = exported.dtype in _FORMATS[to].rounded
    if exported.is_rounded and rows.y is not None:
        exported.scores = _scores(model, rows, exported.check)
    if as_json:
        print_json({"model file": model_file, "format": to, **exported.as_json()})
    else:
        print_facts(exported.in_words())
        if exported.lines and not quiet:
            typer.echo("\n" + "\n".join(exported.lines))
    if not exported.passed:
        typer.echo(
            f"Error: the largest difference must be at most {exported.limit:g}, got "
            f"{exported.check.largest:.1e}: do not use this export, or try --dtype float64.",
            err=True,
        )
        raise typer.Exit(1)


# ----------------------------------------------------------------------------------------- options


def _chosen_dtype(to: str, dtype: str | None, small: bool) -> str | None:
    """Return the dtype that was asked for, or refuse it."""
    allowed = _FORMATS[to].dtypes
    if small:
        if "int8" not in allowed:
            raise ValueError(f"--small is for html and c, got --to {to}: omit it.")
        if dtype not in (None, "int8"):
            raise ValueError(f"--small is --dtype int8, got --dtype {dtype}: give one of them.")
        return "int8"
    if dtype is not None and dtype not in allowed:
        choices = ", ".join(allowed)
        rule = f"must be one of {choices} for --to {to}" if allowed else f"is not for --to {to}"
        raise ValueError(f"--dtype {rule}, got {dtype}.")
    return dtype


def _check_out(out: Path, to: str, model_file: Path) -> None:
    """Check the file to write before anything is computed."""
    form = _FORMATS[to]
    if out.suffix.lower() not in form.endings:
        raise ValueError(f"--out must end in {' or '.join(form.endings)} for --to {to}, got {out}.")
    if out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"--out must be a file in a directory that exists, got {out}.")
    if out.exists() and not out.is_file():  # such as a pipe, which could not be read back
        raise ValueError(f"--out must be a file that can be read back, got {out}: use another one.")
    if out.exists() and model_file.exists() and out.samefile(model_file):
        raise ValueError(f"--out must not be the model, got {out}: use another file.")
    check_writable(out.resolve().parent, out)
    if out.is_file() and out.stat().st_size:
        content = out.read_bytes()
        if not any(mark in content for mark in form.marks):
            raise ValueError(
                f"{out} exists and was not written by 'fastmlp export --to {to}': use another file "
                "with --out."
            )


# -------------------------------------------------------------------------------------------- rows


def _rows(model: Any, model_file: Path, data: str | None, data_home: Path | None) -> _Rows:
    """Return rows of --data or of the data set that the model was trained on."""
    from fastmlp.portable import PlainTable

    if is_pipeline(model) and PlainTable.of(model) is not None:
        if data is None:
            return _Rows()
        frame, y = scored_rows(model, model_file, data)
        return _Rows(_table_rows(model, frame), y, tables.name_of(data))
    if data is not None:
        X, y = image_data.load(data, data_home, own_size(model, data)).test
        check_features(model_file, model, data, X)
        return _Rows(X, y, data)
    return _known_rows(model, data_home)


def _known_rows(model: Any, data_home: Path | None) -> _Rows:
    """Return the test part of the data set that a model was trained on, if it is on this disk."""
    from fastmlp import datasets

    name = (getattr(model, "metadata_", None) or {}).get("data")
    if name not in (*datasets.DATASETS, "digits"):
        return _Rows()
    try:
        X, y = datasets.load(name, data_home, download=False)[1]
    except datasets.DatasetError:
        return _Rows()
    return _Rows(X, y, name) if X.shape[1] == model.n_features_in_ else _Rows()


def _table_rows(pipeline: Any, frame: Any) -> list[dict[str, Any]]:
    """Return rows of a table as the checks take them; see `fastmlp.export.checks`."""
    import numpy as np

    step = pipeline["columns"]
    with noting_warnings():
        converted = step.transform(frame)
    columns = {}
    for name, kind in step.kinds_.items():
        values = list(converted[name])
        if kind == "date":
            values = [
                value if value != value else str(np.datetime64(round(value * 86_400e6), "us"))
                for value in values
            ]
        elif name in step.words_:
            values = [
                value if value != value else step.words_[name][int(value)] for value in values
            ]
        columns[name] = [None if value != value else value for value in values]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


# ---------------------------------------------------------------------------------------- exporting


@dataclass(frozen=True)
class _Scores:
    """Accuracy or R² on all test samples: of the model, and of what was exported."""

    name: str
    n_samples: int
    model: float
    export: float


@dataclass
class _Exported:
    """A file, and how far its predictions are from those of the model.

    Attributes
    ----------
    path : Path
    rows : _Rows
        Those that were predicted.
    check : Check or None
        None of a card.
    dtype : str or None
        Of the weights.
    facts : dict of str to str
        More to print.
    lines : list of str
        Python that uses the file.
    is_rounded : bool
        Whether the weights have fewer bits than the model's, which may change labels.
    scores : _Scores or None
        If it is rounded, and labels are known.
    """

    path: Path
    rows: _Rows
    check: Any = None
    dtype: str | None = None
    facts: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    is_rounded: bool = False
    scores: _Scores | None = None

    @property
    def limit(self) -> float:
        """The largest difference that is allowed."""
        return TOLERANCE if self.check.n_labels is not None else TOLERANCE_OF_NUMBERS

    @property
    def passed(self) -> bool:
        """Whether the difference is as small as it must be."""
        return self.check is None or self.is_rounded or self.check.largest <= self.limit

    def in_words(self) -> dict[str, str]:
        """Return names and values to print."""
        facts = {"file": f"{self.path} ({_size(self.path.stat().st_size)})"}
        if self.check is None:
            return facts
        source = self.rows.source
        facts |= {"weights": str(self.dtype)} | self.facts | {"check": str(self.check)}
        facts["rows"] = "generated" if source is None else f"test samples of {source}"
        if self.check.microseconds is not None:
            facts["time"] = f"{self.check.microseconds:.3g} µs per row, one thread"
        if (scores := self.scores) is not None:
            facts[f"test {scores.name}"] = f"{scores.export:.4f}, of the model {scores.model:.4f}"
        return facts

    def as_json(self) -> dict[str, Any]:
        """Return names and values for --json."""
        check, scores = self.check, self.scores
        return {
            "file": self.path,
            "bytes": self.path.stat().st_size,
            "dtype": self.dtype,
            "passed": self.passed,
            "checked by": None if check is None else check.by,
            "data set": self.rows.source,
            "rows": None if check is None else check.n_rows,
            "labels that differ": None if check is None else check.n_labels,
            "largest difference": None if check is None else check.largest,
            "microseconds per row": None if check is None else check.microseconds,
            "score": None if scores is None else scores.name,
            "test samples": None if scores is None else scores.n_samples,
            "model score": None if scores is None else scores.model,
            "export score": None if scores is None else scores.export,
            "lines": self.lines,
        }


def _size(n_bytes: int) -> str:
    """Return a number of bytes in words."""
    if n_bytes < 1000:
        return f"{n_bytes} bytes"
    return f"{n_bytes / 1000:,.0f} kB" if n_bytes < 1e6 else f"{n_bytes / 1e6:,.1f} MB"


def _scores(model: Any, rows: _Rows, check: Any) -> _Scores:
    """Return how rounding changes the score."""
    from sklearn.metrics import accuracy_score, r2_score

    from fastmlp.export.common import given
    from fastmlp.portable import plain

    described = plain(model)
    with noting_warnings():
        predictions = model.predict(given(described, rows.X))
    name, metric, found = "R²", r2_score, check.found
    if described.is_classifier:
        name, metric, found = "accuracy", accuracy_score, described.labels(check.found)
    scores = (float(metric(rows.y, predicted)) for predicted in (predictions, found))
    return _Scores(name, len(rows.X), *scores)


def _to_onnx(model: Any, path: Path, dtype: str | None, rows: _Rows) -> _Exported:
    from fastmlp.export import check_onnx, to_onnx

    proto = to_onnx(model, path, dtype=dtype)
    from onnx import helper  # if it is installed

    def in_words(values: Any) -> str:
        shown = []
        for value in list(values)[:4]:
            kind = value.type.tensor_type
            axes = ", ".join(
                axis.dim_param or (str(axis.dim_value) if axis.dim_value else "N")
                for axis in kind.shape.dim
            )
            name = helper.tensor_dtype_to_string(kind.elem_type)
            name = name.removeprefix("TensorProto.").lower()
            name = {"float": "float32", "double": "float64"}.get(name, name)
            shown.append(f"{value.name}: {name} ({axes})")
        more = f" and {len(values) - 4} more" if len(values) > 4 else ""
        return ", ".join(shown) + more

    facts = {"inputs": in_words(proto.graph.input), "outputs": in_words(proto.graph.output)}
    real = proto.graph.output[-1].type.tensor_type.elem_type
    name = helper.tensor_dtype_to_np_dtype(real).name
    return _Exported(path, rows, check_onnx(model, path, rows.some()), name, facts)


def _to_html(model: Any, path: Path, dtype: str | None, rows: _Rows) -> _Exported:
    from fastmlp.export import check_html, to_html

    chosen = dtype or "float16"
    html = to_html(model, path, dtype=chosen, title=path.stem)
    is_rounded = chosen in _FORMATS["html"].rounded and rows.y is not None
    return _Exported(
        path, rows, check_html(model, html, rows.X if is_rounded else rows.some()), chosen
    )


def _to_c(model: Any, path: Path, dtype: str | None, rows: _Rows) -> _Exported:
    from fastmlp.export import check_c, to_c

    chosen = dtype or "float32"
    name = re.sub(r"[^A-Za-z0-9_]", "_", path.stem)
    name = name if re.match("[A-Za-z]", name) else f"model_{name}"
    # Of tables, rows would only be recorded for the self-test: nobody's data belong in a header.
    X = rows.X if rows.X is not None and not is_pipeline(model) else None
    header = to_c(model, path, dtype=chosen, X=X, name=name)
    is_rounded = chosen in _FORMATS["c"].rounded and rows.y is not None
    return _Exported(
        path, rows, check_c(model, header, rows.X if is_rounded else rows.some()), chosen
    )


def _to_torch(model: Any, path: Path, dtype: str | None, rows: _Rows) -> _Exported:
    from fastmlp.export import check_torch, to_torch, torch_lines

    state = to_torch(model, path, dtype=dtype)
    chosen = str(next(iter(state.values())).dtype).removeprefix("torch.")
    lines = torch_lines(model, path, dtype=dtype)
    return _Exported(path, rows, check_torch(model, path, rows.some()), chosen, lines=lines)


def _to_safetensors(model: Any, path: Path, dtype: str | None, rows: _Rows) -> _Exported:
    from fastmlp.export import check_safetensors, to_safetensors

    tensors = to_safetensors(model, path, dtype=dtype)
    chosen = next(iter(tensors.values())).dtype.name
    return _Exported(path, rows, check_safetensors(model, path, rows.some()), chosen)


def _to_card(model: Any, path: Path, dtype: str | None, rows: _Rows) -> _Exported:
    from fastmlp.export import to_card

    to_card(model, path)
    return _Exported(path, rows)


_EXPORTERS: dict[str, Callable[[Any, Path, str | None, _Rows], _Exported]] = {
    "onnx": _to_onnx,
    "html": _to_html,
    "c": _to_c,
    "torch": _to_torch,
    "safetensors": _to_safetensors,
    "card": _to_card,
}
