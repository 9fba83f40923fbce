"""What estimators do with `augment`: an augmentation of this package, or a function."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmlp.augment.steps import Augmentation

__all__ = ["Augment", "apply", "check_augment"]

#: A function gets an array of images, and returns one of the same shape and dtype.
Augment: TypeAlias = Augmentation | Callable[[NDArray[Any]], NDArray[Any]]


def check_augment(augment: Any, images: NDArray[Any]) -> None:
    """Try an augmentation on the first image, so that errors occur before training.

    Raises
    ------
    ValueError
        It is a class, does not suit the images, or returns something else than images.
    """
    if isinstance(augment, type):
        raise ValueError(f"augment must be an object, got the class; pass {augment.__name__}().")
    apply(augment, images[:1].copy(), seed=0, epoch=0, rows=np.zeros(1, np.int64), n_threads=1)


def apply(
    augment: Augment,
    X: NDArray[Any],
    *,
    seed: int,
    epoch: int,
    rows: NDArray[np.integer],
    n_threads: int | None,
) -> NDArray[Any]:
    """Return augmented images; `X` may be overwritten. See `Augmentation` for the others.

    Raises
    ------
    ValueError
        A function returns something else than images like `X`.
    """
    if isinstance(augment, Augmentation):
        return augment(X, seed=seed, epoch=epoch, rows=rows, out=X, n_threads=n_threads)
    after: Any = augment(X)
    if not isinstance(after, np.ndarray) or (after.shape, after.dtype) != (X.shape, X.dtype):
        got = f"an object of type {type(after).__name__}"
        if isinstance(after, np.ndarray):
            got = f"{after.dtype} of shape {after.shape}"
        raise ValueError(
            "augment must return an array of the same shape and dtype as its argument, "
            f"{X.dtype} of shape {X.shape}, got {got}."
        )
    return after
