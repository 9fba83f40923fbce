"""What the gray levels of images say: their background, and the value of white."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Values of white pixels: of black and white or floats, of scikit-learn's digits, and of bytes.
WHITES = (1, 16, 255)

_DARK, _LIGHT = 85, 170  # gray levels below and above which a background is dark or light


def background(images: "NDArray[Any]") -> float:
    """Return the median gray of the borders of images of shape (n_samples, rows, columns)."""
    import numpy as np

    borders = images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]
    return float(np.median(np.concatenate([border.ravel() for border in borders])))


def are_opposite(one: float, other: float) -> bool:
    """Return whether one background is dark and the other light.

    Examples
    --------
    >>> are_opposite(0, 250), are_opposite(0, 100)
    (True, False)
    """
    low, high = sorted((one, other))
    return low < _DARK and high > _LIGHT
