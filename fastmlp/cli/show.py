"""``fastmlp show``: samples, in the terminal or as an image file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastmlp.cli import image_data, tables
from fastmlp.cli.options import DATA, DataHome, Json, Part, PictureFile, Quiet, whole
from fastmlp.cli.output import noting_warnings, print_json
from fastmlp.cli.pictures import check_picture, no_images, print_images, save_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray


def show(
    data: Annotated[str, DATA] = "mnist",
    data_home: DataHome = None,
    part: Part = "test",
    index: Annotated[
        int | None,
        typer.Option(**whole(0), help="Index of the sample, from 0. Default: the first."),
    ] = None,
    at_random: Annotated[bool, typer.Option("--random", help="Draw samples at random.")] = False,
    n: Annotated[
        int, typer.Option("--n", **whole(1), help="Number of samples, starting at --index.")
    ] = 1,
    seed: Annotated[int | None, typer.Option(**whole(0), help="Seed of --random.")] = None,
    out: PictureFile = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show samples of a data set as images, in the terminal or in a file; or rows of a table.

    Each image is shown with its index and label. Only files need matplotlib.

    For example:

        fastmlp show --data houses.csv --random --n 5

        fastmlp show --index 42
        fastmlp show --data fashion --part train --random --n 8
        fastmlp show --data digits --n 16 --out digits.png
    """
    from fastmlp import displays

    if index is not None and at_random:
        raise ValueError("--index and --random are mutually exclusive: give one of them.")
    if tables.is_table(data):
        _show_rows(data, index, at_random, n, seed, out, as_json)
        return
    if out is not None:
        check_picture(out)
    loaded = image_data.load(data, data_home)
    (X, y), shape = loaded.train if part == "train" else loaded.test, loaded.shape
    if shape is None:
        raise ValueError(no_images(data))
    indices = _chosen(len(X), f"{part} samples", data, index, at_random, n, seed)
    captions = [f"{i}: {y[i]}" for i in indices]
    if out is not None:
        display = displays.DigitDisplay(X[indices], captions, shape=shape)
        save_picture(out, display.plot)
    if as_json:
        print_json(
            {
                "data set": data,
                "part": part,
                "shape": shape,
                "samples": [{"index": i, "label": y[i]} for i in indices],
                "picture": out,
            }
        )
    elif out is None:
        print_images(X[indices], shape, captions)
    else:
        typer.echo(out)


def _chosen(
    n_samples: int,
    what: str,
    data: str,
    index: int | None,
    at_random: bool,
    n: int,
    seed: int | None,
) -> "NDArray":
    """Return the indices of the samples to show."""
    import numpy as np

    last = n_samples - (1 if at_random else n)
    if n > n_samples or (index or 0) > last:
        name, limit = ("--index", last) if n <= n_samples else ("--n", n_samples)
        raise ValueError(
            f"{name} must be at most {limit}, because {data} has {n_samples} {what}, got "
            f"{index if name == '--index' else n}."
        )
    if at_random:
        return np.random.default_rng(seed).choice(n_samples, n, replace=False)
    return np.arange(n) + (index or 0)


def _show_rows(
    data: str,
    index: int | None,
    at_random: bool,
    n: int,
    seed: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Print rows of a table."""
    if out is not None:
        raise ValueError(f"--out is for images, but {data} is a table: omit it.")
    with noting_warnings():
        frame = tables.read(data)
    name = tables.name_of(data)
    rows = frame.iloc[_chosen(len(frame), "rows", name, index, at_random, n, seed)]
    if as_json:
        samples = [
            {"index": number, "row": row}
            for number, row in zip(rows.index, tables.exactly(rows).to_dict("records"), strict=True)
        ]
        print_json({"data set": name, "samples": samples})
        return
    tables.print_rows(rows)
