"""Load data sets: those of the catalogue, scikit-learn's digits, and the user's IDX files.

`load_digits` needs no files and no network. `load_idx_directory` and `load_idx_pair` read any IDX
files, including QMNIST's labels, without verification.
"""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmlp import idx
from fastmlp.datasets.catalogue import DATASETS, FILE_NAMES, Dataset, DatasetError
from fastmlp.datasets.fetching import read_verified_files
from fastmlp.datasets.local import PathArgument, find_idx_files
from fastmlp.utils.suggestions import did_you_mean

Pair: TypeAlias = tuple[Any, Any]  # X, y: two arrays, or a DataFrame and a Series
Split: TypeAlias = tuple[Pair, Pair]  # train, test

_DIGITS_TEST_SAMPLES = 360  # 20 % of 1797

# QMNIST's labels (Yadav and Bottou, 2019): the class, then the digit's origin in NIST's collection,
# its writer, and so on.
_QMNIST_COLUMNS = 8


def load(
    name_or_directory: PathArgument,
    data_home: PathArgument | None = None,
    download: bool = True,
    *,
    as_frame: bool = False,
) -> Split:
    """Load a data set by name, or the four IDX files of a directory.

    Parameters
    ----------
    name_or_directory : {"mnist", "fashion", "kmnist", "digits"} or path
        A name takes precedence over a directory of that name; use ``./mnist`` for the directory.
    data_home, download
        As in `load_mnist`; for the data sets of the catalogue.
    as_frame : bool, default=False
        As in `load_mnist`.

    Returns
    -------
    (X_train, y_train), (X_test, y_test)

    Raises
    ------
    ValueError
        It is neither a valid name nor a directory.
    """
    if name_or_directory == "digits":
        return load_digits(as_frame=as_frame)
    if isinstance(name_or_directory, str) and name_or_directory in DATASETS:
        return _load_verified(DATASETS[name_or_directory], data_home, download, as_frame)
    if Path(name_or_directory).expanduser().is_dir():
        return load_idx_directory(name_or_directory, as_frame=as_frame)
    names, got = [*DATASETS, "digits"], os.fspath(name_or_directory)
    raise ValueError(
        f"data set must be one of {names} or a directory with four IDX files, got {got!r}"
        f"{did_you_mean(got, names)}"
    )


def load_mnist(
    data_home: PathArgument | None = None, *, download: bool = True, as_frame: bool = False
) -> Split:
    """Load MNIST, downloading it on first use.

    Parameters
    ----------
    data_home : path, optional
        Directory of the files. By default ``$FASTMLP_DATA``, otherwise the platform's cache
        directory. Files are looked up in ``data_home/<name>/``, in `data_home` itself, and in
        torchvision's directories: ``data_home/MNIST/raw/``, and so on.
    download : bool, default=True
        Download missing files. If False, only local files are used.
    as_frame : bool, default=False
        Return pandas objects: `X` as a DataFrame with OpenML's column names pixel1, pixel2, ...,
        and `y` as a Series named class.

    Returns
    -------
    (X_train, y_train), (X_test, y_test)
        `X` is uint8 of shape (60000, 784) and (10000, 784), one image per row, values 0..255;
        `y` is uint8 of shape (60000,) and (10000,), the class 0..9.

    Raises
    ------
    DatasetError
        A file is missing and could not be downloaded; the message lists every attempt.
    SpoiledFileError
        An existing file does not have the expected digest. It is not changed.
    ImportError
        `as_frame` is true, and pandas is not installed.

    Examples
    --------
    >>> (X, y), (X_test, y_test) = load_mnist(as_frame=True)  # doctest: +SKIP
    >>> X.groupby(y)["pixel379"].mean()  # doctest: +SKIP
    """
    return _load_verified(DATASETS["mnist"], data_home, download, as_frame)


def load_fashion_mnist(
    data_home: PathArgument | None = None, *, download: bool = True, as_frame: bool = False
) -> Split:
    """Load Fashion-MNIST; parameters, shapes and errors are those of `load_mnist`."""
    return _load_verified(DATASETS["fashion"], data_home, download, as_frame)


