"""Folders of images, one per label."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fastmlp import images
from fastmlp.convert.kind import Kind, Part, Parts
from fastmlp.utils.files import atomic_directory


def _read(path: Path, size: tuple[int, int] | None, progress: images.Progress | None) -> Parts:
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


def _write(
    path: Path, parts: Parts, force: bool, progress: images.Progress | None
) -> dict[Path, str]:
    for part in parts.values():
        if part.images.ndim != 3:
            raise ValueError(
                f"images need a height and a width, got rows of {part.images[0].size} pixels: "
                "name the pixels of a CSV file 1x1, 1x2, ... after their row and column."
            )
    images.check_destination(path, force)
    with atomic_directory(path) as staging:
        for name, part in parts.items():
            images.save_folder(part.images, part.labels, staging / name, progress=progress)
    return {path / name: str(part) for name, part in parts.items()}


def _is_name_of_directory(target: str) -> bool:
    path = Path(target)
    return not path.suffix or target.endswith(("/", os.sep)) or path.is_dir()


PICTURES = Kind(
    "",
    _read,
    _write,
    read_labels=images.labels_from_text,
    is_source=Path.is_dir,
    is_target=_is_name_of_directory,
    check_target=images.check_destination,
)
