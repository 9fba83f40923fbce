"""Show rows of the data: as images, or as cells with column names."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from fastmlp.displays import as_images
from fastmlp.report.analysis import is_missing, take_rows
from fastmlp.report.figures import data_uri
from fastmlp.report.markup import Markup, element

__all__ = ["Cells", "Pictures", "cell_text", "shortened"]

_LONGEST_SIDE = 64  # of an image on the page
_LONGEST_CELL = 60
_DARK = 0.25  # images whose median is below this fraction of the scale are treated as ink on paper


def shortened(text: str, longest: int) -> str:
    """Shorten a text in the middle, because texts may differ at the end."""
    return text if len(text) <= longest else f"{text[: longest - 6]}…{text[-5:]}"


def cell_text(value: Any) -> str:
    """Return the text of a cell: numbers with six digits, and a word for missing values."""
    if isinstance(value, np.generic):
        value = value.item()
    if is_missing(value):
        return "missing"
    if isinstance(value, float):
        return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")
    return shortened(str(value), _LONGEST_CELL)


class Pictures:
    """Rows that are images, on a common gray scale.

    If most pixels are near the lower end, as in MNIST, large values are dark, as ink on paper;
    otherwise they are bright, as in photographs.

    Parameters
    ----------
    X : array or sparse matrix of shape (n_samples, n_features)
        Determines the scale.
    shape : (rows, columns)
    """

    def __init__(self, X: Any, shape: tuple[int, int]) -> None:
        self._shape = shape
        X = _plain(X)
        some = as_images(take_rows(X, np.arange(min(X.shape[0], 1000))), shape)
        self._low, self._high = float(X.min()), float(X.max())
        self._span = self._high - self._low or 1.0
        self.is_ink = (np.median(some) - self._low) / self._span < _DARK
        factor = -(-max(shape) // _LONGEST_SIDE)
        self._factor = min(factor, *shape)

    def __call__(self, images: Any, text: str) -> Markup:
        """Return the image of one row, of shape (1, n_features), with an alternative text."""
        image = as_images(_plain(images), self._shape)[0].astype(np.float64)
        factor = self._factor
        rows, columns = (side // factor for side in image.shape)
        image = image[: rows * factor, : columns * factor]
        image = image.reshape(rows, factor, columns, factor).mean(axis=(1, 3))
        image = np.clip((image - self._low) / self._span, 0, 1)
        image = 1 - image if self.is_ink else image
        pixels = np.round(255 * image).astype(np.uint8)
        return element(
            "img", src=data_uri(pixels), alt=text, width=columns, height=rows, class_="picture"
        )


def _plain(X: Any) -> Any:
    """Return an array or a sparse matrix; for a frame, its values."""
    return np.asarray(X) if hasattr(X, "iloc") else X


class Cells:
    """Rows with named columns.

    Parameters
    ----------
    X : array, sparse matrix or frame of shape (n_samples, n_columns)
    names : list of str
    """

    def __init__(self, X: Any, names: list[str]) -> None:
        self._X = X
        self.names = names

    def row(self, number: int) -> list[Any]:
        """Return the values of a row, one per column."""
        if hasattr(
            self._X, "iloc"
        ):  # not .iloc[number], which would convert all values to one dtype
            return [self._X.iloc[number, column] for column in range(len(self.names))]
        values: NDArray = self._X[[number]].toarray() if issparse(self._X) else self._X[[number]]
        return values[0].tolist()
