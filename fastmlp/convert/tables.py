"""Tables: CSV and Parquet."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import images
from fastmlp.convert.kind import PARTS, Kind, Part, Parts, as_part, refuse_existing
from fastmlp.utils.files import atomic_files

_LABEL_NAMES = ("label", "class", "target", "y")

# Labels that a table stores as numbers, with optional blanks around.
_NUMBER = re.compile(r"[ \t]*(?:0|-?[1-9][0-9]*)[ \t]*")


def _of_parts(path: Path) -> dict[str, Path]:
    return {name: path.with_name(f"{path.stem}_{name}{path.suffix}") for name in PARTS}


def _read(path: Path, size: Any, progress: Any) -> Parts:
    """Read a table or, if it does not exist, those of training and test."""
    read = _read_csv if path.suffix.lower() == ".csv" else _read_parquet
    files = _of_parts(path)
    if path.exists() or not all(file.exists() for file in files.values()):
        return {"": read(path)}
    return _alike({name: read(file) for name, file in files.items()})


def _alike(parts: Parts) -> Parts:
    """Return parts whose labels are all numbers or all text."""
    if all(part.labels.dtype.kind != "U" for part in parts.values()):
        return parts
    return {name: Part(part.images, part.labels.astype(np.str_)) for name, part in parts.items()}


def _read_csv(path: Path) -> Part:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            names = next(csv.reader([file.readline()]), [])
            has_header = names[:1] != [] and (
                names[0].strip().lower() in _LABEL_NAMES
                or not all(field.strip().isdecimal() for field in names[1:])
            )
            if not has_header:
                file.seek(0)
            lines = file.readlines()
        label = _label_column(names) if has_header else 0
        pixels = [column for column in range(len(names)) if column != label]
        if not pixels or not any(line.strip() for line in lines):
            raise ValueError("it holds no images")
        rows = np.loadtxt(
            lines,
            dtype=[("label", object), ("pixels", np.uint8, (len(pixels),))],
            delimiter=",",
            quotechar='"',
            comments=None,
            usecols=[label, *pixels],
            ndmin=1,
        )
    except (ValueError, csv.Error) as error:
        reason = str(error).partition(";")[0].rstrip(".")
        raise ValueError(
            f"{path} cannot be read: {reason}. Each row must hold a label and pixels, numbers "
            "from 0 to 255."
        ) from error
    labels = _labels(rows["label"].tolist())
    X = _unflatten(rows["pixels"], [names[column].strip() for column in pixels])
    return as_part(X, labels, path)


def _labels(texts: list[str]) -> NDArray[Any]:
    """Return the labels of a table, as numbers only if no text is lost."""
    if all(map(_NUMBER.fullmatch, texts)):
        return images.labels_from_text([text.strip(" \t") for text in texts])
    return np.array(texts, dtype=np.str_)


def _label_column(names: list[str]) -> int:
    found = [n for n, name in enumerate(names) if name.strip().lower() in _LABEL_NAMES]
    if len(found) != 1:
        raise ValueError(
            f"one column must be named {', '.join(_LABEL_NAMES[:-1])} or {_LABEL_NAMES[-1]}, got "
            f"{len(found)} such among {', '.join(names[:3])}, .."
        )
    return found[0]


def _pixel_names(shape: tuple[int, ...]) -> list[str]:
    """Return the names of the columns; 1x1, 1x2, ... also encode height and width."""
    if len(shape) == 2:
        return [f"{row}x{column}" for row in range(1, shape[0] + 1)
                for column in range(1, shape[1] + 1)]  # fmt: skip
    return [f"pixel{number}" for number in range(1, int(np.prod(shape)) + 1)]


def _unflatten(X: NDArray[Any], names: list[str]) -> NDArray[Any]:
    """Reshape rows to images if the names of their columns encode the shape."""
    last = re.fullmatch("([0-9]+)x([0-9]+)", names[-1]) if names else None
    shape = (int(last[1]), int(last[2])) if last else ()
    return X.reshape(-1, *shape) if last and _pixel_names(shape) == names else X


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ImportError("Parquet needs pyarrow: pip install pyarrow.") from None
    return pyarrow


def _read_parquet(path: Path) -> Part:
    arrow = _parquet()
    try:
        with path.open("rb") as file:
            table = arrow.parquet.read_table(file)
        names = table.column_names
        label = _label_column(names)
        if table.column(label).null_count or len(names) == 1:
            raise ValueError("labels or pixels are missing")
    except (arrow.ArrowException, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {str(error).rstrip('.')}.") from error
    columns = [table.column(number).to_numpy() for number in range(len(names))]
    y = columns.pop(label)
    if y.dtype == object:
        y = _labels(list(map(str, y)))
    return as_part(
        _unflatten(np.stack(columns, axis=1), names[:label] + names[label + 1 :]), y, path
    )


def _write(path: Path, parts: Parts, force: bool, progress: Any) -> dict[Path, str]:
    write = _write_csv if path.suffix.lower() == ".csv" else _write_parquet
    files = _of_parts(path) if "" not in parts else {"": path}
    refuse_existing(list(files.values()), force)
    for part in parts.values():
        _check_text(part.labels)
    with atomic_files(list(files.values())) as streams:
        for name, stream in zip(files, streams, strict=True):
            write(stream, parts[name])
    return {file: str(parts[name]) for name, file in files.items()}


def _check_text(labels: NDArray[Any]) -> None:
    """Refuse labels that cannot be encoded in UTF-8: those with unpaired surrogates."""
    for label in np.unique(labels).tolist() if labels.dtype.kind == "U" else []:
        try:
            label.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"labels must be valid Unicode to be written as text, got {label!r}: rename it, "
                "or write .npz."
            ) from None


def _write_csv(file: Any, part: Part) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label", *_pixel_names(part.images.shape[1:])])
    digits = [str(value) for value in range(256)]
    for label, image in zip(map(_quoted, part.labels.tolist()), part.images, strict=True):
        text.write(f"{label},{','.join(map(digits.__getitem__, image.tobytes()))}\n")
    text.detach()


def _quoted(label: str | int) -> str:
    """Return a label as a CSV field that is read back exactly.

    Readers drop blanks and break lines that the csv module would not quote.
    """
    text = str(label)
    if isinstance(label, int) or (text.isascii() and text.isalnum()):
        return text
    return '"' + text.replace('"', '""') + '"'


def _write_parquet(file: Any, part: Part) -> None:
    arrow = _parquet()
    columns = np.ascontiguousarray(part.images.reshape(len(part.images), -1).T)
    names = _pixel_names(part.images.shape[1:])
    # As a list, because Arrow truncates NumPy's text at NUL.
    labels = part.labels.tolist() if part.labels.dtype.kind == "U" else part.labels
    table = arrow.table({"label": labels} | dict(zip(names, columns, strict=True)))
    arrow.parquet.write_table(table, file, compression="zstd")


CSV = Kind(".csv", _read, _write, read_labels=_labels)
PARQUET = Kind(".parquet", _read, _write, read_labels=_labels)
