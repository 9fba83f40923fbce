"""Images as block characters, for terminals."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.style import Style
from rich.text import Text

_SHADES = " ░▒▓█"
_ASCII_SHADES = " .+*#"
_UPPER_HALF = "▀"
_GAP = 2  # columns between images


def print_images(console: Console, images: NDArray, captions: Sequence[str], width: int) -> None:
    """Print images side by side, each below its caption.

    With colours, a character shows two pixels, one above the other. Without, as in a file, it shows
    their mean. If the encoding has no block characters, ASCII is used.

    Parameters
    ----------
    console : Console
        Prints text unchanged.
    images : array of shape (n_images, rows, columns)
        Shown on a common scale from the smallest value, black, to the largest.
    captions : sequence of str
    width : int
        Characters of a line.
    """
    blocks = _has_blocks(console)
    coloured = blocks and console.color_system is not None and not console.no_color
    cell = max(images.shape[2], *map(len, captions)) + _GAP
    per_line = max(1, (width + _GAP) // cell)
    levels = _levels(images)
    for start in range(0, len(images), per_line):
        chosen = range(start, min(start + per_line, len(images)))
        heading = "".join(captions[i].ljust(cell) for i in chosen)
        console.print(heading.rstrip(), style="bold", soft_wrap=True)
        parts = [_coloured(levels[i]) if coloured else _shaded(levels[i], blocks) for i in chosen]
        for lines in zip(*parts, strict=True):
            text = Text()
            for line in lines:
                text.append_text(line)
                text.append(" " * (cell - len(line)))
            text.rstrip()
            console.print(text, soft_wrap=True)
        if chosen.stop < len(images):
            console.print()


def _has_blocks(console: Console) -> bool:
    try:
        (_SHADES + _UPPER_HALF).encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _levels(images: NDArray) -> NDArray:
    """Scale images to 0..1 and pad them to an even number of rows."""
    low, high = float(images.min()), float(images.max())
    levels = (images.astype(np.float64) - low) / (high - low or 1)
    return np.pad(levels, ((0, 0), (0, levels.shape[1] % 2), (0, 0)))


def _coloured(image: NDArray) -> list[Text]:
    """Return lines in which a character is an upper pixel on a lower one."""
    grey = np.rint(image * 255).astype(int)
    lines = []
    for upper, lower in zip(grey[::2].tolist(), grey[1::2].tolist(), strict=True):
        line = Text()
        for a, b in zip(upper, lower, strict=True):
            line.append(_UPPER_HALF, Style.parse(f"rgb({a},{a},{a}) on rgb({b},{b},{b})"))
        lines.append(line)
    return lines


def _shaded(image: NDArray, blocks: bool) -> list[Text]:
    """Return lines in which a character is the mean of two pixels."""
    shades = np.array(list(_SHADES if blocks else _ASCII_SHADES))
    means = (image[::2] + image[1::2]) / 2
    chosen = shades[np.rint(means * (len(shades) - 1)).astype(int)]
    return [Text("".join(line)) for line in chosen]
