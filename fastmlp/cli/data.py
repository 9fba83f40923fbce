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
        str, typer.Argument(metavar="NAME|PATH", help="A data set, a directory or an IDX file.")
    ],
    data_home: DataHome = None,
) -> None:
    """Show what the headers of IDX files say.

    A data set that is named must have been fetched before.

    For example:

        fastmlp data info mnist
        fastmlp data info train-images-idx3-ubyte.gz
    """
    from rich.table import Table

    from fastmlp import datasets, idx

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
    paths = [path]
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if "idx" in p.name.lower() and p.is_file())
        typer.echo(path)
    table = Table("file", "kind", "type", "shape", "bytes", "gzip", box=None)
    for path in paths:
        header = idx.info(path)
        table.add_row(
            path.name,
            header.kind,
            str(header.dtype),
            " x ".join(map(str, header.shape)),
            f"{header.n_bytes:,}",
            "yes" if header.compressed else "no",
        )
    new_console().print(table)


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
