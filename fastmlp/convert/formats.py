"""Data sets in files of every kind: recognised, read, and written as another.

In memory a data set is one `Part`, or two, for training and test. Kinds of sources are told by
their contents, kinds of targets by their names:

    IDX       four files in a directory, or a file of images with its labels beside it
    .npz      x, y or, as Keras publishes MNIST, x_train, y_train, x_test, y_test
    .csv      a header, then a row per image: label, pixels; two files for two parts
    .parquet  the same columns
    pictures  a folder per label; two such directories, train and test, for two parts

A single array in an IDX, .npy or .npz file remains a single array in these three.
"""

from __future__ import annotations

import csv
import io
import os
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmlp import datasets, idx, images
from fastmlp.exceptions import FastMLPWarning, warn
from fastmlp.utils.files import atomic_directory, atomic_files, atomic_write, write_npz

__all__ = ["LabelWarning", "Part", "convert", "read", "read_array"]

AnyPath: TypeAlias = str | os.PathLike[str]

_LABEL_NAMES = ("label", "class", "target", "y")
_ARRAY_KINDS = ("idx", "npy", "npz")  # that can hold a single array
_PARTS = ("train", "test")

# Labels that a table holds as numbers: those that are written like this, with blanks around.
_NUMBER = re.compile(r"[ \t]*(?:0|-?[1-9][0-9]*)[ \t]*")


class LabelWarning(FastMLPWarning):
    """Labels are not written exactly as they were: as numbers in place of text, or one of many."""


@dataclass(frozen=True)
class Part:
    """Images and their labels.

    Attributes
    ----------
    images : ndarray of shape (n_samples, height, width) or (n_samples, n_pixels), uint8
    labels : ndarray of shape (n_samples,), integers or str
    """

    images: NDArray[np.uint8]
    labels: NDArray[Any]

    def __str__(self) -> str:
        n_classes = len(np.unique(self.labels))
        shape = " x ".join(map(str, self.images.shape[1:]))
        return f"{len(self.images)} images of {shape}, {n_classes} labels"


Parts: TypeAlias = dict[str, Part]  # {"": all} or {"train": ..., "test": ...}


def convert(
    source: AnyPath,
    target: AnyPath,
    *,
    data_home: AnyPath | None = None,
    size: tuple[int, int] | None = None,
    force: bool = False,
    progress: images.Progress | None = None,
) -> dict[Path, str]:
    """Write a data set as files of another kind.

    Parameters
    ----------
    source : path, or the name of a data set
        As the module's docstring says. If ``digits.csv`` is not there, ``digits_train.csv`` and
        ``digits_test.csv`` are read; so with .parquet.
    target : path
        Ends in .npz, .npy, .csv or .parquet; or has idx or ubyte in its name, or ends in .gz, for
        IDX. A name without an ending, or with a slash at its end, is a directory of pictures.
    data_home : path, optional
        As in `fastmlp.datasets.load`, for a data set that is named.
    size : (height, width), optional
        As in `fastmlp.images.load_folder`, for pictures.
    force : bool, default=False
        Replace files that exist, and directories of pictures that this function wrote.
    progress : callable, optional
        As in `fastmlp.images.load_folder`.

    Returns
    -------
    written : dict of Path to str
        What was written, and what is in it.

    Raises
    ------
    ValueError
        The source cannot be understood, the target cannot hold it, or exists.
    OSError
        A file cannot be read or written.
    ImportError
        A package is missing: Pillow for pictures, pyarrow for Parquet.

    Warns
    -----
    LabelWarning
        Labels that are text, such as "7", will be read back as numbers from a table or from
        pictures; or QMNIST's labels had columns besides the class.

    Notes
    -----
    Pictures whose names are different numbers, as those that fastmlp writes, come in the order of
    these numbers; others sorted by label and name.

    Examples
    --------
    >>> convert("mnist", "mnist.csv")  # doctest: +SKIP
    {PosixPath('mnist_train.csv'): '60000 images of 28 x 28, 10 labels', ...
    """
    kind = _target_kind(target)
    path = Path(target).expanduser()
    if kind == "pictures":
        images.check_destination(path, force)
    elif not (kind == "idx" and path.is_dir()):
        _refuse_existing([path], force)
    file = Path(source).expanduser()
    if kind in _ARRAY_KINDS and not _is_data_set(source) and file.is_file():
        array = _single_array(file)
        if array is not None:
            _write_array(path, array, kind)
            return {path: f"{array.dtype} of shape {array.shape}"}
    parts = read(source, data_home=data_home, size=size, progress=progress)
    if kind in _READ_LABELS:
        _warn_of_numbers(parts, kind)
    return _WRITERS[kind](path, parts, force, progress)


