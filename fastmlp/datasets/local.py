"""Find the local files of a data set by their names, in many spellings."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TypeAlias

from fastmlp import idx
from fastmlp.datasets.catalogue import FILE_NAMES, Dataset, DatasetError

PathArgument: TypeAlias = str | os.PathLike[str]

# Spellings in use: train-images-idx3-ubyte, t10k-images.idx3-ubyte.gz,
# train-images-idx3-ubtye.gz, emnist-letters-test-labels-idx1-ubyte, qmnist-train-labels-idx2-int.
_IDX_NAME = re.compile(
    r"(?P<prefix>(?!\.).*?)(?P<split>train|t10k|test)[-_. ]?(?P<kind>image|label)s?"
    r"[-_. ]?idx\d?(?:[-_.][a-z]+)?(?:\.gz)?",
    re.IGNORECASE,
)


def data_home_path(data_home: PathArgument | None = None) -> Path:
    """Return the directory of the data sets.

    Parameters
    ----------
    data_home : path, optional
        By default ``$FASTMLP_DATA``, otherwise the platform's cache directory.
    """
    chosen = data_home or os.environ.get("FASTMLP_DATA")
    if not chosen:
        import pooch

        chosen = pooch.os_cache("fastmlp")
    home = Path(chosen).expanduser()
    if home.exists() and not home.is_dir():
        raise DatasetError(f"data_home must be a directory, got the file {home}.")
    return home


def find_idx_files(directory: PathArgument) -> list[Path]:
    """Return the paths of the four files that `load_idx_directory` reads, as in `FILE_NAMES`.

    Parameters
    ----------
    directory : path
        As in `load_idx_directory`.

    Raises
    ------
    DatasetError
        The directory has no complete set, or more than one.
    """
    directory = Path(directory).expanduser()
    if not directory.is_dir():
        raise DatasetError(f"{directory} is not a directory.")
    places = find_idx_directories(directory)
    if len(places) > 1:
        raise DatasetError(
            f"{directory} must hold one data set, got {', '.join(map(str, places))}: use one of "
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
    # Of several spellings the first with an IDX header; if none has one, reading it fails.
    return [next(filter(_has_idx_header, files[name]), files[name][0]) for name in FILE_NAMES]


def find_idx_directories(directory: PathArgument) -> list[Path]:
    """Return the directories in which `find_idx_files` finds a data set; it requires exactly one.

    Parameters
    ----------
    directory : path
        As in `load_idx_directory`.

    Returns
    -------
    places : list of Path
        The directory itself; otherwise those of torchvision, whose root it may be.
    """
    directory = Path(directory).expanduser()
    if _complete_sets(directory):
        return [directory]
    below = [directory / "raw", *sorted(directory.glob("*/raw"))]
    return [place for place in below if _complete_sets(place)]


def _no_idx_files(directory: Path) -> str:
    """Return the error message for a directory without a data set."""
    entries = sorted(entry for entry in directory.iterdir() if not entry.name.startswith("."))
    names = [entry.name for entry in entries]
    sentence = (
        f"{directory} must hold four IDX files ({', '.join(FILE_NAMES)}, as they are or .gz), "
        f"got {', '.join(names[:8]) or 'an empty directory'}{', ...' if names[8:] else ''}"
    )
    if names and all(entry.is_dir() for entry in entries):
        sentence += f": if these are images, run 'fastmlp data convert {directory} NAME-idx' first"
    return f"{sentence}."


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
    """Return the complete sets found by `_find_idx_files`."""
    found = _find_idx_files(directory)
    return {prefix: files for prefix, files in found.items() if len(files) == len(FILE_NAMES)}


def _has_idx_header(path: Path) -> bool:
    try:
        idx.info(path)
    except (idx.IDXError, OSError):
        return False
    return True


def files_of(dataset: Dataset, directory: Path) -> dict[str, Path]:
    """Return usual file name -> path, by the names only; digests are not checked."""
    found = _find_idx_files(directory).get("", {})
    return {
        name: min(paths, key=lambda path: (path.suffix == ".gz") != dataset.packed)
        for name, paths in found.items()
    }
