"""Arrays: IDX files, .npy and .npz."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import datasets, idx
from fastmlp.convert.kind import PARTS, Kind, LabelWarning, Part, Parts, as_part, refuse_existing
from fastmlp.exceptions import warn
from fastmlp.utils.files import atomic_files, atomic_write, write_npz


def read_array(path: Path) -> NDArray[Any]:
    """Read the array in an IDX, .npy or .npz file, regardless of its name."""
    arrays = _read_arrays(path)
    if len(arrays) != 1:
        raise ValueError(f"{path} cannot be read: it must hold one array, got {list(arrays)}.")
    (array,) = arrays.values()
    return array


def single_array(path: Path) -> NDArray[Any] | None:
    """Return the single array of a file, None if it contains a data set."""
    arrays = _read_arrays(path)
    return next(iter(arrays.values())) if len(arrays) == 1 else None


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return name -> array; IDX and .npy files contain one without a name."""
    with path.open("rb") as file:
        magic = file.read(6)
        if magic != b"\x93NUMPY" and not magic.startswith(b"PK"):
            return {"": idx.read(path)}
        try:
            if magic == b"\x93NUMPY":  # memory-mapped, which checks the file's length
                return {"": np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))}
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive)
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} cannot be read: {str(error).rstrip('.')}.") from error


def read_idx_directory(path: Path) -> Parts:
    """Read the four IDX files of a directory."""
    files = datasets.find_idx_files(path)
    return {name: _read_idx_pair(*files[i : i + 2]) for name, i in zip(PARTS, (0, 2), strict=True)}


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


def _label_files(images_file: Path) -> list[Path]:
    """Return possible label files for a file of images; empty if its name does not tell."""
    name = images_file.name
    if "image" not in name:
        return []
    name = name.replace("image", "label").removesuffix(".gz")
    usual = name.replace("idx3", "idx1")
    of_columns = name.replace("idx3-ubyte", "idx2-int")  # QMNIST
    endings = (".gz", "") if images_file.suffix == ".gz" else ("", ".gz")
    return [images_file.with_name(n + end) for n in (usual, of_columns) for end in endings]


def _read(path: Path, size: Any, progress: Any) -> Parts:
    """Read a directory of IDX files, or an IDX, .npy or .npz file, detected by content."""
    if path.is_dir():
        return read_idx_directory(path)
    arrays = {name.lower(): array for name, array in _read_arrays(path).items()}
    if set(arrays) == {""} and (places := _label_files(path)):
        labels = next((place for place in places if place.exists()), places[0])
        if labels.exists():
            y = read_array(labels)
            _warn_of_columns(labels, y.dtype, y.shape)
            return {"": as_part(arrays[""], datasets.class_column(y), path)}
        raise ValueError(f"{path} holds no labels: put those of its images into {labels}.")
    if set(arrays) == {"x", "y"}:
        return {"": as_part(arrays["x"], arrays["y"], path)}
    if set(arrays) == {f"{letter}_{name}" for letter in "xy" for name in PARTS}:
        return {name: as_part(arrays[f"x_{name}"], arrays[f"y_{name}"], path) for name in PARTS}
    raise ValueError(
        f"{path} must hold images and labels (x and y, or x_train, y_train, x_test and y_test), "
        f"got {', '.join(arrays) if any(arrays) else 'one array'}."
    )


def _write_idx(path: Path, parts: Parts, force: bool, progress: Any) -> dict[Path, str]:
    if "" in parts:
        places = _label_files(path)[:2]  # not any more: these have one column
        if not places or path.is_dir():
            raise ValueError(
                "for images with labels, the name of the IDX file must contain 'images', so that "
                f"labels can be put next to it, such as train-images-idx3-ubyte, got {path}."
            )
        files = [path, next((place for place in places if place.exists()), places[0])]
    else:
        if path.suffix == ".gz" or path.is_file():
            raise ValueError(
                f"training and test images are four IDX files: use a directory, got {path}."
            )
        files = [path / name for name in datasets.FILE_NAMES]
    refuse_existing(files, force)
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
    """Return labels in the smallest suitable IDX type."""
    if labels.dtype.kind not in "iu":
        raise ValueError(
            f"IDX files can only hold integer labels, got {str(labels[0])!r}: write .npz, "
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


def _write_npz_array(path: Path, array: NDArray[Any]) -> None:
    with atomic_write(path) as file:
        write_npz(file, {"arr_0": array}, compress=True)


def _write_npy_array(path: Path, array: NDArray[Any]) -> None:
    with atomic_write(path) as file:
        np.save(file, array, allow_pickle=False)


def _is_idx(path: Path) -> bool:
    """Return whether a directory has IDX files; True for all files not of another kind."""
    if not path.is_dir():
        return True
    is_named_so = any("idx" in entry.name.lower() for entry in path.iterdir())
    return is_named_so or bool(datasets.find_idx_directories(path))


def _is_name_of_idx(target: str) -> bool:
    path = Path(target)
    return path.suffix.lower() == ".gz" or "idx" in path.name or "ubyte" in path.name


def _check_idx(path: Path, force: bool) -> None:
    if not path.is_dir():
        refuse_existing([path], force)


NPZ = Kind(".npz", _read, _write_npz, _write_npz_array)
NPY = Kind(".npy", _read, _write_npy, _write_npy_array)
IDX = Kind(
    ".gz",
    _read,
    _write_idx,
    idx.write,
    is_source=_is_idx,
    is_target=_is_name_of_idx,
    check_target=_check_idx,
)