# ---------------------------------------------------------------------------------- single arrays


def read_array(path: Path) -> NDArray[Any]:
    """Read the array in an IDX, .npy or .npz file, whatever its name."""
    arrays = _read_arrays(path)
    if len(arrays) != 1:
        raise ValueError(f"{path} cannot be read: it must hold one array, got {list(arrays)}.")
    (array,) = arrays.values()
    return array


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return name -> array; IDX and .npy files hold one without a name."""
    with path.open("rb") as file:
        magic = file.read(6)
        if magic != b"\x93NUMPY" and not magic.startswith(b"PK"):
            return {"": idx.read(path)}
        try:
            if magic == b"\x93NUMPY":  # mapped: that compares the header with the file's length
                return {"": np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))}
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive)
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} cannot be read: {str(error).rstrip('.')}.") from error


def _single_array(path: Path) -> NDArray[Any] | None:
    """Return the only array of a file, None if it holds a data set."""
    if _file_kind(path) != "arrays":
        return None
    arrays = _read_arrays(path)
    return next(iter(arrays.values())) if len(arrays) == 1 else None


def _write_array(path: Path, array: NDArray[Any], kind: str) -> None:
    if kind == "idx":
        idx.write(path, array)
        return
    with atomic_write(path) as file:
        if kind == "npy":
            np.save(file, array, allow_pickle=False)
        else:
            write_npz(file, {"arr_0": array}, compress=True)


# ----------------------------------------------------------------------------------------- reading


def _is_data_set(source: AnyPath) -> bool:
    return source in datasets.DATASETS or source == "digits"


def read(
    source: AnyPath,
    *,
    data_home: AnyPath | None = None,
    size: tuple[int, int] | None = None,
    progress: images.Progress | None = None,
) -> Parts:
    """Read a data set of images.

    Parameters
    ----------
    source, data_home, size, progress
        As in `convert`.

    Returns
    -------
    parts : dict of str to Part
        ``{"train": ..., "test": ...}``, or one whose name is "".

    Raises
    ------
    ValueError
        The source cannot be understood.
    OSError
        A file cannot be read.
    """
    path = Path(source).expanduser()
    if source == "digits":
        pairs = datasets.load_digits()
        return {name: _part(X, y, None) for name, (X, y) in zip(_PARTS, pairs, strict=True)}
    if isinstance(source, str) and source in datasets.DATASETS:
        return _read_idx_directory(datasets.fetch(source, data_home))
    if path.is_dir():
        return _read_directory(path, size, progress)
    if size is not None:
        raise ValueError(f"a size is for pictures, got {path}: leave it out.")
    if not path.exists() and _file_kind(path) in ("csv", "parquet"):
        files = _of_parts(path)
        if all(file.exists() for file in files.values()):
            return _alike({name: _read_file(file)[""] for name, file in files.items()})
    return _read_file(path)


def _alike(parts: Parts) -> Parts:
    """Return parts of which no one has numbers as labels and another text."""
    if all(part.labels.dtype.kind != "U" for part in parts.values()):
        return parts
    return {name: Part(part.images, part.labels.astype(np.str_)) for name, part in parts.items()}


def _read_directory(
    path: Path, size: tuple[int, int] | None, progress: images.Progress | None
) -> Parts:
    is_idx = any("idx" in entry.name.lower() for entry in path.iterdir())
    if is_idx or datasets.find_idx_directories(path):
        return _read_idx_directory(path)
    folders = images.find_parts(path) or {"": path}
    found = {
        name: images.load_folder(folder, size, progress=progress)
        for name, folder in folders.items()
    }
    parts = {}
    is_text = any(part.y.dtype.kind == "U" for part in found.values())
    for name, part in found.items():
        order = slice(None) if part.index is None else np.argsort(part.index)
        y = np.array([file.split("/")[0] for file in part.paths]) if is_text else part.y
        parts[name] = Part(part.X.reshape(-1, *part.shape)[order], y[order])
    return parts


def _read_idx_directory(path: Path) -> Parts:
    files = datasets.find_idx_files(path)
    return {name: _read_idx_pair(*files[i : i + 2]) for name, i in zip(_PARTS, (0, 2), strict=True)}


def _read_idx_pair(images_file: Path, labels_file: Path) -> Part:
    X, y = datasets.load_idx_pair(images_file, labels_file)
    header = idx.info(labels_file)
    _warn_of_columns(labels_file, header.dtype, header.shape)
    return Part(X.reshape(idx.info(images_file).shape), y)


def _warn_of_columns(labels_file: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    if datasets.has_class_column(dtype, shape):
        warn(
            f"{labels_file} holds {shape[1]} columns; column 0, the class, is the label.",
            LabelWarning,
        )


def _read_file(path: Path) -> Parts:
    kind = _file_kind(path)
    if kind == "csv":
        return {"": _read_csv(path)}
    if kind == "parquet":
        return {"": _read_parquet(path)}
    arrays = {name.lower(): array for name, array in _read_arrays(path).items()}
    if set(arrays) == {""} and (places := _label_files(path)):
        labels = next((place for place in places if place.exists()), places[0])
        if labels.exists():
            y = read_array(labels)
            _warn_of_columns(labels, y.dtype, y.shape)
            return {"": _part(arrays[""], datasets.class_column(y), path)}
        raise ValueError(f"{path} holds no labels: put those of its images into {labels}.")
    if set(arrays) == {"x", "y"}:
        return {"": _part(arrays["x"], arrays["y"], path)}
    if set(arrays) == {f"{letter}_{name}" for letter in "xy" for name in _PARTS}:
        return {name: _part(arrays[f"x_{name}"], arrays[f"y_{name}"], path) for name in _PARTS}
    raise ValueError(
        f"{path} must hold images and labels (x and y, or x_train, y_train, x_test and y_test), "
        f"got {', '.join(arrays) if any(arrays) else 'one array'}."
    )


def _file_kind(path: Path) -> str:
    if path.suffix.lower() == ".csv":
        return "csv"
    if path.suffix.lower() == ".parquet":
        return "parquet"
    return "arrays"


def _label_files(images_file: Path) -> list[Path]:
    """Return where the labels of a file of images may be; nothing if its name does not tell."""
    name = images_file.name
    if "image" not in name:
        return []
    name = name.replace("image", "label").removesuffix(".gz")
    usual = name.replace("idx3", "idx1")
    of_columns = name.replace("idx3-ubyte", "idx2-int")  # QMNIST
    endings = (".gz", "") if images_file.suffix == ".gz" else ("", ".gz")
    return [images_file.with_name(n + end) for n in (usual, of_columns) for end in endings]


def _part(X: NDArray[Any], y: NDArray[Any], source: Path | None) -> Part:
    """Check arrays from a file; rows that can be square images become such."""
    if X.ndim < 2 or y.shape != X.shape[:1]:
        raise ValueError(
            f"{source} must hold a row or an image per label, got shapes {X.shape} and {y.shape}."
        )
    if y.dtype.kind not in "iuU":
        raise ValueError(f"{source}: labels must be integers or strings, got {y.dtype}.")
    if X.dtype != np.uint8:
        with np.errstate(invalid="ignore"):
            narrow = X.astype(np.uint8) if X.dtype.kind in "iuf" else np.zeros(0, np.uint8)
        if not np.array_equal(narrow, X):
            raise ValueError(
                f"{source}: pixels must be whole numbers from 0 to 255, got others ({X.dtype})."
            )
        X = narrow
    if X.ndim == 2 and (shape := images.square_shape(X.shape[1])):
        X = X.reshape(-1, *shape)
    return Part(X, y)


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
            f"{path} cannot be read: {reason}. Every row must hold a label and pixels, numbers "
            "from 0 to 255."
        ) from error
    labels = _labels(rows["label"].tolist())
    X = _unflatten(rows["pixels"], [names[column].strip() for column in pixels])
    return _part(X, labels, path)


def _labels(texts: list[str]) -> NDArray[Any]:
    """Return the labels of a table, numbers only where no text is lost by that."""
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
    """Return the names of the columns; 1x1, 1x2, ... also tell height and width."""
    if len(shape) == 2:
        return [f"{row}x{column}" for row in range(1, shape[0] + 1)
                for column in range(1, shape[1] + 1)]  # fmt: skip
    return [f"pixel{number}" for number in range(1, int(np.prod(shape)) + 1)]


def _unflatten(X: NDArray[Any], names: list[str]) -> NDArray[Any]:
    """Give rows the shape of images if the names of their columns tell it."""
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
    return _part(_unflatten(np.stack(columns, axis=1), names[:label] + names[label + 1 :]), y, path)


# ----------------------------------------------------------------------------------------- writing


def _target_kind(target: AnyPath) -> str:
    text = os.fspath(target)
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix in (".npz", ".npy", ".csv", ".parquet"):
        return suffix[1:]
    if suffix == ".gz" or "idx" in path.name or "ubyte" in path.name:
        return "idx"
    if not suffix or text.endswith(("/", os.sep)) or path.is_dir():
        return "pictures"
    raise ValueError(
        "TARGET must end in .npz, .npy, .csv, .parquet or .gz, have idx or ubyte in its name, or "
        f"be a directory for pictures (no ending, or a slash at its end), got {text}."
    )


def _refuse_existing(paths: list[Path], force: bool) -> None:
    for path in paths:
        if path.is_dir():
            raise ValueError(f"{path} is a directory, where a file is to be: name another file.")
        if path.exists() and not force:
            raise ValueError(f"{path} exists: name another file, or replace it with --force.")


def _of_parts(path: Path) -> dict[str, Path]:
    return {name: path.with_name(f"{path.stem}_{name}{path.suffix}") for name in _PARTS}


def _write_idx(path: Path, parts: Parts, force: bool, progress: Any) -> dict[Path, str]:
    if "" in parts:
        places = _label_files(path)[:2]  # no more: these have one column
        if not places or path.is_dir():
            raise ValueError(
                "for images with labels, the name of the IDX file must contain 'images', so that "
                f"labels can be put beside it, such as train-images-idx3-ubyte, got {path}."
            )
        files = [path, next((place for place in places if place.exists()), places[0])]
    else:
        if path.suffix == ".gz" or path.is_file():
            raise ValueError(
                f"training and test images take four IDX files: name a directory, got {path}."
            )
        files = [path / name for name in datasets.FILE_NAMES]
    _refuse_existing(files, force)
    arrays = [array for part in parts.values() for array in (part.images, _integers(part.labels))]
    files[0].parent.mkdir(parents=True, exist_ok=True)
    with atomic_files(files) as streams:
        for file, stream, array in zip(files, streams, arrays, strict=True):
            idx.write(stream, array, compress=file.suffix == ".gz")
    return {
        file: f"{array.dtype} of shape {array.shape}"
        for file, array in zip(files, arrays, strict=True)
    }


def _integers(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels in the narrowest type that IDX has for them."""
    if labels.dtype.kind not in "iu":
        raise ValueError(
            f"IDX files hold labels that are whole numbers, got {str(labels[0])!r}: write .npz, "
            ".csv or .parquet instead."
        )
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    for dtype in (np.uint8, np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return labels.astype(dtype)
    raise ValueError(f"IDX files hold labels of at most 32 bits, got {low} to {high}.")


def _write_npy(path: Path, parts: Parts, force: bool, progress: Any) -> dict[Path, str]:
    raise ValueError(f"an .npy file holds one array, not images and labels, got {path}: use .npz.")


def _write_npz(path: Path, parts: Parts, force: bool, progress: Any) -> dict[Path, str]:
    arrays: dict[str, Any] = {}
    for name, part in parts.items():
        ending = f"_{name}" if name else ""
        arrays |= {f"x{ending}": part.images, f"y{ending}": part.labels}
    with atomic_write(path) as file:
        write_npz(file, arrays, compress=True)
    return {path: ", ".join(f"{name} {array.shape}" for name, array in arrays.items())}


def _write_tables(path: Path, parts: Parts, force: bool, progress: Any) -> dict[Path, str]:
    write = _write_csv if path.suffix.lower() == ".csv" else _write_parquet
    files = _of_parts(path) if "" not in parts else {"": path}
    _refuse_existing(list(files.values()), force)
    for part in parts.values():
        _check_text(part.labels)
    with atomic_files(list(files.values())) as streams:
        for name, stream in zip(files, streams, strict=True):
            write(stream, parts[name])
    return {file: str(parts[name]) for name, file in files.items()}


def _check_text(labels: NDArray[Any]) -> None:
    """Refuse labels that UTF-8 cannot hold: those with half a surrogate pair in them."""
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
    """Return a label as a field of CSV that is read back exactly, whatever is in it.

    Readers drop blanks and break lines where the csv module would not quote.
    """
    text = str(label)
    if isinstance(label, int) or (text.isascii() and text.isalnum()):
        return text
    return '"' + text.replace('"', '""') + '"'


def _write_parquet(file: Any, part: Part) -> None:
    arrow = _parquet()
    columns = np.ascontiguousarray(part.images.reshape(len(part.images), -1).T)
    names = _pixel_names(part.images.shape[1:])
    # As a list, because Arrow ends NumPy's text at a NUL.
    labels = part.labels.tolist() if part.labels.dtype.kind == "U" else part.labels
    table = arrow.table({"label": labels} | dict(zip(names, columns, strict=True)))
    arrow.parquet.write_table(table, file, compression="zstd")


def _write_pictures(path: Path, parts: Parts, force: bool, progress: Any) -> dict[Path, str]:
    for part in parts.values():
        if part.images.ndim != 3:
            raise ValueError(
                f"pictures need a height and a width, got rows of {part.images[0].size} pixels: "
                "name the pixels of a CSV file 1x1, 1x2, ... after their row and column."
            )
    images.check_destination(path, force)
    with atomic_directory(path) as staging:
        for name, part in parts.items():
            images.save_folder(part.images, part.labels, staging / name, progress=progress)
    return {path / name: str(part) for name, part in parts.items()}


def _warn_of_numbers(parts: Parts, kind: str) -> None:
    """Warn of labels that are text now, and will be numbers when they are read."""
    labels = np.concatenate([part.labels for part in parts.values()])
    texts = np.unique(labels).tolist() if labels.dtype.kind == "U" else []
    if texts and _READ_LABELS[kind](texts).dtype.kind != "U":
        warn(
            f"the labels are text, such as {texts[0]!r}, but will be read back as numbers.",
            LabelWarning,
        )


# How labels are read from kinds of files that hold them as text.
_READ_LABELS: dict[str, Callable[[list[str]], NDArray[Any]]] = {
    "csv": _labels,
    "parquet": _labels,
    "pictures": images.labels_from_text,
}
_WRITERS = {
    "idx": _write_idx,
    "npy": _write_npy,
    "npz": _write_npz,
    "csv": _write_tables,
    "parquet": _write_tables,
    "pictures": _write_pictures,
}
