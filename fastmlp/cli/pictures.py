"""Plots of samples and models: checks of their files, and saving."""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastmlp.cli.output import new_console

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_picture(out: Path, option: str = "--out") -> None:
    """Check that a plot can be drawn and written, before anything is computed."""
    from fastmlp.displays import check_matplotlib

    check_matplotlib()
    if out.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"{option} must end in .png, .svg or .pdf, got {out}.")
    if out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"{option} must be a file in a directory that exists, got {out}.")
    check_writable(out.resolve().parent, out)


def check_writable(folder: Path, named: Path) -> None:
    """Refuse a directory that is not writable, naming the user's path."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(error.errno, "cannot be written", str(named)) from None


def save_picture(path: Path, draw: Callable[..., Any]) -> Path:
    """Save a display, which `draw` draws on an Axes, in the display's size."""
    return save_pictures({path: draw})[0]


def save_pictures(drawings: Mapping[Path, Callable[..., Any]]) -> list[Path]:
    """Save several displays, all or none."""
    from matplotlib.figure import Figure

    from fastmlp.utils.files import atomic_files

    with atomic_files(list(drawings)) as files:
        for file, (path, draw) in zip(files, drawings.items(), strict=True):
            figure = Figure(layout="constrained")  # not pyplot's, which may need a screen
            display = draw(ax=figure.subplots())
            figure.set_size_inches(*display.figsize_)
            figure.savefig(file, format=path.suffix[1:].lower(), dpi=150)
    return list(drawings)


def print_images(X: "NDArray", shape: tuple[int, int], captions: Sequence[str]) -> None:
    """Print samples as block characters."""
    from fastmlp.cli import terminal_images

    width = shutil.get_terminal_size().columns
    terminal_images.print_images(new_console(), X.reshape(len(X), *shape), captions, width)


def no_images(data: str) -> str:
    """Return the message for a data set whose samples are not images."""
    return (
        f"{data} must hold images to draw them, got a file without rows and columns: IDX "
        "files of shape (n_samples, rows, columns) are images."
    )
