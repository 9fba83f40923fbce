"""Convert data sets between file formats.

In memory a data set is one `Part`, or two, for training and test. The format of a source is
detected by its content, that of a target is determined by its name:

    IDX       four files in a directory, or a file of images and a file of labels next to it
    .npz      x, y or, as Keras publishes MNIST, x_train, y_train, x_test, y_test
    .csv      a header, then one row per image: label, pixels; two files for two parts
    .parquet  the same columns
    pictures  a folder per label; two such directories, train and test, for two parts

A single array in an IDX, .npy or .npz file remains a single array in these three.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

import numpy as np

from fastmlp import datasets, images
from fastmlp.convert.arrays import IDX, NPY, NPZ, read_idx_directory, single_array
from fastmlp.convert.kind import PARTS, Kind, LabelWarning, Parts, as_part, refuse_existing
from fastmlp.convert.pictures import PICTURES
from fastmlp.convert.tables import CSV, PARQUET
from fastmlp.exceptions import warn

AnyPath: TypeAlias = str | os.PathLike[str]

# In the order in which sources and targets are matched.
KINDS = (NPZ, NPY, CSV, PARQUET, IDX, PICTURES)


def convert(
    source: AnyPath,
    target: AnyPath,
    *,
    data_home: AnyPath | None = None,
    size: tuple[int, int] | None = None,
    force: bool = False,
    progress: images.Progress | None = None,
) -> dict[Path, str]:
    """Write a data set in another file format.

    Parameters
    ----------
    source : path, or the name of a data set
        See the docstring of the module. If ``digits.csv`` does not exist, ``digits_train.csv`` and
        ``digits_test.csv`` are read; also for .parquet.
    target : path
        Ends in .npz, .npy, .csv or .parquet; for IDX, has idx or ubyte in its name or ends in .gz.
        A name without an extension, or with a trailing slash, is a directory of images.
    data_home : path, optional
        As in `fastmlp.datasets.load`, for a data set given by name.
    size : (height, width), optional
        As in `fastmlp.images.load_folder`, for folders of images.
    force : bool, default=False
        Replace existing files, and directories of images written by this function.
    progress : callable, optional
        As in `fastmlp.images.load_folder`.

    Returns
    -------
    written : dict of Path to str
        The written files and their content.

    Raises
    ------
    ValueError
        The source cannot be read, or the target exists or does not support the data.
    OSError
        A file cannot be read or written.
    ImportError
        A package is missing: Pillow for images, pyarrow for Parquet.

    Warns
    -----
    LabelWarning
        Text labels such as "7" will be read back as numbers from a table or from images; or
        QMNIST's labels have other columns than the class.

    Notes
    -----
    Images whose names are distinct numbers, as written by fastmlp, are sorted by these numbers;
    others by label and name.

    Examples
    --------
    >>> convert("mnist", "mnist.csv")  # doctest: +SKIP
    {PosixPath('mnist_train.csv'): '60000 images of 28 x 28, 10 labels', ...
    """
    kind = _target_kind(target)
    path = Path(target).expanduser()
    if kind.check_target is not None:
        kind.check_target(path, force)
    else:
        refuse_existing([path], force)
    file = Path(source).expanduser()
    if kind.write_array is not None and not _is_data_set(source) and file.is_file():
        array = single_array(file) if _source_kind(file).write_array is not None else None
        if array is not None:
            kind.write_array(path, array)
            return {path: f"{array.dtype} of shape {array.shape}"}
    parts = read(source, data_home=data_home, size=size, progress=progress)
    _warn_of_numbers(parts, kind)
    return kind.write(path, parts, force, progress)


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
        The source cannot be read.
    OSError
        A file cannot be read.
    """
    path = Path(source).expanduser()
    if source == "digits":
        pairs = datasets.load_digits()
        return {name: as_part(X, y, None) for name, (X, y) in zip(PARTS, pairs, strict=True)}
    if isinstance(source, str) and source in datasets.DATASETS:
        return read_idx_directory(datasets.fetch(source, data_home))
    if size is not None and not path.is_dir():
        raise ValueError(f"a size is for folders of images, got {path}: omit it.")
    return _source_kind(path).read(path, size, progress)


def _source_kind(path: Path) -> Kind:
    def is_there(kind: Kind) -> bool:
        if kind.is_source is not None:
            return kind.is_source(path)
        return path.suffix.lower() == kind.ending and not path.is_dir()

    return next(filter(is_there, KINDS))


def _target_kind(target: AnyPath) -> Kind:
    text = os.fspath(target)
    for kind in KINDS:
        if kind.is_target is not None:
            if kind.is_target(text):
                return kind
        elif Path(text).suffix.lower() == kind.ending:
            return kind
    *endings, last = (kind.ending for kind in KINDS if kind.ending)
    raise ValueError(
        f"TARGET must end in {', '.join(endings)} or {last}, have idx or ubyte in its name, or "
        f"be a directory for images (no extension, or a trailing slash), got {text}."
    )


def _warn_of_numbers(parts: Parts, kind: Kind) -> None:
    """Warn about text labels that will be read back as numbers."""
    if kind.read_labels is None:
        return
    labels = np.concatenate([part.labels for part in parts.values()])
    texts = np.unique(labels).tolist() if labels.dtype.kind == "U" else []
    if texts and kind.read_labels(texts).dtype.kind != "U":
        warn(
            f"the labels are text, such as {texts[0]!r}, but will be read back as numbers.",
            LabelWarning,
        )