def load_kmnist(
    data_home: PathArgument | None = None, *, download: bool = True, as_frame: bool = False
) -> Split:
    """Load Kuzushiji-MNIST; parameters, shapes and errors are those of `load_mnist`.

    Its files must be the original .gz files, because only their digests are known.
    """
    return _load_verified(DATASETS["kmnist"], data_home, download, as_frame)


def load_digits(*, as_frame: bool = False) -> Split:
    """Load scikit-learn's 8 x 8 digits, which are included in scikit-learn.

    Parameters
    ----------
    as_frame : bool, default=False
        As in `load_mnist`.

    Returns
    -------
    (X_train, y_train), (X_test, y_test)
        `X` is uint8 of shape (1437, 64) and (360, 64), values 0..16; `y` is uint8, 0..9.

    Notes
    -----
    The last 360 samples are the test set. As samples are grouped by writer, the writers of the test
    set are not in the training set. This is harder than a random split: an MLP has an accuracy of
    about 0.90, compared with 0.97.

    Examples
    --------
    >>> from fastmlp.datasets import load_digits
    >>> (X_train, y_train), (X_test, y_test) = load_digits()
    >>> X_train.shape, X_test.shape, X_train.dtype.name, int(X_train.max())
    ((1437, 64), (360, 64), 'uint8', 16)
    >>> y_test[:8].tolist()
    [2, 3, 4, 5, 6, 7, 8, 9]
    """
    from sklearn.datasets import load_digits as load_sklearn_digits

    X, y = (array.astype(np.uint8) for array in load_sklearn_digits(return_X_y=True))
    n_train = len(X) - _DIGITS_TEST_SAMPLES
    train, test = (X[:n_train], y[:n_train]), (X[n_train:], y[n_train:])
    return _framed(train, as_frame), _framed(test, as_frame)


def load_idx_pair(images: PathArgument, labels: PathArgument, *, as_frame: bool = False) -> Pair:
    """Load an IDX file of images and the IDX file of their labels, each raw or gzipped.

    Parameters
    ----------
    images : path
        uint8, at least 2-D; the first axis is the samples.
    labels : path
        Integers, 1-D; or QMNIST's: int32 of shape (n_samples, 8), of which column 0 is the class.
    as_frame : bool, default=False
        As in `load_mnist`.

    Returns
    -------
    X : ndarray of shape (n_samples, n_pixels), uint8
    y : ndarray of shape (n_samples,), the integer dtype of the file

    Raises
    ------
    DatasetError
        The two files do not match; the message names both.
    fastmlp.idx.IDXError, FileNotFoundError
        A file is not IDX, is damaged, or is missing.
    """
    pair = _as_pair(idx.read(images), idx.read(labels), str(images), str(labels))
    return _framed(pair, as_frame)


def load_idx_directory(directory: PathArgument, *, as_frame: bool = False) -> Split:
    """Load the four IDX files of a directory, with any of the usual spellings of their names.

    Supported are any prefix (``emnist-letters-``), ``t10k`` or ``test``, ``.`` or ``-`` before
    ``idx``, gzipped or not, and a folder with the name of its file. Digests are not checked.

    Parameters
    ----------
    directory : path
        Contains one complete set of four files; other files are ignored. Otherwise, the files are
        looked up in ``raw/`` and ``*/raw/``, as in torchvision's root.
    as_frame : bool, default=False
        As in `load_mnist`.

    Returns
    -------
    (X_train, y_train), (X_test, y_test)
        As in `load_idx_pair`.

    Raises
    ------
    DatasetError
        The directory has no complete set, or more than one; or as in `load_idx_pair`.
    """
    train_X, train_y, test_X, test_y = find_idx_files(directory)
    return (
        load_idx_pair(train_X, train_y, as_frame=as_frame),
        load_idx_pair(test_X, test_y, as_frame=as_frame),
    )


