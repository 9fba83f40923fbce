"""``fastmlp data``: fetch, inspect and convert data sets."""

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from fastmlp.cli.options import DataHome
from fastmlp.cli.output import new_console, note

_QUIET_SECONDS = 1.0  # what takes no longer needs no progress bar
_MOST_LABELS = 100

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


def _size(text: str) -> tuple[int, int]:
    """Parse height and width, such as "28x28"."""
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise typer.BadParameter(f"must be height and width such as 28x28, got {text!r}.")
    return int(sides[0]), int(sides[1])


@app.command()
def fetch(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="mnist, fashion or kmnist.")
    ],
    data_home: DataHome = None,
) -> None:
    """Make sure that data sets are here and genuine, and print where.

    They are looked for in the data directory first, see 'fastmlp info'.

    For example:

        fastmlp data fetch mnist fashion
    """
    from fastmlp import datasets

    for name in names:
        typer.echo(datasets.fetch(name, data_home))


@app.command("info")
def inspect(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|PATH", help="A data set, a directory, also of pictures, or an IDX file."
        ),
    ],
    data_home: DataHome = None,
) -> None:
    """Show what the headers of IDX files say, or what is in a directory of pictures.

    A data set that is named must have been fetched before.

    For example:

        fastmlp data info mnist
        fastmlp data info train-images-idx3-ubyte.gz
        fastmlp data info photos
    """
    from fastmlp import datasets

    path = Path(source)
    if source in datasets.DATASETS:
        try:
            datasets.load(source, data_home, download=False)
        except datasets.SpoiledFileError:
            raise
        except datasets.DatasetError:
            raise ValueError(
                f"{source} is not on this machine: 'fastmlp data fetch {source}' gets it."
            ) from None
        path = datasets.fetch(source, data_home)
    elif not path.exists():
        raise ValueError(f"{source!r} is no file or directory, and none of {[*datasets.DATASETS]}.")
    if not path.is_dir():
        _show_headers([path])
        return
    found = {place: _idx_files(place) for place in (path, path / "raw", *path.glob("*/raw"))}
    found = {place: files for place, files in found.items() if files}
    for place in sorted(found):
        typer.echo(place)
        _show_headers(found[place])
    if not found:
        _show_pictures(path)


def _idx_files(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted(p for p in directory.iterdir() if "idx" in p.name.lower() and p.is_file())


def _show_headers(files: list[Path]) -> None:
    from rich.table import Table

    from fastmlp import datasets, idx

    table = Table("file", "kind", "type", "shape", "bytes", "gzip", box=None)
    for file in files:
        header = idx.info(file)
        has_column = "label" in file.name and datasets.has_class_column(header.dtype, header.shape)
        table.add_row(
            file.name,
            "labels, the class in column 0" if has_column else header.kind,
            str(header.dtype),
            " x ".join(map(str, header.shape)),
            f"{header.n_bytes:,}",
            "yes" if header.compressed else "no",
        )
    new_console().print(table)


def _show_pictures(directory: Path) -> None:
    """Print how many pictures there are of which labels and sizes."""
    from rich.table import Table

    from fastmlp import images

    names = sorted(entry.name for entry in directory.iterdir() if not entry.name.startswith("."))
    if not any((directory / name).is_dir() for name in names):
        raise ValueError(
            f"{directory} must hold IDX files, or a folder of pictures per label, got "
            f"{', '.join(names[:8]) or 'an empty directory'}{', ...' if names[8:] else ''}."
        )
    parts = list(images.find_parts(directory).values()) or [directory]
    with _file_display() as progress:
        found = {part: images.find_pictures(part, progress=progress) for part in parts}
    for part, pictures in found.items():
        sizes = sorted(pictures.sizes, key=lambda size: (-pictures.sizes[size], size))
        of_sizes = " x ".join(map(str, sizes[0]))
        if len(sizes) > 1:
            of_sizes = f"{len(sizes)} sizes, most of {of_sizes}"
        n_pictures = sum(pictures.labels.values())
        typer.echo(f"{part}: {n_pictures} pictures of {of_sizes}, {len(pictures.labels)} labels")
        table = Table("label", "pictures", box=None)
        table.columns[1].justify = "right"
        for label, count in list(pictures.labels.items())[:_MOST_LABELS]:
            table.add_row(label, str(count))
        if len(pictures.labels) > _MOST_LABELS:
            table.add_row("...", "")
        new_console().print(table)
        if pictures.unreadable:
            path, reason = pictures.unreadable[0]
            note(
                f"{len(pictures.unreadable)} of its files would be left out: {path} ({reason})"
                f"{', ...' if len(pictures.unreadable) > 1 else ''}."
            )


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A data set by name, a directory with four IDX files, a directory of pictures, or "
            "an IDX, .npz, .npy, .csv or .parquet file.",
        ),
    ],
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="What to write; its name says of which kind.")
    ],
    size: Annotated[
        Any,
        typer.Option(parser=_size, metavar="HxW", help="Resize pictures to this height and width."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace TARGET if it exists.")] = False,
    data_home: DataHome = None,
) -> None:
    """Convert a data set between IDX, NPZ, CSV, Parquet and folders of pictures.

    The name of TARGET says what it becomes: ending in .npz, .npy, .csv or .parquet; with idx or
    ubyte in it, or ending in .gz, IDX; without an ending, folders of pictures, one per label
    (with fastmlp's extra 'images').

    Training and test images become train/ and test/ with pictures in them, four IDX files in a
    directory, one .npz file, or two tables: mnist_train.csv and mnist_test.csv for mnist.csv.
    Tables have a header, then a row per image: label, pixels. A file with one array (IDX, .npy,
    .npz) stays one array, unless TARGET needs labels: those of images-idx3-ubyte are looked for in
    labels-idx1-ubyte.

    For example:

        fastmlp data convert mnist mnist_png
        fastmlp data convert photos/ train-images-idx3-ubyte --size 28x28
        fastmlp data convert mnist_train.csv train.npz
        fastmlp data convert train-images-idx3-ubyte.gz images.npy
    """
    from fastmlp import formats
    from fastmlp.notices import FastMLPWarning

    with warnings.catch_warnings(record=True) as caught, _file_display() as progress:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", FastMLPWarning)  # files that were left out
        written = formats.convert(
            source, target, data_home=data_home, size=size, force=force, progress=progress
        )
    for warning in caught:
        note(str(warning.message))
    for path, content in written.items():
        typer.echo(f"{path}: {content}")


@contextmanager
def _file_display() -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal, if it is not all done within a second."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = BarColumn(bar_width=16), MofNCompleteColumn(), TimeRemainingColumn()
    display = Progress(*columns, console=new_console(), transient=True)
    # rich would take FORCE_COLOR for a terminal, too
    due = time.monotonic() + _QUIET_SECONDS if sys.stdout.isatty() else math.inf
    task = display.add_task("")

    def show(done: int, of: int) -> None:
        if time.monotonic() > due and not display.live.is_started:
            display.start()
        display.update(task, completed=done, total=of)

    try:
        yield show
    finally:
        if display.live.is_started:  # otherwise it would print an empty line
            display.stop()
