"""Layout of displays on a figure, and the length of their texts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CHARACTER",
    "bare_axes",
    "bounding_axes",
    "check_matplotlib",
    "draw_gallery",
    "gallery_grid",
    "gallery_size",
    "number_drawn",
    "short_label",
    "split",
]

CHARACTER = 0.009  # average width of a character in inches, per point of its size
_INK = "gray_r"  # large values are dark
_MOST_COLUMNS = 8  # of a gallery
_LONGEST_LABEL = 14


def check_matplotlib() -> None:
    """Raise ValueError if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise ValueError("plots need matplotlib: pip install 'fastmlp[plot]'.")


def bounding_axes(ax: Any, figsize: tuple[float, float]) -> Any:
    """Return `ax`, or that of a new pyplot figure."""
    check_matplotlib()
    if ax is None:
        import matplotlib.pyplot as plt

        return plt.figure(figsize=figsize, layout="constrained").add_subplot()
    return ax


def _divide(ax: Any, n_rows: int, n_columns: int, **options: Any) -> Any:
    """Return the grid into which the area of an Axes is divided."""
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError("ax must be created by plt.subplots or figure.subplots, got another.")
    ax.set_axis_off()
    return place.subgridspec(n_rows, n_columns, **options)


def split(ax: Any, widths: Sequence[float] = (1,), heights: Sequence[float] = (1,)) -> list[Any]:
    """Divide the area of an Axes into columns or rows of these relative sizes."""
    sizes = {"width_ratios": widths, "height_ratios": heights}
    grid = _divide(ax, len(heights), len(widths), **sizes)
    return [ax.figure.add_subplot(place) for place in grid]


def bare_axes(ax: Any, n: int, n_columns: int) -> NDArray:
    """Divide the area of an Axes into n Axes without frames; return them as an array."""
    grid = _divide(ax, max(1, -(-n // n_columns)), n_columns)
    axes = np.empty(n, dtype=object)
    for i in range(n):
        axes[i] = ax.figure.add_subplot(grid[i])
        axes[i].set_xticks([])
        axes[i].set_yticks([])
        axes[i].spines[:].set_visible(False)
    return axes


def gallery_grid(n: int) -> tuple[int, int]:
    """Return the number of rows and columns of a gallery."""
    n_rows = max(1, -(-n // _MOST_COLUMNS))
    return n_rows, max(1, -(-n // n_rows))


def gallery_size(n: int) -> tuple[float, float]:
    """Return the size of a gallery in inches."""
    n_rows, n_columns = gallery_grid(n)
    return 1.15 * n_columns, 1.35 * n_rows


def draw_gallery(ax: Any, images: NDArray, titles: list[str] | None) -> NDArray:
    """Draw images with their titles; return their Axes."""
    axes = bare_axes(ax, len(images), gallery_grid(len(images))[1])
    limits = {"vmin": images.min(initial=0), "vmax": images.max(initial=0)}
    for i, (place, image) in enumerate(zip(axes, images, strict=True)):
        place.imshow(image, cmap=_INK, **limits)
        if titles is not None:
            place.set_title(titles[i], fontsize=9)
    return axes


def number_drawn(n: int | None, available: int, name: str = "n") -> int:
    """Return the number of images to draw."""
    if n is not None and n < 1:
        raise ValueError(f"{name} must be at least 1, got {n}.")
    return available if n is None else min(n, available)


def short_label(label: Any, longest: int = _LONGEST_LABEL) -> str:
    """Return the name of a class, shortened in the middle, because names may differ at the end."""
    text = str(label)
    return text if len(text) <= longest else f"{text[: longest - 6]}…{text[-5:]}"
