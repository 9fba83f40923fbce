"""What all kinds of files share: a data set in memory, and the description of a kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmlp import images
from fastmlp.exceptions import FastMLPWarning

PARTS = ("train", "test")


class LabelWarning(FastMLPWarning):
    """Labels are not written exactly as they were: as numbers in place of text, or one of many."""


@dataclass(frozen=True)
class Part:
    """Images and their labels.

    Attributes
    ----------
    images : ndarray of shape (n_samples, height, width) or (n_samples, n_pixels), uint8
    labels : ndarray of shape (n_samples,), integers or str
    """

    images: NDArray[np.uint8]
    labels: NDArray[Any]

    def __str__(self) -> str:
        n_classes = len(np.unique(self.labels))
        shape = " x ".join(map(str, self.images.shape[1:]))
        return f"{len(self.images)} images of {shape}, {n_classes} labels"


Parts: TypeAlias = dict[str, Part]  # {"": all} or {"train": ..., "test": ...}


def refuse_existing(paths: list[Path], force: bool) -> None:
    """Refuse to write where directories are or, without `force`, files."""
    for path in paths:
        if path.is_dir():
            raise ValueError(f"{path} is a directory, where a file is to be: name another file.")
        if path.exists() and not force:
            raise ValueError(f"{path} exists: name another file, or replace it with --force.")


@dataclass(frozen=True)
class Kind:
    """A kind of files that data sets are read from and written to.

    Attributes
    ----------
    ending : str
        That of the names of such files; "" if they are told otherwise.
    read : callable
        Called with a path, and the size and progress of `convert`; returns the parts.
    write : callable
        Called with a path, the parts, and the force and progress of `convert`; returns what was
        written, and what is in it.
    write_array : callable, optional
        Called with a path and an array, if files of this kind can hold a single array.
    read_labels : callable, optional
        Called with labels as a list of str, if that is how files of this kind hold them; returns
        what is read back.
    is_source : callable, optional
        Called with a path; whether this kind is there. By default, the ending tells.
    is_target : callable, optional
        Called with the name of a target; whether it means this kind. By default, the ending tells.
    check_target : callable, optional
        Called with a path and the force of `convert`, before anything is read. By default, there
        must be no file, or force.
    """

    ending: str
    read: Callable[[Path, tuple[int, int] | None, images.Progress | None], Parts]
    write: Callable[[Path, Parts, bool, images.Progress | None], dict[Path, str]]
    write_array: Callable[[Path, NDArray[Any]], None] | None = None
    read_labels: Callable[[list[str]], NDArray[Any]] | None = None
    is_source: Callable[[Path], bool] | None = None
    is_target: Callable[[str], bool] | None = None
    check_target: Callable[[Path, bool], None] | None = None


def as_part(X: NDArray[Any], y: NDArray[Any], source: Path | None) -> Part:
    """Check arrays from a file; rows that can be square images become such."""
    if X.ndim < 2 or y.shape != X.shape[:1]:
        raise ValueError(
            f"{source} must hold a row or an image per label, got shapes {X.shape} and {y.shape}."
        )
    if y.dtype.kind not in "iuU":
        raise ValueError(f"{source}: labels must be integers or strings, got {y.dtype}.")
    if X.dtype != np.uint8:
        with np.errstate(invalid="ignore"):
            narrow = X.astype(np.uint8) if X.dtype.kind in "iuf" else np.zeros(0, np.uint8)
        if not np.array_equal(narrow, X):
            raise ValueError(
                f"{source}: pixels must be whole numbers from 0 to 255, got others ({X.dtype})."
            )
        X = narrow
    if X.ndim == 2 and (shape := images.square_shape(X.shape[1])):
        X = X.reshape(-1, *shape)
    return Part(X, y)
