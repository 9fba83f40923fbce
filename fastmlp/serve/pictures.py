"""A picture as a request has it, as the rows of a model of images."""

import io

import numpy as np
from numpy.typing import NDArray

from fastmlp import images
from fastmlp.serve.errors import RequestError
from fastmlp.serve.limits import MAX_PIXELS
from fastmlp.utils import gray_levels

__all__ = ["is_picture", "read_picture"]

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_SIGNATURES = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"BM",
    b"GIF8",
    b"II*\0",
    b"MM\0*",
    b"RIFF",
    b"P5",
    b"P6",
)


def is_picture(content: memoryview) -> bool:
    """Return whether content begins as a picture does."""
    return bytes(content[:4]).startswith(_SIGNATURES)


def read_picture(
    content: memoryview, shape: tuple[int, int], background: float | None
) -> tuple[NDArray[np.uint8], bool]:
    """Return a picture as a row for a model of images, as ``fastmlp predict`` does.

    It is converted to grayscale and resized to the size of the training images. If its background
    is light and that of the training images dark, or vice versa, it is inverted.

    Parameters
    ----------
    content : bytes
        PNG, JPEG, BMP, GIF, TIFF, WebP or PNM.
    shape : (rows, columns)
    background : float or None
        Gray level around the training images.

    Returns
    -------
    row : array of shape (1, rows * columns), uint8
    is_inverted : bool

    Raises
    ------
    RequestError
        If it cannot be read, is too large, or Pillow is not installed.
    """
    gray = _gray(content, shape)
    found = gray_levels.background(gray[np.newaxis])
    is_inverted = background is not None and gray_levels.are_opposite(background, found)
    return (255 - gray if is_inverted else gray).reshape(1, -1), is_inverted


def _gray(content: memoryview, shape: tuple[int, int]) -> NDArray[np.uint8]:
    try:
        pillow = images._pillow()
    except ImportError:
        raise RequestError(
            "this server cannot read pictures, because Pillow is not installed: send rows of gray "
            "levels.",
            415,
        ) from None
    from PIL import ImageOps

    try:
        with pillow.open(io.BytesIO(content), formats=_FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise RequestError(
                    f"a picture must have at most {MAX_PIXELS:,} pixels, got {width} x {height}: "
                    "make it smaller.",
                    413,
                )
            ImageOps.exif_transpose(picture, in_place=True)
            gray = images._to_gray(picture, 0)
        if gray.size != shape[::-1]:
            gray = gray.resize(shape[::-1], pillow.Resampling.BILINEAR)
        return np.asarray(gray)
    except (RequestError, MemoryError):
        raise
    except Exception as error:  # decoders may raise any exception
        why = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        if isinstance(error, pillow.UnidentifiedImageError):
            why = f"it begins with {bytes(content[:8])!r}" if len(content) else "it is empty"
        raise RequestError(
            f"the picture cannot be read: {why}. It must be PNG, JPEG, BMP, GIF, TIFF, WebP or PNM."
        ) from None
