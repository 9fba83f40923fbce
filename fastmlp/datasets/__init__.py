"""The MNIST family: find, download, verify and load the files."""

from fastmlp.datasets.catalogue import (
    DATASETS,
    FILE_NAMES,
    Dataset,
    DatasetError,
    SpoiledFileError,
    check_name,
)
from fastmlp.datasets.fetching import fetch
from fastmlp.datasets.loading import (
    class_column,
    has_class_column,
    image_shape,
    label_columns,
    load,
    load_digits,
    load_fashion_mnist,
    load_idx_directory,
    load_idx_pair,
    load_kmnist,
    load_mnist,
)
from fastmlp.datasets.local import data_home_path, find_idx_directories, find_idx_files

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetError",
    "FILE_NAMES",
    "SpoiledFileError",
    "check_name",
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