def image_shape(name_or_directory: PathArgument) -> tuple[int, ...]:
    """Return the shape of a sample before `load` flattens it.

    Parameters
    ----------
    name_or_directory : {"mnist", "fashion", "kmnist", "digits"} or path
        As in `load`; for a directory, the header of the training images is read.

    Returns
    -------
    tuple of int
        ``(rows, columns)`` of greyscale images.

    Examples
    --------
    >>> image_shape("mnist")
    (28, 28)
    """
    if name_or_directory == "digits":
        return 8, 8
    if name_or_directory in DATASETS:
        return 28, 28
    return idx.info(find_idx_files(Path(name_or_directory).expanduser())[0]).shape[1:]


def label_columns(name_or_directory: PathArgument) -> int:
    """Return the number of columns of the labels of a data set; the first is the class.

    Parameters
    ----------
    name_or_directory : {"mnist", "fashion", "kmnist", "digits"} or path
        As in `load`; for a directory, the header of the training labels is read.

    Returns
    -------
    int
        8 for QMNIST, 1 for all others.

    Examples
    --------
    >>> label_columns("mnist")
    1
    """
    if name_or_directory in (*DATASETS, "digits"):
        return 1
    shape = idx.info(find_idx_files(Path(name_or_directory).expanduser())[1]).shape
    return math.prod(shape[1:])


def has_class_column(dtype: np.dtype, shape: tuple[int, ...]) -> bool:
    """Return whether an array of labels has QMNIST's format, in which column 0 is the class.

    Parameters
    ----------
    dtype : dtype
    shape : tuple of int
        QMNIST's is (n_samples, 8).
    """
    return dtype == np.int32 and len(shape) == 2 and shape[1] == _QMNIST_COLUMNS


def class_column(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the classes of labels: the labels, or column 0 in QMNIST's format.

    Parameters
    ----------
    labels : array of any shape

    Returns
    -------
    classes : array of shape (n_samples,), or the labels themselves
    """
    return labels[:, 0].copy() if has_class_column(labels.dtype, labels.shape) else labels


def _load_verified(
    dataset: Dataset, data_home: PathArgument | None, download: bool, as_frame: bool
) -> Split:
    _, payloads = read_verified_files(dataset, data_home, download)
    train_X, train_y, test_X, test_y = (idx.read(io.BytesIO(payloads[name])) for name in FILE_NAMES)
    return (
        _framed(_as_pair(train_X, train_y, *FILE_NAMES[:2]), as_frame),
        _framed(_as_pair(test_X, test_y, *FILE_NAMES[2:]), as_frame),
    )


def _framed(pair: Pair, as_frame: bool) -> Pair:
    """Return arrays unchanged, or as pandas objects that share their memory."""
    if not as_frame:
        return pair
    try:
        import pandas as pd
    except ImportError:
        raise ImportError("as_frame=True needs pandas: pip install pandas.") from None
    X, y = pair
    columns = [f"pixel{number}" for number in range(1, X.shape[1] + 1)]
    return pd.DataFrame(X, columns=columns, copy=False), pd.Series(y, name="class", copy=False)


def _as_pair(X: NDArray[Any], y: NDArray[Any], images: str, labels: str) -> Pair:
    """Check that two arrays are images and their labels."""
    if X.ndim < 2:
        swapped = " The two files are swapped." if y.ndim > 1 else ""
        raise DatasetError(
            f"{images}: a {X.ndim}-D label file where images were expected "
            f"(labels: {labels}).{swapped}"
        )
    y = class_column(y)
    if y.ndim != 1 or y.dtype.kind not in "iu":
        theirs = f"; or QMNIST's {_QMNIST_COLUMNS} columns of int32" if y.ndim == 2 else ""
        raise DatasetError(
            f"{labels}: labels must be 1-D integers, got shape {y.shape} of {y.dtype}{theirs} "
            f"(images: {images})."
        )
    if X.dtype != np.uint8:
        raise DatasetError(
            f"{images}: images must be uint8, got {X.dtype} (labels: {labels}). "
            "Read other arrays with fastmlp.idx.read."
        )
    if len(X) != len(y):
        raise DatasetError(
            f"{images} holds {len(X)} images, but {labels} holds {len(y)} labels; "
            "they do not belong together."
        )
    return X.reshape(len(X), math.prod(X.shape[1:])), y
