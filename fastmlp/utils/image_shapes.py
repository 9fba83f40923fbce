"""Shapes of images: validation, and the shape of the images in an array."""

import math
from typing import TypeAlias

__all__ = ["Shape", "check_shape", "shape_of_images", "square_shape"]

Shape: TypeAlias = tuple[int, int]  # height and width


def square_shape(n_pixels: int) -> Shape | None:
    """Return height and width of a square image, None if it is not square.

    Examples
    --------
    >>> square_shape(784)
    (28, 28)
    """
    side = math.isqrt(n_pixels)
    return (side, side) if side * side == n_pixels and side else None


def check_shape(shape: Shape, name: str) -> Shape:
    """Return the shape of an image as a tuple of int.

    Parameters
    ----------
    shape : (height, width)
    name : str
        Name of the parameter, for the message.

    Raises
    ------
    ValueError
        If it is not two numbers, both at least 1.
    """
    try:
        height, width = map(int, shape)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise ValueError(f"{name} must be (height, width), both at least 1, got {shape!r}.")
    return height, width


def shape_of_images(
    array_shape: tuple[int, ...], shape: Shape | None = None, name: str = "shape"
) -> Shape:
    """Return height and width of the images in an array.

    Parameters
    ----------
    array_shape : (n_samples, n_pixels) or (n_samples, height, width)
    shape : (height, width), optional
        As given by the user. By default that of the array; rows are square images.
    name : str, default="shape"
        Name of the parameter `shape`, for messages.

    Raises
    ------
    ValueError
        If the array does not have images of this shape.

    Examples
    --------
    >>> shape_of_images((100, 784))
    (28, 28)
    >>> shape_of_images((100, 35), (5, 7))
    (5, 7)
    """
    if len(array_shape) not in (2, 3):
        raise ValueError(
            "X must be of shape (n_samples, n_pixels) or (n_samples, height, width), got "
            f"{array_shape}; one sample is X[[i]]."
        )
    pixels = array_shape[1:]
    if shape is not None:
        height, width = check_shape(shape, name)
    elif len(pixels) == 2:
        height, width = check_shape((pixels[0], pixels[1]), name)
    elif square := square_shape(pixels[0]):
        height, width = square
    else:
        raise ValueError(
            f"images must be square unless their shape is given, got {pixels[0]} pixels: give "
            f"{name}=(height, width)."
        )
    if pixels not in ((height, width), (height * width,)):
        raise ValueError(
            f"{name} must be that of the images, which have {' x '.join(map(str, pixels))} pixels, "
            f"got {(height, width)}."
        )
    return height, width
