"""A data set in memory, and the description of a file format."""

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
    """Labels are not written exactly: as numbers instead of text, or one of several columns."""


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
    """Raise an error if a directory or, without `force`, a file exists."""
    for path in paths:
        if path.is_dir():
            raise ValueError(f"{path} is a directory, not a file: use another name.")
        if path.exists() and not force:
            raise ValueError(f"{path} exists: use another name, or replace it with --force.")


@dataclass(frozen=True)
class Kind:
    """A file format for data sets.

    Attributes
    ----------
    ending : str
        The file extension; "" if files are recognized otherwise.
    read : callable
        Called with a path, and the size and progress of `convert`; returns the parts.
    write : callable
        Called with a path, the parts, and the force and progress of `convert`; returns the
        written files and their content.
    write_array : callable, optional
        Called with a path and an array, if the format supports a single array.
    read_labels : callable, optional
        Called with labels as a list of str, if the format stores them as text; returns the labels
        that are read back.
    is_source : callable, optional
        Called with a path; whether it has this format. By default, determined by the extension.
    is_target : callable, optional
        Called with the name of a target; whether it has this format. By default, determined by the
        extension.
    check_target : callable, optional
        Called with a path and the force of `convert`, before anything is read. By default, refuses
        existing files without force.
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
    """Check arrays from a file; rows are reshaped to square images if possible."""
    if X.ndim < 2 or y.shape != X.shape[:1]:
        raise ValueError(
            f"{source} must hold one row or image per label, got shapes {X.shape} and {y.shape}."
        )
    if y.dtype.kind not in "iuU":
        raise ValueError(f"{source}: labels must be integers or strings, got {y.dtype}.")
    if X.dtype != np.uint8:
        with np.errstate(invalid="ignore"):
            narrow = X.astype(np.uint8) if X.dtype.kind in "iuf" else np.zeros(0, np.uint8)
        if not np.array_equal(narrow, X):
            raise ValueError(
                f"{source}: pixels must be integers from 0 to 255, got others ({X.dtype})."
            )
        X = narrow
    if X.ndim == 2 and (shape := images.square_shape(X.shape[1])):
        X = X.reshape(-1, *shape)
    return Part(X, y)
